"""The shapes of `benchmarks/bombs.py` at small sizes: the work that is counted grows no faster than the file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gradcheck_lint.config import Settings
from gradcheck_lint.source.effort import meter
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import rules_of

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bombs.py"
SMALL, LARGE = 2_000, 8_000
FREE = 30_000  # units of work that are nothing to speak of
PER_CHARACTER = 120  # units: the steepest shape takes some 90 (functions that call others that are handed things)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bombs", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bombs"] = module
    spec.loader.exec_module(module)
    return module


BOMBS = load()
RULES = rules_of(Settings(root=Path("/nowhere"))).on


def work(name: str, size: int) -> tuple[int, int]:
    """The characters of a program of a shape, and the work that it takes to lint it."""
    source = BOMBS.sized(BOMBS.SHAPES[name], size)
    texts = {"main.py": source} if isinstance(source, str) else source
    files = [SourceFile(path, Path("/nowhere") / path, text.encode()) for path, text in texts.items()]
    before = meter.spent
    analyse(files, RULES)
    return sum(map(len, texts.values())), meter.spent - before


@pytest.mark.parametrize("name", sorted(BOMBS.SHAPES))
def test_work_grows_no_faster_than_the_file(name: str) -> None:
    small, less = work(name, SMALL)
    large, more = work(name, LARGE)
    assert more <= FREE or more <= PER_CHARACTER * large or more / max(less, 1) <= 1.6 * large / small
    assert more <= 3_000_000
