"""What a backward moves, and what it does not come to any more."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint.facts.led_to import led_to
from gradcheck_lint.facts.missed_terms import missed
from gradcheck_lint.facts.unfed import unfed
from gradcheck_lint.facts.unreached import unreached
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from elsewhere import magic

def mlp():
    return nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = mlp(), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.encoder(x))

first, second, net = nn.Linear(3, 3), nn.Linear(3, 3), Net()
x = torch.randn(4, 3)
"""


class _Asks(Rule):
    code, slug = "GL999", "asks"

    def __init__(self) -> None:
        self.alive: set[str] = set()
        self.cut: dict[str, bool] = {}
        self.open = False
        self.told = {"unreached": 0, "unfed": 0, "missed": 0}

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        for event in timeline.events(Backward):
            led = led_to(event.subject)
            self.alive |= {one.label for one in led.alive.values()}
            self.cut |= {part.label: cut.off for part, cut in led.cut.values()}
            self.open |= led.open
        self.told["unreached"] += len(list(unreached(timeline)))
        self.told["unfed"] += len(list(unfed(timeline)))
        self.told["missed"] += len(list(missed(timeline)))


def _asked(body: str) -> _Asks:
    rule = _Asks()
    code = HEAD + dedent(body)
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return rule


def test_what_is_cut_off_and_where_nothing_is_recorded() -> None:
    found = _asked("""
        with torch.no_grad():
            kept = first(x)
        (second(kept) + net.head(first(x).detach())).sum().backward()
    """)
    assert found.alive >= {"second", "net"}
    assert "first" not in found.alive
    assert "first" in found.cut


def test_what_comes_by_another_way_is_alive() -> None:
    assert "first" in _asked("h = first(x)\n(second(h.detach()) + h).sum().backward()").alive


def test_a_function_that_was_not_seen_may_lead_anywhere_that_it_is_given() -> None:
    assert "first" in _asked("magic(first(x)).sum().backward()").alive


TRAINS = """
opt = torch.optim.SGD({held}, lr=0.1)
for _ in range(3):
    opt.zero_grad()
    {loss}.backward()
    opt.step()
"""


@pytest.mark.parametrize(
    ("held", "loss", "told"),
    [
        ("first.parameters()", "torch.tensor([1.0], requires_grad=True).sum()", "unfed"),
        ("[*first.parameters(), *second.parameters()]", "second(first(x).detach()).sum()", "unreached"),
        ("first.parameters()", "(first(x).sum() + second(first(x).detach()).sum())", "missed"),
        ("first.parameters()", "magic(second(x), first).sum()", ""),
        ("first.parameters()", "nn.Sequential(first, second)(x).sum()", ""),
        ("net.parameters()", "net(x).sum()", ""),
        ("net.parameters()", "(net(x).sum() + net(x.clone()).mean())", ""),
        ("net.parameters()", "(net(x) - net(x).detach()).pow(2).sum()", ""),
        ("[*first.parameters(), *second.parameters()]", "(first(x).sum() + second(first(x).detach()).sum())", ""),
        ("first.parameters()", "(first(x).sum() + magic(first(x).detach(), first).sum())", ""),
    ],
)
def test_who_is_told(held: str, loss: str, told: str) -> None:
    found = _asked(TRAINS.format(held=held, loss=loss)).told
    assert {name for name, number in found.items() if number} == ({told} if told else set())


def test_weights_that_were_given_to_another_network_are_trained_there() -> None:
    found = _asked("second.weight = first.weight" + TRAINS.format(held="first.parameters()", loss="second(x).sum()"))
    assert not found.told["unfed"]
