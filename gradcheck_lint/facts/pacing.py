"""How a schedule keeps time: what its length counts, after what it is moved, and how often that will be.

The length that a schedule was built with and the rounds of the loops around its move are compared as amounts
(`source/amounts`): `args.epochs * len(loader)` is as long as two loops over just these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.gates import modulo
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.clock import BATCHES, Turn
from gradcheck_lint.source import amounts, tree
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.amounts import Amount
from gradcheck_lint.source.natures import Optimizer, Scheduler, moves
from gradcheck_lint.source.values import Constant, External, Items, Thing, Value, only

Around = Sequence[tl.Part]

LENGTHS = {
    "CosineAnnealingLR": (1, "T_max"),
    "LinearLR": (3, "total_iters"),
    "PolynomialLR": (1, "total_iters"),
    "OneCycleLR": (2, "total_steps"),
    "CyclicLR": (3, "step_size_up"),
    "StepLR": (1, "step_size"),
    "get_linear_schedule_with_warmup": (2, "num_training_steps"),
    "get_cosine_schedule_with_warmup": (2, "num_training_steps"),
    "get_cosine_with_hard_restarts_schedule_with_warmup": (2, "num_training_steps"),
    "get_polynomial_decay_schedule_with_warmup": (2, "num_training_steps"),
    "get_scheduler": (-1, "num_training_steps"),
}
"""Where schedules say how many of their own moves they last: the position (-1: by its name only) and the name."""

AGAIN = frozenset({"CyclicLR", "StepLR"})
"""Those that begin anew after that: a length in batches is one all the same, but as many as epochs say nothing."""

HOMES = ("torch.", "transformers.", "diffusers.", "pytorch_transformers.")


def kind(scheduler: Thing) -> str:
    """What a schedule of torch or of transformers is called; "" for all others."""
    known = scheduler.certain and isinstance(scheduler.cls, External) and scheduler.cls.name.startswith(HOMES)
    return scheduler.class_name.rpartition(".")[2] if known else ""


def planned(scheduler: Thing) -> Amount | None:
    """How many moves a schedule was made for, if its kind has an end."""
    args, name = scheduler.args, kind(scheduler)
    if name == "SequentialLR" and args is not None and not args.open:
        return _in_turn(args.get(1, "schedulers"), args.get(2, "milestones"))
    if name == "LambdaLR" and isinstance(scheduler.what, Scheduler):
        return scheduler.what.length if isinstance(scheduler.what.length, Amount) else None
    if args is None or args.open or name not in LENGTHS:
        return None
    index, keyword = LENGTHS[name]
    found = args.keywords.get(keyword) if index < 0 else args.get(index, keyword)
    if name == "OneCycleLR" and (found is None or (isinstance(found, Constant) and found.value is None)):
        epochs, each = args.get(3, "epochs"), args.get(4, "steps_per_epoch")
        return amounts.times(amounts.amount(epochs), amounts.amount(each))
    return amounts.amount(found)


def _in_turn(schedulers: Value | None, switches: Value | None) -> Amount | None:
    """How long several schedules last that come one after the other: the last one begins at the last switch."""
    if not isinstance(schedulers, Items) or not isinstance(switches, Items):
        return None
    if not schedulers.complete or not switches.complete or not schedulers.items or not switches.items:
        return None
    last = only(schedulers.items[-1], Scheduler)
    own = planned(last) if last is not None and kind(last) != "SequentialLR" else None
    return amounts.added(own, amounts.amount(switches.items[-1]), 1)


def milestones(scheduler: Thing) -> list[int]:
    """The moves at which a schedule changes the rate, if the code says them as numbers."""
    known = _marks(scheduler)
    numbers = [many.number for many in known if many.number is not None]
    return numbers if len(numbers) == len(known) else []


def _marks(scheduler: Thing) -> list[Amount]:
    """The same, however the code says them; none if it does not say all."""
    args = scheduler.args
    found = args.get(1, "milestones") if args is not None and kind(scheduler) == "MultiStepLR" else None
    if not isinstance(found, Items) or not found.complete:
        return []
    known = [many for item in found.items if (many := amounts.amount(item)) is not None]
    return known if len(known) == len(found.items) else []


def counted(scheduler: Thing, timing: Timing) -> Turn | None:
    """What the length of a schedule, or all of its milestones, are numbers of; None if that does not show."""
    length, marks = planned(scheduler), _marks(scheduler)
    if marks:
        turns = {_share(mark, timing) for mark in marks}
        return turns.pop() if len(turns) == 1 else None
    found = timing.counts(length) if length is not None else None
    if kind(scheduler) in AGAIN and found is not Turn.STEP and found is not Turn.BATCH:
        found = _share(length, timing) if length is not None and kind(scheduler) == "StepLR" else None
    return found


def _share(length: Amount, timing: Timing) -> Turn | None:
    """What a length is a part of, such as a third of `args.epochs`: one that is a number may be any."""
    if timing.epochs is not None and timing.epochs.atoms:
        part = amounts.divided(length, timing.epochs)
        if part is not None and part.share is not None and part.share <= 1:
            return Turn.EPOCH
    counts = timing.counts(length)
    return counts if counts is not Turn.EPOCH else None


WARMED = 200  # moves: nobody trains so many epochs before the rate is what it should be
_STEPS = re.compile(r"(?i)(steps?|iters?|iterations?|batches|updates)$")
_EPOCHS = re.compile(r"(?i)epochs?$")


def warms(scheduler: Thing, epochs: Amount | None, text: str) -> tuple[Turn | None, Answer]:
    """What the warm-up of a schedule counts, and whether that is sure, where there are so many epochs.

    A name alone does not make it sure, as options are converted and "steps" may be those of the schedule; `text` is
    that of the file, which may show the first.
    """
    what = scheduler.what
    args, name = scheduler.args, kind(scheduler)
    if not isinstance(what, Scheduler) or args is None or args.open:
        return None, NO
    said, warm = what.warm_said, what.warm if isinstance(what.warm, Amount) else None
    if name in LENGTHS and name.startswith("get_") and name != "get_scheduler":
        said, warm = "num_warmup_steps", amounts.amount(args.get(1, "num_warmup_steps"))
    elif name == "LinearLR" and _climbs(args.get(1, "start_factor")):
        warm = amounts.amount(args.get(3, "total_iters"))
    elif name != "LambdaLR":
        return None, NO
    steps = bool(_STEPS.search(said))
    many, most = warm.number if warm is not None else None, epochs.number if epochs is not None else None
    if many is not None and many > 1 and not _EPOCHS.search(said):
        if most is not None and many > most * (1 if steps else BATCHES - 1):
            return Turn.STEP, YES
        if most is None and many >= WARMED:
            return Turn.STEP, YES if steps else MAYBE
    if warm is not None and any(atom.length for atom in warm.atoms):
        return Turn.STEP, YES
    if many is None and steps and said != "num_warmup_steps":
        return Turn.STEP, MAYBE
    if _EPOCHS.search(said) and "." in said and not _converted(said, text):
        return Turn.EPOCH, MAYBE
    return None, NO


def _converted(said: str, text: str) -> bool:
    """Whether a file gives an attribute a product or a length: epochs that are turned into steps."""
    name = re.escape(said.rpartition(".")[2])
    return re.search(rf"\.{name}\s*(\*=|=(?!=)[^\n]*(\*|\blen\())", text) is not None


def _climbs(factor: Value | None) -> bool:
    """Whether a `LinearLR` begins below the rate; torch's own factor is a third."""
    return factor is None or (isinstance(factor, Constant) and type(factor.value) is float and factor.value < 1)


WHOLE = frozenset(name for name in LENGTHS if name.startswith("get_")) | {"OneCycleLR"}
"""Schedules that are made for a whole training: nobody stops after a tenth of one."""


def outlasts(scheduler: Thing, timing: Timing) -> bool:
    """Whether a schedule that is moved once per epoch is so long that its length must be a number of steps."""
    length, epochs = planned(scheduler), timing.total  # none where the training may end at any time
    if timing.moved is not Turn.EPOCH or kind(scheduler) not in WHOLE or length is None or epochs is None:
        return False
    return 0 < BATCHES * (epochs.number or 0) <= (length.number or 0)


class Decay(NamedTuple):
    """The rate is multiplied by `factor` at each `every`-th move."""

    factor: float
    every: int


def decay(scheduler: Thing) -> Decay | None:
    """How a schedule makes the rate smaller for ever, if the code says that as numbers."""
    args, name = scheduler.args, kind(scheduler)
    if args is None or args.open or name not in ("StepLR", "ExponentialLR"):
        return None
    factor = args.get(2 if name == "StepLR" else 1, "gamma")
    each = amounts.amount(args.get(1, "step_size")) if name == "StepLR" else amounts.ONE
    known = 0.1 if factor is None and name == "StepLR" else factor.value if isinstance(factor, Constant) else None
    if not isinstance(known, (int, float)) or isinstance(known, bool) or each is None or not each.number:
        return None
    return Decay(float(known), each.number)


class Step(NamedTuple):
    """Where an optimizer steps: the loops around it, and the size of the window that it closes."""

    loops: list[tl.Loop]
    window: tl.Branch | None
    size: Amount | None
    plain: bool  # nothing but a window decides whether it is taken


class Timing(NamedTuple):
    """After what a schedule is `moved`, and how many epochs, steps and micro-batches there are, as far as is known.

    `total` is how many moves that will be, if nothing else decides about them. `loops` are those around the move.
    """

    moved: Turn
    epochs: Amount | None
    steps: Amount | None
    batches: Amount | None
    total: Amount | None
    loops: list[tl.Loop]
    inner: tl.Loop

    def counts(self, length: Amount) -> Turn | None:
        """What a length is the number of; None if that does not show, or may be two of them."""
        among = {Turn.EPOCH: self.epochs, Turn.STEP: self.steps, Turn.BATCH: self.batches}
        found = [turn for turn, many in among.items() if many is not None and many == length]
        if len(found) == 1:
            return found[0]
        rounds = self.inner.length
        if not found and self.moved is Turn.EPOCH and rounds is not None and rounds.atoms & length.atoms:
            return Turn.STEP  # a multiple of the batches in an epoch
        return None


def timing(timeline: tl.Timeline, event: ev.Schedule, around: Around, scheduler: Thing) -> Timing | None:
    """How a schedule is moved by an event, beside the steps of its optimizer."""
    optimizer = only(moves(scheduler), Optimizer)
    turns = [loop for loop in query.loops(around) if scheduler.serial < loop.start]
    if optimizer is None or not turns or not all(isinstance(loop.node, (tree.For, tree.While)) for loop in turns):
        return None
    found = [_step(a, turns[0], optimizer) for e, a in timeline.located(ev.Step) if e.concerns(optimizer)]
    steps = [step for step in found if step is not None]
    if not steps or any(step.loops != steps[0].loops for step in steps):
        return None
    step = steps[0]
    branches = [part for part in query.inside(around, turns[0]) if isinstance(part, tl.Branch)]
    within = step.window is not None and step.window in branches
    mine = branches[-1] if branches else None
    test = modulo(mine.test) if mine is not None and mine.test is not None and not within else None
    sure = all(branch is step.window or _asks_whether_there(branch) for branch in branches)
    batches = amounts.product([loop.length for loop in step.loops])
    if turns == step.loops:
        if test is not None:
            return None  # a window of its own
        moved = Turn.BATCH if step.window is not None and not within else Turn.STEP
    elif (turns == step.loops[:-1] and step.window is None) or turns == step.loops[:-1]:
        moved = Turn.EPOCH
    else:
        return None
    if not sure:
        return None
    size = step.size
    taken = amounts.divided(batches, size) if step.window is not None else batches
    epochs = amounts.product([loop.length for loop in step.loops[:-1]]) if len(step.loops) > 1 else None
    among = {Turn.EPOCH: epochs, Turn.STEP: taken, Turn.BATCH: batches}
    total = among[moved] if step.plain else None
    if moved is Turn.EPOCH and len(step.loops) < 2:
        return None
    return Timing(moved, epochs, taken, batches if step.window is not None else None, total, turns, step.loops[-1])


def _step(around: Around, outer: tl.Loop, optimizer: Thing) -> Step | None:
    """A step inside of a loop."""
    if outer not in around:
        return None
    inner = query.inside(around, outer)
    loops = [outer, *query.loops(inner)]
    if optimizer.serial >= outer.start or not all(isinstance(loop.node, (tree.For, tree.While)) for loop in loops):
        return None
    branches = [part for part in inner if isinstance(part, tl.Branch)]
    window = next((b for b in branches if b.test is not None and modulo(b.test) is not None), None)
    size: Amount | None = None
    if window is not None and window.test is not None:
        test = modulo(window.test)
        size = window.sizes.get(id(test.size)) if test is not None else None
        if size == amounts.ONE:
            size = None
    plain = all(branch is window for branch in branches) and not _left_early(loops)
    return Step(loops, window, size, plain)


def _left_early(loops: Sequence[tl.Loop]) -> bool:
    """Whether a `break` may end one of the loops."""
    return any(isinstance(node, tree.Jump) and node.kind is tree.Exit.BREAK for node in loops[0].node.walk())


def _asks_whether_there(branch: tl.Branch) -> bool:
    """Whether a test only asks if something is there: `scheduler is not None`, `if scheduler`."""
    test = branch.test
    if isinstance(test, tree.Operation) and test.op in ("is not", "!="):
        return isinstance(test.operands[1], tree.Constant) and test.operands[1].value is None
    return isinstance(test, (tree.Name, tree.Attribute)) and "sched" in tree.last_name(test).lower()
