"""Groups that are empty by a slip, and states of optimizers that are saved."""

from __future__ import annotations

import io
from functools import partial

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL316", "GL115"), least=Confidence.MEDIUM)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = nn.ModuleDict({"backbone": nn.Linear(3, 4), "head": nn.Linear(4, 1)})

    def forward(self, x: Tensor) -> Tensor:
        return self.model["head"](self.model["backbone"](x).relu())  # type: ignore[no-any-return]


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, number: int = 4) -> None:
    for _ in range(number):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()


def split(word: str) -> None:
    net = Net()
    own = [p for n, p in net.named_parameters() if n.startswith(word)]
    rest = [p for n, p in net.named_parameters() if not n.startswith(word)]
    steps(net, torch.optim.SGD([{"params": own, "lr": 0.01}, {"params": rest}], lr=0.1))


def test_a_word_that_no_name_begins_with() -> None:
    def program() -> None:
        net = Net()
        own = [p for n, p in net.named_parameters() if n.startswith("backbone")]
        rest = [p for n, p in net.named_parameters() if not n.startswith("backbone")]
        steps(net, torch.optim.SGD([{"params": own, "lr": 0.01}, {"params": rest}], lr=0.1))

    (finding,) = found(program)
    assert (finding.code, finding.confidence) == ("GL316", Confidence.HIGH)
    assert "own = " in watching.line(finding)


@pytest.mark.parametrize("word", ["model.backbone", "lora_"])  # the one is there, the other in no name at all
def test_words_that_may_be_right(word: str) -> None:
    assert found(lambda: split(word)) == []


def saves(*, other: bool) -> None:
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    trains = torch.optim.Adam(net.parameters(), lr=0.01) if other else optimizer
    steps(net, trains)
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, io.BytesIO())


def test_the_wrong_one_is_saved() -> None:
    (finding,) = found(lambda: saves(other=True))
    assert (finding.code, finding.confidence) == ("GL115", Confidence.HIGH)
    assert found(lambda: saves(other=False)) == []


def test_one_that_is_to_come() -> None:
    """Two phases, and a checkpoint of both after the first."""

    def program() -> None:
        net = Net()
        first, second = torch.optim.Adam(net.parameters()), torch.optim.SGD(net.parameters(), lr=0.1)
        steps(net, first)
        torch.save([first.state_dict(), second.state_dict()], io.BytesIO())
        steps(net, second)

    assert [finding for finding in found(program) if finding.confidence is Confidence.HIGH] == []
