"""Functions that an entry point had in its hands and was not seen to call.

A function can be run in more ways than anybody can list: by a table, a hook, a queue, a metaclass, an operator. So what
was looked up or made is noted, and what was followed is known; a function that turns the gradient cycle and that was
had but never followed may be run at any time, which makes everything about its entry point uncertain.
"""

from __future__ import annotations

from gradcheck_lint.source.natures import Instance
from gradcheck_lint.source.run.holdings import callables
from gradcheck_lint.source.values import ClassValue, FunctionValue, Items, Thing, Value, options

_CALLED = frozenset(
    "forward __call__ __enter__ __exit__ __iter__ __next__ __get__ __set__ __setattr__ __new__ __post_init__".split()
)
"""Special methods that are followed where the code calls them."""


_PROPERTY = (".setter__", ".deleter__")
"""How the names end under which a class keeps what a property does when it is assigned or deleted: followed there."""


MOST = 64  # instances that are remembered, and functions that are tried, for one entry point


class Spotted:
    """What one entry point looked up or made: functions, and the special methods of classes."""

    def __init__(self) -> None:
        self.functions: dict[int, FunctionValue] = {}  # by the id of the function
        self._classes: set[int] = set()
        self.instances: list[Thing] = []
        self.handed: set[int] = set()  # functions that unseen code was handed, or that Python calls by itself

    def note(self, value: Value | None) -> None:
        """A value was looked up or made."""
        if isinstance(value, FunctionValue):
            self.functions.setdefault(id(value.function), value)
        elif isinstance(value, ClassValue) and value.serial not in self._classes:
            self._classes.add(value.serial)
            for base in value.lineage():
                if isinstance(base, ClassValue):
                    self.note(base.metaclass)
                    for name, member in base.members.items():
                        if name.endswith(_PROPERTY):
                            continue
                        if name == "forward" or (name.startswith("__") and name.endswith("__") and name != "__init__"):
                            self.note(member)
                            if isinstance(member, FunctionValue) and name not in _CALLED:
                                self.handed.add(id(member.function))
                        elif not isinstance(member, FunctionValue):
                            self.note(getattr(member, "cls", None))  # a descriptor, if it is one

    def made(self, thing: Thing) -> None:
        """An instance of a class of the project was made."""
        if len(self.instances) < MOST:
            self.instances.append(thing)

    def given(self, value: Value | None) -> None:
        """Unseen code was handed a value: functions in it may be called at any time, also if the code called them."""
        functions = callables(value)
        for option in options(value):
            if isinstance(option, Thing) and isinstance(option.what, Instance) and isinstance(option.cls, ClassValue):
                bases = (base for base in option.cls.lineage() if isinstance(base, ClassValue))
                functions += [member for base in bases for member in base.members.values()]
        for function in functions:
            if isinstance(function, FunctionValue):
                self.note(function)
                self.handed.add(id(function.function))

    def lent(self, value: Value | None) -> None:
        """An object was given to code that calls its methods: all of them are at hand."""
        for option in options(value):
            if isinstance(option, Items):
                for item in option.items:
                    self.lent(item)
            elif isinstance(option, Thing) and isinstance(option.what, Instance) and isinstance(option.cls, ClassValue):
                for base in option.cls.lineage():
                    for member in base.members.values() if isinstance(base, ClassValue) else ():
                        self.note(member)
