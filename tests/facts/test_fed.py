"""What a loss is fed with: the operation that decides about its numbers, and the losses that are met at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts import fed, shapes
from gradcheck_lint.facts.losses import DIFFERENCE, SOFTMAXES, Scale
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import models

class Split(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
    def forward(self, x):
        out = self.fc(x)
        return {"raw": out, "shares": out.softmax(1)}, torch.sigmoid(out)

def helper(value):
    return F.log_softmax(value, dim=1)

def headed(head):
    resnet = models.resnet18()
    resnet.fc = head
    return resnet

def loss_of(out, y):
    return nn.CrossEntropyLoss()(out, y)

net, column, split = nn.Linear(4, 3), nn.Linear(4, 1), Split()
seq = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
params = [*net.parameters(), *column.parameters(), *split.parameters(), *seq.parameters()]
optimizer = torch.optim.SGD(params, lr=0.1)
x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
"""


class _Asks(Rule):
    """Keeps what is found of each loss."""

    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.scales: list[Scale | None] = []
        self.names: list[str] = []
        self.shapes: list[tuple[shapes.Shape | None, shapes.Shape | None]] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for one in fed.computed(timeline):
            if one.name in SOFTMAXES or one.name == DIFFERENCE:
                continue
            found = fed.endings(one.input, timeline)
            self.scales.append(fed.scale(found))
            self.names.append(one.name.rpartition(".")[2])
            self.shapes.append((shapes.shape_of(one.input), shapes.shape_of(one.target)))


def asked(code: str) -> _Asks:
    asks = _Asks()
    whole = f"{HEAD}{code}\noptimizer.zero_grad()\nloss.backward()\noptimizer.step()\n"
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), whole.encode())], [asks])
    return asks


@pytest.mark.parametrize(
    ("given", "scale"),
    [
        ("net(x)", Scale.FREE),
        ("net(x) / 0.5", Scale.FREE),
        ("net(x)[:, 0:2].float()", Scale.FREE),
        ("F.softmax(net(x), dim=1)", Scale.SHARES),
        ("net(x).softmax(-1).view(8, 3)", Scale.SHARES),
        ("torch.sigmoid(net(x))", Scale.UNIT),
        ("torch.log(F.softmax(net(x), dim=1) + 1e-8)", Scale.LOG),
        ("F.softmax(net(x), dim=1).clamp(min=1e-6).log()", Scale.LOG),
        ("helper(net(x))", Scale.LOG),
        ("helper(net(x)).exp()", Scale.UNIT),
        ("seq(x)", Scale.SHARES),
        ("nn.DataParallel(seq)(x)", Scale.SHARES),
        ("split(x)[0]['raw']", Scale.FREE),
        ("split(x)[0]['shares']", Scale.SHARES),
        ("split(x)[1]", Scale.UNIT),
        ("torch.cat([seq(x), seq(x)])", Scale.SHARES),
        ("seq(x) if len(x) else seq(x + 1)", Scale.SHARES),
        ("seq(x) if len(x) else net(x)", None),
        ("torch.cat([seq(x), net(x)])", None),
        ("net(x) - net(x).logsumexp(1, keepdim=True)", None),
        ("models.resnet18()(x)", Scale.FREE),
        ("headed(nn.Sequential(nn.Linear(512, 3), nn.LogSoftmax(1)))(x)", Scale.LOG),
        ("headed(nn.Linear(512, 3))(x)", Scale.FREE),
        ("headed(unseen(3))(x)", None),
        ("models.inception_v3()(x)", None),
        ("seq(x) * 3", None),
        ("unseen(seq(x))", None),
        ("net(x).clamp(0, 1)", None),
        ("F.relu(net(x))", None),
        ("torch.log(net(x))", None),
    ],
)
def test_endings(given: str, scale: Scale | None) -> None:
    assert asked(f"loss = F.cross_entropy({given}, y)").scales == [scale]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("loss = F.cross_entropy(net(x), y)", ["cross_entropy"]),
        ("loss = loss_of(net(x), y)", ["CrossEntropyLoss"]),
        ("loss = sum([loss_of(net(x), y), F.nll_loss(helper(net(x)), y)])", ["nll_loss", "CrossEntropyLoss"]),
        ("loss = net(x).sum()\nwith torch.no_grad():\n    F.cross_entropy(net(x), y)", []),
        ("loss = net(x).pow(2).mean()", []),
    ],
)
def test_which_losses_are_met(code: str, names: list[str]) -> None:
    assert sorted(asked(code).names) == sorted(names)


def test_one_place_may_compute_one_loss_or_another() -> None:
    code = "criterion = nn.CrossEntropyLoss() if len(x) else nn.MSELoss()\nloss = criterion(net(x), y)"
    assert sorted(asked(code).names) == ["CrossEntropyLoss", "MSELoss"]


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("column(x)", (8, 1)),
        ("nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1))(x)", (8, 1)),
        ("column(x).squeeze()", (8,)),
        ("column(x).squeeze(-1)", (8,)),
        ("column(x).view(-1)", (None,)),
        ("column(x).unsqueeze(0)", (1, 8, 1)),
        ("column(x).sum(1)", (8,)),
        ("column(x) * 2 - 1", (8, 1)),
        ("torch.relu(column(x))", (8, 1)),
        ("torch.zeros_like(column(x))", (8, 1)),
        ("torch.tensor([1.0, 2.0])", (2,)),
        ("torch.tensor([[1.0], [2.0]])", (2, 1)),
        ("torch.zeros((3, 1))", (3, 1)),
        ("torch.ones(len(x))", (None,)),
        ("column(x)[:, 0]", (8,)),
        ("column(x)[:, 0:1]", (8, None)),
        ("x[2:6, 0]", (None,)),
        ("x[:, None, 0]", (8, 1)),
        ("x @ torch.randn(4)", (8,)),
        ("torch.matmul(x, torch.randn(4, 1)) + 0.1 * torch.randn(8, 1)", (8, 1)),
        ("(x.sum(1) > 0).float()", (8,)),
        ("column(x) - x.sum(1)", (8, 8)),
        ("x[y]", (None, 4)),
        ("x[unseen(y)]", None),
        ("column(x) - net(x)", (8, 3)),
        ("x - net(x)", None),
        ("column(unseen(x))", None),
        ("torch.zeros(x.shape)", None),
        ("unseen(column(x))", None),
    ],
)
def test_shapes(value: str, shape: shapes.Shape | None) -> None:
    assert asked(f"loss = F.mse_loss({value}, y)").shapes == [(shape, (8,))]


@pytest.mark.parametrize(
    ("loader", "shape"),
    [
        ("DataLoader(TensorDataset(x, torch.randn(8)), batch_size=4)", (None,)),
        ("DataLoader(TensorDataset(x, torch.randn(8, 1)), 4, shuffle=True)", (None, 1)),
        ("DataLoader(TensorDataset(x, torch.randn(8)))", None),
        ("DataLoader(TensorDataset(x, torch.randn(8)), batch_size=1)", None),
        ("DataLoader(unseen(x), batch_size=4)", None),
        ("unseen(TensorDataset(x, torch.randn(8)))", None),
    ],
)
def test_shapes_of_batches(loader: str, shape: shapes.Shape | None) -> None:
    code = f"for a, b in {loader}:\n    loss = F.mse_loss(a, b)"
    assert [target for _, target in asked(code).shapes] == [shape]


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        ((8, 1), (8,), True),
        ((8,), (8, 1), True),
        ((None, 1), (None,), True),
        ((8, 1), (1,), False),
        ((1, 1), (8,), False),
        ((8, 2), (8,), False),
        ((8, 1), (8, 1), False),
        ((8,), (8,), False),
        (None, (8,), False),
    ],
)
def test_broadcast(one: shapes.Shape | None, other: shapes.Shape | None, found: bool) -> None:
    assert (shapes.broadcast(one, other) is not None) is found
