"""Watched runs to render, from one in which nothing happened to one that has everything."""

from __future__ import annotations

import math
from dataclasses import replace

from report_samples import BARE, CARRIED, REBOUND, TRAIN

from gradcheck_lint.finding import Confidence, Finding, Related, Severity, Span
from gradcheck_lint.runtime.record import Model, Moment, Parameter, RunRecord, Site, Watched

LINES = {number: line for number, line in enumerate(TRAIN.split("\n"), 1) if line}


def held(*names: str, group: int = 0, in_model: bool = True) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, (4, 3), "float32", "cpu", group, True, in_model) for name in names)


def cycles(steps: int, *, zero: bool = True, optimizer: int = 0) -> list[Moment]:
    """The moments of a plain loop."""
    found: list[Moment] = []
    for step in range(steps):
        kinds = [("zero", 10)] * zero + [("backward", 11), ("step", 12)]
        for kind, line in kinds:
            found.append(Moment(optimizer, kind, step + (kind == "step"), len(found) + 1, f"train.py:{line}"))
    return found


def nothing() -> RunRecord:
    return RunRecord(program="train.py", python="3.11.2", torch="2.13.0", seconds=0.5)


def clear() -> RunRecord:
    watched = Watched(0, "optimizer", "SGD", None, held("fc.weight", "fc.bias"), 300, 300, 300, 26)
    return replace(
        nothing(), optimizers=[watched], models=[Model("model", "Line", 2)], seconds=3.14, moments=cycles(20)
    )


def carried(number: int = 1) -> list[Finding]:
    """Findings of a run, each at another line."""
    step = replace(
        CARRIED,
        evidence="run",
        step=2,
        fix=None,
        label="at step 2 of optimizer: the gradients of the step before were still there when backward ran",
    )
    return [
        step if not index else replace(BARE, span=Span("other.py", index, 1, index, 2), evidence="run", step=index)
        for index in range(number)
    ]


def wrong(number: int = 1) -> RunRecord:
    record = clear()
    record.optimizers[0].zeros = 0
    record.findings = carried(number)
    record.moments = cycles(20, zero=False)
    record.sources = {"train.py": dict(LINES)}
    return record


def everything() -> RunRecord:
    """Each field has something unusual in it."""
    record = wrong(2)
    record.program = "train.py --name <b>&amp;"
    record.rank, record.ranks = 1, 2
    record.watching = 0.25
    record.ended = "ended by ValueError: <script>alert(1)</script>"
    record.optimizers.append(
        Watched(
            1,
            "",
            "Adam<T>",
            Site("train.py", 5, 13, 5, 56, "Adam(<i>params</i>)"),
            (*held("head.weight", "<u>.bias", group=0), *held("parameter 0 of group 1", group=1, in_model=False)),
            5,
            7,
            1,
            5,
            ("its step is compiled, so the order of its calls was not judged",),
        )
    )
    record.optimizers.append(Watched(2, "idle", "SGD"))
    record.findings.append(
        replace(
            REBOUND,
            severity=Severity.WARNING,
            confidence=Confidence.MEDIUM,
            evidence="run",
            step=None,
            message="<img src=x> & co",
            related=(Related("made </div> here", Span("gone.py", 7, 1, 7, 9)),),
        )
    )
    record.models.append(Model("", "Encoder<T>", 2))
    record.missing = ["encoder.weight", "encoder.<b>bias"]
    record.checked = {"rules": 12, "steps": 31}
    record.problems = ["Identity.ended: KeyError: '<x>'"]
    record.moments += [
        Moment(1, kind, 1, 100 + index, "") for index, kind in enumerate(["backward", "unscale", "clip", "step"])
    ]
    record.series = {
        "loss": [(1, 2.5), (2, 1.25), (3, math.nan), (4, math.inf)],
        "gradient/optimizer/fc": [(1, 0.5), (2, 0.0), (3, math.nan)],
        "gradient/Adam<T>/<u>": [(1, 1e-9), (20, 1e9)],
        "update/optimizer/fc": [(1, 1e-3), (2, 1e-4), (3, -math.inf)],
    }
    return record
