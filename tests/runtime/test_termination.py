"""SIGTERM: the report is written, and the program dies of it as it would; its own handlers are left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUN = ["-m", "gradcheck_lint", "run", "-o", "run.json"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}

pytestmark = pytest.mark.skipif(os.name != "posix", reason="SIGTERM is not sent elsewhere")


def terminated(folder: Path, program: str, *words: str) -> tuple[int, str, str]:
    """The status, and what was printed, of a program that gets SIGTERM when it has printed its first line."""
    (folder / "train.py").write_text(textwrap.dedent(program), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, *words, "train.py"],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, errors = process.communicate(timeout=120)
    return process.returncode, first + rest, errors


def ended(folder: Path) -> object:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["ended"]


WAITS = """\
    import time
    print("ready", flush=True)
    while True:
        time.sleep(0.01)
"""
CATCHES = """\
    import signal, sys, time
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    print(before is signal.SIG_DFL, signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
    while True:
        time.sleep(0.01)
"""
IGNORES = """\
    import signal, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(0.5)
    print("done")
"""
ASKS_AND_FORKS = """\
    import os, signal, time
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    child = os.fork()
    if not child:
        while True:
            time.sleep(0.01)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), os.path.exists("run.json"), flush=True)
    while True:
        time.sleep(0.01)
"""


@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        (WAITS, -signal.SIGTERM, "ended by SIGTERM"),
        (CATCHES, 3, "ended by exit(3)"),
        (IGNORES, 0, "ended"),
        (ASKS_AND_FORKS, -signal.SIGTERM, "ended by SIGTERM"),
    ],
    ids=["no handler", "its own handler", "ignored", "asks and forks"],
)
def test_a_program_ends_as_it_would_and_the_report_is_written(
    program: str, status: int, said: str, tmp_path: Path
) -> None:
    theirs, ours = terminated(tmp_path, program), terminated(tmp_path, program, *RUN)
    assert ours[0] == theirs[0] == status
    assert ours[1] == theirs[1]
    assert ended(tmp_path) == said


def test_a_watch_tells_what_it_has_seen(tmp_path: Path) -> None:
    program = """\
        import time, torch
        from gradcheck_lint import watch
        w = torch.ones(2, requires_grad=True)
        optimizer = torch.optim.SGD([w], lr=0.1)
        with watch(optimizer):
            for _ in range(3):
                w.square().sum().backward()
                optimizer.step()
            print("ready", flush=True)
            while True:
                time.sleep(0.01)
    """
    status, _, errors = terminated(tmp_path, program)
    assert status == -signal.SIGTERM
    assert "GL101" in errors.split("gradlint", 1)[-1]
    assert "it was ended by SIGTERM" in errors


def test_what_is_put_in_is_taken_out() -> None:
    from gradcheck_lint import watch

    functions = signal.signal, signal.getsignal
    with watch(quiet=True), watch(quiet=True):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert functions != (signal.signal, signal.getsignal)
    assert functions == (signal.signal, signal.getsignal)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_programs_stays() -> None:
    from gradcheck_lint import watch

    def own(*_: object) -> None: ...

    with watch(quiet=True):
        assert signal.signal(signal.SIGTERM, own) is signal.SIG_DFL
    assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is own
