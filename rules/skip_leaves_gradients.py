"""GL119: a batch is skipped after backward, and its gradients stay behind for the next one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws import cycle
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.laws.cycle import State
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import SkipLeft
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.follow import Flow, Path, States, in_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.values import Thing

_SKIPPING = (tree.Exit.CONTINUE, tree.Exit.RETURN)
_UNUSED = frozenset({cycle.FIRST, cycle.READY, cycle.STALE})


class SkipLeavesGradients(Rule):
    code = "GL119"
    slug = "skip-leaves-gradients"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (SkipLeft,)

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        optimizers = [o for o in timeline.optimizers() if not o.summary]
        jumps = list(_jumps(timeline.tree)) if optimizers else []
        for optimizer in optimizers if jumps else ():
            path = _Skips(timeline, optimizer, jumps)
            for skip, met in path.met.items():
                if not all(state.gradient in _UNUSED for state in met):
                    continue
                zero = next((e for e in timeline.events(ev.Zero) if path.meaning(e)[2] is YES), None)
                clear = repair.text(zero.place) if zero is not None and isinstance(zero.place.node, tree.Call) else ""
                place = skip.jump.place
                stand = repair.stand(place)
                fix = None
                if clear and zero is not None and zero.function is path.functions[skip] and stand is not None:
                    fix = Fix(f"call `{clear}` first", Safety.SAFE, (repair.insert_before(stand, clear),))
                report(
                    place,
                    "a skipped batch leaves its gradients to the next one",
                    label="skips the zeroing after backward has run",
                    why="the next backward adds to the gradients of the batch that should not count",
                    help=f"call `{clear or 'optimizer.zero_grad()'}` before it, or test before backward",
                    related=[("these gradients are left", e.place) for e in path.made[skip]],
                    fix=fix,
                    confidence=Confidence.MEDIUM if timeline.hooked or timeline.cut else Confidence.HIGH,
                )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, SkipLeft)
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        sums = f"those of {sighting.window} backwards, where each step before used {sighting.usual}"
        end = f"used {sums}" if sighting.used is not None else f"no step has come since, and the gradients are {sums}"
        bad = "" if sighting.finite else ", and not all of them are numbers"
        report(
            "a skipped batch leaves its gradients to the next one",
            label=f"{sighting.at_step if sighting.used is not None else f'after step {sighting.step}'}: {end}{bad}",
            why="the next backward adds to the gradients of the batch that should not count",
            help=f"call `{name}.zero_grad()` where a batch is skipped, or test before backward",
            related=[("the step that uses them", sighting.used)],
            confidence=Confidence.MEDIUM if sighting.finite else Confidence.HIGH,
        )


class _Skip(NamedTuple):
    """Marks gradients that a jump has left behind."""

    jump: tl.Jump

    @property
    def order(self) -> tuple[int, ...]:
        return (self.jump.serial,)


class _Skips(Path):
    """Follows what a skip leaves behind to the backward that adds to it."""

    def __init__(self, timeline: tl.Timeline, optimizer: Thing, jumps: list[tl.Jump]) -> None:
        self.jumps = jumps
        self.met: dict[_Skip, set[State]] = {}
        self.made: dict[_Skip, list[ev.Event]] = {}
        self.functions: dict[_Skip, tree.Function | None] = {}
        super().__init__(timeline, optimizer)

    def heeded(self) -> list[tl.Part]:
        return [*super().heeded(), *self.jumps]

    def run(self, step: tl.Part, states: States) -> Flow:
        if isinstance(step, tl.Jump) and step.kind in _SKIPPING and self.steady[-1] and self.rejects():
            made = [s.made for s in in_order(states) if isinstance(s.made, ev.Event)]
            if made and all(s.gradient in _UNUSED for s in states) and self.leaves(step, made[0]):
                skip = _Skip(step)
                self.made[skip] = made[:1]
                self.functions[skip] = made[0].function
                states = frozenset(s._replace(made=skip) for s in states)
        return super().run(step, states)

    def rejects(self) -> bool:
        """Whether the branch that is being followed asks if the batch is any good."""
        branch = self.around[-1] if self.around else None
        return isinstance(branch, tl.Branch) and branch.test is not None and _validity(branch.test)

    def leaves(self, jump: tl.Jump, made: ev.Event) -> bool:
        """Whether the jump ends the round of the loop, or the call, in which backward has run."""
        kind = tl.Loop if jump.kind is tree.Exit.CONTINUE else tl.Call
        for step in reversed(self.around):
            if isinstance(step, kind):
                return any(event is made for event in tl.inside(step.body))
        return False

    def event(self, event: ev.Event, states: States) -> States:
        if isinstance(event, ev.Backward):
            for state in in_order(states):
                if isinstance(state.made, _Skip):
                    self.met.setdefault(state.made, set()).add(state)
        return super().event(event, states)


_FINITE = re.compile(r"(?i)^(is_?|has_?)?(any_?)?(non_?)?(nan|inf|finite)s?$|^is_?(nan|inf|finite)_")
_NORM = re.compile(r"(?i)grad(ient)?_?norm|total_norm")


def _validity(test: tree.Expression) -> bool:
    """A test for NaN or infinity, or for a gradient that is too large."""
    for node in test.walk():
        if isinstance(node, (tree.Name, tree.Attribute)) and _FINITE.search(tree.last_name(node)):
            return True
        if isinstance(node, tree.Operation) and node.op in ("<", ">", "<=", ">="):
            for part in node.walk():
                name = tree.last_name(part) if isinstance(part, (tree.Name, tree.Attribute)) else ""
                if name == "grad" or _NORM.search(name):
                    return True
    return False


def _jumps(step: tl.Part, tested: bool = False) -> Iterator[tl.Jump]:
    """Each `continue` and `return` under a test of the batch."""
    if isinstance(step, tl.Branch):
        tested = tested or (step.test is not None and _validity(step.test))
        for arm in step.arms:
            yield from _jumps(arm, tested)
    elif isinstance(step, tl.Sequence):
        for inner in step.steps:
            if not isinstance(inner, ev.Event):
                yield from _jumps(inner, tested)
    elif isinstance(step, (tl.Loop, tl.Call, tl.Guarded)):
        yield from _jumps(step.body, tested)
    elif tested and isinstance(step, tl.Jump) and step.kind in _SKIPPING:
        yield step
