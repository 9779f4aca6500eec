"""The numbers of a run by step, within bounds: a run of any length has a report of some megabytes.

A series that has grown full is thinned to half of its points, evenly, and takes every second number from then on, every
fourth after the next time, and so on. The first and the latest stay, and those of steps at which something was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck_lint.runtime.record import RunRecord

MOST_POINTS = 2000  # of one series
MOST_SERIES = 1000


class _Pace:
    """Which numbers of a series are taken."""

    __slots__ = ("came", "numbers", "stride")

    def __init__(self) -> None:
        self.stride = 1
        self.came = 0  # numbers so far
        self.numbers: list[int] = []  # of each point that is there: how many came before it


class SeriesKeeper:
    """Adds to `record.series`."""

    def __init__(self, record: RunRecord, found: Callable[[], set[int]]) -> None:
        """found: the steps at which something was found."""
        self._record = record
        self._found = found
        self._paces: dict[str, _Pace] = {}
        self.left_out = 0

    def add(self, name: str, step: int, value: float) -> None:
        """A number that was read at a step."""
        all_series = self._record.series
        points = all_series.get(name)
        if points is None:
            if len(all_series) >= MOST_SERIES:
                self.left_out += 1
                return
            points = all_series[name] = []
        pace = self._paces.setdefault(name, _Pace())
        if points and pace.numbers[-1] % pace.stride and points[-1][0] not in self._found():
            points.pop()  # it stood there as the latest
            pace.numbers.pop()
            self.left_out += 1
        points.append((step, value))
        pace.numbers.append(pace.came)
        pace.came += 1
        if len(points) > MOST_POINTS:
            self._thin(points, pace)

    def _thin(self, points: list[tuple[int, float]], pace: _Pace) -> None:
        found = self._found()
        pace.stride *= 2
        pairs = list(zip(points, pace.numbers, strict=True))
        kept = [pair for pair in pairs[:-1] if pair[1] % pace.stride == 0 or pair[0][0] in found]
        kept.append(pairs[-1])
        self.left_out += len(points) - len(kept)
        points[:] = [point for point, _ in kept]
        pace.numbers = [number for _, number in kept]
