"""The terminal: when it gets colours and when a progress bar."""

from __future__ import annotations

import io
import sys
import time

import pytest

from gradcheck_lint import console
from gradcheck_lint.console import Progress, colourful, tell


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("env", "terminal", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"FORCE_COLOR": ""}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
    ],
)
def test_colourful(env: dict[str, str], terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert colourful(Terminal() if terminal else io.StringIO()) is expected


def test_closed_stream_has_no_colours() -> None:
    stream = io.StringIO()
    stream.close()
    assert not colourful(stream)


def test_messages_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    tell("error", "one\ntwo")
    assert capsys.readouterr().err == "error: one two\n"


def bar(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, seconds: float, on: bool = True) -> str:
    """What is drawn when half of the files are checked after so many seconds."""
    monkeypatch.setattr(sys, "stderr", stream)
    now = time.monotonic()
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with Progress(on=on) as progress:
        monkeypatch.setattr(console.time, "monotonic", lambda: now + seconds)
        progress(50, 100)
        progress(51, 100)
    return stream.getvalue()


def test_progress_is_drawn_if_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = bar(monkeypatch, Terminal(), seconds=2)
    assert drawn == "\r[############............] 50 of 100 files\r\x1b[K"  # not again within a moment, and gone


@pytest.mark.parametrize(("seconds", "on"), [(0.5, True), (2, False)])
def test_progress_is_not_drawn(seconds: float, on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar(monkeypatch, Terminal(), seconds=seconds, on=on) == ""


def test_progress_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar(monkeypatch, io.StringIO(), seconds=2) == ""
