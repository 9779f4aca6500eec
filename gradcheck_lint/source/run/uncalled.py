"""Functions that an entry point had at hand, that turn the cycle, and that it was not seen to call."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.run import objects
from gradcheck_lint.source.run.holdings import handed
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.spotted import MOST
from gradcheck_lint.source.run.touch import turns
from gradcheck_lint.source.values import ClassValue, FunctionValue

FAR = 1024  # functions that are asked what they hold


def turning(machine: Machine, node: tree.Node) -> bool:
    """Whether some function that was not followed turns the gradient cycle."""
    left = [
        f
        for key, f in machine.spotted.functions.items()
        if key not in machine.followed or key in machine.spotted.handed
    ]
    tried = 0
    for function in left[:FAR]:
        bounds = _bound(machine, function)
        if function.receiver is None and function.owner is not None and function.owner.serial in machine.unmade:
            return True  # what it holds is not known
        for bound in bounds:
            if machine.relevant(function.function) or handed(machine, bound, ()):
                tried += 1
                if tried > MOST or turns(machine, bound, node):
                    return True
    return len(left) > FAR


def _bound(machine: Machine, function: FunctionValue) -> list[FunctionValue]:
    """A method bound to the instances that were made of its class, or to one made with unknown arguments."""
    owner = function.owner
    if owner is None or function.receiver is not None:
        return [function]
    made = [
        t
        for t in machine.spotted.instances
        if isinstance(t.cls, ClassValue) and any(b is owner for b in t.cls.lineage())
    ]
    return [function.bind(thing) for thing in made[:4] or [objects.instance(machine, owner)[0]]]
