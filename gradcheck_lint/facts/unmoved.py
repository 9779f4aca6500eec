"""Schedules that nothing can move: a name or attribute is bound to one, and asked for nothing but its state."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradcheck_lint.facts import pacing, query
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Optimizer, Scheduler, moves
from gradcheck_lint.source.values import ClassValue, Thing, only

LOOKS = frozenset("state_dict load_state_dict get_last_lr get_lr last_epoch base_lrs print_lr optimizer".split())
"""What a schedule is asked for, or given, and not moved by."""

_NAMESPACES = frozenset({"locals", "globals", "vars", "eval", "exec"})


def unmoved(timeline: tl.Timeline) -> Iterator[ev.Build]:
    """Where schedules are built that nobody moves, of optimizers that train in a loop."""
    if timeline.cut:
        return
    for event in timeline.events(ev.Build):
        scheduler = event.subject
        if not isinstance(scheduler.what, Scheduler) or not pacing.kind(scheduler) or _moves(timeline, scheduler):
            continue
        optimizer = only(moves(scheduler), Optimizer)
        if optimizer is None or not _trains(timeline, optimizer, scheduler):
            continue
        target = _target(event)
        if isinstance(target, tree.Attribute) and tree.dotted(target.value) == "self":
            if _closed(timeline, scheduler) and not _asked_for(timeline, target.attr):
                yield event
        elif isinstance(target, tree.Name):
            body = event.function.body if event.function is not None else timeline.home.body
            here = event.function is not None or event.place.chunk.path == timeline.home.path
            if here and not _used(body, target.id):
                yield event


def _moves(timeline: tl.Timeline, scheduler: Thing) -> bool:
    return any(e.concerns(scheduler) for e in timeline.events(ev.Schedule))


def _trains(timeline: tl.Timeline, optimizer: Thing, scheduler: Thing) -> bool:
    """Whether the optimizer steps in a loop that begins after the schedule was built."""
    return any(
        event.concerns(optimizer) and any(loop.start > scheduler.serial for loop in query.loops(around))
        for event, around in timeline.located(ev.Step)
    )


def _target(event: ev.Build) -> tree.Expression | None:
    """The one name or attribute that what is built is bound to."""
    node = event.statement.node
    if not isinstance(node, tree.Assign) or node.value is not event.place.node or len(node.targets) != 1:
        return None
    return node.targets[0]


def _closed(timeline: tl.Timeline, scheduler: Thing) -> bool:
    """Whether all bases are known of the one object that has a schedule as an attribute."""
    owners = [event.subject for event in timeline.events(ev.SetAttribute) if only(event.value) is scheduler]
    return len(owners) == 1 and all(
        isinstance(o, Thing) and isinstance(o.cls, ClassValue) and o.cls.closed for o in owners
    )


def _asked_for(timeline: tl.Timeline, attribute: str) -> bool:
    """Whether some text of the project asks any object for an attribute, save to bind it or to look at it."""
    name, looks = re.escape(attribute), "|".join(LOOKS)
    uses = re.compile(
        rf"\.{name}\b(?!\s*=(?!=))(?!\.(?:{looks})\b)|attr\w*\([^()]*[\"']{name}[\"']|\b__dict__\b|\bvars\("
    )
    texts = [module.text for module in timeline.home.project.modules.values() if module is not None]
    spend(1 + sum(map(len, texts)) // 200)
    return any(uses.search(text) for text in texts)


def _used(body: tree.Block, name: str) -> bool:
    """Whether a name is used in some statements, the functions in them included, save for being bound and looked at."""
    todo: list[tree.Block] = [body]
    while todo:
        spared: set[int] = set()
        named: list[tree.Name] = []
        for node in tree.walk_block(todo.pop()):
            spend(1)
            if isinstance(node, tree.Assign):
                spared.update(id(target) for target in node.targets)
            elif isinstance(node, tree.Attribute) and node.attr in LOOKS:
                spared.add(id(node.value))
            elif name in node.names if isinstance(node, tree.Scope) else _opens(node):
                return True
            elif isinstance(node, tree.Name) and node.id == name:
                named.append(node)
            elif isinstance(node, tree.Class):
                todo.append(node.body)
            elif isinstance(node, tree.Lambda):
                todo.append(node.function.body)
            elif isinstance(node, tree.Function):
                outside = [*node.decorators, *(p.default for p in node.parameters if p.default is not None)]
                if any(isinstance(n, tree.Name) and n.id == name for part in outside for n in part.walk()):
                    return True
                if all(p.name != name for p in node.parameters):
                    todo.append(node.body)
        if any(id(node) not in spared for node in named):
            return True
    return False


def _opens(node: tree.Node) -> bool:
    """Whether all names can be had by this one."""
    return isinstance(node, tree.Name) and node.id in _NAMESPACES
