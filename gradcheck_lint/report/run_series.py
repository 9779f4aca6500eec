"""The numbers of a run as they are drawn: losses, and a grid of layers by steps for each optimizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import RunRecord

MOST_STEPS = 120
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
    """The losses that were read, by name."""
    return {name: points for name, points in record.series.items() if name.partition("/")[0] == "loss" and points}


def grids(record: RunRecord) -> list[Grid]:
    """One grid for each kind of number and each optimizer, gradients first."""
    found = []
    several = len(record.optimizers) > 1
    for kind, title in _TITLES.items():
        by_optimizer: dict[str, dict[str, dict[int, float]]] = {}
        for name, points in record.series.items():
            parts = name.split("/", 2)
            if parts[0] == kind and len(parts) == 3 and points:
                by_optimizer.setdefault(parts[1], {})[parts[2]] = dict(points)
        for optimizer, layers in by_optimizer.items():
            steps = thinned(sorted({step for points in layers.values() for step in points}))
            rows = tuple(tuple(points.get(step, float("nan")) for step in steps) for points in layers.values())
            whose = f"{title} ({optimizer})" if several else title
            found.append(Grid(kind, optimizer, whose, tuple(layers), tuple(steps), rows))
    return found


def thinned(steps: list[int], most: int = MOST_STEPS) -> list[int]:
    """At most so many of the steps, spread over all of them; the last is among them."""
    if len(steps) <= most:
        return steps
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]
