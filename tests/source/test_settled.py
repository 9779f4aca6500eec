"""A loop is run again only where another round could meet something new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Step
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.natures import Module, Opaque, Optimizer, Pass, Tensor
from gradcheck_lint.source.place import Chunk, Place
from gradcheck_lint.source.position import OfStatement
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.settled import settled
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import Choice, Constant, Items, Table, Thing, Value

HEAD = """
import torch
from torch import nn
model = nn.Linear(2, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
"""


def somewhere() -> Place:
    return Place(Chunk("a.py", "pass", 0), tree.Node(OfStatement(1, 0, 1, 4)))


HERE, THERE = somewhere(), somewhere()


def passed(place: Place) -> Thing:
    """What a model gives that is called at a place."""
    run = Thing(Pass(Thing(Module(), "model"), frozenset()), "", place)
    return Thing(Opaque(), "loss", deps=frozenset((run,)))


def listed(*items: Value) -> Items:
    return Items(Container.LIST, list(items))


NONE = Constant(None)
OLD = Thing(Optimizer(), "opt", HERE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OLD, Choice((OLD, Thing(Optimizer(), "opt", HERE)))),
        (NONE, Constant(3)),
        (listed(), listed(Thing(Opaque(), "loss"))),
        (Choice((OLD, NONE)), OLD),
        (listed(OLD), listed(OLD, Thing(Optimizer(), "opt", HERE))),
        (passed(HERE), passed(HERE)),
        (Table({"a": passed(HERE)}), Table({"b": passed(HERE)})),
    ],
)
def test_what_was_met_before_in_another_object_is_nothing_new(before: Value, after: Value) -> None:
    assert settled(before, after, 0)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (OLD, Choice((OLD, Thing(Optimizer(), "opt", THERE)))),
        (NONE, OLD),
        (OLD, Thing(Module(), "opt", HERE)),
        (OLD, Choice((OLD, Thing(Opaque(), "opt")))),
        (listed(), listed(OLD)),
        (listed(), listed(passed(HERE))),
        (listed(Constant("a")), listed(Constant("a"), Constant("b"))),
        (passed(HERE), passed(THERE)),
        (Thing(Tensor(), "h", HERE), Thing(Tensor(), "h", HERE, deps=passed(THERE).deps)),
        (listed(listed(listed(listed(listed())))), listed(listed(listed(listed(listed(OLD)))))),
    ],
)
def test_another_nature_place_or_graph_is(before: Value, after: Value) -> None:
    assert not settled(before, after, 0)


def test_what_is_older_than_the_loop_is_told_by_its_identity() -> None:
    one, two = Thing(Optimizer(), "a", HERE), Thing(Optimizer(), "b", HERE)
    assert settled(one, Choice((one, two)), one.serial)
    assert not settled(one, Choice((one, two)), two.serial + 1)


class Stepped(Rule):
    """Keeps what is stepped."""

    code, slug, severity = "GL999", "stepped", Severity.ERROR

    def __init__(self) -> None:
        self.subjects: list[Value] = []

    def on_timeline(self, timeline: Any, report: Any) -> None:
        self.subjects += [event.subject for event in timeline.events(Step)]


def run(code: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Stepped, int]:
    """What is stepped in a program, and how many statements were run for it."""
    rule, count = Stepped(), [0]
    real = Machine.run

    def counted(self: Machine, body: Any) -> bool:
        statements = list(body)
        count[0] += len(statements)
        return real(self, statements)

    monkeypatch.setattr(Machine, "run", counted)
    analyse([SourceFile("main.py", Path("/nowhere/main.py"), (HEAD + code).encode())], [rule])
    return rule, count[0]


def nested(depth: int, body: str) -> str:
    lines = [f"{'    ' * at}for i{at} in range(9):" for at in range(depth)]
    return "\n".join([*lines, *("    " * depth + line for line in body.splitlines())]) + "\n"


BODY = "opt.zero_grad()\nloss = model(x).sum()\nloss.backward()\nopt.step()\nlosses += [loss.item()]"


def test_a_list_of_numbers_has_no_loop_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, once = run("losses = []\n" + nested(1, BODY), monkeypatch)
    _, deep = run("losses = []\n" + nested(4, BODY), monkeypatch)
    assert deep == once + 3  # a statement more for each loop


def test_an_optimizer_made_in_a_loop_is_met_in_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    rule, _ = run("for i in range(9):\n    opt.step()\n    opt = torch.optim.SGD([w], lr=1)\n", monkeypatch)
    assert [len(s.options) if isinstance(s, Choice) else 1 for s in rule.subjects] == [2]


def test_a_word_that_a_later_round_finds_in_a_list_has_both_ways_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    for start in ("[]", "['b']"):
        rule, _ = run(
            f"seen = {start}\nfor i in range(9):\n    if 'a' in seen:\n        opt.step()\n    seen += ['a']\n",
            monkeypatch,
        )
        assert rule.subjects, start


TWO = """
def make():
    return nn.Linear(2, 1)


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=0.1)


a, b = make(), make()
first, second = sgd(a), sgd(b)
"""


def test_two_that_one_helper_has_built_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    code = TWO + "chosen = first\nfor i in range(9):\n    chosen.step()\n    chosen = second if i % 2 else first\n"
    rule, _ = run(code, monkeypatch)
    assert [len(s.options) if isinstance(s, Choice) else 1 for s in rule.subjects] == [2]
