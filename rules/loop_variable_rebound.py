"""GL204: a loop over parameters assigns to its own variable, which changes no parameter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts.rebinding import body_of, copy_instead, loop_of, makes_new, used_later
from gradcheck_lint.facts.unread import read_by_name, read_inside
from gradcheck_lint.finding import Confidence, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Assign
from gradcheck_lint.source.natures import Tensor
from gradcheck_lint.source.values import Constant, Thing, Value, options, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class LoopVariableRebound(Rule):
    code = "GL204"
    slug = "loop-variable-rebound"
    severity = Severity.ERROR
    fix = Safety.SAFE
    needs = (Assign,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.source import tree

        for event in timeline.events(Assign):
            target, value = event.target, event.expression
            if not isinstance(target, tree.Name) or not _parameter(event.old):
                continue
            if isinstance(value, tree.Constant) or any(isinstance(o, Constant) for o in options(event.value)):
                continue
            if any(o is n for o in options(event.old) for n in options(event.value)):
                continue
            name, statement = target.id, event.statement.node
            loop = loop_of(body_of(timeline, event), statement, name)
            if loop is None or not makes_new(value) or used_later(timeline, event, name):
                continue
            if read_inside(timeline, event, name):
                continue
            report(
                event.statement,
                "an assignment to the variable of a loop changes no parameter",
                label=f"gives the name `{name}` a new tensor, which nobody reads",
                why=f"the parameter that `{name}` stood for keeps its value",
                help=f"write into it, under `torch.no_grad()`: `{name}.copy_(...)`",
                fix=copy_instead(timeline, event, target, value, Safety.SAFE),
                confidence=Confidence.MEDIUM if read_by_name(timeline, event) else Confidence.HIGH,
            )


_PARAMETERS = re.compile(r"(?i)(^|_)param(s|eters?|_list|_groups?)?$")


def _parameter(old: Value | None) -> bool:
    """Whether what the name stood for is (on some path) a parameter that a loop gave it."""
    return any(_of_parameters(thing) for thing in things(old))


def _of_parameters(thing: Thing) -> bool:
    if isinstance(thing.what, Tensor):
        return thing.what.element_of is not None or bool(thing.what.leaf and thing.what.grad)
    source = thing.parent
    return thing.summary and source is not None and source[1] == "[]" and bool(_PARAMETERS.search(source[0].label))
