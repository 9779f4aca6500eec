"""What names and attributes stand for, and what an import binds."""

from __future__ import annotations

import builtins

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.natures import Data, Grad, Groups, Opaque, Optimizer, Parameters, Super, Tensor
from gradcheck_lint.source.project import Module
from gradcheck_lint.source.run import access, objects, shape, tensors
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.lazy import Lazy
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    ModuleValue,
    Partial,
    Table,
    Thing,
    Value,
    options,
    things,
)


def do_import(machine: Machine, node: tree.Import) -> bool:
    home = machine.frame.home
    scope = machine.frame.serial
    if node.module is None:
        for name, bound in node.names:
            module = machine.project.resolve(home, name, 0)
            if bound:
                full = machine.project.name_outside(home, name, 0)
                value: Value = ModuleValue(module) if module else External(torch_api.canonical(full))
                machine.set(scope, bound, value)
            else:
                head = name.partition(".")[0]
                top = machine.project.resolve(home, head, 0)
                machine.set(scope, head, ModuleValue(top) if top else External(head))
        return False
    module = machine.project.resolve(home, node.module, node.level)
    for name, bound in node.names:
        if name == "*":
            if module is not None:
                _import_star(machine, module, scope)
            elif node.module.startswith("torch"):
                machine.stars[home.path] = node.module
            continue
        found: Value | None = None
        if module is not None:
            sub = machine.project.resolve(module, name, 1) if module.file.real and _is_package(module) else None
            found = Lazy(machine, module, name, sub)
        else:
            sub = machine.project.resolve(home, f"{node.module}.{name}" if node.module else name, node.level)
            full = machine.project.name_outside(home, node.module, node.level)
            found = ModuleValue(sub) if sub else External(torch_api.canonical(f"{full}.{name}"))
        machine.set(scope, bound or name, found)
    return False


def _import_star(machine: Machine, module: Module, scope: int) -> None:
    other = machine.namespace(module)
    for name in list(machine.globals.get(other, ())):
        value = machine.get(other, name)
        if value is not None and not name.startswith("_"):
            machine.set(scope, name, value)


def do_scope(machine: Machine, node: tree.Scope) -> bool:
    if node.of_module:
        machine.frame.globals.update(node.names)
    return False


def widen(machine: Machine, body: tree.Block) -> None:
    """Forget the constants that a loop changes: `first = True` before it is not so in every round."""
    names = machine.assigned.get(id(body))
    if names is None:
        names = machine.assigned[id(body)] = shape.assigned(body)
    for name in names:
        scope = machine.frame.serial
        if isinstance(machine.get(scope, name), Constant):
            machine.set(scope, name, Thing(Opaque(), name, certain=False))


def eval_name(machine: Machine, node: tree.Name) -> Value:
    return _lookup(machine, node.id, node)


def _lookup(machine: Machine, name: str, node: tree.Node) -> Value:
    frame, store = machine.frames[-1], machine.store
    scope: int | None = frame.serial
    if name in frame.globals:
        scope = machine.namespace(frame.home)
    while scope is not None:
        value = store.get((scope, name))
        if value is not None:
            if type(value) is Thing:  # most are
                return value
            if isinstance(value, Lazy):
                value = value.force()
                machine.store[(scope, name)] = value
            if isinstance(value, (FunctionValue, ClassValue)):
                machine.spotted.note(value)
            return value
        scope = machine.parents.get(scope)
    if name in _BUILTINS:
        return External(f"builtins.{name}")
    star = machine.stars.get(machine.frame.home.path)
    if star is not None:
        return External(torch_api.canonical(f"{star}.{name}"))
    thing = Thing(Opaque(), name, machine.place(node), certain=False)
    objects.guess(thing)
    machine.set(machine.frame.serial, name, thing)
    return thing


def eval_attribute(machine: Machine, node: tree.Attribute) -> Value:
    base = machine.eval(node.value)
    if type(base) is Thing:  # most are
        objects.doubt(base, node.attr)
        found = [thing_attribute(machine, base, node.attr, node)]
    else:
        for thing in things(base):
            objects.doubt(thing, node.attr)
        found = [attribute(machine, option, node.attr, node) for option in options(base)]
    spelling(machine, node, base)
    if node.attr == "grad" and isinstance(base, Thing) and isinstance(base.what, Tensor):
        if base.what.leaf is False and base.what.grad is True and not base.what.retained:
            machine.emit(node, ev.GradOfNonLeaf(base))
    result = found[0]
    for value in found[1:]:
        result = join(result, value)
    return result


def spelling(machine: Machine, node: tree.Attribute, base: Value, called: bool = False) -> None:
    """Tell of a name that is nearly `requires_grad`, and that nothing known has given to the object."""
    if node.attr.startswith("re") and torch_api.misspelt(node.attr):
        if not any((t.serial, node.attr) in machine.store for t in things(base)):
            machine.emit(node, ev.Misspelt(base, attr=node.attr, called=called))


def attribute(machine: Machine, base: Value, attr: str, node: tree.Node) -> Value:
    """What `base.attr` is (a method that is not known gives an opaque thing)."""
    if isinstance(base, ModuleValue):
        value = machine.get(machine.namespace(base.module), attr)
        if isinstance(value, Lazy):
            value = value.force()
        if value is None:
            sub = machine.project.resolve(base.module, attr, 1)
            full = machine.project.name_outside(base.module, attr, 1)
            full = f"?.{base.module.name}.{attr}" if full.startswith("?") else full
            value = ModuleValue(sub) if sub else External(torch_api.canonical(full))
        machine.spotted.note(value)
        return value
    if isinstance(base, External):
        return External(torch_api.canonical(f"{base.name}.{attr}"))
    if isinstance(base, ClassValue):
        found = base.member(attr)
        machine.spotted.note(found)
        if isinstance(found, FunctionValue) and shape.method_kind(found.function) == "class":
            return found.bind(base)
        return found if found is not None else Thing(Opaque(), attr, machine.place(node), certain=False)
    if isinstance(base, Thing):
        return thing_attribute(machine, base, attr, node)
    if isinstance(base, FunctionValue):
        kept = machine.store.get((id(base.function), attr))
        if kept is not None:
            return kept
    if isinstance(base, (Items, Table, Constant, FunctionValue, Partial)):
        return Thing(Opaque(), attr, machine.place(node), deps=depends(base), certain=False)
    return Thing(Opaque(), attr, machine.place(node), certain=False)


def thing_attribute(machine: Machine, base: Thing, attr: str, node: tree.Node) -> Value:
    if isinstance(base.what, Super):
        found = super_member(base, attr)
        if found is not None:
            return found
        return Thing(Opaque(), attr, machine.place(node), deps=frozenset({base.what.receiver}), certain=False)
    value = machine.store.get((base.serial, attr))
    if value is not None and not objects.is_none(value):
        return value
    if isinstance(base.cls, ClassValue):
        if not base.ready or machine.looking:
            machine.prepare(base, node)
            value = machine.store.get((base.serial, attr))
            if value is not None and not objects.is_none(value):
                return value
        found = base.cls.member(attr)
        if isinstance(found, FunctionValue):
            kind = shape.method_kind(found.function)
            machine.spotted.note(found)
            if kind == "property":
                return machine.follow(found.bind(base), Arguments([], {}), node)
            return found if kind == "static" else found.bind(base)
        if found is not None and not objects.is_none(found):
            read = access.read(machine, base, found, node)
            return found if read is None else read
    if attr in ("grad", "_grad") and isinstance(base.what, (Tensor, Opaque, Parameters)):
        machine.graded = True
        return objects.child(machine, base, attr, Grad(), node)
    if attr in ("param_groups", "defaults") and isinstance(base.what, Optimizer):
        base.what.opened = True  # its options may be read and written
    if attr == "param_groups" and isinstance(base.what, (Optimizer, Opaque)):
        return objects.child(machine, base, attr, Groups(), node)
    if attr in ("T", "mT", "H") and isinstance(base.what, Tensor):
        return tensors.derived(machine, base, node, attr)
    if attr == "data" and isinstance(base.what, (Tensor, Grad)):
        return objects.child(machine, base, attr, Grad() if isinstance(base.what, Grad) else Data(), node)
    if attr == "module" and base.wraps is not None:
        return base.wraps
    return objects.child(machine, base, attr, Opaque(), node)


def super_member(base: Thing, attr: str) -> Value | None:
    if isinstance(base.what, Super):
        for value in list(base.what.owner.lineage())[1:]:
            if isinstance(value, ClassValue) and attr in value.members:
                found = value.members[attr]
                return found.bind(base.what.receiver) if isinstance(found, FunctionValue) else found
    return None


def _is_package(module: Module) -> bool:
    return str(module.file.real).endswith("__init__.py")


_BUILTINS = frozenset(dir(builtins))
