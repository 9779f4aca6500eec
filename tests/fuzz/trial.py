"""One program on trial: linted, mended with the safe fixes, and run before and after, to be compared to the bit.

A program runs in a process of its own that is forked from this one, where torch is already there; on systems without
`fork` in a new one. What it leaves behind is its output and the weights of the models that it names.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pickle
import random
import runpy
import signal
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck_lint.config import Settings
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import Batch, Rules, check, rules_of
from gradcheck_lint.source.mend import mend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gradcheck_lint.finding import Finding

HOME = Path(__file__).parents[2]
SECONDS = 20  # how long a program may run; a sound one needs a hundredth of one


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program leaves behind."""

    error: str  # what it raised, empty if nothing
    printed: str
    weights: str  # of every module among its names, written exactly


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one trial."""

    found: tuple[Finding, ...]  # before mending
    left: tuple[Finding, ...]  # after it
    fixed: int
    before: Outcome | None = None  # None: not run, because nothing was mended
    after: Outcome | None = None
    problems: tuple[str, ...] = ()
    mended: Mapping[str, str] = field(default_factory=dict)  # the files that the fixes changed

    @property
    def harmed(self) -> bool:
        """Whether mending changed what the program does."""
        return self.fixed > 0 and self.before != self.after


def put(files: Mapping[str, str], folder: Path) -> None:
    """Write a program into a folder."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def run(files: Mapping[str, str], main: str = "train.py") -> Outcome:
    """Run a program, and tell what it leaves behind."""
    with tempfile.TemporaryDirectory() as folder:
        put(files, Path(folder))
        return run_in(folder, main)


def run_in(folder: str, main: str = "train.py") -> Outcome:
    """Run the program in `folder`."""
    told = _elsewhere("tell_folder", (folder, main))
    return told if isinstance(told, Outcome) else Outcome(told, "", "")


def run_many(texts: Sequence[str]) -> list[Outcome]:
    """Run many programs of one file in one process, one after the other: none may change what torch does."""
    told = _elsewhere("tell_texts", list(texts))
    return told if isinstance(told, list) else [run({"train.py": text}) for text in texts]


def _elsewhere(work: str, given: object) -> Any:
    """What the function of this module called `work` makes of `given` in another process, or how that ended."""
    if not hasattr(os, "fork"):
        return _in_new_process(work, given)
    prepare()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            signal.alarm(SECONDS * (len(given) if isinstance(given, list) else 1))
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(globals()[work](given), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(data) if data else f"the process ended with status {status}"


def _in_new_process(work: str, given: object) -> Any:
    code = (
        "import pickle, sys; from tests.fuzz import trial; given = pickle.load(sys.stdin.buffer);"
        f" pickle.dump(trial.{work}(given), sys.stdout.buffer)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=HOME, capture_output=True, input=pickle.dumps(given))
    return pickle.loads(done.stdout) if done.stdout else f"the process ended with status {done.returncode}"


def tell_folder(given: tuple[str, str]) -> Outcome:
    """Run the program in a folder, in this process."""
    folder, main = given
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    return _outcome(lambda: runpy.run_path(os.path.join(folder, main), run_name="__main__"), folder)


def tell_texts(texts: Sequence[str]) -> list[Outcome]:
    """Run programs in this process."""
    outcomes = []
    for text in texts:
        space: dict[str, Any] = {"__name__": "__main__"}
        outcomes.append(_outcome(partial(_executed, text, space), ""))
        space.clear()
    return outcomes


def _executed(text: str, space: dict[str, Any]) -> dict[str, Any]:
    exec(compile(text, "train.py", "exec"), space)
    return space


@cache
def prepare() -> None:
    """Import once what many programs import, so that a forked process has it."""
    for (
        name
    ) in "asyncio concurrent.futures dataclasses json logging queue sched unittest.mock torch.utils.data".split():
        importlib.import_module(name)

    import torch

    torch.set_num_threads(1)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)  # imports a good part of torch when it is first built
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    optimizer.zero_grad()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)  # no backward: a process whose autograd has threads cannot be forked
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _outcome(work: Callable[[], Mapping[str, object]], folder: str) -> Outcome:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    error, names, out = "", dict[str, object](), io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            names = dict(work())
        except (Exception, SystemExit) as raised:
            error = f"{type(raised).__name__}: {raised}"
    told = Outcome(error, out.getvalue(), _weights(names))
    return (
        told if not folder else replace(told, error=error.replace(folder, ""), printed=told.printed.replace(folder, ""))
    )


def _weights(names: Mapping[str, object]) -> str:
    """The numbers of all modules among these names, each once, whatever it is called."""
    import torch

    modules = {id(value): value for _, value in sorted(names.items()) if isinstance(value, torch.nn.Module)}
    return "\n".join(_exact(entry) for module in modules.values() for entry in module.state_dict().values())


def _exact(value: object) -> str:
    import torch

    return repr(value.detach().tolist()) if isinstance(value, torch.Tensor) else repr(value)  # the shortest exact text


@cache
def usual() -> Rules:
    """The rules that a user without settings has."""
    return rules_of(settings(Path(), Confidence.HIGH))


def settings(root: Path, least: Confidence) -> Settings:
    return Settings(root=root, cache=False, min_confidence=least)


def try_out(
    files: Mapping[str, str],
    *,
    listed: Sequence[str] = (),
    unsafe: bool = False,
    least: Confidence = Confidence.HIGH,
    always_run: bool = False,
    rules: Rules | None = None,
    main: str = "train.py",
) -> Verdict:
    """Lint a program, mend it, and if that changed something run it before and after.

    `listed` are the files that gradlint is given, all if there are none; the others are found by their imports.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(os.path.realpath(folder))
        put(files, root)
        given = [SourceFile(name, root / name, files[name].encode()) for name in sorted(listed or files)]
        chosen = settings(root, least)
        batch = Batch(tuple(given))
        first = check(batch, rules or usual(), chosen, jobs=1)
        problems = [f"{p.path}: {p.message}" for p in first.problems]
        if not any(finding.fix for finding in first.findings):
            before = run_in(folder, main) if always_run else None
            return Verdict(first.findings, first.findings, 0, before, None, tuple(problems))
        mended = mend(batch, rules or usual(), chosen, unsafe=unsafe, jobs=1)
        problems += [f"{p.path}: {p.message}" for p in mended.result.problems]
        texts = {path: change.data.decode() for path, change in mended.plan.changes.items()}
        before = after = None
        if texts or always_run:
            before = run_in(folder, main)
        if texts:
            after = run({**files, **texts}, main)
        return Verdict(
            first.findings, mended.result.findings, mended.result.fixed, before, after, tuple(problems), texts
        )
