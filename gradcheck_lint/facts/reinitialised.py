"""Whether the weights that a state has brought are drawn again before they are used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts.built_anew import follows
from gradcheck_lint.facts.order import after
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import (
    Forward,
    Initialise,
    LoadState,
    Step,
)
from gradcheck_lint.source.natures import Module, Optimizer
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


def reinitialised(timeline: Timeline, load: LoadState) -> Initialise | None:
    """The call that draws all weights of a model anew after a state was loaded into it, on every path from there."""
    model = only(load.subject, Module)
    if model is None:
        return None
    for later in after(timeline, load):
        if isinstance(later, LoadState) and later is not load and only(later.subject) is model:
            return None
        if isinstance(later, (Forward, Step)):
            return None
        if isinstance(later, Initialise) and later.subject.core is model.core and _all(later, model):
            return later if follows(timeline, load, later) and not _loaded_again(timeline, later, model) else None
    return None


def _loaded_again(timeline: Timeline, event: Initialise, model: Thing) -> bool:
    """Whether a state is loaded before the model is run."""
    for later in after(timeline, event):
        if isinstance(later, LoadState) and only(later.subject) is model:
            return True
        if isinstance(later, (Forward, Step)):
            return False
    return False


def _all(event: Initialise, model: Thing) -> bool:
    """Whether a call initialises all that its class makes of layers."""
    if "*" in event.below:
        return True
    cls = model.core.cls
    init = cls.member("__init__") if isinstance(cls, ClassValue) else None
    if not isinstance(init, FunctionValue):
        return False
    made = {
        target.attr
        for node in tree.walk_block(init.function.body)
        if isinstance(node, tree.Assign) and isinstance(node.value, tree.Call)
        for target in node.targets
        if isinstance(target, tree.Attribute) and tree.last_name(node.value.func)[:1].isupper()
    }
    return len(event.below) > 1 and made <= event.below


_SAVED = re.compile(r"""["'](\w*optim\w*)["']\s*:\s*[\w.]*optim\w*\.state_dict\(\)""", re.IGNORECASE)
_RESUMED = re.compile(r"""\[["'](?:epochs?|steps?|iter\w*|global_step|start_epoch)["']\]""")


def left_out(timeline: Timeline, load: LoadState) -> str | None:
    """The key under which a file saves the state of an optimizer, and which it does not read where training goes on.

    That training goes on shows by the count of epochs or steps which is read from the same checkpoint.
    """
    model, call = only(load.subject, Module), load.place.node
    state = call.args[0].value if isinstance(call, tree.Call) and call.args else None
    if model is None or not isinstance(state, tree.Subscript) or (load.function is None and timeline.entry is not None):
        return None
    later = [e for e in after(timeline, load) if isinstance(e, Step)]
    restored = any(things(e.subject, Optimizer) for e in timeline.events(LoadState))
    if not later or restored:
        return None
    home = timeline.home.text
    name = re.escape(tree.dotted(state.value))
    if re.search(r"(?i)optim\w*\.load_state_dict\(", home):
        return None  # of another checkpoint, or by another name
    read_here = name and re.search(rf"\b{name}\s*=\s*torch\.load\(", home) is not None
    if not read_here or not re.search(rf"\b{name}{_RESUMED.pattern}", home):
        return None
    handed_on = re.compile(rf"\b(?!print\b|len\b|type\b)\w+\((?:[^()]*,\s*)?{name}\s*[,)]")
    for key in dict.fromkeys(_SAVED.findall(home)):
        quoted = rf"""["']{key}["']"""
        read = re.compile(rf"\[{quoted}\](?!\s*=[^=])|\.(?:get|pop)\({quoted}|{quoted}\s+in\b")
        if not read.search(home) and not handed_on.search(home):
            return str(key)
    return None
