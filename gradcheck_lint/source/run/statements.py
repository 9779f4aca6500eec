"""Statements of one line: expressions, `return`, `raise`, `break`, `assert`."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import NONE, External


def do_evaluate(machine: Machine, node: tree.Evaluate) -> bool:
    value = machine.eval(node.value)
    if isinstance(node.value, tree.Call):
        return isinstance(value, External) and value.name == "builtins.NoReturn"
    if not isinstance(node.value, tree.Constant):
        machine.emit(node.value, ev.Evaluate(value=value, expression=node.value))
    return False


def do_return(machine: Machine, node: tree.Return) -> bool:
    value = machine.eval(node.value) if node.value is not None else NONE
    machine.frame.returns.append(value)
    if machine.frame.function is not None and node.value is not None:
        machine.emit(node, ev.Return(value=value))
    machine.sequence.steps.append(tl.Jump(tree.Exit.RETURN, machine.place(node)))
    return True


def do_raise(machine: Machine, node: tree.Raise) -> bool:
    if node.value is not None:
        machine.eval(node.value)
    machine.sequence.steps.append(tl.Jump(tree.Exit.RAISE, machine.place(node)))
    return True


def do_jump(machine: Machine, node: tree.Jump) -> bool:
    machine.sequence.steps.append(tl.Jump(node.kind, machine.place(node)))
    return True


def do_assert(machine: Machine, node: tree.Assert) -> bool:
    machine.eval(node.test)
    return False
