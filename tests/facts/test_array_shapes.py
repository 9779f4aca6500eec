"""The shapes of targets that come out of a data set, by the arrays and the class that it is made of."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from gradcheck_lint.facts import fed
from gradcheck_lint.facts.shapes import shape_of
from gradcheck_lint.facts.sizes import Shape
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Backward
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """
import numpy as np
import pandas as pd
import torch
import elsewhere
from sklearn.datasets import make_regression, load_diabetes
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset, Subset, random_split
"""
LOOP = """
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.MSELoss()
for x, y in DataLoader(data, batch_size=4):
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


class _Asks(Rule):
    code = "XX001"
    slug = "asks"

    def __init__(self) -> None:
        self.shapes: list[Shape | None] = []

    def on_timeline(self, timeline: Timeline, report: object) -> None:
        if timeline.has(Backward):
            self.shapes += [shape_of(pair.target) for pair in fed.computed(timeline)]


def shape(code: str) -> Shape | None:
    rule = _Asks()
    analyse([SourceFile("train.py", Path("train.py"), (HEAD + code + LOOP).encode())], [rule])
    return rule.shapes[0]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ("np.random.rand(64)", (None,)),
        ("np.random.rand(64, 1)", (None, 1)),
        ("np.random.default_rng(0).normal(size=64)", (None,)),
        ("np.random.normal(size=(64, 1)).astype(np.float32)", (None, 1)),
        ("np.zeros((64, 3)).sum(axis=1)", (None,)),
        ("np.zeros((64, 3)).sum(axis=1, keepdims=True)", None),
        ("np.sin(np.linspace(0, 1, 64))", (None,)),
        ("np.arange(64).reshape(-1, 1)", (None, 1)),
        ("make_regression(64, 8)[1]", (None,)),
        ("make_regression(64, 8, n_targets=2)[1]", None),
        ("load_diabetes().target", (None,)),
        ("train_test_split(np.zeros((64, 3)), np.zeros(64))[2]", (None,)),
        ("pd.read_csv('a.csv')['price'].values", (None,)),
        ("pd.read_csv('a.csv')[['price']].values", (None, 1)),
        ("pd.read_csv('a.csv').price", None),
        ("elsewhere.load()", None),
    ],
)
def test_arrays(array: str, expected: Shape | None) -> None:
    assert shape(f"data = TensorDataset(torch.zeros(64, 8), torch.tensor({array}))\n") == expected


@pytest.mark.parametrize(
    ("kept", "given", "expected"),
    [
        ("torch.zeros(64)", "self.y[index]", (None,)),
        ("torch.zeros(64, 1)", "self.y[index]", (None, 1)),
        ("torch.zeros(64)", "self.y[index].unsqueeze(0)", (None, 1)),
        ("torch.zeros(64)", "torch.tensor([self.y[index]])", (None, 1)),
        ("np.zeros(64)", "torch.tensor(self.y[index])", (None,)),
        ("[float(i) for i in range(64)]", "self.y[index]", (None,)),
        ("elsewhere.load()", "float(self.y[index])", (None,)),
        ("elsewhere.load()", "self.y[index]", None),
        ("torch.zeros(64)", "elsewhere.turned(self.y[index])", None),
        ("torch.zeros(64)", "(self.y[index] if index % 2 else self.y[index : index + 1])", None),
    ],
)
def test_a_data_set_of_its_own(kept: str, given: str, expected: Shape | None) -> None:
    code = f"class Own(Dataset):\n def __init__(self):\n  self.x = torch.zeros(64, 8)\n  self.y = {kept}\n"
    code += f" def __len__(self):\n  return 64\n def __getitem__(self, index):\n  return self.x[index], {given}\n"
    assert shape(f"{code}data = Own()\n") == expected
    assert shape(f"{code}data = Subset(Own(), range(8))\n") == expected
    assert shape(f"{code}data, _ = random_split(Own(), [32, 32])\n") == expected


def test_a_function_that_makes_the_loader() -> None:
    made = "data = TensorDataset(torch.zeros(64, 8), torch.zeros(64))\nreturn DataLoader(data, batch_size=4), None\n"
    text = HEAD + f"def load():\n{indent(made, '    ')}\nbatches, _ = load()\n"
    rule = _Asks()
    code = text + LOOP.replace("DataLoader(data, batch_size=4)", "batches")
    analyse([SourceFile("train.py", Path("train.py"), code.encode())], [rule])
    assert rule.shapes == [(None,)]


def test_batches_that_a_function_of_its_own_makes() -> None:
    code = HEAD + "data = TensorDataset(torch.zeros(64, 8), torch.zeros(64))\n" + LOOP
    rule = _Asks()
    code = code.replace("batch_size=4", "batch_size=4, collate_fn=elsewhere.collate")
    analyse([SourceFile("train.py", Path("train.py"), code.encode())], [rule])
    assert rule.shapes == [None]
