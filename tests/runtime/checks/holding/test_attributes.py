"""Attributes that change nothing: the line that sets one is named only where it is certain which one that is.

Code that sets attributes of the same name counts for that, so there is no more of it in this module.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import torch
from torch import nn
from watching import codes, found, line


def attack(x: torch.Tensor) -> torch.Tensor:
    x.requires_grad = True
    return x


def test_a_flag_of_a_tensor_is_not_that_of_a_module() -> None:
    def program() -> None:
        net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
        vars(net[0])["requires_grad"] = False
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            net(attack(torch.ones(2, 2))).mean().backward()
            optimizer.step()

    findings = found(program)
    assert codes(findings) == ["GL311"]
    assert line(findings[0]) == "optimizer.step()"


def test_an_option_of_something_else_is_not_that_of_the_optimizer(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(OPTION, encoding="utf-8")
    findings = found(lambda: runpy.run_path(str(program)))
    assert codes(findings) == ["GL314"]
    assert line(findings[0]) == "optimizer.step()"


OPTION = """
import torch
from torch import nn
class Config: pass
config = Config()
config.lr = 0.1
net = nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=config.lr)
setattr(optimizer, "lr", 0.5)
for _ in range(3):
    optimizer.zero_grad()
    net(torch.ones(2, 2)).mean().backward()
    optimizer.step()
"""
