"""GL311: `requires_grad` is assigned to a module, which freezes nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import gradflag
from gradcheck_lint.facts.evidence import used_as_module
from gradcheck_lint.facts.repair import replace
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.mode import RequiresGradAttribute
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import SetAttribute
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, options

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

_LAYER = re.compile(r"(?:torch\.)?nn\.(?!Parameter)[A-Z]\w*")


class ModuleRequiresGradAttribute(Rule):
    code = "GL311"
    slug = "module-requires-grad-attribute"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (SetAttribute,)
    watches = (RequiresGradAttribute,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(SetAttribute):
            if event.attr != "requires_grad" or "try" in event.context:
                continue
            if gradflag.told_apart(timeline, event):
                continue
            kinds = [_module(timeline, event, option) for option in options(event.subject)]
            if not kinds or not all(kinds):
                continue
            sure = all(kind is not None and kind.certain for kind in kinds)
            sure = sure and not gradflag.flag_of_modules_read(timeline)
            report(
                event.statement,
                "`requires_grad` is assigned to a module",
                label="makes an attribute of the module that nothing reads",
                why="the flag belongs to each parameter, and they go on as before",
                help="call the module's `requires_grad_(...)`, which sets it on all of its parameters",
                fix=_called(event) if sure else None,
                confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, RequiresGradAttribute)
        name, value, number = sighting.names[0], sighting.value, sighting.number
        report(
            "`requires_grad` is assigned to a module",
            site=sighting.made,
            label=f"{sighting.at_step}: `{name}.requires_grad` was {value}, and its {number} parameters were not asked",
            why=f"the flag belongs to each parameter, and they {'stay frozen' if value else 'got gradients'}",
            help=f"call `{name}.requires_grad_({value})`, which sets it on all of its parameters",
            related=[("the optimizer was built here", sighting.built)],
            subject=name,
        )


def _module(timeline: Timeline, event: Event, value: object) -> gradflag.Kind | None:
    """What a module is; None for anything else, and for a class that has the attribute for itself."""
    if not isinstance(value, Thing) or gradflag.has_own(timeline, value, "requires_grad"):
        return None
    found = gradflag.kind(value)
    if (found is None or not found.certain) and (_layer(value) or used_as_module(timeline, event, value)):
        return gradflag.Kind(Module, True)
    return found if found is not None and found.what is Module else None


def _layer(thing: Thing) -> bool:
    """Whether it is an attribute that a class of the project makes a layer of torch in its `__init__`."""
    above, attribute = thing.parent if thing.parent is not None else (thing, "")
    init = above.cls.member("__init__") if isinstance(above.cls, ClassValue) else None
    if not isinstance(init, FunctionValue):
        return False
    made = [
        tree.dotted(s.value.func)
        for s in init.function.body
        if isinstance(s, tree.Assign)
        and isinstance(s.value, tree.Call)
        and tree.dotted(s.targets[0]) == f"self.{attribute}"
    ]
    return len(made) == 1 and _LAYER.fullmatch(made[0]) is not None


def _called(event: Event) -> Fix | None:
    found = gradflag.called(event)
    return Fix("call `requires_grad_`", Safety.SAFE, (replace(*found),)) if found is not None else None
