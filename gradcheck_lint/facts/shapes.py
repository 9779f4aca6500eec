"""How many dimensions a tensor has, and which of them have size 1, as far as the operations that made it show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gradcheck_lint.facts import array_shapes
from gradcheck_lint.facts.descent import Descent
from gradcheck_lint.facts.fed import part_of
from gradcheck_lint.facts.sizes import Shape, spelt
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.layers import WITHOUT_PARAMETERS, layer_of
from gradcheck_lint.source.natures import Instance, Module, Sample, Super, Tensor
from gradcheck_lint.source.operations import NEW, How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run.looked import data_set, loader_of
from gradcheck_lint.source.values import Constant, Items, Table, Thing, Value, only, options


class Broadcast(NamedTuple):
    """Two tensors of which one is a column, (N, 1), and the other a row, (N): each meets each."""

    column: Shape
    row: Shape
    swapped: bool  # the first one is the row


def broadcast(one: Shape | None, other: Shape | None) -> Broadcast | None:
    """Whether two tensors that are compared element by element are spread over one another instead."""
    for column, row, swapped in ((one, other, False), (other, one, True)):
        if column is None or row is None or len(column) != 2 or len(row) != 1:
            continue
        if column[1] == 1 and column[0] != 1 and row[0] != 1:
            return Broadcast(column, row, swapped)
    return None


def written(shape: Shape) -> str:
    """A shape as people write it: `(N, 1)`."""
    inner = ", ".join("N" if size is None else str(size) for size in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def shape_of(value: Value | None) -> Shape | None:
    """The shape of a value; None where it is not known."""
    return _Walk().of(value)


def narrowed(value: Value | None) -> Place | None:
    """Where the layer is built that gives the last dimension its size, if a layer does."""
    return _Walk().layer(value)


class _Walk(Descent[Shape]):
    """One walk back."""

    def each(self, values: Sequence[Value]) -> Shape | None:
        """One of some values, where all have the same shape."""
        shapes = {self.of(value) for value in values}
        return shapes.pop() if len(shapes) == 1 else None

    def thing(self, thing: Thing) -> Shape | None:
        made = thing.made
        whole, part = part_of(thing)
        if whole is not None:
            return self.of(part)
        if isinstance(thing.what, Tensor) and thing.args is not None and thing.what.leaf:
            return self.new(thing)
        if made is not None and made is not NEW and made.how is not How.ITEM:
            return self.operation(made)
        if made is not None and made.how is How.ITEM:
            base = only(made.base)
            if base is None or not made.name.isdigit():
                return None
            found = self.batch(base, int(made.name))
            return found if found is not None else array_shapes.item(self, base, int(made.name))
        if thing.parent is not None and not isinstance(thing.parent[0].what, _OBJECTS):
            base, name = thing.parent
            if isinstance(base.via, Sample) and name.startswith(("['", '["')):
                return self.batch(base, name[2:-2])
            found = array_shapes.attribute(self, base, name, thing.place)
            if found is not None:
                return found
            if name == "data" or (name in ("[0]", "values") and _pairs(base)):
                return self.of(base)
            found = self.picked(base, thing)
            return found if found is not None else _indexed(self.of(base), thing.place)
        return (None,) if thing.origin == "torch.randperm" else None

    def picked(self, base: Thing, thing: Thing) -> Shape | None:
        """What a row of indices picks of a tensor: `x[index]`."""
        index = thing.args.get(0, "") if thing.args is not None else None
        if thing.place is None or not isinstance(thing.place.node, tree.Subscript) or index is None:
            return None
        if isinstance(thing.place.node.index, tree.Other):
            return None
        if isinstance(thing.place.node.index, tree.Slice):
            return None
        one = isinstance(index, Constant) and index.value is ...  # the index that a data set is asked for
        places, whole = () if one else self.of(index), self.of(base)
        return (*(None,) * len(places), *whole[1:]) if whole and places is not None and len(places) < 2 else None

    def batch(self, base: Thing, key: int | str) -> Shape | None:
        """What a loop over a DataLoader binds, of one of the tensors that its data set has or was made of."""
        if base.parent is None or base.parent[1] != "[]":
            return None
        loader = loader_of(base.parent[0])
        if loader is None or loader.args is None or loader.args.open:
            return None
        if "batch_size" not in loader.args.keywords and len(loader.args.positional) < 2:
            return None  # batches of one are made where no size is told
        size = loader.args.get(1, "batch_size")
        if isinstance(size, Constant) and size.value in (None, 1):
            return None
        if "collate_fn" in loader.args.keywords or "batch_sampler" in loader.args.keywords:
            return None
        if isinstance(base.via, Sample):
            return self.stacked(base.via.one, key)
        data = data_set(loader)
        if data is None or data.origin != "torch.utils.data.TensorDataset" or data.args is None or data.args.open:
            return None
        if not isinstance(key, int) or key >= len(data.args.positional):
            return None
        whole = self.of(data.args.positional[key])
        return (None, *whole[1:]) if whole else None

    def stacked(self, sample: Value, key: int | str) -> Shape | None:
        """A batch of what a data set gives one by one."""
        item: Value | None = None
        if isinstance(sample, Items) and isinstance(key, int) and key < len(sample.items):
            item = sample.items[key]
        elif isinstance(sample, Table) and isinstance(key, str) and key not in sample.maybe:
            item = sample.entries.get(key)
        shape = self.nested(item, 4) if item is not None and not isinstance(item, Items) else None
        return (None, *shape) if shape is not None else None

    def new(self, thing: Thing) -> Shape | None:
        """A tensor that is made of sizes, or of nested lists."""
        args, how = thing.args, thing.what.made_by if isinstance(thing.what, Tensor) else ""
        if args is None or args.open or not args.positional:
            return None
        first = args.positional[0]
        if how.endswith("_like"):
            return self.of(first)
        if how in ("zeros", "ones", "randn", "rand", "empty"):
            return spelt(args.positional)
        if how in ("full", "randint", "normal"):
            sizes = next((value for value in args.positional if isinstance(value, Items)), None)
            return spelt([sizes]) if sizes is not None else None
        if how in ("tensor", "as_tensor", "from_numpy", "Tensor", "FloatTensor"):
            return self.nested(first, 0) or (() if how == "tensor" and self.of(first) == () else None)
        if how in ("arange", "linspace"):
            return (None,)
        return None

    def nested(self, value: Value, depth: int) -> Shape | None:
        """The shape of what nested lists of numbers make."""
        if isinstance(value, Constant):
            return () if value.value is not None else None
        if not isinstance(value, Items):
            return self.of(value)
        if depth > 4 or not value.items:
            return None
        inner = self.nested(value.items[0], depth + 1)
        return None if inner is None else (len(value.items) if value.complete else None, *inner)

    def operation(self, made: Operation) -> Shape | None:
        if made.how is How.JOIN:
            return self.each(made.args)
        if made.how is How.CALL:
            return self.called(made)
        if made.how is How.CODE:
            return self.of(made.inner)
        if made.how is How.OPERATOR:
            return self.product(made.args) if made.name == "@" else self.arithmetic(made.args)
        if made.how is How.METHOD:
            if any(isinstance(option, Thing) and isinstance(option.what, _OBJECTS) for option in options(made.base)):
                return None
            found = array_shapes.method(self, made)
            return found if found is not None else self.passed(made.name, made.base, made.args, made)
        if made.how is How.FUNCTION and not made.name.startswith("torch."):
            return array_shapes.given(self, made)
        head, _, last = made.name.rpartition(".")
        if made.how is How.FUNCTION and head in ("torch", "torch.nn.functional") and made.args:
            return self.passed(last, made.args[0], made.args[1:], made)
        return None

    def arithmetic(self, operands: Sequence[Value]) -> Shape | None:
        """What operands that are spread over one another give."""
        found: Shape | None = ()
        for value in operands:
            if not isinstance(value, Constant):
                found = _spread(found, self.of(value))
        return found or None

    def product(self, operands: Sequence[Value]) -> Shape | None:
        """A matrix times a matrix or a vector."""
        first, *rest = [self.of(value) for value in operands]
        second = rest[0] if len(rest) == 1 else None
        if first is None or second is None or len(first) != 2 or not 0 < len(second) < 3:
            return None
        return (first[0], *second[1:])

    def passed(self, name: str, given: Value | None, args: Sequence[Value], made: Operation) -> Shape | None:
        """What a function or a method makes of the shape of what it is given."""
        keywords = made.keywords or {}
        if name in ("view", "reshape") and args:
            return spelt(args)
        if name in ("flatten", "ravel") and not args and not keywords:
            return (None,)
        if name in ("matmul", "mm", "mv") and len(args) == 1 and given is not None:
            return self.product([given, *args])
        if name in ("add", "sub", "mul", "div") and len(args) == 1 and given is not None:
            return self.arithmetic([given, *args])
        if name in ("gather", "take_along_dim"):
            return self.of(args[1] if len(args) > 1 else keywords.get("index"))
        shape = self.of(given)
        if shape is None:
            return None
        if name in _ALIKE:
            return shape
        dim = args[0] if args else keywords.get("dim")
        if name == "squeeze" and dim is None:
            kept = tuple(size for size in shape if size != 1)
            return kept if len(kept) < len(shape) else None if None in shape else shape
        at = dim.value if isinstance(dim, Constant) and type(dim.value) is int else None
        room = len(shape) + (name == "unsqueeze")
        if at is None or not -room <= at < room:
            return None
        at %= room
        if name == "squeeze":
            return shape[:at] + shape[at + 1 :] if shape[at] == 1 else None if shape[at] is None else shape
        if name == "unsqueeze":
            return (*shape[:at], 1, *shape[at:])
        if name in _REDUCING and len(args) < 2:
            keeps = keywords.get("keepdim", _FALSE)
            if isinstance(keeps, Constant) and isinstance(keeps.value, bool):
                return shape[:at] + (1,) * keeps.value + shape[at + 1 :]
        return None

    # ------------------------------------------------------------ modules

    def called(self, made: Operation) -> Shape | None:
        thing = made.base.core if isinstance(made.base, Thing) else None
        if thing is None or not isinstance(thing.what, Module):
            return None
        if made.inner is not None:
            return self.of(made.inner)
        return self.through(thing, self.of(made.args[0]) if made.args else None, 0)

    def through(self, thing: Thing, shape: Shape | None, depth: int) -> Shape | None:
        """What a layer of torch.nn makes of a shape."""
        name, args = layer_of(thing.core), thing.core.args
        if shape is None or args is None or args.open or depth > limits.DEPTH:
            return None
        if name in ("Linear", "LazyLinear"):
            size = args.get(1 if name == "Linear" else 0, "out_features")
            out = size.value if isinstance(size, Constant) and type(size.value) is int else None
            return (*shape[:-1], out) if len(shape) > 1 else None
        if name == "Sequential":
            if args.keywords or thing.core.names or thing.core.open or args.sure < len(args.positional):
                return None
            for inner in args.positional:
                spend(1)
                if not isinstance(inner, Thing) or not isinstance(inner.what, Module):
                    return None
                shape = self.through(inner, shape, depth + 1)
            return shape
        if name == "Flatten":
            return (shape[0], None) if not args.all() and len(shape) > 1 else None
        if name in WITHOUT_PARAMETERS and name.endswith(_POINTWISE):
            return shape
        return shape if name.startswith("BatchNorm") or name == "LayerNorm" else None

    def layer(self, value: Value | None) -> Place | None:
        """The last linear layer behind a value."""
        thing = only(value)
        if thing is None or thing.serial in self.under_way or thing.made is None or thing.made is NEW:
            return None
        spend(2)
        self.under_way.add(thing.serial)
        made = thing.made
        if made.how is How.CODE:
            return self.layer(made.inner)
        if made.how is How.CALL and isinstance(made.base, Thing):
            if made.inner is not None:
                return self.layer(made.inner)
            core = made.base.core
            args = core.args.positional if core.args is not None else []
            last = args[-1] if layer_of(core) == "Sequential" and args else core
            return last.place if isinstance(last, Thing) and layer_of(last) == "Linear" else None
        return self.layer(made.base if made.how is How.METHOD else made.args[0] if made.args else None)


_FALSE = Constant(False)
_OBJECTS = (Instance, Super, Module)

_ALIKE = frozenset(
    "relu sigmoid tanh softmax log_softmax gelu elu leaky_relu softplus exp log abs clamp clip sqrt square pow neg"
    " detach clone float double half bfloat16 to type cuda cpu contiguous requires_grad_ dropout sin cos long int"
    " round type_as".split()
)
_REDUCING = frozenset("sum mean max min amax amin argmax argmin prod std var logsumexp norm any all".split())
_POINTWISE = (
    "ReLU", "ReLU6", "ELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Softmax", "Softplus", "Softsign", "Dropout",
    "Identity", "SELU", "CELU", "Hardtanh", "Hardswish", "Tanhshrink",
)  # fmt: skip


def _pairs(base: Thing) -> bool:
    """Whether a thing is what gives values together with where they stand."""
    return base.made is not None and base.made.name.rpartition(".")[2] in ("max", "min")


def _spread(one: Shape | None, other: Shape | None) -> Shape | None:
    """The shape that two are spread to."""
    if one is None or other is None:
        return None
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    shorter = (1,) * (len(longer) - len(shorter)) + shorter
    sizes = [
        b if a == 1 else a if b in (1, a) or b is None else b if a is None else -1
        for a, b in zip(longer, shorter, strict=True)
    ]
    return None if -1 in sizes else tuple(sizes)


def _indexed(shape: Shape | None, place: Place | None) -> Shape | None:
    """What is left where slices and numbers are written between brackets."""
    node = place.node if place is not None else None
    if shape is None or not isinstance(node, tree.Subscript):
        return None
    parts = node.index.parts if type(node.index) is tree.Other else [node.index]
    found: list[int | None] = []
    at = 0
    for part in parts:
        if isinstance(part, tree.Constant) and part.value is None:
            found.append(1)
            continue
        if at == len(shape):
            return None
        if isinstance(part, tree.Slice):
            found.append(None if part.parts else shape[at])
        elif not (isinstance(part, tree.Constant) and type(part.value) is int):
            return None
        at += 1
    return (*found, *shape[at:])
