"""GL105: a method of the training loop is named but not called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import CallMissing
from gradcheck_lint.source.events import Clip, Evaluate, Iterate
from gradcheck_lint.source.natures import Module, Optimizer, Scaler, Scheduler
from gradcheck_lint.source.values import Nature

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline

METHODS: dict[type[Nature], frozenset[str]] = {
    Optimizer: frozenset({"step", "zero_grad"}),
    Scheduler: frozenset({"step"}),
    Scaler: frozenset({"update"}),
    Module: frozenset({"train", "eval", "zero_grad"}),
}
"""The methods that do their work only when they are called, and need no arguments."""
EVERYWHERE = frozenset({"backward", "zero_grad"})
PARAMETERS = frozenset({"parameters", "named_parameters"})


class CallParenthesesMissing(Rule):
    code = "GL105"
    slug = "call-parentheses-missing"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (Evaluate, Iterate, Clip)
    watches = (CallMissing,)
    triggers = r"\.(?:train|eval)\s*(?:#|\n)"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(Evaluate, Iterate, Clip):
            self.named(timeline, event, report)

    def named(self, timeline: Timeline, event: Evaluate | Iterate | Clip, report: Report) -> None:
        from gradcheck_lint.facts.rebinding import body_of, tried
        from gradcheck_lint.source import tree
        from gradcheck_lint.source.place import Place
        from gradcheck_lint.source.values import ClassValue, only

        if isinstance(event, Clip):
            call = event.place.node
            if not isinstance(call, tree.Call) or not call.args:
                return
            value, node = event.subject, call.args[0].value
        else:
            value, node = event.value, event.expression
        thing = only(value)
        if thing is None or thing.parent is None or not isinstance(node, tree.Attribute):
            return  # not looked up, or known to be something else
        owner, attr = thing.parent[0], node.attr
        if isinstance(owner.cls, ClassValue) and owner.cls.member("__getattr__") is not None:
            return  # looking it up may be what does the work
        asked = "try" in event.context and tried(body_of(timeline, event), event.statement.node)  # is it there?
        if isinstance(event, Evaluate):
            wanted = attr in METHODS.get(type(owner.what), ()) or attr in EVERYWHERE
        else:
            wanted = attr in PARAMETERS and isinstance(owner.what, Module)
        if wanted:
            self.tell(Place(event.place.chunk, node), attr, isinstance(event, Evaluate), asked, report)

    def tell(self, place: Place, attr: str, thrown_away: bool, asked: bool, report: Report) -> None:
        from gradcheck_lint.facts.repair import append, text

        name = text(place)
        report(
            place,
            f"`{attr}` is named but not called",
            label="looks the method up, and throws it away" if thrown_away else "is the method, not what it gives",
            why="the line does nothing" if thrown_away else "it raises a TypeError that does not say why",
            help=f"write `{name}()`",
            fix=Fix(f"call `{name}()`", Safety.SAFE, (append(place, "()"),)),
            confidence=Confidence.MEDIUM if asked else Confidence.HIGH,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, CallMissing)
        method = sighting.method
        name = sighting.source(f"loss.{method}" if method == "backward" else f"optimizer.{method}")
        report(
            f"`{method}` is named but not called",
            label=f"{sighting.at_step}: this looks the method up, and throws it away",
            why="the line does nothing",
            help=f"write `{name}()`",
            related=[("steps here", sighting.stepped)],
        )
