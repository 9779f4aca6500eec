"""Triggers find what one regular expression of all of them would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.source.outline import Outline
from gradcheck_lint.source.project import CYCLE_WORDS
from gradcheck_lint.source.triggers import Triggers, alternatives

ROOT = Path(__file__).resolve().parents[2]
WORDS = [CYCLE_WORDS, *(rule.triggers for rule in registry.load(packs=False) if rule.triggers)]


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("a|b", ["a", "b"]),
        ("a(b|c)|d", ["a(b|c)", "d"]),
        (r"[|(]x|\|y|\(z", ["[|(]x", r"\|y", r"\(z"]),
        (r"[]|]|[^]|]|[\]|]", ["[]|]", "[^]|]", r"[\]|]"]),
        ("(?i)a|b", ["(?i)a|b"]),
        (r"(a)|(b)\2", [r"(a)|(b)\2"]),
        ("", [""]),
    ],
)
def test_alternatives(pattern: str, parts: list[str]) -> None:
    assert alternatives(pattern) == parts


@pytest.mark.parametrize("pattern", [r"^y", r"x$", r"\Ay", r"x\Z", r"\by", "[^x]y", "(?i)Y|z"])
@pytest.mark.parametrize("part", ["x", "y", "xy"])
def test_a_part_is_found_wherever_it_stands(pattern: str, part: str) -> None:
    expected = bool(re.search(pattern, part))
    triggers = Triggers([pattern])
    assert triggers.search(part) is expected
    assert triggers.within(f"a{part}a")(part) is expected


@pytest.mark.parametrize("words", WORDS)
def test_triggers_of_rules(words: str) -> None:
    one, ours = re.compile(words), Triggers([words])
    for path in [*(ROOT / "rules").glob("*.py"), *(ROOT / "examples").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        within = ours.within(text)
        for definition in Outline(text).definitions:
            assert within(definition.text) is (one.search(definition.text) is not None)
