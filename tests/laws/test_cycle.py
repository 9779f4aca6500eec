"""The protocol's machine: each transition, each breach, and random programs against gradients that are really kept."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.laws import cycle
from gradcheck_lint.laws.cycle import State, advance, turn

GRADIENTS = [
    cycle.ABSENT, cycle.OUTSIDE, cycle.FRESH, cycle.CLEAN, cycle.ERASED, cycle.FIRST, cycle.READY, cycle.SPENT,
    cycle.STALE,
]  # fmt: skip

AFTER = {
    #               absent    outside    fresh     clean     erased     first     ready     spent     stale
    "zero":      ("absent", "clean",   "clean",  "clean",  "clean",   "erased", "erased", "clean",  "erased"),
    "backward":  ("absent", "outside", "first",  "ready",  "ready",   "first",  "ready",  "stale",  "stale"),
    "step":      ("absent", "spent",   "fresh",  "clean",  "clean",   "spent",  "spent",  "spent",  "spent"),
    "write":     ("absent", "outside", "outside", "outside", "outside", "first", "ready", "outside", "stale"),
    "clip":      ("absent", "outside", "fresh",  "clean",  "erased",  "first",  "ready",  "spent",  "stale"),
    "unscale":   ("absent", "outside", "fresh",  "clean",  "erased",  "first",  "ready",  "spent",  "stale"),
    "schedule":  ("absent", "outside", "fresh",  "clean",  "erased",  "first",  "ready",  "spent",  "stale"),
    "unknown":   ("absent", "outside", "outside", "outside", "outside", "outside", "outside", "outside", "outside"),
    "build":     ("fresh",  "outside", "fresh",  "fresh",  "fresh",   "fresh",  "fresh",  "fresh",  "fresh"),
}  # fmt: skip

BROKEN = {
    ("step", cycle.STALE): cycle.STALE_STEP,
    ("step", cycle.ERASED): cycle.ERASED_STEP,
    ("step", cycle.FRESH): cycle.EMPTY_STEP,
    ("step", cycle.CLEAN): cycle.EMPTY_STEP,
    ("step", cycle.SPENT): cycle.EMPTY_STEP,
    ("clip", cycle.FRESH): cycle.EMPTY_CLIP,
    ("clip", cycle.CLEAN): cycle.EMPTY_CLIP,
    ("clip", cycle.SPENT): cycle.EMPTY_CLIP,
    ("zero", cycle.FIRST): cycle.DISCARDED,
    ("zero", cycle.READY): cycle.DISCARDED,
    ("zero", cycle.STALE): cycle.DISCARDED,
    **{("schedule", g): cycle.EARLY_SCHEDULE for g in GRADIENTS if g not in (cycle.ABSENT, cycle.OUTSIDE)},
}
"""What is broken by an event on plain gradients, before any step; all other pairs break nothing."""


@pytest.mark.parametrize("event", AFTER)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_each_transition(event: str, gradient: str) -> None:
    after, broken = advance(State(gradient), event)
    assert after.gradient == AFTER[event][GRADIENTS.index(gradient)]
    assert broken == BROKEN.get((event, gradient))


def run(events: Iterable[str], state: State = State()) -> list[str | None]:  # noqa: B008 - immutable
    """What each of the events breaks; `event:how` says how it is done."""
    found = []
    for number, event in enumerate(events):
        name, _, how = event.partition(":")
        state, broken = advance(state, name, number, how)
        found.append(broken)
    return found


SCALED = "backward:scaled"


@pytest.mark.parametrize(
    ("words", "last"),
    [
        ([SCALED, "step:scaler"], None),
        ([SCALED, "unscale", "clip", "step:scaler"], None),
        (["backward:engine", "clip", "step"], None),
        (["backward:engine", "step:scaler"], None),
        ([SCALED, "write", "step"], None),
        ([SCALED, "clip"], cycle.SCALED_CLIP),
        ([SCALED, "step"], cycle.SCALED_STEP),
        (["backward", "step:scaler"], cycle.PLAIN_SCALER_STEP),
        ([SCALED, "backward", "step:scaler"], cycle.PLAIN_SCALER_STEP),
        (["backward", SCALED, "step:scaler"], cycle.PLAIN_SCALER_STEP),
        ([SCALED, "unscale", "unscale"], cycle.UNSCALED_TWICE),
        ([SCALED, "unscale", "step:scaler", "zero", SCALED, "unscale"], None),
        ([SCALED, "step:scaler", "zero", "backward", "step"], None),
    ],
)
def test_the_loss_scale(words: list[str], last: str | None) -> None:
    *before, end = run(words)
    assert before == [None] * len(before)
    assert end == last


def test_the_schedule_waits_for_the_first_step() -> None:
    assert run(["schedule"]) == [cycle.EARLY_SCHEDULE]
    assert run(["backward", "step", "schedule", "zero", "schedule"]) == [None] * 5


def test_who_made_and_who_cleared() -> None:
    state = State()
    for who, event in enumerate(["zero", "backward", "backward", "step"]):
        state, _ = advance(state, event, who)
    assert (state.made, state.cleared) == (2, 0)
    for who, event in enumerate(["backward", "backward"], start=4):
        state, _ = advance(state, event, who)
    assert state.made == 4  # the first backward after the step is the one that met old gradients


def test_a_part_that_is_not_scaled_is_the_one_to_blame() -> None:
    state, _ = advance(State(), "backward", "plain", cycle.PLAIN)
    state, _ = advance(state, "backward", "scaled", cycle.SCALED)
    assert (state.scale, state.made) == (cycle.PLAIN, "plain")


def test_what_was_erased_is_clean_in_the_next_round() -> None:
    assert turn(State(cycle.ERASED)).gradient == cycle.CLEAN
    assert turn(State(cycle.READY)).gradient == cycle.READY


WORDS = st.lists(st.sampled_from(["zero", "backward", "step", "clip"]), max_size=30)


class Gradients:
    """Gradients that remember which backwards they are made of, and which of these a step has used."""

    def __init__(self) -> None:
        self.unused: set[int] = set()
        self.used: set[int] = set()
        self.erased = False

    def do(self, event: str, number: int) -> str | None:
        if event == "zero":
            discarded = bool(self.unused)
            self.unused, self.used, self.erased = set(), set(), discarded
            return cycle.DISCARDED if discarded else None
        if event == "backward":
            self.unused.add(number)
            self.erased = False
            return None
        if event == "clip":
            return cycle.EMPTY_CLIP if not self.unused and not self.erased else None
        broken = None
        if not self.unused:
            broken = cycle.ERASED_STEP if self.erased else cycle.EMPTY_STEP
        elif self.used:
            broken = cycle.STALE_STEP
        self.used |= self.unused
        self.unused, self.erased = set(), False
        return broken


@given(WORDS)
def test_random_programs_against_gradients_that_are_kept(words: list[str]) -> None:
    kept = Gradients()
    assert run(words) == [kept.do(event, number) for number, event in enumerate(words)]


ROUNDS = st.lists(
    st.tuples(
        st.booleans(),  # cleared at the head of the round, or at its end
        st.integers(min_value=1, max_value=4),  # micro-batches
        st.sampled_from(["plain", "scaled", "engine"]),
        st.booleans(),  # clipped
    ),
    max_size=8,
)


@given(ROUNDS)
def test_right_cycles_break_nothing(rounds: list[tuple[bool, int, str, bool]]) -> None:
    words: list[str] = ["zero"]
    cleared = True
    for head, micro, scale, clipped in rounds:
        if head and not cleared:
            words.append("zero")
        elif not cleared:
            words[len(words) :] = ["schedule", "zero"]
        words += [f"backward:{scale}"] * micro
        if clipped:
            words += ["unscale", "clip"] if scale == "scaled" else ["clip"]
        words.append("step:scaler" if scale == "scaled" else "step")
        cleared = False
    assert run(words) == [None] * len(words)


@given(ROUNDS.filter(lambda rounds: len(rounds) > 1), st.data())
def test_a_clearing_that_is_left_out_is_noticed(rounds: list[tuple[bool, int, str, bool]], data: st.DataObject) -> None:
    words: list[str] = []
    gone = data.draw(st.integers(min_value=1, max_value=len(rounds) - 1))
    for number, (_, micro, _, _) in enumerate(rounds):
        words += (["zero"] if number != gone else []) + ["backward"] * micro + ["step"]
    found = run(words)
    assert [broken for broken in found if broken] == [cycle.STALE_STEP]
    assert words[: found.index(cycle.STALE_STEP)].count("step") == gone


@given(st.lists(st.sampled_from([*AFTER]), max_size=20))
def test_what_is_unknown_is_never_blamed(words: list[str]) -> None:
    state = State(cycle.OUTSIDE, cycle.ENGINE, stepped=True)
    for event in words:
        if event in ("zero", "step", "build"):
            break
        state, broken = advance(state, event)
        assert broken is None
        assert state.gradient == cycle.OUTSIDE
