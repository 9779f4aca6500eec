"""What is left of an accumulation window when an epoch ends, and windows that are larger for another reason."""

from __future__ import annotations

from functools import partial

import torch
import watching
from torch import nn

from gradcheck_lint.finding import Confidence

found = partial(watching.found, rules=watching.rules("GL111", "GL407"), least=Confidence.MEDIUM)


def build() -> tuple[nn.Module, torch.optim.Optimizer]:
    net = nn.Linear(3, 1)
    return net, torch.optim.SGD(net.parameters(), lr=0.05)


def by_batch(*, last: bool = False, cleared: bool = False, count: int = 10) -> None:
    net, optimizer = build()
    for _ in range(6):
        if cleared:
            optimizer.zero_grad()
        for i, x in enumerate(torch.randn(count, 4, 3)):
            (net(x).pow(2).mean() / 4).backward()
            if (i + 1) % 4 == 0 or (last and i + 1 == count):
                optimizer.step()
                optimizer.zero_grad()


def by_sample() -> None:
    """Each epoch ends with a small batch, and a step is made of sixteen samples or more."""
    net, optimizer = build()
    seen = 0
    for _ in range(6):
        for count in (4, 4, 4, 4, 4, 4, 4, 4, 4, 2):
            net(torch.randn(count, 3)).pow(2).sum().backward()
            seen += count
            if seen >= 16:
                optimizer.step()
                optimizer.zero_grad()
                seen = 0


def by_counter() -> None:
    net, optimizer = build()
    step = 0
    for _ in range(6):
        for x in torch.randn(10, 4, 3):
            step += 1
            (net(x).pow(2).mean() / 4).backward()
            if step % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()


def test_a_window_that_spills() -> None:
    (finding,) = found(by_batch)
    assert (finding.code, finding.step, finding.confidence) == ("GL111", 5, Confidence.HIGH)
    assert watching.line(finding) == "optimizer.step()"


def test_windows_that_do_not() -> None:
    for program in (partial(by_batch, last=True), partial(by_batch, count=12), by_sample, by_counter):
        assert found(program) == []
    assert all("leak into the next" not in finding.message for finding in found(partial(by_batch, cleared=True)))


def recurrent(*, detached: bool = False, growing: bool = False) -> None:
    cell, head = nn.GRUCell(3, 4), nn.Linear(4, 1)
    optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.05)
    for _ in range(3):
        state, total = torch.zeros(2, 4), torch.zeros(())
        optimizer.zero_grad()
        for x in torch.randn(6, 2, 3):
            state = cell(x, state)
            loss = head(state).pow(2).mean()
            total = total + loss
            (total if growing else loss).backward(retain_graph=True)
            if detached:
                state = state.detach()
        optimizer.step()


def test_a_graph_that_grows_from_backward_to_backward() -> None:
    (finding,) = found(recurrent)
    assert (finding.code, finding.confidence) == ("GL407", Confidence.HIGH)
    assert "retain_graph" in watching.line(finding)


def test_graphs_that_are_cut() -> None:
    assert found(partial(recurrent, detached=True)) == []


def test_a_running_total_is_another_mistake() -> None:
    assert found(partial(recurrent, growing=True)) == []
