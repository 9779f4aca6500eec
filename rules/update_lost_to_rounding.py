"""GL509: updates of half precision weights are smaller than half a unit in the last place, and vanish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.numbers import LostToRounding

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class UpdateLostToRounding(Rule):
    code = "GL509"
    slug = "update-lost-to-rounding"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (LostToRounding,)
    yields_to = frozenset({("GL505", "names")})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, LostToRounding)
        dtype, share = sighting.dtype, sighting.share
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        sure = sighting.own and sighting.most and not sighting.grows
        rate = f"a learning rate of {sighting.rate:g}" if sighting.rate is not None else "this learning rate"
        report(
            "updates are lost to rounding",
            label=f"{sighting.at_step}: {100 - 100 * share:.0f} % of the {dtype} weights of {told(sighting.names)} "
            "had a gradient and did not move, as at all steps before",
            why=f"with {rate} the update is less than half of the distance between neighbouring {dtype} numbers",
            help=f"keep the weights that `{name}` holds in float32 and compute in {dtype} under `torch.autocast`",
            note="an optimizer with stochastic rounding or a compensation buffer makes up for it later",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        )
