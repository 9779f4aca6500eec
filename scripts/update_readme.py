"""Bring the screens that README.md shows up to date: run their commands, and put in what they print.

python scripts/update_readme.py
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
SCREEN = re.compile(
    r"(?<=<!-- screen:begin -->\n)```console\n"
    r"\$ gradlint (?P<words>.*)\n(?P<output>(?s:.*?))"
    r"```\n(?=<!-- screen:end -->)"
)
VARIES = re.compile(r"\d+\.\d+ s\b|\d+ numbers read")  # with the run, and as gradlint grows


def screens(readme: str) -> list[tuple[str, str]]:
    """The words after `gradlint` in each screen of `readme`, and the output under them."""
    return [(screen["words"], screen["output"]) for screen in SCREEN.finditer(readme)]


def printed(words: str) -> str:
    """What `gradlint WORDS` prints, run in this checkout as a user would run it."""
    command = [sys.executable, "-m", "gradcheck_lint", *shlex.split(words)]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    ).stdout


def _renewed(screen: re.Match[str]) -> str:
    now = printed(screen["words"])
    if VARIES.sub("", now) == VARIES.sub("", screen["output"]):
        return screen[0]
    print(f"README.md: the screen of `gradlint {screen['words']}` is new")
    return f"```console\n$ gradlint {screen['words']}\n{now}```\n"


def main() -> None:
    readme = README.read_text(encoding="utf-8")
    README.write_text(SCREEN.sub(_renewed, readme), encoding="utf-8")


if __name__ == "__main__":
    main()
