"""Grad mode that is switched off: which paths lead on from there to the training, and what switches it on again."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from gradcheck_lint.facts.gradmode import switched_off, unrecorded
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
import elsewhere
model = nn.Linear(4, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def learn():
    loss = model(torch.randn(2, 4)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
def off():
    torch.set_grad_enabled(False)
def on():
    torch.set_grad_enabled(True)
"""


class _Asks(Rule):
    code = "XX001"
    slug = "asks"
    triggers = r"set_grad_enabled"

    def __init__(self) -> None:
        self.switches: list[int] = []
        self.backwards: list[int] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        self.switches += [found.off.place.span.line for found in switched_off(timeline)]
        self.backwards += [found.backward.place.span.line for found in unrecorded(timeline)]


def asked(code: str) -> _Asks:
    rule = _Asks()
    analyse([SourceFile("train.py", Path("train.py"), (HEAD + code).encode())], [rule])
    return rule


STAYS_OFF = ["learn()\noff()", "off()\nlearn()", "learn()\nif epoch % 2: off()", "learn()\noff()\noff()"]

COMES_ON = [
    "learn()\noff()\non()",
    "on()\nlearn()\noff()",
    "learn()\noff()\nif epoch: on()",
    "learn()\noff()\nelsewhere.again(model)",
    "learn()\noff()\nbreak",
    "learn()\nwith torch.set_grad_enabled(False): model(torch.randn(2, 4))",
    "learn()\nwith torch.no_grad(): off()",
    "was = torch.is_grad_enabled()\nlearn()\noff()\ntorch.set_grad_enabled(was)",
    "if epoch % 2: off()\nif not epoch % 2: learn()",
    "off()\nwith torch.enable_grad(): learn()",
]


@pytest.mark.parametrize("body", STAYS_OFF)
def test_stays_off(body: str) -> None:
    assert asked("for epoch in range(9):\n" + indent(body, "    ")).switches


@pytest.mark.parametrize("body", COMES_ON)
def test_comes_on(body: str) -> None:
    assert not asked("for epoch in range(9):\n" + indent(body, "    ")).switches


def test_before_the_loop() -> None:
    assert asked("off()\nfor epoch in range(9): learn()").switches
    assert not asked("off()\non()\nfor epoch in range(9): learn()").switches
    assert not asked("for epoch in range(9): learn()\noff()").switches


FROZEN = """
class Frozen(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return x * 2
frozen = Frozen()
"""


def test_unrecorded() -> None:
    assert asked("with torch.no_grad():\n    loss = model(torch.ones(4)).mean()\n    loss.backward()").backwards
    assert asked(f"{FROZEN}frozen(torch.ones(4)).mean().backward()").backwards
    assert not asked(f"{FROZEN}model(frozen(torch.ones(4))).mean().backward()").backwards


def test_recorded_before_the_block() -> None:
    assert not asked("""
loss = model(torch.ones(4)).mean()
with torch.no_grad():
    score = model(torch.ones(4))
    loss.backward()
""").backwards
    assert not asked("with torch.no_grad():\n    with torch.enable_grad():\n        learn()").backwards
