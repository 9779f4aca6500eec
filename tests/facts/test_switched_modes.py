"""Where a model is trained on in evaluation mode: the paths from `eval()` on, and what may switch it back on them."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint.facts.modes import head, left_in_eval
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
import elsewhere
import torch.nn.functional as F
model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
other = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def learn():
    loss = model(torch.randn(2, 4)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
def judge(net):
    net.eval()
    with torch.no_grad():
        return net(torch.randn(2, 4))
"""


class _Asks(Rule):
    """Takes down the lines of the calls of `eval()` after which training goes on, and where it could be mended."""

    code = "XX001"
    slug = "asks"

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.heads: list[tuple[int, str] | None] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        for left in left_in_eval(timeline):
            self.lines.append(left.off.place.span.line)
            found = head(timeline, left)
            self.heads.append((found.statement.span.line, found.name) if found is not None else None)


def asked(code: str) -> _Asks:
    rule = _Asks()
    text = HEAD + dedent(code)
    analyse([SourceFile("train.py", Path("train.py"), text.encode())], [rule])
    return rule


def told(code: str) -> bool:
    return bool(asked(code).lines)


LEFT = {
    "in each round": "learn()\njudge(model)",
    "now and then": "learn()\nif epoch % 2: judge(model)",
    "judged first": "judge(model)\nlearn()",
    "another is put back": "learn()\njudge(model)\nother.train()",
    "judged twice": "learn()\njudge(model)\njudge(model)",
    "a way out that never comes back": "learn()\njudge(model)\nif epoch > 5:\n    model.train()\n    break",
}

BACK = {
    "at the head": "model.train()\nlearn()\njudge(model)",
    "at the end": "learn()\njudge(model)\nmodel.train()",
    "on some paths": "learn()\njudge(model)\nif epoch > 2: model.train()",
    "as it was": "was = model.training\nlearn()\njudge(model)\nmodel.train(was)",
    "by the attribute": "learn()\njudge(model)\nmodel.training = True",
    "one by one": "learn()\njudge(model)\nfor part in model.modules(): part.train()",
    "by code that is not seen": "learn()\njudge(model)\nelsewhere.again(model)",
    "the other is judged": "learn()\njudge(other)",
    "for good": "learn()\nif epoch > 3:\n    judge(model)\n    break",
    "meant so": "model.eval()\nlearn()",
    "from some round on": "if epoch > 2: model.eval()\nlearn()",
    "under the same test": "if epoch % 2: learn()\nif not epoch % 2: judge(model)",
    "a part of it": "learn()\nmodel[1].eval()\njudge(other)",
}


@pytest.mark.parametrize("body", LEFT.values(), ids=LEFT)
def test_left(body: str) -> None:
    assert told("for epoch in range(9):\n" + indent(body, "    "))


@pytest.mark.parametrize("body", BACK.values(), ids=BACK)
def test_back(body: str) -> None:
    assert not told("for epoch in range(9):\n" + indent(body, "    "))


def test_before_the_loop() -> None:
    assert told("judge(model)\nfor epoch in range(9): learn()")
    assert not told("judge(model)\nmodel.train()\nfor epoch in range(9): learn()")
    assert not told("for epoch in range(9): learn()\njudge(model)")


def test_a_model_that_each_round_makes() -> None:
    assert not told("""
        for fold in range(3):
            model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            model(torch.randn(2, 4)).mean().backward()
            optimizer.step()
            judge(model)
    """)


def test_an_optimizer_of_another_model() -> None:
    assert not told("""
        optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
        for epoch in range(3):
            learn()
            judge(model)
    """)


def test_judged_in_a_loop_of_its_own() -> None:
    """Where the passes do not show in the loss, those in another loop than the backward are there to be judged."""
    assert told("""
        for epoch in range(3):
            for x in range(3):
                F.cross_entropy(elsewhere.distance(model(x)), x).backward()
                optimizer.step()
            model.eval()
            for x in range(3):
                total = elsewhere.distance(model(x))
    """)


@pytest.mark.parametrize("before", [1, 20])
def test_a_helper_that_is_called_again(before: int) -> None:
    """It turns nothing of the cycle, and yet each call of it counts; also when it is not followed any more."""
    helper = "def wake(net):\n    net.train()\n" + "wake(model)\n" * before
    loop = "for epoch in range(3):\n    learn()\n    judge(model)\n"
    assert told(helper + loop)
    assert not told(helper + loop + "    wake(model)\n")


def test_head() -> None:
    """In the function that trains, before its first statement that needs it; or at the head of the loop."""
    lines = HEAD.split("\n")
    assert asked("for epoch in range(9):\n    learn()\n    judge(model)").heads == [
        (lines.index("    loss = model(torch.randn(2, 4)).mean()") + 1, "model")
    ]
    assert asked("""
        for epoch in range(9):
            print(epoch)
            model(torch.randn(2, 4)).mean().backward()
            optimizer.step()
            judge(model)
    """).heads == [(len(lines) + 3, "model")]


def test_no_head_where_one_function_is_for_both() -> None:
    assert asked("""
        def run(net, x):
            return net(x).mean()
        for epoch in range(9):
            run(model, epoch).backward()
            optimizer.step()
            model.eval()
            with torch.no_grad():
                run(model, epoch)
    """).heads == [None]
