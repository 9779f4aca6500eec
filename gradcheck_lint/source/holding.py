"""Which tensors an optimizer holds, as far as the code shows, and what a zeroing or clipping reaches.

What is found of them is judged by the law of holding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.laws import holding as law
from gradcheck_lint.laws import reach
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer, agreed
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import (
    Group,
    GroupParams,
    Groups,
    Instance,
    Module,
    Opaque,
    Optimizer,
    Parameters,
    Scaler,
    Super,
    Tensor,
    chained,
    made_by,
    nature,
    requires_grad,
)
from gradcheck_lint.source.values import Choice, Constant, Items, Partial, Table, Thing, Value, options, things

OWNERS = 4  # modules of which a part remembers that they own it


class Held(NamedTuple):
    """What was handed to an optimizer: whole modules, single tensors; `unknown` if there may be more."""

    modules: tuple[Thing, ...]
    tensors: tuple[Thing, ...]
    unknown: bool


def held_by(optimizer: Thing) -> Held:
    """What the optimizer holds, groups added later included."""
    what = optimizer.what
    if not isinstance(what, Optimizer):
        return Held((), (), True)
    if what.held is not None and what.held_added == len(what.added):
        return what.held
    if what.params is None:
        held = Held((), (), True)
    else:
        held = content(what.params)
        for group in what.added:
            more = content(group)
            held = Held(held.modules + more.modules, held.tensors + more.tensors, held.unknown or more.unknown)
    if what.regrouped:
        held = held._replace(unknown=True)
    what.held, what.held_added = held, len(what.added)
    return held


def regroup(part: Thing) -> None:
    """The groups of an optimizer, or their lists of parameters, are written: from now on it may hold anything."""
    optimizer = part.root
    if isinstance(optimizer.what, Optimizer) and isinstance(part.what, (Optimizer, Groups, Group, GroupParams)):
        optimizer.what.regrouped, optimizer.what.held = True, None


def content(value: Value | None) -> Held:
    """The modules and tensors in what is given as parameters."""
    modules: list[Thing] = []
    tensors: list[Thing] = []
    unknown = _gather(value, modules, tensors, 0, set())
    return Held(tuple(modules), tuple(tensors), unknown)


def _gather(value: Value | None, modules: list[Thing], tensors: list[Thing], depth: int, seen: set[int]) -> bool:
    """Collect from one value; True if something could not be followed. `seen` are the containers looked into."""
    spend(1)
    if value is None or depth > 8:
        return True
    if isinstance(value, (Items, Table)) or chained(value) is not None:
        if id(value) in seen:
            return False
        seen.add(id(value))
    if isinstance(value, Choice):
        flags = [_gather(o, modules, tensors, depth + 1, seen) for o in value.options]
        return any(flags)
    if isinstance(value, Items):
        flags = [_gather(item, modules, tensors, depth + 1, seen) for item in value.items]
        return any(flags) or not value.complete
    if isinstance(value, Table):
        if "params" in value.entries:
            return _gather(value.entries["params"], modules, tensors, depth + 1, seen)
        return True
    if isinstance(value, Constant):
        return value.value is not None
    if isinstance(value, (Partial,)) or not isinstance(value, Thing):
        return True
    if isinstance(value.what, Parameters):
        if value.what.parts is not None:
            flags = [_gather(part, modules, tensors, depth + 1, seen) for part in value.what.parts]
            return any(flags) or value.what.open
        return _gather(value.what.of, modules, tensors, depth + 1, seen) or value.what.filtered
    if isinstance(value.what, (Module, Instance)):
        modules.append(value)
        return False
    if isinstance(value.what, Tensor):
        if value.what.element_of is not None:
            return _gather(value.what.element_of, modules, tensors, depth + 1, seen) or True
        tensors.append(value)
        return False
    if isinstance(value.what, Opaque):
        modules.extend(t for t in value.deps if isinstance(t.what, Module))
    return True


def surely_holds(optimizer: Thing, value: Value | None) -> bool:
    """Whether an optimizer holds every tensor in a collection of parameters, whatever else it may hold."""
    held = held_by(optimizer)
    what = optimizer.what
    todo, seen = list(options(value)), set[int]()
    if not todo or not isinstance(what, Optimizer) or what.regrouped:
        return False
    whole = _whole(what.params)
    for group in what.added:
        whole += _whole(group)
    while todo:
        option = todo.pop()
        spend(1)
        if isinstance(option, (Items, Table)) or chained(option) is not None:
            if id(option) in seen:
                continue
            seen.add(id(option))
        if isinstance(option, Choice):
            todo += option.options
        elif isinstance(option, Items) and (option.items or option.complete):
            todo += option.items
        elif isinstance(option, Table) and set(option.entries) == {"params"}:
            todo.append(option.entries["params"])
        elif isinstance(option, Thing) and isinstance(option.what, Parameters) and option.what.parts is not None:
            todo += option.what.parts
        elif isinstance(option, Thing) and isinstance(option.what, Parameters) and option.what.of is not None:
            todo.append(option.what.of)  # some of these, or all
        elif isinstance(option, Thing) and isinstance(option.what, Tensor) and option.what.element_of is not None:
            todo.append(option.what.element_of)
        elif not isinstance(option, Thing) or not (
            any(option is t for t in held.tensors) or any(option.inside(m) for m in whole)
        ):
            return False
    return True


def _whole(params: Value | None) -> list[Thing]:
    """The modules all of whose parameters that can be trained are in what is given to an optimizer."""
    found: list[Thing] = []
    todo, seen = [params], set[int]()
    while todo:
        value = todo.pop()
        spend(1)
        if value is None or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Items):
            todo += value.items
        elif isinstance(value, Table):
            todo.append(value.entries.get("params"))
        elif isinstance(value, Thing) and isinstance(value.what, Parameters):
            if value.what.filtered and not value.what.trainable:
                continue
            todo += [value.what.of] if value.what.parts is None else value.what.parts
        elif isinstance(value, Thing) and isinstance(value.what, (Module, Instance)):
            found.append(value)
    return found


def reaches(subject: Value | None, optimizer: Thing) -> Answer:
    """Whether what happens to `subject` (zeroing, clipping) happens to the optimizer's parameters."""
    found = {_reaches(thing, optimizer) for thing in things(subject)}
    if not found or any(not isinstance(o, (Thing, Constant)) for o in options(subject)):
        found.add(MAYBE)
    return agreed(found)


def _reaches(subject: Thing, optimizer: Thing) -> Answer:
    spend(1)
    if isinstance(subject.what, Optimizer):
        if subject is optimizer:
            return YES
        if subject.summary or optimizer.summary:
            return MAYBE
        return shares(subject, optimizer)
    if isinstance(subject.what, (Groups, Group, GroupParams)) or (
        isinstance(subject.what, Opaque) and subject.parent is not None
    ):
        root = subject.root
        if isinstance(root.what, Optimizer):
            return _reaches(root, optimizer)
    if isinstance(subject.what, Scaler):
        return NO  # it knows no optimizer until it is handed one
    held = held_by(optimizer)
    if subject.root.values and not subject.certain:
        return MAYBE  # it may be one of several things
    if isinstance(subject.what, Parameters):
        return _reaches_held(content(subject), held)
    if isinstance(subject.what, (Module, Instance, Opaque, Super)):
        return law.touched(_parts_in(subject, held), known=_all_known(subject, held))
    if isinstance(subject.what, Tensor):
        same = (YES for tensor in held.tensors if tensor is subject)
        return law.touched(same, known=not (held.unknown or subject.summary or held.modules))
    return MAYBE


def _parts_in(subject: Thing, held: Held) -> Iterator[Answer]:
    """For each part that an optimizer holds, whether a module, or what may be one, has it."""
    for module in held.modules:
        if module.inside(subject) or (isinstance(subject.what, Module) and belongs(module, subject)):
            yield YES
        elif subject.inside(module) or subject in module.deps or module in subject.deps:
            yield MAYBE
    yield _reaches_tensors(subject, held)


def _all_known(subject: Thing, held: Held) -> bool:
    """Whether an optimizer holds nothing else that a module could have."""
    if held.unknown or subject.summary or not isinstance(subject.what, Module):
        return False
    # `self.zero_grad()` in a module that owns the one the optimizer holds
    return subject.certain or not any(m.parent is None and not m.certain for m in held.modules)


def belongs(part: Thing, owner: Thing) -> bool:
    """Whether a module or a parameter was made a part of a module, at any depth."""
    return any(above is owner.core for above in _owners(part))


def _owners(part: Thing) -> list[Thing]:
    """What a module or a parameter was made a part of, at any depth."""
    found: dict[int, Thing] = {}
    todo = [part.core]
    while todo:
        for above in todo.pop().owners:
            spend(1)
            if above.core.serial not in found:
                found[above.core.serial] = above.core
                if isinstance(above.what, Module):
                    todo.append(above.core)
    return list(found.values())


def _reaches_tensors(owner: Thing, held: Held) -> Answer:
    """Whether a module (or what may be one) has the single tensors that an optimizer holds."""
    found = [belongs_to(tensor, owner) for tensor in held.tensors]
    if found and not held.modules and not held.unknown and all(reach is YES for reach in found):
        return YES
    return MAYBE if any(reach is not NO for reach in found) else NO


def belongs_to(tensor: Thing, owner: Thing) -> Answer:
    """Whether a tensor is a parameter of a module: MAYBE if code may have made it one where that does not show."""
    owners = _owners(tensor)
    if any(above is owner.core for above in owners):
        return YES
    if any(_related(above, owner.core) for above in owners):
        return MAYBE  # its module was handed over when this one was made
    if owners and len(tensor.owners) < OWNERS:
        return NO
    # nobody was seen to take it: a Parameter may be in any module, a plain tensor is in none
    return MAYBE if owners or made_by(tensor) == "Parameter" or requires_grad(tensor) is None else NO


def trains(loss: Value | None, optimizer: Thing) -> Answer:
    """Whether a backward from this loss makes gradients for the optimizer: MAYBE if it seems to belong to others.

    It is NO only where it is nothing but tensors that the code makes itself:
    `torch.empty(1, requires_grad=True).backward()`.
    """
    held, leaves = held_by(optimizer), leaves_of(loss)
    known = not held.unknown
    if leaves is not None:
        return reach.trains(met=_among(leaves, held), whole=True, known=known, strange=True)
    return reach.trains(met=False, whole=False, known=known, strange=_of_others(loss, held))


def _of_others(loss: Value | None, held: Held) -> bool:
    """Whether a loss was computed with modules that have nothing to do with those that an optimizer holds."""
    found = options(loss)
    if len(found) != 1 or not isinstance(found[0], Thing) or held.tensors or held.unknown or not held.modules:
        return False
    modules = [t for t in found[0].deps if isinstance(t.what, Module)]
    return bool(modules) and not any(_related(m, h) for m in modules for h in held.modules)


def leaves_of(value: Value | None) -> frozenset[Thing] | None:
    """The tensors that a value was computed from, if these are all there are; None if that is not known.

    A tensor that is `written` in place may lead to whatever was written into it.
    """
    found: frozenset[Thing] = frozenset()
    for option in options(value):
        if isinstance(option, Constant):
            continue
        if not isinstance(option, Thing) or not isinstance(option.what, Tensor) or option.what.written:
            return None
        known = frozenset((option,)) if _leaf(option) else option.what.leaves
        if known is None:
            return None
        found |= known
    return found if value is not None else None


def _leaf(thing: Thing) -> bool:
    """Whether it is one tensor to be trained, made where the code shows it."""
    tensor = nature(thing, Tensor)
    return tensor is not None and bool(tensor.leaf and tensor.grad) and thing.args is not None and not thing.summary


def _among(leaves: frozenset[Thing], held: Held) -> bool:
    """Whether an optimizer holds one of the tensors that a backward leads to, for all that is known."""
    return any(
        any(leaf is tensor for tensor in held.tensors)
        or made_by(leaf) == "Parameter"
        or any(belongs_to(leaf, module) is not NO for module in held.modules)
        for leaf in leaves
    )


def shares(one: Thing, other: Thing) -> Answer:
    """Whether two optimizers hold the same parameters, as two over one model do."""
    first, second = held_by(one), held_by(other)
    some = any(a.inside(b) or b.inside(a) for a in first.modules for b in second.modules) or any(
        a is b for a in first.tensors for b in second.tensors
    )
    return law.shares(some=some, covered=some and _covered(first, second), known=some or _apart(one, other))


def _apart(one: Thing, other: Thing) -> bool:
    """Whether enough is known of two optimizers in which nothing in common was found."""
    if not _bare(held_by(one)) and not _bare(held_by(other)):
        return True
    owners = [thing.parent[0] for thing in (one, other) if thing.parent is not None]
    return len(owners) == 2 and not _related(*owners)


def _covered(first: Held, second: Held) -> bool:
    """Whether all that the second holds is held by the first as well."""
    return not second.unknown and (
        all(any(b.inside(a) for a in first.modules) for b in second.modules)
        and all(any(b is a for a in first.tensors) for b in second.tensors)
    )


def _bare(held: Held) -> bool:
    """Whether nothing of what is held is known."""
    return held.unknown and not held.modules and not held.tensors


def _related(one: Thing, other: Thing) -> bool:
    return one.inside(other) or other.inside(one) or one in other.deps or other in one.deps


def _reaches_held(given: Held, held: Held) -> Answer:
    return law.touched(_parts_given(given, held), known=not (given.unknown or held.unknown))


def _parts_given(given: Held, held: Held) -> Iterator[Answer]:
    """For the parts that an optimizer holds, whether they are among what is given."""
    for module in given.modules:
        for other in held.modules:
            if other.inside(module):
                yield YES
            elif module.inside(other):
                yield MAYBE
    if any(t is o for t in given.tensors for o in held.tensors):
        yield YES
    found = [_reaches_tensors(module, held) for module in given.modules]
    if YES in found:
        yield YES
    yield from found
    yield from (MAYBE for t in given.tensors for m in held.modules if belongs_to(t, m) is not NO)
