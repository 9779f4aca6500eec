"""Checkpoints that are restored, in right orders and wrong ones."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import Tensor, nn
from torch.optim import Adam, Optimizer, lr_scheduler

from gradcheck_lint.finding import Confidence

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of")
found = partial(watching.found, rules=watching.rules("GL213"))
HERE = ("red", "green", "blue")
THERE = ("blue", "red", "green")
Build = Callable[[nn.Module], Optimizer]
Schedule = Callable[[Optimizer], Any]


class Net(nn.Module):
    def __init__(self, names: Iterable[str] = HERE) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(4, 4) for name in names})

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layers[name](x).tanh() for name in sorted(self.layers)]).sum(0)


def adam(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=0.01)


def train(model: nn.Module, optimizer: Optimizer, scheduler: Any = None) -> None:
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def saved(build: Build = adam, schedule: Schedule | None = None, names: Iterable[str] = HERE) -> dict[str, Any]:
    model = Net(names)
    optimizer = build(model)
    scheduler = schedule(optimizer) if schedule is not None else None
    train(model, optimizer, scheduler)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    if scheduler is not None:
        state["scheduler"] = scheduler.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file)  # type: ignore[no-any-return]


# Order


def in_another_order() -> None:
    checkpoint, model = saved(), Net(THERE)
    optimizer = adam(model)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)


def optimizer_first() -> None:
    checkpoint, model = saved(), Net(THERE)
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    model.load_state_dict(checkpoint["model"])
    train(model, optimizer)


def behind_a_prefix() -> None:
    checkpoint, model = saved(), Net(THERE)
    checkpoint["model"] = {f"module.{key}": value for key, value in checkpoint["model"].items()}
    optimizer = Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=0.01)
    model.load_state_dict({key.removeprefix("module."): value for key, value in checkpoint["model"].items()})
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)


@pytest.mark.parametrize("program", [in_another_order, optimizer_first, behind_a_prefix])
def test_state_for_other_parameters(program: Callable[[], object]) -> None:
    (finding,) = found(program)
    assert finding.confidence is Confidence.HIGH
    assert "of 6 get what belongs to others: `layers.blue.weight` that of `layers.red.weight`" in finding.label


def test_names_of_parameters_are_compared() -> None:
    def named(model: nn.Module) -> Optimizer:
        return Adam(model.named_parameters(), lr=0.01)

    try:
        named(Net())
    except TypeError:
        pytest.skip("torch before 2.6 wants parameters without names")

    def program(names: Iterable[str]) -> None:
        checkpoint, model = saved(named), Net(names)
        optimizer = named(model)
        optimizer.load_state_dict(checkpoint["optimizer"])
        train(model, optimizer)

    assert found(lambda: program(HERE)) == []
    (finding,) = found(lambda: program(THERE))
    assert finding.confidence is Confidence.HIGH


def two_files() -> None:
    states = list(saved().values())
    model = Net(THERE)
    optimizer = adam(model)
    for thing in (model, optimizer):
        thing.load_state_dict(states.pop(0))
    train(model, optimizer)


def groups_of_lists() -> None:
    def build(model: nn.Module) -> Optimizer:
        wide, narrow = ([p for p in model.parameters() if (p.ndim > 1) is large] for large in (True, False))
        return torch.optim.AdamW([{"params": wide}, {"params": narrow, "weight_decay": 0.0}], lr=0.01)

    checkpoint, model = saved(build), Net(THERE)
    optimizer = build(model)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)


def two_variables_of_a_module() -> None:
    space: dict[str, Any] = {"saved": saved, "Net": Net, "adam": adam, "train": train, "THERE": THERE}
    exec(
        """
weights, optimizer_state = saved().values()
model = Net(THERE)
optimizer = adam(model)
model.load_state_dict(weights)
optimizer.load_state_dict(optimizer_state)
train(model, optimizer)
""",
        space,
    )


@pytest.mark.parametrize("program", [two_files, two_variables_of_a_module, groups_of_lists])
def test_less_sure(program: Callable[[], object]) -> None:
    assert found(program) == []
    (finding,) = found(program, least=Confidence.MEDIUM)
    assert "belongs to others" in finding.label


# The rate


def linear(optimizer: Optimizer) -> Any:
    return lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 10)


def resumed(schedule: Schedule, *, late: bool, rate: float = 0.0) -> None:
    checkpoint, model = saved(schedule=schedule), Net()
    optimizer = adam(model)
    early = None if late else schedule(optimizer)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler = early or schedule(optimizer)
    scheduler.load_state_dict(checkpoint["scheduler"])
    for group in optimizer.param_groups if rate else ():
        group["lr"] = rate
    train(model, optimizer, scheduler)


SCHEDULES: list[Schedule] = [
    linear,
    lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5**epoch),
    lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20),
    lambda optimizer: lr_scheduler.SequentialLR(
        optimizer, [linear(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)], [5]
    ),
]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_scheduler_that_is_built_too_late(schedule: Schedule) -> None:
    (finding,) = found(lambda: resumed(schedule, late=True))
    assert (finding.step, finding.confidence) == (1, Confidence.HIGH)
    assert "the checkpoint has" in finding.label
    assert found(lambda: resumed(schedule, late=False)) == []


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.1),
        lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 20),
        lr_scheduler.PolynomialLR,
    ],
)
def test_scheduler_that_leaves_the_rate_as_it_is_may_come_late(schedule: Schedule) -> None:
    assert found(lambda: resumed(schedule, late=True)) == []


# Another optimizer


def test_optimizer_that_is_built_again_is_not_told_with_high_confidence() -> None:
    def program() -> None:
        checkpoint, model = saved(), Net()
        optimizer = adam(model)
        optimizer.load_state_dict(checkpoint["optimizer"])
        optimizer = adam(model)
        train(model, optimizer)

    assert found(program) == []
    (finding,) = found(program, least=Confidence.MEDIUM)
    assert "begins without the state" in finding.label


# Right


def resume(build: Build = adam, names: Iterable[str] = HERE, then: Iterable[str] = HERE) -> None:
    checkpoint, model = saved(build, names=then), Net(names)
    optimizer = build(model)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)


def model_first() -> None:
    resume()


def optimizer_before_the_model() -> None:
    checkpoint, model = saved(), Net()
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    model.load_state_dict(checkpoint["model"])
    train(model, optimizer)


def rate_set_on_purpose() -> None:
    resumed(linear, late=True, rate=0.003)


def new_schedule_on_purpose() -> None:
    checkpoint, model = saved(schedule=linear), Net()
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer, linear(optimizer))


def test_a_new_schedule_where_the_old_one_was_saved() -> None:
    """It may be meant: there is code in this file that loads the state of a schedule."""
    (finding,) = found(new_schedule_on_purpose, least=Confidence.MEDIUM)
    assert finding.confidence is Confidence.MEDIUM
    assert "nothing gives this one its count back" in finding.why


def optimizer_loaded_once_more() -> None:
    checkpoint, model = saved(schedule=linear), Net()
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler = linear(optimizer)
    scheduler.load_state_dict(checkpoint["scheduler"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer, scheduler)


def schedule_wound_forward() -> None:
    checkpoint, model = saved(schedule=linear), Net()
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler = linear(optimizer)
    for _ in range(3):
        scheduler.step()
    train(model, optimizer, scheduler)


class Matrices(nn.Module):
    """Layers of a single weight each."""

    def __init__(self, names: Iterable[str] = HERE) -> None:
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in names})

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.layers[name](x).tanh() for name in sorted(self.layers)]).sum(0)


def keys_that_were_sorted() -> None:
    """safetensors sorts them, so they say nothing of the order in the checkpoint."""
    old, model = Matrices(), Matrices()
    old_optimizer, optimizer = adam(old), adam(model)
    train(old, old_optimizer)
    model.load_state_dict(dict(sorted(old.state_dict().items())))
    optimizer.load_state_dict(old_optimizer.state_dict())
    train(model, optimizer)


def list_in_an_order_of_its_own() -> None:
    def build(model: Any) -> Optimizer:
        return Adam([p for name in ("green", "blue", "red") for p in model.layers[name].parameters()], lr=0.01)

    resume(build, THERE)


def shapes_that_say_otherwise() -> None:
    """The optimizer has an order of its own, which is that of the model by chance."""

    def build(names: Iterable[str]) -> tuple[nn.Module, Optimizer]:
        sizes = {"wide": 6, "narrow": 2}
        layers = nn.ModuleDict({name: nn.Linear(4, sizes[name]) for name in names})
        optimizer = Adam([*layers["narrow"].parameters(), *layers["wide"].parameters()], lr=0.01)
        return layers, optimizer

    def step(layers: Any, optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        torch.cat([layer(torch.randn(8, 4)) for layer in layers.values()], 1).square().mean().backward()
        optimizer.step()

    old = build(["wide", "narrow"])
    step(*old)
    new = build(["narrow", "wide"])
    for part, other in zip(new, old, strict=True):
        part.load_state_dict(other.state_dict())
    step(*new)


def moved_without_a_state() -> None:
    """Two layers that change places are frozen, and nothing was ever remembered of them."""

    def build(names: Iterable[str]) -> tuple[nn.Module, Optimizer]:
        model = nn.Sequential(Net(names).requires_grad_(False), nn.Linear(4, 1))
        return model, adam(model)

    old = build(HERE)
    train(*old)
    new = build(THERE)
    for part, other in zip(new, old, strict=True):
        part.load_state_dict(other.state_dict())
    train(*new)


def pretrained_layers_in_between() -> None:
    checkpoint, other, model = saved(), saved(names=THERE), Net()
    model.load_state_dict(checkpoint["model"])
    layers = {key.removeprefix("layers."): value for key, value in other["model"].items()}
    model.layers.load_state_dict(layers)
    optimizer = adam(model)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)


def state_assigned() -> None:
    checkpoint, model = saved(), Net()
    first, second = adam(model), adam(model)
    first.load_state_dict(checkpoint["optimizer"])
    second.state.update(first.state)
    train(model, second)


def next_stage() -> None:
    checkpoint, model = saved(), Net()
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)
    optimizer = adam(model)
    train(model, optimizer)


def in_turn() -> None:
    checkpoint, model = saved(), Net()
    first, second = adam(model), adam(model)
    second.load_state_dict(checkpoint["optimizer"])
    train(model, first)
    train(model, second)


def nothing_lost() -> None:
    def build(model: nn.Module) -> Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.1)

    checkpoint, model = saved(build), Net()
    build(model).load_state_dict(checkpoint["optimizer"])
    train(model, build(model))


def by_name_in_the_optimizer() -> None:
    def build(model: nn.Module) -> Optimizer:
        return Adam([p for _, p in sorted(model.named_parameters())], lr=0.01)

    resume(build, THERE)


def groups_in_a_fixed_order() -> None:
    def build(model: Any) -> Optimizer:
        return Adam([{"params": model.layers[name].parameters()} for name in THERE], lr=0.01)

    resume(build, THERE)


def nothing_to_remember() -> None:
    resume(lambda model: torch.optim.SGD(model.parameters(), lr=0.1), THERE)


def pretrained_elsewhere() -> None:
    """Weights of another origin come first, and then the checkpoint."""
    checkpoint, other, model = saved(), saved(names=THERE), Net()
    model.load_state_dict(other["model"])
    optimizer = adam(model)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)


def weights_alone() -> None:
    model = Net()
    model.load_state_dict(saved(names=THERE)["model"])
    train(model, adam(model))


def part_of_the_weights() -> None:
    model = Net((*HERE, "grey"))
    model.load_state_dict(saved(names=THERE)["model"], strict=False)
    train(model, adam(model))


def averaged_copy() -> None:
    checkpoint, model, average = saved(), Net(), Net(THERE)
    average.load_state_dict(checkpoint["model"])
    optimizer = adam(model)
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer)
    average.load_state_dict(model.state_dict())


def rolled_back() -> None:
    model = Net()
    optimizer = adam(model)
    train(model, optimizer)
    states = copy.deepcopy([model.state_dict(), optimizer.state_dict()])
    train(model, optimizer)
    model.load_state_dict(states[0])
    optimizer.load_state_dict(states[1])
    train(model, optimizer)


def state_handed_on() -> None:
    checkpoint, model = saved(), Net()
    first = adam(model)
    first.load_state_dict(checkpoint["optimizer"])
    second = adam(model)
    second.load_state_dict(first.state_dict())
    train(model, second)


def hook_that_sees_to_the_order() -> None:
    checkpoint, model = saved(), Net(THERE)
    places = {name: place for place, name in enumerate(checkpoint["model"])}

    def hook(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
        entries = {place: state["state"][places[name]] for place, (name, _) in enumerate(model.named_parameters())}
        return {"state": entries, "param_groups": state["param_groups"]}

    optimizer = adam(model)
    optimizer.register_load_state_dict_pre_hook(hook)
    optimizer.load_state_dict(checkpoint["optimizer"])
    model.load_state_dict(checkpoint["model"])
    train(model, optimizer)


def keys_in_an_order_of_their_own() -> None:
    """A hook puts one layer behind all others, when the checkpoint is made as well as now."""

    def hook(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: object) -> None:
        for key in ("layers.red.weight", "layers.red.bias"):
            state[key] = state.pop(key)

    def build(model: nn.Module) -> Optimizer:
        model._register_state_dict_hook(hook)
        return adam(model)

    resume(build)


def tied() -> None:
    def build() -> tuple[nn.Module, Optimizer]:
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
        model[2].weight = model[0].weight
        return model, adam(model)

    states = []
    for _ in range(2):
        parts = build()
        for part in parts if states else ():
            part.load_state_dict(states.pop(0))
        train(*parts)
        states += copy.deepcopy([part.state_dict() for part in parts])


def group_added_after_the_load() -> None:
    checkpoint, model, more = saved(schedule=linear), Net(), Net()
    optimizer = adam(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    optimizer.add_param_group({"params": list(more.parameters())})
    scheduler = lr_scheduler.ConstantLR(optimizer, 0.5)
    train(nn.Sequential(model, more), optimizer, scheduler)


def rate_in_a_tensor() -> None:
    def build(model: nn.Module) -> Optimizer:
        return torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1), momentum=0.9)

    checkpoint, model = saved(build, linear), Net()
    optimizer = build(model)
    optimizer.load_state_dict(checkpoint["optimizer"])
    scheduler = linear(optimizer)
    scheduler.load_state_dict(checkpoint["scheduler"])
    train(model, optimizer, scheduler)


@pytest.mark.parametrize(
    "program",
    [
        list_in_an_order_of_its_own, shapes_that_say_otherwise, moved_without_a_state, pretrained_layers_in_between,
        state_assigned, next_stage, in_turn, nothing_lost,
        keys_in_an_order_of_their_own, tied, group_added_after_the_load, rate_in_a_tensor,
        model_first, optimizer_before_the_model, rate_set_on_purpose,
        optimizer_loaded_once_more, schedule_wound_forward, keys_that_were_sorted, by_name_in_the_optimizer,
        groups_in_a_fixed_order, nothing_to_remember, pretrained_elsewhere, weights_alone, part_of_the_weights,
        averaged_copy, rolled_back, state_handed_on, hook_that_sees_to_the_order,
    ],
)  # fmt: skip
def test_silent(program: Callable[[], object]) -> None:
    assert found(program, least=Confidence.MEDIUM) == []
