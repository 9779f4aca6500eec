"""Which masks come too late: of NaN that the derivative of an operation has in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.masked import masked_late
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

PROGRAM = """
import torch
from torch import nn
from torch.nn import functional as F
net = nn.Linear(2, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
criterion = nn.SmoothL1Loss(reduction="none")
for x, y in loader:
    out = net(x)
    mask = {mask}
    loss = {loss}
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.found = 0

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.found += sum(1 for _ in masked_late(timeline))


def _found(loss: str, mask: str = "~torch.isnan(y)") -> int:
    rule = _Asks()
    code = PROGRAM.format(loss=loss, mask=mask)
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return rule.found


@pytest.mark.parametrize("mask", ["~torch.isnan(y)", "~y.isnan()", "torch.isfinite(y)", "y == y"])
@pytest.mark.parametrize(
    "loss",
    [
        "criterion(out, y)[mask].mean()",
        "F.mse_loss(out, y, reduction='none')[mask].sum() / mask.sum()",
        "((out - y) ** 2)[mask].mean()",
        "(out - y).pow(2).masked_select(mask).mean()",
        "torch.where(mask, (out - y).square(), torch.zeros_like(out)).mean()",
    ],
)
def test_too_late(loss: str, mask: str) -> None:
    assert _found(loss, mask) == 1


@pytest.mark.parametrize(
    "loss",
    [
        "((out[mask] - y[mask]) ** 2).mean()",
        "criterion(out, torch.nan_to_num(y))[mask].mean()",
        "(out - y).abs()[mask].mean()",
        "F.l1_loss(out, y, reduction='none')[mask].mean()",
        "((out - torch.where(mask, y, 0.0)) ** 2)[mask].mean()",
        "((out - x) ** 2)[mask].mean()",
    ],
)
def test_in_time(loss: str) -> None:
    assert _found(loss) == 0


def test_a_mask_of_something_else() -> None:
    assert _found("((out - y) ** 2)[mask].mean()", "x == 0") == 0
