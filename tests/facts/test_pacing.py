"""What a schedule counts and after what it is moved, whatever the code calls the numbers."""

from __future__ import annotations

import pytest

from gradcheck_lint.facts import pacing
from gradcheck_lint.facts.unmoved import unmoved
from gradcheck_lint.laws.clock import Turn
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.natures import Scheduler
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import only


class Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.moved: list[Turn] = []
        self.counts: list[Turn | None] = []
        self.unmoved: list[str] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.unmoved += [event.subject.label for event in unmoved(timeline)]
        for event, around in timeline.located(ev.Schedule):
            scheduler = only(event.subject, Scheduler)
            found = pacing.timing(timeline, event, around, scheduler) if scheduler is not None else None
            if scheduler is not None and found is not None:
                length = pacing.planned(scheduler)
                self.moved.append(found.moved)
                self.counts.append(found.counts(length) if length is not None else None)


PROGRAM = """
import math
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

def train(net, loader, args):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    {before}
    scheduler = CosineAnnealingLR(optimizer, T_max={length})
    for epoch in range({epochs}):
        for i, x in enumerate(loader):
            net(x).sum().backward()
            {step}
{after}
"""
ALWAYS = "optimizer.step()"
WINDOW = "if (i + 1) % args.k == 0: optimizer.step()"
EPOCH, BATCH, NEVER = (
    "        scheduler.step()",
    "            scheduler.step()",
    "        print(scheduler.get_last_lr())",
)


def asked(
    length: str,
    after: str,
    *,
    step: str = ALWAYS,
    before: str = "pass",
    epochs: str = "args.epochs",
    program: str = PROGRAM,
) -> Asks:
    asks = Asks()
    program = program.format(length=length, after=after, step=step, before=before, epochs=epochs)
    analyse([SourceFile("train.py", "train.py", program.encode())], [asks])
    return asks


@pytest.mark.parametrize(
    ("length", "counts"),
    [
        ("args.epochs", Turn.EPOCH),
        ("args.epochs * len(loader)", Turn.STEP),
        ("len(loader) * int(args.epochs)", Turn.STEP),
        ("3 * len(loader)", Turn.STEP),
        ("args.steps", None),
        ("args.epochs - 5", None),
        ("len(other)", None),
    ],
)
def test_what_a_schedule_counts_that_is_moved_once_per_epoch(length: str, counts: Turn | None) -> None:
    found = asked(length, EPOCH)
    assert (found.moved, found.counts) == ([Turn.EPOCH], [counts])


@pytest.mark.parametrize("epochs", ["args.epochs", "start, args.epochs", "1, args.epochs + 1", "0, args.epochs"])
def test_epochs_are_counted_however_the_loop_says_it(epochs: str) -> None:
    assert asked("args.epochs", BATCH, epochs=epochs, before="start = args.start").counts == [Turn.EPOCH]


def test_in_a_window_steps_and_micro_batches_are_two_things() -> None:
    steps, batches = "args.epochs * math.ceil(len(loader) / args.k)", "args.epochs * len(loader)"
    assert asked(steps, BATCH, step=WINDOW).moved == [Turn.BATCH]
    assert asked(steps, BATCH, step=WINDOW).counts == [Turn.STEP]
    assert asked(batches, BATCH, step=WINDOW).counts == [Turn.BATCH]
    inside = asked(batches, NEVER, step=f"{WINDOW}; scheduler.step()")
    assert (inside.moved, inside.counts) == ([Turn.STEP], [Turn.BATCH])


def test_a_name_holds_what_it_was_given() -> None:
    assert asked("total", EPOCH, before="total = args.epochs * len(loader)").counts == [Turn.STEP]


@pytest.mark.parametrize(
    ("rest", "first", "counts"),
    [
        ("args.epochs - 5", "5", Turn.EPOCH),
        ("args.epochs - args.warm", "args.warm", Turn.EPOCH),
        ("(args.epochs - args.warm) * len(loader)", "args.warm * len(loader)", Turn.STEP),
        ("args.epochs", "5", None),
    ],
)
def test_schedules_one_after_the_other_are_as_long_as_all_of_them(rest: str, first: str, counts: Turn | None) -> None:
    warm = f"torch.optim.lr_scheduler.LinearLR(optimizer, total_iters={first})"
    program = PROGRAM.replace(
        "CosineAnnealingLR(optimizer, T_max={length})",
        f"torch.optim.lr_scheduler.SequentialLR(optimizer, [{warm}, CosineAnnealingLR(optimizer, {rest})], [{first}])",
    )
    assert asked("", BATCH, program=program).counts == [counts]


@pytest.mark.parametrize(
    ("function", "counts"),
    [
        ("lambda step: (1 - step / args.epochs) ** 0.9", Turn.EPOCH),
        ("lambda step: 1.0 - max(0, step + 1 - args.warm) / float(args.epochs - args.warm + 1)", None),
        ("lambda step: 1 - (step - args.warm) / (args.epochs - args.warm)", Turn.EPOCH),
        ("lambda step: 0.5 * (1 + math.cos(math.pi * step / (len(loader) * args.epochs)))", Turn.STEP),
        ("lambda step: step / args.epochs", None),
        ("lambda step: 1 - step / total(args)", None),
    ],
)
def test_a_function_lasts_as_long_as_what_it_divides_by(function: str, counts: Turn | None) -> None:
    program = PROGRAM.replace(
        "CosineAnnealingLR(optimizer, T_max={length})", f"torch.optim.lr_scheduler.LambdaLR(optimizer, {function})"
    )
    assert asked("", BATCH, program=program).counts == [counts]


def test_a_move_that_something_else_decides_on_has_no_time() -> None:
    assert asked("args.epochs", "            if args.each: scheduler.step()").moved == []


def test_what_is_never_moved() -> None:
    assert asked("args.epochs", NEVER).unmoved == ["scheduler"]
    assert asked("args.epochs", EPOCH).unmoved == []
    for use in (
        "        move(scheduler)",
        "    return scheduler",
        "    net.scheduler = scheduler",
        "    print(locals())",
    ):
        assert asked("args.epochs", use).unmoved == []
