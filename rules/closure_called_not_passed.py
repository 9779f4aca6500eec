"""GL118: `step()` is given the result of the closure instead of the closure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query, repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import ClosureCalled
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Step
from gradcheck_lint.source.natures import Opaque, Optimizer, Tensor
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import External, FunctionValue, Thing, only, options

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class ClosureCalledNotPassed(Rule):
    code = "GL118"
    slug = "closure-called-not-passed"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    listens = (Step,)
    watches = (ClosureCalled,)

    def on_event(self, event: Step, report: Report) -> None:
        closure, called = event.closure, event.called
        optimizer = only(event.subject, Optimizer)
        if optimizer is None or not isinstance(called, FunctionValue):
            return
        if not all(isinstance(v, Thing) and isinstance(v.what, (Opaque, Tensor)) for v in options(closure)):
            return  # what is called makes a function
        node = event.place.node
        assert isinstance(node, tree.Call)
        call = node.args[0].value
        assert isinstance(call, tree.Call)
        if not query.goes_backward(called.function):
            return
        place = Place(event.place.chunk, call)
        name = repair.text(Place(event.place.chunk, call.func))
        new = f"lambda: {repair.text(place)}" if call.args else name
        known = isinstance(optimizer.cls, External) and bool(query.torch_class(optimizer))
        report(
            place,
            "`step()` is given the result of the closure",
            label="is called here, before the step",
            why="the optimizer wants to call the closure itself, and the loss that it gets cannot be called",
            help=f"pass the function: `{query.receiver(event)}.step({new})`",
            note="a `step` of your own that takes a loss is legitimate",
            fix=Fix(f"pass `{new}`", Safety.SAFE, (repair.replace(place, new),)),
            confidence=Confidence.HIGH if known else Confidence.MEDIUM,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, ClosureCalled)
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "`step()` is given the result of the closure",
            label=f"{sighting.at_step}: what it was given is a `{sighting.given}` and no function",
            why="the optimizer wants to call the closure itself, and the loss that it gets cannot be called",
            help=f"pass the function, without parentheses: `{name}.step(closure)`",
            note="a `step` of your own that takes a loss is legitimate",
        )
