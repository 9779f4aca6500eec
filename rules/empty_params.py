"""GL307: the optimizer gets no parameter at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import handed, rewritten
from gradcheck_lint.facts.freezing import frozen
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.building import NothingHeld, RefusedEmpty
from gradcheck_lint.source.events import BuildOptimizer, Step
from gradcheck_lint.source.layers import WITHOUT_PARAMETERS
from gradcheck_lint.source.natures import Optimizer, Parameters, nature
from gradcheck_lint.source.run.parts import filtered, makes_no_part, module_of
from gradcheck_lint.source.timeline import Branch
from gradcheck_lint.source.values import ClassValue, External, Items, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class EmptyParams(Rule):
    code = "GL307"
    slug = "empty-params"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (BuildOptimizer,)
    watches = (RefusedEmpty, NothingHeld)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(BuildOptimizer):
            optimizer = event.subject
            if not handed.takes_parameters(event) or handed.refused(event):
                continue
            given = handed.value(event)
            groups = handed.tables(given)
            if groups and (filled_later(optimizer) or len(groups) != len(getattr(given, "items", ()))):
                continue
            reasons = [why(timeline, event, handed_over.value) for handed_over in handed.collections(given)]
            if not reasons or not all(reasons) or (isinstance(given, Items) and not given.complete):
                continue
            stepped = any(e.concerns(optimizer) for e in timeline.events(Step))
            report(
                handed.argument(event) or event.place,
                "the optimizer gets no parameter",
                label=reasons[0],
                why="it trains nothing, and what is put into its lists later does not reach it"
                if groups
                else "torch refuses an empty list, here and now",
                help="fill the lists before the optimizer is built" if groups else "hand over what is to be trained",
                confidence=Confidence.HIGH if stepped or not groups else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        hidden = sighting.hidden if isinstance(sighting, RefusedEmpty) else ()
        if isinstance(sighting, NothingHeld) and sighting.spent:
            return  # GL305 tells of the iterator
        report(
            "an optimizer is given nothing to optimise",
            site=sighting.built,
            label=f"gets no parameters, for the layers in `{hidden[0]}` are not registered"
            if hidden
            else "gets no parameters",
            why="torch refuses that, and the program ends here"
            if isinstance(sighting, RefusedEmpty)
            else "its steps move nothing",
            help="keep the layers in an `nn.ModuleList`" if hidden else "look where the parameters should come from",
        )


def filled_later(optimizer: Thing) -> bool:
    """Whether somebody may add groups, or write into those that there are."""
    what = nature(optimizer, Optimizer)
    return what is None or bool(what.added) or what.opened or optimizer.escaped > 0


def optimizer_made(event: BuildOptimizer) -> int:
    """When an optimizer was made, in the order of all that the linter has met."""
    return event.subject.serial


def why(timeline: Timeline, event: BuildOptimizer, value: Value) -> str:
    """Why a collection of parameters is empty; "" if it may hold something."""
    found = [_why(timeline, event, option) for option in options(value)]
    return found[0] if all(found) else ""


def _why(timeline: Timeline, event: BuildOptimizer, value: Value) -> str:
    if isinstance(value, Items):
        here = value.place is not None and value.place.chunk is event.place.chunk
        if not value.complete or value.items or not (here or timeline.entry is None):
            return ""
        if not here and (rewritten.escaped(value) or rewritten.filled_elsewhere(timeline, value)):
            return ""
        return "holds nothing yet"
    if not isinstance(value, Thing) or not isinstance(value.what, Parameters):
        return ""
    if value.what.picked is not None and value.what.picked.empty:
        asked = any(isinstance(part, Branch) and part.test is not None for part, _ in timeline.path(event))
        return "" if asked else "no parameter of the model meets this"
    module = module_of(value)
    if module is None or module.core.summary or not module.core.certain:
        return ""
    if value.what.trainable and not timeline.cut:
        return "all its parameters are frozen" if not module.root.escaped and frozen(timeline, event, module) else ""
    cls = module.core.cls
    if filtered(value) or module.core.place is None or module.core.open:
        return ""
    if isinstance(cls, External):
        name = cls.name.rpartition(".")[2]
        return "this layer has no parameters" if name in WITHOUT_PARAMETERS and cls.name.startswith("torch.nn.") else ""
    if 0 < module.root.escaped < optimizer_made(event):
        return ""  # code that is not seen had it in its hands, and may have registered something
    if isinstance(cls, ClassValue) and not event.parts.get(module.serial) and makes_no_part(cls, module):
        return "its class registers neither layers nor parameters"
    return ""
