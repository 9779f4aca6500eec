"""Functions and classes that the code defines."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.run import decorated, shape
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import ClassValue, FunctionValue, Value


def do_function(machine: Machine, node: tree.Function) -> bool:
    value = _function_value(machine, node)
    for parameter in node.parameters:
        for part in (parameter.default, parameter.annotation):
            if part is not None and any(isinstance(n, tree.Call) for n in part.walk()):
                machine.eval(part)
    decorated.wrap(machine, value)
    machine.set(machine.frame.serial, node.name, value)
    return False


def _function_value(machine: Machine, node: tree.Function, owner: ClassValue | None = None) -> FunctionValue:
    machine.chunk_of[id(node)] = machine.frame.chunk
    machine.frame.captured = True
    value = FunctionValue(node, machine.frame.home, machine.frame.serial, owner)
    value.chunk = machine.frame.chunk
    if (owner is None and len(machine.frames) > 1) or node.name == "<lambda>":
        machine.spotted.note(value)
    return value


def do_class(machine: Machine, node: tree.Class) -> bool:
    bases = [machine.eval(b) for b in node.bases]
    cls = ClassValue(node, machine.frame.home, machine.frame.serial, bases)
    machine.frame.captured = True
    for keyword in node.keywords:
        if keyword.keyword == "metaclass":
            cls.metaclass = machine.eval(keyword.value)
    machine.set(machine.frame.serial, node.name, cls)
    machine.classes.append(cls)
    for base in cls.lineage():
        if isinstance(base, ClassValue) and base is not cls:
            machine.children.setdefault(base.serial, []).append(cls)
    certain = {id(statement) for statement in node.body}
    for statement in shape.flat(node.body):
        if isinstance(statement, tree.Function):
            function = _function_value(machine, statement, cls)
            decorated.wrap(machine, function)
            name = statement.name
            if name in cls.members and shape.method_kind(statement) == "setter":
                name = f"__{name}.{tree.last_name(statement.decorators[0])}__"  # called by an assignment or `del`
            old = cls.members.get(name) if id(statement) not in certain else None
            cls.members[name] = function if old is None else join(old, function)
        elif isinstance(statement, tree.Assign) and statement.value is not None:
            for target in statement.targets:
                if isinstance(target, tree.Name):
                    cls.members[target.id] = machine.eval(statement.value)
        elif isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Call):
            machine.eval(statement.value)
        elif isinstance(statement, tree.Class):
            do_class(machine, statement)
            inner = machine.get(machine.frame.serial, statement.name)
            if inner is not None:
                cls.members[statement.name] = inner
    made = decorated.wrap_class(machine, cls)
    if made is not cls:
        machine.set(machine.frame.serial, node.name, made)
    return False


def eval_lambda(machine: Machine, node: tree.Lambda) -> Value:
    return _function_value(machine, node.function)
