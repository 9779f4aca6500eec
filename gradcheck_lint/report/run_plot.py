"""A watched run as a figure of matplotlib, for notebooks."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcheck_lint.report.run_series import Grid, grids, losses

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import RunRecord

_COLOURS = {"zero": "#3b82c4", "backward": "#c9820a", "step": "#3a8f4d"}
_ROWS = ("step", "backward", "zero")  # from below
_MOMENTS = 60


def plot(record: RunRecord) -> Any:
    """Losses, norms of gradients and sizes of updates by layer and step, and the first turns of the gradient cycle."""
    try:
        library: Any = import_module("matplotlib.figure")
    except ImportError:
        raise ImportError("plot() needs matplotlib; `pip install matplotlib`, or use to_html()") from None
    maps = grids(record)
    figure = library.Figure(figsize=(9, 3.2 + 2.4 * len(maps)), layout="constrained")
    axes = figure.subplots(2 + len(maps), 1, squeeze=False)[:, 0]
    _losses(axes[0], record)
    for axis, grid in zip(axes[1:], maps, strict=False):
        _heat(figure, axis, grid)
    _cycle(axes[-1], record)
    return figure


def _losses(axis: Any, record: RunRecord) -> None:
    for name, points in losses(record).items():
        axis.plot([step for step, _ in points], [value for _, value in points], label=name, linewidth=1.5)
    axis.set_title("loss", loc="left", fontsize=10)
    if not losses(record):
        axis.text(0.5, 0.5, "no loss was read", ha="center", va="center", transform=axis.transAxes)
    elif len(losses(record)) > 1:
        axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _heat(figure: Any, axis: Any, grid: Grid) -> None:
    values = [[math.log10(v) if v > 0 and math.isfinite(v) else math.nan for v in row] for row in grid.rows]
    image = axis.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis")
    axis.set_title(grid.title, loc="left", fontsize=10)
    axis.set_yticks(range(len(grid.layers)), grid.layers, fontsize=7)
    some = range(0, len(grid.steps), max(1, len(grid.steps) // 10))
    axis.set_xticks(some, [str(grid.steps[index]) for index in some], fontsize=7)
    figure.colorbar(image, ax=axis, label="log10")


def _cycle(axis: Any, record: RunRecord) -> None:
    moments = [moment for moment in record.moments if moment.kind in _COLOURS][:_MOMENTS]
    for kind, colour in _COLOURS.items():
        places = [(place, moment) for place, moment in enumerate(moments) if moment.kind == kind]
        rows = [_ROWS.index(kind) - 0.25 * (moment.optimizer % 3) for _, moment in places]
        axis.scatter([place for place, _ in places], rows, color=colour, s=18)
    axis.set_yticks(range(len(_ROWS)), _ROWS)
    axis.set_ylim(-1, len(_ROWS) - 0.5)
    axis.set_xticks([])
    axis.set_title("the gradient cycle, from the first step on", loc="left", fontsize=10)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
