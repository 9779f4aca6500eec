"""What should be trained, and is not."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL408", "GL304"), least=Confidence.MEDIUM)


class Net(nn.Module):
    def __init__(self, *, cut: bool = False) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 1)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.body(x).tanh()
        return self.head(hidden.detach() if self.cut else hidden)  # type: ignore[no-any-return]


def fit(net: nn.Module, parts: nn.Module | None = None) -> None:
    optimizer = torch.optim.SGD((parts or net).parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        net(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()


def right() -> None:
    fit(Net())


def frozen() -> None:
    net = Net()
    net.body.requires_grad_(False)
    fit(net)


def unheld() -> None:
    net = Net()
    fit(net, net.head)


def cut() -> None:
    fit(Net(cut=True))


@pytest.mark.parametrize(
    ("program", "words"),
    [(frozen, "does not require grad"), (unheld, "is held by no optimizer"), (cut, "has had no gradient")],
)
def test_expected(program: object, words: str) -> None:
    told = [f for f in found(program, expect_trained=("body",)) if "expect_trained" in f.label]  # type: ignore[arg-type]
    assert [(f.code, f.confidence) for f in told] == [("GL408", Confidence.HIGH)]
    assert words in told[0].label


def test_a_name_that_nothing_has() -> None:
    (finding,) = found(right, expect_trained=("encoder",))
    assert "no parameter has the name" in finding.message


def test_trained_as_expected() -> None:
    assert found(right, expect_trained=("body", "head")) == []
    assert found(frozen, expect_trained=("head",)) == []


class Adapted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base, self.score = nn.Linear(3, 4), nn.Linear(4, 1)
        self.lora_A, self.lora_B = nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False)
        self.base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.score((self.base(x) + self.lora_B(self.lora_A(x))).tanh())  # type: ignore[no-any-return]


def test_adapters_that_are_frozen() -> None:
    def program(*, right: bool) -> None:
        net = Adapted()
        if not right:
            net.lora_A.requires_grad_(False)
            net.lora_B.requires_grad_(False)
        fit(net)

    told = [f for f in found(lambda: program(right=False)) if "adapters" in f.message]
    assert [(f.code, f.confidence) for f in told] == [("GL304", Confidence.MEDIUM)]
    assert [f for f in found(lambda: program(right=True)) if "adapters" in f.message] == []
