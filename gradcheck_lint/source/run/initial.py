"""Calls that give the parameters of a module their first values, which matters once a state was loaded into it."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.layers import LEARNING
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import FunctionValue, Value, only


def called(machine: Machine, target: FunctionValue, args: Arguments, node: tree.Call) -> None:
    """Tell of a method, or of a function that is given a module first, which initialises what it finds there."""
    receiver = target.receiver
    if receiver is None:
        receiver = args.positional[0] if args.positional else None
    module = only(receiver, Module)
    if module is None:
        return
    found = values_given(machine, target)
    if found:
        machine.emit(node, ev.Initialise(module, found))


def values_given(machine: Machine, function: Value) -> frozenset[str]:
    """The attributes of its first parameter that a function initialises, "*" for all: on each path, by its text."""
    if not isinstance(function, FunctionValue) or not function.function.parameters:
        return frozenset()
    known = machine.first_values.get(id(function.function))
    if known is None:
        known = machine.first_values[id(function.function)] = _initialised(function.function)
    return known


def _initialised(function: tree.Function) -> frozenset[str]:
    first = function.parameters[0].name
    found: set[str] = set()
    for statement in function.body:
        if isinstance(statement, tree.For):
            if _walks(statement.iter, first) and _draws_all(statement.body):
                found.add("*")
        elif isinstance(statement, tree.Evaluate):
            found |= _by_call(statement.value, first)
        elif isinstance(statement, tree.If) and _is_kind(statement.test) and _draws_all([statement]):
            found.add("*")  # by the kind of layer, for `apply`
    return frozenset(found)


def _by_call(node: tree.Expression, first: str) -> set[str]:
    """What one call initialises."""
    if not isinstance(node, tree.Call):
        return set()
    name = tree.dotted(node.func)
    if name == f"{first}.apply":
        return {"*"}
    if not _draws(node):
        return set()
    given = node.args[0].value if node.args and not name.startswith(f"{first}.") else node.func
    below = tree.dotted(given).removeprefix(f"{first}.")
    return {below.partition(".")[0]} if tree.dotted(given).startswith(f"{first}.") and "." in below else set()


def _draws(node: tree.Node) -> bool:
    """Whether a call draws values: of `torch.nn.init`, or `reset_parameters()` of a layer."""
    if not isinstance(node, tree.Call):
        return False
    name, last = tree.dotted(node.func), tree.last_name(node.func)
    if last == "reset_parameters":
        return True
    return last in _DRAWING and ("init." in name or ".weight" in name or ".data" in name or name == last)


_DRAWING = frozenset(
    "uniform_ normal_ trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_ kaiming_normal_ orthogonal_".split()
)
"""What gives a tensor random values."""


def _walks(iterable: tree.Expression, first: str) -> bool:
    """Whether a loop goes over all modules or parameters of something."""
    if not isinstance(iterable, tree.Call) or not isinstance(iterable.func, tree.Attribute):
        return False
    every = ("modules", "named_modules", "parameters", "named_parameters")
    return iterable.func.attr in every and tree.dotted(iterable.func.value) == first and not iterable.args


def _draws_all(body: tree.Block) -> bool:
    """Whether statements draw values for each layer of a kind, or each matrix: not for those of some names."""
    for statement in body:
        if isinstance(statement, tree.Evaluate) and _draws(statement.value):
            return True
        if isinstance(statement, tree.If) and _is_kind(statement.test) and _draws_all(statement.body):
            return True
    return False


def _is_kind(test: tree.Expression) -> bool:
    """Whether a test asks for a kind of layer of torch that has weights, or for the number of dimensions."""
    if isinstance(test, tree.Operation):
        return len(test.operands) == 2 and any(tree.last_name(part) in ("dim", "ndim") for part in test.operands)
    if not isinstance(test, tree.Call) or tree.dotted(test.func) != "isinstance" or len(test.args) != 2:
        return False
    return any(
        tree.last_name(node) in LEARNING for node in test.args[1].value.walk() if isinstance(node, tree.Expression)
    )
