"""What is said of a backward that fills the gradients of a network beside the one that it was made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sightings.order import LeakedGradients

MEANT = "a network that is meant to learn from both losses is legitimate: add them, and step once"
USED = "uses the gradients of both"


def clearing(mine: str) -> str:
    return f"call `{mine}.zero_grad()` after this backward, before its own"


def report_leak(
    sighting: LeakedGradients,
    report: RunReport,
    message: str,
    *,
    why: str,
    instead: str = "",
    confidence: Confidence = Confidence.HIGH,
) -> None:
    """`instead`: what may be done in place of clearing. `why` may name the optimizers, as {mine} and {theirs}."""
    mine = sighting.optimizer.label if sighting.optimizer else "optimizer"
    theirs = sighting.other
    report(
        message,
        label=f"{sighting.at_step}: this backward, made for the step of `{theirs}`, had filled its gradients too",
        why=why.format(mine=mine, theirs=theirs),
        help=f"{instead}, or {clearing(mine)}" if instead else clearing(mine),
        note=MEANT,
        related=[("the backward of its own loss", sighting.own), (USED, sighting.used)],
        confidence=confidence,
    )
