"""What a loop keeps of each round together with a graph that backward has used."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint.facts.kept import kept
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
total, listed, named = 0.0, [], {{}}
for i, (x, y) in enumerate(loader):
    out = net(x)
    loss = F.mse_loss(out, y)
    opt.zero_grad()
    loss.backward({how})
    opt.step()
    {keeping}
{after}
"""


class _Asks(Rule):
    code, slug = "XX001", "asks"

    def __init__(self) -> None:
        self.answers: list[bool] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.answers += [found.sure for found in kept(timeline)]


def _answers(keeping: str, how: str = "", after: str = "") -> list[bool]:
    rule = _Asks()
    code = PROGRAM.format(keeping=keeping, how=how, after=after)
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return rule.answers


@pytest.mark.parametrize(
    "keeping",
    [
        "total += loss",
        "total = total + 2 * loss",
        "total += loss * len(x)",
        "listed.append(loss)",
        "listed += [loss]",
        "listed.append({'loss': loss}['loss'])",
        "listed.append(out)",
        "listed.append((loss + 1).sqrt())",
        "named[i] = loss",
    ],
)
def test_kept_for_certain(keeping: str) -> None:
    assert _answers(keeping) == [True]


@pytest.mark.parametrize(
    "keeping",
    [
        "total += loss.item()",
        "total += float(loss)",
        "total += loss.detach() * len(x)",
        "listed.append(loss.detach())",
        "listed.append((out > 0).sum())",
        "listed.append(x)",
        "named['last'] = loss",
        "total = loss",
        "listed = [loss]",
        "with torch.no_grad(): total += loss",
        "listed.append(loss); listed.clear()",
        "listed.append(loss); del listed[:]",
        "listed.append(loss); listed = listed[-5:]",
        "listed.append(net)",
    ],
)
def test_nothing_is_kept(keeping: str) -> None:
    assert _answers(keeping) == []


@pytest.mark.parametrize(
    ("keeping", "how", "after", "expected"),
    [
        pytest.param("total += loss", "retain_graph=True", "", [False], id="the graph is still there"),
        pytest.param("if i % 10 == 0: listed.append(loss)", "", "", [False], id="not in each round"),
        pytest.param("total += loss", "retain_graph=True", "total.backward()", [], id="differentiated"),
    ],
)
def test_unsure(keeping: str, how: str, after: str, expected: list[bool]) -> None:
    assert _answers(keeping, how, after) == expected
