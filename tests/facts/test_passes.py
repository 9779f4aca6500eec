"""Which runs of modules a loss goes back through, and what the steps around an event say of it."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import pytest

from gradcheck_lint.facts import query
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.follow import Path as Way
from gradcheck_lint.source.natures import ran

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F

net, head = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.1)
x, y = torch.randn(8, 3), torch.randn(8, 1)
"""


class _Recorder(Rule):
    """Keeps the timelines."""

    code, slug = "XX001", "recorder"

    def __init__(self) -> None:
        self.timelines: list[tl.Timeline] = []

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        self.timelines.append(copy(timeline))  # the timeline itself lets go of what is in it


def timeline_of(code: str) -> tl.Timeline:
    """The timeline of a program."""
    recorder = _Recorder()
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), (HEAD + code).encode())], [recorder])
    return recorder.timelines[0]


def names(code: str) -> list[str]:
    """The modules that the loss of the last backward of a program goes through."""
    loss = [event.subject for event in timeline_of(code).events(ev.Backward)][-1]
    return sorted(ran(run).of.label for run in passes(loss))


@pytest.mark.parametrize(
    ("loss", "through"),
    [
        ("F.mse_loss(head(torch.tanh(net(x))), y)", ["head", "net"]),
        ("head(net(x)).pow(2).mean()", ["head", "net"]),
        ("(head(net(x)) - y).abs().sum() / 4", ["head", "net"]),
        ("head(net(x).detach()).mean()", ["head"]),
        ("head(net(x).data).mean()", ["head"]),
        ("head(torch.tensor(net(x).tolist())).mean()", ["head"]),
        ("head(unknown(net(x))).mean()", ["head"]),
        ("F.one_hot(head(net(x)).argmax(1)).float().mean()", []),
    ],
)
def test_what_a_loss_goes_back_through(loss: str, through: list[str]) -> None:
    assert names(f"({loss}).backward()\n") == through


def test_nothing_goes_back_through_what_ran_without_gradients() -> None:
    assert names("with torch.no_grad():\n    hidden = net(x)\nhead(hidden).mean().backward()\n") == ["head"]


def test_in_place_detach_cuts() -> None:
    assert names("hidden = net(x)\nhidden.detach_()\nhead(hidden).mean().backward()\n") == ["head"]


def test_only_what_every_path_goes_through_counts() -> None:
    code = "if y.sum() > 0:\n    loss = head(net(x)).mean()\nelse:\n    loss = net(x).mean()\nloss.backward()\n"
    assert names(code) == []


def test_what_a_loop_carries_is_what_its_last_round_left() -> None:
    body = "    hidden = net(x + hidden.sum())\n    hidden.sum().backward()\n"
    assert names(f"hidden = torch.zeros(8, 4)\nfor _ in range(9):\n{body}") == ["net", "net"]


def test_each_of_several_has_runs_of_its_own() -> None:
    code = "losses = [net(b).mean() for b in x]\nfor loss in losses:\n    loss.backward()\n"
    assert names(code) == []


def test_exclusive_events_stand_in_different_arms() -> None:
    code = "if y.sum() > 0:\n    optimizer.step()\n    optimizer.step()\nelse:\n    optimizer.step()\n"
    first, second, third = [around for event, around in timeline_of(code).located() if isinstance(event, ev.Step)]
    assert query.exclusive(first, third)
    assert not query.exclusive(first, second)
    assert not query.always(first)


@pytest.mark.parametrize(("jump", "left"), [("continue", "continues"), ("break", "breaks")])
def test_finally_runs_when_the_body_is_left_by_a_jump(jump: str, left: str) -> None:
    body = f"    try:\n        net(x).sum().backward()\n        {jump}\n    finally:\n        optimizer.zero_grad()\n"
    timeline = timeline_of(f"for _ in range(9):\n{body}")
    (optimizer,) = timeline.optimizers()
    (loop,) = [step for step in timeline.tree.steps if isinstance(step, tl.Loop)]
    way = Way(timeline, optimizer)
    states = getattr(way.run(loop.body, way.final.end), left)
    assert {state.gradient for state in states} <= {"clean", "erased"}
    assert states
