"""The hooks on the step of one optimizer: where it begins and ends, what its closure does, what it does by itself."""

from __future__ import annotations

import sys
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import patches, sites
from gradcheck_lint.runtime.sightings.order import Closure, ClosureCalled, ClosureMissing, ClosureWithoutLoss
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.sites import Mark


class Stepping:
    """Hears the steps of an observer's optimizer: both ends of them while it is awake, and else the end alone."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._session = observer.session
        self._watched = observer.watched
        self._counting = observer.attention.counting
        self._before: Any = None  # the handles of the hooks on the step
        self._after: Any = None
        self._gone = False  # the watching is over
        self._inside = 0  # how many steps of this optimizer are running, one inside the other
        self._frame: tuple[int, CodeType | None] = (0, None)  # that of the outermost, which may have raised meanwhile
        self._stepper = 0  # the thread of the step that was last listened to
        self._moving: tuple[int, int] | None = None  # the place of a weight that it should change, and its version
        self.pauses = False  # some of its steps do nothing, as one that gathers gradients
        self._in_closure = False
        self._closure_backwards = self._closure_zeros = 0

    # Hooks

    def attach(self) -> None:
        optimizer = self._observer.optimizer
        if optimizer is not None:
            self._before = optimizer.register_step_pre_hook(self._before_step)
            self._after = optimizer.register_step_post_hook(self._after_step)

    def sleep(self) -> None:
        """Hear the end of a step alone."""
        self._before.remove()

    def wake(self) -> None:
        """Hear its beginning too."""
        optimizer = self._observer.optimizer
        if optimizer is not None:
            self._before = optimizer.register_step_pre_hook(self._before_step)

    def detach(self) -> None:
        for handle in (self._before, self._after):
            if handle is not None:
                self._take_out(handle)

    def _take_out(self, handle: Any) -> None:
        """Remove a hook; unless another thread may be going through the hooks, which torch would then refuse.

        Then something that does nothing is put in its place, which nobody who goes through them notices.
        """
        hooks = handle.hooks_dict_ref()
        observer = self._observer
        if (observer.owner == get_ident() and not observer.away) or not patches.others_train():
            handle.remove()
        elif hooks is not None and handle.id in hooks:
            hooks[handle.id] = _nothing

    def stop(self) -> None:
        """The watching is over."""
        self._gone = True

    # Which step is which

    @property
    def running(self) -> bool:
        """Whether a step of it is running."""
        return self._inside > 0

    def forget(self) -> None:
        """Whatever step is running is not followed."""
        self._inside = 0

    def goes_backward(self) -> bool:
        """Whether a backward that is about to run is one of the step's own, and not of its closure."""
        return bool(self._inside) and not self._in_closure and self._runs(sys._getframe(1))

    def _runs(self, frame: FrameType | None) -> bool:
        """Whether the step that was begun goes on behind this frame; it may have raised, and never ended."""
        key, code = self._frame
        while frame is not None:
            if id(frame) == key and frame.f_code is code:
                return True
            frame = frame.f_back
        return False

    def _before_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        observer = self._observer
        if self._gone or observer.away:
            return None
        if self._session.compiling():
            observer.opaque = "its step is compiled"
            return None
        if not self._session.hears_work(observer, steps=True):
            return None
        self._stepper = get_ident()
        frame = sys._getframe(1)
        if self._inside and self._runs(frame.f_back):  # a subclass calls `super().step()`
            self._inside += 1
            self._counting.nested = max(self._counting.nested, self._inside)
            return None
        self._frame = (id(frame), frame.f_code)
        return self._session.guard.run(self._step_begins, optimizer, args, kwargs)

    def _after_step(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attention = self._observer.attention
        if not attention.awake:
            counting = self._counting
            counting.slept += 1
            if counting.slept < counting.night or self._observer.away or self._gone or self._session.compiling():
                return
            if self._session.hears_work(self._observer, steps=True):
                self._session.guard.run(attention.morning)
            return
        if self._gone or self._session.compiling() or self._stepper != get_ident():
            return
        if self._inside != 1:  # of a subclass, or it began before this observer woke
            self._inside = max(self._inside - 1, 0)
            return
        self._session.guard.run(self._step_ends)

    # A step

    def _step_begins(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        observer, machine, take = self._observer, self._observer.machine, self._session.take
        self._inside = 1
        machine.look_first()
        self._in_closure = False
        if observer.subject.inherits and not self.pauses:
            weights = enumerate(observer.parameters())
            self._moving = next(((at, p._version) for at, p in weights if p.grad is not None), None)
        watched = self._watched
        watched.steps += 1
        if watched.steps == 1:
            machine.began = machine.state.gradient
        mark = sites.here(3)
        if self._session.backward.running and not observer.opaque:
            observer.opaque = "it steps while backward runs"
        closure = kwargs.get("closure") if "closure" in kwargs else (args[1] if len(args) > 1 else None)
        own = callable(closure) and not _does_nothing(closure)
        if closure is not None and not callable(closure) and type(optimizer).__module__.startswith("torch.optim."):
            take(ClosureCalled(observer.scene(mark), given=type(closure).__name__))
        elif not own and watched.steps == 1 and observer.subject.searches():
            take(ClosureMissing(observer.scene(mark)))
        if callable(closure):
            wrapped = self._wrap(closure, mark, own=own)
            if "closure" in kwargs:
                return args, {**kwargs, "closure": wrapped}
            return (args[0], wrapped, *args[2:]), kwargs
        machine.uses(mark)
        return None

    def _step_ends(self) -> None:
        observer = self._observer
        self._inside = 0
        if self._moving is not None:
            at, version = self._moving
            self.pauses = at < len(parameters := observer.parameters()) and parameters[at]._version == version
            self._moving = None
            if self.pauses and not observer.opaque:
                observer.opaque = "some of its steps change nothing"
        self._watched.checked += 1
        observer.machine.step_ends()
        self._session.after_update(observer)
        observer.attention.thorough_step_ends()

    # Closures

    def _wrap(self, closure: Callable[[], Any], mark: Mark | None, *, own: bool) -> Callable[[], Any]:
        """own: whether it is the program's; what a framework passes where there is none is the step itself."""
        guard = self._session.guard.run

        def gradlint_closure() -> Any:
            guard(self._closure_begins)
            self._in_closure = True
            result = closure()
            self._in_closure = False
            if own:
                guard(self._closure_ends, mark, result, _beginning(closure))
            else:
                guard(self._observer.machine.uses, mark)
            return result

        return gradlint_closure

    def _closure_begins(self) -> None:
        self._closure_backwards = self._watched.backwards
        self._closure_zeros = self._watched.zeros

    def _closure_ends(self, mark: Mark | None, result: Any, begins: Mark | None) -> None:
        observer, first = self._observer, resolve(begins)
        made = self._watched.backwards - self._closure_backwards
        if result is None:
            searches = observer.subject.searches()
            self._session.take(ClosureWithoutLoss(observer.scene(mark), searches=searches, begins=first))
        cleared = self._watched.zeros - self._closure_zeros
        observer.machine.uses(mark, Closure(made, cleared, first))


def _nothing(*_: Any) -> None:
    """Stands in the place of a hook."""


def _beginning(closure: object) -> Mark | None:
    """The first line of the user's closure."""
    code = sites.code_of(closure.func if isinstance(closure, partial) else closure)
    if code is None or sites.foreign(code.co_filename):
        return None
    return sites.Mark(code, 0, code.co_firstlineno)


def _does_nothing(closure: object) -> bool:
    """Whether it is the empty function of a framework that always passes one, as Lightning does: the step has none."""
    while isinstance(closure, partial):  # around it may be what the framework does between closure and update
        closure = closure.args[-1] if closure.args else None
    code = sites.code_of(closure)
    return code is not None and sites.foreign(code.co_filename) and not (code.co_names or code.co_freevars)
