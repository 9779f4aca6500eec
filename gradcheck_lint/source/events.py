"""What a program does that matters to training, as a tree: events, branches, loops and calls.

`interpret` makes one `Timeline` for each entry point. The kinds of events are listed in `KINDS`; `subject` is the
thing that it happens to, and `detail` holds the rest by name.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from collections.abc import Sequence as Sequence_
from typing import TYPE_CHECKING, Any

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.values import Choice, ClassValue, Thing, Value, new_serial, options

if TYPE_CHECKING:
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
    "unknown": "a call that cannot be followed may turn the cycle: subject what it holds, or None for all;"
    " detail sure (it does something to it, whatever that is), clears (it did so when it was followed before)",
    "grad-write": "`.grad` is assigned, or all its values are overwritten: subject the tensor"
    " (or module or optimizer that it is an element of)",
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
    "hook": "a hook is registered that may turn the cycle: subject what it is registered on",
    "grow": "code that was not seen may put parts into modules, or thaw them: subject those, or None for any",
    "register": "a module is given a part by register_…, add_module or setattr: subject; detail name, value, how",
}


TURNING = frozenset(
    ["zero", "backward", "step", "unscale", "update", "schedule", "clip", "grad-write", "grad-change", "unknown"]
)
"""Kinds of events that turn the gradient cycle, or may."""


class Event:
    """One thing that happens; `place` is the expression (or statement) that does it."""

    __slots__ = ("context", "detail", "function", "kind", "place", "serial", "statement", "subject")

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
        self.serial = new_serial()

    @property
    def order(self) -> tuple[int, ...]:
        """What events are sorted by: the order in which the code was followed."""
        return (self.serial,)

    def concerns(self, thing: Thing) -> bool:
        """Whether `thing` is (on some path) the subject."""
        spend(1)
        if self.subject is thing:
            return True
        return isinstance(self.subject, Choice) and any(option is thing for option in self.subject.options)

    def __repr__(self) -> str:
        return f"Event({self.kind} {self.subject})"


class Sequence:
    """Steps one after the other."""

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[Step] = []


class Branch:
    """One of several arms is taken; `test` is the condition (None for try and match).

    `sizes` are the numbers that are known of those after a `%` in it, by the ids of their nodes.
    """

    __slots__ = ("arms", "place", "sizes", "test")

    def __init__(
        self, test: tree.Expression | None, arms: list[Sequence], place: Place, sizes: dict[int, int] | None = None
    ) -> None:
        self.test, self.arms, self.place = test, arms, place
        self.sizes = sizes or {}


class Attempt(Branch):
    """`try`: the first arm is its body, the others its handlers, which run after any part of the body."""

    __slots__ = ()


class Loop:
    """The body runs again and again; `once` marks the unrolled pass of a loop over a known list.

    `endless` loops (`while True`) are left by break or return only. A thing whose serial is below `start` was
    there before the round of the loop that the body shows. `rounds` is how many there are, if the code says so;
    `listed` marks a loop over a list that the code itself puts together, `groups` one over the groups of an optimizer,
    of which there mostly is one. `elements` are the ids of the things that the target stands for: each of them is met
    in one round, and in the others it is another one's turn. The body of one that is `unfinished` was cut short: what
    a second round brings is not known.
    """

    __slots__ = (
        "body", "elements", "endless", "groups", "listed", "node", "once", "place", "rounds", "start", "unfinished",
    )  # fmt: skip

    def __init__(
        self, body: Sequence, node: tree.Node, place: Place, once: bool = False, endless: bool = False, start: int = 0
    ) -> None:
        self.body, self.node, self.place, self.once, self.endless = body, node, place, once, endless
        self.start = start
        self.rounds: int | None = None
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
    """A call that was followed: the events of its body."""

    __slots__ = ("body", "function", "place")

    def __init__(self, body: Sequence, function: tree.Function, place: Place) -> None:
        self.body, self.function, self.place = body, function, place


class Jump:
    """break, continue, return or raise."""

    __slots__ = ("kind", "place", "serial")

    def __init__(self, kind: str, place: Place) -> None:
        self.kind, self.place = kind, place
        self.serial = new_serial()


Step = Event | Sequence | Branch | Loop | Guarded | Call | Jump

END, BREAK, CONTINUE, RETURN = "end", "break", "continue", "return"

Course = frozenset[tuple[str, bool]]
"""How a step may be left: by which exit, and whether a new round of a loop has begun on the way."""

STRAIGHT: Course = frozenset({(END, False)})


class Timeline:
    """All that one entry point causes: a function (a method, if it has an owner), or a module's own code if None."""

    def __init__(self, home: Module, entry: tree.Function | None, owner: ClassValue | None = None) -> None:
        self.home, self.entry, self.owner = home, entry, owner
        self.tree = Sequence()
        self._located: list[tuple[Event, tuple[Step, ...]]] | None = None
        self._kinds: dict[str, list[tuple[int, Event]]] | None = None
        self._homes: dict[int, tuple[Step, int]] | None = None
        self._optimizers: list[Thing] | None = None
        self._within: dict[int, list[tuple[Event, tuple[Step, ...]]]] = {}
        self._clearing: list[Event] | None = None
        self._courses: dict[int, Course] = {}
        self._raising: set[int] | None = None
        self.loose = False  # a function that turns the cycle was at hand, and was not seen to be called
        self.cut = False  # too much to follow: a part of it is not in the tree
        self.skipped = False  # that part is a call, and what comes after it is there; else nothing comes after it

    @property
    def hooked(self) -> bool:
        """Whether the cycle may turn by itself: by a hook, or by a function that may be called at any time."""
        return self.loose or any(True for _ in self.events("hook"))

    @property
    def name(self) -> str:
        """What the entry point is called; nothing if it is a module's own code."""
        if self.entry is None:
            return ""
        return f"{self.owner.name}.{self.entry.name}" if self.owner is not None else self.entry.name

    def events(self, *kinds: str) -> Iterator[Event]:
        """The events of some kinds (all if none is named) in the order of the code."""
        if not kinds:
            return iter([event for event, _ in self.located()])
        if self._kinds is None:
            self._kinds = {}
            for index, event in enumerate(inside(self.tree)):
                self._kinds.setdefault(event.kind, []).append((index, event))
        found = [place for kind in kinds for place in self._kinds.get(kind, ())]
        spend(len(found) // 4)
        if len(kinds) > 1:
            found.sort(key=_index)
        return iter([event for _, event in found])

    def located(self) -> Iterator[tuple[Event, tuple[Step, ...]]]:
        """Each event with the steps around it, outermost first."""
        if self._located is None:
            self._located = located(self.tree)
        else:
            spend(len(self._located) // 4)
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

    def within(self, loop: Step) -> list[tuple[Event, tuple[Step, ...]]]:
        """The events of a loop with the steps around them."""
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
            self._clearing = [event for event in inside(self.tree) if event.kind in _CLEARING]
            spend(len(self._clearing))
        return self._clearing

    def judged(self) -> None:
        """All rules have been asked: let go of what was only kept for them."""
        self._homes = self._located = self._kinds = None
        self._within = {}
        self._courses = {}
        self._raising = None

    @property
    def raising(self) -> set[int]:
        """The ids of all `raise` and of the steps that they are in."""
        if self._raising is None:
            self._raising = self.around(_raises(self.tree))
        return self._raising

    def around(self, steps: Iterable[Step]) -> set[int]:
        """The ids of some steps and of all that these are in."""
        if self._homes is None:
            self._homes = _homes(self.tree)
        found: set[int] = set()
        for step in steps:
            while id(step) not in found:
                found.add(id(step))
                if id(step) not in self._homes:
                    break
                step = self._homes[id(step)][0]
        return found

    def course(self, step: Step) -> Course:
        """The ways through a step, whatever happens in it."""
        found = self._courses.get(id(step))
        if found is None:
            found = self._courses[id(step)] = self._course(step)
        return found

    def _course(self, step: Step) -> Course:
        if isinstance(step, Event):
            return STRAIGHT
        if isinstance(step, Sequence):
            return self._one_by_one(step)
        if isinstance(step, Branch):
            return frozenset().union(*map(self.course, counting(step)))
        if isinstance(step, Loop):
            return self._round(step)
        if isinstance(step, Guarded):
            ended = {late for exit, late in self.course(step.final) if exit == END}
            return frozenset((e, a or b) for e, a in self.course(step.body) for b in ended)
        if isinstance(step, Call):
            return frozenset((END, late) for e, late in self.course(step.body) if e in (END, RETURN))
        return frozenset() if step.kind == "raise" else frozenset({(step.kind, False)})

    def _one_by_one(self, sequence: Sequence) -> Course:
        left: set[tuple[str, bool]] = set()
        ends = {False}
        for step in sequence.steps:
            if isinstance(step, Event):
                continue
            course = self.course(step)
            if course is STRAIGHT or course == STRAIGHT:
                continue
            left.update((e, a or b) for a in ends for e, b in course if e != END)
            ends = {a or b for a in ends for e, b in course if e == END}
            if not ends:
                break
        if not left and ends == {False}:
            return STRAIGHT
        return frozenset(left | {(END, late) for late in ends})

    def _round(self, loop: Loop) -> Course:
        body = self.course(loop.body)
        if loop.once:
            ends = (RETURN, BREAK) if isinstance(loop, Turn) else (RETURN,)
            return frozenset((RETURN if e in ends else END, late) for e, late in body)
        again = any(e in (END, CONTINUE) for e, _ in body)
        ways = {(e, late) for e, late in body if e in (BREAK, RETURN)}
        if again:
            ways |= {(e, True) for e, _ in ways}
        left = {(RETURN if e == RETURN else END, late) for e, late in ways}
        if again and not loop.endless:
            left.add((END, True))
        if isinstance(loop.node, tree.While) and not loop.endless:
            left.add((END, False))
        return frozenset(left)

    def optimizers(self) -> list[Thing]:
        """The optimizers that are built or stepped, in order of appearance."""
        if self._optimizers is None:
            found: dict[int, Thing] = {}
            for event in self.events("build", "step", "zero", "unscale"):
                for option in options(event.subject):
                    if isinstance(option, Thing) and option.role == "optimizer":
                        found.setdefault(option.serial, option)
            self._optimizers = list(found.values())
        return self._optimizers


_CLEARING = frozenset({"zero", "grad-write", "unknown"})


def _index(place: tuple[int, Event]) -> int:
    return place[0]


def counting(branch: Branch) -> list[Sequence]:
    """The arms that count: where a test asks if there is a gradient, the one for a gradient that is there."""
    test = branch.test
    if isinstance(test, tree.Operation) and test.op == "and":
        test = test.operands[0]
    if isinstance(test, tree.Operation) and test.op in ("is", "is not", "==", "!="):
        if tree.last_name(test.operands[0]) == "grad" and _none(test.operands[1]):
            return [branch.arms[0 if test.op in ("is not", "!=") else 1]]
    elif isinstance(test, tree.Attribute) and test.attr == "grad":
        return [branch.arms[0]]
    return branch.arms


def _none(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value is None


def located(step: Step) -> list[tuple[Event, tuple[Step, ...]]]:
    """Each event below a step with the steps around it, outermost first."""
    found: list[tuple[Event, tuple[Step, ...]]] = []
    _locate(step, (), found)
    spend(len(found) // 4)
    return found


def _locate(step: Step, around: tuple[Step, ...], found: list[tuple[Event, tuple[Step, ...]]]) -> None:
    """Collect each event below a step with the steps around it, outermost first."""
    if isinstance(step, Event):
        found.append((step, around))
    elif isinstance(step, Sequence):
        for inner in step.steps:
            if isinstance(inner, Event):
                found.append((inner, around))
            else:
                _locate(inner, around, found)
    elif isinstance(step, Branch):
        for index, arm in enumerate(step.arms):
            if arm.steps:
                _locate(arm, (*around, step, Arm(index)), found)
    elif isinstance(step, (Loop, Call)):
        _locate(step.body, (*around, step), found)
    elif isinstance(step, Guarded):
        _locate(step.body, around, found)
        _locate(step.final, around, found)


def lead_on(sequence: Sequence) -> None:
    """Let paths lead on from where the work was cut short inside of a sequence, at its end."""
    while sequence.steps and isinstance(sequence.steps[-1], Jump):
        sequence.steps.pop()
    last = sequence.steps[-1] if sequence.steps else None
    if isinstance(last, (Call, Loop)):
        lead_on(last.body)
    elif isinstance(last, Branch):
        lead_on(last.arms[-1])


def inside(step: Step) -> Iterator[Event]:
    """The events below a step, in the order of the code."""
    todo: list[Step] = [step]
    while todo:
        step = todo.pop()
        if isinstance(step, Event):
            yield step
        else:
            todo += reversed(_parts(step))


def _raises(step: Step) -> list[Step]:
    """The `raise` below a step, and what stands for one."""
    found: list[Step] = []
    todo: list[Step] = [step]
    while todo:
        step = todo.pop()
        if isinstance(step, Jump) and step.kind == "raise":
            found.append(step)
        todo += _parts(step)
    return found


def _parts(step: Step) -> Sequence_[Step]:
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
