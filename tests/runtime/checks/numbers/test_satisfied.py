"""A loss that is exactly 0 leaves nothing to be learned: a hinge that is satisfied, a reward that has not come yet."""

from __future__ import annotations

import torch
from torch import nn

from gradcheck_lint.finding import Confidence
from tests.runtime.watching import told


def hinge(margin: float) -> list[tuple[str, int | None, Confidence]]:
    """A training in which the loss is over what exceeds a margin, but for the weights the first time it is taken."""

    def program() -> None:
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(80):
            optimizer.zero_grad()
            out = net(torch.rand(8, 3))
            (torch.relu(out - 50).mean() + margin).backward()
            optimizer.step()

    return [one for one in told(program) if one[0] == "GL802"]


def test_a_satisfied_hinge() -> None:
    assert [confidence for _, _, confidence in hinge(0.0)] == [Confidence.MEDIUM]


def test_a_loss_that_is_not_zero() -> None:
    assert [confidence for _, _, confidence in hinge(1.0)] == [Confidence.HIGH]
