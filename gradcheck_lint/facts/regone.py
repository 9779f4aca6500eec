"""Backwards through trained modules: which of their graphs are of an earlier round, and how those came into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.finding import Confidence
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.laws.mode import records
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import LossScaled, nature, ran
from gradcheck_lint.source.values import Constant, Thing, only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.source.place import Place


class Back(NamedTuple):
    """A backward that goes through trained modules."""

    event: ev.Backward
    around: tuple[tl.Part, ...]
    loss: Thing
    runs: frozenset[Thing]
    turns: list[tl.Loop]  # the loops around it
    leaves: bool  # whether the first round of the innermost one is always the last

    @property
    def each(self) -> tl.Loop | None:
        """The innermost loop around it, if it runs in each of its rounds."""
        if not self.turns or not query.always(query.inside(self.around, self.turns[-1])) or self.leaves:
            return None
        return self.turns[-1]


def trained(timeline: tl.Timeline) -> list[Thing]:
    """The modules that optimizers hold, as far as both are certain."""
    return [m for o in timeline.optimizers() if o.certain for m in held_by(o).modules if m.certain]


def backwards(timeline: tl.Timeline) -> list[Back]:
    """The plain ones, without gradients or inputs of their own."""
    modules = trained(timeline) if timeline.has(ev.Backward) else ()
    found = []
    leaving: dict[int, bool] = {}
    for event, around in timeline.located(ev.Backward) if modules else ():
        if event.engine:
            continue
        loss = only(event.subject)
        runs = runs_of(loss, modules)
        if loss is not None and runs and plain(event):
            turns = [loop for loop in query.loops(around) if isinstance(loop.node, (tree.For, tree.While))]
            if turns and id(turns[-1]) not in leaving:
                leaving[id(turns[-1])] = _leaves(turns[-1])
            found.append(Back(event, around, loss, runs, turns, bool(turns) and leaving[id(turns[-1])]))
    return found


def confidence(timeline: tl.Timeline) -> Confidence:
    sure = not timeline.cut and not any(True for _ in timeline.events(ev.Freeze))
    return Confidence.HIGH if sure else Confidence.MEDIUM


def runs_of(loss: Thing | None, modules: Sequence[Thing]) -> frozenset[Thing]:
    """The runs of these modules that the loss goes back through."""
    if loss is None:
        return frozenset()
    scaled = nature(loss, LossScaled)
    whole = scaled.of if scaled is not None and scaled.of is not None else loss
    return frozenset(run for run in passes(whole) if any(ran(run).of.inside(t) for t in modules))


def carried(back: Back, loop: tl.Loop) -> tuple[Thing, bool] | None:
    """A run of an earlier round that the loss goes back through, and whether it came there by a sum of losses.

    Else it was handed to a module in this round, as a hidden state is.
    """
    old = [t for t in back.runs if t.serial < loop.start]
    new = [t for t in back.runs if t.serial >= loop.start]
    sites = {id(t.place.node) for t in new if t.place is not None}
    found = [t for t in old if t.place is not None and id(t.place.node) in sites]
    if not found:
        return None
    given: set[Thing] = set()
    todo = list(new)
    while todo:
        fresh = ran(todo.pop()).given - given
        given |= fresh
        todo += fresh
    return found[0], given.isdisjoint(found)


def plain(event: ev.Backward) -> bool:
    """A backward that is not one of several through one graph on purpose: it has no gradient or inputs of its own."""
    if event.inputs is not None or event.create_graph is not None:
        return False
    node = event.place.node
    return isinstance(node, tree.Call) and not any(a.keyword is None or a.keyword == "gradient" for a in node.args)


def kept(event: ev.Backward) -> bool | None:
    """Whether the graph is kept; None if that cannot be told."""
    retain = event.retain
    if retain is None:
        return False
    if isinstance(retain, Constant) and retain.value in (True, False, None):
        return bool(retain.value)
    return None


def steps_in(timeline: tl.Timeline, loop: tl.Loop) -> bool:
    """Whether an optimizer steps in each round."""
    return any(isinstance(e, ev.Step) and query.always(query.inside(a, loop)) for e, a in timeline.within(loop))


def made(run: Thing) -> list[tuple[str, Place]]:
    return [("the graph is made here", run.place)] if run.place is not None else []


def _leaves(loop: tl.Loop) -> bool:
    """Whether the first round is always the last one."""
    return any(isinstance(step, tl.Jump) for step in loop.body.steps)


def off(event: ev.Event) -> bool:
    """Whether what happens in an event may leave no graph behind."""
    return records(event.context) is not YES
