"""Networks that lie in front of what is trained: a readout on something random is legitimate, and a tower forgotten."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from watching import codes, found

from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime.checks.holding.fronts import in_front


def train(optimizer: torch.optim.Optimizer, output: Callable[[], Tensor]) -> None:
    for _ in range(5):
        optimizer.zero_grad()
        output().pow(2).mean().backward()
        optimizer.step()


def reservoir() -> None:
    cells, readout = nn.RNN(3, 8, batch_first=True), nn.Linear(8, 1)
    train(torch.optim.SGD(readout.parameters(), lr=0.01), lambda: readout(cells(torch.randn(4, 6, 3))[0]))


def random_features() -> None:
    features, weights = nn.Linear(3, 16), nn.Linear(16, 1)
    train(torch.optim.SGD(weights.parameters(), lr=0.01), lambda: weights(features(torch.randn(4, 3)).cos()))


def probe() -> None:
    tower = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    head = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    train(torch.optim.Adam(head.parameters()), lambda: head(tower(torch.randn(4, 3))))


@pytest.mark.parametrize("program", [reservoir, random_features, probe])
def test_what_may_be_random_on_purpose(program: Callable[[], object]) -> None:
    assert found(program) == []
    (finding,) = found(program, least=Confidence.MEDIUM)
    assert finding.code == "GL207"


def encoder() -> None:
    """As deep as what is trained behind it."""
    first, second = (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)) for _ in range(2))
    train(torch.optim.Adam(second.parameters()), lambda: second(first(torch.randn(4, 3))))


def middle() -> None:
    layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    held = [*layers[0].parameters(), *layers[4].parameters()]
    train(torch.optim.Adam(held), lambda: layers(torch.randn(4, 3)))


def last() -> None:
    tower, head = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4)), nn.Linear(4, 1)
    train(torch.optim.Adam(tower.parameters()), lambda: head(tower(torch.randn(4, 3))))


def beside() -> None:
    """Prototypes that features are compared with are nobody's input."""
    net, prototypes = nn.Linear(3, 4), nn.Parameter(torch.randn(5, 4))
    labels = torch.tensor([0, 1, 2, 3])
    train(torch.optim.Adam(net.parameters()), lambda: net(torch.randn(4, 3)) - prototypes[labels])


@pytest.mark.parametrize("program", [encoder, middle, last, beside])
def test_what_was_forgotten(program: Callable[[], object]) -> None:
    assert codes(found(program)) == ["GL207"]


def test_a_leaf_is_in_front_if_held_layers_take_what_it_makes_and_no_more() -> None:
    front, held, behind = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1)
    offset = nn.Parameter(torch.zeros(4))
    loss = behind(held(front(torch.ones(2, 3))) + offset).sum()
    assert in_front([loss], {id(p) for p in held.parameters()}) == {id(p) for p in front.parameters()}
    assert in_front([loss], set()) == set()
