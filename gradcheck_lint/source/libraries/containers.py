"""Methods of lists, sets and dicts whose content is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from gradcheck_lint.source import limits, tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Opaque, Parameters, nature
from gradcheck_lint.source.run import iteration, objects
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.touch import turning, unknown
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import NONE, Constant, Items, Table, Thing, Value, limited


def items_method(machine: Machine, base: Items, attr: str, args: Arguments, node: tree.Call) -> Value:
    if attr in _CHANGES:
        base.over = None
    if attr in _SHIFTS or (attr in _CHANGES and machine.depth > base.depth):
        base.loose = True
    if attr in ("append", "add") and args.positional:
        base.items.append(args.positional[0])
    elif attr in ("extend", "update") and args.positional:
        value = args.positional[0]
        iteration.consume(machine, value, node.args[0].value, attr)
        if isinstance(value, Items):
            more, whole = limited(value.items)
            room = len(base.items) + len(more) <= max(limits.ITEMS, len(base.items) + 1)
            base.items += more[: None if room else max(0, limits.ITEMS - len(base.items))]
            base.complete = base.complete and value.complete and whole and room
            base.loose = base.loose or value.loose
            spend(len(more) // 8)
        else:
            base.items.append(iteration.element(machine, value, node))
            base.complete = False
    elif attr in ("insert", "remove", "pop", "clear", "discard", "reverse", "sort"):
        called = turning(machine, list(args.keywords.values()), args, node)
        if called is not None:
            unknown(machine, node, called.subject, attr)
        base.complete = False
        if attr == "pop":
            return iteration.element(machine, base, node)
        if attr == "insert" and len(args.positional) == 2:
            base.items.append(args.positional[1])
    elif attr == "copy":
        items, whole = limited(base.items)
        made = Items(base.kind, list(items), base.complete and whole, base.place)
        made.depth, made.loose = machine.depth, base.loose
        return made
    if machine.looping and attr in ("append", "add", "extend", "update"):
        base.complete = False
    return NONE if attr not in ("index", "count") else Constant(...)


_CHANGES = frozenset("append add extend update insert remove pop clear discard".split())
"""Methods after which there are more items than before, or fewer."""

_SHIFTS = frozenset("insert remove pop clear discard reverse sort".split())
"""Methods after which it is not known which item is where."""


def table_method(machine: Machine, base: Table, attr: str, args: Arguments, node: tree.Call) -> Value:
    if attr in ("values", "items") and base.parameters is not None and not base.escaped and len(base.entries) == 1:
        given = nature(base.parameters, Parameters) or Parameters()
        what = replace(given, named=attr == "items")
        return Thing(what, attr, machine.place(node), deps=base.parameters.deps)
    if attr in ("values", "items", "keys"):
        whole = len(base.entries) <= limits.ITEMS
        spend(len(base.entries) if whole else limits.ITEMS)
        found: list[Value] = []
        for k, v in islice(base.entries.items(), limits.ITEMS):
            made = Constant(k) if attr != "values" else v
            found.append(Items(Container.TUPLE, [made, v]) if attr == "items" else made)
        return Items(Container.LIST, found, base.complete and whole, base.place)
    key = args.get(0, "key")
    if attr in ("get", "pop", "setdefault") and isinstance(key, Constant):
        entry = base.entries.get(key.value)
        if attr == "pop":
            base.entries.pop(key.value, None)
        if entry is not None:
            return entry
        if base.complete:
            return args.get(1, "default") or NONE
    if attr == "update":
        other = args.get(0, "other")
        taken = objects.take(base.entries, other.entries) if isinstance(other, Table) else True
        base.complete = objects.take(base.entries, args.keywords) and taken and base.complete
        if machine.depth > base.depth:
            base.complete = False
            base.maybe.update(args.keywords, other.entries if isinstance(other, Table) else ())
        base.complete = base.complete and (other is None or (isinstance(other, Table) and other.complete))
        return NONE
    if attr not in ("copy",):
        base.complete = base.complete and attr in ("get", "keys")
    return Thing(Opaque(), attr, machine.place(node), deps=depends(*base.entries.values()), certain=False)
