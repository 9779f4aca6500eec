"""What is wrong with what an own optimizer keeps and moves: asked of the body of its loop."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradcheck_lint.facts.classes import ClassFacts
from gradcheck_lint.facts.own_optimizers import StepFacts
from gradcheck_lint.facts.own_states import Flaw, flaws
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

PROGRAM = """
import torch


class Own(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for name, p in enumerate(group["params"]):
"""


class _Asks(Rule):
    """Keeps what is found."""

    code, slug = "XX001", "asks"
    triggers = "params"

    def __init__(self) -> None:
        self.found: list[tuple[Flaw, bool]] = []

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        step = StepFacts.of(facts)
        if step is not None:
            self.found += [(found.flaw, found.certain) for found in flaws(step)]


def ask(body: str) -> list[tuple[Flaw, bool]]:
    asks = _Asks()
    code = PROGRAM + textwrap.indent(textwrap.dedent(body), " " * 16)
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), code.encode())], [asks])
    return asks.found


MOVES = "\np.sub_(state['m'])\n"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("state = self.state[p]\nif not state:\n    state['m'] = p.detach()" + MOVES, (Flaw.SELF, True)),
        ("state = self.state[p]\nif not state:\n    state['m'] = p.clone()" + MOVES, None),
        ("state = self.state[p]\nif not state:\n    state['me'] = p" + MOVES, None),
        (
            "state = self.state[p]\nif not state:\n    state['m'] = p.grad\nstate['m'].mul_(2)" + MOVES,
            (Flaw.GRADIENT, True),
        ),
        (
            "state = self.state[p]\nif not state:\n    state['m'] = p.grad\nelse:\n    state['m'].mul_(2)" + MOVES,
            (Flaw.GRADIENT, False),
        ),
        ("state = self.state[p]\nstate['m'] = p.grad" + MOVES, None),
        (
            "state = self.state[p]\nstate['m'] = torch.zeros_like(p)\nstate['m'] += p.grad" + MOVES,
            (Flaw.FORGOTTEN, False),
        ),
        (
            "state = self.state[p]\nstate['m'] = torch.zeros_like(p)\nstate['m'].mul_(0.9).add_(p.grad)" + MOVES,
            (Flaw.FORGOTTEN, True),
        ),
        (
            "state = self.state[p]\nold = state['m']\nstate['m'] = torch.zeros_like(p)\n"
            "state['m'].mul_(0.9).add_(p.grad)" + MOVES,
            (Flaw.FORGOTTEN, False),
        ),
        ("m = torch.zeros_like(p)\nm.mul_(0.9).add_(p.grad)\np.sub_(m)", (Flaw.LOCAL, True)),
        ("m = torch.zeros_like(p)\nm.add_(p.grad).mul_(0.9)\np.sub_(m)", None),
        ("m = torch.zeros_like(p)\nself.read(m)\nm.mul_(0.9).add_(p.grad)\np.sub_(m)", None),
        ("m = torch.zeros_like(p)\nself.kept[p] = m\nm.mul_(0.9).add_(p.grad)\np.sub_(m)", None),
        (
            "m = self.state[p].get('m', torch.zeros_like(p))\nm.mul_(0.9).add_(p.grad)\np.sub_(m)",
            (Flaw.UNSTORED, True),
        ),
        (
            "m = self.state[p].get('m', torch.zeros_like(p))\nm.mul_(0.9).add_(p.grad)\np.sub_(m)\n"
            "self.state[p]['m'] = m",
            None,
        ),
        ("state = self.state[p]\nm = state['m']\nm = m + p.grad\np.sub_(m)", (Flaw.DROPPED, False)),
        (
            "state = self.state[p]\nif not state:\n    state['m'] = torch.zeros_like(p)\n"
            "m = state['m']\nm = m + p.grad\np.sub_(m)",
            (Flaw.DROPPED, True),
        ),
        ("state = self.state[p]\nm = state['m']\nm = m + p.grad\nstate['m'] = m\np.sub_(m)", None),
        ("state = self.state[p]\nm = state['m']\nm = m + p.grad\nstate.update(m=m)\np.sub_(m)", None),
    ],
)
def test_what_is_kept(body: str, found: tuple[Flaw, bool] | None) -> None:
    assert ask(body) == ([found] if found is not None else [])


MADE = "state = self.state[p]\nif not state:\n    state['m'] = torch.zeros_like(p)\n"
READ = "u = state['m'].mul(0.9).add(p.grad)\np.sub_(u)"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (MADE + READ, (Flaw.DROPPED, True)),
        ("u = self.state[p].setdefault('m', torch.zeros_like(p))\nu = 0.9 * u + p.grad\np.sub_(u)",
         (Flaw.DROPPED, True)),
        (MADE + "m = state['m']\nm.view(-1).add_(p.grad.view(-1))\n" + READ, None),
        (MADE + "state['m'][:] = p.grad\n" + READ, None),
        (MADE + "torch.add(state['m'], p.grad, out=state['m'])\n" + READ, None),
        (MADE + "kept.append(state['m'])\n" + READ, None),
        (MADE + "state.update(new)\n" + READ, None),
        (MADE + "state['m'] = u\n" + READ, None),
        ("state = self.state[p]\nif not state:\n    state['t'] = 0\nt = state['t']\nt += 1\np.sub_(p.grad / t)",
         (Flaw.DROPPED, True)),
        ("state = self.state[p]\nif not state:\n    state['t'] = 0\nt = state['t']\nt += 1\nstate['t'] = t\n"
         "p.sub_(p.grad / t)", None),
        ("state = self.state[p]\nif 'n' not in state:\n    state['m'] = torch.zeros_like(p)\n"
         "state['m'].mul_(0.9).add_(p.grad)" + MOVES, (Flaw.FORGOTTEN, True)),
        ("state = self.state[p]\nif 'n' not in state:\n    state['n'] = 1\n    state['m'] = torch.zeros_like(p)\n"
         "state['m'].mul_(0.9).add_(p.grad)" + MOVES, None),
        ("state = self.state[p]\nstate['m'] = torch.zeros_like(p)\nstate['m'].lerp_(p.grad, 1.0)\n"
         "p.sub_(state['m'])", None),
        ("state = self.state[p]\nstate['m'] = torch.zeros_like(p)\nstate['m'].lerp_(p.grad, 0.1)\n"
         "p.sub_(state['m'])", (Flaw.FORGOTTEN, True)),
        ("m = torch.zeros_like(p)\nm.mul_(0).add_(p.grad)\np.sub_(m)", None),
        ("m = torch.zeros_like(p)\nm.mul_(0.9).add_(p.grad)\np.sub_(m)", (Flaw.LOCAL, True)),
    ],
)  # fmt: skip
def test_what_is_never_kept(body: str, found: tuple[Flaw, bool] | None) -> None:
    assert ask(body) == ([found] if found is not None else [])


@pytest.mark.parametrize(
    ("key", "flaw"),
    [("p.shape", True), ("(p.shape, p.dtype)", True), ("group['lr']", True), ("p", False), ("id(p)", False),
     ("name", False), ("(name, p.shape)", False), ("'all'", False)],
)  # fmt: skip
def test_key_of_a_state(key: str, flaw: bool) -> None:
    assert ask(f"p.sub_(self.state[{key}]['m'])") == ([(Flaw.SHARED, True)] if flaw else [])


@pytest.mark.parametrize(
    ("body", "flaw"),
    [
        ("w = p.clone()\nw.sub_(p.grad)", True),
        ("w = p.data\nw = w - p.grad", True),
        ("w = p.data\nw -= p.grad", False),
        ("w = p.clone()\nw.sub_(p.grad)\np.copy_(w)", False),
        ("w = p.clone()\nw.sub_(p.grad)\nmoved.append(w)", False),
        ("w = p.clone()\nw.sub_(p.grad)\nself.put(p, w)", False),
        ("w = p.clone()\nw.sub_(p.grad)\np.data = w", False),
        ("w = p.norm()\nprint(w)", False),
    ],
)
def test_parameter_that_does_not_move(body: str, flaw: bool) -> None:
    assert ask(body) == ([(Flaw.STILL, True)] if flaw else [])


def test_end_of_the_loop_and_the_count() -> None:
    assert ask("if p.grad is None:\n    return None\np.sub_(p.grad)") == [(Flaw.LEFT, True)]
    assert ask("if p.grad is None:\n    continue\np.sub_(p.grad)") == []
    assert ask("self.t += 1\np.sub_(p.grad / (1 - 0.9 ** self.t))") == [(Flaw.COUNTED, True)]
    assert ask("self.t += 1\np.sub_(p.grad)") == []
    assert ask("state = self.state[p]\nstate['t'] += 1\np.sub_(p.grad / (1 - 0.9 ** state['t']))") == []
