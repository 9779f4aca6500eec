"""What the numbers say: the loss, the gradients, and what the steps make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import Site


Reason = Literal["rate", "loss", "gradient", "step"]  # why weights stay as they are


@kind
class LossIsNaN(Sighting):
    value: str
    spoils: bool  # its gradients are not finite either
    scaled: bool = False


@kind
class NotFinite(Sighting):
    """NaN or Inf, where there was none before."""

    total: int  # of tensors that were looked at
    loss: float | None  # the last that was finite
    since: int  # and its step


@kind
class GradientNotFinite(NotFinite):
    made: Site | None
    spoilt: tuple[str, ...]  # weights that are not finite either


@kind
class WeightNotFinite(NotFinite):
    finite: bool  # the gradients of the step were
    lost: tuple[str, float, str] | None  # an option, its value, and the dtype in which that is 0


@kind
class GradientUnderflow(Sighting):
    zeros: float  # the largest part of a gradient that is 0
    early: bool  # it was so at the first step
    scaled: bool
    dtype: str


@kind
class LayerChange(Sighting):
    """The numbers of a layer, which `names` names, are not what they were."""

    now: float
    usual: float
    extreme: bool
    always: bool
    layers: int  # how many there are


@kind
class GradientExplodes(LayerChange):
    pass


@kind
class GradientVanishes(LayerChange):
    pass


@kind
class UpdateExtreme(LayerChange):
    """An update is as large as the weights."""


@kind
class NoEffect(Sighting):
    """The steps move no weight."""

    reason: Reason
    own: bool  # the optimizer is one of torch's
    half: str  # the dtype, where weights are in half precision
    scheduled: bool
    rate: float | None  # the highest


@kind
class LostToRounding(Sighting):
    """Updates of weights in half precision vanish."""

    share: float  # of the weights that did move
    most: bool  # it is so for most of all weights
    dtype: str
    own: bool
    grows: bool  # the rate is still on its way up, as far as anybody can see
    rate: float | None


@kind
class UnitsDead(Sighting):
    """Units of a layer never get a gradient."""

    dead: int
    rows: int
    whole: int  # layers of which no unit has one
    total: int  # layers
    blocker: str  # a layer that lets nothing through
    before: int  # layers before the first with a gradient


@kind
class AverageStill(Sighting):
    """An average of a network is written again and again, and does not move as the network does."""

    network: str
    half: str  # the dtype of the average if it is one of half precision
    sure: bool  # it is known who writes it


@kind
class BuffersStill(Sighting):
    """The same of its buffers, while its parameters follow."""

    network: str
    sure: bool


@kind
class StatisticsOfAnother(Sighting):
    """A mean of weights is in evaluation mode with the statistics that the norm layers of the network have."""

    updates: int  # of the mean
