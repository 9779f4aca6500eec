"""The pictures of a run, as SVG that takes its colours from the style sheet of the page around it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.report.markup import middle_cut, number, tag, words
from gradcheck_lint.report.run_series import Grid
from gradcheck_lint.runtime.layers import layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck_lint.runtime.record import Moment, Parameter, RunRecord

KINDS = ("zero", "backward", "unscale", "clip", "step", "schedule")  # from above, as a turn goes
_ALWAYS = frozenset({"zero", "backward", "step"})
MOMENTS = 72  # how many are drawn
_CELL, _ROW, _LEFT = 22, 24, 96
_FAR = 200  # a curve whose largest number is so many times its smallest is drawn on a logarithmic scale
_NAME = 25  # characters of the name of a layer
_LAYERS = 26  # rows of the map and of a grid


def _svg(width: float, height: float, label: str, *content: str, fluid: bool = False) -> str:
    size = {"width": number(width), "height": number(height)} if not fluid else {}
    return tag(
        "svg", *content, viewBox=f"0 0 {number(width)} {number(height)}", role="img", aria_label=label, **size,
        class_="fluid" if fluid else None, xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def _text(x: float, y: float, text: str, *, most: int = 200, title: str = "", **attributes: object) -> str:
    cut = middle_cut(text, most)
    full = tag("title", words(title or text)) if title or cut != text else ""
    return tag("text", full, words(cut), x=number(x), y=number(y), **attributes)


# The gradient cycle


def _turns(moments: Sequence[Moment]) -> list[int]:
    """The step to which each moment leads, or which it is; what comes late in a turn may count for the next one."""
    found, latest = [], 1
    for moment in moments:
        latest = max(latest, moment.step + (moment.kind not in ("step", "schedule")))
        found.append(latest)
    return found


def cycle(record: RunRecord, optimizer: int) -> str:
    """The first moments of an optimizer, a row for each kind, from left to right as they happened."""
    moments = [m for m in record.moments if m.optimizer == optimizer and m.kind in KINDS][:MOMENTS]
    if not moments:
        return ""
    happened = {moment.kind for moment in moments}
    rows = [kind for kind in KINDS if kind in _ALWAYS or kind in happened]
    top, height = 8, 8 + _ROW * len(rows)
    width = _LEFT + _CELL * len(moments) + 12
    turns = _turns(moments)
    parts = [_bands(turns, top, height)]
    for index, kind in enumerate(rows):
        y = top + _ROW * index + _ROW / 2
        name = kind if kind in happened else f"{kind}: never"
        parts.append(tag("line", x1=_LEFT, x2=number(width - 12), y1=number(y), y2=number(y), class_="rule"))
        absent = " absent" if kind not in happened else ""
        parts.append(_text(_LEFT - 10, y + 4, name, text_anchor="end", class_=f"name{absent}"))
    at = [(_LEFT + _CELL * (i + 0.5), top + _ROW * (rows.index(m.kind) + 0.5)) for i, m in enumerate(moments)]
    parts.append(tag("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in at), class_="melody"))
    wrong = _wrong_places(record, optimizer)
    for (x, y), moment, turn in zip(at, moments, turns, strict=True):
        told = tag("title", words(f"{moment.kind}, step {turn}{f', {moment.site}' if moment.site else ''}"))
        if (moment.site, turn) in wrong:
            parts.append(tag("circle", told, cx=number(x), cy=number(y), r=9, class_="ring"))
        parts.append(tag("circle", told, cx=number(x), cy=number(y), r=5.5, class_=f"kind-{moment.kind}"))
    return _svg(width, height + 18, "the gradient cycle", *parts)


def _bands(turns: Sequence[int], top: float, height: float) -> str:
    """Every other turn shaded, and the number of each under it."""
    parts, start = [], 0
    for index in range(1, len(turns) + 1):
        if index < len(turns) and turns[index] == turns[start]:
            continue
        x, wide = _LEFT + _CELL * start, _CELL * (index - start)
        if turns[start] % 2:
            parts.append(
                tag("rect", x=number(x), y=number(top), width=number(wide), height=number(height - top), class_="band")
            )
        parts.append(_text(x + wide / 2, height + 13, str(turns[start]), text_anchor="middle", class_="tick"))
        start = index
    return "".join(parts)


def _wrong_places(record: RunRecord, optimizer: int) -> set[tuple[str, int]]:
    """The lines of findings and the steps at which they were seen, but for those that speak of another optimizer."""
    others = [f" of {other.label}:" for other in record.optimizers if other.index != optimizer]
    return {
        (f"{finding.span.path}:{finding.span.line}", finding.step)
        for finding in record.findings
        if finding.step is not None and not any(other in finding.label for other in others)
    }


# Numbers


def curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    """A line over steps, on a logarithmic scale if it goes far; values that are not finite are marked above it."""
    width, height, left, right, top, bottom = 720.0, 150.0, 64.0, 12.0, 14.0, 24.0
    finite = [value for _, value in points if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    scale = math.log if low > 0 and high > _FAR * low else float
    bottom_value, top_value = scale(low), scale(high)
    first, last = points[0][0], max(points[-1][0], points[0][0] + 1)

    def place(step: int, value: float) -> tuple[float, float]:
        x = left + (width - left - right) * (step - first) / (last - first)
        if not math.isfinite(value):
            return x, top
        return x, top + (height - top - bottom) * (top_value - scale(value)) / (top_value - bottom_value)

    parts = []
    for value in (low, high):
        _, y = place(first, value)
        parts.append(tag("line", x1=number(left), x2=number(width - right), y1=number(y), y2=number(y), class_="rule"))
        parts.append(_text(left - 8, y + 4, f"{value:.3g}", text_anchor="end", class_="tick"))
    for step, anchor in ((first, "start"), (last, "end")):
        x, _ = place(step, low)
        parts.append(_text(x, height - 6, f"step {step}", text_anchor=anchor, class_="tick"))
    if scale is math.log:
        parts.append(_text(width / 2, height - 6, "logarithmic scale", text_anchor="middle", class_="tick"))
    for piece in _pieces(points):
        at = [place(step, value) for step, value in piece]
        parts.append(tag("polyline", points=" ".join(f"{number(x)},{number(y)}" for x, y in at), class_="curve"))
        if len(piece) <= 60:
            for (x, y), (step, value) in zip(at, piece, strict=True):
                told = tag("title", words(f"step {step}: {value:.6g}"))
                parts.append(tag("circle", told, cx=number(x), cy=number(y), r=2.2, class_="dot"))
    for step, value in points:
        if not math.isfinite(value):
            x, y = place(step, value)
            told = tag("title", words(f"step {step}: {value}"))
            parts.append(tag("circle", told, cx=number(x), cy=number(y), r=3.5, class_="bad"))
    return _svg(width, height, f"{name} by step", *parts, fluid=True)


def _pieces(points: Iterable[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    """Stretches of finite values."""
    pieces: list[list[tuple[int, float]]] = [[]]
    for step, value in points:
        if math.isfinite(value):
            pieces[-1].append((step, value))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def heat(grid: Grid) -> str:
    """Layers by steps, the darker the larger on a logarithmic scale; zero is empty, what is not finite stands out."""
    grid = _gathered(grid)
    sizes = [math.log10(v) for row in grid.rows for v in row if v > 0 and math.isfinite(v)]
    low, high = (min(sizes), max(sizes)) if sizes else (0.0, 1.0)
    span = max(high - low, 1e-9)
    left, cell_height = 10 + 6.3 * min(_NAME, max(map(len, grid.layers))), 18.0
    wide = max(3.0, min(26.0, (700 - left) / len(grid.steps)))
    height = cell_height * len(grid.layers)
    parts = []
    for row, (layer, values) in enumerate(zip(grid.layers, grid.rows, strict=True)):
        y = row * cell_height
        parts.append(_text(left - 8, y + 13, layer, most=_NAME, text_anchor="end", class_="name small"))
        for column, (step, value) in enumerate(zip(grid.steps, values, strict=True)):
            if math.isnan(value) and not _was_read(grid, row, column):
                continue
            told = tag("title", words(f"{layer}, step {step}: {value:.3g}"))
            box = {
                "x": number(left + column * wide),
                "y": number(y + 1),
                "width": number(wide - (1 if wide > 5 else 0)),
                "height": number(cell_height - 2),
            }
            if not math.isfinite(value):
                parts.append(tag("rect", told, **box, class_="bad"))
            elif value <= 0:
                parts.append(tag("rect", told, **box, class_="zero"))
            else:
                depth = 0.12 + 0.88 * (math.log10(value) - low) / span if high > low else 0.6
                parts.append(tag("rect", told, **box, class_="heat", fill_opacity=f"{depth:.2f}"))
    often = max(1, math.ceil(34 / wide))
    for column in range(0, len(grid.steps), often):
        x = left + (column + 0.5) * wide
        parts.append(_text(x, height + 15, str(grid.steps[column]), text_anchor="middle", class_="tick"))
    scale = _scale(4, height + 26, low, high) if sizes else ""
    return _svg(max(left + wide * len(grid.steps) + 16, 240), height + 46, grid.title, *parts, scale)


def _was_read(grid: Grid, row: int, column: int) -> bool:
    """A nan may be a number that was read, where others of this step were read, or one that was not."""
    return any(math.isfinite(other[column]) for index, other in enumerate(grid.rows) if index != row)


def _scale(x: float, y: float, low: float, high: float) -> str:
    parts = [_text(x, y + 11, f"{10**low:.1e}", class_="tick")]
    if low == high:
        return parts[0]
    for index in range(8):
        parts.append(
            tag("rect", x=number(x + 58 + 12 * index), y=number(y + 2), width=12, height=10, class_="heat",
                fill_opacity=f"{0.12 + 0.88 * index / 7:.2f}")
        )  # fmt: skip
    parts.append(_text(x + 58 + 102, y + 11, f"{10**high:.1e}", class_="tick"))
    return "".join(parts)


def _gathered(grid: Grid) -> Grid:
    """Not too many rows: of layers that share a module the largest number of each step is kept."""
    names = layers([f"{layer}.x" for layer in grid.layers], _LAYERS)
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


# Who holds what


class _Row(NamedTuple):
    name: str
    told: str
    status: str  # "held", "frozen", "missing", "gone"
    holders: tuple[int, ...]  # positions among the optimizers that are drawn


def holders(record: RunRecord) -> str:
    """The layers on the left, the optimizers on the right, and a line for each that holds some of a layer."""
    optimizers = [optimizer for optimizer in record.optimizers if optimizer.parameters][:8]
    rows = _rows(record)
    if not rows:
        return ""
    left, right, line = 330.0, 560.0, 24.0
    height = line * max(len(rows), 2 * len(optimizers)) + 16
    parts = []
    spots = []
    for index, optimizer in enumerate(optimizers):
        y = height * (index + 0.5) / len(optimizers)
        spots.append(y)
        parts.append(tag("rect", x=right, y=number(y - 18), width=190, height=36, rx=6, class_="box"))
        parts.append(_text(right + 12, y - 2, optimizer.label, most=24, class_="name strong"))
        count = len(optimizer.parameters)
        said = f"{optimizer.kind}, {count} parameter{'s' * (count != 1)}"
        parts.append(_text(right + 12, y + 12, said, most=30, class_="tick"))
    first = (height - line * len(rows)) / 2
    links, names = [], []
    for index, row in enumerate(rows):
        y = first + line * (index + 0.5)
        names.append(_text(left - 130, y + 4, row.name, most=28, text_anchor="end", class_=f"name {row.status}"))
        names.append(_text(left - 118, y + 4, row.told, most=26, class_=f"tick {row.status}"))
        for holder in row.holders:
            end, half = spots[holder], (left + 20 + right) / 2
            path = (
                f"M{number(left + 20)} {number(y)} C{number(half)} {number(y)} {number(half)} {number(end)} "
                f"{number(right)} {number(end)}"
            )
            links.append(tag("path", d=path, class_=f"link {row.status}"))
        names.append(tag("circle", cx=number(left + 20), cy=number(y), r=4, class_=f"spot {row.status}"))
    return _svg(right + 200, height, "who holds what", *links, *parts, *names)


def _rows(record: RunRecord) -> list[_Row]:
    """Layers by what is the matter with them, those that no optimizer holds last."""
    held: dict[tuple[str, str], list[tuple[int, Parameter]]] = {}
    drawn = [optimizer for optimizer in record.optimizers if optimizer.parameters][:8]
    flat = [(place, parameter) for place, optimizer in enumerate(drawn) for parameter in optimizer.parameters]
    names = layers([*(p.name for _, p in flat), *record.missing], _LAYERS)
    for name, (place, parameter) in zip(names, flat, strict=False):
        status = "gone" if not parameter.held else "held" if parameter.trainable else "frozen"
        held.setdefault((name, status), []).append((place, parameter))
    rows = []
    for (name, status), found in held.items():
        tensors = {parameter.name: parameter for _, parameter in found}
        shown = next(iter(tensors)) if len(tensors) == 1 else name
        total = sum(math.prod(parameter.shape) for parameter in tensors.values())
        why = {"gone": "in no watched model", "frozen": f"frozen, {_size(total)}", "held": _size(total)}[status]
        rows.append(_Row(shown, why, status, tuple(sorted({place for place, _ in found}))))
    missing: dict[str, list[str]] = {}
    for layer, name in zip(names[len(flat) :], record.missing, strict=True):
        missing.setdefault(layer, []).append(name)
    for layer, lost in missing.items():
        shown = lost[0] if len(lost) == 1 else f"{layer} ({len(lost)} of it)"
        rows.append(_Row(shown, "no optimizer holds it", "missing", ()))
    return rows


def _size(number: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:.3g} {name} numbers"
    return f"{number} number{'s' * (number != 1)}"
