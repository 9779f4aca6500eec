"""Which tests close a window of accumulation, and what stands where it closes."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.gates import Gate, gate
from gradcheck_lint.facts.query import loops
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward, Step, Zero
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

PROGRAM = """
import torch
from torch import nn

net = nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def train(batches, k):
    count = {start}
    for i, x in enumerate(batches):
        net(x).mean().backward()
        {each}
        if {test}:
            {inside}
        optimizer.zero_grad()
"""
STEPS = "optimizer.step(); count = 0"


class _Asks(Rule):
    """Keeps the gate of each step, and whether what clears and what goes backward stands behind it."""

    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.gates: list[Gate] = []
        self.behind: list[bool] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for step, around in timeline.located(Step):
            turns = loops(around)
            found = gate(timeline, step, turns[-1]) if turns else None
            if found is not None:
                self.gates.append(found[0])
                self.behind += [found[0].shuts(e, a) for e, a in timeline.located(Backward, Zero)]


def ask(test: str, inside: str = STEPS, each: str = "count += 1", start: str = "0") -> _Asks:
    code = PROGRAM.format(test=test, inside=inside, each=each, start=start)
    asks = _Asks()
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [asks])
    return asks


@pytest.mark.parametrize("test", ["count == k", "count >= k", "count == 4", "count == k or i == len(batches) - 1"])
def test_count_that_is_set_back_is_a_gate(test: str) -> None:
    (found,) = ask(test).gates
    assert found.test.kept
    assert found.test.reset


@pytest.mark.parametrize("test", ["count == 1", "count > k", "count == k and count < 3", "i == k", "k == count"])
def test_other_comparisons_are_none(test: str) -> None:
    assert ask(test).gates == []


def test_count_that_is_not_set_back_is_told_apart() -> None:
    (found,) = ask("count == k", "optimizer.step()").gates
    assert not found.test.reset


def test_count_of_something_else_is_none() -> None:
    assert ask("count == k", each="count += len(x)").gates == []
    assert ask("count == k", each="count = len(x)").gates == []


def test_count_down_and_round() -> None:
    (down,) = ask("count == 0", "optimizer.step(); count = k", "count -= 1", "k").gates
    assert down.test.kept
    (round_,) = ask("count == 0", "optimizer.step()", "count = (count + 1) % k").gates
    assert not round_.test.kept


@pytest.mark.parametrize("test", ["(i + 1) % k", "(i + 1) % k != 0", "(i + 1) % k > 0", "count < k", "not last"])
def test_rest_of_a_round_is_behind_what_goes_on_to_the_next(test: str) -> None:
    each = "last = i % k == k - 1" if test == "not last" else "count += 1"
    code = PROGRAM.replace("optimizer.zero_grad()", "optimizer.step(); optimizer.zero_grad(); count = 0")
    asks = _Asks()
    text = code.format(test=test, inside="continue", each=each, start="0")
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), text.encode())], [asks])
    assert len(asks.gates) == 1
    assert asks.behind == [False, True]


def test_name_of_a_test_is_looked_up() -> None:
    (found,) = ask("last", each="last = (i + 1) % k == 0").gates
    assert not found.test.kept
    assert ask("last", each="last = i % k == 0; last = False").gates == []
