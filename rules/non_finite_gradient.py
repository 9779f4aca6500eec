"""GL801: a gradient, or what the step made of the weights, holds NaN or Inf while the loss is a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.numbers import GradientNotFinite, NotFinite, WeightNotFinite

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class NonFiniteGradient(Rule):
    code = "GL801"
    slug = "non-finite-gradient"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (GradientNotFinite, WeightNotFinite)
    yields_to = frozenset({("GL119", "step")})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        names = sighting.names
        if not isinstance(sighting, NotFinite) or not names:
            return
        loss = sighting.loss
        what = "gradients" if isinstance(sighting, GradientNotFinite) else "weights"
        everywhere = len(names) == sighting.total > 1
        whose = f"all {len(names)} {what}" if everywhere else f"the {what} of {told(names)}"
        since = sighting.since
        when = "" if since == sighting.step else f" at step {since}, the last that was seen"
        before = f"the loss was {loss:.4g}{when}" if loss is not None else "no loss of one number was seen"
        label = f"{sighting.at_step}: {whose} were not finite; {before}"
        first = names[0]
        if isinstance(sighting, WeightNotFinite):
            known = sighting.finite
            report(
                "the step has made NaN or Inf of the weights" if known else "the weights have become NaN or Inf",
                label=f"{sighting.at_step}: {whose} were not finite; the gradients were, and {before}"
                if known
                else label,
                why="from there NaN reaches every output and every loss",
                help=_of_the_step(sighting) if known else _of_either(first),
                related=[("built here", sighting.built)],
                confidence=Confidence.HIGH,
            )
            return
        assert isinstance(sighting, GradientNotFinite)
        spoilt = bool(sighting.spoilt)
        report(
            "a gradient is NaN or Inf, and the loss is not" if loss is not None else "a gradient is NaN or Inf",
            label=label,
            why="the step writes NaN into the weights, and from there it reaches every output"
            if spoilt
            else "an optimizer that uses such a gradient loses its weights",
            help=f"look at what is done to `{first}`, which backward reached first: a root, a logarithm, a norm or a "
            "division at zero. Where `torch.where` or a mask drops its result, mask what goes into it: backward "
            "goes through what was dropped, and zero times Inf is NaN",
            note="`torch.autograd.detect_anomaly()` names the operation",
            related=[("backward", sighting.made), ("built here", sighting.built)],
            confidence=Confidence.HIGH if spoilt else Confidence.MEDIUM,
        )


def _of_the_step(sighting: WeightNotFinite) -> str:
    """What to do where the gradients were finite, and so was the loss."""
    if sighting.lost:
        option, value, dtype = sighting.lost
        return (
            f"`{option}={value:g}` is 0 in {dtype}, so the step divides by zero where a gradient is small: train "
            f"weights of float32 under autocast, or pass a larger `{option}`"
        )
    return "lower the learning rate, or look at the roots and divisions in the step of the optimizer"


def _of_either(first: str) -> str:
    """What to do where it happened at a step that was not looked at."""
    return (
        f"watch again with `--every 1 --level deep` to see whether the gradient of `{first}` or the step was the first "
        "to be NaN; `torch.autograd.detect_anomaly()` tells the operation behind a gradient"
    )
