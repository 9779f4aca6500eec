"""What a schedule that waits for a plateau is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.plateaus import Fault, Told, told
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Schedule
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.natures import Scheduler
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import only

PROGRAM = """
import torch
from torch import nn

net = nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer{mode})


def train(data, args, metrics):
    for epoch, x in enumerate(data):
        optimizer.zero_grad()
        net(x).mean().backward()
        optimizer.step()
        val_loss, val_acc = evaluate(net)
        {before}
        plateau.step({given})
"""


class _Asks(Rule):
    """Keeps what is found."""

    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found: list[Told] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(Schedule):
            scheduler = only(event.subject, Scheduler)
            found = told(timeline, event, scheduler) if scheduler is not None else None
            self.found += [found] if found is not None else []


def ask(given: str, mode: str = "", before: str = "pass") -> list[Told]:
    asks = _Asks()
    code = PROGRAM.format(given=given, mode=mode, before=before)
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [asks])
    return asks.found


@pytest.mark.parametrize(
    ("given", "mode", "fault"),
    [
        ("val_acc", "", Fault.RISES),
        ("metrics['valAccuracy']", ", 'min'", Fault.RISES),
        ("args.mIoU", "", Fault.RISES),
        ("sum(val_acc)", "", Fault.RISES),
        ("val_loss.item()", ", mode='max'", Fault.FALLS),
        ("args.losses.avg", ", mode='max'", Fault.FALLS),
        ("epoch", "", Fault.COUNT),
        ("", "", Fault.NOTHING),
    ],
)
def test_wrong_direction_is_told(given: str, mode: str, fault: Fault) -> None:
    (found,) = ask(given, mode)
    assert found.fault is fault
    assert found.certain


def test_name_that_may_mean_either_is_doubtful() -> None:
    (found,) = ask("val_score")
    assert not found.certain


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ("val_loss", ""),
        ("val_acc", ", mode='max'"),
        ("val_acc", ", mode=args.mode"),
        ("1 - val_acc", ""),
        ("-val_loss", ", mode='max'"),
        ("acc_loss", ""),
        ("x", ""),
        ("invert(val_acc)", ""),
        ("metrics[0]", ""),
        ("*metrics", ""),
    ],
)
def test_right_direction_and_what_is_not_known_is_silent(given: str, mode: str) -> None:
    assert ask(given, mode) == []


def test_sign_that_was_turned_before_is_silent() -> None:
    assert ask("val_acc", before="val_acc = -val_acc") == []
