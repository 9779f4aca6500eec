"""What a wrapper or Accelerate was handed, and what goes past it: forward passes, backwards and steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from gradcheck_lint.facts.query import always, exclusive, inside, loops, unseen
from gradcheck_lint.facts.turns import measures
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends, passes
from gradcheck_lint.source.natures import Module, Optimizer, ran
from gradcheck_lint.source.timeline import Call, Loop, Part, Timeline
from gradcheck_lint.source.values import Thing, Value, things

_COLLECTIVE = ("all_reduce", "reduce", "all_gather", "broadcast", "reduce_scatter", "all_reduce_coalesced")
_ANOTHER_DTYPE = frozenset({"double", "half", "bfloat16"})


class Past(NamedTuple):
    """A backward whose gradients DistributedDataParallel does not average, and why."""

    backward: ev.Backward
    wrapper: ev.Distribute
    cause: ev.Event | None
    """What has moved the wrapped model; None where the forward pass goes past the wrapper."""


def past_wrapper(timeline: Timeline) -> Iterator[Past]:
    """The backwards that no wrapper of the model averages."""
    if any(_averages(event) for event in timeline.events(ev.TorchCall)):
        return
    wrappers = list(timeline.events(ev.Distribute))
    for backward in timeline.events(ev.Backward):
        of = [ran(run).of for run in passes(backward.subject)]
        for wrapper in wrappers:
            runs = [module for module in of if module.core is wrapper.subject.core]
            if wrapper.serial > backward.serial or not runs or not _steps_next(timeline, backward, wrapper):
                continue
            moved = _moved(timeline, wrapper, backward)
            if all(module is wrapper.subject.core for module in runs):
                yield Past(backward, wrapper, None)
            elif moved is not None:
                yield Past(backward, wrapper, moved)


def _steps_next(timeline: Timeline, backward: ev.Backward, wrapper: ev.Distribute) -> bool:
    """Whether the step after a backward is that of the wrapped model: gradients for others go through it as well."""
    for step in timeline.events(ev.Step):
        if step.serial > backward.serial:
            of = [m for one in things(step.subject, Optimizer) for m in depends(_params(one))]
            return any(module.core is wrapper.subject.core for module in of)
    return False


def never_averaged(timeline: Timeline) -> Iterator[tuple[ev.Step, ev.Backward]]:
    """The steps whose last backward is in a `no_sync` of the same function and on the same path: nothing averages."""
    if not any("no_sync" in event.context for event in timeline.events(ev.Backward)):
        return
    if any(_averages(event) for event in timeline.events(ev.TorchCall)):
        return
    backwards = list(timeline.located(ev.Backward))
    for step, around in timeline.located(ev.Step):
        before = [(b, way) for b, way in backwards if b.serial < step.serial and not exclusive(way, around)]
        if not before or before[-1][0].function is not step.function:
            continue
        backward, way = before[-1]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], zip(way, around, strict=False)))
        if always(way[shared:]) and always(around[shared:]) and loops(way) == loops(around):
            body = step.function.body if step.function is not None else timeline.home.body
            if _in_no_sync(body, backward.place.node) and not _in_no_sync(body, step.place.node):
                yield step, backward


def _in_no_sync(body: tree.Block, node: tree.Node) -> bool:
    """Whether a node stands in a `with model.no_sync():` that no condition switches."""
    for block in tree.walk_block(body):
        if isinstance(block, tree.With) and any(
            isinstance(item, tree.Call)
            and tree.last_name(item.func) == "no_sync"
            and all(isinstance(argument.value, (tree.Name, tree.Attribute)) for argument in item.args)
            for item, _ in block.items
        ):
            if any(inner is node for inner in tree.walk_block(block.body)):
                return True
    return False


def _averages(event: ev.TorchCall) -> bool:
    return event.name.startswith("torch.distributed.") and event.name.rpartition(".")[2] in _COLLECTIVE


def _moved(timeline: Timeline, wrapper: ev.Distribute, backward: ev.Backward) -> ev.Event | None:
    """What gives the parameters of a wrapped model other gradients than those that the wrapper has hooks on."""
    for event in timeline.events(ev.Move):
        if event.subject is wrapper.subject and event.how in _ANOTHER_DTYPE:
            if wrapper.serial < event.serial < backward.serial:
                return event
    return None


def nothing_prepared(timeline: Timeline) -> tuple[ev.AcceleratedBackward, ev.BuildOptimizer] | None:
    """A backward by an accelerator that is handed nothing, and where the optimizer is built that it should have."""
    backward = next(iter(timeline.events(ev.AcceleratedBackward)), None)
    if backward is None or timeline.has(ev.Prepare) or unseen(timeline):
        return None
    made = backward.subject.place
    if made is None or made.chunk is not backward.place.chunk:
        return None  # who has made it may have prepared everything
    stepped = [thing for step in timeline.events(ev.Step) for thing in things(step.subject)]
    for built in timeline.events(ev.BuildOptimizer):
        if any(one is built.subject for one in stepped) and built.place.chunk is backward.place.chunk:
            return backward, built
    return None


class Accelerated:
    """What `accelerator.prepare` was handed in a timeline."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        located = list(timeline.located(ev.Prepare))
        self.prepared = [event for event, _ in located]
        self.always = {
            id(event)
            for event, around in located
            if always(around) or any(exclusive(around, way) for _, way in located)
        }
        """The ids of those that are on every path, by themselves or with another one in the other arm."""
        given = [value for event in self.prepared for value in event.args.all()]
        self.things = [thing for value in given for thing in things(value)]
        self.whole = bool(given) and all(not event.args.open for event in self.prepared) and all(map(things, given))

    def _holds(self, thing: Thing) -> bool:
        return any(one is thing or one.core is thing.core for one in self.things)

    def plain_backwards(self) -> Iterator[tuple[ev.Backward, ev.Prepare]]:
        """The backwards for what was prepared that do not go through Accelerate.

        The loss leads through a prepared model, or all that steps in the loop around are prepared optimizers.
        """
        steps = list(self.timeline.located(ev.Step))
        for backward, around in self.timeline.located(ev.Backward):
            if backward.engine or backward.scaled or not _on_tensor(backward):
                continue
            if any(other.engine and exclusive(around, way) for other, way in self.timeline.located(ev.Backward)):
                continue  # the other arm is the one with Accelerate
            beside = [step for step, way in steps if loops(way)[:1] == loops(around)[:1] and loops(way)]
            own = bool(beside) and all(self._prepared(step) for step in beside)
            for prepare in self.prepared:
                given = [t for value in prepare.args.all() for t in things(value, Module)]
                through = [ran(run).of for run in passes(backward.subject)]
                if prepare.serial > backward.serial:
                    continue
                if own or any(m.core is g.core for m in through for g in given):
                    yield backward, prepare
                    break

    def _prepared(self, step: ev.Step) -> bool:
        found = things(step.subject, Optimizer)
        return bool(found) and all(self._holds(one) for one in found)

    def unprepared(self) -> Iterator[tuple[ev.Step, Thing, ev.Prepare, bool]]:
        """The steps of optimizers that were not prepared, though the model that they train was; if that is certain."""
        if not self.whole:
            return
        for step in self.timeline.events(ev.Step):
            found = things(step.subject, Optimizer)
            if any(self._holds(one) or one.summary for one in found):
                continue
            certain = [one for one in found if one.certain]
            of = [module for one in certain for module in depends(_params(one))]
            for prepare in self.prepared:
                given = [t for value in prepare.args.all() for t in things(value, Module)]
                if prepare.serial < step.serial and any(m.core is g.core for m in of for g in given):
                    yield step, certain[0], prepare, len(certain) == len(found) and id(prepare) in self.always
                    break

    def _clips(self, clip: ev.Clip) -> bool:
        """Whether it is the accelerator that clips."""
        node = clip.place.node
        of = node.func.value if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) else None
        return any(of is not None and tree.last_name(of) == prepare.subject.label for prepare in self.prepared)

    def divided_twice(self) -> Iterator[tuple[ev.Backward, tree.Expression]]:
        """The backwards by Accelerate of a loss that was divided by its own number of micro-batches: the divisor."""
        for backward in self.timeline.events(ev.Backward):
            call = backward.place.node
            if not backward.engine or not isinstance(call, tree.Call) or len(call.args) != 1:
                continue
            for prepare in self.prepared:
                written = _keyword(prepare.subject, _WINDOW)
                if written is None or (isinstance(written, tree.Constant) and written.value == 1):
                    continue
                divisor = _divisor(call.args[0].value, backward)
                if divisor is not None and _same(divisor, written, prepare):
                    yield backward, divisor
                    break

    def clipped_each(self) -> Iterator[tuple[ev.Clip, bool]]:
        """What is clipped in each micro-batch of a window of Accelerate, and whether it has several for sure."""
        for clip, around in self.timeline.located(ev.Clip):
            turns = loops(around)
            if "accumulate" not in clip.context or not turns or (clip.engine and not self._clips(clip)):
                continue
            if not always(inside(around, turns[-1])) or self._waits(clip, around):
                continue  # `if accelerator.sync_gradients:`
            if measures(clip):
                continue  # for the log
            many = [written for prepare in self.prepared if (written := _keyword(prepare.subject, _WINDOW)) is not None]
            if len(many) == 1 and not (isinstance(many[0], tree.Constant) and many[0].value == 1):
                yield clip, isinstance(many[0], tree.Constant)

    def _waits(self, clip: ev.Clip, around: tuple[Part, ...]) -> bool:
        """Whether code around asks for the last micro-batch, as `if not accelerator.sync_gradients: continue` does."""
        nodes = [node for part in around if isinstance(part, Loop) for node in part.node.walk()]
        bodies = [part.function.body for part in around if isinstance(part, Call)]
        nodes += [node for body in bodies for node in tree.walk_block(body)]
        if any(isinstance(node, tree.Attribute) and node.attr == "sync_gradients" for node in nodes):
            return True
        # a jump over it, which may hang on a count that is kept by hand
        body = clip.function.body if clip.function is not None else self.timeline.home.body
        mine, first = {id(node) for node in tree.walk_block(body)}, clip.place.node.at.line
        return any(
            isinstance(node, (tree.Jump, tree.Return)) and node.at.line < first for node in nodes if id(node) in mine
        )


_WINDOW = "gradient_accumulation_steps"


def _params(optimizer: Thing) -> Value | None:
    return optimizer.what.params if isinstance(optimizer.what, Optimizer) else None


def _on_tensor(backward: ev.Backward) -> bool:
    call = backward.place.node
    return isinstance(call, tree.Call) and isinstance(call.func, tree.Attribute) and not call.args


def _keyword(thing: Thing, name: str) -> tree.Expression | None:
    """What the code writes for an argument of the call that made a thing."""
    node = thing.place.node if thing.place is not None else None
    if not isinstance(node, tree.Call):
        return None
    return next((argument.value for argument in node.args if argument.keyword == name), None)


def _divisor(loss: tree.Expression, backward: ev.Backward) -> tree.Expression | None:
    """What a loss is divided by: where it is handed over, or where its name gets it in the same function."""
    if isinstance(loss, tree.Operation) and loss.op == "/" and len(loss.operands) == 2:
        return loss.operands[1]
    if not isinstance(loss, tree.Name):
        return None
    body = backward.function.body if backward.function is not None else ()
    for node in tree.walk_block(body):
        if isinstance(node, tree.Augment) and node.op == "/" and tree.dotted(node.target) == loss.id:
            return node.value
        if (
            isinstance(node, tree.Assign)
            and node.value is not None
            and any(tree.dotted(t) == loss.id for t in node.targets)
        ):
            value = node.value
            if isinstance(value, tree.Operation) and value.op == "/" and len(value.operands) == 2:
                return value.operands[1]
    return None


def _same(divisor: tree.Expression, written: tree.Expression, prepare: ev.Prepare) -> bool:
    """Whether two expressions are the same number: both written alike, or the accelerator's own attribute."""
    if isinstance(divisor, tree.Constant) and isinstance(written, tree.Constant):
        return divisor.value == written.value
    name = tree.dotted(divisor)
    return bool(name) and (name == tree.dotted(written) or name == f"{prepare.subject.label}.{_WINDOW}")
