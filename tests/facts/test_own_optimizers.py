"""What the `step` of an optimizer class does to its parameters, its closure and its buffers."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint.facts.classes import ClassFacts
from gradcheck_lint.facts.own_optimizers import StepFacts
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile


class _Asks(Rule):
    code = "XX001"
    slug = "asks"
    triggers = r"\bdef step\("

    def __init__(self) -> None:
        self.found: dict[str, bool] | None = None

    def on_class(self, facts: ClassFacts, report: object) -> None:
        step = StepFacts.of(facts)
        if step is not None:
            self.found = {
                "recorded": bool(list(step.recorded_writes())),
                "off": step.closure_off() is not None,
                "lost": step.loss_lost() is not None,
                "shared": bool(list(step.shared())),
                "unchecked": step.unchecked() is not None,
            }


def _step(body: str, decorator: str = "", base: str = "torch.optim.Optimizer") -> set[str] | None:
    rule = _Asks()
    text = dedent(body).strip()
    code = (
        f"import torch\nclass O({base}):\n    {decorator}\n    def step(self, closure=None):\n{indent(text, ' ' * 8)}\n"
    )
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return None if rule.found is None else {name for name, is_so in rule.found.items() if is_so}


OFF = "@torch.no_grad()"
LOOP = "for group in self.param_groups:\n    for p in group['params']:\n        "
GUARDED = LOOP + "if p.grad is None:\n            continue\n        "


@pytest.mark.parametrize(
    ("body", "decorator", "wrong"),
    [
        pytest.param(GUARDED + "p.add_(p.grad)", "", {"recorded"}, id="recorded"),
        pytest.param(GUARDED + "p -= p.grad", "", {"recorded"}, id="recorded by an operator"),
        pytest.param(GUARDED + "p.add_(p.grad)", OFF, set(), id="decorated"),
        pytest.param(GUARDED + "with torch.no_grad():\n            p.add_(p.grad)", "", set(), id="in a block"),
        pytest.param(GUARDED + "p.data.add_(p.grad)", "", set(), id="behind data"),
        pytest.param(GUARDED + "p = p.data\n        p.add_(1)", "", set(), id="another tensor of that name"),
        pytest.param("torch.set_grad_enabled(False)\n" + GUARDED + "p.add_(p.grad)", "", set(), id="a switch"),
        pytest.param(GUARDED + "p.add_(p.grad)", "@mine", None, id="a decorator that is not known"),
        pytest.param("loss = closure()\nreturn loss", OFF, {"off"}, id="off"),
        pytest.param("with torch.enable_grad():\n    a = closure()\nreturn a", OFF, set(), id="on"),
        pytest.param("closure = torch.enable_grad()(closure)\nreturn closure()", OFF, set(), id="wrapped"),
        pytest.param("with torch.no_grad():\n    loss = closure()\nreturn loss", "", {"off"}, id="off in a block"),
        pytest.param("loss = closure()", "", {"lost"}, id="a lost loss"),
        pytest.param(LOOP + "p.data -= 0.1 * p.grad", "", {"unchecked"}, id="not asked for"),
        pytest.param(LOOP + "g = p.grad\n        if g is not None:\n            p.data -= g", "", set(), id="asked"),
        pytest.param(
            GUARDED + "self.v = 0.9 * self.v + p.grad\n        p.data -= self.v", "", {"shared"}, id="one buffer"
        ),
        pytest.param(
            GUARDED + "self.v += p.grad\n        p.data -= self.v", "", {"shared"}, id="one buffer by an operator"
        ),
        pytest.param(
            GUARDED + "self.v = 0.9 * self.v + p.grad.norm()\n        p.data -= self.v", "", set(), id="a norm of all"
        ),
        pytest.param(
            "v = 0\n" + GUARDED + "v = 0.9 * v + p.grad\n        p.data -= v", "", {"shared"}, id="one local buffer"
        ),
        pytest.param(
            GUARDED + "v = self.state[p]['v']\n        v = 0.9 * v + p.grad\n        p.data -= v",
            "",
            set(),
            id="a name for the buffer of each",
        ),
        pytest.param(
            GUARDED + "group['v'] = 0.9 * group['v'] + p.grad\n        p.data -= group['v']",
            "",
            {"shared"},
            id="a group's",
        ),
        pytest.param(
            GUARDED + "self.v.mul_(0.9).add_(p.grad)\n        p.data.add_(self.v.sign())", "", {"shared"}, id="in place"
        ),
        pytest.param(GUARDED + "p.data.add_(self.noise.normal_())", "", set(), id="without a gradient"),
        pytest.param(GUARDED + "self.v = 0.9 * self.v + p.grad", "", set(), id="gathered, and moves nothing"),
        pytest.param(
            GUARDED + "s = self.state[p]\n        s['v'] = 0.9 * s['v'] + p.grad\n        p.data -= s['v']",
            "",
            set(),
            id="one for each",
        ),
    ],
)
def test_what_is_wrong(body: str, decorator: str, wrong: set[str] | None) -> None:
    assert _step(body, decorator) == wrong


@pytest.mark.parametrize(
    ("base", "is_one"), [("torch.optim.Optimizer", True), ("torch.optim.SGD", True), ("object", False)]
)
def test_which_classes_are_optimizers(base: str, is_one: bool) -> None:
    assert (_step("return None", base=base) is not None) == is_one
