"""GL604: the backward of an autograd Function is not the derivative of its forward."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.reach import NotTheDerivative

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class GradientWrong(Rule):
    code = "GL604"
    slug = "gradient-wrong"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (NotTheDerivative,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, NotTheDerivative)
        owner, argument = sighting.owner, sighting.names[0]
        if not sighting.given:
            told = f"returns None for `{argument}`, and its derivative there is {sighting.true:.4g}"
        else:
            told = f"says {sighting.said:.4g} for an element of `{argument}`, and differences say {sighting.true:.4g}"
        report(
            "the backward of an autograd Function is not the derivative of its forward",
            label=f"{sighting.at_step}: `{owner}.backward` {told}",
            why="everything before this function is trained with a gradient that does not belong to the loss",
            help=f"derive `{owner}.backward` again, and test it with `torch.autograd.gradcheck`",
            note="estimators that are wrong on purpose are known where forward is flat or hands its input on; "
            "for others see `gradlint explain GL604`",
            related=[("it was called here", sighting.called)],
            confidence=Confidence.HIGH if sighting.given else Confidence.MEDIUM,
            subject=owner,
        )
