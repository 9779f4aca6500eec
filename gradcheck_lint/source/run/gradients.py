"""What is done to gradients other than by backward: cleared, overwritten, changed, handed to other code."""

from __future__ import annotations

import re

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Data, Grad, Group, GroupParams, Groups, Parameters, element_of
from gradcheck_lint.source.run.holdings import held
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Constant, Thing, Value


def zero_grad_of(machine: Machine, grad: Thing, node: tree.Node, how: str) -> None:
    """The gradient `grad` is cleared in place."""
    if grad.parent is not None:
        zero_tensor(machine, grad.parent[0], node, how)


def change_grad(machine: Machine, grad: Thing, node: tree.Node) -> None:
    """The gradient `grad` is changed in place, or by code that cannot be seen."""
    machine.emit(node, ev.GradChange(owner_of(grad)))


def overwrite_grad(machine: Machine, grad: Thing, node: tree.Node, value: Value | None) -> None:
    """The gradient `grad` gets other values in place, and nothing of those that it had is left."""
    if value is not None and is_zero(value):
        zero_grad_of(machine, grad, node, "grad.zero_()")
    else:
        machine.emit(node, ev.GradWrite(owner_of(grad), value=value))


def zero_tensor(machine: Machine, thing: Thing, node: tree.Node, how: str) -> None:
    while isinstance(thing.what, (Grad, Data)) and thing.parent is not None:
        thing = thing.parent[0]
    machine.emit(node, ev.Zero(owner_of(thing), how=how))


def owner_of(thing: Thing) -> Thing:
    """Whose gradient it is: the module or optimizer whose parameters are looped over, or the tensor itself."""
    source = thing
    for _ in range(12):
        inner = source.what.of if isinstance(source.what, Parameters) else element_of(source)
        if inner is not None:
            source = inner
        elif isinstance(source.what, (GroupParams, Group, Groups, Grad, Data)) and source.parent is not None:
            source = source.parent[0]
        else:
            break
    return source


def is_zero(value: Value) -> bool:
    return isinstance(value, Constant) and value.value == 0 and not isinstance(value.value, bool)


_OVERWRITES = re.compile(
    r"^out=$|^torch\.nn\.init\.|^torch\._foreach_(?:copy|zero)_$"
    r"|^torch\.distributed\.\w*(?:broadcast|recv|scatter|gather)"
)
"""Functions of torch after which nothing is left of the values that the gradients had which they are handed."""


def change_grads(machine: Machine, value: Value, node: tree.Call, name: str = "") -> None:
    """Gradients are handed to a function of torch, or to code that cannot be seen, which may fill them."""
    if not machine.graded:
        return
    for thing in held(machine, value).things.values():
        if not isinstance(thing.what, Grad):
            continue
        if name.endswith(("zero_", "zeros_")):
            zero_grad_of(machine, thing, node, name)
        elif _OVERWRITES.search(name):
            overwrite_grad(machine, thing, node, None)
        else:
            change_grad(machine, thing, node)
