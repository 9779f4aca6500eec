"""Numbers of an accelerator are dealt with when they are there, in their order, and do not pile up."""

from __future__ import annotations

import pytest
import torch

from gradcheck_lint.runtime.later import MOST, Later


class Event:
    """Stands for an event of an accelerator."""

    def __init__(self) -> None:
        self.ready = False
        self.waited = 0

    def query(self) -> bool:
        return self.ready

    def synchronize(self) -> None:
        self.waited += 1


def test_reading_waits_for_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    monkeypatch.setattr("gradcheck_lint.runtime.later._event", lambda tensor: events.append(Event()) or events[-1])
    later, read = Later(), []

    class Elsewhere:
        """A tensor on a device that is not there."""

        is_cpu, is_meta = False, False

    monkeypatch.setattr("gradcheck_lint.runtime.later._copy", lambda tensor: torch.tensor([7.0]))
    for _ in range(3):
        later.read([Elsewhere()], read.append)  # type: ignore[list-item]
    later.poll()
    assert read == []
    events[0].ready = True
    later.poll()
    assert read == [[[7.0]]]
    assert len(later) == 2
    later.finish()
    assert len(read) == 3
    assert [event.waited for event in events] == [1, 1, 1]


def test_readings_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradcheck_lint.runtime.later._event", lambda tensor: None)
    monkeypatch.setattr("gradcheck_lint.runtime.later._copy", lambda tensor: torch.tensor([1.0]))
    later, read = Later(), []

    class Elsewhere:
        is_cpu, is_meta = False, False

    for _ in range(MOST + 3):
        later.read([Elsewhere()], read.append)  # type: ignore[list-item]
        later.poll()
    assert len(later) == MOST
    assert len(read) == 3
