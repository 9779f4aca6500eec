"""Which models are frozen for certain where an optimizer is built: GL304 for all parameters, GL307 for what is left.

Each thing that may put a part into a frozen model, or thaw one, makes the model one of which nothing is said; the
controls are what leaves it as it is, and there both mistakes have to be found.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

HEAD = """
import functools
import torch
from torch import nn
from torch.nn.utils import parametrize, weight_norm
import elsewhere, peft

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8))
        self.fc = nn.Linear(8, 2)
    def forward(self, x):
        return self.fc(self.body(x))

class Beside(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.gain = base, nn.Parameter(torch.ones(1))
    def forward(self, x):
        return self.base(x) * self.gain

def inject(module):
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Beside(child))
        else:
            inject(child)

def gain(module):
    if isinstance(module, nn.Linear):
        module.gain = nn.Parameter(torch.ones(1))

def size(module):
    return sum(p.numel() for p in module.parameters())

class Holder:
    pass

model = Net()
"""
TAIL = """
for _ in range(3):
    optimizer.zero_grad()
    model(torch.randn(5, 4)).pow(2).mean().backward()
    optimizer.step()
"""
FREEZE = ["model.requires_grad_(False)", "for p in model.parameters():\n    p.requires_grad = False"]
BUILT = {
    "GL304": "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
    "GL307": "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)",
}
_RULES = [rule for rule in registry.load() if rule.code in BUILT]


def found(*lines: str) -> list[tuple[str, Confidence]]:
    code = "\n".join([HEAD, *(dedent(line).strip("\n") for line in lines), TAIL])
    findings = analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], _RULES)
    return [(f.code, f.confidence) for f in findings]


@pytest.mark.parametrize("code", BUILT)
@pytest.mark.parametrize("freeze", FREEZE)
@pytest.mark.parametrize(
    "act",
    [
        "for m in list(model.modules()):\n    for n, c in m.named_children():\n        setattr(m, n, Beside(c))",
        "for _, m in model.named_modules():\n    m.lora = nn.Parameter(torch.ones(1))",
        "with torch.no_grad():\n    for m in model.children():\n        m.lora = nn.Parameter(torch.ones(1))",
        "found = dict(model.named_modules())\nfor n in list(found):\n    found[n].lora = nn.Parameter(torch.ones(1))",
        "inject(model)",
        "inject(model.body)",
        "model.apply(gain)",
        "model.fc.register_parameter('k', nn.Parameter(torch.ones(1)))",
        "model.register_module('more', nn.Linear(2, 2))",
        "parametrize.register_parametrization(model.fc, 'weight', Beside(nn.Identity()))",
        "model.fc = weight_norm(model.fc)",
        "model._modules['fc'] = Beside(model.fc)",
        "model._modules.update(fc=nn.Linear(8, 2))",
        "model.set_submodule('body.0', nn.Linear(4, 8))",
        "model.body[0] = nn.Linear(4, 8)",
        "model.body.append(nn.Linear(8, 8))",
        "setattr(model.body, 'extra', nn.Linear(2, 2))",
        "getattr(model, 'body')[2].gain = nn.Parameter(torch.ones(1))",
        "functools.partial(setattr, model)('extra', nn.Linear(2, 2))",
        "elsewhere.adapt(model)",
        "elsewhere.adapt(model.body)",
        "holder = Holder()\nholder.model = model\nelsewhere.adapt(holder)",
        "model.body.enable_adapters()",
        "peft.inject_adapter_in_model(peft.LoraConfig(), model)",
        "model.fc.requires_grad_(True)",
        "for p in model.fc.parameters():\n    p.requires_grad = True",
        "for p in model.fc.parameters():\n    setattr(p, 'requires_grad', True)",
        "model.fc.weight.requires_grad = True",
        "list(map(lambda p: p.requires_grad_(True), model.fc.parameters()))",
        "for n, p in model.named_parameters():\n    if n.startswith('fc'):\n        p.requires_grad = True",
    ],
)
def test_a_part_that_may_be_trained(code: str, freeze: str, act: str) -> None:
    assert found(freeze, act, BUILT[code]) == []


@pytest.mark.parametrize("code", BUILT)
@pytest.mark.parametrize(
    "put",
    [
        "head = model.fc = nn.Linear(8, 5)",
        "head = nn.Linear(8, 5)\nsetattr(model, 'fc', head)",
        "head = nn.Linear(8, 5)\nmodel.add_module('fc', head)",
        "head = nn.Linear(8, 8)\nmodel.body[2] = head",
        "head = nn.Linear(8, 8)\nmodel.body.append(head)",
        "head = nn.Linear(8, 5)\nmodel._modules['fc'] = head",
        "head = nn.Linear(2, 2)\nmodel = nn.Sequential(model, head)",
    ],
)
def test_a_new_head_is_thawed(code: str, put: str) -> None:
    assert found(put, FREEZE[1], "for p in head.parameters():\n    p.requires_grad = True", BUILT[code]) == []


@pytest.mark.parametrize("code", BUILT)
@pytest.mark.parametrize("freeze", FREEZE)
@pytest.mark.parametrize(
    "act",
    [
        "pass",
        "print(model)",
        "n = size(model)",
        "model.title = 'frozen'",
        "other = nn.Linear(2, 2)\nother.extra = nn.Linear(2, 2)\nother.requires_grad_(True)",
        "holder = Holder()\nholder.model = model\nholder.extra = nn.Linear(2, 2)",
        "model = model.to('cpu')\nmodel.train()",
        "with torch.no_grad():\n    model(torch.randn(5, 4))",
        "layers = [m for m in model.modules() if isinstance(m, nn.Linear)]",
        "torch.save(model.state_dict(), 'net.pt')",
        "model.register_buffer('seen', torch.zeros(1))",
    ],
)
def test_what_leaves_it_frozen(code: str, freeze: str, act: str) -> None:
    assert found(freeze, act, BUILT[code]) == [(code, Confidence.HIGH)]


TRAINER = """
class Trainer:
    def __init__(self):
        self.model, self.done = Net(), 0
        self.model.requires_grad_(False)

    def other(self, n):
{other}

    def train(self, xs):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for x in xs:
            optimizer.zero_grad()
            self.model(x).mean().backward()
            optimizer.step()
"""


@pytest.mark.parametrize(
    ("other", "sure"),
    [
        ("self.model.fc.requires_grad_(True)", False),
        ("for p in self.model.fc.parameters():\n    p.requires_grad = True", False),
        ("self.model.fc = nn.Linear(8, n)", False),
        ("self.model = Net()", False),
        ("elsewhere.adapt(self.model)", False),
        ("self.done = n", True),
        ("torch.save(self.model.state_dict(), 'net.pt')", True),
        ("self.model.eval()\nreturn self.model(n)", True),
    ],
)
def test_another_method_may_have_been_called(other: str, sure: bool) -> None:
    code = HEAD + TRAINER.format(other=indent(other, "        "))
    findings = analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], _RULES)
    assert [f.code for f in findings] == (["GL304"] if sure else [])
