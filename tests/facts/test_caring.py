"""Which modules compute something else in evaluation mode."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint.facts.caring import cares
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import SetMode
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.values import Thing

HEAD = """
import torch
import torchvision
from torch import nn, optim
import torch.nn.functional as F
import elsewhere
class Dropping(nn.Module):
    def __init__(self, rate=0.1):
        super().__init__()
        self.drop = nn.Dropout(rate)
class Plain(nn.Module):
    def __init__(self, rate=0.0):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.size = len(range(int(rate)))
    def forward(self, x):
        return F.relu(self.fc(x)).view(-1)
"""


class _Asks(Rule):
    code = "XX001"
    slug = "asks"
    listens = (SetMode,)

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def on_event(self, event: SetMode, report: object) -> None:
        assert isinstance(event.subject, Thing)
        self.answers.append(cares(event.subject))


def answer(made: str, body: str = "pass") -> Answer:
    rule = _Asks()
    own = f"class Own(nn.Module):\n def __init__(self, given=0.0, rate=0.3):\n  super().__init__()\n  {body}\n"
    text = f"{HEAD}{own}model = {dedent(made)}\noptimizer = optim.SGD(model.parameters(), lr=0.1)\nmodel.eval()\n"
    analyse([SourceFile("train.py", Path("train.py"), text.encode())], [rule])
    return rule.answers[0]


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("nn.Sequential(nn.Linear(1, 1), nn.Dropout())", YES),
        ("nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.0))", NO),
        ("nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.BatchNorm1d(1)))", YES),
        ("nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1))", NO),
        ("nn.Sequential(nn.InstanceNorm1d(1))", NO),
        ("nn.Sequential(nn.InstanceNorm1d(1, track_running_stats=True))", YES),
        ("nn.Sequential(Dropping(), nn.Linear(1, 1))", YES),
        ("nn.Sequential(Plain())", NO),
        ("nn.Sequential(*elsewhere.layers())", MAYBE),
        ("nn.LSTM(3, 3)", NO),
        ("nn.LSTM(3, 3, num_layers=2, dropout=0.5)", YES),
        ("nn.TransformerEncoderLayer(8, 2)", YES),
        ("nn.TransformerEncoderLayer(8, 2, dropout=0.0)", NO),
        ("torchvision.models.resnet18()", YES),
        ("torchvision.models.vit_b_16()", MAYBE),
        ("elsewhere.Net()", MAYBE),
        ("elsewhere.Net(3, dropout=0.5)", YES),
        ("elsewhere.Net(3, dropout=0.5).to('cpu')", YES),
        ("elsewhere.Net(3, dropout=0.0)", MAYBE),
        ("elsewhere.Net(3, dropout=RATE)", MAYBE),
        ("elsewhere.Net(3, attention_dropout_prob=0.1)", YES),
        ("elsewhere.Net(3, droplets=0.1)", MAYBE),
        ("elsewhere.EfficientNet.from_pretrained('efficientnet-b0')", YES),
        ("elsewhere.AutoModel.from_pretrained('bert-base-uncased')", YES),
        ("elsewhere.AutoModel.from_pretrained('google/flan-t5-small')", YES),
        ("elsewhere.RobertaForMaskedLM.from_pretrained(NAME)", YES),
        ("elsewhere.AutoModel.from_pretrained(NAME)", MAYBE),
        ("elsewhere.BertModel.from_pretrained(NAME, hidden_dropout_prob=0.0)", MAYBE),
        ("elsewhere.LlamaForCausalLM.from_pretrained(NAME)", MAYBE),
        ("Dropping()", YES),
        ("Plain()", NO),
    ],
)
def test_things(made: str, expected: Answer) -> None:
    assert answer(made) is expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("self.a = nn.Linear(3, 3)", NO),
        ("self.a = nn.Dropout(rate)", YES),
        ("self.a = nn.Dropout(given)", MAYBE),
        ("self.a = nn.Dropout(elsewhere.args.rate)", YES),
        ("self.a = [Dropping() for _ in range(3)]", YES),
        ("self.a = Plain()", NO),
        ("self.a = elsewhere.Layer()", MAYBE),
        ("F.dropout(torch.ones(3), 0.5, training=self.training)", YES),
        ("F.dropout(torch.ones(3))", NO),
        ("self.a = torchvision.models.densenet121()", YES),
    ],
)
def test_classes(body: str, expected: Answer) -> None:
    assert answer("Own()", body) is expected


def test_a_class_that_holds_itself() -> None:
    assert answer("Own()", "self.a = Own() if rate else None") is NO
