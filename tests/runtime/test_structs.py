"""Classes of data that become dataclasses when the first of them is made."""

from __future__ import annotations

import dataclasses

import pytest

from gradcheck_lint.runtime.structs import frozen, struct


def test_fields_defaults_and_identity() -> None:
    @struct
    class Line:
        number: int
        seen: list[int] = dataclasses.field(default_factory=list)

    one, other = Line(1), Line(number=1)
    one.seen.append(2)
    one.number = 3
    assert (one.number, one.seen, other.seen) == (3, [2], [])
    assert one == one
    assert Line(1) != Line(1)


def test_frozen_ones_are_compared_and_do_not_change() -> None:
    @frozen
    class Place:
        path: str
        line: int = 1

    @frozen
    class Named(Place):
        name: str = ""

    assert Named("a", 2, "x") == Named("a", 2, "x")
    assert Place("a") == Place("a", 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Place("a").line = 2  # type: ignore[misc]


def test_what_is_missing_is_told_each_time() -> None:
    @struct
    class Line:
        number: int

    for _ in range(2):
        with pytest.raises(TypeError, match="number"):
            Line()  # type: ignore[call-arg]
