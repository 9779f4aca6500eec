"""Whether a closure goes backward through a forward pass that was made before it was called."""

from __future__ import annotations

from gradcheck_lint.facts.led_to import led_to
from gradcheck_lint.facts.reach import weighs
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Module, Parameters, Tensor
from gradcheck_lint.source.values import Constant, FunctionValue, Items, Thing, Value, options


def computed_before(closure: FunctionValue, run: tl.Call) -> bool:
    """Whether all that leads from the losses of a closure to parameters was computed outside of it, and before.

    What the closure itself computes may only compare: with weights of its own it would follow where these go.
    """
    events = list(tl.inside(run.body))
    backs = [e for e in events if isinstance(e, ev.Backward)]
    if any(isinstance(e, ev.Forward) and weighs(e.subject) is not NO for e in events):
        return False
    begun = min(e.serial for e in events)
    first, last = closure.function.at.line, closure.function.at.end_line
    for back in backs:
        old = _older(back.subject, begun)
        led = [(one, led_to(one)) for one in old or ()]
        having = [one for one, found in led if any(isinstance(met.what, Module) for met in found.alive.values())]
        if old is None or not having or any(found.open for _, found in led):
            return False
        for one in having:
            place = one.made.place if one.made is not None else one.place
            if place is None or place.chunk is not run.place.chunk or first <= place.node.at.line <= last:
                return False
    return True


def _older(value: Value | None, begun: int) -> list[Thing] | None:
    """What was there before, of what a value was computed from; None if there are weights among it."""
    found: list[Thing] = []
    seen: set[int] = set()
    todo: list[Value | None] = [value]
    while todo:
        for one in options(todo.pop()):
            spend(2)
            if id(one) in seen or isinstance(one, Constant):
                continue
            seen.add(id(one))
            if len(seen) > limits.WAY:
                return None
            if isinstance(one, Items):
                todo += one.items
            elif isinstance(one, Thing):
                made = one.made
                if one.serial >= begun and made is not None:
                    todo += [made.base, *made.args, *(made.keywords or {}).values()]
                elif _weight(one):
                    return None
                elif not isinstance(one.what, Module):
                    found.append(one)
            elif isinstance(one, FunctionValue):
                return None
    return found


def _weight(one: Thing) -> bool:
    """Whether something has parameters, or is one."""
    if isinstance(one.what, Tensor):
        return one.what.element_of is not None or bool(one.what.leaf and one.what.grad)
    return isinstance(one.what, Parameters) or (isinstance(one.what, Module) and weighs(one) is not NO)
