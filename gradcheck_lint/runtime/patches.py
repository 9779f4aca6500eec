"""Where torch is wrapped while something is watched, and unwrapped again.

Each wrapper tells the sessions what is called and calls the original. While torch.compile traces, it does nothing but
that, so that no graph breaks. The wrappers are installed when the first session starts and removed when the last one
stops, in whatever order and threads they do; a name that somebody else has wrapped meanwhile is left alone, and our
wrapper in it stays silent. Whether a session listens to a call in this thread is for its `Turn` to say.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import dynamo, regions, sites, stacks
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.graph import reach
from gradcheck_lint.runtime.references import Others

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from gradcheck_lint.runtime.session import Session

ACTIVE: list[Session] = []
LOUD: list[Session] = []
"""Those of them that have an observer awake; while there is none the calls of every step are only counted."""
GLANCING: list[Session] = []
"""Those that have none awake, but one that takes a glance at this step."""

_installed: list[tuple[Any, str, Any, Any]] = []
_handles: list[Any] = []


_lock = threading.RLock()  # around coming and going; what a collection of garbage ends may come in between


class Counts:
    """How often the calls that every step makes were made in one thread since torch was first wrapped in it."""

    __slots__ = ("aside", "asked", "backwards", "era", "latest", "look", "reached", "running", "since", "zeros")

    def __init__(self) -> None:
        self.zeros = 0
        self.backwards = 0
        self.running = 0  # backwards that have not ended
        self.era = -1
        self.since = 0  # the number of backwards when this era began
        self.look = 0  # at which the next one is shown to sessions that listen to another thread
        self.aside = False  # whether a session listens to another thread
        self.asked = 0  # the latest backward that was asked what it reaches
        self.latest: set[int] | None = None  # the leaves that this one reaches, None if that is not known
        self.reached: set[int] | None = None  # the leaves of those that run, if each of them was asked and told

    def reaches(self, roots: Iterable[Any]) -> set[int] | None:
        """The ids of the leaves that the backward reaches that begins in this thread, None if they are too many.

        They are there for other threads to see from then on, and live as long as the graph does.
        """
        if self.asked == self.backwards:  # by another session
            return self.latest
        found = reach(roots)
        self.latest = ids = {id(leaf) for leaf in found.leaves} if found.whole else None
        if self.running > 1:  # it runs inside of others
            outer = self.reached if self.asked == self.backwards - 1 else None
            self.reached = None if ids is None or outer is None else ids | outer
        else:
            self.reached = ids
        self.asked = self.backwards
        return ids

    def may_write(self, ids: Collection[int] | None) -> bool:
        """Whether this thread is in a backward that reaches one of these, or may do so for all that is known.

        None for whatever there is.
        """
        if not self.running:
            return False
        reached = self.reached if self.asked == self.backwards else None
        return reached is None or ids is None or not reached.isdisjoint(ids)


class _Own(threading.local):
    """The counts of each thread."""

    def __init__(self) -> None:
        self.counts = Counts()
        _running[threading.get_ident()] = self.counts


_running: dict[int, Counts] = {}  # by thread, those that have ended too, until another has the same number
_own = _Own()
_era = 0  # counts the beginnings and ends of sessions: then each thread's next backward is looked at
_before_us: frozenset[int] = frozenset()  # threads that were in a backward when torch was wrapped, and may still be


def counts() -> Counts:
    """Those of this thread."""
    return _own.counts


def look_again() -> None:
    """Each thread's next backward is looked at before it runs: who is listened to may have changed."""
    global _era
    _era += 1


def may_write(thread: int, ids: Collection[int] | None) -> bool:
    """Whether this thread is in a backward that may reach one of these."""
    counts = _running.get(thread)
    return counts is not None and counts.may_write(ids)


def quiet(me: int, ids: Collection[int] | None, patience: float, others: Collection[int], *, wait: bool) -> bool:
    """Wait until no other thread is in a backward that may reach one of these.

    others: threads that wait themselves before they go backward, for which it makes no sense to wait. wait: whether
    they wait for the end of this.
    """
    end = time.monotonic() + patience
    while True:
        busy = [thread for thread, counts in list(_running.items()) if thread != me and counts.may_write(ids)]
        busy += _unseen(me)
        if wait:
            busy = [thread for thread in busy if thread not in others]
        if not busy:
            return True
        if any(thread in others for thread in busy) or time.monotonic() > end:
            return False
        time.sleep(0.0005)


def others_train() -> bool:
    """Whether another thread has cleared gradients or gone backward, and lives."""
    trained = {thread for thread, counts in list(_running.items()) if counts.zeros or counts.backwards}
    trained.discard(threading.get_ident())
    return any(thread.ident in trained for thread in threading.enumerate())


def _unseen(me: int) -> list[int]:
    """Threads that may be in a backward which began before torch was wrapped."""
    global _before_us
    if not _before_us:
        return []
    _before_us &= stacks.in_backward()
    return sorted(_before_us - {me})


_EVERY_STEP = frozenset(
    {
        Call.ZERO_GRAD, Call.MODULE_ZERO_GRAD, Call.SCALER_SCALE, Call.SCALER_UNSCALE, Call.SCALER_STEP,
        Call.SCALER_UPDATE, Call.SCHEDULER_STEP, Call.CLIP,
    }
)  # fmt: skip
_ZEROS = frozenset({Call.ZERO_GRAD, Call.MODULE_ZERO_GRAD})


def start(session: Session) -> None:
    global _era
    with _lock:
        if not ACTIVE:
            _install()
        ACTIVE.append(session)
        _era += 1


def stop(session: Session) -> None:
    global _era
    with _lock:
        for sessions in (ACTIVE, LOUD, GLANCING):
            if session in sessions:
                sessions.remove(session)
        regions.look_away(session)
        _era += 1
        if not ACTIVE:
            _remove()


def in_a_child() -> None:
    """The process was forked: another thread may have held the lock, or been in a backward that never ends now."""
    global _lock, _before_us
    _lock = threading.RLock()
    _before_us = frozenset()
    for thread in _running.keys() - {threading.get_ident()}:
        del _running[thread]
    for session in ACTIVE:
        session.turn.in_a_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=in_a_child)


def _install() -> None:
    global _before_us
    import torch
    from torch.nn import Module
    from torch.nn.modules import module as modules
    from torch.nn.utils import clip_grad
    from torch.optim import Optimizer, lr_scheduler

    _wrap(torch.autograd, "backward", _backward)
    _wrap(Optimizer, "__init__", _built)
    for name in ("zero_grad", "add_param_group", "load_state_dict", "state_dict"):
        _wrap(Optimizer, name, functools.partial(_told, kind=Call(name)))
    for name in ("zero_grad", "_apply", "load_state_dict", "state_dict"):
        _wrap(Module, name, functools.partial(_told, kind=Call(f"module.{name}")))
    _wrap(Module, "train", functools.partial(_outermost, told=_switched))  # which hands on to its children
    changed = functools.partial(_told, kind=Call.MODULE_REQUIRES_GRAD)
    _wrap(Module, "requires_grad_", functools.partial(_outermost, told=changed))  # and so does this
    _wrap(lr_scheduler.LRScheduler, "__init__", functools.partial(_told, kind=Call.SCHEDULER_BUILD))
    for scheduler in (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau):
        _wrap(scheduler, "step", functools.partial(_told, kind=Call.SCHEDULER_STEP))
    scaler = torch.amp.grad_scaler.GradScaler
    for name in ("__init__", "scale", "unscale_", "step", "update"):
        _wrap(scaler, name, functools.partial(_told, kind=Call(f"scaler.{name}")))
    if regions.available():
        autocast = torch.amp.autocast_mode.autocast
        _wrap(autocast, "__enter__", functools.partial(_noted, note=regions.entered))
        _wrap(autocast, "__exit__", functools.partial(_noted, note=regions.left))
    # The public functions may have been imported by name before; they look these up when they are called.
    for name in ("_clip_grads_with_norm_", "clip_grads_with_norm_"):
        _wrap(clip_grad, name, functools.partial(_told, kind=Call.CLIP))
    by_name = ["clip_grad_value_"] + ([] if hasattr(clip_grad, "_clip_grads_with_norm_") else ["clip_grad_norm_"])
    for owner in (clip_grad, torch.nn.utils):
        for name in by_name:
            _wrap(owner, name, _clip)
    if vars(torch.utils).get("weakref") is weakref:  # what `swap_tensors` asks, imported by name or not
        _put(torch.utils, "weakref", Others())
    _handles.append(modules.register_module_parameter_registration_hook(_registered))
    _handles.append(modules.register_module_module_registration_hook(_registered))
    _before_us = stacks.in_backward() if threading.active_count() > 1 else frozenset()


def _remove() -> None:
    while _handles:
        _handles.pop().remove()
    while _installed:
        owner, name, original, wrapper = _installed.pop()
        if vars(owner).get(name) is wrapper:
            setattr(owner, name, original)


def _wrap(owner: Any, name: str, maker: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    original = vars(owner).get(name)
    if original is None or not callable(original):
        return
    _put(owner, name, functools.wraps(original)(maker(original)))


def _put(owner: Any, name: str, ours: Any) -> None:
    _installed.append((owner, name, vars(owner)[name], ours))
    setattr(owner, name, ours)


def _told(original: Callable[..., Any], kind: Call) -> Callable[..., Any]:
    """Tell the sessions before and after a call."""
    tracing = dynamo.tracing()
    listeners = LOUD if kind in _EVERY_STEP else ACTIVE
    zeros = kind in _ZEROS
    own = _own

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if tracing():
            return original(*args, **kwargs)
        if zeros:
            own.counts.zeros += 1
        if not listeners:
            return original(*args, **kwargs)
        begun: list[Session] = []  # Ctrl-C may come in between
        error: BaseException | None = None
        result = None
        try:
            for session in list(listeners):
                if session.hears(kind, args):
                    begun.append(session)
                    session.calls.begin(kind, args, kwargs)
            result = original(*args, **kwargs)
        except BaseException as raised:
            error = raised
            raise
        finally:
            for session in begun:
                session.calls.end(kind, args, kwargs, result, error)
        return result

    return wrapper


def _outermost(
    original: Callable[..., Any], told: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """Tell of the outermost call alone: a module hands it on to its children."""
    outer = told(original)
    tracing = dynamo.tracing()
    inside = _Inside()

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if tracing() or inside.a_call:
            return original(*args, **kwargs)
        inside.a_call = True
        try:
            return outer(*args, **kwargs)
        finally:
            inside.a_call = False

    return wrapper


class _Inside(threading.local):
    """Whether this thread is in such a call."""

    a_call = False


def _switched(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tell the sessions that a mode is switched: programs do that many times in a step."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        for session in list(ACTIVE):
            session.switched(args, kwargs)
        return original(*args, **kwargs)

    return wrapper


def _clip(original: Callable[..., Any]) -> Callable[..., Any]:
    """Tell of a clipping; parameters that come out of a generator are put into a list, so that both can read them."""
    told = _told(original, Call.CLIP)

    def wrapper(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        if LOUD and isinstance(parameters, GeneratorType):
            parameters = list(parameters)
        return told(parameters, *args, **kwargs)

    return wrapper


def _noted(original: Callable[..., Any], note: Callable[[Any], None]) -> Callable[..., Any]:
    """Note where autocast begins or ends, while somebody wants to know."""
    tracing = dynamo.tracing()
    looking = regions.LOOKING

    def wrapper(self: Any, *error: Any) -> Any:
        result = original(self, *error)
        if looking and not tracing():
            for session in list(looking[:1]):
                session.guard.aside(note, self)
        return result

    return wrapper


def _built(original: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
        mark = sites.here(2)
        given = args[0] if args else kwargs.get("params")
        heard = [session for session in list(ACTIVE) if session.hears(Call.BUILD, ())]
        for session in heard:
            session.guard.run(session.building, given, mark)
        try:
            original(self, *args, **kwargs)
        except Exception as error:
            for session in heard:
                session.guard.run(session.refused, self, given, error, mark)
            raise
        for session in list(ACTIVE):
            if session in heard:
                session.guard.run(session.built, self, given, mark)
            else:
                session.roster.built_elsewhere(self, mark)

    return wrapper


def _backward(original: Callable[..., Any]) -> Callable[..., Any]:
    tracing = dynamo.tracing()
    own = _own

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if tracing():
            return original(*args, **kwargs)
        counts = own.counts
        counts.backwards += 1
        counts.running += 1
        try:
            if not LOUD:
                if counts.aside or counts.era != _era or counts.backwards >= counts.look:
                    _show(counts, args, kwargs)
                for session in list(GLANCING):
                    session.backward.glance(args, kwargs)
                try:
                    return original(*args, **kwargs)
                except BaseException as raised:
                    for session in list(ACTIVE):
                        session.backward.raised(raised)
                    raise
            begun: list[Session] = []
            error: BaseException | None = None
            try:
                _begin_all(begun, args, kwargs)
                return original(*args, **kwargs)
            except BaseException as raised:
                error = raised
                raise
            finally:
                for session in begun:
                    session.backward.ends(error)
        finally:
            counts.running -= 1

    return wrapper


def _begin_all(begun: list[Session], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A backward is about to run while some session is awake; those that listen to it come into the list."""
    for session in list(ACTIVE):
        if session.backward.hears(args, kwargs):
            if session in LOUD:
                begun.append(session)
                session.backward.begins(args, kwargs)
            elif session in GLANCING:
                session.backward.glance(args, kwargs)


def _show(counts: Counts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A backward that nobody is awake for is about to run: it may concern a session that listens to another thread."""
    if counts.era != _era:
        counts.era, counts.since = _era, counts.backwards - 1
    counts.look = counts.backwards + (counts.backwards - counts.since)
    sessions = list(ACTIVE)
    counts.aside = any(session.turn.thread != threading.get_ident() for session in sessions)  # then each one is asked
    for session in sessions:
        session.backward.hears(args, kwargs)


def _registered(module: Any, name: str, thing: Any) -> None:
    """A parameter or a module is assigned to an attribute of a module."""
    for session in list(ACTIVE):
        if session.hears(Call.REGISTER, ()):
            session.guard.run(session.registered, module, name, thing)
