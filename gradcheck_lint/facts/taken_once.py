"""Numbers that were computed from a trained parameter once, and are used in a loss as if they followed it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.penalties import operations
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Tensor
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.values import Constant, Thing, Value, only, options

_MAPS = frozenset("exp exp2 expm1 sigmoid softplus tanh square softmax log_softmax pow".split())
"""What makes of a parameter the number that it stands for, element by element."""
_CUTS = frozenset("detach item tolist numpy float clone cpu to view reshape squeeze".split())


class TakenOnce(NamedTuple):
    """An assignment of such a number, the parameter, its optimizer, and the backward that uses it."""

    event: ev.Assign
    name: str
    parameter: Thing
    optimizer: Thing
    backward: ev.Backward
    sure: bool


def taken_once(timeline: tl.Timeline) -> Iterator[TakenOnce]:
    backs = list(timeline.located(ev.Backward))
    trained = {}
    for step in timeline.events(ev.Step) if backs else ():
        optimizer = only(step.subject)
        if optimizer is not None:
            trained.update({id(tensor): (tensor, optimizer) for tensor in held_by(optimizer).tensors})
    if not trained:
        return
    for event, around in timeline.located(ev.Assign):
        value = event.value
        name = tree.dotted(event.target)
        if not isinstance(value, Thing) or not name or query.loops(around):
            continue
        parameter = _taken_from(value)
        if parameter is None or id(parameter) not in trained or not _once(timeline, event, name):
            continue
        for back, where in backs:
            again = bool(query.loops(where)) or back.function is not event.function
            if not again or back.serial < event.serial or not _uses(back.subject, value, parameter):
                continue
            optimizer = trained[id(parameter)][1]
            yield TakenOnce(event, name, parameter, optimizer, back, optimizer.certain and not timeline.cut)
            break


def _taken_from(value: Thing) -> Thing | None:
    """The parameter that a number is computed from, by way of a function of its elements."""
    mapped = cut = False
    thing: Thing | None = value
    for _ in range(8):
        if thing is None:
            return None
        made = thing.made
        if made is None or (isinstance(thing.what, Tensor) and thing.what.trained):
            break
        name = made.name.rpartition(".")[2]
        if made.how not in (How.METHOD, How.FUNCTION) or name not in _MAPS | _CUTS:
            return None
        mapped, cut = mapped or name in _MAPS, cut or name in ("detach", "item", "tolist", "numpy", "float")
        given: Value | None = made.base if made.base is not None else (made.args[0] if made.args else None)
        thing = only(given)
    return thing if mapped and cut and thing is not None and isinstance(thing.what, Tensor) else None


def _once(timeline: tl.Timeline, event: ev.Assign, name: str) -> bool:
    """Whether nothing else in the file gives it a value."""
    last = re.escape(name.rpartition(".")[2])
    text = timeline.home.text
    spend(1 + len(text) // 500)
    written = re.findall(rf"\b{last}\b(?:\[[^\]\n]*\])?(?:\.data)?\s*(?:[-+*/]?=(?!=)|,[^=()\n]*=(?!=))", text)
    filled = re.search(rf"\b{last}\.\w+_\(|[\"']{last}[\"']|\b(?:for|as|global|nonlocal)\s+{last}\b", text)
    return event.place.chunk.path == timeline.home.path and len(written) == 1 and filled is None


def _uses(loss: Value | None, value: Thing, parameter: Thing) -> bool:
    """Whether a loss is made with a value, and does not hold it against what the parameter is now."""
    found = False
    for made in operations(loss):
        given = [made.base, *made.args, *(made.keywords or {}).values()]
        if any(option is value for one in given for option in options(one)):
            found = True
            for one in given:
                others = [o for o in options(one) if o is not value and not isinstance(o, Constant)]
                if any(o is parameter or _comes_of(o, parameter) for o in others):
                    return False
    return found


def _comes_of(value: Value, parameter: Thing) -> bool:
    return any(
        option is parameter for made in operations(value) for one in (made.base, *made.args) for option in options(one)
    )
