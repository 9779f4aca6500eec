"""One stretch of watching: its optimizers, its models, and what the wrappers around torch tell it."""

from __future__ import annotations

import functools
import sys
import time
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime import dynamo, patches, sites
from gradcheck_lint.runtime.backwards import Backwards
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.calls import Calls
from gradcheck_lint.runtime.checks.holding.identity import Identity
from gradcheck_lint.runtime.checks.listed import CHECKS
from gradcheck_lint.runtime.ending import conclude
from gradcheck_lint.runtime.engine import Engine
from gradcheck_lint.runtime.graph import Canaries
from gradcheck_lint.runtime.guard import Guard
from gradcheck_lint.runtime.names import Models, variable
from gradcheck_lint.runtime.observer import Observer, moment
from gradcheck_lint.runtime.record import Event, RunRecord
from gradcheck_lint.runtime.roster import Roster
from gradcheck_lint.runtime.scaling import Scaling
from gradcheck_lint.runtime.series import SeriesKeeper
from gradcheck_lint.runtime.sighting import Scene
from gradcheck_lint.runtime.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.check import Check
    from gradcheck_lint.runtime.checks.holding.strays import Strays
    from gradcheck_lint.runtime.sighting import Sighting

MOMENTS = 600  # events that are kept for the report's timeline
BIRTHS = 20_000  # registrations that are remembered

C = TypeVar("C", bound="Check")


class Options(NamedTuple):
    """What the user asked for; see `gradcheck_lint.watch`."""

    level: str = "default"  # "light", "default", "deep"
    every: int = 50
    budget: float = 0.0
    """The share of the time that checks may take after the first steps: else they come less often; 0 for no limit."""
    everything: bool = False  # watch each optimizer that the program builds
    expect_frozen: tuple[str, ...] = ()
    expect_trained: tuple[str, ...] = ()
    least: Confidence = Confidence.HIGH
    writer: Any = None  # see `scalars`
    ignored: Callable[[str], frozenset[str]] | None = None  # the codes that are off in a file


class Registrations:
    """Which line has assigned parameters and modules to the attributes of modules."""

    def __init__(self) -> None:
        self.lines: weakref.WeakKeyDictionary[Module, dict[str, sites.Mark | None]] = weakref.WeakKeyDictionary()
        self.births: dict[int, sites.Mark | None] = {}  # by id: the line at which a parameter was registered
        self.number = 0  # how often something was assigned to a module of any model

    def note(self, module: Module, name: str, thing: object) -> None:
        mark = sites.builder(4)
        self.lines.setdefault(module, {})[name] = mark
        if len(self.births) > BIRTHS:
            self.births.clear()
        self.births[id(thing)] = mark


class Session:
    """Everything that is watched between start and stop."""

    def __init__(self, rules: Sequence[Rule], options: Options, tell: Callable[[Finding], None]) -> None:
        self.options = options
        self.turn = Turn(self)
        self.guard = Guard(self.turn)
        told = functools.partial(self.guard.hand_over, tell)
        self.engine = Engine(rules, options.least, told, options.ignored, self._load)
        self.models = Models(lambda ids: self.turn.clear(ids, 0.1))
        self.roster = Roster(self)
        self.canaries = Canaries()
        self.record = RunRecord()
        self.series = SeriesKeeper(self.record, self.engine.steps)
        self.scaling = Scaling(self)
        self.calls = Calls(self)
        self.backward = Backwards(self)
        self.registrations = Registrations()
        self.steps = 0
        self.explained = 0  # the order of the latest backward of which was told why torch will refuse it
        self.unseen: list[str] = []  # what could not be seen beside that of the optimizers, one phrase each
        self.looking_elsewhere: list[Strays] = []  # those that look at what no watched optimizer and no model holds
        self.checks: list[Check] = [check(self) for check in CHECKS]
        self.guard.listen(self.checks)
        self._moments: list[tuple[Observer, Event]] = []
        self._order = 0
        self._started = 0.0
        self._searched = False

    @property
    def observers(self) -> dict[int, Observer]:
        """Those of the optimizers that are followed, by their ids."""
        return self.roster.observers

    @property
    def backwards(self) -> int:
        """How many have begun."""
        return self.backward.number

    # Life

    def start(self) -> None:
        import torch

        self._started = time.perf_counter()
        self.record.program = " ".join(sys.argv)
        self.record.python = sys.version.split()[0]
        self.record.torch = str(torch.__version__)
        self.compiling = dynamo.tracing()
        if not patches.ACTIVE:
            sites.forget()
        dynamo.leave_alone()
        patches.start(self)
        self.listen()

    def stop(self, ended: str = "ended") -> None:
        """Take every hook out again; what is known stays in `record`."""
        record, guard = self.record, self.guard
        record.ended = ended
        try:
            if self.turn.close(get_ident()):
                guard.ask("ended")
            else:
                self.unseen.append("the watching ended while another thread trained, so the whole was not judged")
                for observer in self.roster.everybody():
                    observer.leave_alone()
        finally:
            patches.stop(self)
            for check in self.checks:
                guard.run(check.leave)
            everybody = self.roster.everybody()
            for observer in everybody:
                guard.run(observer.detach)
                guard.run(observer.describe)
            self.canaries.clear()
            record.watching = guard.watching
            for observer in everybody:
                observer.watched.built = sites.resolve(observer.built)
            self.snapshot()
            record.problems = [*self.engine.problems, *guard.problems]
            self.looking_elsewhere.clear()
            self.models.forget_names()
            self.checks.clear()  # with all that they refer to; they and the session know each other
            guard.listen([])
            self.turn.end()

    def snapshot(self) -> None:
        """Bring `record` up to date; the run may go on."""
        self.record.findings = self.engine.findings
        self.record.seconds = time.perf_counter() - self._started
        self.record.optimizers = [observer.watched for observer in self.roster.everybody()]
        self.record.moments = [moment(observer, event) for observer, event in self._moments]
        self.guard.run(conclude, self)

    # What is seen

    def tick(self) -> int:
        self._order += 1
        return self._order

    def remember(self, observer: Observer, event: Event) -> None:
        if len(self._moments) < MOMENTS:
            self._moments.append((observer, event))

    def take(self, sighting: Sighting) -> None:
        self.engine.take(sighting)

    def _load(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call what loads rules."""
        return self.guard.apart(self._loaded, function, *args)

    @staticmethod
    def _loaded(function: Callable[..., Any], *args: Any) -> Any:
        result = function(*args)
        dynamo.leave_alone()
        return result

    def scene(self, mark: sites.Mark | None) -> Scene:
        """This place, for a sighting that belongs to no optimizer."""
        return Scene(0, sites.resolve(mark))

    def scene_of_next(self, mark: sites.Mark | None) -> Scene:
        """This place, for a sighting about the run as a whole, or its one optimizer, at the step to come."""
        watched = [observer.watched for observer in self.observers.values()]
        step = max((observer.steps for observer in self.observers.values()), default=0) + 1
        return Scene(step, sites.resolve(mark), watched[0] if len(watched) == 1 else None)

    def name(self, tensor: Tensor) -> str:
        """What the user calls a tensor: in a model, or in a variable."""
        return self.models.name(tensor) or variable(tensor, sites.frames(2))

    def check(self, kind: type[C]) -> C:
        """The check of this kind."""
        return next(check for check in self.checks if isinstance(check, kind))

    # Who is listened to

    def listen(self) -> None:
        """Hear the calls that every step makes if an observer is awake, and of losses alone if one takes a glance."""
        awake = not self.observers or self.roster.awake()
        glances = not awake and self.roster.glances()
        for wanted, sessions in ((awake, patches.LOUD), (glances, patches.GLANCING)):
            if wanted and self in patches.ACTIVE and self not in sessions:
                sessions.append(self)
            elif not wanted and self in sessions:
                sessions.remove(self)

    def hears(self, kind: Call, args: tuple[Any, ...]) -> bool:
        """Whether a call in this thread is listened to."""
        me, turn = get_ident(), self.turn
        observer = self.observers.get(id(args[0])) if kind is Call.ZERO_GRAD and args else None
        if observer is not None:
            return self.hears_work(observer, steps=False)
        return me == turn.thread or bool(self.guard.aside(turn.begins, me))

    def hears_work(self, observer: Observer, *, steps: bool) -> bool:
        """Whether it is listened to that this thread clears the gradients of an optimizer, or steps it."""
        me, turn = get_ident(), self.turn
        if me == turn.thread and me == observer.owner:
            return True
        return bool(self.guard.aside(lambda: turn.works_on(me, observer, steps=steps)))

    def known(self) -> set[int]:
        """The ids of all tensors whose gradients may be looked at."""
        held = self.roster.held().union(id(parameter) for _, model in self.models for parameter in model.parameters())
        return held.union(*(check.known() for check in self.looking_elsewhere))

    def forsake(self, ids: set[int] | None) -> None:
        """Another thread is at work on these, None for whatever there is: nothing of that is looked at any more."""
        self.models.drop(ids)
        for check in self.looking_elsewhere:
            check.forsake(ids)

    def passed_on(self) -> None:
        """Another thread has the turn; whatever the former one was in the middle of, it is not followed."""
        self.backward.forget()
        self.roster.passed_on()

    # What the wrappers tell, beside `calls` and `backward`

    def watch(self, optimizer: Optimizer, built: sites.Mark | None = None) -> Observer | None:
        """Begin to watch this optimizer; None if it is watched already."""
        return self.roster.add(optimizer, built)

    def building(self, given: object, mark: sites.Mark | None) -> None:
        """An optimizer is about to be built of these."""
        self.guard.ask("optimizer_building", given, mark)

    def built(self, optimizer: Optimizer, given: object, mark: sites.Mark | None) -> None:
        """An optimizer was built while the session runs."""
        for other in self.observers.values():
            other.broken = False  # whatever one lost, the new one may hold
        watched = self.watch(optimizer, mark) if self.options.everything else None
        self.guard.ask("optimizer_built", optimizer, given, mark, watched)

    def refused(self, optimizer: Optimizer, given: object, error: Exception, mark: sites.Mark | None) -> None:
        """torch has refused to build an optimizer."""
        self.guard.ask("optimizer_refused", optimizer, given, error, mark)

    def switched(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """`train()` or `eval()` is called on a module."""
        if get_ident() == self.turn.thread or self.hears(Call.MODULE_TRAIN, ()):
            mode = args[1] if len(args) > 1 else kwargs.get("mode", True)
            self.guard.ask_aside("mode_switched", args[0], bool(mode))

    def registered(self, module: Module, name: str, thing: object) -> None:
        """A parameter or a module is assigned to an attribute of a module."""
        self.registrations.number += 1
        self.models.grown()
        if self.observers and not self.roster.awake() and self.check(Identity).knows(module):
            self.roster.changed()
        if self.models or not self.options.everything:
            self.registrations.note(module, name, thing)

    # Steps that are checked thoroughly

    def before_update(self, observer: Observer, mark: sites.Mark | None) -> None:
        """The optimizer is about to read its gradients."""
        if observer.watched.steps == 1 or not self._searched:
            self._searched = observer.watched.steps > 1
            self.roster.look_around(observer, thoroughly=observer.watched.steps == 2)
        self.guard.ask("before_update", observer, mark)

    def used(self, observer: Observer, mark: sites.Mark | None) -> None:
        """The optimizer reads its gradients; a closure may make it do so often."""
        self.steps += 1
        self.guard.ask("stepped", observer, mark)

    def after_update(self, observer: Observer) -> None:
        """The update is done."""
        self.guard.ask("after_update", observer)
