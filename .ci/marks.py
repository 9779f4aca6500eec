"""Check that gradlint finds in a checkout exactly what its examples are marked with.

    python3 .ci/marks.py CHECKOUT GRADLINT PATH…

GRADLINT is a command that is installed; the paths are relative to the checkout. The marks are the comments
`# <- GL101` at the end of lines under examples/wrong. Needs nothing but Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

MARK = re.compile(r"# <- (GL\d{3}(?:, GL\d{3})*)$")


def marked(checkout: Path) -> set[tuple[str, int, str]]:
    """(path, line, code) of every mark."""
    marks: set[tuple[str, int, str]] = set()
    for script in sorted((checkout / "examples" / "wrong").glob("*.py")):
        path = script.relative_to(checkout).as_posix()
        for number, line in enumerate(script.read_text(encoding="utf-8").splitlines(), start=1):
            mark = MARK.search(line)
            marks.update((path, number, code) for code in (mark[1].split(", ") if mark else ()))
    return marks


def found(checkout: Path, gradlint: str, paths: list[str]) -> set[tuple[str, int, str]]:
    """(path, line, code) of every finding."""
    command = [gradlint, "--no-cache", "--output-format", "json", *paths]
    done = subprocess.run(command, cwd=checkout, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode != 1:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}, but the marks want 1")
    result = json.loads(done.stdout)
    if result["summary"]["errors"]:
        sys.exit(f"gradlint could not check {result['summary']['errors']} files")
    return {(each["path"], each["line"], each["code"]) for each in result["findings"]}


def main() -> None:
    checkout, gradlint, *paths = sys.argv[1:]
    wanted, got = marked(Path(checkout)), found(Path(checkout), gradlint, paths)
    for path, line, code in sorted(wanted - got):
        print(f"{path}:{line}: {code} is marked but not found")
    for path, line, code in sorted(got - wanted):
        print(f"{path}:{line}: {code} is found but not marked")
    if wanted != got or not wanted:
        sys.exit(1)
    print(f"gradlint {' '.join(paths)}: the {len(wanted)} findings that are marked, and no other")


if __name__ == "__main__":
    main()
