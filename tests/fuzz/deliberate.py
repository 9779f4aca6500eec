"""Correct programs in which something looks like a mistake that a rule mends: `deliberate.txt`, tried.

They are about the rules that `places` cannot reach, because what they look at is not the order of calls: layers in
lists, options, states, aliases, iterators. The program of each entry is its text up to a line `# file name`, which
begins another file; its name starts with the code of the rule whose fix might do harm. A first line `# told: why` says
that the finding of that rule is right, or that nobody could tell the difference: it may be told, and still no safe fix
may change the program.

    python -m tests.fuzz.deliberate [--only REGEX] [--show]
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fuzz.trial import Verdict, run, try_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck_lint.finding import Finding

FILE = Path(__file__).with_name("deliberate.txt")


def read(text: str) -> dict[str, dict[str, str]]:
    """The files of each program, by its name."""
    programs: dict[str, dict[str, str]] = {}
    for entry in text.split("\n## ")[1:]:
        name, _, rest = entry.partition("\n")
        train, *others = rest.split("\n# file ")
        files = {"train.py": train}
        for other in others:
            path, _, body = other.partition("\n")
            files[path] = body
        programs[name] = {path: f"{body.rstrip()}\n" for path, body in files.items()}
    return programs


@cache
def programs() -> Mapping[str, Mapping[str, str]]:
    return read(FILE.read_text(encoding="utf-8"))


def trial(name: str, *, always_run: bool = False) -> Verdict:
    """Lint, mend and run the program called `name`."""
    return try_out(programs()[name], always_run=always_run)


def told(name: str) -> bool:
    """Whether the finding of the rule that a program is about is right."""
    return programs()[name]["train.py"].startswith("# told: ")


def alarms(name: str, verdict: Verdict) -> list[Finding]:
    """What is found in a program and should not be."""
    return [f for f in verdict.found if not (told(name) and f.code == name.partition("/")[0])]


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.deliberate")
    parser.add_argument("--only", default="", metavar="REGEX", help="those whose name matches")
    parser.add_argument("--show", action="store_true", help="show the programs, and what the fixes make of them")
    parser.add_argument("--true", action="store_true", help="whether all of them run through")
    given = parser.parse_args(words)
    false = harmed = 0
    chosen = [name for name in programs() if re.search(given.only, name)]
    for name in chosen:
        files = programs()[name]
        if given.show:
            print(*(f"# {path}\n{text}" for path, text in files.items()), sep="\n")
        if given.true and (error := run(files).error):
            print(f"{name}: raises {error}")
        verdict = trial(name)
        wrong = alarms(name, verdict)
        false += bool(wrong)
        harmed += verdict.harmed
        lines = [f"{f.code} on line {f.span.line} of {f.span.path}" for f in wrong]
        lines += ["HARM"] if verdict.harmed else []
        lines += verdict.problems
        if lines:
            print(f"{name}: {', '.join(lines)}")
        for path, text in verdict.mended.items() if given.show else ():
            print("\n".join(difflib.unified_diff(files[path].splitlines(), text.splitlines(), lineterm="")))
    print(f"{len(chosen)} programs, {false} false alarms, {harmed} harmed")
    return int(bool(false or harmed))


if __name__ == "__main__":
    sys.exit(main())
