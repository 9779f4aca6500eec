"""One cause is told once: where a method is named and not called, what lacks the call says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

RULES = registry.load(packs=False)

CODE = """
import torch
from torch import nn
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
other = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cuda")
for x in data:
    optimizer.zero_grad()
    loss = model(x).sum()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
"""
PLAIN = CODE.replace("scaler.scale(loss).backward()", "loss.backward()").replace("    scaler.update()\n", "")
PLAIN = PLAIN.replace("scaler.step(optimizer)", "optimizer.step()")


def codes(text: str) -> list[str]:
    found = analyse([SourceFile("train.py", Path("/nowhere/train.py"), text.encode())], RULES)
    return [finding.code for finding in found]


@pytest.mark.parametrize(
    ("code", "call", "consequence"),
    [
        (PLAIN, "optimizer.step()", ["GL115"]),
        (PLAIN, "optimizer.zero_grad()", ["GL101"]),
        (PLAIN, "loss.backward()", ["GL104"]),
        (CODE, "scaler.update()", ["GL109"]),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_the_cause_alone_is_told(code: str, call: str, consequence: list[str]) -> None:
    assert codes(code) == []
    assert codes(code.replace(call, call.removesuffix("()"))) == ["GL105"]
    assert codes(code.replace(f"    {call}\n", "    pass\n")) == consequence


def test_what_is_named_of_another_optimizer_is_another_cause() -> None:
    text = PLAIN.replace("    optimizer.zero_grad()\n", "    other.zero_grad\n")
    assert codes(text) == ["GL105", "GL101"]
