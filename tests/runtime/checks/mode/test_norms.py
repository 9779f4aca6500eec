"""Norm layers that are all that can be trained: by mistake, and on purpose."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.runtime.session import Options, Session

RULES = [rule for rule in registry.load(packs=False) if rule.code == "GL304"]


def found(
    freeze: Callable[[nn.Module], object], choose: Callable[[nn.Module], list[nn.Parameter]] | None = None
) -> list[Finding]:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 1))
    freeze(model)
    session = Session(RULES, Options(everything=True), lambda finding: None)
    session.start()
    try:
        optimizer = torch.optim.SGD(choose(model) if choose else list(model.parameters()), lr=0.1)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(4, 3)).pow(2).mean().backward()
            optimizer.step()
    finally:
        session.stop()
    assert session.record.problems == []
    return session.record.findings


def norms_alone(model: nn.Module) -> None:
    for module in model.children():
        module.requires_grad_(isinstance(module, nn.LayerNorm))


def norms_and_head(model: nn.Module) -> None:
    norms_alone(model)
    list(model.children())[-1].requires_grad_()


def all_but_norms(model: nn.Module) -> None:
    for module in model.children():
        module.requires_grad_(not isinstance(module, nn.LayerNorm))


def test_all_but_the_norms_frozen_is_told_once_and_early() -> None:
    (finding,) = found(norms_alone)
    assert (finding.code, finding.confidence) == ("GL304", Confidence.HIGH)
    assert (finding.step or 0) <= 2
    assert "4 parameters" in finding.label
    assert "6 parameters" in finding.why


def test_norms_that_are_chosen_are_meant() -> None:
    assert found(norms_alone, lambda model: [p for p in model.parameters() if p.requires_grad]) == []


def test_norms_and_a_head() -> None:
    assert found(norms_and_head) == []


def test_frozen_norms() -> None:
    assert found(all_but_norms) == []
