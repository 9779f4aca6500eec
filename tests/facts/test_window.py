"""What counts as a window of accumulation, and what is known of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.window import Window, counted_from_zero, windows
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.place import Chunk
from gradcheck_lint.source.timeline import Timeline

PROGRAM = """
import torch
from torch import nn

net = nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def train(batches, k):
    {before}
    for {head}:
        {first}
        loss = net(x).mean(){divided}
        loss.backward()
        if {test}:
            optimizer.step()
            optimizer.zero_grad()
        {last}


train(torch.randn(8, 4, 3), 4)
"""


class _Recorder(Rule):
    """Keeps the windows of every entry point."""

    code, slug = "XX001", "recorder"

    def __init__(self) -> None:
        self.windows: list[Window] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.windows += windows(timeline)


def found(
    test: str,
    head: str = "i, x in enumerate(batches)",
    *,
    before: str = "pass",
    first: str = "pass",
    last: str = "pass",
    divided: str = "",
) -> list[Window]:
    """The windows of a training loop that steps under a test."""
    code = PROGRAM.format(test=test, head=head, before=before, first=first, last=last, divided=divided)
    recorder = _Recorder()
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [recorder])
    return recorder.windows


@pytest.mark.parametrize(
    "test",
    ["i % k == 0", "(i + 1) % k == 0", "not i % k", "i % k == k - 1", "(i + 1) % k == 0 or i + 1 == len(batches)"],
)
def test_window_is_found_by_its_test(test: str) -> None:
    (window,) = found(test)
    assert window.text(window.test.size) == "k"


@pytest.mark.parametrize("test", ["i > k", "i == k", "k", "i // k == 0"])
def test_other_tests_open_no_window(test: str) -> None:
    assert found(test) == []


def test_loop_that_goes_backward_twice_is_no_window() -> None:
    assert found("i % k == 0", first="net(x).sum().backward()") == []


@pytest.mark.parametrize(
    ("head", "zero"),
    [
        ("i, x in enumerate(batches)", True),
        ("i, x in enumerate(batches, 1)", False),
        ("i, x in enumerate(batches, start=1)", False),
        ("i, x in zip(k, batches)", False),
    ],
)
def test_where_an_index_starts(head: str, zero: bool) -> None:
    (window,) = found("i % k == 0", head)
    assert counted_from_zero(window) is zero


@pytest.mark.parametrize(
    ("first", "last", "zero"),
    [("pass", "count += 1", True), ("count += 1", "pass", False), ("pass", "pass", False)],
)
def test_where_a_counter_stands_at_the_test(first: str, last: str, zero: bool) -> None:
    (window,) = found("count % k == 0", "x in batches", before="count = 0", first=first, last=last)
    assert counted_from_zero(window) is zero


def test_counter_that_starts_elsewhere_is_not_known() -> None:
    (window,) = found("count % k == 0", "x in batches", before="count = 1", last="count += 1")
    assert not counted_from_zero(window)


@pytest.mark.parametrize(("divided", "expected"), [("", False), (" / k", True), (" / 7", False)])
def test_division_by_the_size_is_seen(divided: str, expected: bool) -> None:
    (window,) = found("i % k == 0", divided=divided)
    assert window.divided is expected


@pytest.mark.parametrize(
    ("size", "divided", "named", "expected"),
    [("(k * 2)", " / (k * 2)", False, True), ("(k * 2)", " / k", False, False), ("accum", " / (accum)", True, True)],
)
def test_how_its_size_is_written_takes_no_libcst(
    size: str, divided: str, named: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("read with libcst")

    monkeypatch.setattr(Chunk, "concrete", read)  # asked of each loop that may be one: libcst is slow to import
    (window,) = found(f"i % {size} == 0", divided=divided)
    assert (window.named, window.divided) == (named, expected)
