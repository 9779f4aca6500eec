"""The numbers of a run as they are drawn: losses, and a grid of layers by steps for each optimizer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.runtime.layers import layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.runtime.record import RunRecord

MOST_STEPS = 120
LAYERS = 26  # rows of a picture
FAR = 200  # a curve whose largest number is so many times its smallest is drawn on a logarithmic scale
_TITLES = {"gradient": "norm of the gradients", "update": "updates relative to the weights"}


class Grid(NamedTuple):
    """Numbers by layer (rows) and step (columns); what was not read is nan."""

    kind: str  # "gradient" or "update"
    optimizer: str
    title: str
    layers: tuple[str, ...]
    steps: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]


def losses(record: RunRecord) -> dict[str, list[tuple[int, float]]]:
    """The losses that were read, by name: "loss", and what backward is called on in other lines."""
    found = {}
    for name, points in record.series.items():
        kind, _, what = name.partition("/")
        if kind == "loss" and points:
            found[what or kind] = points
    return found


def grids(record: RunRecord) -> list[Grid]:
    """One grid for each optimizer and each kind of number, gradients first."""
    found = []
    several = len(record.optimizers) > 1
    for kind, title in _TITLES.items():
        by_optimizer: dict[str, dict[str, dict[int, float]]] = {}
        for name, points in record.series.items():
            parts = name.split("/", 2)
            if parts[0] == kind and len(parts) == 3 and points:
                by_optimizer.setdefault(parts[1], {})[parts[2]] = dict(points)
        for optimizer, numbers in by_optimizer.items():
            steps = thinned(sorted({step for points in numbers.values() for step in points}))
            rows = tuple(tuple(points.get(step, math.nan) for step in steps) for points in numbers.values())
            whose = f"{title} ({optimizer})" if several else title
            found.append(Grid(kind, optimizer, whose, tuple(numbers), tuple(steps), rows))
    order = [optimizer.label for optimizer in record.optimizers]
    return sorted(found, key=lambda grid: order.index(grid.optimizer) if grid.optimizer in order else len(order))


def thinned(steps: list[int], most: int = MOST_STEPS) -> list[int]:
    """At most so many of the steps, spread over all of them; the last is among them."""
    if len(steps) <= most:
        return steps
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def gathered(grid: Grid) -> Grid:
    """Not too many rows: of layers that share a module the largest number of each step is kept."""
    names = layers([f"{layer}.x" for layer in grid.layers], LAYERS)
    if len(set(names)) == len(grid.layers):
        return grid
    together: dict[str, list[tuple[float, ...]]] = {}
    for name, row in zip(names, grid.rows, strict=True):
        together.setdefault(name, []).append(row)
    rows = [tuple(_largest(column) for column in zip(*group, strict=True)) for group in together.values()]
    return grid._replace(layers=tuple(together), rows=tuple(rows))


def _largest(column: Sequence[float]) -> float:
    odd = [value for value in column if math.isinf(value)]
    finite = [value for value in column if not math.isnan(value)]
    return odd[0] if odd else max(finite, default=math.nan)


def was_read(grid: Grid, row: int, column: int) -> bool:
    """A nan may be a number that was read, where others of this step were read, or one that was not."""
    return any(math.isfinite(other[column]) for index, other in enumerate(grid.rows) if index != row)
