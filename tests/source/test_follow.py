"""The machine on every path of a program: branches join, loops come round, methods are called again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint.finding import Severity
from gradcheck_lint.laws.cycle import BREACHES, DISCARDED
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.breach import Breach
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

HEAD = """\
import torch
from torch import nn
from elsewhere import maybe

model, other = nn.Linear(3, 1), nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
opt2 = torch.optim.SGD(other.parameters(), lr=0.1)
both = torch.optim.SGD(model.parameters(), lr=0.1)
"""


class Listener(Rule):
    """Keeps every breach that it hears of."""

    code, slug, severity = "GL999", "listener", Severity.ERROR
    breaches = BREACHES - {DISCARDED}

    def __init__(self) -> None:
        self.heard: list[Breach] = []

    def on_breach(self, breach: Breach, report: Any) -> None:
        self.heard.append(breach)


def heard(body: str, head: str = HEAD) -> list[Breach]:
    listener = Listener()
    path = Path(__file__).parent / "nowhere" / "program.py"
    analyse([SourceFile("program.py", path, (head + body).encode())], [listener])
    return listener.heard


def broken(body: str, head: str = HEAD) -> list[str]:
    """The kinds of what is certainly broken, each with the line in the body at which it is."""
    lines = head.count("\n")
    return [f"{b.kind}:{b.event.place.span.line - lines}" for b in heard(body, head) if b.certain]


def program(text: str, x: str = "x") -> str:
    """A program from words: `for` and `if` with their blocks, `zero`, `back`, `step` and `clip` on `opt`."""
    words = {
        "zero": "opt.zero_grad()",
        "back": f"model({x}).sum().backward()",
        "step": "opt.step()",
        "clip": "nn.utils.clip_grad_norm_(model.parameters(), 1.0)",
        "for": f"for {x} in maybe:",
        "while": "while maybe():",
    }
    lines = []
    for line in text.splitlines():
        word = line.strip()
        lines.append(line[: len(line) - len(line.lstrip())] + words.get(word, word))
    return "\n".join(lines) + "\n"


RIGHT = {
    "the usual loop": "for\n  zero\n  back\n  step",
    "cleared at the end": "for\n  back\n  step\n  zero",
    "a window": "for\n  back\n  if x % 4 == 0:\n    step\n    zero",
    "a window that clears at its head": "for\n  if x % 4 == 0:\n    zero\n  back\n  if x % 4 == 3:\n    step",
    "an inner loop accumulates": "for\n  zero\n  for\n    back\n  step",
    "no loop": "back\nstep",
    "a skip that clears": "for\n  back\n  if maybe():\n    zero\n    continue\n  step\n  zero",
    "cleared in either branch": "for\n  if maybe():\n    zero\n  else:\n    zero\n  back\n  step",
    "cleared by another path only": "for\n  if maybe():\n    zero\n  back\n  step",
    "cleared in a finally": "for\n  try:\n    back\n    step\n  finally:\n    zero",
    "by hand, where there is a gradient": (
        "for\n  for p in model.parameters():\n    if p.grad is not None:\n      p.grad.zero_()\n  back\n  step"
    ),
    "a loop that always ends in its first round": "while True:\n  back\n  step\n  break",
    "a new optimizer in each round": "for\n  opt = torch.optim.SGD(model.parameters(), lr=1)\n  back\n  step",
    "two optimizers over one model": "for\n  both.zero_grad()\n  back\n  step",
    "hooks may step": "opt.register_step_post_hook(maybe)\nfor\n  back\n  step",
    "an unknown closure": "for\n  opt.step(maybe)",
}


@pytest.mark.parametrize("text", RIGHT.values(), ids=RIGHT)
def test_right_programs_break_nothing(text: str) -> None:
    assert broken(program(text)) == []


WRONG = {
    "never cleared": ("for\n  back\n  step", "stale-step:3"),
    "cleared outside": ("zero\nfor\n  back\n  step", "stale-step:4"),
    "cleared once per epoch": ("for\n  zero\n  for\n    back\n    step", "stale-step:5"),
    "the inner loop accumulates": ("for\n  for\n    back\n  step", "stale-step:4"),
    "the window is never cleared": ("for\n  back\n  if x % 4 == 0:\n    step", "stale-step:4"),
    "never cleared, by either backward": ("for\n  if maybe:\n    back\n  else:\n    back\n  step", "stale-step:6"),
    "erased": ("for\n  back\n  zero\n  step", "erased-step:4"),
    "erased in both branches": ("for\n  back\n  if maybe:\n    zero\n  else:\n    zero\n  step", "erased-step:7"),
    "no backward": ("for\n  model(x)\n  zero\n  step", "empty-step:4"),
    "stepped twice": ("for\n  zero\n  back\n  step\n  step", "empty-step:5"),
    "clipped too early": ("for\n  zero\n  clip\n  back\n  step", "empty-clip:3"),
    "clipped too late": ("for\n  zero\n  back\n  step\n  clip", "empty-clip:5"),
    "a loop that always ends in its first round": ("while True:\n  back\n  zero\n  step\n  break", "erased-step:4"),
    "another optimizer is cleared": ("for\n  opt2.zero_grad()\n  back\n  step", "stale-step:4"),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.values(), ids=WRONG)
def test_wrong_programs_are_broken_where_they_are(text: str, expected: str) -> None:
    assert broken(program(text)) == [expected]


def test_what_cannot_be_seen_makes_a_breach_uncertain() -> None:
    found = heard(program("for\n  maybe(opt)\n  back\n  step"))
    assert [(b.kind, b.certain) for b in found] == [("stale-step", False)]


def test_a_breach_tells_who_made_and_who_cleared() -> None:
    (found,) = heard(program("for\n  zero\n  for\n    back\n    step"))
    head = HEAD.count("\n")
    assert [made.place.span.line - head for made in found.made] == [4]
    assert [cleared.place.span.line - head for cleared in found.cleared] == [2]


def test_a_loss_of_another_network_does_not_make_gradients_certain() -> None:
    body = "for x in maybe:\n  opt.zero_grad()\n  other(x).sum().backward()\n  opt.step()\n"
    assert broken(body) == []
    assert broken(body.replace("other(x)", "model(x)")) == []


SCHEDULE = "sched = torch.optim.lr_scheduler.StepLR(opt, 1)\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("for\n  zero\n  sched.step()\n  back\n  step", ["early-schedule:4"]),
        ("for\n  zero\n  back\n  step\n  sched.step()", []),
        ("for\n  sched.step()\n  for\n    zero\n    back\n    step", ["early-schedule:3"]),
        ("for\n  for\n    sched.step()\n    zero\n    back\n    step", ["early-schedule:4"]),
    ],
)
def test_a_schedule_is_judged_by_the_first_round(text: str, expected: list[str]) -> None:
    assert broken(SCHEDULE + program(text)) == expected


TRAINER = """\
import torch
from torch import nn


class Trainer:
    def __init__(self, model: nn.Module):
        self.model = model
        self.opt = torch.optim.SGD(model.parameters(), lr=0.1)

    def update(self, x):
        self.model(x).sum().backward()
        self.opt.step()
"""


def test_a_method_is_called_again() -> None:
    assert broken("", TRAINER) == ["stale-step:0"]


@pytest.mark.parametrize(
    "more",
    [
        "\n    def clear(self):\n        self.opt.zero_grad()\n",
        "\n\ndef clear(optimizer):\n    optimizer.zero_grad()\n",
        "\n    def clear(self):\n        for p in self.model.parameters():\n            p.grad = None\n",
    ],
)
def test_but_not_if_anything_may_clear_in_between(more: str) -> None:
    assert broken("", TRAINER + more) == []


@pytest.mark.parametrize("base", ["Base", "Base, nn.Module"])
def test_nor_if_the_class_has_a_base_that_cannot_be_seen(base: str) -> None:
    text = TRAINER.replace("class Trainer:", f"from elsewhere import Base\n\n\nclass Trainer({base}):")
    assert broken("", text) == []


HELPED = """
def turn(x):
    model(x).sum().backward()
    opt.step()

def first():
    for x in [1, 2, 3, 4, 5, 6, 7, 8]:
        turn(x)

def second():
    turn(0)
    for x in [1, 2, 3, 4, 5, 6, 7, 8]:
        model(x).sum().backward()
        opt.step()
"""


def test_what_is_not_followed_any_more_leaves_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    def by_entry() -> dict[str, set[bool]]:
        found: dict[str, set[bool]] = {}
        for breach in heard(HELPED):
            found.setdefault(breach.timeline.entry.name, set()).add(breach.certain)
        return found

    assert by_entry() == {"first": {True}, "second": {True}}
    monkeypatch.setattr("gradcheck_lint.source.limits.HEAVY", 2)
    assert by_entry() == {"first": {True}, "second": {False}}


@pytest.mark.parametrize(
    ("middle", "kinds"),
    [
        ("if maybe():\n        continue", ["stale-step"]),  # nothing is cleared on the way back
        ("if maybe():\n        raise ValueError\n    else:\n        raise KeyError", []),  # the step is never reached
        ("for y in maybe():\n        if y:\n            break", ["stale-step"]),
        ("while True:\n        maybe(2)", []),  # never left
        ("while True:\n        if maybe():\n            break", ["stale-step"]),
        ("try:\n        maybe(1)\n    finally:\n        maybe(2)", ["stale-step"]),
    ],
)
def test_what_holds_nothing_of_the_protocol_still_bends_the_way(middle: str, kinds: list[str]) -> None:
    text = f"for x in maybe():\n    model(x).sum().backward()\n    {middle}\n    opt.step()\n"
    assert [breach.kind for breach in heard(text)] == kinds
