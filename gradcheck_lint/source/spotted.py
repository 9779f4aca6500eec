"""Functions that an entry point had in its hands and was not seen to call.

A function can be run in more ways than anybody can list: by a table, a hook, a queue, a metaclass, an operator. So what
was looked up or made is noted, and what was followed is known; a function that turns the gradient cycle and that was
had but never followed may be run at any time, which makes everything about its entry point uncertain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.source.holdings import held
from gradcheck_lint.source.values import ClassValue, FunctionValue, Value

if TYPE_CHECKING:
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.interpret import Interpreter

MOST = 64  # functions that are tried at the end of one entry point


class Spotted:
    """What one entry point looked up or made: functions, and the special methods of classes."""

    def __init__(self) -> None:
        self._functions: dict[int, FunctionValue] = {}  # by the id of the function
        self._classes: set[int] = set()

    def note(self, value: Value | None) -> None:
        """A value was looked up or made."""
        if isinstance(value, FunctionValue):
            self._functions.setdefault(id(value.function), value)
        elif isinstance(value, ClassValue) and value.serial not in self._classes:
            self._classes.add(value.serial)
            for base in value.lineage():
                if isinstance(base, ClassValue):
                    for name, member in base.members.items():
                        if name.startswith("__") and name.endswith("__") and name != "__init__":
                            self.note(member)
                        elif not isinstance(member, FunctionValue):
                            self.note(getattr(member, "cls", None))  # a descriptor, if it is one

    def turning(self, i: Interpreter, node: tree.Node) -> bool:
        """Whether some function that was not followed turns the gradient cycle."""
        from gradcheck_lint.source.touch import turns

        left = [f for key, f in self._functions.items() if key not in i.followed]
        for function in left[:MOST]:
            if i.relevant(function.function) or held(i, function):
                if function.owner is not None and function.receiver is None:
                    function = function.bind(i.instance(function.owner)[0])
                if turns(i, function, node):
                    return True
        return len(left) > MOST
