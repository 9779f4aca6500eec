"""Findings to render, from one that says little to one that has everything, and the sources that they point into."""

from __future__ import annotations

from dataclasses import replace

from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span

TRAIN = """\
import torch
from model import Net

model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)


def train(loader):
    for batch, target in loader:
        loss = cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()
"""

MODEL = "class Net(nn.Module):\n    def __init__(self):\n        self.fc = nn.Linear(4, 1)\n"

BARE = Finding(
    code="GL101",
    slug="missing-zero-grad",
    severity=Severity.ERROR,
    confidence=Confidence.HIGH,
    message="gradients are carried over from the previous step",
    span=Span("train.py", 11, 9, 11, 24),
    label="adds to the gradients left by the last iteration",
)

CARRIED = replace(
    BARE,
    why="`optimizer.step()` does not clear `.grad`, so every update repeats earlier batches",
    help="call `optimizer.zero_grad()` before `loss.backward()`",
    note="for deliberate accumulation, clear every k steps; see `gradlint explain GL101`",
    related=(
        Related("the optimizer is built here", Span("train.py", 5, 13, 5, 56)),
        Related("uses the sum of all batches", Span("train.py", 12, 9, 12, 25)),
    ),
    fix=Fix(
        "call `optimizer.zero_grad()` before `loss.backward()`",
        Safety.SAFE,
        (Edit(Span("train.py", 11, 9, 11, 9), "optimizer.zero_grad()\n        "),),
    ),
)

REBOUND = replace(
    BARE,
    code="GL201",
    slug="parameter-rebound",
    severity=Severity.WARNING,
    confidence=Confidence.MEDIUM,
    message="a parameter is replaced after the optimizer took it",
    span=Span("src/my train é.py", 3, 1, 4, 2),
    label="",
    related=(Related("the layer is built here", Span("model.py", 3, 9, 3, 34)),),
    fix=Fix(
        "copy the values instead",
        Safety.UNSAFE,
        (Edit(Span("src/my train é.py", 3, 1, 3, 4), ""), Edit(Span("model.py", 1, 1, 1, 1), "import x\n")),
    ),
)

UNREADABLE = replace(
    BARE,
    code="GL003",
    slug="unreadable-file",
    message="this file cannot be read: line 3 is not utf-8 (byte 0xe9)",
    span=Span("src/latin.py", 3, 1, 3, 1),
    label="",
)
