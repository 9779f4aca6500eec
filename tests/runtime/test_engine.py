"""What the rules find in a run is told once: the most certain of what is the same, and the cause alone."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as everybody calls it

from gradcheck_lint import registry, watch
from gradcheck_lint.config import Settings
from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.rule import Rule, RunReport
from gradcheck_lint.runtime.engine import Engine
from gradcheck_lint.runtime.record import Site, Watched
from gradcheck_lint.runtime.sighting import Scene, Sighting, kind

MEDIUM, HIGH = Confidence.MEDIUM, Confidence.HIGH
ALL = {rule.code: rule for rule in registry.load(packs=False)}


@kind
class Seen(Sighting):
    sure: Confidence = HIGH
    other: tuple[str, ...] = ()

    def others(self) -> tuple[str, ...]:
        return self.other


@kind
class OfCause(Seen):
    pass


@kind
class OfSymptom(Seen):
    pass


@kind
class OfBoth(Seen):
    pass


class Cause(Rule):
    code = "GL901"
    slug = "cause"
    watches = (OfCause, OfBoth)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, Seen)
        report("a cause", label="", why="", help="", confidence=sighting.sure)


class Symptom(Rule):
    code = "GL900"
    slug = "symptom"
    watches = (OfSymptom, OfBoth)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, Seen)
        report("a symptom", label="", why="", help="", confidence=sighting.sure)


FIRST, SECOND = Watched(0, "first", "SGD"), Watched(1, "second", "SGD")


KINDS = {"cause": OfCause, "symptom": OfSymptom, "both": OfBoth}


def sighting(what: str, step: int = 1, line: int = 7, about: Watched = FIRST, names: Any = (), **more: Any) -> Sighting:
    return KINDS[what](Scene(step, Site("train.py", line), about), names=tuple(names), **more)


class Run:
    """An engine, and what it has told at once."""

    def __init__(self, what: str = "", least: Confidence = HIGH) -> None:
        rule = Symptom()
        if what:
            rule.yields_to = frozenset({("GL901", what)})  # type: ignore[misc, arg-type]
        self.told: list[str] = []
        self.engine = Engine([rule, Cause()], least, lambda finding: self.told.append(finding.code))

    def take(self, *sightings: Sighting) -> list[str]:
        """The codes that are in the record after these."""
        for one in sightings:
            self.engine.take(one)
        return sorted(finding.code for finding in self.engine.findings)


# The most certain


@pytest.mark.parametrize("order", [(MEDIUM, HIGH), (HIGH, MEDIUM)])
def test_the_most_certain_is_kept_and_told_once(order: tuple[Confidence, ...]) -> None:
    run = Run(least=MEDIUM)
    run.take(*(sighting("cause", step, sure=sure) for step, sure in enumerate(order, 1)))
    assert [finding.confidence for finding in run.engine.findings] == [HIGH]
    assert run.told == ["GL901"]


def test_what_was_too_uncertain_to_be_told_is_told_when_it_is_certain() -> None:
    run = Run(least=HIGH)
    assert run.take(sighting("cause", 1, sure=MEDIUM)) == []
    assert run.take(sighting("cause", 2)) == ["GL901"]
    assert run.engine.findings[0].step == 2
    assert run.told == ["GL901"]


# The cause


@pytest.mark.parametrize("order", [("cause", "symptom"), ("symptom", "cause")])
def test_the_cause_says_what_else_it_explains(order: tuple[str, ...]) -> None:
    """Once, however often the symptom shows."""
    run = Run("optimizer")
    assert run.take(*(sighting(what) for what in order), sighting("symptom", 2, 9)) == ["GL901"]
    assert run.engine.findings[0].note == "it explains GL900 too: a symptom"


def test_what_is_about_another_is_no_consequence() -> None:
    run = Run("optimizer")
    assert run.take(sighting("cause"), sighting("symptom", about=SECOND)) == ["GL900", "GL901"]
    assert not any(finding.note for finding in run.engine.findings)


@pytest.mark.parametrize("what", ["optimizer", "step", "line", "names"])
def test_symptom_is_withheld_beside_its_cause(what: str) -> None:
    run = Run(what)
    assert run.take(sighting("cause"), sighting("symptom"), sighting("symptom")) == ["GL901"]
    assert run.told == ["GL901"]


@pytest.mark.parametrize("what", ["optimizer", "step", "line", "names"])
def test_symptom_goes_when_the_cause_comes_later(what: str) -> None:
    run = Run(what)
    assert run.take(sighting("symptom")) == ["GL900"]
    assert run.take(sighting("cause")) == ["GL901"]
    assert run.told == ["GL900", "GL901"]


def test_cause_comes_first_where_both_are_seen_at_once() -> None:
    run = Run("step")
    assert run.take(sighting("both")) == ["GL901"]
    assert run.told == ["GL901"]


def test_without_a_word_both_are_told() -> None:
    assert Run().take(sighting("symptom"), sighting("cause")) == ["GL900", "GL901"]


@pytest.mark.parametrize(
    ("what", "cause", "symptom"),
    [
        ("optimizer", {}, {"about": SECOND}),
        ("step", {"step": 1}, {"step": 2}),
        ("line", {"line": 7}, {"line": 8}),
        ("line", {"line": 7}, {"line": 7, "about": SECOND}),
        ("names", {"names": ["a"]}, {"names": ["a", "b"]}),
        ("optimizer", {"sure": MEDIUM}, {}),
    ],
)
def test_two_mistakes_are_told_as_two(what: str, cause: dict[str, Any], symptom: dict[str, Any]) -> None:
    for one, other in (("cause", "symptom"), ("symptom", "cause")):
        run, given = Run(what, MEDIUM), {"cause": cause, "symptom": symptom}
        assert run.take(sighting(one, **given[one]), sighting(other, **given[other])) == ["GL900", "GL901"]
        assert run.told == [{"cause": "GL901", "symptom": "GL900"}[kind] for kind in (one, other)]


def test_cause_names_another_optimizer() -> None:
    run = Run("optimizer")
    assert run.take(sighting("symptom"), sighting("cause", about=SECOND, other=("first",))) == ["GL901"]
    run = Run("optimizer")
    assert run.take(sighting("symptom"), sighting("cause", about=SECOND, other=("third",))) == ["GL900", "GL901"]
    run = Run("optimizer")
    assert run.take(sighting("symptom", other=("second",)), sighting("cause", about=SECOND)) == ["GL900", "GL901"]


def test_rules_yield_to_rules_that_there_are() -> None:
    pairs = [(rule.code, code) for rule in ALL.values() for code, _ in rule.yields_to]
    assert pairs
    for code, other in pairs:
        assert code != other
        assert "run" in ALL[code].witnesses
        assert "run" in ALL[other].witnesses
        assert (other, code) not in pairs


# Rules that are off in some files


@pytest.mark.parametrize(
    ("pattern", "words", "codes"),
    [
        ("tests/**", ("GL101",), []),
        ("*.py", ("GL1",), []),
        ("!tests/**", ("GL101",), ["GL101"]),
        ("tests/**", ("GL102",), ["GL101"]),
        ("other/**", ("ALL",), ["GL101"]),
    ],
)
def test_per_file_ignores(pattern: str, words: tuple[str, ...], codes: list[str]) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    settings = Settings(per_file_ignores=((pattern, words),), root=Path(__file__).parents[2])
    told: list[str] = []
    running = watch(optimizer, on_finding=lambda finding: told.append(finding.code), quiet=True).ready(settings)
    with running:
        rounds(model, optimizer, 3)
    assert [finding.code for finding in running.findings] == told == codes


# Programs with two mistakes


def found(program: Callable[[], object], *, expect_frozen: tuple[str, ...] = ()) -> dict[str, Finding]:
    torch.manual_seed(0)
    with watch(on_finding="ignore", quiet=True, expect_frozen=expect_frozen) as run:
        program()
    assert run.record.problems == []
    return {finding.code: finding for finding in run.findings}


def rounds(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        model(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()


def never_and_then_seldom_cleared() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rounds(model, optimizer, 3)
    for _ in range(2):
        optimizer.zero_grad()
        for _ in range(3):
            F.mse_loss(model(torch.randn(8, 3)), torch.zeros(8, 1)).backward()
            optimizer.step()


def leaking_both_ways() -> None:
    maker, judge = nn.Linear(2, 3), nn.Linear(3, 1)
    maker_optimizer = torch.optim.SGD(maker.parameters(), lr=0.01)
    judge_optimizer = torch.optim.SGD(judge.parameters(), lr=0.01)
    for _ in range(4):
        made = maker(torch.randn(8, 2))
        (judge(made).mean() - judge(torch.randn(8, 3)).mean()).backward()
        judge_optimizer.step()
        judge_optimizer.zero_grad()
        (-judge(maker(torch.randn(8, 2))).mean()).backward()
        maker_optimizer.step()
        maker_optimizer.zero_grad()


def skipped_and_later_not_finite() -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(10):
        x = torch.randn(8, 3)
        if step in (2, 6):
            x[0] = torch.nan
        F.mse_loss(model(x), torch.zeros(8, 1)).backward()
        if step == 2:
            continue
        optimizer.step()
        optimizer.zero_grad()
        if step == 3:
            nn.init.ones_(model.weight)
            nn.init.ones_(model.bias)


@pytest.mark.parametrize(
    ("program", "codes"),
    [
        (never_and_then_seldom_cleared, {"GL101", "GL102"}),
        (skipped_and_later_not_finite, {"GL119", "GL809"}),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_real_programs_with_two_mistakes(program: Callable[[], None], codes: set[str]) -> None:
    assert set(found(program)) == codes


def test_a_leak_and_its_return_are_told_once() -> None:
    assert set(found(leaking_both_ways)) == {"GL409"}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.body(x))
        return result


def trained(frozen: str, written: str) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if frozen:
        model.get_submodule(frozen).requires_grad_(False)
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()
        if written:
            with torch.no_grad():
                model.get_submodule(written).weight.mul_(0.9)  # type: ignore[operator, union-attr]


def test_a_freeze_that_was_not_made_is_told_once() -> None:
    assert set(found(lambda: trained("", ""), expect_frozen=("body",))) == {"GL212"}


def test_what_is_frozen_and_written_all_the_same_is_told() -> None:
    assert "GL508" in found(lambda: trained("body", "body"), expect_frozen=("body",))


@pytest.mark.parametrize("code", ["GL101", "GL102", "zero-grad-once-per-epoch"])
def test_a_comment_for_the_linter_silences_the_same_mistake_of_a_run(code: str, tmp_path: Path) -> None:
    """The linter says GL102, and a run that never comes to the end of an epoch can see no more than GL101."""
    program = tmp_path / "train.py"
    text = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def clear():
    for parameter in model.parameters():
        parameter.grad = None
for epoch in range(2):
    for batch in range(25):
        model(torch.ones(4, 2)).mean().backward(){comment}
        optimizer.step()
    clear()
"""
    for comment, expected in (("", ["GL101"]), (f"  # gradlint: ignore[{code}]", [])):
        source = text.replace("{comment}", comment)
        program.write_text(source, encoding="utf-8")
        linecache.clearcache()
        space: dict[str, object] = {"__name__": "__main__"}
        with watch(on_finding="ignore", quiet=True) as run:
            exec(compile(source, str(program), "exec"), space)
        assert [finding.code for finding in run.findings] == expected
