"""Where a softmax goes over the one output that a model has: by the last layer, with nothing in between that regroups.

A layer with one output may give one score for each of several candidates. Whoever brings these side by side (`view`,
`squeeze`, `cat`) has several numbers to choose from, so the walk ends there.
"""

from __future__ import annotations

from typing import NamedTuple

from gradcheck_lint.facts.descent import Descent
from gradcheck_lint.facts.fed import Computed, part_of, trailing_modules
from gradcheck_lint.facts.shapes import shape_of
from gradcheck_lint.source.layers import layer_of
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.operations import NEW, How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, Thing, Value

SOFTENING = frozenset(
    {"torch.nn.CrossEntropyLoss", "torch.nn.functional.cross_entropy"}  # with a softmax of their own over dimension 1
)


class OneClass(NamedTuple):
    """The layer that has one output, and the softmax on the way from there, if there is one.

    `last` tells that this goes over the last dimension; else it goes over dimension 1, and is `sure` to go over the
    output unless the layer may be given sequences.
    """

    layer: Thing
    softmax: str = ""
    place: Place | None = None
    last: bool = False
    sure: bool = True


def one_class(feed: Computed) -> OneClass | None:
    """What makes the input of a loss one class, over which a softmax goes."""
    found = _Walk().of(feed.input)
    if not found or any(one.layer is not found[0].layer for one in found):
        return None
    one = found[0]
    if not one.softmax and feed.name not in SOFTENING:
        return None
    if "Conv" in layer_of(one.layer):
        return one._replace(sure=False)  # without a batch, its positions are the classes
    if one.last or "Linear" not in layer_of(one.layer):
        return one
    shape = shape_of(feed.input)
    return None if shape is not None and len(shape) != 2 else one._replace(sure=shape is not None)


class _Walk(Descent[list[OneClass]]):
    """One walk back; what is met again adds nothing."""

    def again(self) -> list[OneClass]:
        return []

    def each(self, values: tuple[Value, ...]) -> list[OneClass] | None:  # type: ignore[override]
        found: list[OneClass] = []
        for value in values:
            one = self.of(value)
            if one is None:
                return None
            found += one
        return found

    def thing(self, thing: Thing) -> list[OneClass] | None:
        whole, part = part_of(thing)
        if whole is not None:
            return self.of(part)
        made = thing.made
        if made is None or made is NEW:
            return None
        if made.how is How.JOIN:
            return self.each(tuple(made.args))
        if made.how is How.CODE:
            return self.of(made.inner)
        if made.how is How.CALL:
            return self.called(made)
        given = made.base if made.how is How.METHOD else made.args[0] if made.args else None
        if isinstance(given, Thing) and isinstance(given.what, Module):
            return None
        name = made.name.rpartition(".")[2]
        if made.how not in (How.METHOD, How.FUNCTION):
            return None
        if name in _SAME:
            return self.of(given)
        if name in ("softmax", "log_softmax"):
            rest = made.args if made.how is How.METHOD else made.args[1:]
            dim = rest[0] if rest else (made.keywords or {}).get("dim")
            return _softened(self.of(given), dim, name, made.place)
        return None

    def called(self, made: Operation) -> list[OneClass] | None:
        thing = made.base.core if isinstance(made.base, Thing) else None
        if thing is None or not isinstance(thing.what, Module):
            return None
        if made.inner is not None:
            return self.of(made.inner)
        return self.layer(thing, made.args[0] if made.args else None)

    def layer(self, thing: Thing, given: Value | None) -> list[OneClass] | None:
        """What a layer gives; `given` is None where it is the last of several, and `of` does not know the others."""
        name = layer_of(thing.core)
        if name == "Sequential":
            inner = trailing_modules(thing.core)
            if not inner:
                return None
            last = self.layer(inner[-1], None)
            if last is None and len(inner) > 1 and layer_of(inner[-1]) in ("Softmax", "LogSoftmax"):
                return self.softened(inner[-1], self.layer(inner[-2], None))
            return last
        if name in ("Softmax", "LogSoftmax"):
            return self.softened(thing, self.of(given)) if given is not None else None
        args = thing.core.args
        at = _OUTPUTS.get(name)
        if at is None or args is None or args.open:
            return None
        size = args.get(*at)
        one = isinstance(size, Constant) and type(size.value) is int and size.value == 1
        return [OneClass(thing.core)] if one else None

    @staticmethod
    def softened(layer: Thing, found: list[OneClass] | None) -> list[OneClass] | None:
        args = layer.core.args
        dim = args.get(0, "dim") if args is not None else None
        return _softened(found, dim, f"nn.{layer_of(layer.core)}", layer.core.place)


_OUTPUTS = {"Linear": (1, "out_features"), "LazyLinear": (0, "out_features")} | {
    f"Conv{n}d": (1, "out_channels") for n in (1, 2, 3)
}

_SAME = frozenset("float double half to cuda cpu contiguous clone type interpolate".split())


def _softened(found: list[OneClass] | None, dim: Value | None, name: str, place: Place | None) -> list[OneClass] | None:
    """The same behind a softmax over the dimension of the classes."""
    if found is None or not isinstance(dim, Constant):
        return None
    linear = all("Linear" in layer_of(one.layer) for one in found)
    if dim.value != 1 and not (linear and dim.value == -1):
        return None
    return [one._replace(softmax=name, place=place, last=dim.value == -1) for one in found]
