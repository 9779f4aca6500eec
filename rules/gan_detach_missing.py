"""GL409: the discriminator's loss reaches the generator, whose own step uses what it leaves there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting


class GanDetachMissing(Rule):
    code = "GL409"
    slug = "gan-detach-missing"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = frozenset({"leak-upstream"})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        mine = sighting.optimizer.label if sighting.optimizer else "optimizer"
        theirs = sighting.detail["other"]
        report(
            "the loss of one network reaches the one that feeds it, and that one's step uses it",
            label=f"{sighting.at_step}: this backward, made for the step of `{theirs}`, had filled its gradients too",
            why=f"what `{mine}` holds is trained to help what `{theirs}` holds, and against it by its own loss",
            help=f"`.detach()` what goes into this loss, or call `{mine}.zero_grad()` after this backward",
            note="an encoder that is meant to learn from both losses is legitimate: add them, and step once",
            related=[
                ("the backward of its own loss", sighting.sites.get("own")),
                ("the sum of both is used here", sighting.sites.get("used")),
            ],
            confidence=Confidence.HIGH if sighting.detail["real"] else Confidence.MEDIUM,
        )
