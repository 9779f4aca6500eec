"""GL605: code goes past the wrapper or the framework that was to do a part of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.order import (
    ClosureSkipped,
    GonePast,
    NothingReturned,
    PlainBackward,
    Unprepared,
    Unsynchronised,
)

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class FrameworkStepBypassed(Rule):
    code = "GL605"
    slug = "framework-step-bypassed"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (GonePast,)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        headline, label, why, help = _words(sighting)
        moved = sighting.moved if isinstance(sighting, Unsynchronised) else None
        known = not isinstance(sighting, Unsynchronised) or sighting.how
        report(
            headline,
            label=f"{sighting.at_step}: {label}",
            why=why,
            help=help,
            related=[("moved here", moved), ("built here", sighting.built)],
            confidence=Confidence.HIGH if known else Confidence.MEDIUM,
            subject=type(sighting).__name__,
        )


def _words(sighting: Sighting) -> tuple[str, str, str, str]:
    """Headline, label, why and help."""
    optimizer = sighting.optimizer.label if sighting.optimizer else "optimizer"
    if isinstance(sighting, ClosureSkipped):
        return (
            "the step skips the closure in which training happens",
            "`training_step` and backward had not run",
            "in Lightning's automatic optimisation the step calls them, through the closure that it is handed",
            f"hand it on: `{optimizer}.step(closure=optimizer_closure)`, or call it before",
        )
    if isinstance(sighting, NothingReturned):
        return (
            "`training_step` returns no loss",
            "no batch so far has given a loss",
            "without one Lightning runs no backward, and the step finds no gradients",
            "return the loss, or a dict that has it under `loss`",
        )
    if isinstance(sighting, PlainBackward):
        return (
            "backward goes past Accelerate",
            f"backward was called on the loss itself, of which {sighting.number} are added up",
            f"`accelerator.backward` would have divided it by {sighting.number}, so the step is that much too long",
            f"call `accelerator.backward({_receiver(sighting.source('loss.backward()'))})`",
        )
    if isinstance(sighting, Unprepared):
        return (
            "the optimizer was not prepared by Accelerate",
            "it makes a step though the window of accumulation is not complete",
            f"only a prepared optimizer waits for the last of {sighting.number} micro-batches",
            f"hand it over: `{optimizer} = accelerator.prepare({optimizer})`",
        )
    assert isinstance(sighting, Unsynchronised)
    model = sighting.model
    if sighting.how == "moved":
        return (
            "the model was moved after DistributedDataParallel wrapped it",
            "no gradient was averaged by this backward",
            "the move made new places for gradients, which the wrapper's hooks are not on",
            "move and convert the model first, then wrap it",
        )
    if sighting.how == "raw":
        return (
            "the forward goes past DistributedDataParallel",
            f"no gradient was averaged by this backward, and `{model}` itself was never called",
            "each rank trains a model of its own on its own part of the data",
            f"call `{model}(...)`; `{model}.module` is for evaluation and for saving",
        )
    return (
        "gradients are not averaged over the ranks",
        f"no collective ran in this backward, though `{model}` is wrapped by DistributedDataParallel",
        "each rank trains a model of its own on its own part of the data",
        f"call `{model}(...)` in each forward, and average in the last backward before the step",
    )


def _receiver(call: str) -> str:
    """`loss` of `loss.backward()`."""
    return call.partition(".backward")[0] or "loss"
