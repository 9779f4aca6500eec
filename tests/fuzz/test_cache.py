"""A few of the random edits; `python -m tests.fuzz.cache` makes as many as are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.source import memory
from gradcheck_lint.source.entry import parse
from tests.fuzz import cache


def test_a_warm_cache_says_what_a_cold_one_says(tmp_path: Path) -> None:
    assert list(cache.edits(60, 1, tmp_path)) == []


@pytest.mark.parametrize("forgotten", ["asked", "others"])
def test_these_edits_would_show_it(forgotten: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache forgets one of the things that findings rest on, the same edits tell."""

    def careless(*args: object) -> object:
        findings, basis = parse(*args)  # type: ignore[arg-type]
        return findings, basis._replace(**{forgotten: ()})

    monkeypatch.setattr(memory, "parse", careless)
    assert next(cache.edits(150, 1, tmp_path), None) is not None
