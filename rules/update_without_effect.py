"""GL802: steps are made, and no weight moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.numbers import NoEffect

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

SURE = 20  # steps after which zero gradients, or an optimizer of somebody's own that waits, are no beginning any more


class UpdateWithoutEffect(Rule):
    code = "GL802"
    slug = "update-without-effect"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (NoEffect,)
    yields_to = frozenset((code, "optimizer") for code in ("GL104", "GL201", "GL202", "GL304", "GL403", "GL404"))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, NoEffect)
        reason = sighting.reason
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        late = sighting.step >= SURE
        if reason == "rate":
            says, sure = "its learning rate is 0", not sighting.scheduled
            help = f"give `{name}` a learning rate, or look at who sets `{name}.param_groups[0]['lr']`"
        elif reason == "gradient":
            says, sure = "all its gradients were exactly 0", late and not sighting.satisfied
            if sighting.satisfied:
                says += ", and so was the loss"
            help = "look for a loss that does not depend on the weights, a mask of zeros, or units that are all dead"
            if sighting.half == "float16":
                help = "scale the loss by a `torch.amp.GradScaler`, for in float16 small gradients become 0; or " + help
        else:
            says, sure = f"the gradients were not 0 and the learning rate is {sighting.rate:g}", sighting.own or late
            step = sighting.source(f"{name}.step()")
            help = f"see whether `{step}` writes into the weights or into copies of them, and whether it was replaced"
        report(
            "the steps move no weight",
            label=f"{sighting.at_step}: no weight had moved since the first step; {says}",
            why="the model stays as it was initialised, whatever the loss says",
            help=help,
            note="a warm-up that begins at 0 is legitimate" if reason == "rate" else "",
            related=[("built here", sighting.built)],
            confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
        )
