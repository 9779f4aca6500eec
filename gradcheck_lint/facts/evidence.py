"""What something of unknown class is, by all that the code around does with it."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Event
from gradcheck_lint.source.natures import Module, Opaque
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import Thing

_OF_MODULES = frozenset(
    "train eval parameters named_parameters modules named_modules children named_children zero_grad".split()
)
"""Methods that modules have, and nothing else that is called with data."""


def used_as_module(timeline: Timeline, event: Event, thing: Thing) -> bool:
    """Whether a thing under its name, in the function of an event, is called with data and has the methods of a module.

    A name that is bound anew on the way may be another thing before that than after it.
    """
    if not isinstance(thing.what, (Opaque, Module)) or thing.summary:
        return False
    body = event.function.body if event.function is not None else timeline.home.body
    name = thing.label if thing.parent is None else ""
    if not name:
        return False
    called = asked = False
    for node in tree.walk_block(body):
        if isinstance(node, tree.Assign) and any(tree.dotted(target) == name for target in node.targets):
            return False
        if isinstance(node, tree.Call) and isinstance(node.func, tree.Name):
            called = called or (node.func.id == name and bool(node.args))
        elif isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute):
            asked = asked or (node.func.attr in _OF_MODULES and tree.dotted(node.func.value) == name)
    return called and asked
