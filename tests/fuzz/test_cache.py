"""A few of the random edits; `python -m tests.fuzz.cache` makes as many as are wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.source import memory
from gradcheck_lint.source.entry import parse
from tests.fuzz import cache


def test_a_warm_cache_says_what_a_cold_one_says(tmp_path: Path) -> None:
    assert list(cache.edits(40, 1, tmp_path)) == []


@pytest.mark.parametrize(("forgotten", "seeds"), [("asked", (5, 2, 1, 0)), ("others", (0, 9, 3, 1))])
def test_these_edits_would_show_it(
    forgotten: str, seeds: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the cache forgets one of the things that findings rest on, the same edits tell."""

    def careless(*args: object) -> object:
        findings, basis = parse(*args)  # type: ignore[arg-type]
        return findings, basis._replace(**{forgotten: ()})

    monkeypatch.setattr(memory, "parse", careless)
    shown = (next(cache.edits(60, seed, tmp_path / str(seed)), None) for seed in seeds)
    assert any(wrong is not None for wrong in shown)
