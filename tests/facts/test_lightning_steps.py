"""What a LightningModule gives to its trainer."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent, indent

import pytest

from gradcheck_lint.facts.classes import ClassFacts
from gradcheck_lint.facts.lightning_by_hand import never_cleared
from gradcheck_lint.facts.lightning_steps import LightningFacts
from gradcheck_lint.rule import Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile


class _Asks(Rule):
    code = "XX001"
    slug = "asks"
    triggers = r"\bdef \w+_step\(|\bdef configure_optimizers\("

    def __init__(self) -> None:
        self.found: set[str] | None = None
        self.uncleared: set[str] = set()

    def on_class(self, facts: ClassFacts, report: object) -> None:
        module = LightningFacts.of(facts)
        if module is not None:
            self.uncleared = {found.name for found in never_cleared(module)}
            self.found = {f"cut by {how}" for _, _, how in module.cut_losses()}
            self.found |= {"nothing"} if module.returns_nothing() is not None else set()
            self.found |= {"no loss"} if list(module.without_loss()) else set()
            self.found |= {"closure"} if module.closure_skipped() is not None else set()
            self.found |= {"by hand"} if module.steps_itself() is not None else set()
            self.found |= {"idle"} if module.never_steps() is not None else set()
            for plan in module.plans():
                self.found |= {*plan.misplaced, "in steps" if plan.in_steps else "in epochs"}


def _ask(body: str, base: str) -> _Asks:
    rule = _Asks()
    code = f"import torch\nimport lightning as L\nclass M({base}):\n{indent(dedent(body).strip(), '    ')}\n"
    analyse([SourceFile("train.py", Path("nowhere/train.py"), code.encode())], [rule])
    return rule


def _module(body: str, base: str = "L.LightningModule") -> set[str] | None:
    return _ask(body, base).found


STEP = "def training_step(self, batch, i):\n    "
MANUAL = "def __init__(self):\n    super().__init__()\n    self.automatic_optimization = False\n"
PLAN = "def configure_optimizers(self):\n    o = torch.optim.SGD(self.parameters(), 0.1)\n    "
CYCLE = "s = torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps="


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (STEP + "loss = self(batch)\n    self.log('loss', loss)", {"nothing"}),
        (STEP + "loss = self(batch)\n    return loss", set()),
        (STEP + "if batch is None:\n        return None\n    return self(batch)", set()),
        (STEP + "raise NotImplementedError", set()),
        (STEP + "pass", set()),
        (STEP + "self.optimizers().step()", set()),
        (STEP + "loss = self(batch)\n    self.log('lr', self.optimizers().param_groups[0]['lr'])", {"nothing"}),
        (STEP + "return self(batch).detach()", {"cut by .detach()"}),
        (STEP + "loss = self(batch)\n    return {'loss': loss.item(), 'n': 1}", {"cut by .item()"}),
        (STEP + "loss = self(batch)\n    out = loss.detach()\n    self.log('x', out)\n    return loss", set()),
        (STEP + "return {'train_loss': self(batch)}", {"no loss"}),
        (STEP + "return {'loss': self(batch), 'pred': 1}", set()),
        (STEP + "return {**self.shared(batch)}", set()),
        (STEP + "self.manual_backward(self(batch))\n    return None", {"by hand"}),
        (MANUAL + STEP + "loss = self(batch)", {"idle"}),
        (MANUAL + STEP + "loss = self(batch)\n    loss.backward()\n    self.o.step()", set()),
        (MANUAL + STEP + "train(self, batch)", set()),
        (MANUAL + STEP + "o = self.optimizers()\n    self.manual_backward(self(batch))", {"idle"}),
        (MANUAL + STEP + "o = self.optimizers()\n    train(o, batch)", set()),
        ("def optimizer_step(self, epoch, i, optimizer, closure):\n    optimizer.step()", {"closure"}),
        ("def optimizer_step(self, epoch, i, optimizer, closure):\n    optimizer.step(closure=closure)", set()),
        ("def optimizer_step(self, epoch, i, optimizer, closure):\n    closure()\n    optimizer.step()", set()),
        ("def optimizer_step(self, *args, **kwargs):\n    super().optimizer_step(*args, **kwargs)", set()),
        (PLAN + CYCLE + "self.trainer.estimated_stepping_batches)\n    return [o], [s]", {"in steps"}),
        (
            f"{PLAN}{CYCLE}len(self.x))\n    return [o], [s]\ndef lr_scheduler_step(self, s, m):\n    s.step()",
            set(),
        ),
        (PLAN + CYCLE + "self.trainer.max_epochs)\n    return [o], [s]", {"in epochs"}),
        (
            PLAN + CYCLE + "9)\n    return {'optimizer': o, 'lr_scheduler': s, 'interval': 'step'}",
            {"in epochs", "interval"},
        ),
    ],
)
def test_what_is_wrong(body: str, found: set[str]) -> None:
    assert _module(body) == found


@pytest.mark.parametrize(("base", "is_one"), [("L.LightningModule", True), ("torch.nn.Module", False)])
def test_which_classes_are_modules_of_lightning(base: str, is_one: bool) -> None:
    assert (_module(STEP + "return self(batch)", base) is not None) == is_one


TWO = MANUAL + STEP + "a, b = self.optimizers()\n    "
TURN = "self.manual_backward(self(batch)); {}.step()"


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (MANUAL + STEP + "o = self.optimizers()\n    " + TURN.format("o"), {"o"}),
        (MANUAL + STEP + "o = self.optimizers()\n    o.zero_grad()\n    " + TURN.format("o"), set()),
        (TWO + TURN.format("a") + "\n    " + TURN.format("b"), {"a", "b"}),
        (TWO + "a.zero_grad()\n    " + TURN.format("a") + "\n    " + TURN.format("b"), {"b"}),
        (TWO + "self.zero_grad()\n    " + TURN.format("a") + "\n    " + TURN.format("b"), set()),
        (TWO + "for o in (a, b): o.zero_grad()\n    " + TURN.format("a") + "\n    " + TURN.format("b"), set()),
        (TWO + TURN.format("a") + "\n    clear(self)", set()),
        (TWO + TURN.format("a") + "\n    for p in self.parameters(): p.grad = None", set()),
        (STEP + "o = self.optimizers()\n    " + TURN.format("o"), set()),
    ],
)
def test_what_is_never_cleared_by_hand(body: str, names: set[str]) -> None:
    assert _ask(body, "L.LightningModule").uncleared == names
