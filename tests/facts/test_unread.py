"""Who may get at a name otherwise than by speaking of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile


@pytest.mark.parametrize(
    ("line", "confidence"),
    [("settings = vars(args)", Confidence.HIGH), ("names = dir(net)", Confidence.HIGH), ("net.eval()", Confidence.HIGH),
     ("names = vars()", Confidence.MEDIUM), ("x = eval('1')", Confidence.MEDIUM), ("g = globals()", Confidence.MEDIUM)],
)  # fmt: skip
def test_asking_an_object_is_not_asking_for_names(line: str, confidence: Confidence) -> None:
    code = f"""
import argparse
import torch
from torch import nn

args = argparse.Namespace()
net = nn.Linear(2, 2)
params = net.parameters()
optimizer = torch.optim.SGD(params, lr=0.1)
{line}
nn.utils.clip_grad_norm_(params, 1.0)
"""
    file = SourceFile("train.py", Path(__file__).parent / "nowhere" / "train.py", code.encode())
    found = analyse([file], [rule for rule in registry.load() if rule.code == "GL305"])
    assert [finding.confidence for finding in found] == [confidence]
