"""What the watcher means without keeping it: torch swaps tensors under watch as it does without, and lets them go."""

from __future__ import annotations

import copyreg
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils import swap_tensors  # by name, before anything is watched

from gradcheck_lint import registry, watch
from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime.references import Others, Ref
from gradcheck_lint.runtime.session import Options, Session

RULES = registry.load(packs=False)


@pytest.fixture(autouse=True)
def swapping() -> Iterator[None]:
    """Modules keep their parameters, and swap what is in them, when they are converted or loaded."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
        self.unused = nn.Linear(3, 3)
        self.still = nn.Linear(4, 4).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(self.still(x))
        return result

    def trained(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]


def train(model: Net, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 2, 4, 4).to(model.unused.weight)).pow(2).mean().backward()
        optimizer.step()


def parts(kind: Any = torch.optim.SGD) -> tuple[Net, torch.optim.Optimizer]:
    model = Net()
    return model, kind(model.parameters(), lr=0.01)


def converted() -> list[Tensor]:
    model, optimizer = parts()
    train(model, optimizer, 6)
    model.to(torch.float64)
    train(model, optimizer, 30)
    model.to(torch.float32)
    train(model, optimizer, 6)
    return list(model.parameters())


def laid_out_anew() -> list[Tensor]:
    model, optimizer = parts(torch.optim.Adam)
    train(model, optimizer, 6)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(model, optimizer, 30)
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    train(model, optimizer, 6)
    return list(model.parameters())


def loaded() -> list[Tensor]:
    model, optimizer = parts(torch.optim.Adam)
    train(model, optimizer, 6)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer, 20)
    model.load_state_dict(state)
    train(model, optimizer, 6)
    return list(model.parameters())


def by_hand() -> list[Tensor]:
    model, optimizer = parts()
    train(model, optimizer, 6)
    for parameter in model.trained():
        swap_tensors(parameter, nn.Parameter(parameter.detach() * 0.5))
    train(model, optimizer, 30)
    return list(model.parameters())


def averages_for_evaluation() -> list[Tensor]:
    model, optimizer = parts()
    averaged = Net()
    pairs = list(zip(model.parameters(), averaged.parameters(), strict=True))
    for _ in range(20):
        train(model, optimizer, 2)
        for own, average in pairs:
            torch.utils.swap_tensors(own, average)
        with torch.no_grad():
            model(torch.ones(4, 2, 4, 4))
        for own, average in pairs:
            torch.utils.swap_tensors(own, average)
        with torch.no_grad():
            for own, average in pairs:
                average.mul_(0.9).add_(own, alpha=0.1)
    return [*model.parameters(), *averaged.parameters()]


def head_that_nobody_trains() -> list[Tensor]:
    model, optimizer = parts()
    head = nn.Linear(3, 2)
    for step in range(12):
        optimizer.zero_grad()
        head(model(torch.randn(4, 2, 4, 4))).pow(2).mean().backward()
        optimizer.step()
        if step in (2, 8):
            for parameter in head.parameters():
                parameter.grad = None
                swap_tensors(parameter, nn.Parameter(parameter.detach() * 2))
    return [*model.parameters(), *head.parameters()]


def frozen_in_between() -> list[Tensor]:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train(model, optimizer, 3)
    model.body[0].requires_grad_(False)
    for _ in range(20):
        train(model, optimizer, 1)
        for parameter in model.parameters():
            swap_tensors(parameter, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    return list(model.parameters())


def optimizers_built_again() -> list[Tensor]:
    model = Net()
    for _ in range(4):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        train(model, optimizer, 2)
        for parameter in model.trained():
            swap_tensors(parameter, nn.Parameter(parameter.detach() * 0.5))
    return list(model.parameters())


def states_that_are_swapped() -> list[Tensor]:
    model, optimizer = parts()
    train(model, optimizer, 6)
    state = model.state_dict()
    for value in state.values():
        swap_tensors(value, torch.zeros_like(value))
    train(model, optimizer, 6)
    return [*model.parameters(), *state.values()]


PROGRAMS = [
    converted,
    laid_out_anew,
    loaded,
    by_hand,
    averages_for_evaluation,
    head_that_nobody_trains,
    frozen_in_between,
    optimizers_built_again,
    states_that_are_swapped,
]


def made_by(program: Callable[[], list[Tensor]]) -> list[Tensor]:
    torch.manual_seed(0)
    return [*program(), torch.get_rng_state()]


@pytest.mark.parametrize("level", ["default", "deep"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_swapped_in_mid_run(program: Callable[[], list[Tensor]], level: str) -> None:
    plain = made_by(program)
    options = Options(everything=True, level=level, every=4, expect_frozen=("still",), least=Confidence.LOW)
    session = Session(RULES, options, lambda finding: None)
    session.start()
    try:
        made = made_by(program)
    finally:
        session.stop()
    assert session.record.problems == []
    assert sum(watched.steps for watched in session.record.optimizers) > 0
    assert [f.code for f in session.record.findings if f.confidence is Confidence.HIGH] == []
    assert len(plain) == len(made)
    for one, other in zip(plain, made, strict=True):
        assert one.dtype == other.dtype
        assert one.stride() == other.stride()
        assert torch.equal(one, other)


def test_swapped_when_the_watching_is_over() -> None:
    gc.disable()  # what is left over must not depend on it
    try:
        model, optimizer = parts()
        head = nn.Linear(3, 2)
        with watch(optimizer, model=model, on_finding="ignore", expect_frozen=["still"]):
            train(model, optimizer, 6)
            head(model(torch.randn(4, 2, 4, 4))).pow(2).mean().backward()
            optimizer.step()
        for parameter in head.parameters():
            parameter.grad = None
            swap_tensors(parameter, nn.Parameter(parameter.detach() * 2))
        model.to(torch.float64)
        train(model, optimizer, 2)
    finally:
        gc.enable()


def test_others_are_still_refused() -> None:
    model, optimizer = parts()
    ref = weakref.ref(model.unused.weight)
    with watch(optimizer, on_finding="ignore"):
        train(model, optimizer, 6)
        with pytest.raises(RuntimeError, match="weakref"):
            swap_tensors(model.unused.weight, nn.Parameter(torch.zeros(3, 3)))
    assert ref() is model.unused.weight


def test_only_ours_are_hidden_and_only_from_torch() -> None:
    tensor = torch.zeros(2)
    ours, theirs = Ref(tensor), weakref.ref(tensor)
    assert set(map(id, weakref.getweakrefs(tensor))) == {id(ours), id(theirs)}
    assert [id(ref) for ref in Others().getweakrefs(tensor)] == [id(theirs)]
    assert Others().WeakSet is weakref.WeakSet
    assert vars(torch.utils)["weakref"] is weakref
    assert vars(torch.utils)["copyreg"] is copyreg


def storages() -> int:
    """How many bytes lie behind all the tensors that there are."""
    gc.collect()
    found = {
        t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if type(t) is Tensor
    }
    found |= {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes()
        for p in gc.get_objects()
        if type(p) is nn.Parameter
    }
    return sum(found.values())


@pytest.mark.parametrize("level", ["default", "deep"])
def test_nothing_that_was_swapped_out_is_kept(level: str) -> None:
    with watch(level=level, every=4, on_finding="ignore", quiet=True):
        model, optimizer = parts()
        train(model, optimizer, 30)
        optimizer.zero_grad()
        before = storages()
        for _ in range(8):
            model.to(torch.float64)
            model.to(torch.float32)
            for parameter in model.parameters():
                swap_tensors(parameter, nn.Parameter(parameter.detach().clone()))
        assert storages() <= before  # less where garbage of other tests was collected
        train(model, optimizer, 3)
        kept = [
            weakref.ref(model),
            weakref.ref(optimizer),
            weakref.ref(model.body[0]),
            weakref.ref(model.body[0].weight),
        ]
        del model, optimizer, parameter
        gc.collect()
        assert [ref() for ref in kept] == [None] * len(kept)


def test_nothing_of_the_program_waits_for_a_collection_of_garbage() -> None:
    """A copy that is trained for one step is gone with it, as without a watch: no frame is kept in a circle."""
    model, optimizer = parts()

    def step() -> weakref.ref[Net]:
        optimizer.zero_grad()
        copy = Net()
        (model(torch.randn(4, 2, 4, 4)) - copy(torch.randn(4, 2, 4, 4))).pow(2).mean().backward()
        optimizer.step()
        return weakref.ref(copy)

    gc.collect()
    gc.disable()
    try:
        with watch(optimizer, quiet=True, on_finding="ignore", every=1, level="deep"):
            for _ in range(4):
                assert step()() is None
    finally:
        gc.enable()
