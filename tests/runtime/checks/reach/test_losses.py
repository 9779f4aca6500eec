"""Losses that lead nowhere, are refused, pile up or are kept; and right programs that look like them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import watching
from torch import nn
from watching import codes

from gradcheck_lint import FindingError, watch
from gradcheck_lint.finding import Confidence

RULES = watching.rules("GL401", "GL402", "GL404", "GL407", "GL408", "GL413")
found = partial(watching.found, rules=RULES, least=Confidence.MEDIUM)


def small(**options: float) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.01, **options)


def loss_of(model: nn.Module) -> torch.Tensor:
    return model(torch.randn(4, 3)).pow(2).mean()


def test_a_rebuilt_loss_is_named_with_the_line_that_made_it() -> None:
    def program() -> None:
        model, optimizer = small()
        for _ in range(3):
            optimizer.zero_grad()
            value = torch.tensor(loss_of(model).item(), requires_grad=True)
            value.backward()
            optimizer.step()

    (finding,) = found(program)
    assert finding.code == "GL401"
    assert "`value`" in finding.label
    assert [related.message for related in finding.related] == ["backward runs on it here"]
    assert finding.related[0].span.line == finding.span.line + 1


def test_one_rebuilt_loss_is_told_at_the_end() -> None:
    def program() -> None:
        model, optimizer = small()
        loss_of(model).detach().requires_grad_().backward()
        optimizer.step()

    assert codes(found(program)) == ["GL401"]


def test_a_flag_set_on_a_loss_without_a_graph_is_named() -> None:
    def program() -> None:
        model, optimizer = small()
        for _ in range(3):
            loss = loss_of(model).detach()
            loss.requires_grad_()
            loss.backward()
            optimizer.step()

    (finding,) = found(program)
    assert finding.code == "GL401"
    assert finding.related[0].span.line == finding.span.line + 1


def test_a_sum_of_a_leaf_beside_training_is_less_sure() -> None:
    def program(times: int, *, steps: bool) -> None:
        model, optimizer = small()
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
        for _ in range(times):
            optimizer.zero_grad()
            torch.ones(3, requires_grad=True).sum().backward()
            if steps:
                optimizer.step()

    assert found(lambda: program(1, steps=True)) == []
    assert [finding.confidence for finding in found(lambda: program(2, steps=True))] == [Confidence.MEDIUM]
    assert found(lambda: program(2, steps=False)) == []


def test_one_network_of_two_has_a_rebuilt_loss() -> None:
    def program(value: Callable[[torch.Tensor], torch.Tensor]) -> None:
        (one, first), (other, second) = small(), small()
        for _ in range(3):
            first.zero_grad()
            loss_of(one).backward()
            first.step()
            second.zero_grad()
            loss = value(loss_of(other))
            loss.backward()
            second.step()

    assert found(lambda: program(lambda loss: loss)) == []
    assert codes(found(lambda: program(lambda loss: loss.detach().requires_grad_()))) == ["GL401"]


def test_a_placeholder_now_and_then_is_no_rebuilt_loss() -> None:
    def program(order: tuple[int, ...]) -> None:
        model, optimizer = small()
        for targets in order:
            optimizer.zero_grad()
            loss = torch.zeros((), requires_grad=True)
            for _ in range(targets):
                loss = loss + loss_of(model)
            loss.backward()
            optimizer.step()

    assert found(lambda: program((0, 1, 0, 2))) == []
    assert found(lambda: program((1, 0, 0, 2))) == []


def test_refused_backward_passes_through_and_is_explained() -> None:
    def program() -> None:
        model, _ = small()
        output = model(torch.randn(4, 3))
        cut = output.detach().pow(2).mean()
        cut.backward()

    (finding,) = found(program, RuntimeError)
    assert finding.code == "GL402"
    assert "`output` still has its graph" in finding.label
    assert "`cut` has none" in finding.label


def test_what_is_frozen_has_no_graph_to_lose() -> None:
    def program() -> None:
        model = nn.Linear(3, 1).requires_grad_(False)
        torch.optim.SGD(model.parameters(), lr=0.1)
        loss_of(model).backward()

    assert found(program, RuntimeError) == []


def test_other_refusals_are_not_ours() -> None:
    def program() -> None:
        model, _ = small()
        model(torch.randn(4, 3)).backward()  # no number

    assert found(program, RuntimeError) == []


def test_the_error_of_the_program_goes_before_ours() -> None:
    model, optimizer = small()
    with (
        pytest.raises(RuntimeError, match="does not require grad") as caught,
        watch(optimizer, model=model, on_finding="raise", quiet=True) as run,
    ):
        loss_of(model).detach().backward()
    assert not isinstance(caught.value, FindingError)
    assert "GL402" in codes(run.findings)


@pytest.mark.parametrize("steps", [2, 35], ids=["awake", "asleep"])
def test_gradients_left_switched_off(steps: int) -> None:
    def program() -> None:
        model, optimizer = small()
        for _ in range(2):
            for _ in range(steps):
                optimizer.zero_grad()
                loss_of(model).backward()
                optimizer.step()
            torch.set_grad_enabled(False)

    try:
        (finding,) = found(program, RuntimeError)
    finally:
        torch.set_grad_enabled(True)
    assert finding.code == "GL404"
    assert finding.step == steps + 1


def test_inference_mode_around_the_forward_pass() -> None:
    def program() -> None:
        model, _ = small()
        with torch.inference_mode():
            loss = loss_of(model)
        loss.backward()

    (finding,) = found(program, RuntimeError)
    assert finding.code == "GL404"
    assert "inference_mode" in finding.label


def test_one_step_without_gradients_builds_the_state_of_an_optimizer() -> None:
    def program() -> None:
        _, optimizer = small()
        with torch.no_grad():
            optimizer.step()

    assert found(program) == []


def test_graphs_that_are_kept_are_named_with_the_line() -> None:
    def program() -> None:
        model, optimizer = small()
        history: dict[str, list[torch.Tensor]] = {"loss": []}
        for _ in range(20):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
            history["loss"].append(loss)

    (finding,) = found(program)
    assert finding.code == "GL407"
    assert "`history`" in finding.label


def test_graphs_that_are_kept_between_samples() -> None:
    def program() -> None:
        model, optimizer = small()
        total = torch.zeros(())
        for step in range(300):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
            if step > 20:
                total = total + loss

    (finding,) = found(program)
    assert finding.code == "GL407"
    assert "`total`" in finding.label


def test_graphs_that_an_object_of_the_users_keeps_are_named() -> None:
    class Meter:
        total: Any = 0.0

    def program() -> None:
        meter = Meter()
        model, optimizer = small()
        for _ in range(20):
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            optimizer.step()
            meter.total += loss

    (finding,) = found(program)
    assert finding.code == "GL407"
    assert "`meter.total`" in finding.label


def test_few_graphs_are_no_matter() -> None:
    def program() -> None:
        model, optimizer = small()
        for _ in range(4):
            epoch = []
            for _ in range(8):
                optimizer.zero_grad()
                loss = loss_of(model)
                loss.backward()
                optimizer.step()
                epoch.append(loss)

    assert found(program) == []


def test_a_running_total_is_named_with_the_line_that_adds() -> None:
    def program() -> None:
        model, optimizer = small()
        total = torch.zeros(())
        for _ in range(3):
            total += loss_of(model)
            optimizer.zero_grad()
            total.backward(retain_graph=True)
            optimizer.step()

    (finding,) = found(program)
    assert finding.code == "GL413"
    assert "`total`" in finding.label
    assert finding.related[0].span.line == finding.span.line - 2


def test_the_same_loss_again_is_no_sum() -> None:
    def program() -> None:
        model, optimizer = small()
        loss = loss_of(model)
        for _ in range(3):
            optimizer.zero_grad()
            loss.backward(retain_graph=True)
            optimizer.step()

    assert found(program) == []


def test_the_mean_of_a_list_that_grows_is_a_running_total() -> None:
    def program() -> None:
        model, optimizer = small()
        losses = []
        for _ in range(4):
            losses.append(loss_of(model))
            optimizer.zero_grad()
            torch.stack(losses).mean().backward(retain_graph=True)
            optimizer.step()

    assert codes(found(program)) == ["GL413"]


def test_a_loss_that_two_optimizers_share_is_no_running_total() -> None:
    def program() -> None:
        encoder, decoder = nn.Linear(3, 2), nn.Linear(3, 2)
        first, second = (torch.optim.SGD(model.parameters(), lr=0.1) for model in (encoder, decoder))
        for i in range(9):
            x = torch.randn(8, 3)
            shared = encoder(x).pow(2).mean()
            first.zero_grad()
            shared.backward(retain_graph=True)
            first.step()
            if i % 3 == 2:  # the second has not stepped at all when the first has done so three times
                second.zero_grad()
                (decoder(x).pow(2).mean() - shared).backward()
                second.step()

    assert [finding for finding in found(program) if finding.code == "GL413"] == []


def test_a_sum_within_one_step_is_right() -> None:
    def program() -> None:
        model, optimizer = small()
        for _ in range(3):
            first, second = loss_of(model), loss_of(model)
            optimizer.zero_grad()
            first.backward(retain_graph=True)
            (first + second).backward()
            optimizer.step()

    assert found(program) == []


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))


def train(forward: Callable[[Parts, torch.Tensor], torch.Tensor], steps: int = 8) -> None:
    model = Parts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        forward(model, torch.randn(4, 3)).pow(2).mean().backward()
        optimizer.step()


def every(model: Parts, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([head(model.body(x)) for head in model.heads])


def one(model: Parts, x: torch.Tensor) -> torch.Tensor:
    return model.heads[0](model.body(x))  # type: ignore[no-any-return]


def cut(model: Parts, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([head(model.body(x).detach()) for head in model.heads])


def test_a_part_without_gradients_is_one_finding_of_medium_confidence() -> None:
    (finding,) = found(lambda: train(cut))
    assert (finding.code, finding.confidence) == ("GL408", Confidence.MEDIUM)
    assert "4 parameters of body (body.0.weight, ...)" in finding.label


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.forgotten = nn.LayerNorm(3), nn.LayerNorm(3)
        self.experts = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.experts[0](self.norm(self.norm(x)))  # type: ignore[no-any-return]


def test_the_same_part_of_several_blocks_is_one_finding() -> None:
    def program() -> None:
        blocks = nn.ModuleList(Block() for _ in range(2))
        optimizer = torch.optim.SGD(blocks.parameters(), lr=0.01)
        for _ in range(8):
            optimizer.zero_grad()
            blocks[1](blocks[0](torch.randn(4, 3))).pow(2).mean().backward()
            optimizer.step()

    (finding,) = found(program)
    assert finding.code == "GL408"
    assert "4 parameters (0.forgotten.weight, ...)" in finding.label  # the other experts' turn may come


@pytest.mark.parametrize("forward", [every, one])
def test_parts_that_are_used_or_whose_turn_may_come(forward: Callable[[Parts, torch.Tensor], torch.Tensor]) -> None:
    assert found(lambda: train(forward)) == []


def test_too_few_steps_say_nothing() -> None:
    assert found(lambda: train(cut, steps=3)) == []
