"""Each shape of `threads.py` in two processes; the long run is a command of its own, which is told there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}


def test_threads_under_watch_neither_end_the_process_nor_change_a_bit() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.threads", "--one", str(number), "--every"],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for process in processes:
        out, errors = process.communicate(timeout=300)
        assert (process.returncode, out.strip()) == (0, ""), errors
