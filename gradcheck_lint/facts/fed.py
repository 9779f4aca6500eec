"""What a loss is fed with: probabilities, log-probabilities, or numbers of any size, and what has made them so.

Walks back from the arguments of a loss over the operations that made them, until one decides. Where a path leads into
what was not followed, or two paths disagree (a flag, `self.training`), nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.facts import losses, query
from gradcheck_lint.facts.descent import Descent
from gradcheck_lint.facts.losses import Loss, Scale, Step
from gradcheck_lint.facts.repair import text
from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.mode import records
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Backward, Forward, Return, SetAttribute, TorchCall
from gradcheck_lint.source.layers import layer_of
from gradcheck_lint.source.natures import Instance, LossScaled, Module, Opaque, Super, Tensor
from gradcheck_lint.source.operations import How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import Choice, Constant, Items, Table, Thing, Value, options


class Ending(NamedTuple):
    """What decides about the numbers of a tensor: the operation `name` (`softmax`, `nn.Softmax`), where it is called.

    `layer` is the layer, where it is one.
    """

    scale: Scale
    name: str
    place: Place | None
    layer: Thing | None = None

    @property
    def made(self) -> Place | None:
        """Where it is written down: where the layer is built, or the function is called."""
        return self.layer.place if self.layer is not None and self.layer.place is not None else self.place


class Computed(NamedTuple):
    """One place at which a loss of torch is computed; `sole` unless another one may be computed there in its place."""

    place: Place
    name: str
    args: Arguments
    criterion: Thing | None = None
    sole: bool = True

    @property
    def input(self) -> Value | None:
        index, keyword = self.loss.at if self.loss is not None else (0, "input")
        return self.args.get(index, keyword)

    @property
    def written(self) -> str:
        """How the code writes the input."""
        index, keyword = self.loss.at if self.loss is not None else (0, "input")
        node = self.place.node
        arguments = node.args if isinstance(node, tree.Call) else []
        plain = [a for a in arguments if a.keyword is None]
        found = [a for a in arguments if a.keyword == keyword] or plain[index : index + 1]
        if self.name == "softmax" and isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute):
            return text(Place(self.place.chunk, node.func.value))
        return text(Place(self.place.chunk, found[0].value)) if found else "the input"

    @property
    def target(self) -> Value | None:
        return self.args.get(1, "target")

    @property
    def key(self) -> tuple[int, int]:
        """Which place it is."""
        return id(self.place.chunk), id(self.place.node)

    def option(self, name: str) -> Value | None:
        """An option by its name: of the function, or of the object when it was built."""
        args = self.criterion.args if self.criterion is not None else self.args
        return args.keywords.get(name) if args is not None else None

    @property
    def loss(self) -> Loss | None:
        """What it wants, if it tells apart what it is fed with."""
        return losses.loss_of(self.name)


def computed(timeline: Timeline) -> Sequence[Computed]:
    """The losses that a timeline computes while torch records: where they happen, and on the way of a backward."""
    return query.once(timeline, _computed)


def _computed(timeline: Timeline) -> list[Computed]:
    found: list[Computed] = []
    events = list(timeline.events(Forward, TorchCall))
    for event in events:
        if losses.known(_called(event)) and records(event.context) is not NO and not _evaluates(event):
            core = event.subject.core if isinstance(event, Forward) else None
            found.append(Computed(event.place, _called(event), event.args, core))
    met = {one.key for one in found}
    for root in _roots(timeline):
        found += [one for one in _behind(root) if one.key not in met]
    names: dict[tuple[int, int], set[str]] = {}
    for one in found:
        names.setdefault(one.key, set()).add(one.name)
    for event in events if found else ():
        beside = names.get((id(event.place.chunk), id(event.place.node)))
        if beside is not None:
            beside.add(_called(event) or "?")
    return [one._replace(sole=len(names[one.key]) == 1) for one in found]


def _called(event: Forward | TorchCall) -> str:
    """The name of what is called: of the function, or of the class of the module."""
    return event.name if isinstance(event, TorchCall) else event.subject.core.class_name


def _roots(timeline: Timeline) -> Iterator[Value | None]:
    """What backward starts from, here or in a framework that is given it."""
    for event in timeline.events(Backward, Return):
        if isinstance(event, Backward):
            yield event.subject
        elif event.function is not None and event.function.name == "training_step":
            yield event.value


def _evaluates(event: Forward | TorchCall) -> bool:
    """Whether a framework calls the function for evaluation, with gradients switched off."""
    return event.function is not None and event.function.name in ("validation_step", "test_step", "predict_step")


def _behind(loss: Value | None) -> Iterator[Computed]:
    """What a backward from a loss starts with, and then what lies inside of the modules behind that."""
    outer: list[Value | None] = [loss]
    inner: list[Value | None] = []
    met: set[int] = set()
    while (outer or inner) and len(met) < limits.WAY:
        spend(2)
        near = bool(outer)
        todo = outer or inner
        value = todo.pop()
        if value is None or id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, Thing) and value.made is not None and not isinstance(value.what, LossScaled):
            made = value.made
            found = _computed_by(made)
            if found is not None and (near or found.name != losses.DIFFERENCE):
                yield found
            given = [made.base, *made.args] if made.how in (How.ITEM, How.METHOD) else [*made.args]
            if found is not None and found.name == losses.DIFFERENCE:
                todo += given
            elif made.how is How.CALL or found is not None:
                inner += given if made.inner is None else [made.inner]
            else:
                todo += [made.inner] if made.how is How.CODE else given
        else:
            todo += _held(value)


def _held(value: Value) -> Sequence[Value | None]:
    """What a value that no operation has made is one of, holds, or was read from."""
    if isinstance(value, Choice):
        return value.options
    if isinstance(value, Items):
        return value.items[: limits.CUTS]
    if isinstance(value, Table):
        return list(value.entries.values())[: limits.CUTS]
    if isinstance(value, Thing) and isinstance(value.what, LossScaled):
        return [value.what.of]
    return [value.parent[0]] if isinstance(value, Thing) and value.parent is not None else []


def _computed_by(made: Operation) -> Computed | None:
    """What an operation computes, if something is said of that here."""
    if made.place is None or made.recorded is NO or made.inner is not None:
        return None
    args = Arguments(list(made.args), dict(made.keywords or {}))
    if made.how is How.METHOD:
        mine = made.name == "softmax" and made.base is not None and _only_numbers(made)
        return Computed(made.place, "softmax", Arguments([made.base], {})) if mine and made.base is not None else None
    if made.how is How.OPERATOR:
        pair = made.name == losses.DIFFERENCE and len(made.args) == 2
        return Computed(made.place, losses.DIFFERENCE, args) if pair else None
    if made.how not in (How.CALL, How.FUNCTION):
        return None
    core = made.base.core if isinstance(made.base, Thing) else None
    name = core.class_name if core is not None else made.name
    return Computed(made.place, name, args, core) if losses.known(name) else None


def endings(value: Value | None, timeline: Timeline) -> tuple[Ending, ...]:
    """What decides about the numbers of a value, on each path; empty if that is not known of each of them."""
    found = _Walk(timeline).of(value)
    return tuple({(e.scale, e.name, id(e.made)): e for e in found}.values()) if found else ()


def dimension(ending: Ending) -> int | None:
    """Over which dimension a softmax goes, where that is written down."""
    if ending.layer is not None:
        given = ending.layer.args.get(0, "dim") if ending.layer.args is not None else None
        return given.value if isinstance(given, Constant) and type(given.value) is int else None
    node = ending.place.node if ending.place is not None else None
    arguments = node.args if isinstance(node, tree.Call) else []
    told = [a.value for a in arguments if a.keyword == "dim"] or [a.value for a in arguments if a.keyword is None][-1:]
    last = told[0] if told else None
    return last.value if isinstance(last, tree.Constant) and type(last.value) is int else None


def scale(found: Sequence[Ending]) -> Scale | None:
    """The scale that all endings agree on."""
    scales = {ending.scale for ending in found}
    return scales.pop() if len(scales) == 1 else None


class _Walk(Descent[list[Ending]]):
    """One walk back; what is met again adds nothing."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__()
        self.timeline = timeline

    def again(self) -> list[Ending]:
        return []

    def each(self, values: Sequence[Value]) -> list[Ending] | None:
        """One of some values; that it may be None was tested by the code."""
        found: list[Ending] = []
        for value in values:
            if isinstance(value, Constant) and value.value is None:
                continue
            one = self.of(value)
            if one is None:
                return None
            found += one
        return found

    def thing(self, thing: Thing) -> list[Ending] | None:
        whole, part = part_of(thing)
        if whole is not None:
            return self.of(part)
        if thing.made is not None:
            return self.operation(thing, thing.made)
        if thing.parent is not None and isinstance(thing.what, (Opaque, Tensor)):
            base, name = thing.parent
            same = name.startswith("[") or name in ("data", "T", "mT")
            return self.of(base) if same and not isinstance(base.what, _OBJECTS) else None
        return None

    def operation(self, thing: Thing, made: Operation) -> list[Ending] | None:
        if made.how is How.JOIN:
            return self.each(made.args)
        if made.how is How.ITEM:
            return self.of(made.base)
        if made.how is How.CALL:
            return self.called(made)
        if made.how is How.CODE:
            return self.of(made.inner)
        if made.how is How.OPERATOR:
            return self.arithmetic(made)
        if made.how is How.FUNCTION:
            return self.passed(made, made.name, made.args[0] if made.args else (made.keywords or {}).get("input"))
        if made.how is How.METHOD and made.name not in ("linear", "conv1d", "conv2d", "conv3d"):
            if any(isinstance(option, Thing) and isinstance(option.what, _OBJECTS) for option in options(made.base)):
                return None
            if made.name in _WITH_DIM and not _only_numbers(made):
                return None  # `self.softmax(x)` of an object that is not known
            return self.passed(made, made.name, made.base)
        return None

    def passed(self, made: Operation, name: str, given: Value | None) -> list[Ending] | None:
        """What a function or a method makes of what it is given."""
        own = losses.gives(name)
        if own is not None:
            return [Ending(own, name.rpartition(".")[2], made.place)]
        step = losses.step(name)
        if step is Step.UNKNOWN:
            return None
        if isinstance(given, Items):
            found = self.each(given.items) if given.complete or given.items else None
        else:
            found = self.of(given)
        if found is None:
            return None
        if step is Step.KEEPS:
            free = losses.stays(name) and any(ending.scale is Scale.FREE for ending in found)
            return None if free else found
        if step is Step.LOG:
            return _turned(found, losses.PROBABILITIES, Scale.LOG)
        return _turned(found, frozenset({Scale.LOG}), Scale.UNIT)

    def arithmetic(self, made: Operation) -> list[Ending] | None:
        """A factor leaves numbers of any size what they are, and what is tiny any probability."""
        if len(made.args) != 2:
            return self.of(made.args[0]) if made.name == "+" and len(made.args) == 1 else None
        first, second = made.args
        if made.name in ("*", "/", "*=", "/=") and isinstance(second, Constant):
            return _turned(self.of(first), frozenset({Scale.FREE}), Scale.FREE)
        if made.name == "*" and isinstance(first, Constant):
            return _turned(self.of(second), frozenset({Scale.FREE}), Scale.FREE)
        if made.name in ("+", "-", "+=", "-=") and _tiny(second):
            return self.of(first)
        if made.name == "+" and _tiny(first):
            return self.of(second)
        return None

    # ------------------------------------------------------------ modules

    def called(self, made: Operation) -> list[Ending] | None:
        """What the call of a module gives."""
        thing = made.base.core if isinstance(made.base, Thing) else None
        if thing is None or not isinstance(thing.what, Module):
            return None
        if made.inner is not None:
            return self.of(made.inner)
        return self.layer(thing, made.args[0] if made.args else None, made.place, 0)

    def layer(self, thing: Thing, given: Value | None, place: Place | None, depth: int) -> list[Ending] | None:
        """What a layer of torch.nn makes of what it is given; that of a Sequential is told by its last ones."""
        head = losses.head_of(thing.core.class_name)
        if head:
            return self.network(thing.core, head, place, depth)
        name = layer_of(thing.core)
        own = losses.layer_gives(name)
        if own is not None:
            return [Ending(own, f"nn.{name}", place, thing)]
        if name == "Sequential" and depth < limits.DEPTH:
            last = trailing_modules(thing)
            while last:
                spend(1)
                inner = last.pop()
                if not losses.layer_keeps(layer_of(inner)):
                    return self.layer(inner, None, place, depth + 1)
            return None
        return self.of(given) if name and losses.layer_keeps(name) and given is not None else None

    def network(self, thing: Thing, head: str, place: Place | None, depth: int) -> list[Ending] | None:
        """What a network of torchvision gives: logits, unless its head was exchanged."""
        if thing.open:
            return None
        if head not in (thing.names or {}):
            return [Ending(Scale.FREE, thing.class_name.rpartition(".")[2], place, thing)]
        put = [e.value for e in self.timeline.events(SetAttribute) if e.subject is thing and e.attr == head]
        new = put[0] if len(put) == 1 else None
        if not isinstance(new, Thing) or not isinstance(new.what, Module) or depth > limits.DEPTH:
            return None
        return self.layer(new, None, place, depth + 1)


def part_of(thing: Thing) -> tuple[Items | Table | None, Value | None]:
    """Of what is an item of what a followed function has given: the tuple or the dictionary, and what stands there."""
    made = thing.made
    if made is not None and made.how is How.ITEM:
        base, key = made.base, made.name
    elif thing.parent is not None and thing.parent[1].startswith("["):
        base, key = thing.parent[0], thing.parent[1][1:-1]
    else:
        return None, None
    for _ in range(limits.DEPTH):
        if not isinstance(base, Thing):
            break
        if base.made is not None and base.made.inner is not None:
            base = base.made.inner
        elif base.parent is not None and base.parent[1].startswith("["):
            base = part_of(base)[1]
        else:
            break
    if isinstance(base, Items):
        at = int(key) if key.lstrip("-").isdigit() else len(base.items)
        return base, base.items[at] if base.complete and -len(base.items) <= at < len(base.items) else None
    if isinstance(base, Table):
        name = key.strip("'\"")
        return base, base.entries.get(name) if name not in base.maybe else None
    return None, None


def trailing_modules(sequential: Thing) -> list[Thing]:
    """The modules of a Sequential in their order; empty if its last one is not known."""
    args = sequential.args
    if args is None or args.keywords or sequential.names or sequential.open:
        return []
    values: Sequence[Value] = args.positional
    if len(values) == 1 and isinstance(values[0], Table):
        table = values[0]
        values = list(table.entries.values()) if table.complete and not table.maybe else []
    elif args.open or args.sure < len(args.positional):
        return _of_list(args)
    return _trailing(values)


def _of_list(args: Arguments) -> list[Thing]:
    """The last of the modules in a list of which it is not known how many it has; whichever list, it is the same."""
    value = args.positional[-1] if args.positional else None
    made = value.made if isinstance(value, Thing) and len(args.positional) == args.sure + 1 else None
    if made is None or made.how is not How.JOIN:
        return []
    lists = [option for one in made.args for option in options(one)]
    last: list[Thing] = []
    for listed in lists:
        if not isinstance(listed, Items) or listed.loose or listed.strange:
            return []
        last += _trailing(listed.items[-1:])
    same = len(last) == len(lists) and all(one is last[0] for one in last)
    return last[:1] if same else []


def _trailing(values: Sequence[Value]) -> list[Thing]:
    """The modules at the end of some values, as far as each is one for certain."""
    found: list[Thing] = []
    for value in reversed(values):
        if not isinstance(value, Thing) or not isinstance(value.what, Module):
            break
        found.append(value)
    return found[::-1]


_OBJECTS = (Instance, Super, Module)
_WITH_DIM = frozenset({"softmax", "log_softmax", "sigmoid", "softmin", "log", "exp"})


def _only_numbers(made: Operation) -> bool:
    """Whether a method is told nothing but which dimension, and of which dtype."""
    return all(isinstance(arg, Constant) for arg in made.args) and set(made.keywords or {}) <= {"dim", "dtype", "axis"}


def _tiny(value: Value) -> bool:
    return isinstance(value, Constant) and isinstance(value.value, float) and abs(value.value) <= 1e-3


def _turned(found: list[Ending] | None, given: frozenset[Scale], to: Scale) -> list[Ending] | None:
    """The endings on another scale, where all are on one of those `given`."""
    if found is None or not all(ending.scale in given for ending in found):
        return None
    return [ending._replace(scale=to) for ending in found]
