"""Two ranks with gloo: what differs between them is found and named by rank 0, and correct programs are left in peace.

The programs are those of `tests/silent_errors/ranks` and of the page of GL807, all run by one pair of processes.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from gradcheck_lint import registry
from gradcheck_lint.page import Page
from gradcheck_lint.runtime.checks.ranks.divergence import Kept, RankReport, Sample, compare
from gradcheck_lint.runtime.checks.ranks.ranks import Ranks
from gradcheck_lint.runtime.session import Options, Session
from gradcheck_lint.testing import name

ROOT = Path(__file__).resolve().parents[4]
PROGRAMS = sorted((ROOT / "tests" / "silent_errors" / "ranks").glob("*.py"))
PAGE = Page.read(registry.home() / "ranks_diverged.md")
EXAMPLES = {re.sub(r"\W+", "_", name(PAGE, example)): example for example in PAGE.examples}

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What rank 0 has of each program, by its stem."""
    folder = tmp_path_factory.mktemp("ranks")
    files = list(PROGRAMS)
    for stem, example in EXAMPLES.items():
        files.append(folder / f"{stem}.py")
        files[-1].write_text(example.code, encoding="utf-8")
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    results = folder / "results.json"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",  # asked for by torch 2.4
        "WORLD_SIZE": "2",
    }
    worker = [sys.executable, str(Path(__file__).with_name("ranks_worker.py")), str(results), *map(str, files)]
    ranks = [
        subprocess.Popen(worker, env={**environment, "RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in (1, 0)
    ]
    try:
        errors = [rank.communicate(timeout=120)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(errors)
    return {Path(path).stem: run for path, run in json.loads(results.read_text(encoding="utf-8")).items()}


def marks(code: str) -> list[tuple[str, int]]:
    """The findings that the markers of a program promise."""
    lines = [line.partition("# <-")[2] for line in code.split("\n")]
    return [(code, number) for number, line in enumerate(lines, 1) for code in re.findall(r"GL\d+", line)]


def confident(run: dict[str, Any]) -> list[tuple[str, int]]:
    return [(code, line) for code, confidence, line, _ in run["findings"] if confidence == "high"]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_program(program: Path, found: dict[str, Any]) -> None:
    run = found[program.stem]
    assert (run["problems"], run["ended"]) == ([], "ended")
    wanted = marks(program.read_text(encoding="utf-8"))
    assert bool(wanted) is not program.stem.endswith("_right")
    assert confident(run) == wanted
    assert wanted or run["findings"] == []  # nothing of medium confidence either


@pytest.mark.parametrize("stem", EXAMPLES)
def test_example(stem: str, found: dict[str, Any]) -> None:
    run = found[stem]
    assert (run["problems"], run["ended"]) == ([], "ended")
    assert confident(run) == [("GL807", line) for line in EXAMPLES[stem].expected]


def test_every_rank_is_heard(found: dict[str, Any]) -> None:
    for run in found.values():
        assert (run["rank"], run["ranks"]) == (0, 2)
        assert run["stopping"] < 5


def kept(**changes: Any) -> Kept:
    values = {"names": ("w", "b"), "shapes": ((2,), (1,)), "replicated": (True, True), "steps": 2}
    return Kept(0, "SGD", "optimizer", **{**values, **changes})


def sample(step: int, gradients: tuple[float, ...] = (1.0, 2.0), parameters: tuple[float, ...] = (3.0, 4.0)) -> Sample:
    return Sample(step, (0.1,), gradients, parameters, 0, step)


def diverged(*optimizers: Kept, ended: str = "ended") -> list[str]:
    return [found.what for found in compare([RankReport(r, ended, [k]) for r, k in enumerate(optimizers)])]


def test_equal_ranks() -> None:
    assert diverged(kept(samples=[sample(1)]), kept(samples=[sample(1)])) == []


def test_rounding_is_no_difference() -> None:
    assert diverged(kept(samples=[sample(1)]), kept(samples=[sample(1, (1.000001, 2.0))])) == []


def test_a_weight_that_only_one_rank_writes() -> None:
    one = kept(samples=[sample(1), sample(2, parameters=(3.0, 5.0))])
    assert diverged(kept(samples=[sample(1), sample(2)]), one) == ["parameters"]


def test_not_a_number_on_all_ranks_is_no_difference() -> None:
    ranks = [kept(samples=[sample(1, (float("nan"), 2.0))]) for _ in range(2)]
    assert diverged(*ranks) == []


def test_other_parameters_on_each_rank_are_not_compared() -> None:
    assert diverged(kept(samples=[sample(1)]), kept(names=("w", "c"), samples=[sample(1, (5.0, 5.0))])) == []


def test_fewer_steps_of_a_run_that_failed_are_no_finding() -> None:
    assert diverged(kept(), kept(steps=1)) == ["steps"]
    assert diverged(kept(), kept(steps=1), ended="KeyboardInterrupt") == []


def test_the_odd_rank_is_named() -> None:
    ranks = [kept(samples=[sample(1)]) for _ in range(3)]
    ranks[0] = kept(samples=[sample(1, (9.0, 2.0))])
    (found,) = compare([RankReport(rank, "ended", [one]) for rank, one in enumerate(ranks)])
    assert (found.ranks, found.values, found.names) == ((0, 1), (9.0, 1.0), ("w",))


def test_a_rank_that_never_ends_is_not_waited_for() -> None:
    session = Session([], Options(), lambda finding: None)
    (ranks,) = (check for check in session.checks if isinstance(check, Ranks))
    session.record.ranks = 3
    ranks._store, ranks._key = dist.HashStore(), "gradlint/0"
    ranks._store.set("gradlint/0/here/1", "1")  # rank 2 is not watched
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)])
    observer = session.watch(optimizer)
    assert observer is not None
    begin = time.monotonic()
    assert ranks._gather(0.05) == []
    assert time.monotonic() - begin < 2
    session.snapshot()
    assert "rank 1 was still running 0.05 s after rank 0 and is not compared" in observer.watched.blind
    observer.detach()


def test_a_report_survives_its_way() -> None:
    report = RankReport(1, "ended", [kept(samples=[sample(1)])])
    arrived = RankReport.read(json.loads(json.dumps(report.plain())))
    assert arrived.plain() == report.plain()
    assert isinstance(arrived.optimizers[0].samples[0].gradients, tuple)
