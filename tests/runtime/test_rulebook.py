"""Which rules a run loads, and when."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.config import Selection, Settings
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.engine import Engine
from gradcheck_lint.runtime.rulebook import Rulebook
from gradcheck_lint.runtime.sighting import Sighting

ROOT = Path(__file__).parents[2]
RULES = registry.load(packs=False)
KINDS = sorted({kind for rule in RULES for kind in rule.watches}, key=lambda kind: kind.__name__)

BEGIN = """
import sys
import torch
from torch import nn
from gradcheck_lint import watch

def loaded():
    return sorted(name for name in sys.modules if name.startswith("gradcheck_lint.rules."))

def heavy():
    names = ("libcst", "gradcheck_lint.registry", "gradcheck_lint.source.events")
    return [name for name in names if name in sys.modules]

model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
ROUNDS = """
with watch(optimizer, quiet=True, on_finding="ignore") as run:
    for _ in range(25):
        {first}
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        {last}
print(loaded(), heavy(), [finding.code for finding in run.findings])
"""


def output(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, text=True, cwd=ROOT, check=True, timeout=120
    )
    return done.stdout.strip()


def test_no_more_rules_are_loaded_than_are_wanted() -> None:
    """Three runs in one process: without a sighting, with one that nobody minds, and with a finding."""
    clear, twice = "optimizer.zero_grad()", "model(torch.ones(2, 3)).sum().backward()"
    runs = [
        ROUNDS.format(first=clear, last=""),
        ROUNDS.format(first=clear, last=twice),
        ROUNDS.format(first="", last=""),
    ]
    nothing, some, every = output("".join(runs)).splitlines()
    assert nothing == "[] [] []"
    assert 0 < some.partition("]")[0].count("rules.") < 10
    assert every.endswith("['GL101']")
    assert every.count("rules.") >= len(list((ROOT / "rules").glob("*.py")))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_those_that_want_a_sighting_are_the_same_as_if_all_were_loaded(kind: type[Sighting]) -> None:
    wanted = [rule.code for rule in RULES if issubclass(kind, rule.watches)]
    assert [rule.code for rule in Rulebook().watching(kind)] == wanted


def test_all_of_them_and_those_that_were_there_before() -> None:
    book = Rulebook()
    some = book.watching(KINDS[0])
    assert [rule.code for rule in book] == [rule.code for rule in registry.select(RULES, Settings())]
    assert all(any(rule is one for one in book) for rule in some)


def test_words_that_name_no_rule_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="unknown rule"):
        Rulebook(Settings(selections=(Selection(select=("GL9999",)),)))


def _break_a_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    load = registry.load

    def broken(folders: object = (), *, packs: bool = True) -> list[Rule]:
        if packs:
            raise registry.RegistryError("the pack is broken")
        return load(packs=False)

    monkeypatch.setattr(registry, "load", broken)


def test_a_pack_that_cannot_be_loaded_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_a_pack(monkeypatch)
    book = Rulebook()
    assert len(book) > 50
    assert book.problem == "the pack is broken"


def test_a_run_that_finds_nothing_tells_of_the_pack_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    _break_a_pack(monkeypatch)
    monkeypatch.setattr(registry, "may_have_packs", lambda: True)
    engine = Engine(Rulebook(), Confidence.HIGH, lambda finding: None)
    for kind in KINDS[:2]:
        assert engine.wants(kind)
    assert engine.problems == ["the pack is broken"]
