"""`watch`: the watcher's face. A context manager, a decorator, and `watch.start()` / `watch.stop()` for notebooks."""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import inspect
import logging
import re
import sys
import threading
import warnings
from contextlib import aclosing
from os import fspath
from typing import TYPE_CHECKING, Any, TypeVar

from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.runtime import termination
from gradcheck_lint.runtime.guard import FindingError, one_line
from gradcheck_lint.runtime.record import Terminated, ending
from gradcheck_lint.runtime.rulebook import Rulebook
from gradcheck_lint.runtime.session import Options, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike
    from types import TracebackType

    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.config import Settings
    from gradcheck_lint.runtime.record import RunRecord

_F = TypeVar("_F", bound="Callable[..., Any]")

OLDEST = (2, 4)  # of torch: before it hooks on the step are dropped without a word once something was compiled
LEVELS = ("light", "default", "deep")
WAYS = ("warn", "raise", "log", "ignore")

_log = logging.getLogger("gradlint")


class GradlintWarning(UserWarning):
    """The category of the warnings that `watch` gives."""


class watch:  # noqa: N801 - used like a function
    """Watch optimizers while a program trains, and tell what breaks the gradient cycle.

        with watch(optimizer):
            train()

    Also a decorator of a function that trains; `watch.start(optimizer)` and `watch.stop()` do the same where a block
    cannot be written, as in a notebook.

    optimizers: those to watch; none stands for each one that is built meanwhile.
    model: the model or models that they train. Without it they are looked for among the variables of the program.
    on_finding: "warn" (a GradlintWarning on the user's line), "raise" (a FindingError), "log" (the logger
        "gradlint"), "ignore", or a callable that is given the Finding.
    level: "light", "default" or "deep"; the last costs more and also reads values at each step that is checked.
    every: after the first 20 steps, each so many steps one is checked. Each 50th (or more) of all steps is a sample, at
        which values are read too. Without `every` each 50th is checked, or fewer where that would take more than half
        a percent of the time.
    select, ignore: codes, beginnings of codes or names of rules, as for the linter.
    expect_frozen: names of parameters, or beginnings of them, that must not move.
    expect_trained: the same of those that must require grad, be in an optimizer and get gradients.
    min_confidence: "low", "medium" or "high"; what is less certain is not told.
    quiet: no summary on stderr at the end.
    writer: what is given losses, norms of gradients and sizes of updates: a SummaryWriter, or a callable such as
        `wandb.log` that takes a dict and the step.

    Raises ConfigError (a ValueError) for an option that makes no sense, and TypeError for something that is no
    optimizer. Training gives bit for bit what it would give unwatched.
    """

    _running: list[watch] = []  # noqa: RUF012 - of the class, on purpose

    def __init__(
        self,
        *optimizers: Optimizer,
        model: Module | Sequence[Module] | None = None,
        on_finding: str | Callable[[Finding], None] = "warn",
        level: str = "default",
        every: int | None = None,
        select: Sequence[str] = (),
        ignore: Sequence[str] = (),
        expect_frozen: Sequence[str] = (),
        expect_trained: Sequence[str] = (),
        min_confidence: str = "high",
        quiet: bool = False,
        writer: Any = None,
    ) -> None:
        _refuse_nonsense(on_finding, level, every, min_confidence)
        if not (writer is None or callable(writer) or hasattr(writer, "add_scalar")):
            kind = type(writer).__name__
            raise TypeError(f"writer= takes a SummaryWriter or a callable of a dict and a step, and this is a {kind}")
        self._optimizers = tuple(_unpacked(optimizers))
        self._models = tuple(model) if isinstance(model, (list, tuple)) else ((model,) if model is not None else ())
        self._on_finding = on_finding
        self._level = level
        self._every = every
        self._select = _words(select)
        self._ignore = _words(ignore)
        self._expect_frozen = _words(expect_frozen)
        self._expect_trained = _words(expect_trained)
        self._least = Confidence.parse(min_confidence)
        self._quiet = quiet
        self._writer = writer
        self._rules: Rulebook | None = None
        self._ignored: Callable[[str], frozenset[str]] | None = None
        self._session: Session | None = None
        self._depth = 0  # how often it was entered and not left yet: by blocks inside of others, or by several threads
        self._opener = 0  # the thread that entered it first
        self._lock = (
            threading.RLock()
        )  # around that; a generator that the collection of garbage closes may come between
        self._record: RunRecord | None = None

    # As a block, a decorator, and by hand

    def ready(self, settings: Settings | None = None) -> watch:
        """Choose the rules, those of `settings` with the own `select` and `ignore` on top; `with` does it otherwise.

        Where nobody names any they are loaded when there is something to judge. Raises ConfigError for words that name
        no rule, and where torch is too old.
        """
        _refuse_old_torch()
        if settings is not None or self._select or self._ignore:
            from gradcheck_lint.config import Selection, Settings, on_top

            selection = Selection(select=self._select or None, ignore=self._ignore, origin="the options")
            settings = on_top(settings or Settings(), selection)
        self._rules = Rulebook(settings)
        if settings is not None and any(each.per_file_ignores for each in settings.lineage()):
            from gradcheck_lint import registry
            from gradcheck_lint.source.per_file import PerFileIgnores

            self._ignored = PerFileIgnores(settings, registry.load(settings.rule_folders)).codes
        return self

    def __enter__(self) -> watch:
        with self._lock:
            if self._depth == 0:
                self._begin()
            self._depth += 1
        return self

    def _begin(self) -> None:
        if self._rules is None:
            self.ready()
        options = Options(
            level=self._level,
            every=self._every or 50,
            budget=0.004 if self._every is None else 0.0,
            everything=not self._optimizers,
            expect_frozen=self._expect_frozen,
            expect_trained=self._expect_trained,
            least=self._least,
            writer=self._writer,
            ignored=self._ignored,
        )
        session = Session(self._rules if self._rules is not None else (), options, self._tell)
        try:
            session.start()
            for model in self._models:
                session.roster.add_model(model)
            for optimizer in self._optimizers:
                session.guard.run(session.watch, optimizer)
        except BaseException:
            session.stop()
            raise
        self._session = session
        self._opener = threading.get_ident()
        watch._running.append(self)
        termination.expect(self._terminated)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._depth = max(self._depth - 1, 0)
            session = self._session
            if session is None or self._depth:
                return
            if self in watch._running:
                watch._running.remove(self)
            self._session = None
            self._record = session.record
        termination.expect_no_more(self._terminated)
        try:
            session.stop(ending(error))
        finally:
            first = session.record.rank == 0  # the others have handed over what they found
            if not self._quiet and self._on_finding != "ignore" and first:
                self._say_goodbye()

    def _terminated(self) -> None:
        """The program is about to be ended by SIGTERM."""
        self._depth = 1
        self.__exit__(Terminated, Terminated(), None)

    def __call__(self, function: _F) -> _F:
        """Watch each call of `function`; findings of the call that ended last are kept.

        A call inside of another, as of a function that calls itself, is a part of it. Calls in several threads are
        watched each by itself. Generators and coroutines are watched from when they begin to run until they are done
        or closed.
        """
        if isinstance(function, type) or not callable(function):
            kind = f"the class {function.__name__}" if isinstance(function, type) else f"a {type(function).__name__}"
            raise TypeError(f"watch() decorates a function that trains, and this is {kind}")
        calls: dict[int, watch] = {}  # by thread, while one of them runs
        return _decorated(function, lambda: _Call(self, calls))  # type: ignore[return-value]

    def _again(self) -> watch:
        """Another one with the same options."""
        other = copy.copy(self)
        other._session = other._record = None
        other._depth = 0
        other._lock = threading.RLock()
        return other

    @classmethod
    def start(cls, *optimizers: Optimizer, **options: Any) -> watch:
        """Begin to watch; the options of `watch`. `stop` ends it."""
        return cls(*optimizers, **options).__enter__()

    @classmethod
    def stop(cls) -> watch | None:
        """End what `start` began last; None if nothing is watched."""
        if not cls._running:
            return None
        running = cls._running[-1]
        running.__exit__(None, None, None)
        return running

    # What is known

    @property
    def record(self) -> RunRecord:
        """The record of the run, so far or when it is over; raises RuntimeError before it began."""
        if self._session is not None:
            self._session.snapshot()
            return self._session.record
        if self._record is None:
            raise RuntimeError("nothing was watched yet; use `with watch(optimizer) as run:`")
        return self._record

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order of the steps."""
        return list(self.record.findings)

    def summary(self) -> str:
        """At most a screen of text: what was watched, what was found, where the watcher was blind."""
        from gradcheck_lint.report import run_text

        return run_text.render(self.record)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the run to a file, as JSON; `gradlint report FILE` shows it again."""
        self._write("json", path)

    def to_html(self, path: str | PathLike[str]) -> None:
        """Write the run to a page that needs nothing else, to be opened in a browser."""
        self._write("html", path)

    def _write(self, form: str, path: str | PathLike[str]) -> None:
        from gradcheck_lint.report import run_formats

        run_formats.write(self.record, form, fspath(path))

    def plot(self) -> Any:
        """A figure of matplotlib: losses, gradients and updates by layer and step, and the gradient cycle."""
        from gradcheck_lint.report.run_plot import plot

        return plot(self.record)

    def _say_goodbye(self) -> None:
        try:
            from gradcheck_lint.console import colourful
            from gradcheck_lint.report import run_text

            sys.stderr.write(run_text.render(self.record, colour=colourful(sys.stderr), brief=True))
        except Exception as error:  # a summary that cannot be made must not end the program
            _log.debug("the summary could not be written: %s", error)

    def _tell(self, finding: Finding) -> None:
        way = self._on_finding
        if way == "raise":
            raise FindingError(finding)
        try:
            if way == "warn":
                warnings.warn_explicit(
                    one_line(finding), GradlintWarning, finding.span.path, finding.span.line, registry={}
                )
            elif way == "log":
                _log.warning("%s:%d: %s", finding.span.path, finding.span.line, one_line(finding))
            elif callable(way):
                way(finding)
        except Exception as error:  # warnings turned into errors, a callable that fails
            _log.debug("a finding could not be told: %s", error)


class _Call:
    """A call of a decorated function; inside of another one of its thread it is a part of that."""

    def __init__(self, decorator: watch, calls: dict[int, watch]) -> None:
        self._decorator = decorator
        self._calls = calls
        self._run = decorator

    def __enter__(self) -> None:
        with self._decorator._lock:
            decorator, me = self._decorator, threading.get_ident()
            run = self._calls.get(me)
            if run is None or not run._depth:
                run = decorator if not decorator._depth or decorator._opener == me else decorator._again()
            self._run = self._calls[me] = run
            run.__enter__()

    def __exit__(self, *error: Any) -> None:
        run, decorator = self._run, self._decorator
        with decorator._lock:
            if run._depth <= 1:  # it is over; a thread that comes now must not take what another begins for its own
                for thread in [thread for thread, other in self._calls.items() if other is run]:
                    del self._calls[thread]
        try:
            run.__exit__(*error)
        finally:
            if run is not decorator and not run._depth:
                decorator._record = run._record


def _decorated(function: Callable[..., Any], call: Callable[[], _Call]) -> Callable[..., Any]:
    """The function with a watch around each call, of the same kind as it was."""
    if inspect.isasyncgenfunction(function):

        async def of_async_generator(*args: Any, **kwargs: Any) -> Any:
            with call():
                async with aclosing(function(*args, **kwargs)) as generator:
                    proceed = generator.asend(None)
                    while True:
                        try:
                            value = await proceed
                        except StopAsyncIteration:
                            return
                        try:
                            proceed = generator.asend((yield value))
                        except GeneratorExit:
                            raise
                        except BaseException as thrown:
                            proceed = generator.athrow(thrown)

        return functools.wraps(function)(of_async_generator)
    if inspect.iscoroutinefunction(function):

        async def of_coroutine(*args: Any, **kwargs: Any) -> Any:
            with call():
                return await function(*args, **kwargs)

        return functools.wraps(function)(of_coroutine)
    if inspect.isgeneratorfunction(function):

        def of_generator(*args: Any, **kwargs: Any) -> Any:
            with call():
                return (yield from function(*args, **kwargs))

        return functools.wraps(function)(of_generator)

    @functools.wraps(function)
    def of_function(*args: Any, **kwargs: Any) -> Any:
        with call():
            result = function(*args, **kwargs)
        # a function that only hands on what another has made: the body has not begun to run
        if inspect.isgenerator(result):
            return _decorated(_yielding, call)(result)
        if inspect.isasyncgen(result):
            return _decorated(_streaming, call)(result)
        return _decorated(_awaiting, call)(result) if inspect.iscoroutine(result) else result

    return of_function


def _yielding(generator: Any) -> Any:
    return (yield from generator)


async def _streaming(generator: Any) -> Any:
    async for value in generator:
        yield value


async def _awaiting(coroutine: Any) -> Any:
    return await coroutine


def _words(words: Sequence[str] | str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split(",")) if isinstance(words, str) else tuple(words)


def _unpacked(optimizers: Sequence[Any]) -> list[Any]:
    """The optimizers, those in lists too; raises TypeError for what is none."""
    found: list[Any] = []
    for optimizer in optimizers:
        if isinstance(optimizer, (list, tuple)):
            found += _unpacked(optimizer)
        elif hasattr(optimizer, "param_groups") and hasattr(optimizer, "step"):
            found.append(optimizer)
        else:
            kind = type(optimizer).__name__
            if kind == "function":
                raise TypeError("watch() takes optimizers, and this is a function; to decorate it, write `@watch()`")
            raise TypeError(f"watch() takes optimizers, and this is a {kind}; a model goes to `model=`")
    return found


def _refuse_old_torch() -> None:
    """Asked of what is installed, for importing torch is the program's to do, once it has set its environment."""
    loaded = getattr(sys.modules.get("torch"), "__version__", None)
    try:
        installed = str(loaded) if loaded is not None else importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return  # built by hand, or missing, which the import will say
    found = re.match(r"(\d+)\.(\d+)", installed)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigError(f"watching needs torch {oldest} or newer, and this is {installed}; `pip install -U torch`")


def _refuse_nonsense(on_finding: object, level: str, every: int | None, min_confidence: str) -> None:
    if not callable(on_finding) and on_finding not in WAYS:
        raise ConfigError(f"on_finding={on_finding!r} should be one of {', '.join(WAYS)}, or a callable")
    if level not in LEVELS:
        raise ConfigError(f"level={level!r} should be one of {', '.join(LEVELS)}")
    if every is not None and (not isinstance(every, int) or every < 1):
        raise ConfigError(f"every={every!r} should be a whole number of steps, at least 1")
    if min_confidence not in [str(level) for level in Confidence]:
        raise ConfigError(f"min_confidence={min_confidence!r} should be low, medium or high")
