"""Which tensors an optimizer holds, as far as the code shows, and what a zeroing or clipping reaches."""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.values import Choice, Constant, Items, Partial, Table, Thing, Value, options, things

YES, MAYBE, NO = "yes", "maybe", "no"

OWNERS = 4  # modules of which a part remembers that they own it


class Held(NamedTuple):
    """What was handed to an optimizer: whole modules, single tensors; `unknown` if there may be more."""

    modules: tuple[Thing, ...]
    tensors: tuple[Thing, ...]
    unknown: bool


def held_by(optimizer: Thing) -> Held:
    """What the optimizer holds, groups added later included."""
    known = optimizer.detail.get("held")
    added = optimizer.detail.get("added", ())
    if isinstance(known, Held) and optimizer.detail.get("held_added") == len(added):
        return known
    params = optimizer.detail.get("params")
    if params is None:
        held = Held((), (), True)
    else:
        held = content(params)
        for group in added:
            more = content(group)
            held = Held(held.modules + more.modules, held.tensors + more.tensors, held.unknown or more.unknown)
    if optimizer.detail.get("regrouped"):
        held = held._replace(unknown=True)
    optimizer.detail["held"] = held
    optimizer.detail["held_added"] = len(added)
    return held


def regroup(part: Thing) -> None:
    """The groups of an optimizer, or their lists of parameters, are written: from now on it may hold anything."""
    optimizer = part.root
    if optimizer.role == "optimizer" and part.role in ("optimizer", "groups", "group", "group-params"):
        optimizer.detail["regrouped"] = True
        optimizer.detail.pop("held", None)


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
    if isinstance(value, (Items, Table)) or (isinstance(value, Thing) and "parts" in value.detail):
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
    if value.role == "parameters":
        if "parts" in value.detail:
            flags = [_gather(part, modules, tensors, depth + 1, seen) for part in value.detail["parts"]]
            return any(flags) or bool(value.detail.get("open"))
        unknown = _gather(value.detail.get("of"), modules, tensors, depth + 1, seen)
        return unknown or bool(value.detail.get("filtered"))
    if value.role in ("module", "instance"):
        modules.append(value)
        return False
    if value.role == "tensor":
        if "element_of" in value.detail:
            return _gather(value.detail["element_of"], modules, tensors, depth + 1, seen) or True
        tensors.append(value)
        return False
    if value.role == "opaque":
        modules.extend(t for t in value.deps if t.role == "module")
    return True


def surely_holds(optimizer: Thing, value: Value | None) -> bool:
    """Whether an optimizer holds every tensor in a collection of parameters, whatever else it may hold."""
    held = held_by(optimizer)
    whole = _whole(optimizer.detail.get("params"))
    for group in optimizer.detail.get("added", ()):
        whole += _whole(group)
    todo, seen = list(options(value)), set[int]()
    if not todo or optimizer.detail.get("regrouped"):
        return False
    while todo:
        option = todo.pop()
        spend(1)
        if isinstance(option, (Items, Table)) or (isinstance(option, Thing) and "parts" in option.detail):
            if id(option) in seen:
                continue
            seen.add(id(option))
        if isinstance(option, Choice):
            todo += option.options
        elif isinstance(option, Items) and (option.items or option.complete):
            todo += option.items
        elif isinstance(option, Table) and set(option.entries) == {"params"}:
            todo.append(option.entries["params"])
        elif isinstance(option, Thing) and "parts" in option.detail:
            todo += option.detail["parts"]
        elif isinstance(option, Thing) and option.role == "parameters" and "of" in option.detail:
            todo.append(option.detail["of"])  # some of these, or all
        elif isinstance(option, Thing) and "element_of" in option.detail:
            todo.append(option.detail["element_of"])
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
        elif isinstance(value, Thing) and value.role == "parameters":
            if value.detail.get("filtered") and not value.detail.get("trainable"):
                continue
            todo += value.detail.get("parts", [value.detail.get("of")])
        elif isinstance(value, Thing) and value.role in ("module", "instance"):
            found.append(value)
    return found


def reaches(subject: Value | None, optimizer: Thing) -> str:
    """Whether what happens to `subject` (zeroing, clipping) happens to the optimizer's parameters."""
    found = {_reaches(thing, optimizer) for thing in things(subject)}
    if not found or any(not isinstance(o, (Thing, Constant)) for o in options(subject)):
        found.add(MAYBE)
    return found.pop() if len(found) == 1 else MAYBE


def _reaches(subject: Thing, optimizer: Thing) -> str:
    spend(1)
    if subject.role == "optimizer":
        if subject is optimizer:
            return YES
        if subject.summary or optimizer.summary:
            return MAYBE
        return shares(subject, optimizer)
    if subject.role in ("groups", "group", "group-params") or (subject.role == "opaque" and subject.parent is not None):
        root = subject.root
        if root.role == "optimizer":
            return _reaches(root, optimizer)
    if subject.role == "scaler":
        return NO  # it knows no optimizer until it is handed one
    held = held_by(optimizer)
    if "values" in subject.root.detail and not subject.certain:
        return MAYBE  # it may be one of several things
    if subject.role == "parameters":
        return _reaches_held(content(subject), held)
    if subject.role in ("module", "instance", "opaque", "super"):
        for module in held.modules:
            if module.inside(subject) or (subject.role == "module" and belongs(module, subject)):
                return YES
            if subject.inside(module) or subject in module.deps or module in subject.deps:
                return MAYBE
        single = _reaches_tensors(subject, held)
        if single != NO:
            return single
        if held.unknown or subject.summary or subject.role != "module":
            return MAYBE
        # `self.zero_grad()` in a module that owns the one the optimizer holds
        return MAYBE if any(m.parent is None and not m.certain for m in held.modules) and not subject.certain else NO
    if subject.role == "tensor":
        if any(subject is t for t in held.tensors):
            return YES
        return MAYBE if held.unknown or subject.summary or held.modules else NO
    return MAYBE


def belongs(part: Thing, owner: Thing) -> bool:
    """Whether a module or a parameter was made a part of a module, at any depth."""
    return any(above is owner.core for above in _owners(part))


def _owners(part: Thing) -> list[Thing]:
    """What a module or a parameter was made a part of, at any depth."""
    found: dict[int, Thing] = {}
    todo = [part.core]
    while todo:
        for above in todo.pop().detail.get("owners", ()):
            spend(1)
            if above.core.serial not in found:
                found[above.core.serial] = above.core
                if above.role == "module":
                    todo.append(above.core)
    return list(found.values())


def _reaches_tensors(owner: Thing, held: Held) -> str:
    """Whether a module (or what may be one) has the single tensors that an optimizer holds."""
    found = [belongs_to(tensor, owner) for tensor in held.tensors]
    if found and not held.modules and not held.unknown and all(reach == YES for reach in found):
        return YES
    return MAYBE if any(reach != NO for reach in found) else NO


def belongs_to(tensor: Thing, owner: Thing) -> str:
    """Whether a tensor is a parameter of a module: MAYBE if code may have made it one where that does not show."""
    owners = _owners(tensor)
    if any(above is owner.core for above in owners):
        return YES
    if any(_related(above, owner.core) for above in owners):
        return MAYBE  # its module was handed over when this one was made
    if owners and len(tensor.detail["owners"]) < OWNERS:
        return NO
    # nobody was seen to take it: a Parameter may be in any module, a plain tensor is in none
    return MAYBE if owners or tensor.detail.get("made_by") == "Parameter" or tensor.detail.get("grad") is None else NO


def trains(loss: Value | None, optimizer: Thing) -> str:
    """Whether a backward from this loss makes gradients for the optimizer: MAYBE if it seems to belong to others.

    What a loss was computed with is hardly ever known in full, so this is NO only where it is nothing but tensors that
    the code makes itself: `torch.empty(1, requires_grad=True).backward()`.
    """
    found = options(loss)
    held = held_by(optimizer)
    leaves = leaves_of(loss)
    if leaves is not None:
        return _among(leaves, held)
    if len(found) != 1 or not isinstance(found[0], Thing) or held.tensors or held.unknown:
        return YES
    with_modules = [t for t in found[0].deps if t.role == "module"]
    if not with_modules or not held.modules or any(_related(m, h) for m in with_modules for h in held.modules):
        return YES
    return MAYBE


def leaves_of(value: Value | None) -> frozenset[Thing] | None:
    """The tensors that a value was computed from, if these are all there are; None if that is not known.

    A tensor that is `written` in place may lead to whatever was written into it.
    """
    found: frozenset[Thing] = frozenset()
    for option in options(value):
        if isinstance(option, Constant):
            continue
        if not isinstance(option, Thing) or option.role != "tensor" or option.detail.get("written"):
            return None
        known = frozenset((option,)) if _leaf(option) else option.detail.get("leaves")
        if known is None:
            return None
        found |= known
    return found if value is not None else None


def _leaf(thing: Thing) -> bool:
    """Whether it is one tensor to be trained, made where the code shows it."""
    detail = thing.detail
    return bool(detail.get("leaf") and detail.get("grad") and "args" in detail) and not thing.summary


def _among(leaves: frozenset[Thing], held: Held) -> str:
    """Whether an optimizer holds one of the tensors that a backward leads to."""
    for leaf in leaves:
        if any(leaf is tensor for tensor in held.tensors):
            return YES
        if leaf.detail.get("made_by") == "Parameter" or any(belongs_to(leaf, m) != NO for m in held.modules):
            return YES  # for all that is known
    return MAYBE if held.unknown else NO


def shares(one: Thing, other: Thing) -> str:
    """Whether two optimizers hold the same parameters, as two over one model do."""
    first, second = held_by(one), held_by(other)
    if any(a.inside(b) or b.inside(a) for a in first.modules for b in second.modules):
        return YES if _equal(first, second) else MAYBE
    if any(a is b for a in first.tensors for b in second.tensors):
        return YES if _equal(first, second) else MAYBE
    if _bare(first) or _bare(second):
        owners = [thing.parent[0] for thing in (one, other) if thing.parent is not None]
        return NO if len(owners) == 2 and not _related(*owners) else MAYBE
    return NO


def _equal(first: Held, second: Held) -> bool:
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


def _reaches_held(given: Held, held: Held) -> str:
    for module in given.modules:
        for other in held.modules:
            if other.inside(module):
                return YES
            if module.inside(other):
                return MAYBE
    if any(t is o for t in given.tensors for o in held.tensors):
        return YES
    unknown = given.unknown or held.unknown
    found = [_reaches_tensors(module, held) for module in given.modules]
    found += [MAYBE for t in given.tensors for m in held.modules if belongs_to(t, m) != NO]
    if YES in found:
        return YES
    return MAYBE if unknown or MAYBE in found else NO
