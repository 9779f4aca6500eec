"""What an optimizer is built of, memory and state that are exchanged under it, and right programs that look alike."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from watching import codes, found, line


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4, width: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        (model(torch.randn(6, width)) - 1).pow(2).mean().backward()
        optimizer.step()


# What torch refuses


def empty() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = [nn.Linear(3, 1)]

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.layers[0](x)
            return out

    net = Net()
    torch.optim.SGD(net.parameters(), lr=0.1)


def spent() -> None:
    params = nn.Linear(3, 1).parameters()
    print(sum(p.numel() for p in params))
    torch.optim.SGD(params, lr=0.1)


def non_leaf() -> None:
    w = torch.zeros(3, requires_grad=True) * 2
    torch.optim.SGD([w], lr=0.1)


def twice() -> None:
    net = nn.Linear(3, 1)
    groups: list[dict[str, Any]] = [{"params": net.parameters()}, {"params": [net.bias]}]
    torch.optim.SGD(groups, lr=0.1)


def in_a_set() -> None:
    net = nn.Linear(3, 1)
    torch.optim.SGD([{"params": set(net.parameters())}], lr=0.1)


def other_groups() -> None:
    net = nn.Linear(3, 1)
    groups: list[dict[str, Any]] = [{"params": [net.weight]}, {"params": [net.bias]}]
    two = torch.optim.SGD(groups, lr=0.1)
    torch.optim.SGD(net.parameters(), lr=0.1).load_state_dict(two.state_dict())


REFUSED = [
    (empty, ValueError, "GL307", "`Net.layers`"),
    (spent, ValueError, "GL305", "read to its end"),
    (non_leaf, ValueError, "GL303", "`w` is computed by mul"),
    (twice, ValueError, "GL306", "`net.bias`"),
    (in_a_set, TypeError, "GL301", "refuses it"),
    (other_groups, ValueError, "GL210", "has 1 parameter groups and is given 2"),
]


@pytest.mark.parametrize(("program", "error", "code", "words"), REFUSED, ids=[row[2] for row in REFUSED])
def test_a_refusal_is_explained(program: Any, error: type[Exception], code: str, words: str) -> None:
    findings = found(program, error)
    assert codes(findings) == [code]
    assert words in findings[0].label


@pytest.mark.parametrize(("program", "error", "code", "words"), REFUSED, ids=[row[2] for row in REFUSED])
def test_a_refusal_that_did_not_end_the_program_is_not_told(
    program: Any, error: type[Exception], code: str, words: str
) -> None:
    def caught() -> None:
        with pytest.raises(error):
            program()

    def caught_and_failed() -> None:
        caught()
        raise KeyError("something else")

    assert found(caught) == []
    assert found(caught_and_failed, KeyError) == []


# What torch accepts


def test_a_set() -> None:
    def program(kind: Callable[[Any], Any]) -> None:
        net = nn.Linear(3, 1)
        train(net, torch.optim.SGD(kind(net.parameters()), lr=0.1))

    assert codes(found(lambda: program(set))) == ["GL301"]
    assert found(lambda: program(lambda ps: sorted(set(ps), key=lambda p: p.numel()))) == []
    assert found(lambda: program(dict.fromkeys)) == []


def test_an_iterator_that_was_begun() -> None:
    def program(*, listed: bool) -> None:
        net = nn.Linear(3, 1)
        params: Any = list(net.parameters()) if listed else net.parameters()
        first = next(iter(params))
        train(net, torch.optim.SGD(params, lr=0.1 if first.is_cpu else 0.2))

    assert "GL305" in codes(found(lambda: program(listed=False)))
    assert found(lambda: program(listed=True)) == []


def test_an_iterator_that_was_read_in_one_of_several_groups() -> None:
    def program(first: Callable[[nn.Module], Any], second: Callable[[nn.Module], Any]) -> None:
        body, head = nn.Linear(3, 3), nn.Linear(3, 1)
        optimizer = torch.optim.SGD([{"params": first(body)}, {"params": second(head)}, {"params": []}], lr=0.1)
        train(nn.Sequential(body, head), optimizer)

    def read(module: nn.Module) -> Any:
        parameters = filter(lambda p: p.requires_grad, module.parameters())
        assert sum(p.numel() for p in parameters) > 0
        return parameters

    def frozen(module: nn.Module) -> list[nn.Parameter]:
        return [p for p in module.requires_grad_(False).parameters() if p.requires_grad]

    findings = found(lambda: program(read, list_of))
    assert codes(findings) == ["GL305"]
    assert "group 0" in findings[0].label
    assert codes(found(lambda: program(list_of, read))) == ["GL305"]
    assert found(lambda: program(list_of, nn.Module.parameters)) == []
    assert found(lambda: program(nn.Module.parameters, list_of)) == []
    assert found(lambda: program(frozen, list_of)) == []  # empty on purpose, and no iterator was read


def list_of(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters())


def test_clipping_with_an_iterator_that_was_read() -> None:
    def program(*, listed: bool) -> None:
        net = nn.Linear(3, 1)
        params: Any = list(net.parameters()) if listed else net.parameters()
        optimizer = torch.optim.SGD(params, lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(6, 3)).pow(2).mean().backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            optimizer.step()

    findings = found(lambda: program(listed=False))
    assert codes(findings) == ["GL305"]
    assert "`params`" in findings[0].label
    assert found(lambda: program(listed=True)) == []


def test_a_rate_of_zero() -> None:
    def program(*, warm: bool) -> None:
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 10 if warm else 0.0)
        for _ in range(5):
            train(net, optimizer, 1)
            schedule.step()

    assert "GL312" in codes(found(lambda: program(warm=False)))
    assert found(lambda: program(warm=True)) == []


def test_options_of_groups() -> None:
    def program(**options: Any) -> None:
        net = nn.Linear(3, 1)
        train(net, torch.optim.SGD([{"params": net.parameters(), **options}], lr=0.1))

    assert codes(found(lambda: program(learning_rate=0.1))) == ["GL312"]
    assert found(lambda: program(layer="head", lr_scale=0.5)) == []


def test_an_attribute_that_nobody_reads() -> None:
    class Own(torch.optim.SGD):
        lr: float

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["lr"] = self.lr
            return super().step(closure)

    def program(kind: Any) -> None:
        net = nn.Linear(3, 1)
        optimizer = kind(net.parameters(), lr=0.1)
        optimizer.lr = 0.01
        train(net, optimizer)

    findings = found(lambda: program(torch.optim.SGD))
    assert codes(findings) == ["GL314"]
    assert "0.01, and the groups say 0.1" in findings[0].label
    assert found(lambda: program(Own)) == []


def test_frozen_for_good() -> None:
    def program(thaw: int | None, steps: int = 24) -> None:
        body, head = nn.Linear(3, 4).requires_grad_(False), nn.Linear(4, 1)
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (body, head)]
        for step in range(steps):
            if step == thaw:
                body.requires_grad_(True)
            for optimizer in optimizers:
                optimizer.zero_grad()
            head(body(torch.randn(6, 3))).pow(2).mean().backward()
            for optimizer in optimizers:
                optimizer.step()

    findings = found(lambda: program(None, 12))
    assert codes(findings) == ["GL304"]
    assert "weight` and" in findings[0].label
    assert found(lambda: program(3)) == []
    assert found(lambda: program(22)) == []


# Memory


def shared() -> None:
    one, two = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    one.weight.data = two.weight.data
    train(one, optimizer)


def copied() -> None:
    one, two = nn.Linear(3, 1), nn.Linear(3, 1)
    optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
    one.weight.data = two.weight.data.clone()
    train(one, optimizer)


def grown() -> None:
    net = nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    train(net, optimizer)
    net.weight.data = torch.zeros(1, 5)
    train(net, optimizer, width=5)


def flat() -> None:
    net = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    whole = torch.cat([p.detach().reshape(-1) for p in net.parameters()])
    net.weight.data, net.bias.data = whole[:3].view(1, 3), whole[3:]
    train(net, optimizer)


def test_memory() -> None:
    findings = found(shared)
    assert codes(findings) == ["GL205"]
    assert "two.weight" in findings[0].label
    assert found(copied) == []
    assert found(flat) == []
    findings = found(grown, RuntimeError)
    assert codes(findings) == ["GL205"]
    assert "(1, 5)" in findings[0].label


# Loading


def test_a_state_that_is_the_model_itself() -> None:
    def program(keep: Callable[[Any], Any], *, between: int = 3) -> None:
        net = nn.Linear(3, 1)
        best = keep(net.state_dict())
        train(net, torch.optim.SGD(net.parameters(), lr=0.1), between)
        net.load_state_dict(best)

    findings = found(lambda: program(lambda state: state))
    assert codes(findings) == ["GL211"]
    assert "3 steps ago" in findings[0].label
    assert codes(found(lambda: program(dict))) == ["GL211"]
    assert found(lambda: program(copy.deepcopy)) == []
    assert found(lambda: program(lambda state: state, between=0)) == []


def test_a_state_into_which_others_are_merged() -> None:
    def program() -> None:
        net, other = nn.Linear(3, 1), nn.Linear(3, 1)
        state = net.state_dict()
        train(net, torch.optim.SGD(net.parameters(), lr=0.1))
        state["weight"] = other.state_dict()["weight"]
        net.load_state_dict(state)

    assert found(program) == []


def test_nothing_is_loaded() -> None:
    def program(rename: Callable[[str], str]) -> None:
        net = nn.Linear(3, 1)
        state = {rename(key): value for key, value in nn.Linear(3, 1).state_dict().items()}
        net.load_state_dict(state, strict=False)

    assert codes(found(lambda: program(lambda key: f"module.{key}"))) == ["GL210"]
    assert found(lambda: program(lambda key: key)) == []
    assert found(lambda: program(lambda key: key.replace("bias", "offset"))) == []


def test_a_state_of_other_sizes() -> None:
    def program(width: int) -> None:
        one, two = nn.Linear(3, 2), nn.Linear(3, width)
        first, second = (torch.optim.Adam(net.parameters(), lr=0.1) for net in (one, two))
        train(one, first)
        second.load_state_dict(first.state_dict())
        train(two, second)

    assert codes(found(lambda: program(4), RuntimeError)) == ["GL210"]
    assert found(lambda: program(2)) == []


# Attributes of modules


class Scaled(nn.Module):
    def __init__(self, scale: Tensor, extra: Any = None) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 1)
        self.scale = scale
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.extra or ():
            x = layer(x)
        out: Tensor = self.fc(x) * self.scale
        return out


def test_what_a_module_does_not_register() -> None:
    def program(net: nn.Module) -> None:
        train(net, torch.optim.SGD(net.parameters(), lr=0.1))

    assert codes(found(lambda: program(Scaled(torch.ones(1, requires_grad=True))))) == ["GL309"]
    assert codes(found(lambda: program(Scaled(torch.ones(1), [nn.Linear(3, 3)])))) == ["GL308"]
    assert found(lambda: program(Scaled(torch.ones(1)))) == []
    assert found(lambda: program(Scaled(torch.ones(1), [nn.Linear(3, 3).requires_grad_(False)]))) == []
    assert found(lambda: program(Scaled(nn.Parameter(torch.ones(1)), nn.ModuleList([nn.Linear(3, 3)])))) == []


class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = [nn.Linear(3, 3)]
        self.second = {"a": nn.Linear(3, 3)}
        self.fc = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.second["a"](self.first[0](x)))
        return out


def test_the_lists_of_a_class_are_one_mistake_on_the_line_of_the_first() -> None:
    def program() -> None:
        net = Lists()
        train(net, torch.optim.SGD(net.parameters(), lr=0.1))

    (finding,) = found(program)
    assert finding.code == "GL308"
    assert line(finding) == "self.first = [nn.Linear(3, 3)]"
    beside = [related.span.line for related in finding.related if related.message == "nor are those in this one"]
    assert beside == [finding.span.line + 1]


class Judge:
    """No module, though it computes like one, and has a part that is trained elsewhere or not at all."""

    def __init__(self, state: dict[str, Tensor] | None) -> None:
        self.net = nn.Linear(3, 1)
        if state is not None:
            self.net.load_state_dict(state)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Judged(nn.Module):
    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.judge = judge

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(self.fc(x))


def test_a_part_that_is_no_module() -> None:
    def program(state: dict[str, Tensor] | None) -> None:
        net = Judged(Judge(state))
        train(net, torch.optim.SGD(net.parameters(), lr=0.1))

    (finding,) = found(lambda: program(None))
    assert finding.code == "GL318"
    assert line(finding) == "class Judge:"
    assert found(lambda: program(nn.Linear(3, 1).state_dict())) == []  # a network that judges, as it was trained before


def test_layers_in_a_list_that_were_handed_over_by_hand() -> None:
    def program() -> None:
        net = Scaled(torch.ones(1), [nn.Linear(3, 3)])
        train(net, torch.optim.SGD([*net.parameters(), *net.extra[0].parameters()], lr=0.1))

    assert found(program) == []


def test_requires_grad_of_a_module() -> None:
    def program(*, rightly: bool) -> None:
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net[0].requires_grad = False  # type: ignore[assignment]
        if rightly:
            net[0].requires_grad_(False)
        train(net, optimizer)

    assert codes(found(lambda: program(rightly=False))) == ["GL311"]
    assert found(lambda: program(rightly=True)) == []


class Rebuilds(nn.Module):
    def __init__(self, *, every: bool) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.every = every
        self.heads = nn.ModuleDict()

    def forward(self, x: Tensor) -> Tensor:
        if self.every or "head" not in self.heads:
            self.heads["head"] = nn.Linear(4, 1)
        out: Tensor = self.heads["head"](self.body(x))
        return out


def test_a_layer_that_is_new_for_each_loss() -> None:
    def program(*, every: bool, first: bool) -> None:
        net = Rebuilds(every=every)
        if first:
            net(torch.zeros(1, 3))
        train(net, torch.optim.SGD(net.parameters(), lr=0.1))

    assert "GL315" in codes(found(lambda: program(every=True, first=True)))
    assert codes(found(lambda: program(every=False, first=False))) == ["GL202"]
    assert found(lambda: program(every=False, first=True)) == []
