"""The same findings, to the byte, in each run; many more runs with `python -m tests.fuzz.order`."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.source.edit import diff
from gradcheck_lint.source.lint import collect
from gradcheck_lint.source.mend import mend
from tests.fuzz import odd, order


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    written = order.written()
    return order.write(tmp_path, [*written[:1], *written[1::15], *order.programs(16, seed=0)[-16:]])


def test_luck_has_no_hand_in_findings(names: list[str]) -> None:
    assert order.told(names)["json"].count('"code"') > 20
    assert not list(order.differences(names, runs=3, seed=1, jobs=(1, 2)))


def test_nor_has_the_hash_seed(names: list[str], tmp_path: Path) -> None:
    assert len(set(order.digests(tmp_path, ["0", "1"]).values())) == 1


def test_an_unsafe_fix_deletes_the_same_place_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batch = collect(order.write(tmp_path, [order.TWO_PLACES]), odd.SETTINGS)
    rng = order.random.Random(2)
    plans = set()
    for _ in range(20):
        lying = order.elsewhere(rng)
        plans.add(diff(mend(batch, odd.rules(), odd.SETTINGS, unsafe=True, jobs=1).plan))
        del lying
    [plan] = plans
    assert "-    optimizer.zero_grad()" in plan
