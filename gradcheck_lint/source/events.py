"""What a program does that matters to training, as a tree: events, branches, loops and calls.

`interpret` makes one `Timeline` for each entry point. The kinds of events are listed in `KINDS`; `subject` is the
thing that it happens to, and `detail` holds the rest by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gradcheck_lint.source.values import ClassValue, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.project import Module

KINDS = {
    "build": "a thing is made: subject (optimizer, scaler, scheduler, module, tensor); detail args, keywords",
    "zero": "gradients are cleared: subject an optimizer, module or tensor; detail how",
    "backward": "backward runs: subject the loss; detail scaled, retain (keyword retain_graph), inputs",
    "unscale": "scaler.unscale_(optimizer): subject the optimizer; detail scaler",
    "clip": "gradients are clipped: subject what `parameters` names; detail norm (the limit), used (result is used)",
    "step": "an optimizer steps: subject; detail scaler (or None), closure (its value or None), called (what was called"
    " to get it), args",
    "update": "scaler.update(): subject the scaler",
    "schedule": "a scheduler steps: subject; detail args",
    "unknown": "a call that cannot be followed may touch the cycle: subject an optimizer, or None for all",
    "grad-write": "`.grad` is assigned: subject the tensor (or module or optimizer that it is an element of)",
    "grad-change": "gradients are changed in place, or handed to code that may: subject their owner",
    "rebind": "a name or attribute that held `subject` now holds detail value; detail target (expression)",
    "set-attribute": "an attribute is assigned: subject the object; detail attr, value, old",
    "set-data": "`.data` is assigned: subject the tensor; detail value",
    "set-item": "an item is assigned: subject the container; detail index, value",
    "augment": "an augmented assignment: subject the old value; detail op, value, target",
    "add-group": "optimizer.add_param_group(group): subject; detail group",
    "load-state": "x.load_state_dict(state): subject x; detail state",
    "mode": "x.train() or x.eval(): subject; detail training (True, False or None)",
    "move": "x.to(...), .cuda(), .half() …: subject; detail how, used (the result is used)",
    "freeze": "requires_grad is written: subject a tensor, module or element; detail value (True, False or None)",
    "forward": "a module is called: subject; detail args, no_grad",
    "iterator": "an iterator over parameters is made: subject a parameters thing",
    "consume": 'an iterator is used: subject a parameters thing; detail by (what does it; "?" if it may not)',
    "evaluate": "an expression statement that is no call: detail value, expression, of (whose attribute is compared)",
    "misspelt": "a name that is nearly `requires_grad` is read or called: subject the object; detail attr, called",
    "iterate": "a loop goes over something that is no call: detail value, expression",
    "assign": "a name or attribute is assigned: subject the value's thing; detail target, value, expression",
    "call": "a function or method of torch is called by name: detail name, args, keywords, receiver",
    "return": "a function returns: detail value, function",
    "register": "a module is given a part by register_…, add_module or setattr: subject; detail name, value, how",
}


class Event:
    """One thing that happens; `place` is the expression (or statement) that does it."""

    __slots__ = ("context", "detail", "function", "kind", "place", "statement", "subject")

    def __init__(
        self,
        kind: str,
        place: Place,
        statement: Place,
        subject: Value | None,
        detail: dict[str, Any],
        context: frozenset[str],
        function: tree.Function | None,
    ) -> None:
        self.kind, self.place, self.statement, self.subject = kind, place, statement, subject
        self.detail, self.context, self.function = detail, context, function

    def concerns(self, thing: Thing) -> bool:
        """Whether `thing` is (on some path) the subject."""
        return any(option is thing for option in options(self.subject))

    def __repr__(self) -> str:
        return f"Event({self.kind} {self.subject})"


class Sequence:
    """Steps one after the other."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Step] = []


class Branch:
    """One of several arms is taken; `test` is the condition (None for try and match)."""

    __slots__ = ("arms", "place", "test")

    def __init__(self, test: tree.Expression | None, arms: list[Sequence], place: Place) -> None:
        self.test, self.arms, self.place = test, arms, place


class Loop:
    """The body runs again and again; `once` marks the unrolled pass of a loop over a known list.

    `endless` loops (`while True`) are left by break or return only. A thing whose serial is below `start` was
    there before the round of the loop that the body shows.
    """

    __slots__ = ("body", "endless", "node", "once", "place", "start")

    def __init__(
        self, body: Sequence, node: tree.Node, place: Place, once: bool = False, endless: bool = False, start: int = 0
    ) -> None:
        self.body, self.node, self.place, self.once, self.endless = body, node, place, once, endless
        self.start = start


class Guarded:
    """`final` runs after the body however that is left: by its end or by a jump."""

    __slots__ = ("body", "final")

    def __init__(self, body: Sequence, final: Sequence) -> None:
        self.body, self.final = body, final


class Call:
    """A call that was followed: the events of its body."""

    __slots__ = ("body", "function", "place")

    def __init__(self, body: Sequence, function: tree.Function, place: Place) -> None:
        self.body, self.function, self.place = body, function, place


class Jump:
    """break, continue, return or raise."""

    __slots__ = ("kind", "place", "test")

    def __init__(self, kind: str, place: Place) -> None:
        self.kind, self.place = kind, place


Step = Event | Sequence | Branch | Loop | Guarded | Call | Jump


class Timeline:
    """All that one entry point causes: a function (a method, if it has an owner), or a module's own code if None."""

    def __init__(self, home: Module, entry: tree.Function | None, owner: ClassValue | None = None) -> None:
        self.home, self.entry, self.owner = home, entry, owner
        self.tree = Sequence()
        self._located: list[tuple[Event, tuple[Step, ...]]] | None = None
        self._homes: dict[int, tuple[Step, int]] | None = None
        self.hooked = False  # optimizer or gradient hooks are registered: the cycle may turn by itself
        self.cut = False  # too much to follow: what comes after is not in the tree

    def events(self, *kinds: str) -> Iterator[Event]:
        """The events of some kinds (all if none is named) in the order of the code."""
        for event, _ in self.located():
            if not kinds or event.kind in kinds:
                yield event

    def located(self) -> Iterator[tuple[Event, tuple[Step, ...]]]:
        """Each event with the steps around it, outermost first."""
        if self._located is None:
            self._located = list(located(self.tree))
        return iter(self._located)

    def path(self, event: Event) -> list[tuple[Step, int]]:
        """The steps around an event, outermost first, each with the index of what leads on to it."""
        if self._homes is None:
            self._homes = _homes(self.tree)
        found: list[tuple[Step, int]] = []
        home = self._homes.get(id(event))
        while home is not None:
            found.append(home)
            home = self._homes.get(id(home[0]))
        found.reverse()
        return found

    def optimizers(self) -> list[Thing]:
        """The optimizers that are built or stepped, in order of appearance."""
        found: dict[int, Thing] = {}
        for event in self.events("build", "step", "zero", "unscale"):
            for option in options(event.subject):
                if isinstance(option, Thing) and option.role == "optimizer":
                    found.setdefault(option.serial, option)
        return list(found.values())


def located(step: Step, around: tuple[Step, ...] = ()) -> Iterator[tuple[Event, tuple[Step, ...]]]:
    """Each event below a step with the steps around it, outermost first."""
    if isinstance(step, Event):
        yield step, around
    elif isinstance(step, Sequence):
        for inner in step.steps:
            yield from located(inner, around)
    elif isinstance(step, Branch):
        for index, arm in enumerate(step.arms):
            yield from located(arm, (*around, step, Arm(index)))
    elif isinstance(step, (Loop, Call)):
        yield from located(step.body, (*around, step))
    elif isinstance(step, Guarded):
        yield from located(step.body, around)
        yield from located(step.final, around)


def _parts(step: Step) -> Iterable[Step]:
    """The steps directly in a step."""
    if isinstance(step, Sequence):
        return step.steps
    if isinstance(step, Branch):
        return step.arms
    if isinstance(step, Guarded):
        return (step.body, step.final)
    return (step.body,) if isinstance(step, (Loop, Call)) else ()


def _homes(tree: Step) -> dict[int, tuple[Step, int]]:
    """What each step below `tree` is in, by its id, and the index that it has there."""
    found: dict[int, tuple[Step, int]] = {}
    todo: list[Step] = [tree]
    while todo:
        step = todo.pop()
        inner = _parts(step)
        for index, part in enumerate(inner):
            found[id(part)] = (step, index)
        todo.extend(inner)
    return found


class Arm(Sequence):
    """Marks, among the steps around an event, which arm of the branch before it the event is in."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index
