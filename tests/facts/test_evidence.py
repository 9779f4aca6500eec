"""What things of unknown class are, by what is done with them and not by what they are called."""

from __future__ import annotations

import pytest

from gradcheck_lint.facts.evidence import used_as_module
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.natures import Optimizer, Scheduler
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import Thing, things


class Records(Rule):
    code, slug = "XX001", "records"

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.zeros: list[type] = []
        self.doubts: list[str] = []
        self.modules: list[bool] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events():
            if isinstance(event, ev.Step):
                self.steps += [t.label for t in things(event.subject, Optimizer)]
            elif isinstance(event, ev.Zero):
                self.zeros += [type(t.what) for t in things(event.subject)]
            elif isinstance(event, ev.Unknown):
                self.doubts += [t.label for t in things(event.subject, (Optimizer, Scheduler))]
            elif isinstance(event, ev.BuildOptimizer) and isinstance(event.given, Thing):
                self.modules.append(used_as_module(timeline, event, event.given))


def recorded(body: str, head: str = "def train(net, thing, opt, loader):") -> Records:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    records = Records()
    analyse([SourceFile("a.py", "a.py", f"import torch\n{head}\n{lines}\n".encode())], [records])
    return records


LOOP = """
for x in loader:
    {first}
    net(x).sum().backward()
    {last}
"""


@pytest.mark.parametrize(
    ("first", "last"), [("thing.zero_grad()", "thing.step()"), ("pass", "thing.step(); thing.zero_grad()")]
)
def test_what_clears_and_steps_is_an_optimizer(first: str, last: str) -> None:
    found = recorded(LOOP.format(first=first, last=last))
    assert set(found.steps) == {"thing"}
    assert set(found.zeros) == {Optimizer}


def test_what_only_steps_may_be_anything() -> None:
    assert recorded(LOOP.format(first="pass", last="thing.step()")).steps == []
    assert recorded(LOOP.format(first="thing.zero_grad()", last="thing.step(x)")).steps == []


def test_settings_are_no_optimizer_whatever_they_are_called() -> None:
    assert recorded(LOOP.format(first="tell(opt)", last="pass")).doubts == ["opt"]
    assert (
        recorded(LOOP.format(first="tell(opt)", last="pass").replace("in loader", "in loader[: opt.size]")).doubts == []
    )


@pytest.mark.parametrize("number", ["last_opt_step = i", "last_opt_step = 0\n    last_opt_step += 1"])
def test_numbers_are_no_optimizer_whatever_they_are_called(number: str) -> None:
    body = f"for i, x in enumerate(loader):\n    {number}\n    tell(last_opt_step)\n    net(x).sum().backward()"
    assert recorded(body).doubts == []


@pytest.mark.parametrize(
    ("uses", "told"),
    [
        ("net.train()\nnet(1)", True),
        ("net(1)", False),
        ("net.train()", False),
        ("net = other\nnet.train()\nnet(1)", False),
    ],
)
def test_a_module_is_called_and_asked_as_one(uses: str, told: bool) -> None:
    assert recorded(f"{uses}\ntorch.optim.SGD(net, lr=0.1)").modules == [told]
