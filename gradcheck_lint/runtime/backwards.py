"""The backwards of the thread that is listened to, and what each of them reaches."""

from __future__ import annotations

from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

from gradcheck_lint.laws import cycle
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.graph import reach
from gradcheck_lint.runtime.guard import FindingError
from gradcheck_lint.runtime.record import Event
from gradcheck_lint.runtime.scaling import scaled
from gradcheck_lint.runtime.trails import trail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.graph import Reach
    from gradcheck_lint.runtime.session import Session

_ARGUMENTS = ("tensors", "grad_tensors", "retain_graph", "create_graph", "grad_variables", "inputs")


class Backwards:
    """What the wrapper around `torch.autograd.backward` tells a session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.running = 0  # how many of the thread that has the turn are running, one inside the other
        self.number = 0  # how many have begun, those inside of others not counted
        self._event: Event | None = None
        self._walked: tuple[int, Reach] | None = None

    def forget(self) -> None:
        """Another thread has the turn; whatever the former one was in the middle of, it is not followed."""
        self.running = 0
        self._event = self._walked = None

    def hears(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a backward that is about to run in this thread is listened to."""
        me, turn = get_ident(), self._session.turn
        return me == turn.thread or bool(self._session.guard.aside(turn.backward, me, _roots(args, kwargs)))

    def begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.running += 1
        if self.running == 1:
            self._session.guard.run(self._begins, args, kwargs)

    def _begins(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        session = self._session
        self.number += 1
        mark = sites.here(4)
        roots = _roots(args, kwargs)
        how = cycle.PLAIN
        if session.scaling.at_work:
            how = cycle.SCALED if scaled(roots) else cycle.PLAIN
        self._event = event = Event("backward", session.tick(), 0, how, mark)
        for observer in session.observers.values():
            if observer.machine.closely:
                observer.machine.trails[event.order] = trail()
            if observer.awake:
                observer.backward_begins()
        options = dict(zip(_ARGUMENTS, args, strict=False)) | kwargs if len(args) > 1 else kwargs
        session.guard.ask("backward_begins", roots, event, options)

    def ends(self, error: BaseException | None) -> None:
        me, turn = get_ident(), self._session.turn
        if me != turn.thread and not turn.deputy(me):
            return  # the turn has passed on meanwhile
        self.running = max(self.running - 1, 0)
        if self.running == 0:
            try:
                self._session.guard.run(self._ends, error)
            except FindingError:
                if error is None:  # the program's own error goes first
                    raise

    def _ends(self, error: BaseException | None) -> None:
        session = self._session
        order = self._walked[1].leaves if self._walked is not None else ()
        self._walked = None  # it holds tensors and nodes of the graph
        event = self._event
        if event is None:
            return
        self._event = None
        touched = [o for o in session.observers.values() if o.awake and o.machine.backward_ended(event, order)]
        if touched:
            session.turn.trained = True
            for observer in touched:
                observer.owner = session.turn.thread
        if error is not None:
            session.guard.ask("backward_failed", event, error)
        else:
            session.guard.ask("backward_ended", event, touched)

    def glance(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """One is about to run on a step at which no more than a glance is taken."""
        root = args[0] if args else kwargs.get("tensors")
        if isinstance(root, (list, tuple)) and len(root) == 1:
            root = root[0]
        if hasattr(root, "is_cpu"):
            self._session.guard.ask("glance_at_loss", root)

    def raised(self, error: BaseException) -> None:
        """One that was not heard has raised."""
        event = Event("backward", self._session.tick(), 0, "", sites.here(3))
        with suppress(FindingError):
            self._session.guard.ask("backward_failed", event, error)

    def walk(self, roots: Sequence[Tensor]) -> Reach:
        """What lies behind the tensors on which backward is called; walked once, whoever asks."""
        if self._walked is None or self._walked[0] != self.number:
            self._walked = (self.number, reach(roots))
        return self._walked[1]


def _roots(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Tensor]:
    """What `torch.autograd.backward` is called on."""
    tensors = args[0] if args else kwargs.get("tensors", ())
    return tensors if isinstance(tensors, (list, tuple)) else (tensors,)
