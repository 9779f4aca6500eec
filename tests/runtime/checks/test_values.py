"""Values are read now and then, and what they show is told once: with the step, the names, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import Tensor, nn

from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.runtime.checks.history import Change, History
from gradcheck_lint.runtime.checks.values import PIECE, lost_bits, piece, plain
from gradcheck_lint.runtime.later import MOST, Later
from gradcheck_lint.runtime.layers import common, layers, told

RULES = watching.rules(
    "GL505", "GL508", "GL509", "GL801", "GL802", "GL803", "GL804", "GL805", "GL806", "GL808", "GL809"
)  # fmt: skip
watched = partial(watching.record, rules=RULES, least=Confidence.MEDIUM)


def found(program: Callable[[], object], **options: Any) -> list[tuple[str, int | None, Confidence]]:
    return [(f.code, f.step, f.confidence) for f in watched(program, **options).findings]


def train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    **options: Any,
) -> None:
    optimizer = make(model.parameters(), **{"lr": 0.01, **options})
    for i in range(steps):
        optimizer.zero_grad()
        loss(i).backward()
        optimizer.step()


# The series


def test_series_hold_the_early_samples_and_then_each_that_is_checked() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    series = watched(lambda: train(model, lambda i: model(torch.randn(8, 4)).pow(2).mean(), 12)).series
    assert set(series) == {
        "loss", "gradient/optimizer/0", "gradient/optimizer/2", "update/optimizer/0", "update/optimizer/2"
    }  # fmt: skip
    assert [step for step, _ in series["gradient/optimizer/0"]] == [1, 2, 5, 10]
    assert [step for step, _ in series["update/optimizer/2"]] == [1, 2, 5, 10]
    assert [step for step, _ in series["loss"]] == list(range(1, 13))


def test_gradient_and_update_are_what_they_are_called() -> None:
    model = nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    series = watched(lambda: train(model, lambda i: model(torch.ones(1, 3)).sum(), 1, lr=0.5)).series
    assert series["gradient/optimizer/weight"] == [(1, pytest.approx(math.sqrt(6)))]
    assert series["update/optimizer/weight"] == [(1, pytest.approx(0.5 * math.sqrt(6) / before.norm().item()))]


def test_light_level_reads_no_gradients() -> None:
    model = nn.Linear(3, 1)
    series = watched(lambda: train(model, lambda i: model(torch.ones(1, 3)).sum(), 3), level="light").series
    assert set(series) == {"loss"}


def test_losses_and_optimizers_of_one_name_have_series_of_their_own() -> None:
    first, second = nn.Linear(2, 1), nn.Linear(2, 1)

    def program() -> None:
        pair = {1: torch.optim.SGD(first.parameters(), lr=0.1), 2: torch.optim.SGD(second.parameters(), lr=0.1)}
        for _ in range(2):
            loss_one = first(torch.ones(1, 2)).sum()
            loss_one.backward()
            loss_two = second(torch.ones(1, 2)).sum()
            loss_two.backward()
            for optimizer in pair.values():
                optimizer.step()
                optimizer.zero_grad()

    series = watched(program).series
    assert [len(series[name]) for name in ("loss", "loss/loss_two")] == [2, 2]
    assert len({name.split("/")[1] for name in series if name.startswith("gradient/")}) == 2


# Not finite


def test_first_culprit_is_nearest_to_the_loss() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1, bias=False))

    def loss(i: int) -> Tensor:
        y: Tensor = model(torch.ones(4, 2)).mean()
        return y

    def program() -> None:
        with torch.no_grad():
            model[1].weight.fill_(1.0)
        train(model, lambda i: _poisoned(loss(i), model, i), 3)

    finding = watched(program).findings[0]
    assert (finding.code, finding.step, finding.confidence) == ("GL801", 2, Confidence.HIGH)
    assert "the gradients of 1.weight were not finite; the loss was" in finding.label
    assert "`1.weight`" in finding.help


def _poisoned(loss: Tensor, model: nn.Module, step: int) -> Tensor:
    """A loss that is a number and whose gradient is not."""
    zero = (model[1].weight - model[1].weight.detach()).pow(2).sum()  # type: ignore[index]
    return loss + zero.sqrt() * model(torch.ones(1, 2)).sum() if step == 1 else loss


def test_norm_that_overflows_is_not_a_gradient_that_does() -> None:
    weight = torch.ones(4, requires_grad=True)

    def program() -> None:
        optimizer = torch.optim.SGD([weight], lr=1e-30)
        for _ in range(2):
            optimizer.zero_grad()
            (weight * 1e25).sum().backward()
            optimizer.step()

    assert not [code for code, _, _ in found(program) if code == "GL801"]


def test_loss_is_told_once_and_what_follows_from_it_is_not() -> None:
    model = nn.Linear(2, 1)
    program = lambda: train(model, lambda i: model(torch.ones(1, 2)).sum() * (math.inf if i == 2 else 1), 8)  # noqa: E731
    assert found(program) == [("GL809", 3, Confidence.HIGH)]


def test_loss_without_harm_is_less_sure() -> None:
    model = nn.Linear(2, 1)
    program = lambda: train(model, lambda i: model(torch.ones(1, 2)).sum() + (math.nan if i == 2 else 0), 4)  # noqa: E731
    assert found(program) == [("GL809", 3, Confidence.MEDIUM)]


def test_loss_whose_gradients_are_dropped_is_not_told() -> None:
    model = nn.Linear(2, 1)

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for i in range(4):
            optimizer.zero_grad()
            loss = model(torch.ones(1, 2)).sum() * (math.nan if i == 1 else 1)
            loss.backward()
            if loss.isfinite():
                optimizer.step()

    assert found(program) == []


# Without effect


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(2, []), (5, [("GL802", 5, Confidence.HIGH)])],
)
def test_rate_of_zero(steps: int, expected: list[tuple[str, int, Confidence]]) -> None:
    model = nn.Linear(4, 1)
    assert found(lambda: train(model, lambda i: model(torch.ones(1, 4)).sum(), steps, lr=0.0)) == expected


def test_rate_of_zero_under_a_schedule_is_less_sure() -> None:
    model = nn.Linear(4, 1)

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: epoch / 10)
        for _ in range(6):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()

    assert found(program) == [("GL802", 5, Confidence.MEDIUM)]


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "RAdam", "Rprop"])
def test_steps_that_move_are_not_told(kind: str) -> None:
    model = nn.Linear(8, 8)
    make = getattr(torch.optim, kind)
    assert found(lambda: train(model, lambda i: (model(torch.randn(4, 8)) - 1).pow(2).mean(), 12, make, lr=1e-3)) == []


def test_rounding_waits_for_momentum() -> None:
    model = nn.Linear(16, 16, bias=False).bfloat16()
    with torch.no_grad():
        model.weight.fill_(1.0)
    x = torch.ones(1, 16, dtype=torch.bfloat16)
    program = lambda: train(model, lambda i: model(x).sum(), 12, lr=2e-3, momentum=0.9)  # noqa: E731
    assert found(program) == []  # a unit in the last place is 0.004, which momentum reaches


# History


def test_exploding_needs_a_history_and_a_large_factor() -> None:
    history = History()
    for norm in (1.0, 2.0, 1.5):
        assert history.gradients({"a": norm, "b": norm}) == []
    assert history.gradients({"a": 150.0, "b": 1.0}) == []
    changes = history.gradients({"a": 1e9, "b": 1.0})
    assert [(change.kind, change.layer, change.extreme) for change in changes] == [("gradient-explodes", "a", True)]


def test_all_gradients_fading_together_is_learning() -> None:
    history = History()
    for power in range(12):
        assert history.gradients({"a": 10.0**-power, "b": 2 * 10.0**-power}) == []


def test_vanishing_is_told_of_the_layer_that_does() -> None:
    history = History()
    told = [change for _ in range(5) for change in history.gradients({"first": 1e-14, "last": 1.0})]
    assert told == [Change("gradient-vanishes", "first", pytest.approx(1e-14), pytest.approx(1e-14), True, True)]


def test_first_updates_may_be_large() -> None:
    history = History()
    for step in (1, 2):
        assert history.updates(step, {"a": 50.0}) == []
    for step in (5, 10):
        assert history.updates(step, {"a": 3.0}) == []
    assert [change.extreme for change in history.updates(20, {"a": 3.0})] == [False]


# Parts


def test_layers_are_the_modules_of_the_names() -> None:
    assert layers(["encoder.0.weight", "encoder.0.bias", "w"]) == ["encoder.0", "encoder.0", "w"]


def test_many_layers_are_put_together() -> None:
    names = [f"block.{block}.part.{part}.weight" for block in range(30) for part in range(10)]
    found = layers([*names, "head.weight"])
    assert len(set(found)) == 31
    assert found[0] == "block.0.part"


def test_many_names_without_parts_are_numbered() -> None:
    found = layers([f"parameter {index} of group 0" for index in range(150)])
    assert len(set(found)) == 50
    assert found[0] == found[2] == "parameter 0 of group 0 to parameter 2 of group 0"


def test_names_for_a_sentence() -> None:
    assert told(["a", "b"]) == "a and b"
    assert told(["net.0.weight", "net.0.bias", "net.2.weight"]) == "3 parameters of net (net.0.weight, ...)"
    assert common(["a.weight", "b.weight"]) == ""


def test_pieces_are_the_first_elements_in_any_layout() -> None:
    image = torch.arange(16 * 8 * 3 * 3, dtype=torch.float32).view(16, 8, 3, 3)
    other = image.to(memory_format=torch.channels_last)
    assert piece(image).tolist() == piece(other).tolist() == list(map(float, range(PIECE)))
    assert piece(torch.tensor(3.0)).tolist() == [3.0]
    assert piece(torch.zeros(2, dtype=torch.complex64)).shape == (4,)


def test_plain_has_nothing_of_what_has_no_values() -> None:
    assert plain(torch.zeros(3, device="meta")) is None
    assert plain(torch.zeros(0)) is None
    assert plain(torch.zeros(3, dtype=torch.int64)) is None
    sparse = plain(torch.eye(3).to_sparse())
    assert sparse is not None
    assert sparse.tolist() == [1.0, 1.0, 1.0]


def test_lost_bits_are_seen_on_the_grid_of_float16_alone() -> None:
    small = torch.randn(64) * 1e-7
    assert lost_bits(small) is None
    zeros = lost_bits(small.half())
    assert zeros is not None
    assert 0.1 < zeros < 0.6
    assert lost_bits(small.half().float()) == zeros
    assert lost_bits(torch.zeros(64).half()) is None
    assert lost_bits(torch.randn(64).half()) is None


class Event:
    """Stands for an event of an accelerator."""

    def __init__(self) -> None:
        self.ready = False
        self.waited = 0

    def query(self) -> bool:
        return self.ready

    def synchronize(self) -> None:
        self.waited += 1


def test_reading_waits_for_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    monkeypatch.setattr("gradcheck_lint.runtime.later._event", lambda tensor: events.append(Event()) or events[-1])
    later, read = Later(), []

    class Elsewhere:
        """A tensor on a device that is not there."""

        is_cpu, is_meta = False, False

    monkeypatch.setattr("gradcheck_lint.runtime.later._copy", lambda tensor: torch.tensor([7.0]))
    for _ in range(3):
        later.read([Elsewhere()], read.append)  # type: ignore[list-item]
    later.poll()
    assert read == []
    events[0].ready = True
    later.poll()
    assert read == [[[7.0]]]
    assert len(later) == 2
    later.finish()
    assert len(read) == 3
    assert [event.waited for event in events] == [1, 1, 1]


def test_readings_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradcheck_lint.runtime.later._event", lambda tensor: None)
    monkeypatch.setattr("gradcheck_lint.runtime.later._copy", lambda tensor: torch.tensor([1.0]))
    later, read = Later(), []

    class Elsewhere:
        is_cpu, is_meta = False, False

    for _ in range(MOST + 3):
        later.read([Elsewhere()], read.append)  # type: ignore[list-item]
        later.poll()
    assert len(later) == MOST
    assert len(read) == 3


# Outside of the step, frozen, dead


def test_expected_frozen_is_told_of_the_names_that_moved() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
    record = watched(lambda: train(model, lambda i: model(torch.randn(4, 4)).sum(), 3), expect_frozen=("0",))
    assert [(f.code, f.step, f.confidence) for f in record.findings] == [("GL508", 2, Confidence.HIGH)]
    assert "0.weight and 0.bias" in record.findings[0].label


def test_load_between_steps_is_no_writing() -> None:
    model = nn.Linear(4, 1)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def program() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(2, 4)).sum().backward()
            optimizer.step()
            model.load_state_dict(state)

    assert found(program) == []


def test_shared_weights_are_written_by_the_other_optimizer() -> None:
    model = nn.Linear(4, 1)

    def program() -> None:
        first = torch.optim.SGD(model.parameters(), lr=0.1)
        second = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(3):
            for optimizer in (first, second):
                optimizer.zero_grad()
                model(torch.randn(2, 4)).pow(2).sum().backward()
                optimizer.step()

    assert found(program) == []


def test_dead_rows_of_one_layer_are_medium() -> None:
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 4), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].bias[1:] = -1000.0
    findings: list[Finding] = watched(lambda: train(model, lambda i: model(torch.randn(8, 4)).sum(), 20)).findings
    assert [(f.code, f.step, f.confidence) for f in findings] == [("GL808", 20, Confidence.MEDIUM)]
    assert "15 of the 16 units of layer 0" in findings[0].label
