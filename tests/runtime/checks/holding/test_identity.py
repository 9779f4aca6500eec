"""Model and optimizer hold the same tensors, or do not; and right programs in which they seem not to."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from watching import codes, found, line

from gradcheck_lint import watch
from gradcheck_lint.finding import Confidence


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.body(x)))
        return out


def train(
    model: nn.Module, *optimizers: torch.optim.Optimizer, steps: int = 4, dtype: torch.dtype = torch.float32
) -> None:
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = model(torch.randn(6, 3, dtype=dtype)).pow(2).mean()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


# What replaces the model


def copied() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    prepared = copy.deepcopy(model)
    train(prepared, optimizer)


def flattened() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for module in (model.body, model.head):
        module.weight = nn.Parameter(module.weight.detach().clone())
        module.bias = nn.Parameter(module.bias.detach().clone())
    train(model, optimizer)


def normed() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parametrizations.weight_norm(model.head)
    train(model, optimizer)


class Adapted(nn.Module):
    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.down = nn.Linear(inner.in_features, 2, bias=False)
        self.up = nn.Linear(2, inner.out_features, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x) + self.up(self.down(x))
        return out


def adapted() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.body = Adapted(model.body)  # type: ignore[assignment]
    train(model, optimizer)


class Trainer:
    def __init__(self) -> None:
        self.model = Net()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)

    def more_classes(self) -> None:
        self.model.head = nn.Linear(8, 5)

    def fit(self) -> None:
        train(self.model, self.optimizer)


def in_a_trainer() -> None:
    trainer = Trainer()
    trainer.more_classes()
    trainer.fit()


@pytest.mark.parametrize(
    ("program", "code", "where"),
    [
        (copied, "GL202", ""),
        (flattened, "GL201", "module.weight = nn.Parameter(module.weight.detach().clone())"),
        (normed, "GL202", "parametrizations.weight_norm(model.head)"),
        (adapted, "GL202", "model.body = Adapted(model.body)  # type: ignore[assignment]"),
        (in_a_trainer, "GL202", "self.model.head = nn.Linear(8, 5)"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_comes_in_after_the_optimizer(program: Callable[[], None], code: str, where: str) -> None:
    findings = found(program)
    assert set(codes(findings)) == {code}
    assert not where or line(findings[0]) == where


def test_a_network_that_stands_beside_another_one_was_not_replaced_by_it() -> None:
    def program() -> None:
        teacher, student = nn.Linear(4, 2), nn.Linear(4, 2)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        for _ in range(6):
            x = torch.randn(8, 4)
            optimizer.zero_grad()
            student(x)
            teacher(x).pow(2).mean().backward()
            optimizer.step()

    assert "GL202" not in codes(found(program))


def test_an_optimizer_that_was_given_the_wrong_network_has_lost_none() -> None:
    def program() -> None:
        policy, value = nn.Linear(4, 2), nn.Linear(4, 2)
        train_policy = torch.optim.Adam(policy.parameters(), lr=0.1)
        for _ in range(6):
            x = torch.randn(8, 4)
            train_value = torch.optim.Adam(policy.parameters(), lr=0.1)
            train_value.zero_grad()
            value(x).pow(2).mean().backward()
            train_value.step()
            train_policy.zero_grad()
            (policy(x) * value(x)).mean().backward()
            train_policy.step()

    told = codes(found(program, least=Confidence.MEDIUM))
    assert "GL207" in told
    assert "GL202" not in told


def test_a_model_that_is_converted_under_the_switch_is_moved_and_not_rebound() -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            model.double()
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(False)
        train(model, optimizer, dtype=torch.float64)

    findings = found(program)
    assert codes(findings) == ["GL206"]
    assert line(findings[0]) == "model.double()"


def test_state_that_stays_behind_names_the_move() -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        train(model, optimizer)
        model.double()
        train(model, optimizer, dtype=torch.float64)

    findings = found(program, raises=RuntimeError)
    assert "GL206" in codes(findings)
    assert "float64" in findings[0].label


def test_a_tie_that_broke() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3, bias=False)
            self.two = nn.Linear(3, 3, bias=False)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(torch.tanh(self.one(x)))
            return out

    def program(*, again: bool) -> None:
        model = Tied()
        state = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        if again:
            model.two.weight = model.one.weight
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))

    findings = found(lambda: program(again=False))
    assert codes(findings) == ["GL209"]
    assert "one.weight and two.weight" in findings[0].label
    assert found(lambda: program(again=True)) == []


# Held by nobody


def test_a_part_that_nobody_holds_is_named_once() -> None:
    def program() -> None:
        model = Net()
        train(model, torch.optim.SGD(model.head.parameters(), lr=0.1), steps=30)

    findings = found(program, least=Confidence.MEDIUM)
    assert codes(findings) == ["GL207"]
    assert "body.bias and body.weight" in findings[0].label


def test_an_optimizer_that_comes_later_takes_it() -> None:
    def program() -> None:
        model = Net()
        train(model, torch.optim.SGD(model.head.parameters(), lr=0.1), steps=25)
        train(model, torch.optim.SGD(model.parameters(), lr=0.1))

    assert found(program) == []


def loaded_body() -> None:
    model = Net()
    model.load_state_dict(Net().state_dict())
    train(model, torch.optim.SGD(model.head.parameters(), lr=0.1))


def unpickled_body() -> None:
    model = copy.deepcopy(Net())
    train(model, torch.optim.SGD(model.head.parameters(), lr=0.1))


def body_in_eval_mode() -> None:
    model = Net()
    model.body.eval()
    train(model, torch.optim.SGD(model.head.parameters(), lr=0.1))


@pytest.mark.parametrize("program", [loaded_body, unpickled_body, body_in_eval_mode])
def test_a_part_that_was_trained_before_may_stay(program: Callable[[], None]) -> None:
    assert found(program) == []
    assert codes(found(program, least=Confidence.MEDIUM)) == ["GL207"]


# A number that nobody holds


def number_beside_a_network(
    after: Callable[[Tensor, torch.optim.Optimizer, int], object] = lambda number, optimizer, step: None,
    number: Tensor | None = None,
    use: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda model, x, number: number.exp() * model(x),
) -> None:
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    number = torch.tensor(0.5, requires_grad=True) if number is None else number
    for step in range(60):
        optimizer.zero_grad()
        (use(model, torch.randn(6, 1), number) - 1).pow(2).mean().backward()
        optimizer.step()
        after(number, optimizer, step)


def cleared(number: Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
    number.grad = None


def cleared_in_place(number: Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
    assert number.grad is not None
    number.grad.zero_()


def raised_by_hand(number: Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Once in a while, with the gradients that have come together since, as for a multiplier."""
    if step % 25 == 24 and number.grad is not None:
        with torch.no_grad():
            number += 0.01 * number.grad
        number.grad = None


def handed_over_later(number: Tensor, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 30:
        optimizer.add_param_group({"params": [number]})


def boundary(model: nn.Module, x: Tensor, point: Tensor) -> Tensor:
    """The derivative at a point is part of the loss, and nobody wants the gradient of the point."""
    value = model(point.reshape(1, 1))
    (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True)
    return slope + value


def test_a_number_whose_gradients_pile_up() -> None:
    findings = found(number_beside_a_network)
    assert codes(findings) == ["GL208"]
    assert "number is not among them" in findings[0].label


@pytest.mark.parametrize(
    "program",
    [
        partial(number_beside_a_network, cleared),
        partial(number_beside_a_network, cleared_in_place),
        partial(number_beside_a_network, raised_by_hand),
        partial(number_beside_a_network, handed_over_later),
        partial(number_beside_a_network, number=torch.tensor(0.5, requires_grad=True), use=boundary),
        partial(number_beside_a_network, number=torch.zeros(1, 1, requires_grad=True), use=boundary),
        partial(number_beside_a_network, number=torch.tensor(0.5)),
    ],
)
def test_numbers_that_somebody_cares_for(program: Callable[[], None]) -> None:
    assert found(program) == []


# Later than the first steps, in an object that is no module


class Learner:
    """Two modules and their optimizer; `change` comes before the step of this number."""

    def __init__(self) -> None:
        self.body = nn.Linear(3, 8)
        self.head = nn.Linear(8, 2)
        self.optimizer = torch.optim.SGD([*self.body.parameters(), *self.head.parameters()], lr=0.1)

    def train(self, change: Callable[[Learner], object], steps: int = 130, at: int = 31) -> None:
        for step in range(steps):
            if step == at:
                change(self)
            self.optimizer.zero_grad()
            self.head(torch.relu(self.body(torch.randn(6, 3)))).pow(2).mean().backward()
            self.optimizer.step()


def another_head(learner: Learner) -> None:
    learner.head = nn.Linear(8, 4)


def another_head_that_is_handed_over(learner: Learner) -> None:
    learner.head = nn.Linear(8, 4)
    learner.optimizer.add_param_group({"params": learner.head.parameters()})


def another_head_and_optimizer(learner: Learner) -> None:
    learner.head = nn.Linear(8, 4)
    learner.optimizer = torch.optim.SGD([*learner.body.parameters(), *learner.head.parameters()], lr=0.1)


def another_head_that_is_frozen(learner: Learner) -> None:
    learner.head = nn.Linear(8, 4).requires_grad_(False)


def a_head_that_was_trained(learner: Learner) -> None:
    head = nn.Linear(8, 2)
    head.load_state_dict(learner.head.state_dict())
    learner.head = head.requires_grad_(False)


def the_head_is_frozen(learner: Learner) -> None:
    learner.head.requires_grad_(False)


def the_body_alone_from_now_on(learner: Learner) -> None:
    learner.optimizer = torch.optim.SGD(learner.body.parameters(), lr=0.1)


def test_a_layer_is_replaced_late_and_in_no_module() -> None:
    findings = found(lambda: Learner().train(another_head))
    assert codes(findings) == ["GL202"]
    assert "self.head was replaced" in findings[0].label
    assert line(findings[0]) == "learner.head = nn.Linear(8, 4)"
    assert findings[0].step == 51


@pytest.mark.parametrize(
    "change",
    [
        another_head_that_is_handed_over,
        another_head_and_optimizer,
        another_head_that_is_frozen,
        a_head_that_was_trained,
        the_head_is_frozen,
        the_body_alone_from_now_on,
    ],
)
def test_what_a_late_change_may_be(change: Callable[[Learner], object]) -> None:
    assert found(lambda: Learner().train(change)) == []


def fine_tuned(change: Callable[[Net, torch.optim.Optimizer, int], object]) -> None:
    """The body was trained before, and is frozen at first."""
    model = Net()
    model.load_state_dict(model.state_dict())
    model.body.requires_grad_(False)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
    for step in range(130):
        change(model, optimizer, step)
        optimizer.zero_grad()
        model(torch.randn(6, 3)).pow(2).mean().backward()
        optimizer.step()


def thawed(model: Net, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 60:
        model.requires_grad_(True)


def thawed_and_handed_over(model: Net, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 60:
        model.requires_grad_(True)
        optimizer.add_param_group({"params": model.body.parameters()})


def thawed_for_an_optimizer_of_its_own(model: Net, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 60:
        model.requires_grad_(True)
    if step == 110:
        model.own = torch.optim.SGD(model.body.parameters(), lr=0.1)  # type: ignore[assignment]
        model.own.zero_grad()  # type: ignore[operator]
    if step > 110:
        model.own.step()  # type: ignore[operator, union-attr]
        model.own.zero_grad()  # type: ignore[operator]


def thawed_to_look_at_its_gradients(model: Net, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step % 50 == 49:
        model.requires_grad_(True)
        for _ in range(3):
            model(torch.randn(6, 3)).pow(2).mean().backward()
        model.body.requires_grad_(False)


def thawed_and_moved_by_hand(model: Net, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step == 60:
        model.requires_grad_(True)
    with torch.no_grad():
        for parameter in model.body.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
                parameter.grad = None


def never_thawed(model: Net, optimizer: torch.optim.Optimizer, step: int) -> None:
    pass


def test_a_part_that_is_thawed_and_not_handed_over() -> None:
    (finding,) = found(lambda: fine_tuned(thawed))
    assert finding.code == "GL207"
    assert "frozen then" in finding.label
    assert line(finding) == "optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)"


@pytest.mark.parametrize(
    "change",
    [
        thawed_and_handed_over,
        thawed_for_an_optimizer_of_its_own,
        thawed_to_look_at_its_gradients,
        thawed_and_moved_by_hand,
        never_thawed,
    ],
)
def test_a_part_that_is_thawed_by_right(change: Callable[[Net, torch.optim.Optimizer, int], object]) -> None:
    assert found(lambda: fine_tuned(change)) == []


def test_a_parameter_that_comes_later_takes_nothing_s_place() -> None:
    def program(*, handed_over: bool) -> None:
        model = nn.ParameterList([nn.Parameter(torch.ones(3))])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(70):
            if step == 10:
                model.append(nn.Parameter(torch.ones(3)))
                if handed_over:
                    optimizer.add_param_group({"params": [model[1]]})
            optimizer.zero_grad()
            torch.stack([parameter * torch.randn(3) for parameter in model]).pow(2).mean().backward()
            optimizer.step()

    (finding,) = found(lambda: program(handed_over=False))
    assert finding.code == "GL202"
    assert "1 came after" in finding.label
    assert found(lambda: program(handed_over=True)) == []


# What seems to be replaced and is not


def wrapped() -> None:
    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.module(x)
            return out

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.body = Wrapper(model.body)  # type: ignore[assignment]
    train(Wrapper(model), optimizer)


def compiled() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled_model: Any = torch.compile(model, backend="eager")
    train(compiled_model, optimizer)


def orthogonal() -> None:
    class Symmetric(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.abs()

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    parametrize.register_parametrization(model.head, "weight", Symmetric())
    train(model, optimizer)


def parametrized_before() -> None:
    model = Net()
    parametrizations.weight_norm(model.head)
    train(model, torch.optim.SGD(model.parameters(), lr=0.1))


def averaged() -> None:
    model = Net()
    average = torch.optim.swa_utils.AveragedModel(model)
    teacher = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        x = torch.randn(6, 3)
        with torch.no_grad():
            goal = teacher(x)
        optimizer.zero_grad()
        (model(x) - goal).pow(2).mean().backward()
        optimizer.step()
        average.update_parameters(model)
        with torch.no_grad():
            for t, s in zip(teacher.parameters(), model.parameters(), strict=True):
                t.mul_(0.9).add_(s, alpha=0.1)


def frozen_backbone() -> None:
    model = Net()
    model.body.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train(model, optimizer)
    model.body.requires_grad_(True)
    optimizer.add_param_group({"params": model.body.parameters()})
    train(model, optimizer)


def adapters_before() -> None:
    model = Net()
    model.requires_grad_(False)
    model.body = Adapted(model.body)  # type: ignore[assignment]
    train(model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1))


def swapped_for_evaluation() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept = [p.detach().clone() for p in model.parameters()]
    for _ in range(4):
        train(model, optimizer, steps=1)
        own = [p.data for p in model.parameters()]
        for p, value in zip(model.parameters(), kept, strict=True):
            p.data = value
        with torch.no_grad():
            model(torch.randn(6, 3))
        for p, value in zip(model.parameters(), own, strict=True):
            p.data = value


def master_weights() -> None:
    model = Net().to(torch.bfloat16)
    masters = [nn.Parameter(p.detach().float()) for p in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.1)
    for _ in range(4):
        model.zero_grad()
        model(torch.randn(6, 3, dtype=torch.bfloat16)).pow(2).mean().backward()
        for master, p in zip(masters, model.parameters(), strict=True):
            assert p.grad is not None
            master.grad = p.grad.float()
        optimizer.step()
        with torch.no_grad():
            for master, p in zip(masters, model.parameters(), strict=True):
                p.copy_(master)


def first_order_maml() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        fast = copy.deepcopy(model)
        inner = torch.optim.SGD(fast.parameters(), lr=0.01)
        train(fast, inner, steps=2)
        fast.zero_grad()
        fast(torch.randn(6, 3)).pow(2).mean().backward()
        optimizer.zero_grad()
        for slow, quick in zip(model.parameters(), fast.parameters(), strict=True):
            slow.grad = quick.grad
        optimizer.step()


def folds() -> None:
    for _ in range(3):
        model = Net()
        train(model, torch.optim.Adam(model.parameters(), lr=0.1))


def by_hand() -> None:
    model, other = Net(), Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        other.zero_grad()
        (model(torch.randn(6, 3)) + other(torch.randn(6, 3))).pow(2).mean().backward()
        optimizer.step()
        with torch.no_grad():
            for p in other.parameters():
                assert p.grad is not None
                p.sub_(0.1 * p.grad)


def groups_pointed_anew() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for module in (model.body, model.head):
        module.weight = nn.Parameter(module.weight.detach().clone())
    optimizer.param_groups[0]["params"] = list(model.parameters())
    train(model, optimizer)


def heads_in_turn() -> None:
    body, heads = nn.Linear(3, 4), nn.ModuleList([nn.Linear(4, 1) for _ in range(3)])
    optimizer = torch.optim.SGD([*body.parameters(), *heads.parameters()], lr=0.1)
    for turn in range(9):
        optimizer.zero_grad()
        heads[turn % 3](body(torch.randn(6, 3))).pow(2).mean().backward()
        optimizer.step()


QUIET = [
    wrapped,
    compiled,
    orthogonal,
    parametrized_before,
    averaged,
    frozen_backbone,
    adapters_before,
    swapped_for_evaluation,
    master_weights,
    first_order_maml,
    folds,
    by_hand,
    groups_pointed_anew,
    heads_in_turn,
]


@pytest.mark.parametrize("program", QUIET, ids=lambda program: program.__name__)
def test_silence(program: Callable[[], None]) -> None:
    assert found(program) == []


@pytest.fixture
def swapping() -> Iterator[None]:
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


def test_parameters_that_are_swapped_in_place(swapping: None) -> None:
    def program() -> None:
        model = Net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        train(model, optimizer, steps=2)
        model.double()
        train(model, optimizer, steps=2, dtype=torch.float64)

    assert found(program) == []


# `watch(optimizer)` after everything is built


def test_with_a_single_optimizer_and_no_model() -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(optimizer, quiet=True, on_finding="ignore") as run:
        train(model, optimizer, steps=2)
        model.head = nn.Linear(8, 2)
        train(model, optimizer, steps=4)
    assert codes(run.findings) == ["GL202"]
    assert line(run.findings[0]) == "model.head = nn.Linear(8, 2)"


def test_of_two_optimizers_one_is_watched() -> None:
    model = Net()
    watched = torch.optim.SGD(model.head.parameters(), lr=0.1)
    other = torch.optim.SGD(model.body.parameters(), lr=0.1)
    with watch(watched, quiet=True, on_finding="ignore") as run:
        train(model, watched, other)
    assert run.findings == []


def test_nothing_is_kept_alive() -> None:
    def trained() -> weakref.ref[Net]:
        model = Net()
        optimizer = torch.optim.SGD(model.head.parameters(), lr=0.1)
        train(model, optimizer)
        return weakref.ref(model)

    def program() -> None:
        ref = trained()
        gc.collect()
        assert ref() is None

    found(program)


# Expected to be frozen


def test_what_is_expected_to_be_frozen() -> None:
    def codes_with(expected: str, *, freeze: bool) -> list[str]:
        model = Net()
        model.body.requires_grad_(not freeze)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        with watch(
            optimizer, model=model, expect_frozen=[expected], select=["GL212"], quiet=True, on_finding="ignore"
        ) as run:
            train(model, optimizer)
        return codes(run.findings)

    assert codes_with("body", freeze=False) == ["GL212"]
    assert codes_with("body", freeze=True) == []
    assert codes_with("bodi", freeze=True) == ["GL212"]


# Scripted modules


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("whole", [True, False])
def test_scripted_modules_are_left_in_peace(whole: bool) -> None:
    part = torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)))
    model = part if whole else nn.Sequential(nn.Linear(3, 3), part)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(optimizer, model=model, every=1, quiet=True, on_finding="ignore", level="deep") as run:
        for number in range(25):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).pow(2).mean().backward()
            optimizer.step()
            if number == 20:
                model.load_state_dict(model.to(torch.float32).state_dict())
    assert (run.record.problems, codes(run.findings)) == ([], [])
