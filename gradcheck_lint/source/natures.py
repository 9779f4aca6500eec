"""What an object may be: the nature of a `Thing`, which is learnt as the code goes on, and the call it came of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    FunctionValue,
    Items,
    Nature,
    Thing,
    Value,
    Via,
    only,
    things,
)

if TYPE_CHECKING:
    from gradcheck_lint.source.holding import Held
    from gradcheck_lint.source.model_tree import Pick
    from gradcheck_lint.source.run.arguments import Arguments

N = TypeVar("N", bound=Nature)


class Opaque(Nature):
    """Something of which no more is known: most things are, and share one nature."""

    __slots__ = ()

    def __new__(cls) -> Opaque:
        return _OPAQUE if cls is Opaque else super().__new__(cls)


_OPAQUE: Opaque = object.__new__(Opaque)


class ModuleLike(Opaque):
    """Something whose gradients are cleared by a method: a module if it is called, an optimizer if it steps."""

    __slots__ = ()


class Stepping(Opaque):
    """Something that steps: an optimizer, if it clears gradients as well; it may be a scheduler or an environment."""

    __slots__ = ()


class Settings(Opaque):
    """Something that was asked for what only settings have: `opt.batch_size`. Its name tells nothing more."""

    __slots__ = ()


@dataclass(slots=True, eq=False, repr=False)
class Tensor(Nature):
    """A tensor: a leaf to be trained, or what was computed."""

    leaf: bool | None = None
    """Whether it is a leaf; None if that is not known."""
    grad: bool | None = None
    """Whether it requires grad; None if that is not known."""
    made_by: str = ""
    """The function or method that gave it: "zeros", "Parameter", "clone"."""
    source: Thing | None = None
    """The tensor that it was computed from, or is a view of."""
    leaves: frozenset[Thing] | None = None
    """The leaves that it was computed from, if the code shows all of them."""
    element_of: Thing | None = None
    """The collection of parameters of which it is one."""
    dtype: str | None = None
    """Its dtype, if the code shows that."""
    elsewhere: bool = False
    """Whether it may be on another device than the default one."""
    written: bool = False
    """Whether something is written into it in place."""
    ever: bool = False
    """Whether it may have required grad at some time before `requires_grad` of it was last written."""
    kept: tuple[Thing, str] | None = None
    """The object that has it as an attribute, and of which name."""
    retained: bool = False
    """Whether torch was asked to keep its gradient, though it may be no leaf."""

    @property
    def trained(self) -> bool:
        """Whether it is a leaf that requires grad, as far as the code shows."""
        return self.leaf is True and self.grad is True


class Data(Nature):
    """`.data` of a tensor."""

    __slots__ = ()


class Grad(Nature):
    """`.grad` of a tensor."""

    __slots__ = ()


@dataclass(slots=True, eq=False, repr=False)
class Module(Nature):
    """A `torch.nn.Module`: a layer, or a whole model."""

    pretrained: bool = False
    """Whether it is a model of some collection of networks, which has weights for certain."""


@dataclass(slots=True, eq=False, repr=False)
class Parameters(Nature):
    """What `.parameters()` gives, and what is made of that."""

    of: Thing | None = None
    """The module that they belong to."""
    parts: list[Value] | None = None
    """The iterables that they were put together from, if they were."""
    kind: Container = Container.GENERATOR
    """What they are in: a generator, a list, a tuple or a set."""
    direct: bool = False
    """Whether this is what `.parameters()` itself gives."""
    named: bool = False
    """Whether they come with their names."""
    filtered: bool = False
    """Whether some may be left out."""
    trainable: bool = False
    """Whether just those that require grad were picked."""
    open: bool = False
    """Whether there may be more than the parts."""
    unordered: bool = False
    """Whether their order is that of a set."""
    several: bool = False
    """Whether this stands for another iterator in each round of a loop."""
    picked: Pick | None = None
    """Which parameters of the model these are, where that was seen of each of them."""


@dataclass(slots=True, eq=False, repr=False)
class Optimizer(Nature):
    """An optimizer."""

    params: Value | None = None
    """What it was built with."""
    added: list[Value] = field(default_factory=list)
    """The groups that were added to it later."""
    regrouped: bool = False
    """Whether its groups were written: it may hold anything."""
    opened: bool = False
    """Whether `param_groups` or `defaults` was read, through which its options may be written."""
    wrapper: bool = False
    """Whether it has a `backward`, so that its step may clear as well."""
    held: Held | None = None
    """What it holds, once that was asked for; see `holding.held_by`."""
    held_added: int = 0
    """How many groups had been added when that was asked for."""

    def copy(self) -> Optimizer:
        return replace(self, added=list(self.added))


class Groups(Nature):
    """`optimizer.param_groups`."""

    __slots__ = ()


class Group(Nature):
    """One of the groups of an optimizer."""

    __slots__ = ()


class GroupParams(Nature):
    """The list of parameters in a group."""

    __slots__ = ()


@dataclass(slots=True, eq=False, repr=False)
class Scheduler(Nature):
    """A scheduler of the learning rate."""

    optimizer: Value | None = None
    """Whose learning rate it moves."""
    length: Via | None = None
    """How many moves the function lasts that a `LambdaLR` is given, if that shows: an `Amount`."""
    warm: Via | None = None
    """For how many moves it warms up, in the same way."""
    warm_said: str = ""
    """What the function calls that: `self.warmup_steps`."""


class Scaler(Nature):
    """A `GradScaler`."""

    __slots__ = ()


@dataclass(slots=True, eq=False, repr=False)
class LossScaled(Nature):
    """A loss that a scaler has scaled."""

    of: Value | None = None
    """The loss."""
    scaler: Value | None = None
    """The scaler."""
    maybe: bool = False
    """Whether it is only a parameter's name that speaks for a scaler."""


@dataclass(slots=True, eq=False, repr=False)
class StateDict(Nature):
    """What `.state_dict()` gives."""

    of: Thing
    """The module or optimizer whose state it is."""
    rewritten: bool = False
    """Whether some of it was exchanged."""


class Instance(Nature):
    """An object of a class of the project that is nothing of torch."""

    __slots__ = ()


@dataclass(slots=True, eq=False, repr=False)
class Super(Nature):
    """`super()` in a method."""

    owner: ClassValue
    """The class that the method belongs to."""
    receiver: Thing
    """The object that the method is called on."""


@dataclass(slots=True, eq=False, repr=False)
class Pass(Nature):
    """One run of a module: it stands in the deps of what can go backward through that run."""

    of: Thing
    """The module."""
    given: frozenset[Thing]
    """The runs that its arguments come from."""


@dataclass(slots=True, eq=False, repr=False)
class Running(Via):
    """A call of a generator function that has not begun yet."""

    target: FunctionValue
    args: Arguments
    shape: Callable[[Value], Value] | None = None
    """Makes what a loop binds of what is yielded."""


@dataclass(slots=True, eq=False, repr=False)
class Manager(Via):
    """A call of a function that `@contextmanager` decorates."""

    running: Running
    """What it does, around its `yield`."""


@dataclass(slots=True, eq=False, repr=False)
class MethodCaller(Via):
    """`operator.methodcaller(name)`."""

    name: str


@dataclass(slots=True, eq=False, repr=False)
class Walk(Via):
    """`module.modules()`, `.children()` and the like."""

    module: Thing
    every: bool
    """Whether it goes over the module itself and all modules in it."""


@dataclass(slots=True, eq=False, repr=False)
class StateItems(Via):
    """`.items()` of a state dict."""

    state: Thing


@dataclass(slots=True, eq=False, repr=False)
class Identity(Via):
    """`id(x)`, or `map(id, x)`."""

    of: Value


@dataclass(slots=True, eq=False, repr=False)
class Stored(Via):
    """A parameter or a buffer of a module that was got at by its name, or by its place among all of them."""

    of: Thing
    name: Value
    """Which one: two that have this very value are the same one."""


@dataclass(slots=True, eq=False, repr=False)
class Buffers(Via):
    """`module.buffers()` or `module.named_buffers()`."""

    of: Thing
    named: bool


@dataclass(slots=True, eq=False, repr=False)
class Sample(Via):
    """A batch that a loop over a DataLoader binds."""

    one: Value
    """What the data set gives for one index, of which a batch stacks several."""


class Argument(Via):
    """What some caller hands over for a parameter of a function."""

    __slots__ = ()


def nature(value: Value | None, kind: type[N]) -> N | None:
    """What is known of a thing of a nature; None for all else."""
    return value.what if isinstance(value, Thing) and isinstance(value.what, kind) else None


def natures_of(value: Value | None, kind: type[N]) -> list[N]:
    """What is known of the things of a nature among a value's options."""
    return [thing.what for thing in things(value, kind) if isinstance(thing.what, kind)]


def ran(run: Thing) -> Pass:
    """What is known of one of the runs that `deps.passes` gives."""
    assert isinstance(run.what, Pass)
    return run.what


def made_by(value: Value | None) -> str:
    """What a tensor was made by: "Parameter", "zeros", "clone"; "" for what is no tensor."""
    return value.what.made_by if isinstance(value, Thing) and isinstance(value.what, Tensor) else ""


def stored(value: Value | None) -> Stored | None:
    """Which parameter or buffer of a module a value is, if that was got at by its name; `.data` of it is it, too."""
    thing = only(value)
    while thing is not None and not isinstance(thing.via, Stored):
        if isinstance(thing.what, Tensor) and thing.what.made_by == "detach":
            thing = thing.what.source
        else:
            thing = thing.parent[0] if thing.parent is not None and thing.parent[1] == "data" else None
    return thing.via if thing is not None and isinstance(thing.via, Stored) else None


def requires_grad(value: Value | None) -> bool | None:
    """Whether a tensor requires grad; None if that is not known, and for what is no tensor."""
    return value.what.grad if isinstance(value, Thing) and isinstance(value.what, Tensor) else None


def source_of(value: Value | None) -> Thing | None:
    """The tensor that a tensor was computed from."""
    return value.what.source if isinstance(value, Thing) and isinstance(value.what, Tensor) else None


def element_of(value: Value | None) -> Thing | None:
    """The collection of parameters of which a tensor is one."""
    return value.what.element_of if isinstance(value, Thing) and isinstance(value.what, Tensor) else None


def moves(value: Value | None) -> Value | None:
    """The optimizer whose learning rate a scheduler moves."""
    return value.what.optimizer if isinstance(value, Thing) and isinstance(value.what, Scheduler) else None


def chained(value: Value | None) -> list[Value] | None:
    """The iterables that a collection of parameters was put together from, if it was."""
    return value.what.parts if isinstance(value, Thing) and isinstance(value.what, Parameters) else None


def unordered(value: Value) -> bool:
    """Whether the order of what it holds is that of a set, which is another one in every run.

    A set of small numbers does keep its order.
    """
    if isinstance(value, Items):
        return value.unordered and not all(isinstance(i, Constant) and isinstance(i.value, int) for i in value.items)
    return isinstance(value, Thing) and isinstance(value.what, Parameters) and value.what.unordered
