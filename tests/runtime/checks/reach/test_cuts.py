"""What took part in a loss and got nothing back: told at the third step, with who cut it off, where that is certain."""

from __future__ import annotations

from textwrap import dedent

import pytest
import torch
from torch.nn.modules import module as modules

from gradcheck_lint import watch
from gradcheck_lint.finding import Finding


def told(text: str) -> tuple[list[tuple[str, int]], list[int]]:
    """What is found in a program by code and line, and in which of its steps; it has no other code at hand."""
    done: list[int] = []
    steps: list[int] = []
    program = compile("import torch\nfrom torch import nn\n" + dedent(text), "program.py", "exec")

    def tell(finding: Finding) -> None:
        steps.append(len(done) + 1)

    torch.manual_seed(0)
    with watch(on_finding=tell, quiet=True) as run:
        exec(program, {"__name__": "program", "done": done})
    assert run.record.problems == []
    assert not modules._global_forward_hooks
    return [(finding.code, finding.span.line) for finding in run.findings], steps


LOOP = """
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
for step in range(8):
    x = torch.randn(4, 3)
    optimizer.zero_grad()
    {}
    loss.backward()
    optimizer.step()
    done.append(step)
"""
TWO = "encoder, head = nn.Linear(3, 5), nn.Linear(5, 1)\n"
WARM = """
def warm(encoder, x, step):
    if step > 5:
        return encoder(x)
    return encoder(x).detach()
"""


@pytest.mark.parametrize(
    "line",
    [
        "loss = head(encoder(x).detach()).square().mean()",
        "loss = head(torch.relu(encoder(x).data)).square().mean()",
        "z = encoder(x); z = z.detach().tanh(); loss = head(z).square().mean()",
        "loss = head(torch.no_grad()(encoder)(x)).square().mean()",
    ],
)
def test_cut_off(line: str) -> None:
    assert told(TWO + LOOP.format(line)) == ([("GL408", 9)], [3])


@pytest.mark.parametrize(
    "line",
    [
        "z = encoder(x) if step > 5 else encoder(x).detach(); loss = head(z).square().mean()",
        "z = encoder(x); z = z.detach() if step < 5 else z; loss = head(z).square().mean()",
        "z = x.repeat(1, 2)[:, :5]; seen = encoder(x); loss = head(z + seen if step > 5 else z).square().mean()",
        "loss = head(torch.randn(4, 5)).square().mean()",
        "loss = head(warm(encoder, x, step)).square().mean()",
    ],
)
def test_its_turn_may_come(line: str) -> None:
    assert told(WARM + TWO + LOOP.format(line)) == ([], [])


def test_loaded_weights_may_be_meant_to_stay() -> None:
    loads = "encoder.load_state_dict({key: value + 1 for key, value in encoder.state_dict().items()})\n"
    assert told(TWO + loads + LOOP.format("loss = head(encoder(x).detach()).square().mean()")) == ([], [])


def test_a_pooler_whose_output_nobody_wants() -> None:
    text = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Linear(3, 5)
            self.pooler = nn.Linear(5, 5)

        def forward(self, x):
            hidden = self.encoder(x)
            return hidden, self.pooler(hidden)

    encoder, head = Net(), nn.Linear(5, 1)
    """
    line = "hidden, pooled = encoder(x); seen = pooled.detach(); loss = head(hidden).square().mean()"
    assert told(dedent(text) + LOOP.format(line)) == ([], [])
