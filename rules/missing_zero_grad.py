"""GL101: backward adds to gradients that an earlier step already used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.cycle import STALE_STEP
from gradcheck_lint.finding import Confidence, Safety, Severity
from gradcheck_lint.rule import Report, Rule

if TYPE_CHECKING:
    from gradcheck_lint.cycle import Breach


class MissingZeroGrad(Rule):
    code = "GL101"
    slug = "missing-zero-grad"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({STALE_STEP})

    def on_breach(self, breach: Breach, report: Report) -> None:
        for made in breach.made:
            report(
                made.place,
                "gradients are carried over from the previous step",
                label="adds to the gradients left by the last iteration",
                why=f"`{breach.optimizer.label}.step()` does not clear `.grad`, so every update repeats earlier batches",
                help=f"call `{breach.optimizer.label}.zero_grad()` before it",
                confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
            )
