"""Which line gave a variable its value, read from the bytecode."""

from __future__ import annotations

import sys
from collections import deque
from types import SimpleNamespace

import pytest

from gradcheck_lint.runtime import sites, stores

FIRST = sys._getframe().f_lineno + 4


def program() -> dict[str, int | None]:
    total = 0
    losses: list[int] = []
    latest: deque[int] = deque()
    owner = SimpleNamespace(total=0)
    total += 1
    losses.append(max(total, 1))
    latest.append(1)
    owner.total = owner.total + 1
    other = [total]
    frame = sys._getframe()
    assert other

    def line(mark: sites.Mark | None) -> int | None:
        return mark.line - FIRST if mark is not None else None

    return {
        "stored": line(stores.stored(frame, "total")),
        "grown": line(stores.grown(frame, "total")),
        "appended": line(stores.grown(frame, "losses")),
        "attribute": line(stores.grown(frame, "owner.total")),
        "item": line(stores.grown(frame, "losses[0]")),
        "never": line(stores.grown(frame, "other")),
        "unknown": line(stores.stored(frame, "nothing")),
    }


def test_lines() -> None:
    assert program() == {
        "stored": 4,
        "grown": 4,
        "appended": 5,
        "attribute": 7,
        "item": 5,
        "never": None,
        "unknown": None,
    }


def test_the_last_return() -> None:
    def several(x: int) -> int:
        if x:
            return 1
        return 2

    mark = stores.returned(several.__code__)
    assert mark is not None
    assert mark.line == several.__code__.co_firstlineno + 3


def test_where_an_attribute_is_set() -> None:
    def forward(ctx: SimpleNamespace) -> None:
        ctx.shape = 1
        ctx.kept = 2

    mark = stores.set_on(forward.__code__, "kept")
    assert mark is not None
    assert mark.line == forward.__code__.co_firstlineno + 2


def owned(net: SimpleNamespace, flag: bool) -> None:
    net.requires_grad = flag
    net.body.requires_grad = flag
    net.body[0].requires_grad = flag
    net.body[flag].requires_grad = flag


def test_whose_attribute_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [owner for _, owner in stores.owners_of(owned.__code__, "requires_grad")] == [
        *("net", "net.body", "net.body[0]", "")
    ]
    # from Python 3.13 on one instruction loads what is assigned and what it is an attribute of
    both = SimpleNamespace(opname="LOAD_FAST_LOAD_FAST", argval=("flag", "net"), argrepr="flag, net", offset=0)
    store = SimpleNamespace(opname="STORE_ATTR", argval="requires_grad", offset=2)
    monkeypatch.setattr("dis.get_instructions", lambda code: [both, store])
    assert [owner for _, owner in stores.owners_of(owned.__code__, "requires_grad")] == ["net"]
