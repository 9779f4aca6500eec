"""What is switched on and off: training and evaluation mode, grad mode, freezing, autocast."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from gradcheck_lint.laws.mode import Lost
from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site


@kind
class EvalAtStep(Sighting):
    """Layers that are trained are in evaluation mode, and were not before."""

    since: int
    whole: bool  # none of the others is in training mode either
    module: str
    step_at: Site | None


@kind
class StepWithoutGradMode(Sighting):
    """Gradients are off, and most parameters that had one before have none."""

    left: int  # how many have one all the same
    before: int


@kind
class FrozenStatistics(Sighting):
    """Norm layers were frozen by their weights alone."""

    off: Site | None = None  # where they were put into evaluation mode with the rest of the frozen part
    on: Site | None = None  # where that was undone by what puts all of the model into training mode


@kind
class NormsAlone(Sighting):
    """Everything but the norm layers is frozen."""

    frozen: tuple[str, ...]


@kind
class ShouldBeFrozen(Sighting):
    """What `expect_frozen` names requires grad; without names nothing is called so."""

    word: str
    held: int


class Untrained(Enum):
    """Why something is not trained."""

    NAMELESS = "nothing has such a name"
    FROZEN = "it does not require grad"
    UNHELD = "no optimizer has it"
    DRY = "it gets no gradient"


@kind
class ShouldBeTrained(Sighting):
    """What `expect_trained` names is not trained."""

    word: str
    reason: Untrained


@kind
class AdaptersFrozen(Sighting):
    """An optimizer was given adapters, none of which requires grad, and something else gets gradients."""


@kind
class JudgedInTraining(Sighting):
    """A model was put into evaluation mode, and its optimizer, which has such modes too, was not."""


@kind
class ExpectedFrozenMoved(Sighting):
    held: int


@kind
class FrozenMoves(Sighting):
    """The step moves parameters with `requires_grad` False."""

    decay: bool
    momentum: bool
    old: bool  # by the gradient of an earlier step


@kind
class MaskedMoves(Sighting):
    """The program sets a part of a gradient to 0, and the step moves that part of the parameter all the same."""

    made: Site | None  # where
    decay: float
    momentum: bool
    moved: int  # elements
    held_back: int


@kind
class WrittenOutside(Sighting):
    """Weights were written between two steps."""


@kind
class RequiresGradAttribute(Sighting):
    """`requires_grad` was assigned to a module."""

    value: bool
    number: int
    made: Site | None


@kind
class FullPrecision(Sighting):
    """The layers run in float32."""

    how: Lost
    sure: bool
    device: str
    meant: str
    loss: Site | None
