"""Which layer a parameter belongs to: the module part of its name, and fewer and larger layers in a large model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.runtime.sightings.numbers import LayerChange

MOST = 60


def layers(names: Sequence[str], most: int = MOST) -> list[str]:
    """The layer of each of these parameters: `encoder.0` for `encoder.0.weight`, `w` for `w`.

    With more than `most` layers the deepest are put together under the module that holds them, again and again.
    """
    found = [name.rpartition(".")[0] or name for name in names]
    while len(set(found)) > most:
        depth = max(layer.count(".") for layer in found)
        if depth == 0:
            return _numbered(found, most)
        found = [layer.rpartition(".")[0] if layer.count(".") == depth else layer for layer in found]
    return found


def _numbered(found: list[str], most: int) -> list[str]:
    """Names without parts, too many of them: as many layers as there may be, each named by its first and last."""
    distinct = list(dict.fromkeys(found))
    size = -(-len(distinct) // most)
    label: dict[str, str] = {}
    for start in range(0, len(distinct), size):
        part = distinct[start : start + size]
        for name in part:
            label[name] = part[0] if len(part) == 1 else f"{part[0]} to {part[-1]}"
    return [label[name] for name in found]


def told(names: Sequence[str], what: str = "parameters") -> str:
    """The names for a sentence: one or two as they are, more as a number with where they are and an example."""
    if len(names) <= 2:
        return " and ".join(names)
    prefix = common(names)
    where = f" of {prefix}" if prefix else ""
    return f"{len(names)} {what}{where} ({names[0]}, ...)"


def common(names: Sequence[str]) -> str:
    """The longest module prefix that all of the names share."""
    shared: list[str] = []
    for pieces in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(pieces)) > 1:
            break
        shared.append(pieces[0])
    return ".".join(shared)


def layer(sighting: LayerChange) -> str:
    """The layer that is named, and how many more there are."""
    more = sighting.layers - 1
    return f"layer {sighting.names[0]}" + (f" (and {more} more)" if more else "")
