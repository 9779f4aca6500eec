"""The pictures of a run, as SVG that takes its colours from the style sheet of the page around it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.report import run_cycle
from gradcheck_lint.report.markup import middle_cut, number, tag, words
from gradcheck_lint.report.run_cycle import Again, More
from gradcheck_lint.report.run_series import FAR, LAYERS, Grid, gathered, was_read
from gradcheck_lint.runtime.layers import layers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck_lint.report.run_cycle import Turn
    from gradcheck_lint.runtime.record import Moment, Parameter, RunRecord

_CELL, _ROW, _LEFT = 22, 24, 96
_ROOM = 30  # cells in a line of the gradient cycle
_NAME = 25  # characters of the name of a layer


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


def cycle(record: RunRecord, optimizer: int) -> str:
    """What happened to the gradients of an optimizer, a row for each kind, in as many lines as it takes."""
    parts = run_cycle.cycle(record, optimizer)
    if not parts:
        return ""
    rows, happened = run_cycle.kinds(record, optimizer), run_cycle.happening(record, optimizer)
    wrong = run_cycle.wrong_places(record, optimizer)
    lines = _lines(parts)
    high = _ROW * len(rows)
    drawn = []
    for index, line in enumerate(lines):
        top = 8 + (high + 30) * index
        for row, kind in enumerate(rows):
            y = top + _ROW * (row + 0.5)
            name = kind if kind in happened else f"{kind}: never"
            absent = " absent" if kind not in happened else ""
            drawn.append(_text(_LEFT - 10, y + 4, name, text_anchor="end", class_=f"name{absent}"))
        drawn.append(_line(line, rows, top, wrong))
    width = _LEFT + _CELL * max(sum(map(_cells, line)) for line in lines) + 12
    return _svg(width, (high + 30) * len(lines) - 2, "the gradient cycle", *drawn)


def _cells(part: Turn | More) -> int:
    """How wide a part of the picture is."""
    return 5 if isinstance(part, More) else sum(2 if isinstance(moment, Again) else 1 for moment in part.moments)


def _lines(parts: Sequence[Turn | More]) -> list[list[Turn | More]]:
    lines: list[list[Turn | More]] = [[]]
    for part in parts:
        if lines[-1] and sum(map(_cells, lines[-1])) + _cells(part) > _ROOM:
            alone = isinstance(part, More) and len(lines[-1]) > 1
            lines.append([lines[-1].pop()] if alone else [])  # "more alike" stands beside what it is like
        lines[-1].append(part)
    return lines


def _line(parts: Sequence[Turn | More], rows: Sequence[str], top: float, wrong: set[tuple[str, int]]) -> str:
    high = _ROW * len(rows)
    back, front = [], []
    melodies: list[list[tuple[float, float]]] = [[]]
    x: float = _LEFT
    for part in parts:
        wide = _CELL * _cells(part)
        if isinstance(part, More):
            middle, told = x + wide / 2, f"{part.turns} more turns like this, the last at step {part.last}"
            for lower, text in ((-3, f"{part.turns} more alike,"), (12, f"to step {part.last}")):
                front.append(
                    _text(middle, top + high / 2 + lower, text, title=told, text_anchor="middle", class_="tick")
                )
            melodies.append([])
            x += wide
            continue
        if part.step % 2:
            size = {"width": number(wide), "height": number(high)}
            back.append(tag("rect", x=number(x), y=number(top), **size, class_="band"))
        back += [
            tag("line", x1=number(x), x2=number(x + wide), y1=number(y), y2=number(y), class_="rule")
            for y in (top + _ROW * (row + 0.5) for row in range(len(rows)))
        ]
        front.append(_text(x + wide / 2, top + high + 13, str(part.step), text_anchor="middle", class_="tick"))
        for moment in part.moments:
            y = top + _ROW * (rows.index(moment.kind) + 0.5)
            if isinstance(moment, Again):
                told = f"{moment.kind} {moment.times} more times"
                front.append(
                    _text(x + _CELL, y + 4, f"+{moment.times}", title=told, text_anchor="middle", class_="again")
                )
                melodies[-1].append((x + 2 * _CELL, y))
                x += 2 * _CELL
                continue
            melodies[-1].append((x + _CELL / 2, y))
            front.append(_moment(moment, part.step, x + _CELL / 2, y, wrong))
            x += _CELL
    lines = [" ".join(f"{number(x)},{number(y)}" for x, y in melody) for melody in melodies if melody]
    return "".join([*back, *(tag("polyline", points=line, class_="melody") for line in lines), *front])


def _moment(moment: Moment, step: int, x: float, y: float, wrong: set[tuple[str, int]]) -> str:
    told = tag("title", words(f"{moment.kind}, step {step}{f', {moment.site}' if moment.site else ''}"))
    ring = tag("circle", told, cx=number(x), cy=number(y), r=9, class_="ring")
    dot = tag("circle", told, cx=number(x), cy=number(y), r=5.5, class_=f"kind-{moment.kind}")
    return (ring if (moment.site, step) in wrong else "") + dot


# Numbers


def curve(name: str, points: Sequence[tuple[int, float]]) -> str:
    """A line over steps, on a logarithmic scale if it goes far; values that are not finite are marked above it."""
    width, height, left, right, top, bottom = 720.0, 150.0, 64.0, 12.0, 14.0, 24.0
    finite = [value for _, value in points if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5, high + 0.5
    scale = math.log if low > 0 and high > FAR * low else float
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


def heat(grid: Grid, room: float = 780) -> str:
    """Layers by steps, in a picture of that width at most: the darker the larger, on a logarithmic scale.

    Zero is empty, and what is not finite stands out.
    """
    grid = gathered(grid)
    sizes = [math.log10(v) for row in grid.rows for v in row if v > 0 and math.isfinite(v)]
    low, high = (min(sizes), max(sizes)) if sizes else (0.0, 1.0)
    span = max(high - low, 1e-9)
    left, cell_height = 10 + 6.3 * min(_NAME, max(map(len, grid.layers))), 18.0
    wide = max(3.0, min(26.0, (room - 16 - left) / len(grid.steps)))
    height = cell_height * len(grid.layers)
    parts = []
    for row, (layer, values) in enumerate(zip(grid.layers, grid.rows, strict=True)):
        y = row * cell_height
        parts.append(_text(left - 8, y + 13, layer, most=_NAME, text_anchor="end", class_="name small"))
        for column, (step, value) in enumerate(zip(grid.steps, values, strict=True)):
            if math.isnan(value) and not was_read(grid, row, column):
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


# Who holds what


_UNNAMED = re.compile(r"parameter \d+ of group \d+")


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
    held: dict[tuple[str, str, int], list[tuple[int, Parameter]]] = {}
    drawn = [optimizer for optimizer in record.optimizers if optimizer.parameters][:8]
    flat = [(place, parameter) for place, optimizer in enumerate(drawn) for parameter in optimizer.parameters]
    names = layers([*(p.name for _, p in flat), *record.missing], LAYERS)
    for name, (place, parameter) in zip(names, flat, strict=False):
        status = "gone" if not parameter.held else "held" if parameter.trainable else "frozen"
        whose = place if _UNNAMED.fullmatch(parameter.name) else -1  # else the same tensor in several optimizers
        held.setdefault((name, status, whose), []).append((place, parameter))
    rows = []
    for (name, status, _), found in held.items():
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
