"""GL108: gradients are clipped while they are still multiplied by the loss scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.cycle import SCALED_CLIP
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import ScaledClip
from gradcheck_lint.source.events import Step, Unscale
from gradcheck_lint.source.natures import Scaler

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.breach import Breach


LARGE = 1000.0  # a bound that is meant for scaled gradients


class ClipBeforeUnscale(Rule):
    code = "GL108"
    slug = "clip-before-unscale"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    breaches = frozenset({SCALED_CLIP})
    watches = (ScaledClip,)

    def on_breach(self, breach: Breach, report: Report) -> None:
        from gradcheck_lint.facts.repair import text
        from gradcheck_lint.facts.scaling import at_start, scaling
        from gradcheck_lint.facts.turns import measures
        from gradcheck_lint.source.deps import depends

        clip = breach.clip
        if measures(clip) or any(isinstance(thing.what, Scaler) for thing in depends(clip.norm)):
            return  # nothing is limited, or the bound is scaled as well
        name, scaler = breach.optimizer.label, scaling(breach.made)
        report(
            clip.place,
            "gradients are clipped while they are multiplied by the loss scale",
            label=f"compares its bound with gradients that are multiplied by it{at_start(scaler)}",
            why="nearly all of the gradient is cut off, and the step then divides what is left by the scale",
            help=f"call `{scaler.label if scaler is not None else 'scaler'}.unscale_({name})` before "
            f"`{text(clip.place)}`",
            related=[("scaled here", made.place) for made in breach.made],
            fix=self.mend(breach),
            confidence=Confidence.HIGH if breach.certain else Confidence.MEDIUM,
        )

    def mend(self, breach: Breach) -> Fix | None:
        """Unscale before the clipping, where the scaler's step follows in its block and no unscaling does."""
        from gradcheck_lint.facts.repair import argument, insert_before, receiver
        from gradcheck_lint.facts.turns import alone, beside

        here = alone(breach.event)
        if here is None or not breach.certain:
            return None
        later = [b.event for b in beside(breach, breach.event, Step, Unscale) if b.stand.position > here.position]
        own = [event for event in later if event.concerns(breach.optimizer)]
        if not own or not isinstance(own[0], Step) or own[0].scaler is None:
            return None
        call = f"{receiver(own[0].place)}.unscale_({argument(own[0].place, 0)})"
        return Fix(f"call `{call}` first", Safety.SAFE, (insert_before(here, call),))

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, ScaledClip)
        if not sighting.untouched or sighting.bound >= LARGE:
            return  # divided by the scale by hand, or the bound is multiplied by it as well
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        report(
            "gradients are clipped while they are multiplied by the loss scale",
            label=f"after step {sighting.step} of {name}: they had not been unscaled since the backward",
            why="nearly all of the gradient is cut off, and the step then divides what is left by the scale",
            help=f"call `unscale_({name})` of the gradient scaler before `{sighting.source('the clipping')}`",
            related=[("scaled here", sighting.backward)],
        )
