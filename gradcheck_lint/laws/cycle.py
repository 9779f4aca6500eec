"""The protocol of the gradient cycle, written down once: states, events, and the transitions that are mistakes.

Zero, forward, backward, (unscale, clip,) step: each optimizer goes round this cycle. `advance` takes the state of
one optimizer's gradients over one event and names what that breaks. It is pure and knows neither source code nor
torch: the linter feeds it the events that the code must cause, the watcher those that a run did cause.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

# What the gradients of an optimizer are.
ABSENT = "absent"  # the optimizer does not exist yet
OUTSIDE = "outside"  # unknown: something that cannot be seen had its hand in it
FRESH = "fresh"  # nothing has been done since the optimizer was built
HANDED = "handed"  # whatever other methods of the object that built the optimizer have left
CLEAN = "clean"  # cleared, nothing since
ERASED = "erased"  # cleared while they were unused, nothing since
FIRST = "first"  # made by backward, before anything was ever cleared
READY = "ready"  # made by backward after clearing, not used
SPENT = "spent"  # used by a step, not cleared
STALE = "stale"  # made by backward on top of spent ones

# Whether they are multiplied by a loss scale.
PLAIN = "plain"
SCALED = "scaled"
UNSCALED = "unscaled"
ENGINE = "engine"  # a framework's backward, which deals with the scale by itself

# What can be broken.
STALE_STEP = "stale-step"  # a step uses gradients that hold those of earlier steps as well
ERASED_STEP = "erased-step"  # a step after its gradients were cleared
EMPTY_STEP = "empty-step"  # a step without new gradients
EMPTY_CLIP = "empty-clip"  # clipping where there is nothing (more) to clip
SCALED_CLIP = "scaled-clip"  # clipping gradients that are still multiplied by the loss scale
SCALED_STEP = "scaled-step"  # a plain step with scaled gradients
PLAIN_SCALER_STEP = "plain-scaler-step"  # a scaler's step after a backward that was not scaled
UNSCALED_TWICE = "unscaled-twice"
EARLY_SCHEDULE = "early-schedule"  # the schedule moves before the first step
DISCARDED = "discarded"  # unused gradients are cleared

BREACHES = frozenset(
    {
        STALE_STEP, ERASED_STEP, EMPTY_STEP, EMPTY_CLIP, SCALED_CLIP, SCALED_STEP, PLAIN_SCALER_STEP, UNSCALED_TWICE,
        EARLY_SCHEDULE, DISCARDED,
    }
)  # fmt: skip


class State(NamedTuple):
    """The gradients of one optimizer at one moment.

    `made` is the backward that made them what they are, `cleared` the last zeroing.
    """

    gradient: str = FRESH
    scale: str = PLAIN
    stepped: bool = False
    made: Hashable = None
    cleared: Hashable = None


_AFTER_BACKWARD = {FRESH: FIRST, HANDED: FIRST, CLEAN: READY, ERASED: READY, SPENT: STALE}
_AFTER_STEP = {FRESH: FRESH, CLEAN: CLEAN, ERASED: CLEAN}  # it finds nothing, and leaves nothing behind
NOTHING_NEW = frozenset({FRESH, CLEAN, SPENT})
_UNUSED = frozenset({FIRST, READY, STALE})


def advance(state: State, event: str, who: Hashable = None, how: str = "") -> tuple[State, str | None]:
    """The state after an event, and the breach that it is, if any.

    Events: "build"; "zero"; "backward" (how: PLAIN, SCALED or ENGINE); "write" (gradients are changed in place by
    hand); "unscale"; "clip"; "step" (how: "scaler" if a GradScaler makes it); "schedule"; "unknown". `who` identifies
    the event, to be found again in `made` and `cleared`.
    """
    if event == "build":
        # a backward that ran before, or what wrote them, may have left gradients in the parameters that it takes
        idle = state.made is None and state.gradient != OUTSIDE
        return State() if idle else State(OUTSIDE, ENGINE), None
    gradient = state.gradient
    if gradient == ABSENT:
        return state._replace(made=who) if event in ("backward", "unknown") else state, None
    if event == "zero":
        unused = gradient in _UNUSED
        after = State(ERASED if unused else CLEAN, PLAIN, state.stepped, state.made, who)  # `_replace` is slow
        return after, DISCARDED if unused else None
    if event == "backward":
        return _backward(state, how or PLAIN, who), None
    if event == "write":
        if gradient in _UNUSED:
            return state._replace(scale=ENGINE), None
        return state._replace(gradient=OUTSIDE, scale=ENGINE), None
    if event == "unscale":
        twice = state.scale == UNSCALED and gradient in _UNUSED
        scale = state.scale if state.scale == ENGINE else UNSCALED
        return state._replace(scale=scale), UNSCALED_TWICE if twice else None
    if event == "clip":
        if gradient in NOTHING_NEW:
            return state, EMPTY_CLIP
        return state, SCALED_CLIP if state.scale == SCALED and gradient != OUTSIDE else None
    if event == "step":
        return _step(state, how)
    if event == "schedule":
        return state, None if state.stepped or gradient == OUTSIDE else EARLY_SCHEDULE
    if event == "unknown":
        return State(OUTSIDE, ENGINE, True, state.made, state.cleared), None
    return state, None


def _backward(state: State, how: str, who: Hashable) -> State:
    gradient = _AFTER_BACKWARD.get(state.gradient, state.gradient)
    if state.gradient == STALE:
        who = state.made  # it was the first backward after the step that met old gradients
    if state.gradient in _UNUSED and state.scale == PLAIN and how == SCALED:
        return state._replace(gradient=gradient)  # a part of the gradient stays unscaled
    return State(gradient, how, state.stepped, who, state.cleared)


def _step(state: State, how: str) -> tuple[State, str | None]:
    breach: str | None = None
    if state.gradient == STALE:
        breach = STALE_STEP
    elif state.gradient == ERASED:
        breach = ERASED_STEP
    elif state.gradient in NOTHING_NEW:
        breach = EMPTY_STEP
    elif state.gradient != OUTSIDE:
        if how == "scaler" and state.scale == PLAIN:
            breach = PLAIN_SCALER_STEP
        elif how != "scaler" and state.scale == SCALED:
            breach = SCALED_STEP
    return State(_AFTER_STEP.get(state.gradient, SPENT), state.scale, True, state.made, state.cleared), breach


def turn(state: State) -> State:
    """The state at the start of the next round of a loop: what was erased in this one is merely clean in it."""
    return state._replace(gradient=CLEAN) if state.gradient == ERASED else state


EXCUSES: dict[str, frozenset[str]] = {
    STALE_STEP: frozenset({FIRST}),  # the first round, before there was anything to clear
}
"""States that break nothing themselves, but do not make the breach of the other states any less certain."""
