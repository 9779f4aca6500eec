"""What may run before and after an event: the jumps, branches, loops and calls between the two."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint.facts.order import after, before
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward, Event, Step, Zero
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
def train(opt: torch.optim.Optimizer, loss, flag, data):
"""


class _Around(Rule):
    """Takes down what runs before and after the one backward: steps and zeroings."""

    code = "XX001"
    slug = "around"

    def __init__(self) -> None:
        self.earlier: list[str] = []
        self.later: list[str] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        for event in timeline.events(Backward):
            self.earlier = _kinds(before(timeline, event))
            self.later = _kinds(after(timeline, event))


def _kinds(events: list[Event]) -> list[str]:
    return [type(e).__name__.lower() for e in events if isinstance(e, (Step, Zero, Backward))]


def _around(body: str) -> tuple[list[str], list[str]]:
    rule = _Around()
    code = HEAD + "".join(f"    {line}\n" for line in dedent(body).strip().splitlines())
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return rule.earlier, rule.later


@pytest.mark.parametrize(
    ("body", "earlier", "later"),
    [
        pytest.param("opt.zero_grad()\nloss.backward()\nopt.step()", ["zero"], ["step"], id="one after the other"),
        pytest.param(
            "if flag:\n    loss.backward()\nelse:\n    opt.zero_grad()\nopt.step()",
            [],
            ["step"],
            id="not the other arm",
        ),
        pytest.param("loss.backward()\nreturn\nopt.step()", [], [], id="nothing after return"),
        pytest.param("loss.backward()\nraise ValueError\nopt.step()", [], [], id="nothing after raise"),
        pytest.param(
            "for x in data:\n    opt.zero_grad()\n    loss.backward()\nopt.step()",
            ["zero"],
            ["zero", "backward", "step"],
            id="the rounds to come, and what is after the loop",
        ),
        pytest.param(
            "for x in data:\n    opt.zero_grad()\n    loss.backward()\n    break\nopt.step()",
            ["zero"],
            ["step"],
            id="no more rounds after break",
        ),
        pytest.param(
            "for x in data:\n    if flag:\n        loss.backward()\n        continue\n    opt.step()",
            [],
            ["backward", "step"],
            id="the next round after continue",
        ),
        pytest.param(
            "try:\n    loss.backward()\n    return\nfinally:\n    opt.step()\nopt.zero_grad()",
            [],
            ["step"],
            id="finally, though it returns",
        ),
        pytest.param(
            "def inner():\n    loss.backward()\n    return\ninner()\nopt.step()", [], ["step"], id="after the call"
        ),
    ],
)
def test_what_runs_before_and_after(body: str, earlier: list[str], later: list[str]) -> None:
    assert _around(body) == (earlier, later)
