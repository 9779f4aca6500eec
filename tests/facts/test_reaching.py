"""What a backward reaches, and what cuts it off: answers for one loss, found by walking back from it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint.facts.reach import Reach, reaching, terms
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from elsewhere import magic

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x, cut=False):
        out = self.layer(x)
        return out.detach() if cut else out

class Loss(nn.Module):
    def forward(self, out, y):
        return F.mse_loss(out.data, y)

def plain(out, y):
    return F.mse_loss(out, y)

def cutting(out, y):
    return F.mse_loss(torch.tensor(out.tolist()), y)

@torch.no_grad()
def silent(out, y):
    return F.mse_loss(out, y)

def train(loader, given, unknown):
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    for x, y in loader:
        out = model(x)
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.reached: list[Reach] = []
        self.apart: list[list[Answer]] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        walk = reaching(timeline)
        for event in timeline.events(Backward):
            self.reached.append(walk.of(event.subject))
            self.apart.append([walk.of(term.value).grad for term in terms(event.subject)])


def _asked(body: str) -> _Asks:
    rule = _Asks()
    code = HEAD + "".join(f"        {line}\n" for line in dedent(body).strip().splitlines())
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return rule


def _reach(body: str) -> Reach:
    return _asked(body).reached[-1]


@pytest.mark.parametrize(
    ("loss", "grad", "certain"),
    [
        ("F.mse_loss(out, y)", YES, True),
        ("plain(out, y)", YES, True),
        ("nn.MSELoss()(out, y)", YES, True),
        ("sum([out.mean(), torch.zeros(())])", YES, True),
        ("{'a': out.mean()}['a']", YES, True),
        ("torch.stack([out.mean(), out.sum()]).mean()", YES, True),
        ("F.mse_loss(out.detach(), y)", NO, True),
        ("F.mse_loss(out.data, y)", NO, True),
        ("F.mse_loss(model(x, cut=True), y)", NO, True),
        ("Loss()(out, y)", NO, True),
        ("cutting(out, y)", NO, True),
        ("silent(out, y)", NO, True),
        ("torch.tensor([out.mean(), out.sum()]).sum()", NO, True),
        ("torch.from_numpy(np.square(out.detach().numpy())).mean()", NO, True),
        ("(out.argmax(1) != y).float().mean()", NO, True),
        ("out.max(1)[1].float().mean()", NO, True),
        ("torch.topk(out, 1).indices.float().mean()", NO, True),
        ("out.max(1)[0].mean()", YES, True),
        ("F.mse_loss(out.detach(), given)", NO, False),  # a parameter of the function may carry a graph
        ("F.mse_loss(out.detach(), given['y'])", NO, True),
        ("magic(out)", MAYBE, False),
        ("magic(out).data.sum()", MAYBE, False),  # it need not be a tensor
        ("getattr(torch, given)(out, y).sum()", MAYBE, False),
        ("F.mse_loss(out.detach(), y) + unknown(x)", MAYBE, False),
        ("F.mse_loss(out.detach(), y) + sum(p.norm() for p in model.parameters())", YES, True),
    ],
)
def test_what_requires_grad(loss: str, grad: Answer, certain: bool) -> None:
    found = _reach(f"loss = {loss}\nloss.backward()")
    assert (found.grad, found.certain) == (grad, certain)


def test_where_paths_meet_it_is_what_all_of_them_say() -> None:
    cut = "if given:\n    loss = {}\nelse:\n    loss = out.item() * torch.ones(())\nloss.backward()"
    assert _reach(cut.format("out.detach().mean()")).grad is NO
    assert _reach(cut.format("out.mean()")).grad is MAYBE


def test_what_is_added_up_in_a_loop_has_the_graph_of_what_is_added() -> None:
    total = "total = {}\nfor _ in range(3):\n    total += F.mse_loss(model(x), y){}\ntotal.backward()"
    assert _reach(total.format("0", "")).grad is YES
    assert _reach(total.format("torch.zeros(())", "")).grad is YES
    assert _reach(total.format("torch.zeros(())", ".detach()")).grad is NO


def test_the_operation_that_cut_it_off_is_told() -> None:
    found = _reach("hidden = out * 2\nhidden = hidden.detach()\nloss = hidden.mean()\nloss.backward()")
    (cut,) = found.cuts
    assert cut.name == "detach"
    assert cut.sure
    assert not cut.off
    assert cut.place is not None
    assert cut.place.node is not None


def test_blocks_in_which_nothing_is_recorded_cut_off() -> None:
    found = _reach("with torch.no_grad():\n    out = model(x)\nF.mse_loss(out, y).backward()")
    assert found.grad is NO
    assert found.cuts[0].off


def test_what_is_written_into_a_tensor_is_a_part_of_it() -> None:
    assert _reach("row = torch.zeros(2)\nrow[0] = out.mean()\nrow.sum().backward()").grad is YES
    assert _reach("row = torch.zeros(2)\nrow.copy_(out.mean(0).detach())\nrow.sum().backward()").grad is NO


def test_what_lies_behind_an_operation_without_a_derivative_alone() -> None:
    found = _reach("torch.round(out).sum().backward()")
    assert found.numb
    assert not found.met
    mixed = _reach("(torch.round(out) + out).sum().backward()")
    assert mixed.met
    assert not mixed.numb


@pytest.mark.parametrize(
    ("loss", "apart"),
    [
        ("out.mean() + out.detach().sum()", [YES, NO]),
        ("out.mean() - 0.1 * (out.sum() + out.item())", [YES, YES, NO]),
        ("sum([out.mean(), out.detach().sum()])", [YES, NO]),
        ("torch.stack([out.mean(), out.detach().sum()]).mean()", [YES, NO]),
        ("out.mean()", [YES]),
        ("out.mean() * out.detach().sum()", [YES]),
    ],
)
def test_the_terms_of_a_sum_are_kept_apart(loss: str, apart: list[Answer]) -> None:
    assert _asked(f"loss = {loss}\nloss.backward()").apart[-1] == apart
