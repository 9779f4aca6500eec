"""What breaks the cycle of zero, backward and step: the breaches of `laws.cycle`, windows, graphs, leaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from gradcheck_lint.runtime.sighting import Sighting, kind

if TYPE_CHECKING:
    from gradcheck_lint.runtime.call import Call
    from gradcheck_lint.runtime.record import Site

_A_WHILE = 10  # rounds after which gradients that are not cleared any more were cleared on purpose before


class Tally(NamedTuple):
    """How often something was wrong with an event of one line, and how often the line ran."""

    times: int = 1
    of: int = 1

    @property
    def always(self) -> bool:
        """Whether it was so each time, and more than once."""
        return self.times == self.of > 1


class Closure(NamedTuple):
    """What one call of a closure did, where the optimizer calls one."""

    made: int  # backwards
    cleared: int
    begins: Site | None  # the closure's first line


# A step


@kind
class StaleStep(Sighting):
    """A step uses gradients that hold those of earlier steps as well."""

    tally: Tally
    closure: Closure | None
    searches: bool  # the optimizer calls its closure again and again, as LBFGS does
    made: Site | None  # the backward that met old gradients
    zeros: int  # how often its gradients have been cleared in all
    cleared_at: int | None  # the step before which they were cleared last
    each_round: bool  # they are cleared in the same loop as they are made
    outside: Site | None  # the call that will clear them when the loop is over, if none did so far
    other: str  # the optimizer that is cleared in this one's place, "" if none is
    other_zero: Site | None  # where

    def others(self) -> tuple[str, ...]:
        return (self.other,) if self.other else ()

    @property
    def clearing(self) -> Site | None:
        """Where they are cleared."""
        return self.outside or self.scene.zeroed

    @property
    def clears(self) -> bool:
        """Whether a line of the user's clears the gradients of the optimizer somewhere.

        A framework may clear them too, once in an epoch say, without being asked: the line of the user's is then the
        one that has called the framework.
        """
        if self.outside is not None:
            return True  # it will, when the loop is over
        site = self.scene.zeroed
        return bool(self.zeros) and (site is None or not site.text or "zero" in site.text)

    @property
    def stopped(self) -> bool:
        """Whether each step had clean gradients for a while, and all that had not came after the last clearing."""
        times, of = self.tally
        return of - times >= _A_WHILE and (self.cleared_at is None or self.step - self.cleared_at >= times)

    @property
    def again(self) -> bool:
        """Whether each round clears the gradients, and makes one more step than that: GL101, and nothing is outside.

        One line has then met used gradients whenever it ran, and in the same loop they were cleared as often.
        """
        return self.tally.always and self.zeros >= self.tally.times and self.each_round and self.clears


@kind
class ErasedStep(Sighting):
    """A step after its gradients were cleared."""

    tally: Tally
    closure: Closure | None
    began: str  # what the gradients were when the first step came
    made: Site | None
    cleared: Site | None


@kind
class EmptyStep(Sighting):
    """A step without new gradients."""

    tally: Tally
    closure: Closure | None = None
    elsewhere: bool = False  # backward has run, and its graphs lead to nothing that the optimizer holds
    cut: Site | None = None  # what has cut off all that it holds


@kind
class ScaledStep(Sighting):
    """A plain step with gradients that are multiplied by the loss scale."""

    untouched: bool  # they are what backward made of them


@kind
class PlainScalerStep(Sighting):
    """A scaler's step after a backward that was not scaled."""

    gradient: str  # the state of the machine, of `cycle`
    made: Site | None


@kind
class CallMissing(Sighting):
    """A line names a method and does not call it."""

    method: str


@kind
class NeverStepped(Sighting):
    """Gradients are made for an optimizer, and no step uses them."""

    backwards: int
    stepping: tuple[str, ...]  # the optimizers that do step
    somewhere: bool  # the function has a call of its step that did not run

    def others(self) -> tuple[str, ...]:
        return self.stepping


# Closures


@kind
class ClosureCalled(Sighting):
    """`step()` is given the result of the closure."""

    given: str  # its class


@kind
class ClosureMissing(Sighting):
    """LBFGS steps without one."""


@kind
class ClosureWithoutLoss(Sighting):
    """A closure has returned None."""

    searches: bool
    begins: Site | None


# Between backward and step


@kind
class EmptyClip(Sighting):
    """Gradients are clipped where there are none (any more)."""

    tally: Tally
    gradient: str


@kind
class ScaledClip(Sighting):
    """Gradients are clipped that are still multiplied by the loss scale."""

    untouched: bool
    bound: float


@kind
class UnscaledTwice(Sighting):
    """Gradients are divided by the loss scale again."""

    before: Site | None


@kind
class ScalerRefused(Sighting):
    """A scaler has raised: it was called out of turn."""

    call: Call
    gradient: str
    scale: str
    bypassed: tuple[str, ...]  # the optimizers with scaled gradients
    updated: bool  # update() has run since the last step


@kind
class EarlySchedule(Sighting):
    """The schedule moves before the first step."""


@kind
class Discarded(Sighting):
    """Unused gradients are cleared."""

    window: int  # of how many backwards
    usual: int  # how many the latest steps used each; 0 if that differs
    regular: bool  # the same line has cleared gradients that nobody missed
    finite: bool
    made: Site | None


# Windows of accumulation


@kind
class WindowCleared(Sighting):
    """Each backward of a window but the last is cleared."""

    made: Site | None
    cleared: Site | None
    backwards: int


@kind
class StepOutside(Sighting):
    """The step stands behind the loop that clears and computes the gradients."""

    made: Site | None
    cleared: Site | None
    backwards: int


@kind
class WindowClipped(Sighting):
    """Gradients are clipped after each backward of a window."""

    made: Site | None
    backwards: int


@kind
class WindowEarly(Sighting):
    """The first window has one backward, and all others have more."""

    made: Site | None
    size: int


@kind
class SkipLeft(Sighting):
    """A batch that was skipped leaves its gradients to the next."""

    window: int
    usual: int
    finite: bool
    used: Site | None  # the step that uses them; None if none has come


# Graphs


@kind
class GraphAgain(Sighting):
    """The same graph goes backward again after a step."""


@kind
class GraphFreed(Sighting):
    """A graph goes backward that is freed."""

    again: bool  # the whole of it has gone backward before
    same_round: bool  # no step has come since
    freed: Site | None


@kind
class GraphOutdated(Sighting):
    """A graph reaches back to before a step."""


@kind
class RunningTotal(Sighting):
    """A loss contains one on which backward was called at an earlier step."""

    earlier: int
    made: Site | None


@kind
class GraphKept(Sighting):
    """The graphs of earlier steps are still in memory."""

    first: int
    made: Site | None


# Gradients of others


@kind
class LeakedGradients(Sighting):
    """A backward for one optimizer leaves gradients in what another holds, whose step uses them."""

    other: str
    own: Site | None
    used: Site | None

    def others(self) -> tuple[str, ...]:
        return (self.other,)


@kind
class Leak(LeakedGradients):
    """The network of the optimizer lies between the other's and the loss, as a critic behind an actor."""


@kind
class LeakUpstream(LeakedGradients):
    """It lies behind the other's, as a generator whose fakes were not detached."""

    real: bool


@kind
class GraphGrows(Sighting):
    """Each backward since the step goes through the graphs of those before it as well, which were kept for that."""

    nodes: int  # by which the graph has grown each time
    backwards: int


@kind
class WindowSpills(Sighting):
    """What is left of a window at the end of a loop goes into the first step of the next round of it."""

    window: int  # backwards of that step
    usual: int  # of the others
    every: int  # after how many steps it comes again
    made: Site | None


@kind
class SavedChanged(Sighting):
    """torch refuses a backward, for something that it needs was changed in place; `names`: a parameter, or layers."""

    made: str  # the operation that had made it; "" for a parameter, or where that is not known
    needs: str  # the operation that needs it
    by: str  # what changes it, as the code writes it; "" if there are several that may
    called: Site | None
    moved: Site | None  # by the step that moves the parameter


# Frameworks


@kind
class GonePast(Sighting):
    """A framework drives the cycle, and something goes past it."""


@kind
class Unsynchronised(GonePast):
    """No gradient was averaged over the ranks."""

    how: Literal["moved", "raw", ""]  # the model was moved after it was wrapped, or its forward goes past the wrapper
    model: str
    moved: Site | None


@kind
class ClosureSkipped(GonePast):
    """Lightning's closure was not called by the step."""


@kind
class NothingReturned(GonePast):
    """`training_step` has returned no loss."""


@kind
class PlainBackward(GonePast):
    """Backward goes past Accelerate."""

    number: int  # of backwards that are added up


@kind
class Unprepared(GonePast):
    """The optimizer was not prepared by Accelerate."""

    number: int
