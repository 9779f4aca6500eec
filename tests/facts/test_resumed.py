"""What a run that goes on from a checkpoint loses: asked of programs of a few lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts import resumed
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import LoadState
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

PROGRAM = """
import copy
import torch
from torch import nn
from torch.optim.lr_scheduler import *


def main(ckpt, loader, epochs):
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    {setup}
    for epoch in range({start}, epochs):
        for x in loader:
            optimizer.zero_grad()
            model(x).mean().backward()
            optimizer.step()
        {last}
"""


class _Asks(Rule):
    """Keeps what is found."""

    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found: set[str] = set()

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(LoadState):
            anew, lost = resumed.rebuilt(timeline, event), resumed.rate_lost(timeline, event)
            self.found |= {f"rebuilt {anew.sure}"} if anew is not None else set()
            self.found |= {f"rate {lost.sure}"} if lost is not None else set()
            self.found |= {"copy"} if resumed.copied_before(timeline, event) is not None else set()
        self.found |= {f"anew {begun.start}" for begun in resumed.begun_anew(timeline)}
        self.found |= {both.state for both in resumed.crossed(timeline)}


def ask(setup: str, start: str = "0", last: str = "sched.step()") -> set[str]:
    asks = _Asks()
    code = PROGRAM.format(setup=setup, start=start, last=last)
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [asks])
    return asks.found


RESTORED = "optimizer.load_state_dict(ckpt['o']); "
BUILT = "sched = LambdaLR(optimizer, lambda e: 0.9**e); "
COUNTED = "sched.load_state_dict(ckpt['s']); "


@pytest.mark.parametrize(
    ("setup", "found"),
    [
        (BUILT + RESTORED + COUNTED, set()),
        (BUILT + RESTORED + COUNTED + BUILT, {"rebuilt True"}),
        (BUILT + RESTORED + COUNTED + BUILT.replace("0.9", "0.8"), {"rebuilt False"}),
        (BUILT + RESTORED + COUNTED + BUILT + COUNTED, {"rate True"}),
        (RESTORED + BUILT + COUNTED, {"rate True"}),
        (RESTORED + BUILT.replace("LambdaLR", "StepLR").replace("lambda e: 0.9**e", "3") + COUNTED, set()),
        (RESTORED + BUILT + COUNTED + "optimizer.param_groups[0]['lr'] = 0.1", set()),
        (RESTORED + BUILT, set()),
    ],
)
def test_schedules_that_are_built_too_late(setup: str, found: set[str]) -> None:
    assert ask(setup) == found


def test_rate_that_is_right_again_after_a_step_is_doubtful() -> None:
    assert ask(RESTORED + BUILT + COUNTED, last="for _ in loader: optimizer.step(); sched.step()") == {"rate False"}


@pytest.mark.parametrize(
    ("setup", "start", "found"),
    [
        (BUILT + "model.load_state_dict(ckpt['m']); first = ckpt['epoch'] + 1", "first", {"anew first"}),
        (BUILT + "model.load_state_dict(ckpt['m'])", "ckpt['epoch']", {"anew ckpt['epoch']"}),
        (BUILT + "model.load_state_dict(ckpt['m']); first = 3", "first", set()),
        (BUILT + "first = ckpt['epoch'] + 1", "first", set()),
        (BUILT + COUNTED + "model.load_state_dict(ckpt['m'])", "ckpt['epoch']", set()),
        (BUILT + "model.load_state_dict(ckpt['m']); [sched.step() for _ in range(3)]", "ckpt['epoch']", set()),
        (BUILT + "sched.last_epoch = 3; model.load_state_dict(ckpt['m'])", "ckpt['epoch']", set()),
    ],
)
def test_schedule_that_begins_anew(setup: str, start: str, found: set[str]) -> None:
    assert ask(setup, start) == found


OTHER = "other = nn.Linear(3, 1); second = torch.optim.SGD(other.parameters(), lr=0.1); "


def test_state_that_two_optimizers_are_given() -> None:
    assert ask(OTHER + RESTORED + "second.load_state_dict(ckpt['o'])", last="pass") == {"ckpt['o']"}
    assert ask(OTHER + RESTORED + "second.load_state_dict(ckpt['p'])", last="pass") == set()
    same = OTHER.replace("other.parameters", "model.parameters")
    assert ask(same + RESTORED + "second.load_state_dict(ckpt['o'])", last="pass") == set()


COPY = "old = copy.deepcopy(model); "
LOAD = "model.load_state_dict(ckpt['m']); "


@pytest.mark.parametrize(
    ("setup", "found"),
    [
        (COPY + LOAD, {"copy"}),
        (LOAD + COPY, set()),
        (LOAD + COPY + LOAD, set()),
        (COPY + LOAD + "old.load_state_dict(ckpt['m'])", set()),
        (COPY + LOAD + "\n    for p, q in zip(old.parameters(), model.parameters()): p.data.copy_(q)", set()),
    ],
)
def test_copy_that_is_made_too_early(setup: str, found: set[str]) -> None:
    assert ask(setup, last="old(x)") == found
