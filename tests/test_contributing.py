"""The code in CONTRIBUTING.md works as it is told there, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gradcheck_lint.facts.order import after
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward, Event, Step
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
PROGRAM = """\
import contextlib
import torch

net = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
with torch.no_grad():
    net(torch.ones(2))


def train(no_grad):
    torch.no_grad()
    no_grad()
    contextlib.nullcontext()
    net(torch.ones(2)).sum().backward()
    optimizer.step()
    return torch.no_grad()


train(print)
"""


def written(word: str) -> str:
    """The one block that has a word in it."""
    [block] = [block for block in BLOCKS if word in block]
    return block


def lint(rule: Rule) -> list[tuple[str, int, int]]:
    found = analyse([SourceFile("a.py", Path.cwd() / "a.py", PROGRAM.encode())], [rule])
    return [(f.message, f.span.line, f.span.end_column) for f in found]


def test_the_rule_that_reads_with_libcst_finds_its_pattern() -> None:
    names: dict[str, Any] = {}
    exec(written("NoGradWithoutWith"), names)
    assert lint(names["NoGradWithoutWith"]()) == [("`no_grad` is called and not entered", 11, 20)]


def test_the_rule_that_listens_is_one() -> None:
    names: dict[str, Any] = {}
    exec(written("class NameOfTheDefect"), names)
    rule = names["NameOfTheDefect"]
    rule.code, rule.slug = "XX001", "name-of-the-defect"
    assert rule.listens == (Step,)
    assert lint(rule()) == []


def test_the_fact_is_asked_as_its_test_does() -> None:
    names: dict[str, Any] = {
        "Rule": Rule, "Timeline": Timeline, "Event": Event, "Step": Step, "Backward": Backward, "after": after,
    }  # fmt: skip
    exec(written("class Asks"), names)
    exec(written("def steps_again"), names)
    rule = names["Asks"]()
    lint(rule)
    assert rule.answers == [True]


def test_what_is_shown_of_the_code_stands_there() -> None:
    for word, path in (
        ("def _partial", "gradcheck_lint/source/libraries/python.py"),
        ("class ScheduleOver", "gradcheck_lint/runtime/sightings/clock.py"),
    ):
        assert written(word) in (ROOT / path).read_text(encoding="utf-8")


def test_the_files_that_it_names_are_there() -> None:
    named = set(re.findall(r"(?:python |pytest |`)((?:scripts|tests|gradcheck_lint|rules|benchmarks)/[\w/.]*)", TEXT))
    assert {"scripts/new_rule.py", "scripts/new_library.py", "tests/facts/"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists() and "defect" not in name] == []
