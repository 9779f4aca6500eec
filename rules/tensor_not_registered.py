"""GL309: a trainable tensor of a module is not one of its parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.tensor_use import trained_there
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.holding import TensorUnregistered
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import SetAttribute
from gradcheck_lint.source.natures import Module, Tensor, made_by, nature, source_of
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import FunctionValue, Items, Thing, Value, only, things

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

_OWN = re.compile(r"def (?:named_)?(?:parameters|children|modules)\(|def (?:_apply|state_dict)\(")
_PLAIN = r"self\.\w+\s*(?::[^=\n]+)?=[^\n]*(?:requires_grad\s*=\s*True|\.requires_grad_\()"
_DERIVED = r"self\.\w+\s*(?::[^=\n]+)?=\s*(?:[\[(]\s*)?(?:\w+\.)*Parameter\([^\n]*\)\s*(?:[*/+-]|\.\w|for\b|\])"
_EARLY = (
    r"def __init__\([^)]*\)[^\n]*:\n(?:[^\n]*\n){0,4}?\s*self\.\w+\s*=[^\n]*\n"
    r"(?:[^\n]*\n){0,4}?\s*(?:super\(|nn\.Module\.)"
)


class TensorNotRegistered(Rule):
    code = "GL309"
    slug = "tensor-not-registered"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    watches = (TensorUnregistered,)
    triggers = f"{_PLAIN}|{_DERIVED}|{_EARLY}"

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        init = facts.method_text("__init__")
        early = _early(init)
        if not early and not re.search(_PLAIN, init) and not re.search(_DERIVED, init):
            return
        if not facts.is_module or _OWN.search(facts.inherited):
            return
        events = [e for e in facts.made.events(SetAttribute) if e.concerns(facts.instance)]
        if early:
            self.before_super(facts, events, report)
        last = {e.attr: e for e in events}
        registered = [e.value for e in last.values()]
        others = any(isinstance(t.what, Module) or made_by(t) == "Parameter" for v in registered for t in things(v))
        for name, event in last.items():
            found = _trained(event.value)
            if not found or any(v is t for v in registered for t in found if made_by(t) == "Parameter"):
                continue
            if _used_elsewhere(facts, name):
                continue
            report(
                event.place,
                "a trainable tensor is not registered with its module",
                label=f"`{name}` is an attribute of `{facts.name}`, not one of its parameters",
                why=f"`parameters()`, `to()` and `state_dict()` leave `{name}` out, so that no optimizer ever moves it",
                help=f"make `self.{name}` an `nn.Parameter`, or a buffer if it should not learn",
                fix=_register(facts, event),
                # a module that registers nothing at all gives an optimizer nothing, which is told by torch
                confidence=Confidence.HIGH if others else Confidence.MEDIUM,
            )

    def before_super(self, facts: ClassFacts, events: list[SetAttribute], report: Report) -> None:
        """A parameter or layer that is assigned before `super().__init__()` has run."""
        member = facts.cls.members.get("__init__") if facts.cls is not None else None
        if not isinstance(member, FunctionValue) or not facts.cls or not facts.cls.closed:
            return
        body = member.function.body
        upward = next((s for s in body if _calls_super(s)), None)
        if upward is None:
            return
        for event in events:
            statement = event.statement.node
            if statement not in body or body.index(statement) > body.index(upward):
                continue
            value = only(event.value)
            if value is None or not value.certain:
                continue
            if not isinstance(value.what, Module) and made_by(value) != "Parameter":
                continue
            name = event.attr
            here = repair.stand(event.statement)
            first = repair.stand(Place(event.place.chunk, upward))
            report(
                event.place,
                "a parameter or layer is assigned before the module is initialised",
                label=f"`{name}` is assigned before `super().__init__()` has run",
                why="the module has nowhere to register it yet, and raises an AttributeError",
                help="call `super().__init__()` first",
                fix=Fix("call `super().__init__()` first", Safety.UNSAFE, repair.move_before(first, here))
                if here is not None and first is not None and here.beside(first)
                else None,
            )
            return

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, TensorUnregistered)
        name = sighting.attribute
        report(
            "a trainable tensor is not registered with its module",
            site=sighting.made or sighting.built,
            label=f"`{name}` is not among the parameters that the optimizer is given",
            why=f"`{name}` got gradients in every backward, and no optimizer moves it",
            help=f"make `self.{name}` an `nn.Parameter`, or a buffer if it should not learn",
            related=[("the optimizer is built here", sighting.built), ("steps here", sighting.site)],
            confidence=Confidence.MEDIUM if sighting.wanted else Confidence.HIGH,
            subject=name,
        )


def _early(init: str) -> bool:
    """Whether something is assigned to `self` before `super().__init__()`."""
    upward = re.search(r"super\([^)]*\)\.__init__|Module\.__init__", init)
    return upward is not None and re.search(r"^\s*self\.\w+\s*=", init[: upward.start()], re.MULTILINE) is not None


def _calls_super(statement: tree.Statement) -> bool:
    call = statement.value if isinstance(statement, tree.Evaluate) else None
    return (
        isinstance(call, tree.Call)
        and isinstance(call.func, tree.Attribute)
        and call.func.attr == "__init__"
        and tree.last_name(call.func.value) in ("super", "Module")
    )


def _trained(value: Value) -> list[Thing]:
    """The tensors of an attribute that are to be trained and that a module does not register."""
    if isinstance(value, Items):
        parts = [only(item, Tensor) for item in value.items]
        found = [p for p in parts if p is not None and made_by(p) == "Parameter"]
        listed = value.kind is tree.Container.LIST or value.kind is tree.Container.TUPLE
        return found if listed and len(found) == len(parts) else []
    tensor = only(value, Tensor)
    known = nature(tensor, Tensor)
    if tensor is None or known is None or known.grad is not True or known.element_of is not None:
        return []
    if known.leaf:
        return [tensor] if known.made_by not in ("", "Parameter", "detach") else []
    origin, source = tensor, known.source
    while source is not None:
        origin, source = source, source_of(source)
    return [tensor, origin] if made_by(origin) == "Parameter" else []


def _used_elsewhere(facts: ClassFacts, name: str) -> bool:
    """Whether code beside `__init__` and `forward` speaks of the attribute: it may be what trains it."""
    mention = re.compile(rf"\.{name}\b")
    for definition in facts.definitions:
        text = definition.text
        if definition.name.startswith("forward") or definition.name == "__call__":
            if re.search(rf"self\.{name}(?:\.data)?\s*[-+*/]?=(?!=)|self\.{name}\.(?:data|grad|detach)\b", text):
                return True
        elif definition.name != "__init__" and mention.search(text):
            member = facts.cls.members.get(definition.name) if facts.cls is not None else None
            if not isinstance(member, FunctionValue) or trained_there(member.function, name):
                return True
    init = facts.cls.members.get("__init__") if facts.cls is not None else None
    if len(mention.findall(facts.method_text("__init__"))) > 1 and (
        not isinstance(init, FunctionValue) or _assigned_again(init.function, name)
    ):
        return True
    own = len(mention.findall(facts.text))
    # in another class, `self` is an object of that class
    others = sum(len(re.findall(rf"(?<!\bself)\.{name}\b", text)) for text in facts.elsewhere())
    inside = len(re.findall(rf"(?<!\bself)\.{name}\b", facts.text))
    return others > inside + _harmless(facts, name) or (bool(facts.derived) and own < _in_lines_of_self(facts, mention))


def _in_lines_of_self(facts: ClassFacts, mention: re.Pattern[str]) -> int:
    """How often all that can speak of the attribute does: a class that derives from this one says `self` too."""
    return sum(len(mention.findall(text)) for text in facts.elsewhere())


def _assigned_again(init: tree.Function, name: str) -> bool:
    """Whether the constructor does more with the attribute than to make it, to read it and to initialise it."""
    rest = [s for s in init.body if not (isinstance(s, tree.Assign) and any(_is_own(t, name) for t in s.targets))]
    made = len(init.body) - len(rest)
    return made != 1 or trained_there(tree.Function(init.at, init.name, init.parameters, [], rest), name)


def _is_own(target: tree.Expression, name: str) -> bool:
    return tree.dotted(target) == f"self.{name}"


def _harmless(facts: ClassFacts, name: str) -> int:
    """Mentions outside the class that only read: `before = model.scale`, `print(model.scale)`."""
    reads = re.compile(rf"(?m)^[ \t]*\w+ = [\w.]+\.{name}(?:\[\d+\])?(?:\.detach\(\)\.clone\(\))?[ \t]*$")
    return sum(len(reads.findall(text)) for text in facts.elsewhere())


def _register(facts: ClassFacts, event: SetAttribute) -> Fix | None:
    source, chunk = event.source, event.place.chunk
    parameter = facts.spelled("torch.nn.Parameter")
    if parameter is None or not isinstance(source, tree.Expression):
        return None
    place = Place(chunk, source)
    title = f"make `self.{event.attr}` a parameter"
    if isinstance(source, (tree.Display, tree.Comprehension)):
        listed = facts.spelled("torch.nn.ParameterList")
        return Fix(title, Safety.UNSAFE, repair.enclose(place, f"{listed}(", ")")) if listed else None
    if not isinstance(source, tree.Call):
        return None
    span = place.span
    if isinstance(source.func, tree.Attribute) and source.func.attr == "requires_grad_" and not source.args:
        inner = Place(chunk, source.func.value).span
        return Fix(
            title,
            Safety.UNSAFE,
            (
                Edit(Span(span.path, span.line, span.column, span.line, span.column), f"{parameter}("),
                Edit(Span(span.path, inner.end_line, inner.end_column, span.end_line, span.end_column), ")"),
            ),
        )
    flag = source.args[-1] if source.args else None
    if flag is None or flag.keyword != "requires_grad" or len(source.args) < 2:
        return None
    before, after = Place(chunk, source.args[-2].value).span, Place(chunk, flag.value).span
    drop = Edit(Span(span.path, before.end_line, before.end_column, after.end_line, after.end_column), "")
    if tree.last_name(source.func) == "Variable":
        return Fix(title, Safety.UNSAFE, (repair.replace(Place(chunk, source.func), parameter), drop))
    return Fix(title, Safety.UNSAFE, (*repair.enclose(place, f"{parameter}(", ")"), drop))
