"""What a project puts in place of something of torch makes findings about it uncertain."""

from __future__ import annotations

import pytest

from gradcheck_lint.finding import Confidence, Safety
from gradcheck_lint.source.replaced import doubtful, replaced
from tests.fuzz.trial import try_out

REPLACED = [
    ("import torch\ntorch.optim.SGD.step = timed", {"step"}),
    ("import torch.nn as nn\nnn.Module.load_state_dict = load", {"load_state_dict"}),
    ("from torch.nn import (\n    Module,\n    Linear as L,\n)\nL.forward: F = f\nModule.x = g", {"forward", "x"}),
    ("from torch import nn, optim\nsetattr(optim.Adam, 'step', f)", {"step"}),
    ("import torch\nif on: torch.Tensor.sum, x = f", {"sum"}),
    ("from torch import nn\nsetattr(\n    nn.Module,\n    'to',\n    f,\n)", {"to"}),
    ("import torch\ncurse(torch.Tensor, 'backward', f)\ngetattr(torch.Tensor, 'sum')", {"backward"}),
    ("import torch\nold = torch.Tensor.backward = f", {"backward"}),
    ("import torch\ntorch.backends.cudnn.benchmark = True", set()),
    ("import torch\nif torch.optim.SGD.step == f: pass", set()),
    ("import torch\nmodel.step = f", set()),
    ("import numpy as nn\nnn.Module.step = f", set()),
    ("import torchvision\ntorchvision.ops.nms = f", set()),
    ("import torch\n# as `torch.optim.SGD.lr = f` does\nx = 'torch.optim.SGD.step = f'", set()),
    ("import torch\ndef f(a: int, kind: torch.dtype = torch.float32, *, form: torch.layout = g): pass", set()),
    ("import torch\nisinstance(torch.Tensor, 'x')", set()),
]
PATCHED = [
    ("with mock.patch('torch.nn.utils.clip_grad_norm_', f): pass", {"clip_grad_norm_"}),
    ("import torch\nwith mock.patch.object(torch.Tensor, 'backward'): pass", {"backward"}),
    ("import torch\ndef trace(): patcher.patch_method(torch.nn.Module, '__call__', f)", {"__call__"}),
]


@pytest.mark.parametrize(("text", "names"), REPLACED)
def test_names_are_found(text: str, names: set[str]) -> None:
    assert replaced(text) == (names, set())


@pytest.mark.parametrize(("text", "names"), PATCHED)
def test_what_patches_puts_it_back(text: str, names: set[str]) -> None:
    assert replaced(text) == (set(), names)


@pytest.mark.parametrize(("where", "sure"), [("train.py", False), ("test_train.py", True)])
def test_what_is_patched_for_a_while_matters_in_the_same_file(where: str, sure: bool) -> None:
    files = {"train.py": PROGRAM.format("pass"), "test_train.py": "import torch\n"}
    files[where] += "def test():\n    with mock.patch.object(torch.nn.Module, '__setattr__'):\n        pass\n"
    found = [f for f in try_out(files, least=Confidence.LOW).found if f.code == "GL311"]
    assert [f.confidence is Confidence.HIGH for f in found] == [sure]


def test_a_name_of_every_turn_makes_all_uncertain_and_another_what_speaks_of_it() -> None:
    assert doubtful(frozenset({"step"}), "optimizer = build()")
    assert doubtful(frozenset({"__setattr__"}), "optimizer = build()")
    assert doubtful(frozenset({"load"}), "torch.load(path)")
    assert not doubtful(frozenset({"load"}), "model.load_state_dict(state)")


PROGRAM = """\
import torch
from torch import nn
{}
model = nn.Linear(3, 2)
model.requires_grad = False
opt = torch.optim.SGD(model.parameters(), lr=0.1)
opt.zero_grad()
model(torch.ones(1, 3)).sum().backward()
opt.step()
"""


@pytest.mark.parametrize(
    ("before", "sure"),
    [
        ("pass", True),
        ("torch.backends.cudnn.benchmark = True", True),
        ("torch.backends.cudnn.step = args.step", True),
        ("from torch.backends import cudnn; cudnn.step = args.step", True),
        ("torch._dynamo.config.step = args.step", True),
        ("if True: torch.configure.step = args.step", False),
        ("nn.Module.other = property(lambda m: True)", True),
        ("nn.Module.requires_grad = property(lambda m: True, lambda m, on: m.requires_grad_(on))", False),
        ("nn.Module.__setattr__ = lambda m, name, value: m.requires_grad_(value)", False),
        ("for cls in (nn.Module,):\n    cls.requires_grad = property(lambda m: True, lambda m, on: 0)", False),
    ],
)
def test_a_finding_is_certain_only_while_torch_is_what_it_is(before: str, sure: bool) -> None:
    found = [f for f in try_out({"train.py": PROGRAM.format(before)}, least=Confidence.LOW).found if f.code == "GL311"]
    assert [f.confidence is Confidence.HIGH for f in found] == [sure]
    assert all(f.fix is None or (f.fix.safety is Safety.SAFE) == sure for f in found)


READS = "import torch\n\ndef shown(layer):\n    return layer.requires_grad\n"


@pytest.mark.parametrize(
    ("files", "sure"),
    [
        ({"other.py": READS}, True),
        ({"other.py": "import helper\n" + READS, "helper.py": "import torch\n"}, True),
        ({"helper.py": READS, "train.py": "import helper\n"}, False),
        ({"both.py": "import train, helper\nimport torch\n", "helper.py": READS}, False),
    ],
    ids=["a stranger", "a stranger with a helper", "a helper", "a helper of who imports it"],
)
def test_who_may_read_the_attribute_has_to_do_with_the_module(files: dict[str, str], sure: bool) -> None:
    files = files | {"train.py": files.get("train.py", "") + PROGRAM.format("pass")}
    found = [f for f in try_out(files, least=Confidence.LOW).found if f.code == "GL311"]
    assert [f.confidence is Confidence.HIGH for f in found] == [sure]
