"""A timeline: the events that an entry point causes, as a tree of sequences, branches, loops and calls.

`run` makes one `Timeline` for each entry point.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from collections.abc import Sequence as Sequence_
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Build, Event, GradWrite, Hook, Step, Turning, Unknown, Unscale, Zero
from gradcheck_lint.source.natures import Module as NnModule
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.values import ClassValue, Thing, Value, new_serial, options

if TYPE_CHECKING:
    from gradcheck_lint.source.amounts import Amount
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.project import Module

E = TypeVar("E", bound=Event)
F = TypeVar("F", bound=Event)
G = TypeVar("G", bound=Event)
H = TypeVar("H", bound=Event)


class Sequence:
    """Parts one after the other."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Part] = []


class Opening(Sequence):
    """What making an object causes: the first step of each of its methods, gone through once for all of them."""

    __slots__ = ("_clearing", "_kinds", "size")

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self._kinds: dict[type[Event], list[tuple[int, Event]]] | None = None
        self._clearing: list[Event] | None = None

    @property
    def kinds(self) -> Mapping[type[Event], Sequence_[tuple[int, Event]]]:
        """Its events by their class, each with its number. Nobody asks before it is complete."""
        if self._kinds is None:
            self._kinds = {}
            events = gathered(self)
            self.size = len(events)
            for index, event in enumerate(events):
                self._kinds.setdefault(type(event), []).append((index, event))
        return self._kinds

    @property
    def clearing(self) -> Sequence_[Event]:
        """The events that may clear or write gradients."""
        if self._clearing is None:
            self._clearing = [event for event in gathered(self) if isinstance(event, _CLEARING)]
        return self._clearing


class Branch:
    """One of several arms is taken; `test` is the condition (None for try and match).

    `sizes` are the amounts behind a `%` or a count, in it or before it, by the ids of their nodes, as far as known.
    """

    __slots__ = ("arms", "place", "sizes", "test")

    def __init__(
        self,
        test: tree.Expression | None,
        arms: list[Sequence],
        place: Place,
        sizes: Mapping[int, Amount] | None = None,
    ) -> None:
        self.test, self.arms, self.place = test, arms, place
        self.sizes = sizes or _UNSIZED


_UNSIZED: Mapping[int, Amount] = MappingProxyType({})  # most branches: one for all of them


class Attempt(Branch):
    """`try`: the first arm is its body, the others its handlers, which run after any part of the body."""

    __slots__ = ()


class Loop:
    """The body runs again and again; `once` marks the unrolled pass of a loop over a known list.

    `endless` loops (`while True`) are left by break or return only. A thing whose serial is below `start` was
    there before the round of the loop that the body shows. `over` is what it goes over, and `length` how many rounds
    there are, if the code says so; `listed` marks a loop over a list that the code itself puts together, `groups` one
    over the groups of an optimizer, of which there mostly is one. `elements` are the ids of the things that the target
    stands for: each of them is met in one round, and in the others it is another one's turn. The body of one that is
    `unfinished` was cut short: what a second round brings is not known.
    """

    __slots__ = (
        "body", "elements", "endless", "groups", "length", "listed", "node", "once", "over", "place", "start",
        "unfinished",
    )  # fmt: skip

    def __init__(
        self, body: Sequence, node: tree.Node, place: Place, once: bool = False, endless: bool = False, start: int = 0
    ) -> None:
        self.body, self.node, self.place, self.once, self.endless = body, node, place, once, endless
        self.start = start
        self.length: Amount | None = None
        self.over: Value | None = None
        self.elements: Container[int] = ()
        self.listed = self.groups = self.unfinished = False


class Turn(Loop):
    """The body of a loop over a generator, where that yields: a `break` in it ends the generator."""

    __slots__ = ()


class Guarded:
    """`final` runs after the body however that is left: by its end or by a jump."""

    __slots__ = ("body", "final")

    def __init__(self, body: Sequence, final: Sequence) -> None:
        self.body, self.final = body, final


class Call:
    """A call that was followed: the events of its body. It `clears` gradients unless it was seen that it does not."""

    __slots__ = ("body", "clears", "function", "place")

    def __init__(self, body: Sequence, function: tree.Function, place: Place, clears: bool = True) -> None:
        self.body, self.function, self.place, self.clears = body, function, place, clears


class Jump:
    """break, continue, return or raise."""

    __slots__ = ("kind", "place", "serial")

    def __init__(self, kind: tree.Exit, place: Place) -> None:
        self.kind, self.place = kind, place
        self.serial = new_serial()


Part = Event | Sequence | Branch | Loop | Guarded | Call | Jump


class Timeline:
    """All that one entry point causes: a function (a method, if it has an owner), or a module's own code if None."""

    def __init__(self, home: Module, entry: tree.Function | None, owner: ClassValue | None = None) -> None:
        self.home, self.entry, self.owner = home, entry, owner
        self.tree = Sequence()
        self._located: list[tuple[Event, tuple[Part, ...]]] | None = None
        self._kinds: dict[type[Event], list[tuple[int, Event]]] | None = None
        self._merged: dict[tuple[type[Event], ...], list[tuple[int, Event]]] = {}  # those of several kinds, in order
        self._size = 0
        self._homes: dict[int, tuple[Part, int]] | None = None
        self._optimizers: list[Thing] | None = None
        self._within: dict[int, list[tuple[Event, tuple[Part, ...]]]] = {}
        self._clearing: list[Event] | None = None
        self._builds: list[Build] | None = None
        self._raising: set[int] | None = None
        self.loose = False  # a function that turns the cycle was at hand, and was not seen to be called
        self.cut = False  # too much to follow: a part of it is not in the tree
        self.skipped = False  # that part is a call, and what comes after it is there; else nothing comes after it
        self.found: dict[object, Any] = {}  # what facts have found in it: see `query.once`

    @property
    def hooked(self) -> bool:
        """Whether the cycle may turn by itself: by a hook, or by a function that may be called at any time."""
        return self.loose or any(True for _ in self.events(Hook))

    @property
    def name(self) -> str:
        """What the entry point is called; nothing if it is a module's own code."""
        if self.entry is None:
            return ""
        return f"{self.owner.name}.{self.entry.name}" if self.owner is not None else self.entry.name

    @overload
    def events(self) -> Iterator[Event]: ...
    @overload
    def events(self, one: type[E], /) -> Iterator[E]: ...
    @overload
    def events(self, one: type[E], two: type[F], /) -> Iterator[E | F]: ...
    @overload
    def events(self, one: type[E], two: type[F], three: type[G], /) -> Iterator[E | F | G]: ...
    @overload
    def events(self, one: type[E], two: type[F], three: type[G], four: type[H], /) -> Iterator[E | F | G | H]: ...
    @overload
    def events(self, *kinds: type[E]) -> Iterator[E]: ...
    def events(self, *kinds: type[Event]) -> Iterator[Event]:
        """The events of some kinds (all if none is named) in the order of the code."""
        if not kinds:
            return iter([event for event, _ in self.located()])
        found = self._numbered(kinds)
        spend(len(found) // 4)
        return iter([event for _, event in found])

    def _numbered(self, kinds: tuple[type[Event], ...]) -> Sequence_[tuple[int, Event]]:
        """The events of some kinds with their numbers, in the order of the code."""
        found = self._merged.get(kinds)
        if found is None:
            by_kind = self.kinds
            met = _among(tuple(by_kind), kinds)
            if len(met) == 1:
                found = by_kind[met[0]]
            else:
                found = [place for kind in met for place in by_kind[kind]]
                found.sort(key=_index)
            self._merged[kinds] = found
        return found

    @property
    def kinds(self) -> Mapping[type[Event], list[tuple[int, Event]]]:
        """The events by their class, each with its number in the order of the code."""
        if self._kinds is None:
            first, rest = self._opened()
            self._kinds = {kind: list(events) for kind, events in first.kinds.items()} if first is not None else {}
            self._size = first.size if first is not None else 0
            for event in rest:
                self._kinds.setdefault(type(event), []).append((self._size, event))
                self._size += 1
        return self._kinds

    @property
    def size(self) -> int:
        """How many events there are."""
        return self._size if self._kinds is not None else sum(len(events) for events in self.kinds.values())

    @property
    def opening(self) -> Opening | None:
        """What making the object causes, of a method."""
        first = self.tree.steps[0] if self.tree.steps else None
        return first if isinstance(first, Opening) else None

    def _opened(self) -> tuple[Opening | None, list[Event]]:
        """What making the object causes, and the events after that."""
        first = self.opening
        if first is None:
            return None, gathered(self.tree)
        rest: list[Event] = []
        for step in self.tree.steps[1:]:
            _gather(step, rest)
        return first, rest

    @property
    def turns(self) -> bool:
        """Whether something turns the gradient cycle, or may; asked while the timeline is still made."""
        first = self.opening
        if first is not None and _among(tuple(first.kinds), (Turning,)):
            return True
        steps = self.tree.steps[1:] if first is not None else self.tree.steps
        return any(isinstance(event, Turning) for step in steps for event in inside(step))

    def own(self, *kinds: type[Event], apart: set[int]) -> list[Event]:
        """The events of some kinds, without those of an opening that is in `apart` (by id), which it is put into."""
        first = self.opening
        skipped = first is not None and id(first) in apart
        if first is not None:
            apart.add(id(first))
        found: list[Event] = []
        for kind in _among(tuple(self.kinds), kinds):
            start = len(first.kinds.get(kind, ())) if first is not None and skipped else 0
            found += [event for _, event in self.kinds[kind][start:]]
        return found

    def has(self, *kinds: type[Event]) -> bool:
        """Whether there is an event of some kinds."""
        return bool(_among(tuple(self.kinds), kinds))

    @overload
    def located(self) -> Iterator[tuple[Event, tuple[Part, ...]]]: ...
    @overload
    def located(self, one: type[E], /) -> Iterator[tuple[E, tuple[Part, ...]]]: ...
    @overload
    def located(self, one: type[E], two: type[F], /) -> Iterator[tuple[E | F, tuple[Part, ...]]]: ...
    @overload
    def located(
        self, one: type[E], two: type[F], three: type[G], /
    ) -> Iterator[tuple[E | F | G, tuple[Part, ...]]]: ...
    def located(self, *kinds: type[Event]) -> Iterator[tuple[Event, tuple[Part, ...]]]:
        """Each event (of some kinds, if any is named) with the parts around it, outermost first."""
        if kinds:
            wanted = self._numbered(kinds)
            spend(len(wanted) // 4)
            if not wanted:
                return iter(())
            if self._located is None:
                self._located = located(self.tree)
            return iter([self._located[number] for number, _ in wanted])
        if self._located is None:
            self._located = located(self.tree)
        else:
            spend(len(self._located) // 4)
        return iter(self._located)

    def path(self, event: Event) -> list[tuple[Part, int]]:
        """The parts around an event, outermost first, each with the index of what leads on to it."""
        if self._homes is None:
            self._homes = _homes(self.tree)
        found: list[tuple[Part, int]] = []
        home = self._homes.get(id(event))
        while home is not None:
            found.append(home)
            home = self._homes.get(id(home[0]))
        found.reverse()
        return found

    def within(self, loop: Part) -> list[tuple[Event, tuple[Part, ...]]]:
        """The events of a loop with the parts around them."""
        found = self._within.get(id(loop))
        if found is None:
            found = self._within[id(loop)] = [(event, around) for event, around in self.located() if loop in around]
        spend(1 + len(found) // 4)
        return found

    @property
    def clearing(self) -> list[Event]:
        """The events that may clear or write gradients."""
        if self._clearing is None:
            # not by `events`: what that keeps for one is as big as the timeline, and all are asked for this
            first, rest = self._opened()
            self._clearing = list(first.clearing) if first is not None else []
            self._clearing += [event for event in rest if isinstance(event, _CLEARING)]
            spend(len(self._clearing))
        return self._clearing

    @property
    def builds(self) -> Sequence_[Build]:
        """What it builds of modules; asked of all timelines, long after they have been judged."""
        if self._builds is None:
            self._builds = [event for event in self.events(Build) if isinstance(event.subject.what, NnModule)]
        return self._builds

    def judged(self, *, kept: bool) -> None:
        """All rules have been asked: let go of all that others do not ask about, unless it is kept for an account."""
        if not kept:
            self._clearing, self._builds = self.clearing, list(self.builds)
            self.tree = Sequence()
            self._optimizers = None
        self._homes = self._located = self._kinds = None
        self._within, self._merged, self.found = {}, {}, {}
        self._raising = None

    @property
    def raising(self) -> set[int]:
        """The ids of all `raise` and of the parts that they are in."""
        if self._raising is None:
            self._raising = self.around(_raises(self.tree))
        return self._raising

    def around(self, parts: Iterable[Part]) -> set[int]:
        """The ids of some parts and of all that these are in."""
        if self._homes is None:
            self._homes = _homes(self.tree)
        found: set[int] = set()
        for part in parts:
            while id(part) not in found:
                found.add(id(part))
                if id(part) not in self._homes:
                    break
                part = self._homes[id(part)][0]
        return found

    def optimizers(self) -> list[Thing]:
        """The optimizers that are built or stepped, in order of appearance."""
        if self._optimizers is None:
            found: dict[int, Thing] = {}
            for event in self.events(Build, Step, Zero, Unscale):
                for option in options(event.subject):
                    if isinstance(option, Thing) and isinstance(option.what, Optimizer):
                        found.setdefault(option.serial, option)
            self._optimizers = list(found.values())
        return self._optimizers


_CLEARING = (Zero, GradWrite, Unknown)


def _index(place: tuple[int, Event]) -> int:
    return place[0]


def located(part: Part) -> list[tuple[Event, tuple[Part, ...]]]:
    """Each event below a part with the parts around it, outermost first."""
    found: list[tuple[Event, tuple[Part, ...]]] = []
    _locate(part, (), found)
    spend(len(found) // 4)
    return found


def _locate(part: Part, around: tuple[Part, ...], found: list[tuple[Event, tuple[Part, ...]]]) -> None:
    """Collect each event below a part with the parts around it, outermost first."""
    if isinstance(part, Event):
        found.append((part, around))
    elif isinstance(part, Sequence):
        for inner in part.steps:
            if isinstance(inner, Event):
                found.append((inner, around))
            else:
                _locate(inner, around, found)
    elif isinstance(part, Branch):
        for index, arm in enumerate(part.arms):
            if arm.steps:
                _locate(arm, (*around, part, Arm(index)), found)
    elif isinstance(part, (Loop, Call)):
        _locate(part.body, (*around, part), found)
    elif isinstance(part, Guarded):
        _locate(part.body, around, found)
        _locate(part.final, around, found)


def lead_on(sequence: Sequence) -> None:
    """Let paths lead on from where the work was cut short inside of a sequence, at its end."""
    while sequence.steps and isinstance(sequence.steps[-1], Jump):
        sequence.steps.pop()
    last = sequence.steps[-1] if sequence.steps else None
    if isinstance(last, (Call, Loop)):
        lead_on(last.body)
    elif isinstance(last, Branch):
        lead_on(last.arms[-1])


@lru_cache(maxsize=4096)
def _among(present: tuple[type[Event], ...], kinds: tuple[type[Event], ...]) -> tuple[type[Event], ...]:
    """Those of the kinds of events that are there which are one of some kinds."""
    return tuple(kind for kind in present if issubclass(kind, kinds))


def gathered(part: Part) -> list[Event]:
    """The events below a part, in the order of the code, where all are wanted."""
    found: list[Event] = []
    _gather(part, found)
    return found


def _gather(part: Part, found: list[Event]) -> None:
    if isinstance(part, Event):
        found.append(part)
        return
    for inner in _parts(part):
        if isinstance(inner, Event):
            found.append(inner)
        else:
            _gather(inner, found)


def inside(part: Part) -> Iterator[Event]:
    """The events below a part, in the order of the code."""
    todo: list[Part] = [part]
    while todo:
        part = todo.pop()
        if isinstance(part, Event):
            yield part
        else:
            todo += reversed(_parts(part))


def calls(part: Part) -> Iterator[Call]:
    """The calls below a part that were followed."""
    todo: list[Part] = [part]
    while todo:
        part = todo.pop()
        if isinstance(part, Call):
            yield part
        todo += [one for one in _parts(part) if not isinstance(one, Event)]


def clears(part: Part) -> bool:
    """Whether gradients are cleared in a part; calls that were looked through before are not gone into again."""
    todo: list[Part] = [part]
    while todo:
        part = todo.pop()
        if isinstance(part, Zero):
            return True
        if not isinstance(part, Event) and not (isinstance(part, Call) and not part.clears):
            todo += _parts(part)
    return False


def _raises(part: Part) -> list[Part]:
    """The `raise` below a part, and what stands for one."""
    found: list[Part] = []
    todo: list[Part] = [part]
    while todo:
        part = todo.pop()
        if isinstance(part, Jump) and part.kind is tree.Exit.RAISE:
            found.append(part)
        todo += [one for one in _parts(part) if not isinstance(one, Event)]
    return found


def _parts(part: Part) -> Sequence_[Part]:
    """The parts directly in a part."""
    if isinstance(part, Sequence):
        return part.steps
    if isinstance(part, Branch):
        return part.arms
    if isinstance(part, Guarded):
        return (part.body, part.final)
    return (part.body,) if isinstance(part, (Loop, Call)) else ()


def _homes(tree: Part) -> dict[int, tuple[Part, int]]:
    """What each part below `tree` is in, by its id, and the index that it has there."""
    found: dict[int, tuple[Part, int]] = {}
    todo: list[Part] = [tree]
    while todo:
        part = todo.pop()
        inner = _parts(part)
        for index, one in enumerate(inner):
            found[id(one)] = (part, index)
            if not isinstance(one, Event):
                todo.append(one)
    return found


class Arm(Sequence):
    """Marks, among the parts around an event, which arm of the branch before it the event is in."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
