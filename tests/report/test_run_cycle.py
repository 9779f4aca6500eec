"""The gradient cycle as it is drawn: what is alike is told in a word, and what is odd is there."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

from run_samples import clear, wrong

from gradcheck_lint.report.run_cycle import Again, More, Turn, cycle, happening, kinds
from gradcheck_lint.runtime.record import Moment, RunRecord

PLAIN = ("zero", "backward", "step")


def record_of(*turns: tuple[int, tuple[str, ...]]) -> RunRecord:
    """A record with these turns, each with its step; each kind has a line of its own."""
    order = count(1)
    moments = [
        Moment(0, kind, step - (kind not in ("step", "schedule")), next(order), f"train.py:{kind}")
        for step, kinds_ in turns
        for kind in kinds_
    ]
    return replace(clear(), moments=moments)


def told(record: RunRecord) -> list[str]:
    """The parts in short: `1 zbs`, `+3 to 9`."""
    found = []
    for part in cycle(record, 0):
        if isinstance(part, More):
            found.append(f"+{part.turns} to {part.last}")
        else:
            letters = (f"+{m.times}{m.kind[0]}" if isinstance(m, Again) else m.kind[0] for m in part.moments)
            found.append(f"{part.step} {''.join(letters)}")
    return found


def test_turns_that_are_alike_are_drawn_twice() -> None:
    assert told(record_of(*((step, PLAIN) for step in range(1, 21)))) == ["1 zbs", "2 zbs", "+18 to 20"]


def test_a_few_are_drawn_all() -> None:
    assert told(record_of(*((step, PLAIN) for step in range(1, 5)))) == ["1 zbs", "2 zbs", "3 zbs", "4 zbs"]


def test_what_differs_is_drawn() -> None:
    turns = [(step, PLAIN) for step in range(1, 31)]
    turns[14] = (15, ("backward", "step"))
    assert told(record_of(*turns)) == [
        "1 zbs", "2 zbs", "+12 to 14", "15 bs", "16 zbs", "17 zbs", "+13 to 30"
    ]  # fmt: skip


def test_where_nobody_looked_nothing_is_odd() -> None:
    """The watcher falls asleep after a step, and wakes after another: a schedule is missing, or heard alone."""
    whole = (*PLAIN, "schedule")
    turns = [*((step, whole) for step in range(1, 20)), (20, PLAIN), (49, ("schedule",)), (50, whole), (51, PLAIN)]
    assert told(record_of(*turns)) == ["1 zbss", "2 zbss", "+20 to 51"]


def test_a_schedule_that_moves_seldom_is_drawn() -> None:
    turns = [(step, (*PLAIN, "schedule") if step % 5 == 0 else PLAIN) for step in range(1, 11)]
    assert told(record_of(*turns))[4] == "5 zbss"


def test_many_backwards_of_one_step_are_told_in_a_word() -> None:
    turns = [(step, ("zero", *["backward"] * 64, "step")) for step in range(1, 4)]
    assert told(record_of(*turns))[0] == "1 zbb+62bs"


def test_a_turn_without_end_is_drawn_in_parts() -> None:
    mixed = ("backward", "clip") * 40
    parts = cycle(record_of((1, mixed)), 0)
    assert len(parts) > 1
    assert all(isinstance(part, Turn) and part.step == 1 and len(part.moments) <= 24 for part in parts)
    assert sum(len(part.moments) for part in parts if isinstance(part, Turn)) == 80


def test_a_turn_in_which_something_was_found_is_drawn() -> None:
    record = wrong()
    record.findings = [replace(record.findings[0], step=12)]
    parts = [part.step if isinstance(part, Turn) else part for part in cycle(record, 0)]
    assert parts == [1, 2, More(9, 11), 12, More(8, 20)]


def test_rows() -> None:
    record = record_of((1, ("backward", "clip")))
    assert kinds(record, 0) == ["zero", "backward", "clip", "step"]
    assert happening(record, 0) == {"backward", "clip"}
    assert cycle(record, 1) == []
