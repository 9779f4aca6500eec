"""Several processes: what dies costs what it was at, and nothing outlives the first one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from gradcheck_lint.result import Problem
from gradcheck_lint.source import engine, islands, outcome, workers
from gradcheck_lint.source.file import SourceFile

ROOT = Path(__file__).parent.parent.parent
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs signals")


def answer(work: outcome.Work, island: outcome.Island) -> outcome.Outcome:
    """Does what the name of a file says; there is one problem for each file that is done with."""
    name = island.files[0].path
    if name.startswith("kill"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("exit"):
        os._exit(9)
    if name.startswith("raise"):
        raise KeyError("given")
    return outcome.Outcome((), tuple(Problem(f.path, f"done by {os.getpid()}") for f in island.files), ())


def problems(names: Sequence[str], jobs: int = 2) -> dict[str, str]:
    groups = [outcome.Island(tuple(SourceFile(n, Path(n), b"") for n in name.split())) for name in names]
    work = outcome.Work((), engine.Finder([]))
    found, told = islands.run(work, groups, answer, jobs=jobs, progress=None, cache=None)
    assert found == []
    assert sorted(problem.path for problem in told) == sorted(" ".join(names).split())
    return {problem.path: problem.message for problem in told}


@POSIX
def test_a_process_that_dies_costs_the_island_that_it_was_at() -> None:
    names = [f"{word}{n}.py" for n in range(8) for word in ("good", "kill", "exit")]
    told = problems(names)
    for name in names:
        if name.startswith("good"):
            assert told[name].startswith("done by")
        elif name.startswith("kill"):
            assert told[name] == "the process that checked it was ended by SIGKILL, perhaps for want of memory"
        else:
            assert told[name] == "the process that checked it was ended with exit code 9"


@POSIX
def test_all_files_of_that_island_are_named() -> None:
    told = problems(["killa.py killb.py", "good.py"])
    assert told["killb.py"].endswith("perhaps for want of memory; it was at 2 files that import one another")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_island_that_breaks_costs_itself(jobs: int) -> None:
    told = problems(["raisea.py raiseb.py", "good.py", "other.py"], jobs)
    assert told["raisea.py"].startswith("KeyError: 'given' (test_workers.py:")
    assert told["raisea.py"] == told["raiseb.py"]
    assert told["good.py"].startswith("done by")


def test_where_no_process_can_be_started_there_is_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(folders: object) -> None:
        raise OSError

    monkeypatch.setattr(workers, "_Worker", refused)
    assert set(problems(["a.py", "b.py", "c.py"]).values()) == {f"done by {os.getpid()}"}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_however_processes_are_started(method: str, tmp_path: Path) -> None:
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("needs fork")
    for name in ("a.py", "b.py", "c.py"):
        (tmp_path / name).write_text("import torch\ntorch.optim.SGD([torch.ones(1)], lr=0.1).step\n", encoding="utf-8")
    script = f"""
        import multiprocessing
        from gradcheck_lint.cli import main
        if __name__ == "__main__":
            multiprocessing.set_start_method({method!r})
            main(["--isolated", "--no-cache", "-j", "2", "--output-format", "concise", "."])
    """
    (tmp_path / "start.txt").write_text(textwrap.dedent(script), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "start.txt"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stderr == ""
    assert [line.split(":")[0] for line in done.stdout.splitlines() if "GL" in line] == ["a.py", "b.py", "c.py"]


SLOW = """
    import os, sys, time
    from gradcheck_lint.source import engine
    def slow(work, island):
        with open(f"pid{os.getpid()}", "w"):
            pass
        time.sleep(100)
    engine.analyse_island = slow
    from gradcheck_lint.cli import main
    main(["--isolated", "--no-cache", "-j", "3", "."])
"""


@POSIX
@pytest.mark.parametrize("all_of_them", [False, True], ids=["one", "group"])
@pytest.mark.parametrize("signals", [["SIGINT"], ["SIGINT", "SIGINT"], ["SIGTERM"], ["SIGKILL"]], ids="-".join)
def test_what_is_interrupted_ends_at_once(signals: list[str], all_of_them: bool, tmp_path: Path) -> None:
    for name in ("a.py", "b.py", "c.py", "d.py"):
        (tmp_path / name).touch()
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # of a job in the background it would inherit to be deaf to SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while len(pids := [int(path.name[3:]) for path in tmp_path.glob("pid*")]) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        start = time.monotonic()
        for name in signals:
            (os.killpg if all_of_them else os.kill)(child.pid, getattr(signal, name))
            time.sleep(0.02)
        out, err = child.communicate(timeout=60)  # it waits for the workers too: they have the same pipes
        assert time.monotonic() - start < 3  # a moment, but for how busy the machine is
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert out.strip() == err.strip() == b""
    expected = {"SIGINT": [130, -2], "SIGTERM": [-15], "SIGKILL": [-9]}[signals[0]]
    assert child.returncode in (expected if len(signals) > 1 else expected[:1])
    assert not [pid for pid in pids if alive(pid)]


def alive(pid: int) -> bool:
    """Whether a process is there; one that has ended and that nobody has asked for is not."""
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()[:1] not in ("", "Z")
