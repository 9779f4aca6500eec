"""A watched run as a figure of matplotlib, for notebooks."""

from __future__ import annotations

import math
from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcheck_lint.report import run_cycle
from gradcheck_lint.report.markup import middle_cut
from gradcheck_lint.report.run_cycle import Again, More
from gradcheck_lint.report.run_series import FAR, Grid, gathered, grids, losses, was_read

if TYPE_CHECKING:
    from gradcheck_lint.report.run_cycle import Turn
    from gradcheck_lint.runtime.record import RunRecord, Watched

_COLOURS = {
    "zero": "#3b82c4",
    "backward": "#c9820a",
    "unscale": "#8250b8",
    "clip": "#8250b8",
    "step": "#3a8f4d",
    "schedule": "#78818b",
}
_WRONG = "#c62f2f"
_ROOM = 44  # moments of the gradient cycle in a row
_MORE = 8  # the room that "more alike" takes
_OPTIMIZERS = 6
_TITLE = 9


def plot(record: RunRecord) -> Any:
    """Losses, norms of gradients and sizes of updates by layer and step, and the gradient cycle of each optimizer."""
    try:
        library: Any = import_module("matplotlib.figure")
    except ImportError:
        raise ImportError("plot() needs matplotlib; `pip install matplotlib`, or use to_html()") from None
    rows = _pairs([gathered(grid) for grid in grids(record)])
    cycles = [watched for watched in record.optimizers if run_cycle.cycle(record, watched.index)][:_OPTIMIZERS]
    beside = 2 if len(cycles) > 1 and all(_room(record, watched) <= _ROOM // 2 for watched in cycles) else 1
    lines = [cycles[at : at + beside] for at in range(0, len(cycles), beside)]
    heights = [1.7, *(0.7 + 0.16 * max(len(grid.layers) for grid in row) for row in rows)]
    heights += [0.5 + 0.2 * max(len(run_cycle.kinds(record, watched.index)) for watched in line) for line in lines]
    figure = library.Figure(figsize=(10, sum(heights)), layout="constrained")
    places = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    _losses(figure.add_subplot(places[0, :]), record)
    for number, row in enumerate(rows, 1):
        for column, grid in enumerate(row):
            where = places[number, :] if len(row) == 1 else places[number, column]
            _heat(figure, figure.add_subplot(where), grid)
    for number, line in enumerate(lines, 1 + len(rows)):
        for column, watched in enumerate(line):
            where = places[number, :] if beside == 1 else places[number, column]
            _cycle(figure.add_subplot(where), record, watched, _ROOM // beside)
    return figure


def _pairs(found: list[Grid]) -> list[list[Grid]]:
    """The grids of one optimizer beside each other."""
    rows: list[list[Grid]] = []
    for grid in found:
        if rows and len(rows[-1]) == 1 and rows[-1][0].optimizer == grid.optimizer:
            rows[-1].append(grid)
        else:
            rows.append([grid])
    return rows


def _losses(axis: Any, record: RunRecord) -> None:
    found = losses(record)
    for name, points in found.items():
        steps, values = [step for step, _ in points], [value for _, value in points]
        axis.plot(steps, values, ".-", label=name, linewidth=1.5, markersize=3 if len(points) < 100 else 0)
    numbers = [value for points in found.values() for _, value in points if math.isfinite(value)]
    if numbers and min(numbers) > 0 and max(numbers) > FAR * min(numbers):
        axis.set_yscale("log")
    axis.set_title("loss", loc="left", fontsize=_TITLE)
    axis.tick_params(labelsize=7)
    if not found:
        axis.text(0.5, 0.5, "no loss was read", ha="center", va="center", transform=axis.transAxes)
    elif len(found) > 1:
        axis.legend(fontsize=8, frameon=False)
    axis.spines[["top", "right"]].set_visible(False)


def _heat(figure: Any, axis: Any, grid: Grid) -> None:
    values = [[math.log10(v) if v > 0 and math.isfinite(v) else math.nan for v in row] for row in grid.rows]
    image = axis.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis")
    axis.set_facecolor("#f1f2f0")
    bad = [
        (column, row)
        for row, numbers in enumerate(grid.rows)
        for column, v in enumerate(numbers)
        if math.isinf(v) or (math.isnan(v) and was_read(grid, row, column))
    ]
    axis.scatter([x for x, _ in bad], [y for _, y in bad], color=_WRONG, marker="x", s=16)
    axis.set_title(middle_cut(grid.title, 58), loc="left", fontsize=_TITLE)
    axis.set_yticks(range(len(grid.layers)), grid.layers, fontsize=7)
    some = range(0, len(grid.steps), math.ceil(len(grid.steps) / 10))
    axis.set_xticks(some, [str(grid.steps[index]) for index in some], fontsize=7)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, pad=0.01, aspect=12)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("log10", fontsize=7)
    bar.outline.set_visible(False)


def _room(record: RunRecord, watched: Watched) -> int:
    return sum(map(_wide, run_cycle.cycle(record, watched.index)))


def _wide(part: Turn | More) -> int:
    return _MORE if isinstance(part, More) else len(part.moments)


def _cycle(axis: Any, record: RunRecord, watched: Watched, room: int) -> None:
    rows, happened = run_cycle.kinds(record, watched.index), run_cycle.happening(record, watched.index)
    wrong = run_cycle.wrong_places(record, watched.index)
    x, ticks = 0.0, []
    melodies: list[list[tuple[float, float]]] = [[]]
    for part in run_cycle.cycle(record, watched.index):
        wide = _wide(part)
        if x + wide > room:
            axis.text(x, len(rows) / 2 - 0.5, "...", va="center", fontsize=9)
            break
        if isinstance(part, More):
            told = f"{part.turns} more alike,\nto step {part.last}"
            axis.text(x + wide / 2 - 0.5, len(rows) / 2 - 0.5, told, ha="center", va="center", fontsize=7)
            melodies.append([])
        else:
            ticks.append((x + wide / 2 - 0.5, part.step))
            if part.step % 2:
                axis.axvspan(x - 0.5, x + wide - 0.5, color="#f1f2f0", zorder=0)
            for place, moment in enumerate(part.moments):
                y = rows.index(moment.kind)
                melodies[-1].append((x + place, y))
                if isinstance(moment, Again):
                    axis.text(x + place, y, f"+{moment.times}", ha="center", va="center", fontsize=7)
                    continue
                axis.scatter([x + place], [y], color=_COLOURS[moment.kind], s=22, zorder=3)
                if (moment.site, part.step) in wrong:
                    axis.scatter([x + place], [y], facecolors="none", edgecolors=_WRONG, s=90, zorder=4)
        x += wide
    for melody in melodies:
        axis.plot([at for at, _ in melody], [y for _, y in melody], color="#b0b6bd", linewidth=0.8, zorder=1)
    axis.set_yticks(range(len(rows)), [row if row in happened else f"{row}: never" for row in rows], fontsize=8)
    for row, name in zip(rows, axis.get_yticklabels(), strict=True):
        name.set_color("black" if row in happened else _WRONG)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(-1, room)
    axis.set_xticks([at for at, _ in ticks], [str(step) for _, step in ticks], fontsize=7)
    axis.tick_params(length=0)
    whose = f" of {watched.label}" if len(record.optimizers) > 1 else ""
    axis.set_title(middle_cut(f"the gradient cycle{whose}", 54), loc="left", fontsize=_TITLE)
    axis.spines[:].set_visible(False)
