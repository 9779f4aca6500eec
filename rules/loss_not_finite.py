"""GL809: the loss is NaN or Inf, and a step uses its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.numbers import LossIsNaN

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class LossNotFinite(Rule):
    code = "GL809"
    slug = "loss-not-finite"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (LossIsNaN,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, LossIsNaN)
        value = sighting.value
        step = written(sighting.stepped, "the step")
        sure = sighting.spoils and not sighting.scaled
        report(
            "the loss is NaN or Inf, and a step was made with it",
            label=f"{sighting.at_step}: the loss was {value} while all weights were still finite",
            why="its gradients are NaN as well, and the weights do not recover from them"
            if sighting.spoils
            else "this batch teaches nothing, and any mean or curve that holds its loss is lost",
            help="look at this batch and at what the loss divides by or takes the logarithm of; if such batches "
            f"are to be expected, leave out the backward and `{step}` for them",
            related=[("the step that used it", sighting.stepped)],
            confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        )
