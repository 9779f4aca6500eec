"""Running the watcher inside of the program: whatever goes wrong in it is noted and goes no further.

Only what the user asked for passes (`FindingError`). It runs in the thread that has the turn, and its time is taken.
"""

from __future__ import annotations

import time
from threading import get_ident
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.check import Check

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.runtime.call import Call
    from gradcheck_lint.runtime.turn import Turn

_GIVE_UP = 5  # problems after which a hook is left alone
PROBLEMS = 100  # of the watcher's own, of different words, that are remembered


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


class _Hooks:
    """Which functions of the checks are called when: `now` by the hook, `begins` and `ends` by the kind of call."""

    def __init__(self, checks: Sequence[Check]) -> None:
        names = [name for name, hook in vars(Check).items() if callable(hook) and not name.startswith("_")]
        filled = {
            name: [(c, getattr(c, name)) for c in checks if getattr(type(c), name) is not getattr(Check, name)]
            for name in names
        }
        self.now = {name: [function for _, function in pairs] for name, pairs in filled.items()}
        self.begins = _by_kind(filled["call_begins"])
        self.ends = _by_kind(filled["call_ended"])


def _by_kind(pairs: Sequence[tuple[Check, Callable[..., Any]]]) -> dict[Call, list[Callable[..., Any]]]:
    kinds = {kind for check, _ in pairs for kind in check.hears}
    return {kind: [function for check, function in pairs if kind in check.hears] for kind in kinds}


class Guard:
    """Calls the parts of the watcher, and the hooks of its checks."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._hooks = _Hooks([])
        self._began = 0.0  # when the part of the watcher that runs was entered; 0 while the program runs
        self.watching = 0.0  # seconds in the watcher
        self._apart = 0.0  # seconds of them for what is done once in a run
        self.problems: dict[str, int] = {}  # what went wrong in it, and how often

    def listen(self, checks: Sequence[Check]) -> None:
        """Call the hooks of these from now on, and of no others."""
        self._hooks = _Hooks(checks)

    def ask(self, hook: str, *args: Any) -> None:
        """Call a hook of the checks that fill it."""
        functions = self._hooks.now[hook]
        if functions:
            self._call(functions, *args)

    def ask_aside(self, hook: str, *args: Any) -> None:
        """The same without all that `ask` is careful of: for hooks that look at no tensor, and cost next to nothing."""
        for function in self._hooks.now[hook]:
            try:
                function(*args)
            except Exception as error:
                self._fails(function, error)

    def dismiss(self, hook: str, function: Callable[..., Any]) -> None:
        """Call this hook of a check no more: it has seen what it wanted to see."""
        self._hooks.now[hook] = [other for other in self._hooks.now[hook] if other != function]

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Tell the checks that hear this kind of call."""
        functions = self._hooks.begins.get(kind)
        if functions:
            self._call(functions, kind, args, kwargs)

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        functions = self._hooks.ends.get(kind)
        if functions:
            self._call(functions, kind, args, kwargs, result, error)

    def _call(self, functions: Sequence[Callable[..., Any]], *args: Any) -> None:
        """Call these hooks; each is guarded by itself, without the price of `run`."""
        me = get_ident()
        outermost = self._turn.inside != me
        if outermost:
            if not self._turn.enter(me):
                return
            self._began = time.perf_counter()
        try:
            for function in functions:
                if self.problems and self._given_up(function):
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
                self._turn.leave()

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a part of the watcher if this thread has the turn; nothing that goes wrong in it reaches the program."""
        if self.problems and self._given_up(function):
            return None
        me = get_ident()
        outermost = self._turn.inside != me
        if outermost:
            if not self._turn.enter(me):
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
                self._turn.leave()

    def aside(self, function: Callable[..., Any], *args: Any) -> Any:
        """As `run`, in any thread: for what looks at nothing that is watched. None if it fails."""
        try:
            return function(*args)
        except Exception as error:
            self._fails(function, error)
            return None

    def hand_over(self, function: Callable[..., Any], *args: Any) -> None:
        """Call what the program has given us to be told something; it may wait for another thread meanwhile."""
        self._turn.telling = True
        try:
            function(*args)
        finally:
            self._turn.telling = False
        if self._turn.lost():
            raise Halt

    def apart(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a part of the watcher whose time does not count for how often steps are checked: it comes but once."""
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            self._apart += time.perf_counter() - began

    def spent(self) -> float:
        """Seconds in the watcher, with those since it was last entered, save those of what comes but once."""
        return self.spent_before() + (time.perf_counter() - self._began if self._began else 0.0)

    def spent_before(self) -> float:
        """The same, until it was last entered."""
        return self.watching - self._apart

    def _fails(self, function: Callable[..., Any], error: Exception) -> None:
        """Take note of something that went wrong in the watcher, and not in a signal's handler that came in between."""
        if sites.in_a_handler(error):
            raise error
        key = f"{_called(function)}: {type(error).__name__}: {error}"
        if key in self.problems or len(self.problems) < PROBLEMS:
            self.problems[key] = self.problems.get(key, 0) + 1

    def _given_up(self, function: Callable[..., Any]) -> bool:
        name = f"{_called(function)}:"
        return sum(number for key, number in self.problems.items() if key.startswith(name)) > _GIVE_UP


def _called(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", "watcher")
