"""Programs under watch, for tests: what is recorded of one, and what is found in it."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence, Finding
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.record import RunRecord, ending
from gradcheck_lint.runtime.session import Options, Session

ALL = registry.load(packs=False)


def rules(*codes: str) -> list[Rule]:
    return [rule for rule in ALL if rule.code in codes]


def record(
    program: Callable[[], object],
    raises: type[Exception] | None = None,
    *,
    told: bool = True,
    rules: Sequence[Rule] = ALL,
    tell: Callable[[Finding], None] = lambda finding: None,
    **options: Any,
) -> RunRecord:
    """Of a program of which everything is watched. `raises`: what ends it; `told`: whether the watcher is told so."""
    torch.manual_seed(0)
    session = Session(rules, Options(everything=True, **options), tell)
    session.start()
    raised: Exception | None = None
    try:
        program()
    except Exception as error:
        raised = error
        if raises is None or not isinstance(error, raises):
            raise
    finally:
        session.stop(ending(raised if told else None))
    assert (raised is not None) == (raises is not None)
    assert session.record.problems == []
    return session.record


def found(program: Callable[[], object], raises: type[Exception] | None = None, **options: Any) -> list[Finding]:
    """What is found in it; the options of `record`."""
    return record(program, raises, **options).findings


def codes(findings: list[Finding]) -> list[str]:
    return [finding.code for finding in findings]


def line(finding: Finding) -> str:
    """The text of the line on which it stands."""
    return linecache.getline(sites.file(finding.span.path), finding.span.line).strip()


# What the numbers of a run say

NUMBERS = rules("GL505", "GL508", "GL509", "GL801", "GL802", "GL803", "GL804", "GL805", "GL806", "GL808", "GL809")


def numbers(program: Callable[[], object], **options: Any) -> RunRecord:
    """What is recorded, with findings of the rules that judge numbers, also those that are less sure."""
    return record(program, rules=NUMBERS, least=Confidence.MEDIUM, **options)


def told(program: Callable[[], object], **options: Any) -> list[tuple[str, int | None, Confidence]]:
    """Code, step and confidence of those findings."""
    return [(f.code, f.step, f.confidence) for f in numbers(program, **options).findings]


def train(
    model: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    make: Callable[..., torch.optim.Optimizer] = torch.optim.SGD,
    **options: Any,
) -> None:
    """A plain loop; `options` are those of the optimizer that `make` gives."""
    optimizer = make(model.parameters(), **{"lr": 0.01, **options})
    for i in range(steps):
        optimizer.zero_grad()
        loss(i).backward()
        optimizer.step()
