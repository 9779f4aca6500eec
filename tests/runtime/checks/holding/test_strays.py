"""Parameters that nobody holds: what comes after the last step takes nothing back of what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import torch
from torch import nn

from gradcheck_lint.finding import Confidence
from tests.runtime.watching import codes, found

Net = nn.Sequential


def half_held(
    after: Callable[[Net], object] = lambda net: None,
    between: Callable[[Net, int], object] = lambda net, step: None,
    steps: int = 12,
) -> list[str]:
    """The findings of a training of the second layer alone, through the first."""

    def program() -> None:
        net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        optimizer = torch.optim.SGD(net[2].parameters(), lr=0.05)
        x = torch.randn(16, 3)
        for step in range(steps):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
            between(net, step)
        after(net)

    return codes(found(program, least=Confidence.MEDIUM))


@pytest.mark.parametrize(
    "after",
    [
        lambda net: None,
        lambda net: net.double(),
        lambda net: net.half().float(),
        lambda net: net.to(torch.bfloat16).eval(),
        lambda net: net.cpu(),
        lambda net: net.load_state_dict(deepcopy(net.state_dict())),
        lambda net: net.load_state_dict({key: value * 2 for key, value in net.state_dict().items()}),
    ],
    ids=["nothing", "double", "half and back", "bfloat16", "cpu", "the same state", "another state"],
)
@pytest.mark.parametrize("steps", [12, 130])
def test_what_comes_after_the_last_step(after: Callable[[Net], object], steps: int) -> None:
    assert half_held(after, steps=steps) == ["GL207"]


def test_moved_and_moved_back_in_each_step() -> None:
    assert half_held(between=lambda net, step: net.double().float()) == ["GL207"]


@torch.no_grad()
def _follow(net: Net, step: int) -> None:
    if step == 6:
        net[0].weight.mul_(0.9)
        net[0].bias.zero_()


def _follow_by_loading(net: Net, step: int) -> None:
    if step == 11:
        net[0].load_state_dict({key: value * 0.9 for key, value in net[0].state_dict().items()})


def _all_are_loaded(net: Net, step: int) -> None:
    if step in (5, 11):
        net.load_state_dict({key: value * 0.9 for key, value in net.state_dict().items()})


def _other_values_put_in(net: Net, step: int) -> None:
    if step == 11:
        net._apply(lambda tensor: tensor * 0.9)


@pytest.mark.parametrize("between", [_follow, _follow_by_loading, _all_are_loaded, _other_values_put_in])
def test_somebody_else_moves_them(between: Callable[[Net, int], object]) -> None:
    """A copy that follows another network, weights that come from a server: somebody does use the parameters."""
    assert half_held(between=between) == []


def test_written_and_then_moved() -> None:
    """Moving a module does not hide that somebody had written to it."""

    def between(net: Net, step: int) -> None:
        _follow(net, step)
        net.double().float()

    assert half_held(between=between) == []


# Copies that live for one step


def adapted(net: nn.Module, x: torch.Tensor) -> nn.Module:
    """A copy that was trained a little, by hand."""
    fast = deepcopy(net)
    for _ in range(2):
        gradients = torch.autograd.grad(fast(x).square().mean(), list(fast.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(fast.parameters(), gradients, strict=True):
                parameter -= 0.01 * gradient
    return fast


class Learner(nn.Module):
    """Keeps the copy in an attribute; `back`: brings its gradients back to the weights from which it was made."""

    def __init__(self, back: bool, tasks: int = 3) -> None:
        super().__init__()
        self.slow = nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.slow.parameters(), lr=0.05)
        self.back, self.tasks = back, tasks

    def step(self) -> None:
        self.optimizer.zero_grad()
        for _ in range(self.tasks):
            x = torch.randn(8, 3)
            self.fast = adapted(self.slow, x)
            self.fast(x).square().mean().backward()
            if self.back:
                for slow, fast in zip(self.slow.parameters(), self.fast.parameters(), strict=True):
                    slow.grad = fast.grad if slow.grad is None else slow.grad + fast.grad
        self.optimizer.step()


@pytest.mark.parametrize("tasks", [1, 3])
def test_copies_for_one_step(tasks: int) -> None:
    def program() -> None:
        learner = Learner(back=True, tasks=tasks)
        for _ in range(30):
            learner.step()

    assert codes(found(program, least=Confidence.MEDIUM)) == []


@pytest.mark.parametrize("tasks", [1, 3])
def test_copies_whose_gradients_go_nowhere(tasks: int) -> None:
    """Nothing has taken the place of the model; the steps find no gradients, and that is said once."""

    def of_a_class() -> None:
        learner = Learner(back=False, tasks=tasks)
        for _ in range(12):
            learner.step()

    def of_a_loop() -> None:
        slow = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(slow.parameters(), lr=0.05)
        for _ in range(12):
            optimizer.zero_grad()
            for _ in range(tasks):
                x = torch.randn(8, 3)
                fast = adapted(slow, x)
                fast(x).square().mean().backward()
            optimizer.step()

    for program in (of_a_class, of_a_loop):
        assert codes(found(program, least=Confidence.MEDIUM)) == ["GL104"]


def test_a_layer_that_is_added_and_stays() -> None:
    def program() -> None:
        net = nn.Sequential(nn.Linear(3, 3))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        for step in range(12):
            if step == 4:
                net.append(nn.Linear(3, 1))
            optimizer.zero_grad()
            net(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()

    assert codes(found(program, least=Confidence.MEDIUM)) == ["GL202"]


@pytest.mark.parametrize(
    "write",
    [
        lambda old: old.data.copy_(0.9 * old.data),
        lambda old: old.data.mul_(0.9).add_(0.1),
        lambda old: old.data.numpy().__setitem__(slice(None), 0.5),
        lambda old: old.detach().lerp_(torch.ones_like(old), 0.1),
    ],
    ids=["copy", "in place", "numpy", "detached"],
)
def test_a_network_that_the_program_writes_by_hand(write: Callable[[nn.Parameter], object]) -> None:
    """Writes through `.data` change neither the version of a tensor nor where its memory is."""

    def between(net: Net, step: int) -> None:
        for parameter in net[0].parameters():
            write(parameter)

    assert half_held(between=between) == []


def follow(net: nn.Module, other: nn.Module) -> None:
    for new, old in zip(net.parameters(), other.parameters(), strict=True):
        old.data.copy_(new.data)


def test_a_network_that_would_be_written_later_is_doubtful() -> None:
    """As a target is that stands still for many steps; this module has code that writes one."""

    def program(width: int, every: int) -> None:
        net, other = nn.Linear(4, 2), nn.Linear(4, width)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for step in range(10):
            x = torch.randn(8, 4)
            optimizer.zero_grad()
            (net(x).sum(1) - other(x + 0.1).sum(1)).pow(2).mean().backward()
            optimizer.step()
            if step % every == every - 1:
                follow(net, other)

    assert found(lambda: program(width=2, every=1)) == []
    for width, confidence in ((2, Confidence.MEDIUM), (3, Confidence.HIGH)):  # a twin, and none
        (finding,) = found(lambda width=width: program(width, every=99), least=Confidence.MEDIUM)  # type: ignore[misc]
        assert (finding.code, finding.confidence) == ("GL207", confidence)


class Counted(nn.Linear):
    asked = 0

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        Counted.asked += 1
        return super().parameters(recurse)


def test_whether_layers_are_twins_is_asked_once_for_all_of_them() -> None:
    """Each of many forgotten layers was compared with all that are trained."""

    def asked(layers: int) -> int:
        def program() -> None:
            held, forgotten = (nn.Sequential(*(Counted(2, 2) for _ in range(layers))) for _ in range(2))
            net = nn.Sequential(held, forgotten)
            optimizer = torch.optim.SGD(list(held.parameters()), lr=0.01)
            for _ in range(4):
                optimizer.zero_grad()
                net(torch.ones(2, 2)).mean().backward()
                optimizer.step()

        Counted.asked = 0
        found(program)
        return Counted.asked

    assert 0 < asked(20) < 3 * asked(10)
