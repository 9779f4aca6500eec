"""The parameters of a model that the linter reads from its code are those that torch gives it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gradcheck_lint.facts import shares
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import BuildOptimizer
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.model_tree import ModelTree
from gradcheck_lint.source.timeline import Timeline

LAYERS = [
    "nn.Linear(3, 4)",
    "nn.Linear(3, 4, bias=False)",
    "nn.Linear(3, 4, False)",
    "nn.Bilinear(2, 3, 4)",
    "nn.Conv1d(2, 3, 3)",
    "nn.Conv2d(2, 3, 3, bias=False)",
    "nn.Conv3d(2, 3, 3, 1, 1, 1, 1, False)",
    "nn.ConvTranspose1d(2, 3, 3)",
    "nn.ConvTranspose2d(2, 3, 3, 1, 0, 0, 1, False)",
    "nn.ConvTranspose3d(2, 3, 3)",
    "nn.Embedding(5, 4)",
    "nn.EmbeddingBag(5, 4)",
    "nn.PReLU()",
    "nn.BatchNorm1d(3)",
    "nn.BatchNorm2d(3, affine=False)",
    "nn.InstanceNorm2d(3)",
    "nn.InstanceNorm2d(3, affine=True)",
    "nn.GroupNorm(1, 3)",
    "nn.LayerNorm(3)",
    "nn.LayerNorm((3, 4))",
    "nn.LayerNorm(3, bias=False)",
    "nn.LayerNorm(3, elementwise_affine=False)",
    "nn.RMSNorm(3)",
    "nn.LSTM(3, 4)",
    "nn.LSTM(3, 4, num_layers=2, bidirectional=True)",
    "nn.GRU(3, 4, 2, False)",
    "nn.RNN(3, 4)",
    "nn.LSTMCell(3, 4)",
    "nn.GRUCell(3, 4, bias=False)",
    "nn.MultiheadAttention(4, 2)",
    "nn.MultiheadAttention(4, 2, bias=False)",
    "nn.TransformerEncoderLayer(4, 2, 8)",
    "nn.TransformerDecoderLayer(4, 2, 8, bias=False)",
    "nn.ReLU()",
    "nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))",
    "nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 3)])",
    "nn.ModuleDict({'a': nn.Linear(3, 4), 'b': nn.Embedding(2, 2)})",
    "nn.DataParallel(nn.Sequential(nn.Linear(3, 4)))",
]

BLOCK = """
class Block(nn.Module):
    def __init__(self, width, bias=True):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, width, bias=bias)
        self.gamma = nn.Parameter(torch.ones(width) * 1e-2)


"""

CLASSES = {
    "own parameters come first": """
        self.fc = nn.Linear(3, 4)
        self.scale = nn.Parameter(torch.zeros(1, 2, 3))
        self.plain = torch.zeros(3)
        self.register_buffer("mean", torch.zeros(3))
        """,
    "two blocks in a list": "self.blocks = nn.ModuleList([Block(3), Block(3, bias=False)])",
    "one in a loop": """
        self.blocks = nn.ModuleList()
        for _ in range(1):
            self.blocks.append(Block(3))
        """,
    "by names": """
        self.add_module("first", nn.Linear(2, 3))
        self.register_parameter("free", nn.Parameter(torch.randn(3, 4)))
        setattr(self, "second", nn.Linear(2, 3))
        """,
    "tied": """
        self.embed = nn.Embedding(3, 4)
        self.head = nn.Linear(4, 3, bias=False)
        self.head.weight = self.embed.weight
        """,
    "shared": """
        self.first = nn.Linear(4, 4)
        self.second = nn.Sequential(self.first, nn.ReLU(), nn.Linear(4, 4))
        """,
    "hidden in a list": """
        self.fc = nn.Linear(3, 4)
        self.hidden = [nn.Linear(3, 4)]
        """,
    "replaced": """
        self.fc = nn.Linear(3, 4)
        self.fc = nn.Embedding(3, 4)
        """,
    "by a flag": """
        flag = False
        if flag:
            self.unused = nn.Linear(3, 4)
        """,
    "a list that is unpacked": """
        layers = [nn.Linear(3, 4), nn.ReLU()]
        layers += [nn.Linear(4, 4)]
        self.body = nn.Sequential(*layers)
        """,
}


class _Recorder(Rule):
    """Keeps the trees of the models whose parameters an optimizer is given."""

    code, slug = "XX001", "recorder"

    def __init__(self) -> None:
        self.trees: list[ModelTree] = []
        self.groups: list[list[str]] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(BuildOptimizer):
            found = shares.shares(event.given)
            self.trees += [pick.tree for pick in shares.picks(found)]
            for share in found:
                leaves = [leaf for pick in shares.picks(found[:1]) for leaf in pick.tree.leaves]
                self.groups.append([leaf.name for leaf in leaves if share.has(leaf).value == "yes"])


def _read(code: str) -> _Recorder:
    recorder = _Recorder()
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [recorder])
    return recorder


def _tree(code: str) -> ModelTree:
    pick = "\nopt = torch.optim.SGD([p for n, p in net.named_parameters() if n], lr=0.1)\n"
    return _read(f"import torch\nfrom torch import nn\n{code}{pick}").trees[0]


def _same(code: str) -> None:
    names: dict[str, object] = {}
    exec(f"import torch\nfrom torch import nn\n{code}", names)
    net = names["net"]
    assert isinstance(net, torch.nn.Module)
    known = _tree(code)
    assert [(leaf.name, leaf.ndim) for leaf in known.leaves] == [(n, p.ndim) for n, p in net.named_parameters()]
    assert all(leaf.sure for leaf in known.leaves)


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer != "nn.ReLU()"])
def test_layers_of_torch(layer: str) -> None:
    if layer in (
        "nn.BatchNorm2d(3, affine=False)",
        "nn.InstanceNorm2d(3)",
        "nn.LayerNorm(3, elementwise_affine=False)",
    ):
        layer = f"nn.Sequential(nn.Linear(1, 1), {layer})"
    _same(f"net = {layer}")


@pytest.mark.parametrize("body", CLASSES.values(), ids=CLASSES)
def test_classes(body: str) -> None:
    text = body.strip("\n ") if "\n" not in body else body.strip("\n").replace("\n        ", "\n        ").strip()
    code = f"{BLOCK}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {text}\n"
    _same(f"{code}        self.last = nn.Linear(1, 1)\n\n\nnet = Net()\n")


BASES = """
class Base(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)


class Mixin:
    def more(self):
        self.norm = nn.LayerNorm(3)


class Net(Base, Mixin):
    def __init__(self, width=3):
        {first}
        super().__init__(width)
        {last}


net = Net()
"""


@pytest.mark.parametrize("first", ["pass", "flags = [p for p in () if p.requires_grad]"])
@pytest.mark.parametrize("last", ["pass", "self.more()", "self.last = nn.Linear(1, 1)"])
@pytest.mark.parametrize("later", ["", "net.fc.weight.requires_grad = True", "part = net.fc"])
def test_what_a_base_and_a_method_add(first: str, last: str, later: str) -> None:
    _same(BASES.format(first=first, last=last) + later)


def test_names_in_a_dictionary() -> None:
    code = "from collections import OrderedDict\n"
    _same(f"{code}net = nn.Sequential(OrderedDict([('a', nn.Linear(3, 4)), ('b', nn.ReLU()), ('c', nn.Linear(4, 1))]))")


def test_what_is_not_known_is_open() -> None:
    code = "class Net(nn.Module):\n    def __init__(self, backbone):\n        super().__init__()\n"
    code += "        self.backbone = backbone\n        self.head = nn.Linear(1, 1)\n"
    code += (
        "    def forward(self, x):\n        return self.head(self.backbone(x))\nimport other\nnet = Net(other.make())"
    )
    leaves = _tree(code).leaves
    assert [(leaf.name, leaf.open) for leaf in leaves] == [
        ("backbone.", True),
        ("head.weight", False),
        ("head.bias", False),
    ]


def test_how_many_there_are_need_not_be_known() -> None:
    code = f"{BLOCK}class Net(nn.Module):\n    def __init__(self, depth):\n        super().__init__()\n"
    code += "        self.blocks = nn.ModuleList([Block(3) for _ in range(depth)])\nnet = Net(12)"
    tree = _tree(code)
    assert tree.whole
    assert [leaf.name for leaf in tree.leaves if leaf.name.endswith("gamma")] == ["blocks.0.gamma"]


TESTS = [
    "n.endswith('bias')",
    "'norm' in n",
    "not any(k in n for k in ('bias', 'norm'))",
    "p.ndim == 1 and not n.startswith('0.')",
    "p.dim() >= 2 or 'gamma' in n",
    "len(p.shape) < 2",
    "n.split('.')[0] in ('0', '2')",
    "id(p) not in ids",
    "exclude(n, p)",
    "n.replace('.', '_').lower() == '0_weight'",
    "all(k not in n for k in ['fc', 'weight'])",
    "p.requires_grad and n[0] == '1'",
]


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    "how",
    [
        "picked = [p for n, p in net.named_parameters() if {test}]",
        "picked = [p for n, p in list(net.named_parameters()) if {test}]",
        "picked = []\nfor n, p in net.named_parameters():\n  if not ({test}):\n    continue\n  picked.append(p)",
        "every = {{k: v for k, v in net.named_parameters()}}\npicked = [p for n, p in every.items() if {test}]",
        "picked = list({{n: p for n, p in net.named_parameters() if {test}}}.values())",
        "g = {{'a': [], 'b': []}}\nfor n, p in net.named_parameters():\n    g['a' if {test} else 'b'].append(p)\n"
        "picked = g['a']",
        "picked, rest = [], []\nfor n, p in net.named_parameters():\n    (picked if {test} else rest).append(p)",
    ],
)
def test_tests_are_evaluated(test: str, how: str) -> None:
    code = (
        f"import torch\nfrom torch import nn\n{BLOCK}net = nn.Sequential(nn.Linear(3, 3), Block(3), nn.Linear(3, 1))\n"
    )
    code += "ids = {id(p) for p in net[0].parameters()}\n"
    code += "exclude = lambda n, p: p.ndim < 2 or 'fc' in n\n"
    code += how.format(test=test)
    names: dict[str, object] = {}
    exec(code, names)
    net, picked = names["net"], names["picked"]
    assert isinstance(net, torch.nn.Module)
    assert isinstance(picked, list)
    wanted = {id(p) for p in picked}
    code += "\nopt = torch.optim.SGD([{'params': picked}, {'params': [net[0].weight]}], lr=0.1)\n"
    assert _read(code).groups[0] == [n for n, p in net.named_parameters() if id(p) in wanted]
