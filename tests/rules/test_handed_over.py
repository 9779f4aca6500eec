"""What the rules about parameters that are handed over make of code less tidy than the examples of the pages."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

CODES = {"GL301", "GL302", "GL303", "GL304", "GL305", "GL306", "GL307", "GL312", "GL316"}
HEAD = """
import itertools
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
"""


def codes(code: str, least: Confidence = Confidence.HIGH) -> list[str]:
    """The codes of the findings in a program, in the order of its lines."""
    data = (HEAD + textwrap.dedent(code)).encode()
    file = SourceFile("example.py", Path(__file__).parent / "nowhere" / "example.py", data)
    rules = [rule for rule in registry.load() if rule.code in CODES]
    return [finding.code for finding in analyse([file], rules) if finding.confidence >= least]


QUIET = {
    "two ifs that exclude each other, which only the reader knows": """
        def build(name, fused):
            params = net.parameters()
            if name == "sgd":
                optimizer = torch.optim.SGD(params, lr=0.1)
            if name == "adam":
                optimizer = torch.optim.Adam(params, lr=0.1)
            return optimizer
        """,
    "a choice of groups that share an iterator": """
        def build(both, head):
            body = {"params": net.parameters()}
            groups = [body, {"params": head.parameters()}] if both else [body]
            return torch.optim.SGD(groups, lr=0.1)
        """,
    "the first parameter is looked at and the loop goes on with the rest": """
        params = iter(net.parameters())
        first = next(params)
        for p in params:
            p.requires_grad = False
        """,
    "a function that cannot be seen may not have walked over the iterator": """
        from somewhere import show
        params = net.parameters()
        show(params)
        optimizer = torch.optim.SGD(params, lr=0.1)
        """,
    "a loop that is left after the first round": """
        params = net.parameters()
        while True:
            clip_grad_norm_(params, 1.0)
            break
        """,
    "a set of small numbers keeps its order": """
        chosen = {0, 2}
        optimizer = torch.optim.SGD([net[i].weight for i in chosen], lr=0.1)
        """,
    "a device that nothing says to be a GPU": """
        def build(device):
            w = torch.zeros(1, requires_grad=True).to(device)
            return torch.optim.SGD([w], lr=0.1)
        """,
    "a list that code out of sight may fill": """
        from somewhere import collect
        params = []
        collect(net, params)
        optimizer = torch.optim.SGD(params, lr=0.1)
        """,
    "both arms of a conditional expression may be filled": """
        decay, rest = [], []
        for p in net.parameters():
            (decay if p.dim() > 1 else rest).append(p)
        optimizer = torch.optim.SGD([{"params": decay}, {"params": rest}], lr=0.1)
        """,
    "layers that are shared but have no parameters": """
        act = nn.ReLU()
        a, b = nn.Sequential(nn.Linear(4, 4), act), nn.Sequential(nn.Linear(4, 4), act)
        optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.1)
        """,
    "a tensor that a branch lets require grad": """
        def fit(train_bias):
            b = torch.zeros(1)
            if train_bias:
                b.requires_grad_()
            optimizer = torch.optim.SGD([net[0].weight, b], lr=0.1)
            (net(torch.ones(2, 4)) + b).sum().backward()
            optimizer.step()
        """,
    "a helper that cannot be seen may unfreeze": """
        from somewhere import unfreeze
        net.requires_grad_(False)
        unfreeze(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        """,
    "only some of the parameters are frozen": """
        for name, p in net.named_parameters():
            if "0" in name:
                p.requires_grad = False
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        """,
    "a class out of sight may have a `parameters` that gives a list": """
        from somewhere import Policy
        policy = Policy()
        params = policy.parameters()
        optimizer = torch.optim.SGD(params, lr=0.1)
        clip_grad_norm_(params, 1.0)
        """,
    "a rate of 0 that code out of sight may change": """
        from somewhere import set_rate
        optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
        set_rate(optimizer, 0.1)
        net(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        """,
    "a list that is only spoken of": """
        biases = [p for n, p in net.named_parameters() if n.endswith("bias")]
        print(len(biases))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        """,
}

FOUND = {
    "GL305": """
        def fit(batches):
            trainable = filter(lambda p: p.requires_grad, net.parameters())
            optimizer = torch.optim.SGD(trainable, lr=0.1)
            for x in batches:
                optimizer.zero_grad()
                net(x).sum().backward()
                clip_grad_norm_(trainable, 1.0)
                optimizer.step()
        """,
    "GL301": """
        params = {*net[0].parameters(), *net[2].parameters()}
        optimizer = torch.optim.SGD(list(params), lr=0.1)
        """,
    "GL303": """
        w = nn.Parameter(torch.zeros(3)) * 0.5
        optimizer = torch.optim.SGD([{"params": [w]}], lr=0.1)
        """,
    "GL306": """
        optimizer = torch.optim.SGD([p for p in net.parameters()] + [p for p in net[0].parameters()], lr=0.1)
        """,
    "GL302": """
        params = []
        params.append(net.parameters())
        optimizer = torch.optim.SGD(params, lr=0.1)
        """,
}


@pytest.mark.parametrize("code", QUIET.values(), ids=QUIET)
def test_right_programs_are_left_alone(code: str) -> None:
    assert codes(code) == []


@pytest.mark.parametrize(("expected", "code"), FOUND.items(), ids=FOUND)
def test_wrong_programs_are_found(expected: str, code: str) -> None:
    assert codes(code) == [expected]


def test_what_may_be_right_is_told_quietly() -> None:
    code = QUIET["a class out of sight may have a `parameters` that gives a list"]
    assert codes(code, Confidence.MEDIUM) == ["GL305"]
