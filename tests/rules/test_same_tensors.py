"""GL203, GL306 and GL316 where model, lists and groups do hold the same tensors, each with its controls."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

_RULES = [rule for rule in registry.load() if rule.code in ("GL201", "GL203", "GL306", "GL316")]


def found(code: str) -> list[str]:
    findings = analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], _RULES)
    return [f.code for f in findings if f.confidence >= Confidence.HIGH]


CLOUD = """
import torch
from torch import nn

class Cloud:
    def __init__(self):
        self.a, self.b = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8))
        groups = [{"params": [self.a], "name": "a"}, {"params": [self.b], "name": "b"}]
        self.optimizer = torch.optim.SGD(groups, lr=0.1)
    def take(self, name, tensor):
        if name == "a":
            self.a = tensor
        else:
            self.b = tensor
    def cut(self, group, mask):
        group["params"][0] = nn.Parameter(group["params"][0].detach()[mask])
        return group["params"][0]
    def prune(self, mask):
        groups = self.optimizer.param_groups
BODY

cloud = Cloud()
for step in range(6):
    cloud.optimizer.zero_grad()
    (cloud.a + cloud.b).pow(2).sum().backward()
    cloud.optimizer.step()
    cloud.prune(cloud.a > 0)
"""
EACH = 'for g in groups:\n    g["params"][0] = nn.Parameter(g["params"][0].detach()[mask])\n'


def pruned(body: str) -> list[str]:
    return found(CLOUD.replace("BODY", indent(dedent(body), "        ")))


@pytest.mark.parametrize(
    "body",
    [
        EACH + "    setattr(self, g['name'], g['params'][0])",
        EACH + "    self.take(g['name'], g['params'][0])",
        EACH + "self.a, self.b = groups[0]['params'][0], groups[1]['params'][0]",
        EACH + "named = {g['name']: g['params'][0] for g in groups}\nself.a, self.b = named['a'], named['b']",
        "found = {}\n" + EACH + "    found[g['name']] = g['params'][0]\nself.a = found['a']\nself.b = found['b']",
        "found = []\n" + EACH + "    found.append(g['params'][0])\nself.a, self.b = found",
        "self.a, self.b = self.cut(groups[0], mask), self.cut(groups[1], mask)",
        "self.a = groups[0]['params'][0] = nn.Parameter(self.a.detach()[mask])",
        "groups[0]['params'][0] = self.a = nn.Parameter(self.a.detach()[mask])",
        "groups[0]['params'][0] = (new := nn.Parameter(self.a.detach()[mask]))\nself.a = new",
        "groups[0]['params'] = [nn.Parameter(self.a.detach()[mask])]\nself.a = groups[0]['params'][0]",
    ],
)
def test_the_owner_gets_the_groups_new_tensor(body: str) -> None:
    assert pruned(body) == []


@pytest.mark.parametrize(
    "body",
    [
        EACH,
        EACH + "self.pruned = True\nself.mask = mask",
        EACH + "print(groups[0]['params'][0].shape)",
        "for g in groups:\n    state = self.optimizer.state.pop(g['params'][0], {})\n"
        "    g['params'][0] = nn.Parameter(g['params'][0].detach()[mask])\n"
        "    self.optimizer.state[g['params'][0]] = state",
        "groups[0]['params'] = [nn.Parameter(self.a.detach()[mask])]",
    ],
)
def test_nobody_else_knows_the_groups_new_tensor(body: str) -> None:
    assert pruned(body) == ["GL203"]


GROWING = """
import torch
from torch import nn
import elsewhere

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4)])
        self.fc = nn.Linear(4, 4)
    def grow(self):
        self.blocks.append(nn.Linear(4, 4))
    def renew(self):
        self.fc = nn.Linear(4, 4)

def grow(net):
    net.blocks.append(nn.Linear(4, 4))

net = Net()
"""
WHOLE = "opt = torch.optim.SGD(net.parameters(), lr=0.1)\n"


@pytest.mark.parametrize(
    "code",
    [
        WHOLE + "net.grow()\nopt.add_param_group({'params': net.blocks[-1].parameters()})",
        WHOLE + "for _ in range(3):\n    net.grow()\n    opt.add_param_group({'params': net.blocks[-1].parameters()})",
        WHOLE + "for k in (1, 2):\n    grow(net)\n    opt.add_param_group({'params': net.blocks[k].parameters()})",
        WHOLE + "net.blocks.insert(0, nn.Linear(4, 4))\nopt.add_param_group({'params': net.blocks[0].parameters()})",
        WHOLE + "net.blocks[0] = nn.Linear(4, 4)\nopt.add_param_group({'params': net.blocks[0].parameters()})",
        WHOLE + "for _ in range(3):\n    net.renew()\n    opt.add_param_group({'params': net.fc.parameters()})",
        WHOLE + "elsewhere.grow(net)\nopt.add_param_group({'params': net.blocks[-1].parameters()})",
        WHOLE + "net.grow()\nopt.add_param_group({'params': [net.blocks[-1].weight, net.blocks[-1].bias]})",
        "opt = torch.optim.SGD(net.blocks[-1].parameters(), lr=0.1)\nfor _ in range(3):\n    net.grow()\n"
        "    opt.add_param_group({'params': net.blocks[-1].parameters()})",
    ],
)
def test_another_part_each_time(code: str) -> None:
    assert found(GROWING + code) == []


@pytest.mark.parametrize(
    "code",
    [
        WHOLE + "opt.add_param_group({'params': net.blocks[-1].parameters()})",
        WHOLE + "opt.add_param_group({'params': net.fc.parameters()})",
        "net.grow()\n" + WHOLE + "opt.add_param_group({'params': net.blocks[-1].parameters()})",
        "opt = torch.optim.SGD([*net.parameters(), *net.fc.parameters()], lr=0.1)",
        WHOLE + "net.grow()\nlast = net.blocks[-1]\nopt.add_param_group({'params': [last.weight, last.weight]})",
    ],
)
def test_the_same_part_again(code: str) -> None:
    assert found(GROWING + code) == ["GL306"]


SPLIT = """
import itertools
import torch
from torch import nn

net, head = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1)), nn.Linear(1, 1)
"""


@pytest.mark.parametrize(
    "code",
    [
        "left = list(net.parameters())\n" + WHOLE,
        WHOLE + "left = list(net.parameters())",
        "left = [p for p in net[0].parameters()]\n" + WHOLE,
        "left = [p for n, p in net.named_parameters() if 'bias' in n]\n" + WHOLE,
        "left = list(net.parameters())\nlive = [p for p in net.parameters() if p.requires_grad]\n"
        "opt = torch.optim.SGD(live, lr=0.1)",
        "left = list(net.parameters()) + list(head.parameters())\n"
        "opt = torch.optim.SGD(itertools.chain(net.parameters(), head.parameters()), lr=0.1)",
        "left = list(head.parameters())\n" + WHOLE + "other = torch.optim.SGD(head.parameters(), lr=0.2)",
        "left = list(head.parameters())\n" + WHOLE + "opt.add_param_group({'params': head.parameters()})",
        "left = {'params': net.parameters()}\n" + WHOLE,
    ],
)
def test_a_list_that_is_left_over(code: str) -> None:
    assert found(SPLIT + code) == []


@pytest.mark.parametrize(
    "code",
    [
        "left = list(head.parameters())\n" + WHOLE,
        "left = list(net.parameters())\nopt = torch.optim.SGD(net[0].parameters(), lr=0.1)",
        "left = list(net.parameters()) + list(head.parameters())\n" + WHOLE,
        "left = {'params': net.parameters(), 'lr': 0.01}\n" + WHOLE,
        "left = [p for n, p in net.named_parameters() if 'bias' in n]\n"
        "rest = [p for n, p in net.named_parameters() if 'bias' not in n]\nopt = torch.optim.SGD(rest, lr=0.1)",
    ],
)
def test_a_list_that_is_lost(code: str) -> None:
    assert found(SPLIT + code) == ["GL316"]
