"""Which loops are windows of accumulation of their own, and what is known of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.micro_batches import Nested, cleared_within, nested_windows
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

PROGRAM = """
import torch
from torch import nn

net = nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)


def pieces(x, n):
    for i in range(0, len(x), n):
        yield x[i : i + n]


def train(batches, k):
    for x, y in batches:
        parts = x.chunk(k)
        optimizer.zero_grad()
        for {head}:
            {body}
        optimizer.step()
"""


class _Asks(Rule):
    """Keeps the windows that are loops."""

    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found: list[Nested] = []
        self.cleared = 0

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.found += nested_windows(timeline)
        self.cleared += len(list(cleared_within(timeline)))


def asked(head: str, body: str) -> _Asks:
    asks = _Asks()
    code = PROGRAM.format(head=head, body=body)
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [asks])
    return asks


def ask(head: str, body: str = "net(a).mean().backward()") -> list[Nested]:
    return asked(head, body).found


@pytest.mark.parametrize(
    ("head", "size", "certain"),
    [
        ("a, b in zip(x.chunk(k), y.chunk(k))", "k", True),
        ("a, b in zip(torch.split(x, k), torch.split(y, k))", "", True),
        ("i, (a, b) in enumerate(zip(x.chunk(k), y))", "k", False),
        ("a in x.split(k, dim=0)", "", False),
        ("a in parts", "k", False),
        ("a in pieces(x, k)", "", False),
    ],
)
def test_pieces_of_a_batch_are_a_window(head: str, size: str, certain: bool) -> None:
    (found,) = ask(head)
    assert (found.spoken, found.head.certain, found.undivided) == (size, certain, True)


@pytest.mark.parametrize("head", ["a in x.chunk(k, dim=1)", "a in range(k)", "a in x", "a in x.split(',')"])
def test_other_loops_are_none(head: str) -> None:
    assert ask(head) == []


def test_slices_are_pieces() -> None:
    assert ask("i in range(0, len(x), k)", "net(x[i : i + k]).mean().backward()")
    assert not ask("i in range(0, len(x), k)", "net(x[i]).mean().backward()")


def test_slices_by_a_product_are_pieces() -> None:
    (found,) = ask(
        "i in range(len(x) // k)", "(net(x[i * k : (i + 1) * k]) - y[i * k : (i + 1) * k]).mean().backward()"
    )
    assert found.head.certain
    assert not ask("i in range(len(x) // k)", "net(x[i]).mean().backward()")


@pytest.mark.parametrize(
    ("body", "cleared"),
    [
        ("optimizer.zero_grad(); net(a).mean().backward()", 1),
        ("net(a).mean().backward(); optimizer.zero_grad()", 1),
        ("if a.sum() > 0: optimizer.zero_grad()\n            net(a).mean().backward()", 0),
        ("net(a).mean().backward()", 0),
    ],
)
def test_windows_that_clear_in_their_rounds(body: str, cleared: int) -> None:
    found = asked("a in x.chunk(k)", body)
    assert (found.cleared, len(found.found)) == (cleared, int("zero_grad" not in body))


def test_counted_loop_is_one_by_its_name() -> None:
    code_of = "a in range(accumulation_steps)"
    assert len(ask(code_of.replace("accumulation_steps", "micro_batches"))) == 1


def test_division_and_a_state_that_is_handed_on() -> None:
    (found,) = ask("a in x.chunk(k)", "(net(a).mean() / k).backward()")
    assert not found.undivided
    assert ask("a in x.chunk(k)", "out, k = net(a, k); out.mean().backward()") == []
