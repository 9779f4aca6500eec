"""The optimizers of a session: those that are followed, and those that are only counted."""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.names import variable
from gradcheck_lint.runtime.observer import Observer
from gradcheck_lint.runtime.record import Watched
from gradcheck_lint.runtime.turn import CROWD, UNSURE

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.session import Session


class Roster:
    """Who is on it, and who they all are together."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.observers: dict[int, Observer] = {}  # by the id of the optimizer; another dict whenever one leaves it
        self._elsewhere: list[Observer] = []  # those that another thread steps, or several: they are only counted

    def everybody(self) -> list[Observer]:
        """All observers in the order in which they came, those that are only counted too."""
        return sorted([*self.observers.values(), *self._elsewhere], key=lambda observer: observer.watched.index)

    # Who comes and goes

    def add(self, optimizer: Optimizer, built: sites.Mark | None) -> Observer | None:
        """Begin to watch this optimizer; None if it is watched already, or cannot be followed."""
        inner = optimizer
        while not hasattr(inner, "_optimizer_step_pre_hooks") or hasattr(inner, "optimizer"):
            following = getattr(inner, "optimizer", None)
            if following is None or not hasattr(following, "param_groups"):
                break
            inner = following  # Accelerate and others wrap the one that steps
        known = self.observers.get(id(inner))
        if known is not None and known.optimizer is inner:
            return None
        session = self._session
        observer = Observer(session, inner, Watched(self._next(), "", type(inner).__name__), built)
        if known is not None:  # an optimizer that is gone had the same id
            items = self.observers.items()
            self.observers = {-known.watched.index - 1 if other is known else key: other for key, other in items}
        self.observers[id(inner)] = observer
        if not session.turn.clear(observer.ids()):
            observer.attach()
            self.let_go(observer, UNSURE)
            return None
        self.look_around(observer)
        observer.attach()
        session.listen()
        session.guard.ask("attached", observer)
        return observer

    def _next(self) -> int:
        return len(self.observers) + len(self._elsewhere)

    def built_elsewhere(self, optimizer: Optimizer, mark: sites.Mark | None) -> None:
        """An optimizer was built by a thread that is not listened to: its steps are counted."""
        if self._session.turn.follows(get_ident()):
            self._session.guard.aside(self._count_only, optimizer, mark)

    def _count_only(self, optimizer: Optimizer, mark: sites.Mark | None) -> None:
        watched = Watched(self._next(), variable(optimizer, sites.frames(2)), type(optimizer).__name__)
        observer = Observer(self._session, optimizer, watched, mark)
        observer.attach()
        self.let_go(observer, CROWD)

    def let_go(self, observer: Observer, why: str) -> None:
        """It is only counted from now on, and no check comes across it: another thread may be at work on it."""
        self.observers = {key: other for key, other in self.observers.items() if other is not observer}
        if observer not in self._elsewhere:
            self._elsewhere.append(observer)
        observer.let_go(why)
        self._session.listen()

    # Names and models

    def add_model(self, model: Module, name: str = "") -> None:
        if self._session.models.add(model, name):
            self._model_found()

    def look_around(self, observer: Observer, *, thoroughly: bool = False) -> None:
        """Find the models to which an optimizer's parameters belong, and what it is called, among the variables."""
        frames = sites.frames(2)
        optimizer, models = observer.optimizer, self._session.models
        if not observer.watched.name and optimizer is not None:
            observer.watched.name = variable(optimizer, frames)
        ids = observer.ids()
        known = {id(parameter) for _, parameter in models.parameters()}
        if ids <= known:
            return
        found = models.find(frames, ids - known)
        if not found and thoroughly and not known & ids:
            found = models.find_anywhere(ids)
        if found:
            self._model_found()

    def _model_found(self) -> None:
        for observer in self.observers.values():
            observer.subject.forget_names()
        self._session.guard.ask("model_found")

    # All together

    def held(self) -> set[int]:
        """The ids of all tensors that some watched optimizer holds."""
        return set().union(*(observer.ids() for observer in list(self.observers.values())))

    def fed(self) -> set[int]:
        """The ids of all tensors that have ever got a gradient while some optimizer held them."""
        return {key for observer in list(self.observers.values()) for key in observer.received}

    def awake(self) -> bool:
        """Whether some observer checks this step thoroughly."""
        return any(observer.awake for observer in self.observers.values())

    def glances(self) -> bool:
        return any(observer.attention.glances for observer in self.observers.values())

    def rarely(self) -> bool:
        """Whether the step to come is one of the few samples that look at everything, for some optimizer."""
        return any(o.awake and o.sampling.rarely(o.watched.steps + 1) for o in self.observers.values())

    def rouse(self) -> None:
        """Something has happened that a thorough look should follow."""
        for observer in self.observers.values():
            observer.sampling.rouse()

    def changed(self) -> None:
        """The program has changed what is trained, in a call that was heard."""
        for observer in self.observers.values():
            observer.attention.changed()

    def suspect(self) -> None:
        """Something looked wrong at a glance: look thoroughly, a few times in a run."""
        for observer in self.observers.values():
            observer.attention.suspect()

    def passed_on(self) -> None:
        """Another thread has the turn; whatever step the former one was in the middle of, it is not followed."""
        for observer in self.observers.values():
            observer.stepping.forget()
