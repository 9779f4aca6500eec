"""Bring the screen that README.md shows up to date: run its command, and put in what it prints.

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
SECONDS = re.compile(r"\d+\.\d+ s\b")  # the one thing that differs from run to run


def shown(readme: str) -> tuple[str, str]:
    """The words after `gradlint` in the screen of `readme`, and the output under them."""
    screen = SCREEN.search(readme)
    if screen is None:
        raise SystemExit("README.md has no screen between <!-- screen:begin --> and <!-- screen:end -->")
    return screen["words"], screen["output"]


def printed(words: str) -> str:
    """What `gradlint WORDS` prints, run in this checkout as a user would run it."""
    command = [sys.executable, "-m", "gradcheck_lint", *shlex.split(words)]
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False
    ).stdout


def main() -> None:
    readme = README.read_text(encoding="utf-8")
    words, output = shown(readme)
    now = printed(words)
    if SECONDS.sub("", now) != SECONDS.sub("", output):
        screen = f"```console\n$ gradlint {words}\n{now}```\n"
        README.write_text(SCREEN.sub(lambda _: screen, readme), encoding="utf-8")
        print("README.md: the screen is new")


if __name__ == "__main__":
    main()
