"""A few hundred random programs; thousands more with `python -m tests.fuzz.programs`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.finding import Finding
from tests.fuzz import programs
from tests.fuzz.programs import MISTAKES, Counts, Program, made, program, trials, try_many
from tests.fuzz.trial import run_many

SEEDS = range(360)


def test_random_programs_are_linted_and_mended_without_harm() -> None:
    counts = try_many(SEEDS)
    assert not counts.failures, "\n".join(f"{name}: {why}" for name, why in counts.failures)
    assert counts.seen["right"] > 120
    assert counts.fixes.total() > 30
    assert counts.seen["repaired"] > 10


def test_a_number_always_makes_the_same_program() -> None:
    assert [program(seed) for seed in range(40)] == [program(seed) for seed in range(40)]
    assert len({program(seed).text for seed in range(40)}) == 40


def test_right_programs_run() -> None:
    outcomes = run_many([made(seed, right=True).text for seed in range(60)])
    assert [outcome.error for outcome in outcomes] == [""] * 60
    assert len({outcome.weights for outcome in outcomes}) > 50


def test_all_mistakes_are_made() -> None:
    kinds = {made(seed, right=False).name.partition(" ")[2] for seed in range(300)}
    assert kinds >= set(MISTAKES)


WRONG = """\
import torch
model = torch.nn.Linear(2, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(4):
    model(torch.ones(1, 2)).sum().backward()
    opt.step()
"""


def test_a_finding_in_a_right_program_is_a_failure_and_so_is_what_it_becomes() -> None:
    counts = Counts()
    trials([Program(1, "1 said to be right", WRONG, WRONG, right=True)], counts)
    told = [why.partition(":")[0] for _, why in counts.failures]
    assert told == [
        "right, but found",
        "right, and changed by mending",
        "mended, but does not compute what the right program computes",
    ]


def test_a_fix_that_breaks_the_program_is_a_failure() -> None:
    one = Program(1, "1", WRONG)
    before, after = run_many([WRONG, "raise ValueError\n"])
    counts = Counts()
    programs._judge(one, [], [], [before, after, before], "raise ValueError\n", counts)
    programs._judge(one, [], [], [before, before, before], "def\n", counts)
    programs._judge(one, [], [_finding(WRONG)], [before, before, before], WRONG, counts)
    told = [why.partition(":")[0] for _, why in counts.failures]
    assert told == ["raises after mending", "does not parse after mending", "mending brings GL101"]


def _finding(text: str) -> Finding:
    from gradcheck_lint.finding import Confidence
    from gradcheck_lint.source.file import SourceFile
    from gradcheck_lint.source.lint import Batch, check
    from tests.fuzz.trial import settings, usual

    path = Path("nowhere")
    found = check(
        Batch((SourceFile("a.py", path / "a.py", text.encode()),)), usual(), settings(path, Confidence.HIGH), jobs=1
    )
    return found.findings[0]


@pytest.mark.parametrize("seed", range(0, 80, 8))
def test_mutated_examples_parse(seed: int) -> None:
    compile(program(seed).text, "made.py", "exec")
