"""The gradient scaler that a breach is about, and the scale that it starts with."""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Event
from gradcheck_lint.source.natures import LossScaled, Scaler, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, only, things

_DEFAULT = "65536"  # torch's own


def scaling(made: Iterable[Event]) -> Thing | None:
    """The scaler whose scaled loss some backwards ran on."""
    for event in made:
        for loss in things(event.subject, LossScaled):
            scaled = nature(loss, LossScaled)
            scaler = only(scaled.scaler, Scaler) if scaled is not None else None
            if scaler is not None:
                return scaler
    return None


def initial(scaler: Thing | None) -> str:
    """The scale that a scaler starts with, as the code writes it; "" if it does not say."""
    place = scaler.place if scaler is not None and scaler.certain else None
    if place is None or not isinstance(place.node, tree.Call):
        return ""
    for argument in place.node.args:
        if argument.keyword == "init_scale":
            return " ".join(Place(place.chunk, argument.value).code.split())
        if argument.star or (argument.keyword is None and not _device(argument.value)):
            return ""
    return _DEFAULT


def at_start(scaler: Thing | None) -> str:
    """What to add to "the loss scale", where the code says with which one the scaler starts."""
    scale = initial(scaler)
    return f", {scale} at the start" if scale else ""


def _device(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and isinstance(node.value, str)
