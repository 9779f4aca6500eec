"""One stretch of watching: its optimizers, its models, and what the wrappers around torch tell it.

Whatever goes wrong in here is noted and goes no further: `guard` lets only what the user asked for through.
"""

from __future__ import annotations

import functools
import sys
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from gradcheck_lint import cycle
from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime import dynamo, patches, sites
from gradcheck_lint.runtime.ending import conclude
from gradcheck_lint.runtime.engine import Engine
from gradcheck_lint.runtime.graph import Canaries, reach
from gradcheck_lint.runtime.names import Models, variable
from gradcheck_lint.runtime.observer import Observer, moment
from gradcheck_lint.runtime.record import Event, RunRecord, Watched
from gradcheck_lint.runtime.scaling import Scaling, scaled
from gradcheck_lint.runtime.series import SeriesKeeper
from gradcheck_lint.runtime.sighting import Scene, Sighting
from gradcheck_lint.runtime.sightings.order import EmptyClip, ScaledClip
from gradcheck_lint.runtime.trails import trail
from gradcheck_lint.runtime.turn import CROWD, UNSURE, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.check import Check
    from gradcheck_lint.runtime.checks.strays import Strays
    from gradcheck_lint.runtime.graph import Reach

_BACKWARD = ("tensors", "grad_tensors", "retain_graph", "create_graph", "grad_variables", "inputs")  # its arguments
MOMENTS = 600  # events that are kept for the report's timeline
_GIVE_UP = 5  # problems after which a hook is left alone
PROBLEMS = 100  # of the watcher's own, of different words, that are remembered
BIRTHS = 20_000  # registrations that are remembered

C = TypeVar("C", bound="Check")


class FindingError(Exception):
    """Raised by `watch(..., on_finding="raise")`, the one thing that goes through the watcher into the program."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(one_line(finding))
        self.finding = finding


class Halt(BaseException):
    """Another thread could not wait until this one has left the watcher: nothing may be looked at any more."""


def one_line(finding: Finding) -> str:
    """A finding as the message of a warning or an error."""
    return f"{finding.code} {finding.message}: {finding.label}; {finding.help}"


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; see `gradcheck_lint.watch`."""

    level: str = "default"  # "light", "default", "deep"
    every: int = 50
    budget: float = 0.0
    """The share of the time that checks may take after the first steps: else they come less often; 0 for no limit."""
    everything: bool = False  # watch each optimizer that the program builds
    expect_frozen: tuple[str, ...] = ()
    least: Confidence = Confidence.HIGH
    writer: Any = None  # see `scalars`
    ignored: Callable[[str], frozenset[str]] | None = None  # the codes that are off in a file


class Hooks:
    """Which functions of the checks are called when: `now` by the hook, `begins` and `ends` by the kind of call."""

    def __init__(self, checks: Sequence[Check]) -> None:
        from gradcheck_lint.runtime.check import Check

        names = [name for name, hook in vars(Check).items() if callable(hook) and not name.startswith("_")]
        filled = {
            name: [(c, getattr(c, name)) for c in checks if getattr(type(c), name) is not getattr(Check, name)]
            for name in names
        }
        self.now = {name: [function for _, function in pairs] for name, pairs in filled.items()}
        self.begins = _by_kind(filled["call_begins"])
        self.ends = _by_kind(filled["call_ended"])

    def dismiss(self, hook: str, function: Callable[..., Any]) -> None:
        self.now[hook] = [other for other in self.now[hook] if other != function]


def _by_kind(pairs: Sequence[tuple[Check, Callable[..., Any]]]) -> dict[str, list[Callable[..., Any]]]:
    kinds = {kind for check, _ in pairs for kind in check.hears}
    return {kind: [function for check, function in pairs if kind in check.hears] for kind in kinds}


class Session:
    """Everything that is watched between start and stop."""

    def __init__(self, rules: Sequence[Rule], options: Options, tell: Callable[[Finding], None]) -> None:
        from gradcheck_lint.runtime.checks import checks

        self.options = options
        self.engine = Engine(rules, options.least, functools.partial(self.hand_over, tell), options.ignored)
        self.turn = Turn(self)
        self.models = Models(lambda ids: self.turn.clear(ids, 0.1))
        self.observers: dict[int, Observer] = {}
        self.elsewhere: list[Observer] = []  # those that another thread steps, or several: they are only counted
        self.canaries = Canaries()
        self.record = RunRecord()
        self.series = SeriesKeeper(self.record, self.engine.steps)
        self.in_backward = 0  # how many backwards of the thread that has the turn are running, one inside the other
        self.backwards = 0
        self.steps = 0
        self.registrations: weakref.WeakKeyDictionary[Module, dict[str, sites.Mark | None]] = (
            weakref.WeakKeyDictionary()
        )
        self.registered_count = 0  # how often something was assigned to a module of any model
        self.births: dict[int, sites.Mark | None] = {}  # by id: the line at which a parameter was registered
        self.looking_elsewhere: list[Strays] = []  # those that look at what no watched optimizer and no model holds
        self.checks: list[Check] = [check(self) for check in checks()]
        self._hooks = Hooks(self.checks)
        self._moments: list[tuple[Observer, Event]] = []
        self._order = 0
        self._event: Event | None = None
        self._walked: tuple[int, Reach] | None = None
        self.scaling = Scaling(self)
        self._begins = {
            "zero_grad": self._zeroed,
            "module.zero_grad": self._module_zeroed,
            "clip": self._clipped,
            "scheduler.step": self._scheduled,
            **self.scaling.begins(),
        }
        self._ends = {"add_param_group": self._group_added, **self.scaling.ends()}
        self._started = 0.0
        self._began = 0.0  # when the part of the watcher that runs was entered; 0 while the program runs
        self.watching = 0.0  # seconds in the watcher
        self._broken: dict[str, int] = {}
        self._searched = False
        self.unseen: list[str] = []  # what could not be seen beside that, one phrase each
        self.explained = 0  # the order of the latest backward of which was told why torch will refuse it

    def hand_over(self, function: Callable[..., Any], *args: Any) -> None:
        """Call what the program has given us to be told something; it may wait for another thread meanwhile."""
        self.turn.telling = True
        try:
            function(*args)
        finally:
            self.turn.telling = False
        if self.turn.lost():
            raise Halt

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
        self.record.ended = ended
        try:
            if self.turn.close(get_ident()):
                self.ask("ended")
            else:
                self.unseen.append("the watching ended while another thread trained, so the whole was not judged")
                for observer in self.everybody():
                    observer.leave_alone()
        finally:
            patches.stop(self)
            for check in self.checks:
                self.guard(check.leave)
            everybody = self.everybody()
            for observer in everybody:
                self.guard(observer.detach)
                self.guard(observer.describe)
            self.canaries.clear()
            record = self.record
            record.seconds = time.perf_counter() - self._started
            record.watching = self.watching
            for observer in everybody:
                observer.watched.built = sites.resolve(observer.built)
            record.optimizers = [observer.watched for observer in everybody]
            record.findings = self.engine.findings
            record.moments = [moment(observer, event) for observer, event in self._moments]
            self.guard(conclude, self)
            record.problems = [*self.engine.problems, *self._broken]
            self.looking_elsewhere.clear()
            self.checks.clear()  # with all that they refer to; they and the session know each other
            self._hooks = Hooks([])
            self.turn.end()

    def everybody(self) -> list[Observer]:
        """All observers in the order in which they came, those that are only counted too."""
        return sorted([*self.observers.values(), *self.elsewhere], key=lambda observer: observer.watched.index)

    def ask(self, hook: str, *args: Any) -> None:
        """Call a hook of the checks that fill it."""
        functions = self._hooks.now[hook]
        if functions:
            self._call(functions, *args)

    def _call(self, functions: Sequence[Callable[..., Any]], *args: Any) -> None:
        """Call these hooks; each is guarded by itself, without the price of `guard`."""
        me = get_ident()
        outermost = self.turn.inside != me
        if outermost:
            if not self.turn.enter(me):
                return
            self._began = time.perf_counter()
        try:
            for function in functions:
                if self._broken and self._given_up(function):
                    continue
                try:
                    function(*args)
                except FindingError:
                    raise
                except Exception as error:
                    self._fails(function, error)
        except Halt:
            if not outermost:
                raise
        finally:
            if outermost:
                self.watching += time.perf_counter() - self._began
                self._began = 0.0
                self.turn.leave()

    def dismiss(self, hook: str, function: Callable[..., Any]) -> None:
        """Call this hook of a check no more: it has seen what it wanted to see."""
        self._hooks.dismiss(hook, function)

    def guard(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a part of the watcher if this thread has the turn; nothing that goes wrong in it reaches the program."""
        if self._broken and self._given_up(function):
            return None
        me = get_ident()
        outermost = self.turn.inside != me
        if outermost:
            if not self.turn.enter(me):
                return None
            self._began = time.perf_counter()
        try:
            return function(*args)
        except FindingError:
            raise
        except Exception as error:
            self._fails(function, error)
            return None
        except Halt:
            if not outermost:
                raise
            return None
        finally:
            if outermost:
                self.watching += time.perf_counter() - self._began
                self._began = 0.0
                self.turn.leave()

    def aside(self, function: Callable[..., Any], *args: Any) -> Any:
        """As `guard`, in any thread: for what looks at nothing that is watched. None if it fails."""
        try:
            return function(*args)
        except Exception as error:
            self._fails(function, error)
            return None

    def spent(self) -> float:
        """Seconds in the watcher, with those since it was last entered."""
        return self.watching + (time.perf_counter() - self._began if self._began else 0.0)

    def _fails(self, function: Callable[..., Any], error: Exception) -> None:
        """Take note of something that went wrong in the watcher, and not in a signal's handler that came in between."""
        if sites.in_a_handler(error):
            raise error
        key = f"{_called(function)}: {type(error).__name__}: {error}"
        if key in self._broken or len(self._broken) < PROBLEMS:
            self._broken[key] = self._broken.get(key, 0) + 1

    def _given_up(self, function: Callable[..., Any]) -> bool:
        name = f"{_called(function)}:"
        return sum(number for key, number in self._broken.items() if key.startswith(name)) > _GIVE_UP

    def snapshot(self) -> None:
        """Bring `record` up to date while the run goes on."""
        self.record.findings = self.engine.findings
        self.record.seconds = time.perf_counter() - self._started
        self.record.optimizers = [observer.watched for observer in self.everybody()]
        self.record.moments = [moment(observer, event) for observer, event in self._moments]
        self.guard(conclude, self)

    def tick(self) -> int:
        self._order += 1
        return self._order

    def take(self, sighting: Sighting) -> None:
        self.engine.take(sighting)

    def scene(self, mark: sites.Mark | None) -> Scene:
        """This place, for a sighting that belongs to no optimizer."""
        return Scene(0, sites.resolve(mark))

    def scene_of_next(self, mark: sites.Mark | None) -> Scene:
        """This place, for a sighting about the run as a whole, or its one optimizer, at the step to come."""
        watched = [observer.watched for observer in self.observers.values()]
        step = max((observer.steps for observer in self.observers.values()), default=0) + 1
        return Scene(step, sites.resolve(mark), watched[0] if len(watched) == 1 else None)

    def remember(self, observer: Observer, event: Event) -> None:
        if len(self._moments) < MOMENTS:
            self._moments.append((observer, event))

    def listen(self) -> None:
        """Hear the calls that every step makes if an observer is awake, and of losses alone if one takes a glance."""
        awake = not self.observers or self.awake()
        glances = not awake and any(observer.glances for observer in self.observers.values())
        for wanted, sessions in ((awake, patches.LOUD), (glances, patches.GLANCING)):
            if wanted and self in patches.ACTIVE and self not in sessions:
                sessions.append(self)
            elif not wanted and self in sessions:
                sessions.remove(self)

    def rarely(self) -> bool:
        """Whether the step to come is one of the few samples that look at everything, for some optimizer."""
        return any(o.awake and o.sampling.rarely(o.watched.steps + 1) for o in self.observers.values())

    def rouse(self) -> None:
        """Something has happened that a thorough look should follow."""
        for observer in self.observers.values():
            observer.rouse()

    def suspect(self) -> None:
        """Something looked wrong at a glance: look thoroughly, a few times in a run."""
        for observer in self.observers.values():
            observer.suspect()

    # What is watched

    def watch(self, optimizer: Optimizer, built: sites.Mark | None = None) -> Observer | None:
        """Begin to watch this optimizer; None if it is watched already."""
        inner = optimizer
        while not hasattr(inner, "_optimizer_step_pre_hooks") or hasattr(inner, "optimizer"):
            following = getattr(inner, "optimizer", None)
            if following is None or not hasattr(following, "param_groups"):
                break
            inner = following  # Accelerate and others wrap the one that steps
        known = self.observers.get(id(inner))
        if known is not None and known.optimizer is inner:
            return None
        watched = Watched(len(self.observers) + len(self.elsewhere), "", type(inner).__name__)
        observer = Observer(self, inner, watched, built)
        if known is not None:  # an optimizer that is gone had the same id
            items = self.observers.items()
            self.observers = {-known.watched.index - 1 if other is known else key: other for key, other in items}
        self.observers[id(inner)] = observer
        if not self.turn.clear(observer.ids()):
            observer.attach()
            self.let_go(observer, UNSURE)
            return None
        self.look_around(observer)
        observer.attach()
        self.listen()
        self.ask("attached", observer)
        return observer

    def built_elsewhere(self, optimizer: Optimizer, mark: sites.Mark | None) -> None:
        """An optimizer was built by a thread that is not listened to: its steps are counted."""
        if self.turn.follows(get_ident()):
            self.aside(self._count_only, optimizer, mark)

    def _count_only(self, optimizer: Optimizer, mark: sites.Mark | None) -> None:
        watched = Watched(
            len(self.observers) + len(self.elsewhere), variable(optimizer, sites.frames(2)), type(optimizer).__name__
        )
        observer = Observer(self, optimizer, watched, mark)
        observer.attach()
        self.let_go(observer, CROWD)

    def let_go(self, observer: Observer, why: str) -> None:
        """It is only counted from now on, and no check comes across it: another thread may be at work on it."""
        self.observers = {key: other for key, other in self.observers.items() if other is not observer}
        if observer not in self.elsewhere:
            self.elsewhere.append(observer)
        observer.let_go(why)
        self.listen()

    def known(self) -> set[int]:
        """The ids of all tensors whose gradients may be looked at."""
        ids = self.held().union(id(parameter) for _, model in self.models for parameter in model.parameters())
        return ids.union(*(check.known() for check in self.looking_elsewhere))

    def forsake(self, ids: set[int] | None) -> None:
        """Another thread is at work on these, None for whatever there is: nothing of that is looked at any more."""
        self.models.drop(ids)
        for check in self.looking_elsewhere:
            check.forsake(ids)

    def passed_on(self) -> None:
        """Another thread has the turn; whatever the former one was in the middle of, it is not followed."""
        self.in_backward = 0
        self._event = self._walked = None
        for observer in self.observers.values():
            observer.passed_on()

    def hears(self, kind: str, args: tuple[Any, ...]) -> bool:
        """Whether a call in this thread is listened to."""
        me, turn = get_ident(), self.turn
        observer = self.observers.get(id(args[0])) if kind == "zero_grad" and args else None
        if observer is not None:
            return self.hears_work(observer, steps=False)
        return me == turn.thread or bool(self.aside(turn.begins, me))

    def hears_work(self, observer: Observer, *, steps: bool) -> bool:
        """Whether it is listened to that this thread clears the gradients of an optimizer, or steps it."""
        me, turn = get_ident(), self.turn
        if me == turn.thread and me == observer.owner:
            return True
        return bool(self.aside(lambda: turn.works_on(me, observer, steps=steps)))

    def watch_model(self, model: Module, name: str = "") -> None:
        if self.models.add(model, name):
            for observer in self.observers.values():
                observer.names.clear()
            self.ask("model_found")

    def look_around(self, observer: Observer, *, thoroughly: bool = False) -> None:
        """Find the models to which an optimizer's parameters belong, and what it is called, among the variables."""
        frames = sites.frames(2)
        optimizer = observer.optimizer
        if not observer.watched.name and optimizer is not None:
            observer.watched.name = variable(optimizer, frames)
        ids = observer.ids()
        known = {id(parameter) for _, parameter in self.models.parameters()}
        if ids <= known:
            return
        found = self.models.find(frames, ids - known)
        if not found and thoroughly and not known & ids:
            found = self.models.find_anywhere(ids)
        if found:
            for other in self.observers.values():
                other.names.clear()
            self.ask("model_found")

    def name(self, tensor: Tensor) -> str:
        """What the user calls a tensor: in a model, or in a variable."""
        return self.models.name(tensor) or variable(tensor, sites.frames(2))

    def held(self) -> set[int]:
        """The ids of all tensors that some watched optimizer holds."""
        return set().union(*(observer.ids() for observer in list(self.observers.values())))

    def awake(self) -> bool:
        """Whether some observer checks this step thoroughly."""
        return any(observer.awake for observer in self.observers.values())

    def check(self, kind: type[C]) -> C:
        """The check of this kind."""
        return next(check for check in self.checks if isinstance(check, kind))

    # What the wrappers tell

    def building(self, given: object, mark: sites.Mark | None) -> None:
        """An optimizer is about to be built of these."""
        self.ask("optimizer_building", given, mark)

    def built(self, optimizer: Optimizer, given: object, mark: sites.Mark | None) -> None:
        """An optimizer was built while the session runs."""
        for other in self.observers.values():
            other.broken = False  # whatever one lost, the new one may hold
        watched = self.watch(optimizer, mark) if self.options.everything else None
        self.ask("optimizer_built", optimizer, given, mark, watched)

    def refused(self, optimizer: Optimizer, given: object, error: Exception, mark: sites.Mark | None) -> None:
        """torch has refused to build an optimizer."""
        self.ask("optimizer_refused", optimizer, given, error, mark)

    def registered(self, module: Module, name: str, thing: object) -> None:
        """A parameter or a module is assigned to an attribute of a module."""
        self.registered_count += 1
        if self.models or not self.options.everything:
            mark = sites.builder(3)
            self.registrations.setdefault(module, {})[name] = mark
            if len(self.births) > BIRTHS:
                self.births.clear()
            self.births[id(thing)] = mark

    def hears_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a backward that is about to run in this thread is listened to."""
        me, turn = get_ident(), self.turn
        return me == turn.thread or bool(self.aside(turn.backward, me, _roots(args, kwargs)))

    def backward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.in_backward += 1
        if self.in_backward == 1:
            self.guard(self._backward_begins, args, kwargs)

    def _backward_begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.backwards += 1
        mark = sites.here(4)
        roots = _roots(args, kwargs)
        how = cycle.PLAIN
        if self.scaling.at_work:
            how = cycle.SCALED if scaled(roots) else cycle.PLAIN
        self._event = event = Event("backward", self.tick(), 0, how, mark)
        for observer in self.observers.values():
            if observer.closely:
                observer.trails[event.order] = trail()
            if observer.awake:
                observer.backward_begins()
        options = dict(zip(_BACKWARD, args, strict=False)) | kwargs if len(args) > 1 else kwargs
        self.ask("backward_begins", roots, event, options)

    def backward_ends(self, error: BaseException | None) -> None:
        me = get_ident()
        if me != self.turn.thread and not self.turn.deputy(me):
            return  # the turn has passed on meanwhile
        self.in_backward = max(self.in_backward - 1, 0)
        if self.in_backward == 0:
            try:
                self.guard(self._backward_ends, error)
            except FindingError:
                if error is None:  # the program's own error goes first
                    raise

    def glance_at_loss(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Backward is about to run on a step at which no more than a glance is taken."""
        root = args[0] if args else kwargs.get("tensors")
        if isinstance(root, (list, tuple)) and len(root) == 1:
            root = root[0]
        if hasattr(root, "is_cpu"):
            self.ask("glance_at_loss", root)

    def backward_raised(self, error: BaseException) -> None:
        """A backward that was not heard has raised."""
        event = Event("backward", self.tick(), 0, "", sites.here(3))
        with suppress(FindingError):
            self.ask("backward_failed", event, error)

    def _backward_ends(self, error: BaseException | None) -> None:
        order = self._walked[1].leaves if self._walked is not None else ()
        self._walked = None  # it holds tensors and nodes of the graph
        event = self._event
        if event is None:
            return
        self._event = None
        touched = [o for o in self.observers.values() if o.awake and o.backward_ended(event, order)]
        if touched:
            self.turn.trained = True
            for observer in touched:
                observer.owner = self.turn.thread
        if error is not None:
            self.ask("backward_failed", event, error)
        else:
            self.ask("backward_ended", event, touched)

    def before_update(self, observer: Observer, mark: sites.Mark | None) -> None:
        """The optimizer is about to read its gradients, on a step that is checked thoroughly."""
        if observer.watched.steps == 1 or not self._searched:
            self._searched = observer.watched.steps > 1
            self.look_around(observer, thoroughly=observer.watched.steps == 2)
        self.ask("before_update", observer, mark)

    def after_update(self, observer: Observer) -> None:
        """The update is done, on a step that is checked thoroughly."""
        self.ask("after_update", observer)

    def used(self, observer: Observer, mark: sites.Mark | None) -> None:
        """The optimizer reads its gradients; a closure may make it do so often."""
        self.steps += 1
        self.ask("stepped", observer, mark)

    def begin(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A wrapped call begins."""
        handler = self._begins.get(kind)
        if handler is not None:
            self.guard(handler, args, kwargs)
        hooks = self._hooks.begins.get(kind)
        if hooks:
            self._call(hooks, kind, args, kwargs)

    def end(
        self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        """It has ended, or raised `error`."""
        handler = self._ends.get(kind)
        if handler is not None:
            self.guard(handler, args, kwargs, result, error)
        hooks = self._hooks.ends.get(kind)
        if hooks:
            self._call(hooks, kind, args, kwargs, result, error)

    def _zeroed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        observer = self.observers.get(id(args[0]))
        if observer is not None and observer.awake:
            observer.on_zero(sites.here(3))

    def _group_added(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        if id(args[0]) in self.observers and error is None:
            self.observers[id(args[0])].renew()

    # Other calls that every step makes

    def _module_zeroed(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """`model.zero_grad()`: it clears an optimizer if it clears all that the optimizer holds."""
        cleared = {id(parameter) for parameter in args[0].parameters()}
        for observer in self.observers.values():
            ids = observer.ids() if observer.awake else set()
            if ids and ids <= cleared:
                observer.on_zero(sites.here(3))

    def _clipped(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Gradients are clipped; what is wrong with that is told if it is wrong for all whose gradients they are."""
        import torch

        parameters, bound = args[0] if args else kwargs.get("parameters"), _bound(args, kwargs)
        if isinstance(parameters, torch.Tensor):
            ids = {id(parameters)}
        elif isinstance(parameters, (list, tuple)):
            ids = {id(parameter) for parameter in parameters}
        else:
            return  # a generator would be used up
        mark = sites.here(3)
        concerned = [o for o in self.observers.values() if o.awake and ids & o.ids()]
        breaches = []
        for observer in concerned:
            if bound < MEASURED:
                observer.on_clip(mark)
            breaches.append(observer.event("clip", mark=mark))
        if bound < MEASURED:
            self._told_clip(concerned, breaches, mark, bound)
        for observer in concerned:
            observer.touch()

    def _told_clip(
        self, concerned: list[Observer], breaches: list[str | None], mark: sites.Mark | None, bound: float
    ) -> None:
        if None in breaches:
            return
        for observer, breach in zip(concerned, breaches, strict=True):
            if breach == cycle.SCALED_CLIP:
                observer.suspect()
            elif not observer.watched.backwards:
                observer.tally("clip", mark)
                continue  # it may be another's turn
            if breach is None or observer.opaque or (breach == cycle.EMPTY_CLIP and observer.written()):
                continue
            tally = observer.tally("clip", mark)
            if breach == cycle.SCALED_CLIP:
                self.take(ScaledClip(observer.scene(mark), untouched=observer.untouched(), bound=bound))
            else:
                self.take(EmptyClip(observer.scene(mark), tally=tally, gradient=observer.state.gradient))

    def _scheduled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        scheduler = args[0]
        optimizer = getattr(scheduler, "optimizer", None)
        optimizer = getattr(optimizer, "optimizer", optimizer)
        observer = self.observers.get(id(optimizer))
        initial = getattr(scheduler, "_is_initial", False) or getattr(scheduler, "_step_count", 1) == 0
        if observer is not None and observer.awake and not initial:
            observer.on_schedule(scheduler, sites.here(3))

    def walk(self, roots: Sequence[Tensor]) -> Reach:
        """What lies behind the tensors on which backward is called; walked once, whoever asks."""
        if self._walked is None or self._walked[0] != self.backwards:
            self._walked = (self.backwards, reach(roots))
        return self._walked[1]


def _roots(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor]:
    """What `torch.autograd.backward` is called on."""
    tensors = args[0] if args else kwargs.get("tensors", ())
    return tensors if isinstance(tensors, (list, tuple)) else (tensors,)


MEASURED = 1e6  # a bound of this size or more clips nothing: the call is there for the norm that it returns


def _bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> float:
    """The bound that a call of a clipping function is given."""
    given = args[1] if len(args) > 1 else kwargs.get("max_norm", kwargs.get("clip_value", 0.0))
    return float(given) if isinstance(given, (int, float)) else 0.0


def _called(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", "watcher")
