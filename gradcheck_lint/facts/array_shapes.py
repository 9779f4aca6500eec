"""The shapes of arrays of numpy, tables of pandas and data sets of scikit-learn, from which tensors are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from gradcheck_lint.facts.sizes import Shape, spelt
from gradcheck_lint.source import tree
from gradcheck_lint.source.operations import Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, Thing, Value, only


class Walk(Protocol):
    """A walk back that tells the shape of a value."""

    def of(self, value: Value | None) -> Shape | None: ...

    def nested(self, value: Value, depth: int) -> Shape | None: ...


_SIZED = frozenset("rand randn".split())
_DRAWN = frozenset("normal uniform randint integers choice random standard_normal random_sample exponential".split())
_FILLED = frozenset("zeros ones empty full".split())
_ALIKE = frozenset("sin cos tan tanh exp log log1p sqrt abs square sign clip round float32 float64 nan_to_num".split())

_XY = re.compile(
    r"sklearn\.datasets\.(?:make_(?:regression|classification|moons|circles|blobs|friedman\d)|load_\w+"
    r"|fetch_california_housing)$"
)
"""What gives a table of features, and a row of targets."""


def given(walk: Walk, made: Operation) -> Shape | None:
    """What a function outside of torch gives."""
    head, _, last = made.name.rpartition(".")
    args, keywords = made.args, made.keywords or {}
    if made.name in ("builtins.float", "builtins.int"):
        return ()
    if head == "pandas":
        return (None, None) if last == "DataFrame" or last.startswith("read_") else None
    if head == "numpy.random" and last in _SIZED:
        return spelt(args) if args else ()
    if head == "numpy.random" and last in _DRAWN:
        return _drawn(last, made)
    if head != "numpy":
        return None
    if last in _FILLED:
        return spelt([args[0]]) if args else None
    if last in ("arange", "linspace"):
        return (None,)
    if last in ("array", "asarray"):
        return walk.nested(args[0], 0) if args else None
    if last in _ALIKE:
        return walk.of(args[0]) if args else None
    if last in ("sum", "mean", "max", "min", "argmax", "argmin"):
        return _reduced(walk.of(args[0]) if args else None, args[1:], keywords)
    return None


def method(walk: Walk, made: Operation) -> Shape | None:
    """What a method gives that tensors do not have, or have under another name."""
    base = only(made.base)
    keywords = made.keywords or {}
    if made.name in ("astype", "to_numpy", "copy", "fillna"):
        return walk.of(made.base)
    if "axis" in keywords and made.name in ("sum", "mean", "max", "min", "argmax", "argmin"):
        return _reduced(walk.of(made.base), (), keywords)
    if base is None:
        return None
    if base.origin in ("numpy.random.default_rng", "numpy.random.RandomState") and made.name in _DRAWN:
        return _drawn(made.name, made)
    if base.origin.startswith("sklearn.preprocessing.") and made.name in ("fit_transform", "transform"):
        return walk.of(made.args[0]) if made.args else None
    if made.name == "drop" and base.origin.startswith("pandas."):
        return walk.of(made.base)
    return None


def item(walk: Walk, base: Thing, at: int) -> Shape | None:
    """One of several arrays that a function gives."""
    if base.made is None:
        return None
    if base.origin == "sklearn.model_selection.train_test_split":
        whole = walk.of(base.made.args[at // 2]) if at // 2 < len(base.made.args) else None
        return (None, *whole[1:]) if whole else None
    return _features(base.origin, at, base.made)


def attribute(walk: Walk, base: Thing, name: str, place: Place | None) -> Shape | None:
    """What an attribute or an item of a table or of a data set is."""
    if base.origin.startswith("sklearn.datasets.") and base.made is not None and name in ("data", "target"):
        return _features(base.origin, 0 if name == "data" else 1, base.made)
    if name in ("values", "iloc"):
        return walk.of(base)
    if name[1:-1].isdigit():
        return item(walk, base, int(name[1:-1]))
    if not name.startswith("[") or walk.of(base) != (None, None) or not base.origin.startswith("pandas."):
        return None
    node = place.node if place is not None else None
    index = node.index if isinstance(node, tree.Subscript) else None
    if name[1:2] in ("'", '"'):
        return (None,)
    return (None, len(index.items)) if isinstance(index, tree.Display) else None


def _features(origin: str, at: int, made: Operation) -> Shape | None:
    if not _XY.match(origin) or any(key in (made.keywords or {}) for key in ("n_targets", "multilabel")):
        return None
    return {0: (None, None), 1: (None,)}.get(at)


def _drawn(name: str, made: Operation) -> Shape | None:
    """What is drawn at random: as many as `size` says."""
    size = (made.keywords or {}).get("size")
    if size is None and made.args and name in ("random", "standard_normal", "random_sample"):
        size = made.args[0]
    return spelt([size]) if size is not None else None


def _reduced(shape: Shape | None, rest: Sequence[Value], keywords: object) -> Shape | None:
    """What is left without one dimension."""
    known = keywords if isinstance(keywords, dict) else {}
    axis = known.get("axis", rest[0] if rest else None)
    at = axis.value if isinstance(axis, Constant) and type(axis.value) is int else None
    if shape is None or at is None or "keepdims" in known or not -len(shape) <= at < len(shape):
        return None
    at %= len(shape)
    return shape[:at] + shape[at + 1 :]
