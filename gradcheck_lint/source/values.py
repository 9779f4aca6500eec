"""What an expression stands for, as far as the code tells.

`Thing` is an object with an identity: the optimizer built at this call, the model behind this parameter. All other
values are what Python code is made of: constants, functions, classes, containers, and `Choice` where paths join.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source import limits
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.tree import Container

if TYPE_CHECKING:
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.model_tree import Pick
    from gradcheck_lint.source.operations import Operation
    from gradcheck_lint.source.place import Chunk, Place
    from gradcheck_lint.source.project import Module
    from gradcheck_lint.source.run.arguments import Arguments
    from gradcheck_lint.source.timeline import Loop


class _Serials(threading.local):
    """Each thread counts for itself: two analyses at a time have nothing to do with one another."""

    def __init__(self) -> None:
        self.count = itertools.count(1)


_serials = _Serials()


@contextlib.contextmanager
def own_serials() -> Iterator[None]:
    """Serials that start from 1, for one analysis: what comes of it must not depend on what the process did before."""
    before, _serials.count = _serials.count, itertools.count(1)
    try:
        yield
    finally:
        _serials.count = before


class Value:
    __slots__ = ()


class Constant(Value):
    """A number, string, bool or None; `...` stands for one whose value is not kept."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Constant({self.value!r})"


NONE = Constant(None)


class External(Value):
    """A name that leads out of the project: `torch.optim.SGD`, `builtins.list`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"External({self.name})"


class ModuleValue(Value):
    """A module of the project."""

    __slots__ = ("module",)

    def __init__(self, module: Module) -> None:
        self.module = module


class FunctionValue(Value):
    """A function of the project, with the scope it was defined in and the object it is bound to."""

    __slots__ = ("bare", "chunk", "function", "home", "manages", "owner", "receiver", "scope", "wrapper")

    def __init__(
        self,
        function: tree.Function,
        home: Module,
        scope: int | None,
        owner: ClassValue | None = None,
        receiver: Value | None = None,
    ) -> None:
        self.function, self.home, self.scope = function, home, scope
        self.owner, self.receiver = owner, receiver
        self.bare = False  # without its decorators
        self.manages = False  # `@contextmanager` makes a context manager of it
        self.wrapper: Value | None = None  # what its decorators made of it, and is called in its place
        self.chunk: Chunk | None = None  # what its definition was parsed with, unless that has a chunk of its own

    def bind(self, receiver: Value) -> FunctionValue:
        bound = FunctionValue(self.function, self.home, self.scope, self.owner, receiver)
        bound.chunk, bound.wrapper, bound.manages = self.chunk, self.wrapper, self.manages
        return bound

    def place(self, node: tree.Node) -> Place:
        """The place of a node of the function: a statement of its body, or itself."""
        from gradcheck_lint.source.place import Place

        self.function.body  # noqa: B018 - gives it a chunk of its own if there is to be one
        chunk = self.home.chunks.get(id(self.function)) or self.chunk
        assert chunk is not None
        return Place(chunk, node)

    def __repr__(self) -> str:
        return f"FunctionValue({self.function.name})"


class ClassValue(Value):
    """A class of the project. `bases` are values; `members` what its body binds."""

    __slots__ = ("_inherited", "_lineage", "bases", "home", "members", "metaclass", "node", "scope", "serial")

    def __init__(self, node: tree.Class, home: Module, scope: int | None, bases: list[Value]) -> None:
        self.node, self.home, self.scope, self.bases = node, home, scope, bases
        self.members: dict[str, Value] = {}
        self.metaclass: Value | None = None
        self._lineage: list[Value] | None = None
        self._inherited: list[dict[str, Value]] | None = None  # what the bodies of those in it bind
        self.serial = next(_serials.count)

    @property
    def name(self) -> str:
        return self.node.name

    def add_base(self, base: Value) -> None:
        """It has one more base than its text says."""
        self.bases.append(base)
        self._lineage = self._inherited = None

    def lineage(self) -> Iterator[Value]:
        """This class and its bases, nearest first (depth first, which is close enough to the MRO).

        Of more than a lineage may have, the farthest are one base that nothing is known of.
        """
        if self._lineage is None:
            self._lineage = list(self._ancestors())
        return iter(self._lineage)

    def _ancestors(self) -> Iterator[Value]:
        seen: set[int] = set()
        todo: list[Value] = [self]
        while todo:
            value = todo.pop()
            if id(value) in seen:
                continue
            if len(seen) == limits.LINEAGE:
                yield _FAR
                return
            seen.add(id(value))
            yield value
            if isinstance(value, ClassValue):
                todo += reversed(value.bases)
            elif isinstance(value, Choice):
                todo += reversed(value.options)

    def member(self, name: str) -> Value | None:
        """The attribute `name` of the class, looked up along the lineage."""
        if self._inherited is None:
            self._inherited = [value.members for value in self.lineage() if isinstance(value, ClassValue)]
        for members in self._inherited:
            if name in members:
                return members[name]
        return None

    def derives(self, *names: str) -> bool:
        """Whether some base outside the project has one of these names (full, or its last part)."""
        for value in self.lineage():
            if isinstance(value, External) and (value.name in names or value.name.rpartition(".")[2] in names):
                return True
        return False

    @property
    def closed(self) -> bool:
        """Whether all bases are known: the project's own classes, `object`, or torch's `nn.Module`."""
        for value in self.lineage():
            if not isinstance(value, ClassValue) and not (
                isinstance(value, External)
                and value.name in ("builtins.object", "torch.nn.Module", "abc.ABC", "typing.Generic", "typing.Protocol")
            ):
                return False
        return True

    def __repr__(self) -> str:
        return f"ClassValue({self.name})"


_FAR = External("?")


class Partial(Value):
    """`functools.partial(func, …)`."""

    __slots__ = ("args", "func", "keywords")

    def __init__(self, func: Value, args: list[Value], keywords: dict[str, Value]) -> None:
        self.func, self.args, self.keywords = func, args, keywords


class Items(Value):
    """A list, tuple, set or generator whose items are known; `complete` unless more may have been added.

    `place` is where it was made; `unordered` if it is a set or takes its order from one. `lazy` is what a generator
    expression does when somebody goes over it. `over` is what it has one item each of, as `enumerate(x)` of x.
    """

    __slots__ = (
        "complete", "constants", "depth", "escaped", "items", "kept", "kind", "lazy", "loose", "over", "place",
        "serial", "sifted", "strange", "unordered",
    )  # fmt: skip

    def __init__(
        self,
        kind: Container,
        items: list[Value],
        complete: bool = True,
        place: Place | None = None,
        *,
        unordered: bool = False,
    ) -> None:
        self.kind, self.items, self.complete, self.place = kind, items, complete, place
        self.unordered = unordered or kind is Container.SET
        self.lazy: Loop | None = None
        self.over: Value | None = None
        self.escaped = 0  # how many of the items code that cannot be seen has got hold of already
        self.constants = 0  # how many of the first items were seen to be constants: items are only added
        self.strange = False  # it may have items that are none of these, not only more of their kind
        self.depth = 0  # how many branches it was made in
        self.loose = False  # what stands last in it is another item on another path
        self.sifted: tuple[Sifted, ...] = ()  # which parameters the elements of a model in it are
        self.kept: tuple[Thing, str] | None = None  # the object that has it as an attribute, and of which name
        self.serial = next(_serials.count)

    def __repr__(self) -> str:
        return f"Items({self.kind.value}, {self.items}{'' if self.complete else ', …'})"


class Sifted(NamedTuple):
    """A loop over the parameters of a model has put some of them into a list: as items from `start` to `end`."""

    start: int
    end: int
    pick: Pick
    loop: tree.For


class Table(Value):
    """A dict whose entries are known; `complete` unless it may have others. `place` is where it was made.

    `maybe` are the keys that were set on some paths only; `depth` is how many branches it was made in.
    """

    __slots__ = ("complete", "depth", "entries", "escaped", "kept", "maybe", "parameters", "place", "serial")

    def __init__(self, entries: dict[object, Value], complete: bool = True, place: Place | None = None) -> None:
        self.entries, self.complete, self.place = entries, complete, place
        self.serial = next(_serials.count)
        self.maybe: set[object] = set()
        self.depth = 0
        self.escaped = 0  # as for Items
        self.parameters: Thing | None = None  # the named parameters that it was made of, and of nothing else
        self.kept: tuple[Thing, str] | None = None


class Choice(Value):
    """One of several values: which one depends on the path taken."""

    __slots__ = ("options",)

    def __init__(self, options: tuple[Value, ...]) -> None:
        self.options = options

    def __repr__(self) -> str:
        return f"Choice{self.options}"


class Nature:
    """What an object is, with what is known of objects of that nature; see `natures`."""

    __slots__ = ()

    def copy(self) -> Nature:
        """What a copy of the object is."""
        return copy(self)


class Via:
    """A call of a known kind that gave an object, for what can be done with that; see `natures`."""

    __slots__ = ()


Natures = type[Nature] | tuple[type[Nature], ...]


class Thing(Value):
    """An object with an identity."""

    __slots__ = (
        "anything", "args", "bound", "certain", "changed", "cls", "copy_of", "deps", "escaped", "height", "label",
        "made", "names", "open", "origin", "owners", "parent", "place", "ready", "repeats", "serial", "summary",
        "values", "via", "what", "wraps",
    )  # fmt: skip

    def __init__(
        self,
        what: Nature,
        label: str = "",
        place: Place | None = None,
        *,
        cls: Value | None = None,
        args: Arguments | None = None,
        deps: frozenset[Thing] = frozenset(),
        summary: bool = False,
        certain: bool = True,
        parent: tuple[Thing, str] | None = None,
        values: tuple[Value, ...] = (),
        via: Via | None = None,
    ) -> None:
        """
        what      its nature, which may be learnt later than that it is there: one of the classes in `natures`
        label     what the code calls it
        place     where it was made, if the code shows that
        cls       its class, if known
        args      what that was called with, if the code shows it
        deps      the things that took part in making it (a loss depends on the modules that it was computed with)
        summary   stands for several objects (the element of a list that is looped over)
        certain   its nature follows from how it was made, not from its name
        parent    the thing and attribute (or index) that it was read from
        values    what it may hold, if code that was not seen has made it or was handed something together with it
        via       the call that it came of, if that is of a known kind
        """
        self.what, self.label, self.place, self.cls, self.args, self.deps = what, label, place, cls, args, deps
        self.summary, self.certain, self.parent, self.values, self.via = summary, certain, parent, values, via
        self.made: Operation | None = None  # whose result it is, where the code shows that
        self.height = 0  # how many things it was read through
        if parent is not None:
            self.height = parent[0].height + 1
            if self.height > limits.PARENTS:
                self.parent, self.height = (parent[0].root, parent[1]), 1
        self.ready = False  # its __init__ has been interpreted
        self.bound = False  # it has got the first name that the code gives it
        self.wraps: Thing | None = None  # what a wrapper (DataParallel, torch.compile, accelerator.prepare) wraps
        self.copy_of: Thing | None = None  # what `copy.deepcopy` was given
        self.owners: tuple[Thing, ...] = ()  # the modules and objects that it was made a part of
        self.names: dict[str, bool] | None = None  # the attributes that it was given, and whether on some paths only
        self.open = False  # it was given attributes whose names are not known, or may have been
        self.repeats = False  # a loop has put parts into it, of which nobody knows how many they are
        self.changed = 0  # when it may last have got another part under a name that is not known; 0: never
        self.escaped = 0  # since when code that cannot be seen has it in its hands; 0: it has not
        self.origin = ""  # the function outside the project that gave it
        self.anything = False  # it was given by code that can reach all there is
        self.serial = next(_serials.count)

    def escape(self) -> None:
        """Code that cannot be seen gets it in its hands."""
        self.escaped = self.escaped or next(_serials.count)

    def copy(self, place: Place) -> Thing:
        """Another object that is as this one is now: nobody's part yet, and without a name."""
        made = Thing(self.what.copy(), "", place, cls=self.cls, args=self.args, certain=self.certain)
        made.values, made.via, made.origin, made.anything = self.values, self.via, self.origin, self.anything
        made.wraps, made.copy_of = self.wraps, self
        made.names, made.open, made.changed = self.names and dict(self.names), self.open, self.changed
        made.escaped, made.repeats = self.escaped, self.repeats
        made.ready = True
        return made

    def __hash__(self) -> int:
        """By its serial, so that sets of things have the same order in each run; addresses differ."""
        return self.serial

    @property
    def root(self) -> Thing:
        """The thing that it was read from, and so on up: `net` for `net.fc.weight`."""
        thing = self
        while thing.parent is not None:
            thing = thing.parent[0]
        return thing

    def inside(self, other: Thing) -> bool:
        """Whether this is `other` or was read from it: `net.fc` is inside `net`; a wrapper is its content."""
        spend(1)
        thing: Thing | None = self
        other = other.core
        while thing is not None:
            thing = thing.core
            if thing is other:
                return True
            thing = thing.parent[0] if thing.parent is not None else None
        return False

    @property
    def core(self) -> Thing:
        """What a wrapper (DataParallel, torch.compile, accelerator.prepare) wraps, else the thing itself."""
        thing = self
        while thing.wraps is not None:
            thing = thing.wraps
        return thing

    @property
    def class_name(self) -> str:
        """The name of its class, in full if that is not the project's; "" if it is not known."""
        return self.cls.name if isinstance(self.cls, (ClassValue, External)) else ""

    def __repr__(self) -> str:
        return f"Thing({type(self.what).__name__} {self.label}#{self.serial})"


def new_serial() -> int:
    return next(_serials.count)


def options(value: Value | None) -> tuple[Value, ...]:
    """The values that this may be."""
    if value is None:
        return ()
    return value.options if isinstance(value, Choice) else (value,)


def things(value: Value | None, nature: Natures | None = None) -> list[Thing]:
    """The things among a value's options, of one nature (or several) if given."""
    if isinstance(value, Thing):
        return [value] if nature is None or isinstance(value.what, nature) else []
    if not isinstance(value, Choice):
        return []
    return [v for v in value.options if isinstance(v, Thing) and (nature is None or isinstance(v.what, nature))]


def only(value: Value | None, nature: Natures | None = None) -> Thing | None:
    """The one thing that the value is, on whatever path; None if it may be something else.

    None (the constant) does not count as something else: code that uses it has made sure that it is not.
    """
    if isinstance(value, Thing):
        return value if nature is None or isinstance(value.what, nature) else None
    if not isinstance(value, Choice):
        return None
    found = [v for v in value.options if not (isinstance(v, Constant) and v.value is None)]
    if len(found) == 1 and isinstance(found[0], Thing) and (nature is None or isinstance(found[0].what, nature)):
        return found[0]
    return None


def contents(value: Value | None) -> Iterator[Value]:
    """What a value may be, and all that its lists and dicts hold at any depth: each container once, in order."""
    seen: set[int] = set()
    todo: list[Value] = list(options(value))[::-1]
    while todo:
        spend(1)
        option = todo.pop()
        inner: Iterable[Value] = ()
        if isinstance(option, Choice):
            todo += reversed(option.options)
            continue
        if isinstance(option, Items):
            inner = option.items
        elif isinstance(option, Table):
            inner = option.entries.values()
        else:
            yield option
            continue
        if id(option) not in seen:
            seen.add(id(option))
            yield option
            todo += reversed([o for part in inner for o in options(part)])


def limited(items: list[Value]) -> tuple[list[Value], bool]:
    """The items of a list that is made of others, and whether that are all: it may have only so many."""
    return (items, True) if len(items) <= limits.ITEMS else (items[: limits.ITEMS], False)
