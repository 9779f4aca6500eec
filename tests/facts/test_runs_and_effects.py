"""What becomes of a gradient at an operation: draws of distributions, and items of what a followed call gives."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint.facts.effects import distribution_of
from gradcheck_lint.facts.led_to import led_to
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
from torch.distributions import Bernoulli, Categorical, Independent, Normal
from torch.distributions.laplace import Laplace

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
    def forward(self, x):
        return self.first(x), self.second(x)

one, other, pair = nn.Linear(2, 2), nn.Linear(2, 2), Pair()
opt = torch.optim.SGD([*one.parameters(), *other.parameters(), *pair.parameters()], lr=0.1)
x = torch.randn(3, 2)
"""


class _Asks(Rule):
    """Takes down what the backward leads to, what was drawn, and of which distribution."""

    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.alive: set[str] = set()
        self.drawn: list[str | None] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        for event in timeline.events(Backward):
            led = led_to(event.subject)
            self.alive = {thing.label for thing in led.alive.values()}
            self.drawn = [distribution_of(draw.made.base) for draw in led.draws if draw.made is not None]


def _asked(code: str) -> _Asks:
    rule = _Asks()
    analyse([SourceFile("train.py", Path("nowhere/train.py"), (HEAD + dedent(code)).encode())], [rule])
    return rule


@pytest.mark.parametrize(
    ("code", "alive", "drawn"),
    [
        pytest.param("Normal(one(x), 1).sample().sum().backward()", set(), ["Normal"], id="a draw has no gradient"),
        pytest.param("Normal(one(x), 1).rsample().sum().backward()", {"one"}, [], id="one that is recorded has"),
        pytest.param("Laplace(one(x), 1).sample().sum().backward()", set(), ["Laplace"], id="by its own module"),
        pytest.param(
            "Independent(Normal(one(x), 1), 1).sample().sum().backward()", set(), ["Normal"], id="the one within"
        ),
        pytest.param(
            "d = Categorical(logits=one(x))\nd.log_prob(d.sample()).sum().backward()",
            {"one"},
            ["Categorical"],
            id="its log-probability has one",
        ),
        pytest.param("one.sample().sum().backward()", {"one"}, [], id="something else may have such a method"),
        pytest.param("a, b = pair(x)\na.sum().backward()", {"first"}, [], id="the first item"),
        pytest.param("out = pair(x)\nout[-1].sum().backward()", {"second"}, [], id="the last item"),
        pytest.param("(pair(x)[0] + pair(x)[1]).sum().backward()", {"first", "second"}, [], id="both"),
        pytest.param("for i in range(2):\n    pair(x)[i].sum().backward()", {"first", "second"}, [], id="any"),
    ],
)
def test_effects(code: str, alive: set[str], drawn: list[str]) -> None:
    rule = _asked(code)
    assert (rule.alive, rule.drawn) == (alive, drawn)
