"""What the rules GL315, GL317 and GL318 make of classes less tidy than the examples of their pages."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

CODES = {"GL315", "GL317", "GL318"}
HEAD = """
import torch
import torch.nn as nn
import torch.nn.functional as F
from somewhere import helper
"""


def codes(code: str) -> list[str]:
    """The codes of the findings of high confidence in a program, in the order of its lines."""
    data = (HEAD + textwrap.dedent(code)).encode()
    file = SourceFile("example.py", Path(__file__).parent / "nowhere" / "example.py", data)
    rules = [rule for rule in registry.load() if rule.code in CODES]
    return [f.code for f in analyse([file], rules) if f.confidence >= Confidence.HIGH]


def net(forward: str, init: str = "pass", more: str = "") -> str:
    """A module with such a `forward`."""
    lines = [
        "class Net(nn.Module):",
        "    def __init__(self, width, deep=False):",
        "        super().__init__()",
        textwrap.indent(textwrap.dedent(init).strip(), " " * 8),
        "    def forward(self, x):",
        textwrap.indent(textwrap.dedent(forward).strip(), " " * 8),
        textwrap.indent(textwrap.dedent(more), " " * 4),
    ]
    return "\n".join(lines)


BUILT = {
    "under an option": net("if self.deep:\n    x = nn.Linear(8, 8)(x)\nreturn x", "self.deep = deep"),
    "behind a check of the input": net("if x.dim() != 4:\n    raise ValueError(x)\nreturn nn.Conv2d(3, 8, 3)(x)"),
    "one for each round of a loop": net("for _ in range(3):\n    x = nn.LayerNorm(8).to(x.device)(x)\nreturn x"),
    "in a list that is walked over": net(
        "layers = [nn.Linear(8, 8), nn.Linear(8, 8)]\nfor layer in layers:\n    x = layer(x)\nreturn x"
    ),
    "made by a method": net("return self.make()(x)", more="def make(self):\n    return nn.Linear(8, 1)"),
    "a recurrent layer, unpacked": net("rnn = nn.LSTM(8, 8)\nout, (h, c) = rnn(x)\nreturn out"),
    "a random parameter in a product": net("w = nn.Parameter(torch.randn(8, 8))\nreturn torch.matmul(x, w)"),
}

NOT_BUILT = {
    "handed to code that cannot be seen": net("layer = nn.Linear(8, 8)\nhelper(layer)\nreturn layer(x)"),
    "kept in a list of the module": net(
        "layer = nn.Linear(8, 8)\nself.cache.append(layer)\nreturn layer(x)", "self.cache = []"
    ),
    "kept in a dictionary by size": net(
        "if x.size(1) not in self.cache:\n    self.cache[x.size(1)] = nn.Linear(8, 8)\nreturn self.cache[x.size(1)](x)",
        "self.cache = {}",
    ),
    "left early once it is there": net(
        "self.prepare(x)\nreturn self.fc(x)",
        "self.fc = None",
        "def prepare(self, x):\n    if self.fc is not None:\n        return\n    self.fc = nn.Linear(8, 8)",
    ),
    "handed back": net("layer = nn.Linear(8, 8)\nreturn layer(x), layer"),
    "its weights are written": net("conv = nn.Conv2d(1, 1, 3)\nconv.weight.data.fill_(1 / 9)\nreturn conv(x)"),
    "its weights are loaded": net("fc = nn.Linear(8, 8)\nfc.load_state_dict(self.saved)\nreturn fc(x)"),
    "in evaluation mode, as a fixed transform": net("fc = nn.Linear(8, 8).eval()\nreturn fc(x)"),
    "frozen": net("fc = nn.Linear(8, 8).requires_grad_(False)\nreturn fc(x)"),
    "optimised in forward": net(
        "fc = nn.Linear(8, 8)\noptimizer = torch.optim.SGD(fc.parameters(), lr=0.1)\nreturn fc(x)"
    ),
    "a starting point of noughts": net("h = nn.Parameter(torch.zeros(8))\nreturn x + h"),
    "forward without gradients": net(
        "return x", more="@torch.no_grad()\ndef forward(self, x):\n    return nn.Linear(8, 8)(x)"
    ),
    "a class that is no module": "class Net:\n    def forward(self, x):\n        return nn.Linear(8, 8)(x)",
}


@pytest.mark.parametrize("code", BUILT.values(), ids=BUILT)
def test_built_in_forward(code: str) -> None:
    assert set(codes(code)) == {"GL315"}


@pytest.mark.parametrize("code", NOT_BUILT.values(), ids=NOT_BUILT)
def test_not_built_in_forward(code: str) -> None:
    assert codes(code) == []


LEARNS = {
    "not kept in the file": 'self.register_buffer("w", nn.Parameter(torch.ones(3)), persistent=False)',
    "told to require grad": 'w = torch.ones(3)\nw.requires_grad_()\nself.register_buffer("w", w)',
    "a flag that is set": 'w = torch.ones(3)\nw.requires_grad = True\nself.register_buffer("w", w)',
}

STAYS = {
    "frozen afterwards": 'self.register_buffer("w", nn.Parameter(torch.ones(3)))\nself.w.requires_grad_(False)',
    "also a parameter": 'self.v = nn.Parameter(torch.ones(3))\nself.register_buffer("w", self.v)',
    "either a parameter or a buffer": """
        w = nn.Parameter(torch.ones(3))
        if deep:
            self.register_parameter("w", w)
        else:
            self.register_buffer("w", w)
        """,
    "as the caller wants it": 'self.register_buffer("w", torch.ones(3, requires_grad=deep))',
    "its content only": 'w = nn.Parameter(torch.ones(3))\nself.register_buffer("w", w.detach())',
    "nothing yet": 'self.v = nn.Parameter(torch.ones(3))\nself.register_buffer("w", None)',
}


@pytest.mark.parametrize("init", LEARNS.values(), ids=LEARNS)
def test_trainable_buffer(init: str) -> None:
    assert codes(net("return x * self.w", init)) == ["GL317"]


@pytest.mark.parametrize("init", STAYS.values(), ids=STAYS)
def test_buffer_that_does_not_learn(init: str) -> None:
    assert codes(net("return x * self.w", init)) == []


PART = """
class Block{bases}:
    def __init__(self):
        self.fc = nn.Linear(8, 8){end}

    def forward(self, x):
        return self.fc(x)
"""
OWNER = net("return self.block.forward(x)", "self.block = Block()")


def test_part_that_is_no_module() -> None:
    assert codes(PART.format(bases="", end="") + OWNER) == ["GL318"]
    assert codes(PART.format(bases="(object)", end="") + OWNER) == ["GL318"]


NO_PART = {
    "nobody owns it": PART.format(bases="", end=""),
    "its owner is no module": PART.format(bases="", end="")
    + "class Owner:\n    def __init__(self):\n        self.b = Block()",
    "frozen": PART.format(bases="", end=".requires_grad_(False)") + OWNER,
    "a base that cannot be seen": PART.format(bases="(helper.Base)", end="") + OWNER,
    "a base of modules": PART.format(bases="", end="") + OWNER + "\nclass Real(Block, nn.Module):\n    pass",
    "its layers are trained by name": PART.format(bases="", end="")
    + OWNER
    + "\nmodel = Net(8)\nparams = [*model.parameters(), *model.block.fc.parameters()]",
    "a test that it is refused": "import pytest\n"
    + PART.format(bases="", end="")
    + "with pytest.raises(TypeError):\n    nn.Sequential(Block())",
}


@pytest.mark.parametrize("code", NO_PART.values(), ids=NO_PART)
def test_no_part_of_a_module(code: str) -> None:
    assert codes(code) == []
