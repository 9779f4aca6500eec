"""Runs the examples of a page, for us and for the rule packs of other people.

    from gradcheck_lint.testing import check_page
    check_page(Page.read(path), rules=[MyRule()])

Prose that cannot fail rots: each example is linted and the findings compared with its markers (`check_lint`), and
each is executed against the real torch and its harm shown (`check_run`). Both raise ExampleError with one line per
thing that is not as the page says. Examples run in this process, because importing torch costs more than all of
them together; what a program can set for the whole process is put back afterwards.
"""

from __future__ import annotations

import ctypes
import gc
import io
import random
import sys
import threading
import traceback
import warnings
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck_lint.finding import Confidence, Safety

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.page import Example, Page
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.record import RunRecord
    from gradcheck_lint.source.file import SourceFile

SECONDS = 20.0  # how long an example may run; a sound one needs well under one
ROUNDS = 10  # how often fixing goes over an example before it has to have come to rest


class ExampleError(AssertionError):
    """An example does not do what its page says."""

    def __init__(self, page: Page, example: Example, message: str) -> None:
        super().__init__(f"{page.path}:{example.line}: {name(page, example)}: {message}")


def name(page: Page, example: Example) -> str:
    """What an example is called in reports: its kind and number, a quiet one by its reason for silence."""
    if example.kind == "quiet":
        return f"{page.code}-quiet: {example.intro.partition(':')[0].rstrip('.')}"
    return f"{page.code}-{example.kind}-{example.number}"


def check_page(page: Page, rules: Sequence[Rule], *, run: bool = True) -> None:
    """Check every example of the page, and tell everything that is wrong at once; `run=False` only lints."""
    failures: list[str] = []
    for example in page.examples:
        with _collected(failures):
            check_lint(page, example, rules)
        if run:
            with _collected(failures):
                check_run(page, example)
    if failures:
        raise AssertionError("\n".join(failures))


@contextmanager
def _collected(failures: list[str]) -> Iterator[None]:
    try:
        yield
    except ExampleError as failure:
        failures.append(str(failure))


# Linting


def check_lint(page: Page, example: Example, rules: Sequence[Rule]) -> None:
    """Lint the example with `rules`, and compare what is found with what the page says."""
    if example.kind == "harm":  # goes on from the example before it and is no program of its own
        return
    found = lint(example.code, rules)
    if example.kind == "wrong" and ("source" not in page.found_by or example.unread):
        return  # only a run shows this mistake
    if example.kind != "wrong":
        doubted = [f for f in found if f.code == page.code and f.confidence is Confidence.MEDIUM]
        loud = [finding for finding in found if finding.confidence is Confidence.HIGH]
        if not example.medium:
            loud += doubted
        elif not doubted:
            raise ExampleError(page, example, "should be found with medium confidence, and is not")
        if loud:
            raise ExampleError(page, example, f"is correct, but was found: {_told(loud)}")
        return
    own = _own(page, example, found)
    if sorted(finding.span.line for finding in own) != list(example.expected):
        raise ExampleError(page, example, f"marks lines {list(example.expected)}, but was found: {_told(own)}")
    if example.medium and any(finding.confidence is not Confidence.MEDIUM for finding in own):
        raise ExampleError(page, example, f"should be found with medium confidence: {_told(own)}")
    for finding in own:
        if finding.fix and page.fix in (None, Safety.UNSAFE) and finding.fix.safety is not page.fix:
            promise = page.fix or "none"
            raise ExampleError(page, example, f"was given a {finding.fix.safety} fix, but the page says {promise}")
    fixed = page.fixed(example)
    if fixed:
        mended = _mended(page, example, rules)
        if mended == example.code:
            raise ExampleError(page, fixed, f"is not what happens: no fix was offered for {name(page, example)}")
        if mended != fixed.code:
            raise ExampleError(page, fixed, f"is not what the fix makes of {name(page, example)}, which is:\n{mended}")


def _own(page: Page, example: Example, found: Sequence[Finding]) -> list[Finding]:
    """Those of the findings that the page speaks of."""
    least = Confidence.MEDIUM if example.medium else Confidence.HIGH
    return [finding for finding in found if finding.code == page.code and finding.confidence >= least]


def _mended(page: Page, example: Example, rules: Sequence[Rule]) -> str:
    """The example after the fixes of this page's rule, as `--fix` applies them: round after round."""
    from gradcheck_lint.source.edit import plan
    from gradcheck_lint.source.file import decode

    code = example.code
    for _ in range(ROUNDS):
        file = _file(code)
        own = _own(page, example, lint(code, rules))
        changes = plan(own, {file.path: file}, unsafe=page.fix is Safety.UNSAFE).changes
        if not changes:
            break
        code = decode(changes[file.path].data)
    return code


def lint(code: str, rules: Sequence[Rule]) -> list[Finding]:
    """What is found in a program, by confidence and place."""
    from gradcheck_lint.source.lint import examine

    return examine([_file(code)], rules)


def _file(code: str) -> SourceFile:
    from gradcheck_lint.source.file import SourceFile

    # In a folder that does not exist: an example is a whole project, and imports nothing from beside it.
    return SourceFile("example.py", Path(__file__).parent / "nowhere" / "example.py", code.encode())


def _told(findings: Sequence[Finding]) -> str:
    told = [f"{f.code} ({f.confidence}) on line {f.span.line}: {f.message}" for f in findings]
    return "; ".join(told) or "nothing"


# Running


def check_run(page: Page, example: Example) -> None:
    """Execute the example, and after a wrong one each of its harms; a harm must not hold for the right twin."""
    if example.norun or example.kind == "harm":
        return
    _execute(page, example)
    for harm in page.harms(example) if example.kind == "wrong" else ():
        if harm.norun:
            continue
        if _execute(page, example, harm):
            raise ExampleError(page, harm, "does not hold after its wrong example")
        twin = page.twin(example)
        if twin is None or twin.norun:
            raise ExampleError(page, harm, "has no right twin that could be executed")
        if not _execute(page, twin, harm):
            raise ExampleError(page, harm, f"holds after {name(page, twin)} as well, and so shows no harm")


def check_watch(page: Page, example: Example, rules: Sequence[Rule]) -> None:
    """Execute the example under the watcher, and compare what it finds with what the page says.

    A wrong one has to be caught if the page's mistake is found by a run: with the page's code, and where only a run
    finds it on the marked lines. One marked `unwatched` shows the mistake in code that is not run, or not for long
    enough. One mistake is told once: a wrong example has findings of one code. In correct code nothing may be found.
    """
    if example.norun or example.kind == "harm":
        return
    run = watched(page, example, rules)
    if run.problems:
        raise ExampleError(page, example, f"the watcher broke: {'; '.join(run.problems)}")
    if example.kind != "wrong":
        if run.findings:
            raise ExampleError(page, example, f"is correct, but the watcher found: {_told(run.findings)}")
        return
    own = [finding for finding in run.findings if finding.code == page.code]
    if len({finding.code for finding in run.findings if finding.confidence is Confidence.HIGH}) > 1:
        raise ExampleError(page, example, f"is one mistake, but is told as several: {_told(run.findings)}")
    if "run" not in page.found_by or example.unwatched:
        return
    if not own:
        raise ExampleError(page, example, f"is not caught by the watcher, which found: {_told(run.findings)}")
    lines = sorted({finding.span.line - example.line for finding in own})
    if "source" not in page.found_by and lines != sorted(set(example.expected)):
        raise ExampleError(
            page, example, f"marks lines {list(example.expected)}, but was found: {_told(own)} ({lines})"
        )


def watched(page: Page, example: Example, rules: Sequence[Rule]) -> RunRecord:
    """The record of the example's run under the watcher."""
    from gradcheck_lint.runtime.record import ending
    from gradcheck_lint.runtime.session import Options, Session

    with _alone(), _world() as space:
        least = Confidence.MEDIUM if example.medium and example.kind == "wrong" else Confidence.HIGH
        level = "deep" if example.deep else "default"
        session = Session(rules, Options(level=level, everything=True, least=least), lambda finding: None)
        session.start()
        raised: BaseException | None = None
        try:
            raised = _exec(page, example, space)
        finally:
            session.stop(ending(raised))
        if (type(raised).__name__ if raised else None) != example.raises:
            raise ExampleError(
                page, example, f"behaves differently under the watcher: {_last_line(raised)}"
            ) from raised
    return session.record


@contextmanager
def _alone() -> Iterator[None]:
    """Objects that are there already are not found by who looks through all objects, as some checks of a run do."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _execute(page: Page, example: Example, harm: Example | None = None) -> bool:
    """Execute the example and then the assertions of `harm`; whether one of those failed.

    Anything else that goes wrong, in the example or in the harm, is a ExampleError.
    """
    with _world() as space:
        raised = _exec(page, example, space)
        if (type(raised).__name__ if raised else None) != example.raises:
            wanted = f"should raise {example.raises}" if example.raises else "should run through"
            raise ExampleError(page, example, f"{wanted}, but {_last_line(raised)}") from raised
        if harm is None:
            return False
        raised = _exec(page, harm, space)
    if raised is None or isinstance(raised, AssertionError):
        return raised is not None
    raise ExampleError(
        page, harm, f"should only assert, but after {name(page, example)} {_last_line(raised)}"
    ) from raised


class _Overtime(BaseException):
    """An example ran for too long. Not an Exception, so that no program catches it by accident."""


def _exec(page: Page, example: Example, space: dict[str, Any]) -> BaseException | None:
    """Run the code in the namespace `space`; what it raised."""
    lines = "\n" * example.line + example.code  # so that a traceback shows the lines of the page
    try:
        code = compile(lines, page.path, "exec", dont_inherit=True)
        with _limit(SECONDS):
            exec(code, space)
    except _Overtime:
        raise ExampleError(page, example, f"still ran after {SECONDS:g} s") from None
    except (Exception, SystemExit) as error:
        return error
    return None


def _last_line(error: BaseException | None) -> str:
    if error is None:
        return "raised nothing"
    return f"raised {traceback.format_exception_only(error)[-1].strip()}"


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise _Overtime in this thread when the time is over; works on every system and in every thread."""
    thread = ctypes.c_ulong(threading.get_ident())
    raise_there = ctypes.pythonapi.PyThreadState_SetAsyncExc
    timer = threading.Timer(seconds, raise_there, (thread, ctypes.py_object(_Overtime)))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _world() -> Iterator[dict[str, Any]]:
    """A place to run a program in, and its names: seeded, one thread, its output and warnings kept from ours.

    Everything that an example may set for the whole process is as it was before when this ends. Its names are cleared:
    a hook on a tensor that reaches the tensor by them would keep all of it for good.
    """
    import torch

    numpy = sys.modules.get("numpy")
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        for setting, value in _settings():
            stack.callback(setting, value)
        stack.callback(random.setstate, random.getstate())
        if numpy is not None:
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        random.seed(0)
        torch.set_num_threads(1)
        space: dict[str, Any] = {"__name__": "__main__"}
        stack.callback(space.clear)
        stack.callback(_keep_wrappers, space)  # before the names are cleared
        yield space


def _keep_wrappers(space: dict[str, Any]) -> None:
    """Let nothing that ranks share be taken down here: it stays until the process ends.

    A DistributedDataParallel that is the last to let go of its process group has torch wait for a thread of the group
    while it holds the lock that this thread may want: now and then for ever. The module itself may go, and must: checks
    that look at all modules of a process would take it for one of the next program's.
    """
    if "torch.distributed" not in sys.modules:
        return
    from torch.nn.parallel import DistributedDataParallel

    for value in space.values():
        if isinstance(value, DistributedDataParallel):
            for part in (value.process_group, value.reducer, value.logger):
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(part))


def _settings() -> list[tuple[Callable[[Any], object], Any]]:
    """How each process-wide setting of torch is put back, and what it is now."""
    import torch

    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    return [
        (torch.set_default_dtype, torch.get_default_dtype()),
        (torch.set_grad_enabled, torch.is_grad_enabled()),
        (torch.set_num_threads, torch.get_num_threads()),
        (torch.autograd.set_detect_anomaly, torch.is_anomaly_enabled()),
        (lambda on: torch.use_deterministic_algorithms(on, warn_only=warn_only), deterministic),
    ]
