"""Averages of a trained network: those that follow, those that are written and stay as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
import watching
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL211", "GL215"), least=Confidence.MEDIUM)


class Average:
    def __init__(self, net: nn.Module, decay: float = 0.9) -> None:
        self.net = net
        self.mean = copy.deepcopy(net).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def move(self) -> None:
        for mean, p in zip(self.mean.parameters(), self.net.parameters(), strict=True):
            mean.mul_(self.decay).add_(p, alpha=1 - self.decay)


def train(net: nn.Module, after: Callable[[], object], steps: int = 30, rate: float = 0.1) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(torch.randn(16, 3) + 1) - 1).pow(2).mean().backward()
        optimizer.step()
        after()


def test_an_average_of_a_copy() -> None:
    def program() -> None:
        net = nn.Linear(3, 1)
        average = Average(copy.deepcopy(net))
        train(net, average.move)

    (finding,) = found(program)
    assert (finding.code, finding.step, finding.confidence) == ("GL215", 20, Confidence.HIGH)


def test_an_average_follows() -> None:
    def program() -> None:
        net = nn.Linear(3, 1)
        average = Average(net, decay=0.9999)
        train(net, average.move)

    assert found(program) == []


def test_a_network_that_is_hardly_trained() -> None:
    def program() -> None:
        net = nn.Linear(3, 1)
        average = Average(net, decay=0.999)
        train(net, average.move, rate=1e-7)

    assert found(program) == []


def test_a_target_that_is_copied_now_and_then() -> None:
    def program() -> None:
        net = nn.Linear(3, 1)
        target = copy.deepcopy(net).requires_grad_(False)
        count = 0

        def after() -> None:
            nonlocal count
            count += 1
            if count % 100 == 0:
                target.load_state_dict(net.state_dict())

        train(net, after)

    assert found(program) == []


def test_an_anchor_that_is_put_back_each_time() -> None:
    """It stays as it is because it is meant to."""

    def program() -> None:
        net = nn.Linear(3, 1)
        anchor = copy.deepcopy(net).requires_grad_(False)
        start = copy.deepcopy(net.state_dict())
        train(net, lambda: anchor.load_state_dict(start))

    assert [f for f in found(program) if f.confidence is Confidence.HIGH] == []


def test_an_average_in_half_precision() -> None:
    def program() -> None:
        net = nn.Linear(3, 1)
        for p in net.parameters():
            nn.init.constant_(p, 1.5)
        mean = copy.deepcopy(net).requires_grad_(False).bfloat16()

        @torch.no_grad()
        def after() -> None:
            for m, p in zip(mean.parameters(), net.parameters(), strict=True):
                m.lerp_(p.bfloat16(), 1e-4)

        train(net, after)

    (finding,) = found(program)
    assert (finding.code, finding.confidence) == ("GL215", Confidence.MEDIUM)
    assert "bfloat16" in finding.why


def norm() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))


def test_buffers_that_are_copied_from_themselves() -> None:
    def program(*, right: bool) -> None:
        net = norm()
        mean = copy.deepcopy(net).requires_grad_(False)

        @torch.no_grad()
        def after() -> None:
            for m, p in zip(mean.parameters(), net.parameters(), strict=True):
                m.lerp_(p, 0.1)
            for name, buffer in (net if right else mean).named_buffers():
                mean.get_buffer(name).copy_(buffer)

        train(net, after)

    (finding,) = found(lambda: program(right=False))
    assert (finding.code, finding.step) == ("GL211", 5)
    assert "copy_" in watching.line(finding)
    assert found(lambda: program(right=True)) == []


def swa(*, fresh: bool, close: bool = False) -> None:
    net = norm()
    mean = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9) if close else None)
    train(net, lambda: mean.update_parameters(net))
    data = [torch.randn(16, 3) + 1 for _ in range(4)]
    if fresh:
        update_bn(data, mean)
    mean.eval()
    with torch.no_grad():
        mean(data[0])


def test_statistics_of_the_network() -> None:
    (finding,) = found(lambda: swa(fresh=False))
    assert finding.code == "GL215"
    assert watching.line(finding) == "mean.eval()"


def test_statistics_of_its_own() -> None:
    assert found(lambda: swa(fresh=True)) == []
    assert found(lambda: swa(fresh=False, close=True)) == []  # what follows closely has nearly the same
