"""GL302: the optimizer gets something that is not a collection of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts import handed, query, repair
from gradcheck_lint.facts.evidence import used_as_module
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import AddGroup
from gradcheck_lint.source.natures import Module, Opaque, Parameters, StateDict, Tensor
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, Items, Table, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.finding import Edit
    from gradcheck_lint.source.timeline import Timeline


class Mistaken(NamedTuple):
    """What is handed over by mistake, and how it becomes what was meant."""

    what: str
    edits: tuple[Edit, ...]


class BareTensorParams(Rule):
    code = "GL302"
    slug = "bare-tensor-params"
    severity = Severity.ERROR
    fix = Safety.SAFE
    needs = handed.KINDS

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(*handed.KINDS):
            self.judge(timeline, event, report)

    def judge(self, timeline: Timeline, event: handed.Handing, report: Report) -> None:
        written = handed.argument(event)
        if written is None or not handed.takes_parameters(event) or handed.refused(event):
            return
        if not all(isinstance(o, Thing) and query.torch_class(o) for o in options(event.subject)):
            return  # another optimizer may well want it
        values = options(handed.value(event))
        found = [mistaken(o, written, isinstance(event, AddGroup)) for o in values]
        if len(values) == 1 and found == [None] and isinstance(values[0], Thing):
            if isinstance(written.node, tree.Name) and used_as_module(timeline, event, values[0]):
                found = [Mistaken("a module", (repair.append(written, ".parameters()"),))]
        first = next((f for f in found if f is not None), None)
        if first is None:
            return
        report(
            written,
            f"the optimizer gets {first.what}",
            label="is no collection of parameters",
            why="torch refuses it, after all that comes before this line has been done",
            help="hand over a list of tensors, `parameters()` of a module, or a list of groups",
            fix=Fix("hand over the parameters themselves", Safety.SAFE, first.edits) if first.edits else None,
            confidence=Confidence.HIGH if all(found) else Confidence.MEDIUM,
        )


def mistaken(value: Value, written: Place, added: bool) -> Mistaken | None:
    """What is wrong with one value that stands for a collection of parameters or for groups; None if nothing is."""
    if added:
        if isinstance(value, Items) or (isinstance(value, Thing) and isinstance(value.what, Parameters)):
            return Mistaken("parameters that are no group", tuple(repair.enclose(written, '{"params": ', "}")))
    elif isinstance(value, Table) and "params" in value.entries:
        return Mistaken("one group without a list around it", tuple(repair.enclose(written, "[", "]")))
    elif isinstance(value, Thing) and isinstance(value.what, Tensor):
        return Mistaken("one bare tensor", tuple(repair.enclose(written, "[", "]")))
    elif isinstance(value, Thing) and isinstance(value.what, StateDict):
        return Mistaken("a dictionary of names and tensors", parameters_instead(written))
    for group in handed.tables(value):
        for name, node in entries(group):
            if name == "params":
                inner = not_called(group.entries["params"], node) or nested(group.entries["params"], node)
                if inner is not None:
                    return inner
    return not_called(value, written) or nested(value, written)


def not_called(value: Value, written: Place) -> Mistaken | None:
    """A module, or its method `parameters`."""
    if not isinstance(value, Thing):
        return None
    if is_module(value):
        return Mistaken("a module", (repair.append(written, ".parameters()"),) if simple(written) else ())
    owner, attribute = value.parent if value.parent is not None else (value, "")
    if isinstance(value.what, Opaque) and attribute == "parameters" and is_module(owner):
        return Mistaken("a method that is not called", (repair.append(written, "()"),) if simple(written) else ())
    return None


def nested(value: Value, written: Place) -> Mistaken | None:
    """A list that holds collections of parameters, or modules, where it should hold their elements."""
    if not isinstance(value, Items):
        return None
    found = [i for i in value.items if isinstance(i, Thing) and (isinstance(i.what, Parameters) or is_module(i))]
    if not found:
        return None
    edits: list[Edit] = []
    if isinstance(written.node, tree.Display) and len(written.node.items) == len(value.items):
        for item, node in zip(value.items, written.node.items, strict=True):
            if isinstance(item, Thing) and item in found:
                place = Place(written.chunk, node)
                if not simple(place):
                    return Mistaken("a list of collections", ())
                edits += repair.enclose(place, "*", "" if isinstance(item.what, Parameters) else ".parameters()")
    return Mistaken("a list of collections", tuple(edits))


def entries(group: Table) -> list[tuple[str, Place]]:
    """The entries of a group, where it is written down as a display."""
    if group.place is None or not isinstance(group.place.node, tree.Dict):
        return []
    found = []
    for key, value in group.place.node.pairs:
        if isinstance(key, tree.Constant) and isinstance(key.value, str):
            found.append((key.value, Place(group.place.chunk, value)))
    return found


def is_module(thing: Thing) -> bool:
    """Whether it is a module for certain, and not one that gives its parameters when it is looped over."""
    if not isinstance(thing.what, Module) or not thing.core.certain:
        return False
    cls = thing.core.cls
    if isinstance(cls, ClassValue):
        return cls.member("__iter__") is None and not cls.derives("ParameterList", "ParameterDict")
    return True


def simple(place: Place) -> bool:
    """Whether text can be put behind an expression without brackets around it."""
    return isinstance(place.node, (tree.Name, tree.Attribute, tree.Call, tree.Subscript))


def parameters_instead(written: Place) -> tuple[Edit, ...]:
    """`model.state_dict()` becomes `model.parameters()`."""
    node = written.node
    if not isinstance(node, tree.Call) or not isinstance(node.func, tree.Attribute) or node.args:
        return ()
    base = repair.text(Place(written.chunk, node.func.value))
    return (repair.replace(written, f"{base}.parameters()"),)
