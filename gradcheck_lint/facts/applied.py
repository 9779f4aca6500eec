"""Where the project applies an autograd Function, and which of the inputs are parameters of a module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.bindings import nodes
from gradcheck_lint.facts.classes import ClassFacts, class_facts, resolved
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Tensor, made_by, requires_grad
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.source.outline import Definition
    from gradcheck_lint.source.project import Module
    from gradcheck_lint.source.run.machine import Machine

_LAYER = re.compile(
    r"torch\.nn\.(?:Linear|Bilinear|Conv[123]d|ConvTranspose[123]d|BatchNorm[123]d|LayerNorm|GroupNorm|Embedding)"
)
_SETTLED = re.compile(r"requires_grad|freeze|frozen|no_grad")


class Applied(NamedTuple):
    """A call in a function of the project; `owner` is the class whose method that is."""

    call: tree.Call
    function: FunctionValue
    owner: ClassValue | None

    @property
    def place(self) -> Place:
        return self.function.place(self.call)


def applied(facts: ClassFacts) -> Iterator[Applied]:
    """The calls of `Name.apply(…)`, in the functions of those files that say the name."""
    machine, method = facts.machine, f"{facts.name}.apply"
    for module in list(machine.project.modules.values()):
        if module is None or method not in module.text:
            continue
        scope = machine.namespace(module)
        if resolved(machine, scope, facts.name) is not facts.cls:
            continue
        spend(1 + len(module.text) // 100)
        names = {method, *re.findall(rf"(?m)^(\w+)\s*=\s*{re.escape(method)}\s*$", module.text)}
        for definition in module.outline.definitions:
            if not any(f"{name}(" in definition.text for name in names):
                continue
            function = function_of(machine, module, definition)
            for node in nodes(function.function) if function is not None else ():
                if isinstance(node, tree.Call) and tree.dotted(node.func) in names and function is not None:
                    yield Applied(node, function, function.owner)


def mistaken(facts: ClassFacts, inputs: int, context: bool) -> Iterator[tuple[Applied, bool]]:
    """The calls that mean `Name.apply(…)`: those of an object of the class (True), and `forward` without a context."""
    machine, name = facts.machine, facts.name
    wanted = re.compile(rf"\b{re.escape(name)}(?:\([^()\n]*\)(?:\.forward)?|\.forward)\(")
    for module in list(machine.project.modules.values()):
        if module is None or not wanted.search(module.text):
            continue
        if resolved(machine, machine.namespace(module), name) is not facts.cls:
            continue
        for definition in module.outline.definitions:
            function = function_of(machine, module, definition) if wanted.search(definition.text) else None
            for node in nodes(function.function) if function is not None else ():
                if not isinstance(node, tree.Call) or function is None:
                    continue
                func = node.func
                by_name = isinstance(func, tree.Attribute) and func.attr == "forward"
                of = func.value if isinstance(func, tree.Attribute) and by_name else func
                if isinstance(of, tree.Call) and tree.dotted(of.func) == name and not by_name:
                    yield Applied(node, function, function.owner), True
                elif by_name and tree.dotted(of) == name and context and len(node.args) == inputs:
                    if not any(argument.star or argument.keyword for argument in node.args):
                        yield Applied(node, function, function.owner), False


def function_of(machine: Machine, module: Module, definition: Definition) -> FunctionValue | None:
    """The function that a definition binds, if it can still be reached by its name."""
    first, *rest = definition.qualname.split(".")
    value: Value | None = machine.get(machine.namespace(module), first)
    for part in rest:
        value = value.members.get(part) if isinstance(value, ClassValue) else None
    if not isinstance(value, FunctionValue):
        return None
    return value if machine.project.definition_of.get(id(value.function), (None, None))[1] is definition else None


def trained(machine: Machine, owner: ClassValue, attr: str) -> bool:
    """Whether an attribute of a module is a parameter that is to be trained, and nothing near it says otherwise."""
    found = next((f for f in class_facts(machine, owner.home) if f.cls is owner), None)
    if found is None or not found.is_module or _SETTLED.search(found.inherited):
        return False
    if any(re.search(rf"\.{re.escape(attr)}\.requires_grad", text) for text in found.elsewhere()):
        return False
    value = found.attribute(attr)
    if value is None:
        layer = any(isinstance(v, External) and _LAYER.fullmatch(v.name) for v in found.lineage)
        return layer and attr in ("weight", "bias")
    kinds = list(options(value))
    parameters = [o for o in kinds if made_by(o) == "Parameter" and requires_grad(o) is True]
    tensors = [o for o in kinds if isinstance(getattr(o, "what", None), Tensor)]
    return bool(parameters) and len(parameters) == len(tensors)
