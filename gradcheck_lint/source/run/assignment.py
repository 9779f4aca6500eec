"""Binding names, attributes and items, and what an assignment to one of them means."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_lint.source import amounts, tree
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.holding import regroup
from gradcheck_lint.source.joins import join, merged
from gradcheck_lint.source.natures import (
    Grad,
    Group,
    GroupParams,
    Groups,
    Instance,
    Module,
    Opaque,
    Parameters,
    StateDict,
    Tensor,
)
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.replaced import is_setting
from gradcheck_lint.source.run import access, gradients, iteration, made, names, objects, parts, shape, tensors
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.objects import HELD
from gradcheck_lint.source.run.touch import turns
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    ModuleValue,
    Table,
    Thing,
    Value,
    only,
    options,
    things,
)


def do_assign(machine: Machine, node: tree.Assign) -> bool:
    if node.value is None:
        return False
    value = machine.eval(node.value)
    for target in node.targets:
        assign(machine, target, value, node.value)
    loop = machine.ending.get(id(node))
    if loop is not None:
        machine.ended.setdefault(id(loop), {})[id(machine.sequence)] = machine.sequence
    return False


def do_augment(machine: Machine, node: tree.Augment) -> bool:
    old = machine.eval(node.target)
    value = machine.eval(node.value)
    held = isinstance(node.target, tree.Attribute) and isinstance(node.target.value, tree.Name)
    owner = machine.eval(node.target.value) if held and isinstance(node.target, tree.Attribute) else None
    machine.emit(node.target, ev.Augment(old, op=node.op, value=value, target=node.target, owner=owner))
    if isinstance(old, Items) and node.op == "+":
        if isinstance(value, Items) and old.kind is Container.LIST:
            assign(machine, node.target, objects.added(machine, old, value, node), None, quiet=True)
        else:
            old.complete, old.strange = False, True
        return False
    if isinstance(old, Thing) and isinstance(old.what, (Tensor, Grad, Module, Parameters)):
        if isinstance(old.what, Grad) and node.op == "*" and gradients.is_zero(value):
            gradients.zero_grad_of(machine, old, node.target, "grad *= 0")
        elif isinstance(old.what, Grad):
            gradients.change_grad(machine, old, node.target)
        elif isinstance(old.what, Parameters) and node.op == "+":
            objects.lengthen(old, value)
        elif isinstance(old.what, Tensor):
            old.what.written = True
            item = isinstance(node.target, tree.Subscript)
            tensors.write(machine, (old.what.source or old) if item else old, node.target, f"{node.op}=")
            made.written(machine, old, f"{node.op}=", (value,), node)
        return False  # in place: the object stays the same
    result = Thing(Opaque(), tree.last_name(node.target), deps=depends(old, value), certain=False)
    if isinstance(value, Constant) and isinstance(value.value, (int, float)):
        result.via = amounts.Number()
    made.operated(machine, result, How.OPERATOR, f"{node.op}=", (old, value), node)
    assign(machine, node.target, result, None, quiet=True)
    return False


def do_delete(machine: Machine, node: tree.Delete) -> bool:
    target = node.target
    if isinstance(target, tree.Attribute):
        base = machine.eval(target.value)
        for thing in things(base):
            delete_attribute(machine, thing, target.attr, target)
    elif isinstance(target, tree.Subscript):
        machine.eval(target)
        if machine.looping and machine.trains:
            machine.emit(target, ev.Keep(machine.eval(target.value), value=None))
    return False


def delete_attribute(machine: Machine, thing: Thing, attr: str, node: tree.Node) -> None:
    """`del thing.attr`, or `delattr(thing, "attr")`."""
    if attr in ("grad", "_grad"):
        gradients.zero_tensor(machine, thing, node, "del .grad")
    access.delete(machine, thing, attr, node)


def assign(
    machine: Machine, target: tree.Expression, value: Value, source: tree.Expression | None, quiet: bool = False
) -> None:
    """Bind a target; `quiet` binds without telling (loop variables, with targets, narrowing)."""
    if isinstance(target, tree.Name):
        scope = machine.frame.serial
        if target.id in machine.frame.globals:
            scope = machine.namespace(machine.frame.home)
        old = machine.get(scope, target.id)
        objects.name_thing(value, target.id)
        if not quiet:
            _tell(machine, target, old, value, source)
        machine.set(scope, target.id, value)
    elif isinstance(target, tree.Attribute):
        base = machine.eval(target.value)
        if target.attr in ("grad", "_grad", "requires_grad"):
            whichever(machine, base, target, lambda thing: _assign_to(machine, target, thing, value, source, quiet))
            if target.attr == "requires_grad" and only(base) is None:
                for thing in things(base, Tensor):
                    tensors.now_requires_grad(thing, None)
        else:
            for thing in things(base):
                _assign_to(machine, target, thing, value, source, quiet)
        for option in options(base):
            patch(machine, option, target.attr, value, target)
    elif isinstance(target, tree.Subscript):
        base = machine.eval(target.value)
        index = machine.eval(target.index)
        _set_item(machine, target, base, index, value, quiet)
    elif isinstance(target, (tree.Display,)):
        _unpack(machine, target.items, value, source, quiet)
    elif isinstance(target, tree.Starred):
        assign(machine, target.value, merged([value]), None, quiet=True)


def _assign_to(
    machine: Machine, target: tree.Attribute, thing: Thing, value: Value, source: tree.Expression | None, quiet: bool
) -> None:
    """Assign an attribute of one object."""
    old = machine.get(thing.serial, target.attr)
    objects.name_thing(value, target.attr)
    if not quiet:
        if old is None and not isinstance(thing.what, Instance):
            old = names.attribute(machine, thing, target.attr, target)
        _tell(machine, target, old, value, source)
        set_attribute(machine, target, thing, target.attr, value, old, source)
    machine.set(thing.serial, target.attr, value)
    if not machine.looking:
        parts.noted(machine, thing, target.attr)
        parts.owned(value, thing, target.attr)
    access.write(machine, thing, target.attr, value, target)


def whichever(machine: Machine, value: Value, node: tree.Node, do: Callable[[Thing], None]) -> None:
    """Do something to a thing; to one of several on each path, where it depends on the path which of them it is."""
    found = list(things(value))

    def arm(thing: Thing) -> Callable[[], bool]:
        def go() -> bool:
            do(thing)
            return False

        return go

    if len(found) < 2:
        for thing in found:
            do(thing)
        return
    sequences, _ = machine.arms([arm(thing) for thing in found], node)
    if any(s.steps for s in sequences):
        machine.sequence.steps.append(tl.Branch(None, sequences, machine.place(node)))


def patch(machine: Machine, owner: Value, attr: str, value: Value, node: tree.Node) -> None:
    """An attribute of a module or class is assigned, which all code sees."""
    if isinstance(owner, ModuleValue):
        machine.set(machine.namespace(owner.module), attr, value)
    elif isinstance(owner, ClassValue):
        old = owner.members.get(attr)
        owner.members[attr] = value if old is None else join(old, value)
    elif isinstance(owner, FunctionValue):
        machine.set(id(owner.function), attr, value)
    elif isinstance(owner, External) and owner.name.startswith("torch.") and not isinstance(value, Constant):
        if not is_setting(owner.name):
            machine.replaced.add(attr)
    if isinstance(owner, External) and any(turns(machine, f, node) for f in callables(value)):
        machine.patched = True


def _unpack(
    machine: Machine, targets: list[tree.Expression], value: Value, source: tree.Expression | None, quiet: bool
) -> None:
    parts: list[Value] | None = None
    starred = any(isinstance(t, tree.Starred) for t in targets)
    if isinstance(value, Items) and value.complete and len(value.items) == len(targets) and not starred:
        parts = value.items
    sources: list[tree.Expression | None] = [None] * len(targets)
    if isinstance(source, tree.Display) and len(source.items) == len(targets) and not starred:
        sources = list(source.items)
    for index, target in enumerate(targets):
        if parts is not None:
            part = parts[index]
        else:
            part = iteration.element(machine, value, target)
            if isinstance(value, Items) and len(targets) > 1:
                part = objects.one_of(machine, part, target)
            for thing in things(part):
                thing.summary = False
                if thing.made is None and thing.place is machine.place(target):
                    thing.made = Operation(How.ITEM, str(index), (), thing.place, machine.frame.context, base=value)
        assign(machine, target, part, sources[index], quiet)


def _tell(
    machine: Machine, target: tree.Expression, old: Value | None, value: Value, source: tree.Expression | None
) -> None:
    if old is not None and old is not value:
        held = [t for t in things(old) if isinstance(t.what, HELD)]
        if held and not any(value is t for t in held):
            machine.emit(target, ev.Rebind(old, value=value, target=target, source=source))
    machine.emit(target, ev.Assign(target=target, value=value, expression=source, old=old))


def set_attribute(
    machine: Machine,
    target: tree.Expression,
    thing: Thing,
    attr: str,
    value: Value,
    old: Value | None,
    source: tree.Expression | None,
) -> None:
    if attr in ("grad", "_grad"):
        if objects.is_none(value):
            gradients.zero_tensor(machine, thing, target, "grad = None")
        else:
            machine.emit(target, ev.GradWrite(gradients.owner_of(thing), value=value))
    elif attr.endswith("_grad") and attr != "requires_grad" and isinstance(thing.what, Tensor):
        # `main_grad`: kept beside it, for a step
        machine.emit(target, ev.GradWrite(gradients.owner_of(thing), value=value))
    elif attr == "requires_grad":
        flag = bool(value.value) if isinstance(value, Constant) and value.value is not ... else None
        owner = gradients.owner_of(thing)
        held = parts.parts_in(machine, owner)
        machine.emit(target, ev.Freeze(owner, value=flag, how="attribute", thing=thing, parts=held))
        if isinstance(thing.what, Tensor):
            tensors.now_requires_grad(thing, flag)
    elif attr == "data" and isinstance(thing.what, Grad):
        gradients.overwrite_grad(machine, thing, target, value)
    elif attr == "data":
        machine.emit(target, ev.SetData(thing, value=value, source=source))
    elif attr == "param_groups":
        regroup(thing)
    machine.emit(target, ev.SetAttribute(thing, attr=attr, value=value, old=old, source=source))


def _set_item(machine: Machine, target: tree.Subscript, base: Value, index: Value, value: Value, quiet: bool) -> None:
    if not quiet:
        machine.emit(target, ev.SetItem(base, index=index, value=value))
    for thing in things(base):
        if isinstance(thing.what, StateDict):
            thing.what.rewritten = True
        elif isinstance(thing.what, Tensor):
            thing.what.written = True
            if not quiet:
                tensors.write(machine, base, target, "[]")
        if isinstance(thing.what, (Tensor, Opaque)):
            made.written(machine, thing, "[]=", (value,), target)
        owner = parts.holder(thing)
        if owner is not None:
            parts.noted(machine, owner, None)
            parts.owned(value, owner, "")
        named = index.value if isinstance(index, Constant) else ...
        if (
            isinstance(thing.what, Groups)
            or (isinstance(thing.what, Group) and named in ("params", ...))
            or (isinstance(thing.what, GroupParams))
        ):
            regroup(thing)
    if isinstance(base, External):
        machine.spotted.lent(value)
    if isinstance(base, Table):
        if isinstance(index, Constant) and index.value is not ...:
            base.entries[index.value] = value
            if machine.depth > base.depth:
                base.maybe.add(index.value)
        else:
            base.entries[id(target)] = value
            base.complete = False
    elif isinstance(base, Items):
        base.complete, base.strange = False, True
    elif isinstance(base, Thing) and isinstance(base.what, Grad):
        if shape.whole(target.index):
            gradients.overwrite_grad(machine, base, target, value)
        else:
            gradients.change_grad(machine, base, target)
    elif isinstance(base, Thing) and isinstance(index, Constant) and index.value is not ...:
        objects.name_thing(value, str(index.value))
        machine.set(base.serial, f"[{index.value}]", value)


def eval_named(machine: Machine, node: tree.Named) -> Value:
    value = machine.eval(node.value)
    assign(machine, node.target, value, node.value)
    return value
