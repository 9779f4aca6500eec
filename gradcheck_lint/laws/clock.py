"""The law of the clock: a schedule moves once for each of what it counts, and goes on for as long as training does.

A schedule counts steps or epochs and has to be moved as often (`pace`); it belongs to the optimizer that steps
(`elsewhere`, `left`), and has to last until training ends (`Rates`). What builds up from step to step, a schedule, the
running averages of an optimizer, the scale of a scaler, is built once (`loses`, `rebuilt`).

The linter feeds it loops and the lengths that the code names, the watcher counts and rates. A witness that sees the
groups of an optimizer, or the base of a schedule that is resumed, adds what it counts to `Rates`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer

SETTING = frozenset({"LambdaLR", "LinearLR", "ConstantLR", "OneCycleLR", "CyclicLR"})
"""Schedules that set the rate as soon as they are built; the others leave it at that of the optimizer."""
LOADS_SCHEDULE = re.compile(r"(?i)sched\w*\.load_state_dict|last_epoch|for \w+ in .*\n\s+\w+\.load_state_dict")
"""Code that may load the state of a schedule."""

# How often


class Turn(Enum):
    """What goes round."""

    BATCH = "micro-batch"  # of several that make a step
    STEP = "step"
    EPOCH = "epoch"


class Pace(Enum):
    """How a schedule is moved, by what it counts."""

    RIGHT = "right"
    SLOW = "slow"  # it counts steps, and moves once per epoch: it never gets past its beginning
    FAST = "fast"  # it counts epochs, and moves at each step: it is over within the first epochs


_OFTEN = (Turn.EPOCH, Turn.STEP, Turn.BATCH)  # from the rarest


def pace(*, counts: Turn, moves: Turn) -> Pace:
    """`counts`: what the length of a schedule is a number of; `moves`: after which it is moved."""
    more = _OFTEN.index(moves) - _OFTEN.index(counts)
    return Pace.RIGHT if not more else Pace.FAST if more > 0 else Pace.SLOW


def counted(*, total: int, steps: int, moves: int) -> Pace:
    """`pace` by what is left at the end: the length of a schedule, the steps of its optimizer, and its own moves.

    A schedule that is as long as there were steps was made for these. It is moved once per epoch if it came at most
    half the way, as there are two batches in an epoch, or more.
    """
    if total != steps:
        return Pace.RIGHT
    return pace(counts=Turn.STEP, moves=Turn.EPOCH if moves * 2 <= total else Turn.STEP)


class Reach(Enum):
    """How a schedule and the training that it is for end, by the numbers of moves."""

    TOGETHER = "together"
    PAST = "past"  # training goes on after the schedule is over
    BEFORE = "before"  # training ends while something of the schedule is still to come


def reach(*, planned: int, moves: int) -> Reach:
    """`planned`: after how many moves a schedule is over (or does what it has to do); `moves`: those that it makes."""
    return Reach.TOGETHER if planned == moves else Reach.PAST if planned < moves else Reach.BEFORE


BATCHES = 10  # in an epoch, at the least, where their number is not known
NEVER_SO_SMALL = 1e-5  # of the first rate: nobody goes on training with what is left


def vanishes(*, factor: float, times: float) -> bool:
    """Whether nothing is left of a rate that is multiplied by a factor so many times, while training goes on."""
    return 0 <= factor < 1 and (times > 10**6 or factor**times < NEVER_SO_SMALL)


# Whose rate


def elsewhere(*, steps: bool, shared: Answer) -> Answer:
    """Whether a schedule moves the rate of an optimizer that does not train, while another one trains for it.

    `steps`: its own optimizer makes steps; `shared`: the other one, which does, has the same tensors.
    """
    return NO if steps else shared


ALONE = 3  # moves of a schedule, and steps of another optimizer, since its own was given up


def left(*, stepped: bool, moves: int, others: int, followed: bool) -> bool:
    """Whether a schedule goes on to move an optimizer that another one has taken the place of.

    Since the other one was built, its own optimizer has `stepped` or not, it has made so many `moves` and the other one
    so many steps. `followed`: something moves the rate of the other one.
    """
    return not stepped and moves >= ALONE and others > ALONE and not followed


# How long

ROUNDED = 1e-12  # of the highest rate: what rounding leaves of it
NOTHING = 1e-9  # of the highest rate: what no step can be told by from none
LONG, REST = 50, 20  # steps without a rate that are more than a schedule counted short, while it runs and at the end
PART = 0.2  # of all steps so far, which they have to be besides
AGAIN = 2  # steps after which a rate below zero is seen again


class Rates:
    """The rates that a schedule has given an optimizer so far."""

    def __init__(self, highest: float = 0.0) -> None:
        self.highest = highest
        self.since = 0  # the step at which they were first seen to be over, if they still are
        self.latest = 0  # that at which they were last looked at

    def over(self, rates: Sequence[float]) -> bool:
        """Whether none of these moves anything, or one of them climbs."""
        low = NOTHING * self.highest
        return self.highest > 0 and (max(rates) <= low or min(rates) < -low)

    def ended(self, rates: Sequence[float], step: int) -> bool:
        """Take the rates of a step, at least one; whether the schedule is over by now, and training goes on."""
        self.highest = max(self.highest, *rates)
        self.latest = step
        if not self.over(rates):
            self.since = 0
        elif not self.since:
            self.since = step
        else:
            return step - self.since >= (AGAIN if min(rates) < 0 else max(LONG, PART * step))
        return False

    def ended_early(self, rates: Sequence[float], step: int, steps: int) -> bool:
        """Whether it was over when training ended: the rates that were there then, and how many steps there were."""
        return bool(self.since) and self.over(rates) and step - self.since >= max(REST, PART * steps)

    def below(self, rate: float) -> float:
        """A rate that climbs, or is next to nothing; 0 for one that is nothing but rounding."""
        return rate if rate < -NOTHING * self.highest or rate > ROUNDED * self.highest else 0.0


HIGH = 0.25  # of the way back to the first rate


WHOLE = 0.1  # of a swing, by which one that was meant may miss its end


def climbed(*, moves: int, length: int, left: float) -> Answer:
    """Whether a cosine of this length was laid out for fewer moves than it made, and has taken the rate up again.

    `left`: the rate at the end, as a part of the first one. A rate that swings on purpose has swung more than once, and
    ends low; or it is taken the whole way back up for what comes then, as the averaging of weights.
    """
    if moves <= length or left < HIGH:
        return NO
    return YES if moves < (2 - WHOLE) * length else MAYBE


# How often anew


class Built(Enum):
    """What builds up from step to step. The values are the words for it."""

    OPTIMIZER = "optimizer"
    SCHEDULER = "scheduler"
    SCALER = "scaler"


OFTEN = 4  # so many of one line, each used for one step
EPOCHS = 5  # so many of one line, however long each was used


def loses(what: Built, turn: Turn) -> bool:
    """Whether something loses what it is there for if it is built anew in each turn. A scale is found in an epoch."""
    return turn is not Turn.EPOCH or what is not Built.SCALER


def rebuilt(what: Built, *, times: int, most: int) -> bool:
    """Whether so many in a row, of which none was used for more than `most` steps, are too many to be meant so.

    Nobody builds an optimizer for one step, but there are trainings of a few steps; a schedule or a scaler that is used
    for an epoch has had its time.
    """
    if what is Built.OPTIMIZER:
        return times >= (OFTEN if most == 1 else EPOCHS)
    return times >= OFTEN - 1 and most <= 1


FIT = 100  # steps, which are a training of their own where nobody counts epochs
CYCLE = 2  # moves of a schedule that belongs to one of them


def cold(*, most: int, epochs: bool, data: bool, cycle: int) -> Answer:
    """Whether optimizers that are built again and again are meant to begin anew, each for up to `most` steps.

    `epochs`: each is built for the next epoch, which nobody would call a task; `data`: the program has other data in
    hand than when it built the last one; `cycle`: how far a schedule came that each has to itself.
    """
    if most <= 1:
        return NO
    if epochs:
        return MAYBE if cycle >= CYCLE else NO
    return YES if data or cycle >= CYCLE or most > FIT else MAYBE
