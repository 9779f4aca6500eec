"""GL807: ranks that should hold the same weights do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.ranks import RanksApart

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class RanksDiverged(Rule):
    code = "GL807"
    slug = "ranks-diverged"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (RanksApart,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, RanksApart)
        headline, label, why, help = _words(sighting)
        related = [("built here", sighting.built)]
        if len(set(sighting.clips)) == 1:
            related.insert(0, ("backward", sighting.backward))
        report(
            headline,
            label=label,
            why=why,
            help=help,
            note="ranks that are to train different things need different optimizers or no process group",
            related=[(words, site) for words, site in related if site != sighting.site],
            confidence=Confidence.HIGH if sighting.certain else Confidence.MEDIUM,
            subject=sighting.what,
        )


def _words(sighting: RanksApart) -> tuple[str, str, str, str]:
    """Headline, label, why and help."""
    names = told(sighting.names)
    what, (odd, usual), (value, other) = sighting.what, sighting.ranks, sighting.values
    where = f"rank {odd} and rank {usual}"
    apart = "from then on every rank trains weights of its own, and no all-reduce brings them together again"
    if what == "steps":
        return (
            "ranks make a different number of steps",
            f"{sighting.at_step}: rank {odd} made {value} steps in all and rank {usual} made {other}",
            "the weights of a rank that skips a step stay behind, and later gradients are averages over unequal models",
            "decide on all ranks together whether a step is made, for example by an all-reduce of the condition",
        )
    if what == "order":
        return (
            "the ranks hold their parameters in different orders",
            f"{sighting.at_step}: rank {odd} has `{value}` where rank {usual} has `{other}`",
            "a state that is saved by one rank and loaded by another, or split over them, goes to the wrong parameters",
            "hand the parameters over in an order that is the same everywhere: `model.parameters()`, and no set",
        )
    if what == "rates":
        one, two = _rates(value), _rates(other)
        return (
            "the ranks train with different learning rates",
            f"{sighting.at_step}: the learning rate is {one} on rank {odd} and {two} on rank {usual}",
            apart,
            "step the scheduler, and set options, on all ranks alike",
        )
    if what == "start":
        return (
            "the ranks begin with different weights",
            f"{sighting.at_step}: {names} on {where} differ before any update{_numbers(value, other)}",
            "averaged gradients move both alike, so the weights stay as far apart as they are",
            "load or initialise before the model is wrapped in `DistributedDataParallel`, or broadcast from rank 0",
        )
    if what == "gradients" and len(set(sighting.clips)) > 1:
        one, two = _times(sighting.clips[0]), _times(sighting.clips[1])
        return (
            "gradients are clipped on some ranks only",
            f"{sighting.at_step}: rank {odd} has clipped {one} and rank {usual} {two}, and the gradients of "
            f"{names} differ{_numbers(value, other)}",
            apart,
            f"call `{written(sighting.clip, 'clip_grad_norm_')}` on every rank, after the gradients are averaged",
        )
    if what == "gradients":
        some = f"{len(sighting.names)} of {sighting.total} parameters: " if len(sighting.names) < sighting.total else ""
        return (
            "the ranks step with different gradients",
            f"{sighting.at_step}: the gradients on {where} differ for {some}{names}{_numbers(value, other)}",
            apart,
            "change gradients on all ranks alike, and average each of them; call the model through its wrapper",
        )
    return (
        "the weights of the ranks have drifted apart",
        f"{sighting.at_step}: {names} on {where} differ{_numbers(value, other)}, though the gradients did not",
        "each rank now computes gradients for a model of its own, and their average fits none of them",
        "look for what one rank alone does to its weights or to the state of the optimizer",
    )


def _numbers(value: Any, other: Any) -> str:
    return f" (length {value:.4g} against {other:.4g})" if value is not None and other is not None else ""


def _times(number: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(number, f"{number} times")


def _rates(rates: Any) -> str:
    return " and ".join(f"{rate:g}" for rate in rates)
