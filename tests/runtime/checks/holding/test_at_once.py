"""What is certain is told in the first steps, as soon as all code at hand has been seen to run."""

from __future__ import annotations

from textwrap import dedent

from gradcheck_lint.finding import Finding
from tests.runtime.watching import codes, found


def told_at(text: str) -> tuple[list[Finding], list[int]]:
    """The findings of a program, and in which of its steps each was told; it has no other code at hand than its own."""
    done: list[int] = []
    steps: list[int] = []
    program = compile(dedent(text), "program.py", "exec")
    scope = {"__name__": "program", "done": done}
    findings = found(lambda: exec(program, scope), tell=lambda finding: steps.append(len(done) + 1))
    return findings, steps


def test_a_layer_that_was_left_out() -> None:
    findings, steps = told_at("""
        import torch
        from torch import nn

        net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
        optimizer = torch.optim.SGD([*net[0].parameters(), *net[2].parameters()], lr=0.1)
        for _ in range(8):
            optimizer.zero_grad()
            net(torch.randn(8, 3)).square().mean().backward()
            optimizer.step()
            done.append(1)
    """)
    assert codes(findings) == ["GL207"]
    assert steps == [3]
    assert findings[0].step == 1


def test_an_optimizer_that_no_gradient_comes_to() -> None:
    findings, steps = told_at("""
        import torch
        from torch import nn

        x = torch.zeros(80, 3, requires_grad=True)
        net = nn.Linear(3, 1)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(8):
            optimizer.zero_grad()
            (net(x.detach()).detach() * x.tanh()).sum().backward()
            optimizer.step()
            done.append(1)
    """)
    assert codes(findings) == ["GL104"]
    assert steps == [3]
    assert findings[0].step == 1
