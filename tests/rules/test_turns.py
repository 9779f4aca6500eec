"""The gradient cycle where it is hard to see: programs that are right, each with the twin that is not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

HEAD = """
import contextlib
import copy
import torch
from torch import nn
import torch.distributed as dist


class Affine(nn.Module):
    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(3))
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x * self.slope + self.shift


class Outer(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.randn(4, 3)
affine = Affine()
other = Affine()
w = nn.Parameter(torch.ones(3))
v = torch.ones(3, requires_grad=True)
"""


def findings(code: str, *codes: str) -> list[Finding]:
    data = (HEAD + textwrap.dedent(code)).encode()
    file = SourceFile("train.py", Path(__file__).parent / "nowhere" / "train.py", data)
    found = analyse([file], registry.load())  # all, for it depends on the rules what is worth reading
    return [f for f in found if f.confidence >= Confidence.MEDIUM and (not codes or f.code in codes)]


def codes(code: str, *only: str) -> list[str]:
    return [finding.code for finding in findings(code, *only)]


OWNED = {  # what is stepped, what clears it, and what does not
    "a parameter in a list": ("[affine.slope]", "affine.zero_grad()", "other.zero_grad()"),
    "a parameter among layers": (
        "[{'params': [affine.slope]}, {'params': model.parameters()}]",
        "affine.zero_grad(); model.zero_grad()",
        "other.zero_grad()",
    ),
    "a parameter in a container": ("[affine.slope]", "nn.Sequential(affine).zero_grad()", "other.zero_grad()"),
    "a parameter of a module that was handed over": (
        "[affine.slope]",
        "Outer(affine).zero_grad()",
        "other.zero_grad()",
    ),
    "a parameter that is assigned": ("[w]", "other.slope = w; other.zero_grad()", "pass"),
    "a parameter that is registered": ("[w]", "other.register_parameter('w', w); other.zero_grad()", "pass"),
    "a parameter that is set": ("[w]", "setattr(other, 'w', w); other.zero_grad()", "pass"),
    "all parameters of its module": ("[affine.shift]", "for p in affine.parameters(): p.grad = None", "pass"),
    "a plain tensor is in no module": ("[v]", "v.grad = None", "affine.zero_grad()"),
    "a copy is no part of what the original is in": (
        "[affine.slope]",
        "affine.zero_grad()",
        "copy.deepcopy(affine).zero_grad()",
    ),
}


@pytest.mark.parametrize("case", OWNED)
def test_a_parameter_belongs_to_its_module(case: str) -> None:
    held, clears, misses = OWNED[case]

    def program(clear: str) -> str:
        return f"sole = torch.optim.SGD({held}, lr=0.1)\nfor k in range(5):\n" + textwrap.indent(
            f"(affine(x).sum() + model(x).sum() + (w * v).sum()).backward()\nsole.step()\n{clear}\n", "    "
        )

    assert codes(program(clears), "GL101", "GL102", "GL106") == []
    assert codes(program(misses), "GL101", "GL102", "GL106") == ["GL101"]


OVERWRITTEN = [
    "p.grad.copy_(s)",
    "p.grad.data.fill_(0.5)",
    "p.grad.detach().normal_()",
    "p.grad[:] = s",
    "p.grad[...] = 1.0",
    "p.grad.data = s",
    "nn.init.constant_(p.grad, 0.1)",
    "torch.mul(s, 2.0, out=p.grad)",
    "dist.broadcast(p.grad, 0)",
]
ADDED = ["p.grad.mul_(0.5)", "p.grad.add_(s, alpha=0.1)", "p.grad[0] = 0.1", "dist.all_reduce(p.grad)"]


@pytest.mark.parametrize("write", OVERWRITTEN + ADDED)
def test_what_is_written_over_a_gradient_does_not_add_to_it(write: str) -> None:
    code = f"""
for k in range(5):
    model(x).sum().backward()
    for p in model.parameters():
        s = torch.ones_like(p)
        {write}
    opt.step()
"""
    assert codes(code, "GL101") == ([] if write in OVERWRITTEN else ["GL101"])


FLAGS = {
    "at the end": ("done = False\nwhile not done:\n    PASS\n    done = True", "    done = k > 5"),
    "at the head": ("on = True\nwhile on:\n    on = False\n    PASS", "    on = k < 5"),
    "compared": ("state = 'go'\nwhile state != 'end':\n    PASS\n    state = 'end'", "    state = read()"),
    "in a try": (
        "done = False\nwhile not done:\n    try:\n        PASS\n        done = True\n    except RuntimeError:\n"
        "        k = 1",
        "    done = False",
    ),
    "in an else": (
        "done = False\nwhile not done:\n    try:\n        PASS\n    except RuntimeError:\n        k = 1\n    else:\n"
        "        done = True",
        "    done = k > 5",
    ),
    "a break": (
        "for attempt in range(3):\n    try:\n        PASS\n        break\n    except RuntimeError:\n        k = 1",
        "    PASS",
    ),
}


@pytest.mark.parametrize("case", FLAGS)
def test_a_loop_that_its_flag_ends_runs_once(case: str) -> None:
    code, again = FLAGS[case]

    def program(text: str) -> str:
        lines = []
        for line in text.splitlines():
            indent = line[: len(line) - len(line.lstrip())]
            passed = [f"{indent}model(x).sum().backward()", f"{indent}opt.step()"]
            lines += passed if line.strip() == "PASS" else [line]
        return "k = 0\n" + "\n".join(lines)

    assert codes(program(code), "GL101") == []
    assert set(codes(program(f"{code}\n{again}"), "GL101")) == {"GL101"}


def test_a_loop_inside_of_one_that_its_flag_ends_goes_round() -> None:
    code = """
done = False
while not done:
    for k in range(3):
        model(x).sum().backward()
        opt.step()
    done = True
"""
    assert codes(code, "GL101") == ["GL101"]


WARM = """
schedule = torch.optim.lr_scheduler.StepLR(opt, 2)
for k in range(5):
    LOSS.backward()
    opt.step()
    schedule.step()
"""


def test_backward_on_a_tensor_made_for_it_reaches_nobody() -> None:
    assert codes(WARM.replace("LOSS", "torch.empty(1, requires_grad=True)")) == []
    assert codes(WARM.replace("LOSS", "torch.ones(2, requires_grad=True).mul(3).sum()")) == []
    assert codes(WARM.replace("LOSS", "model(x).sum()")) == ["GL101"]
    total = "loss = (v * 2).sum()\n    loss += model(x).sum()\n    loss"
    assert codes(WARM.replace("LOSS", total)) == ["GL101"]


UPDATES = """
class Updates:
    def __init__(self, net):
        self.net = net
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def apply(self, batch):
        {before}nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        {after}self.optimizer.step()
        self.optimizer.zero_grad()
"""


def test_a_method_that_only_clips_and_steps_leaves_the_backward_to_others() -> None:
    run = "self.net(batch).sum().backward(); "
    assert codes(UPDATES.format(before="", after=""), "GL107") == []
    assert codes(UPDATES.format(before=run, after=""), "GL107") == []
    assert codes(UPDATES.format(before="", after=run), "GL107") == ["GL107"]


TURNS = """
@contextlib.contextmanager
def update(net, optimizer):
    optimizer.zero_grad()
    {0}
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()


def steps(net, optimizer):
    while True:
        optimizer.zero_grad()
        {0}
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
"""


def test_who_takes_turns_with_a_generator_may_run_the_backward() -> None:
    assert codes(TURNS.format("yield net"), "GL107", "GL103", "GL104") == []
    assert codes(TURNS.format("pass"), "GL107") == ["GL107", "GL107"]


PAIRS = """
def step(pairs):
    for name, optimizer in pairs:
        nn.utils.clip_grad_norm_(name.parameters(), 1.0)
        optimizer.step()


def fit(pairs, loader):
    for net, optimizer in pairs:
        for batch in loader:
            net(batch).sum().backward()
            optimizer.step()
"""


def test_an_optimizer_taken_out_of_pairs_is_another_one_in_each_round() -> None:
    assert codes(PAIRS, "GL101", "GL107") == ["GL101"]


TWO = """
second = nn.Linear(3, 1)
opt_second = torch.optim.SGD(second.parameters(), lr=0.1)

def clear(o):
    o.zero_grad()

for k in range(5):
    {clear}
    second(x).sum().backward()
    opt_second.step()
    {own}
    model(x).sum().backward()
    opt.step()
"""


def test_a_clearing_is_blamed_only_if_it_is_for_nothing() -> None:
    wrong = findings(TWO.format(clear="clear(opt)", own="clear(opt)"), "GL101", "GL106")
    assert [f.code for f in wrong] == ["GL106"]
    assert "`opt`" in wrong[0].label
    assert "`o`" not in wrong[0].label
    assert wrong[0].span.line == 40  # the call, not the helper that is right for others
    right = findings(TWO.format(clear="opt.zero_grad()", own="pass"), "GL101", "GL106")
    assert [f.code for f in right] == ["GL101"]


def test_a_second_step_in_the_round_is_no_clearing_outside_of_the_loop() -> None:
    code = """
for k in range(5):
    opt.zero_grad()
    model(x).sum().backward()
    opt.step()
    model(x).mean().backward()
    opt.step()
"""
    (finding,) = findings(code, "GL101", "GL102")
    assert finding.code == "GL101"
    assert "step before" in finding.label
    assert finding.fix is not None
    assert finding.fix.edits[0].text == "    opt.zero_grad()\n"


SCALED = """
guard = torch.amp.GradScaler({0})
for k in range(5):
    opt.zero_grad()
    guard.scale(model(x).sum()).backward()
    opt.step()
    guard.update()
"""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [("", ", 65536 at the start"), ("init_scale=2.0**10", ", 2.0**10 at the start"), ("**settings", "the scale")],
)
def test_the_scale_and_the_scaler_are_those_of_the_program(arguments: str, told: str) -> None:
    (finding,) = findings(SCALED.format(arguments), "GL109")
    assert finding.why.endswith(told)
    assert finding.help.startswith("call `guard.step(opt)`")


def test_lists_of_one_class_are_one_mistake() -> None:
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convs = [nn.Conv2d(3, 3, 1) for _ in range(3)]
        self.norms = [nn.BatchNorm2d(3) for _ in range(3)]
        self.heads = {"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}
        self.drops = [nn.Dropout(0.1), nn.Dropout(0.2)]
    def forward(self, x):
        for conv, norm, drop in zip(self.convs, self.norms, self.drops):
            x = drop(norm(conv(x)))
        return self.heads["a"](x)
"""
    weights, mode = findings(code, "GL308")
    assert len(weights.related) == 2
    assert weights.fix is not None
    assert len(weights.fix.edits) == 3
    assert "self.drops" in mode.why
    assert not mode.related


SEQUENCE = """
from typing import Sequence

def norms(values: {0}):
    return [v.norm() for v in values], [v.max() for v in values]

def run(net):
    return norms(net.parameters())
"""


def test_what_is_asked_for_as_a_sequence_is_one() -> None:
    assert codes(SEQUENCE.format("Sequence[torch.Tensor]"), "GL305") == []
    assert codes(SEQUENCE.format("object"), "GL305") == ["GL305"]


GROUPS = """
class Pull(torch.optim.Optimizer):
    def pull(self, others):
        for group in {0}:
            for own, other in zip(group["params"], others):
                own.data.lerp_(other.data, 0.5)

def run(net):
    pull = Pull(net.parameters(), {{}})
    pull.pull(nn.Linear(3, 1).parameters())
"""


def test_an_optimizer_may_have_one_group() -> None:
    assert codes(GROUPS.format("self.param_groups"), "GL305") == []
    assert codes(GROUPS.format("[{'params': [1]}, {'params': [2]}]"), "GL305") == ["GL305"]
