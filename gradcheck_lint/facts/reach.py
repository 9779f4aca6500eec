"""What a backward reaches from a value, and what has cut off the rest: walks back over the operations that made it.

What may take no part: somebody's output may carry a graph, and so may what code that was not seen gives, where it can
hold parameters. What a loop takes from a loader, what `next(iter(loader))` gives, and what is unpacked from, or is an
item of, an entry point's own parameter is data. A parameter of an entry point that is used as it is most likely is, as
is what a function outside the project makes of data alone: then an answer is NO, but not `certain`. An attribute of
`self` or of a module may be a parameter, and is MAYBE.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from gradcheck_lint.facts import effects, query
from gradcheck_lint.laws import reach as law
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.source import limits
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.events import Freeze
from gradcheck_lint.source.layers import LEARNING
from gradcheck_lint.source.natures import (
    Argument,
    Data,
    Grad,
    Instance,
    LossScaled,
    Module,
    ModuleLike,
    Opaque,
    Optimizer,
    Parameters,
    Scaler,
    Scheduler,
    StateDict,
    Super,
    Tensor,
)
from gradcheck_lint.source.operations import NEW, How, Operation
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.tree import Container
from gradcheck_lint.source.values import (
    Choice,
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    ModuleValue,
    Partial,
    Table,
    Thing,
    Value,
    contents,
    options,
)


class Cutting(NamedTuple):
    """What cut something off that has a graph: the operation whose result `thing` is, and what it did (`effect`).

    `off` is where that was that torch recorded nothing. `sure` if something with parameters, or an object that was
    called as a model is, has run before it.
    """

    thing: Thing
    effect: Effect
    off: bool
    sure: bool

    @property
    def place(self) -> Place | None:
        made = self.thing.made
        return made.place if made is not None and made.place is not None else self.thing.place

    @property
    def name(self) -> str:
        """What did it: `torch.argmax`, `detach`, `data`, `<`."""
        if self.thing.made is not None:
            return self.thing.made.name
        return self.thing.parent[1] if self.thing.parent is not None else ""


class Reach(NamedTuple):
    """What a backward on a value reaches.

    `grad` is whether the value requires grad, as far as is known, and `certain` whether nothing unseen can change that.
    `met` are modules that ran and leaf tensors that it leads to (as many as are kept), `cuts` what cut something off,
    nearest to where the graph was. `numb` is what it leads to through operations without a derivative alone, which are
    in `flat`.
    """

    grad: Answer
    certain: bool = True
    met: tuple[Thing, ...] = ()
    cuts: tuple[Cutting, ...] = ()
    numb: tuple[Thing, ...] = ()
    flat: tuple[Cutting, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all is told that it leads to."""
        return len(self.met) < limits.CUTS


_NONE = Reach(NO)
_DATA = _NONE
_LIKELY_DATA = Reach(NO, False)
_UNKNOWN = Reach(MAYBE, False)


class Reaching:
    """Answers for the values of one timeline, each found once.

    `freed` are the ids of things whose `requires_grad` was set: leaves from then on, and for this question ever.
    """

    def __init__(self, freed: frozenset[int] = frozenset()) -> None:
        self._freed = freed
        self._known: dict[int, Reach] = {}
        self._held: list[object] = []  # what the ids in it are of
        self._under_way: dict[int, int] = {}  # thing → how deep it is in the walk
        self._depth = 0
        self._lowest = _DEEP  # of those under way, the first that was met again

    def of(self, value: Value | None) -> Reach:
        """What a backward on a value reaches."""
        if value is None or isinstance(value, (Constant, External, ClassValue, FunctionValue, ModuleValue, Partial)):
            return _callable(self, value)
        key = id(value)
        found = self._known.get(key)
        if found is not None:
            return found
        spend(2)
        if key in self._under_way:
            self._lowest = min(self._lowest, self._under_way[key])
            return _NONE  # it adds nothing to itself
        if self._depth > limits.WAY:
            self._lowest = -1  # what was found on the way is not all
            return _UNKNOWN
        self._under_way[key] = self._depth
        self._depth += 1
        lowest, self._lowest = self._lowest, _DEEP
        try:
            found = self._of(value)
        finally:
            self._depth -= 1
            del self._under_way[key]
        if self._lowest >= self._depth:  # nothing that it rests on is still under way
            self._known[key] = found
            self._held.append(value)
            self._lowest = lowest
        else:
            self._lowest = min(self._lowest, lowest)
        return found

    def _of(self, value: Value) -> Reach:
        if isinstance(value, Choice):
            return self.one_of(value.options)
        if isinstance(value, Items):
            return self._held_in(value.items, value.escaped > 0 and value.kind is not Container.TUPLE)
        if isinstance(value, Table):
            return self._held_in(list(value.entries.values()), value.escaped > 0)
        return self._thing(value) if isinstance(value, Thing) else _UNKNOWN

    def _held_in(self, values: Sequence[Value], open: bool) -> Reach:
        spend(len(values) // 4)
        found = self.all_of(values)
        return found if not open or found.grad is YES else found._replace(grad=MAYBE, certain=False)

    def all_of(self, values: Iterable[Value | None]) -> Reach:
        """Of what all of some values take part in."""
        return united([self.of(value) for value in values])

    def one_of(self, values: Iterable[Value]) -> Reach:
        """Of what is one of some values; where there are others, numbers are what it starts from."""
        found = list(values)
        others = [v for v in found if not isinstance(v, Constant)]
        return either([self.of(value) for value in others or found])

    # ------------------------------------------------------------ things

    def _thing(self, thing: Thing) -> Reach:
        if id(thing) in self._freed:
            return self.before(thing)._replace(grad=YES, certain=False, met=(thing,))
        return self.before(thing)

    def before(self, thing: Thing) -> Reach:
        """Of a thing as it was before its `requires_grad` was set, if it was."""
        what, made = thing.what, thing.made
        if isinstance(what, Tensor):
            return self._tensor(thing, what)
        if isinstance(what, Module):
            return Reach(YES, False, (thing,))
        if isinstance(what, Parameters):
            return Reach(YES, not what.filtered, (thing,))
        if isinstance(what, LossScaled):
            return self.of(what.of)
        if isinstance(what, (Optimizer, Scaler, Scheduler, StateDict)):
            return _LIKELY_DATA
        if isinstance(what, (Instance, Super)):
            return _UNKNOWN
        if made is not None:
            return self._operation(thing, made)
        if isinstance(what, Data) and thing.parent is not None:
            return self._ended(thing, Effect.CUT, self.of(thing.parent[0]))  # of a tensor, by its nature
        if isinstance(what, Grad):
            return _UNKNOWN
        if thing.parent is not None:
            return self._part(thing, thing.parent[0], thing.parent[1])
        if isinstance(thing.via, Argument):
            return _LIKELY_DATA
        if thing.label in ("__file__", "__name__"):
            return _NONE
        return _UNKNOWN

    def made(self, thing: Thing) -> Reach:
        """Of what the operation gave that made a thing, whatever was done to it since."""
        return self._operation(thing, thing.made) if thing.made is not None else self.before(thing)

    def _tensor(self, thing: Thing, what: Tensor) -> Reach:
        if what.element_of is not None:
            return Reach(YES, True, (thing,))
        if what.leaf and what.grad:
            return Reach(YES, True, (thing,))
        if what.leaf and what.grad is False and (what.ever or what.kept is not None):
            return _UNKNOWN
        if thing.made is not None:
            return self._operation(thing, thing.made)
        if what.source is not None:
            found = self.of(what.source)
            return found if what.grad is not False else self._ended(thing, Effect.CUT, found)
        if what.leaf and what.grad is False:
            return _NONE
        return _UNKNOWN

    def _part(self, thing: Thing, base: Thing, name: str) -> Reach:
        """An attribute, an item, or what a loop over it binds."""
        picked = self._picked(thing, base, name)
        if picked is not None:
            return picked
        found = self.of(base)
        if name.startswith("["):
            return self._item(thing, base, name[1:-1].strip("'\""), found)
        core = base.core
        if isinstance(core.what, (Module, ModuleLike, Instance, Super)):
            return _UNKNOWN
        if isinstance(core.what, (Optimizer, Scaler, Scheduler)):
            return _LIKELY_DATA
        effect = law.of_attribute(name)
        if effect is Effect.CUT and not _surely_tensor(base):
            return found if found.grad is NO else found._replace(grad=MAYBE, certain=False)
        if effect is Effect.UNKNOWN:
            return self._second(thing, base, name, found)
        return self._passed(thing, effect, found)

    def _picked(self, thing: Thing, base: Value | None, index: str) -> Reach | None:
        """Of the one item of a tuple that a followed call gave, whatever stands beside it."""
        found = effects.item(base, index)
        if found is None or _unfollowed(found[0]):
            return None
        value, calls = found
        reach = self.of(value)
        for call in reversed(calls):
            if isinstance(call.base, Thing) and reach.grad is YES:
                reach = reach._replace(met=(call.base.core, *reach.met)[: limits.CUTS])
            reach = self._recorded(thing, call, reach)
        return reach

    def _item(self, thing: Thing, base: Value, index: str, found: Reach) -> Reach:
        if found.grad is NO and not found.certain and not found.cuts:
            return _DATA if _from_outside(base) else found
        return self._second(thing, base, index, found)

    def _second(self, thing: Thing, base: Value, index: str, found: Reach) -> Reach:
        """A part of what an operation gave, which may be the places where the values stood."""
        made = base.made if isinstance(base, Thing) else None
        effect = law.of_item(made.name, index) if made is not None else Effect.THROUGH
        return self._passed(thing, effect, found)

    # ------------------------------------------------------------ operations

    def _operation(self, thing: Thing, made: Operation) -> Reach:
        if made is NEW:
            return _NONE
        if made.how is How.JOIN:
            return self.one_of(made.args)
        if made.how is How.WRITE:
            before = self._operation(thing, made.before) if made.before is not None else self._unwritten(thing)
            more = self._recorded(thing, made, self.all_of(made.args))
            return united([before, more])
        if made.how is How.ITEM:
            picked = self._picked(thing, made.base, made.name)
            if picked is not None:
                return picked
            return self._item(thing, made.base or thing, made.name, self.of(made.base))
        if made.how is How.CALL:
            return self._recorded(thing, made, self._called(made))
        if made.how is How.CODE:
            return self._recorded(thing, made, self._unfollowed(made))
        if made.how is How.OPERATOR:
            effect = law.of_operator(made.name)
        elif made.how is How.METHOD:
            effect = effects.effect(made)
            if any(isinstance(o, Thing) and isinstance(o.what, _OBJECTS) for o in options(made.base)):
                effect = Effect.UNKNOWN
        else:
            effect = self._function(made)
        found = self.all_of([*made.args, *(made.keywords or {}).values()])
        if made.base is not None:
            found = united([self.of(made.base), found])
        if effect is Effect.UNKNOWN:
            return self._recorded(thing, made, self._unseen(made, found))
        return self._recorded(thing, made, self._passed(thing, effect, found))

    def _unwritten(self, thing: Thing) -> Reach:
        """What a tensor was before something was written into it."""
        made, thing.made = thing.made, None
        try:
            return self._thing(thing)
        finally:
            thing.made = made

    def _function(self, made: Operation) -> Effect:
        if made.name in ("torch.as_tensor", "torch.asarray") and made.args and isinstance(made.args[0], Items):
            return Effect.CUT
        if made.name == "torch.autograd.grad":
            wanted = (made.keywords or {}).get("create_graph")
            return Effect.UNKNOWN if wanted is not None or len(made.args) > 4 else Effect.NEW
        return law.of_function(made.name)

    def _called(self, made: Operation) -> Reach:
        """What the call of an object gives."""
        given = self.all_of([*made.args, *(made.keywords or {}).values()])
        thing = made.base.core if isinstance(made.base, Thing) else None
        if made.inner is not None and not _unfollowed(made.inner):
            found = self.of(made.inner)
            if thing is None or found.grad is not YES:
                return found
            return found._replace(met=(thing, *found.met)[: limits.CUTS])
        if thing is not None and isinstance(thing.what, Module):
            own = weighs(thing)
            if own is NO:
                return given
            likely = own is YES or isinstance(thing.cls, ClassValue)
            return united([Reach(YES if likely else MAYBE, own is YES, (thing,)), given])
        if given.grad is NO and given.cuts and len(made.args) > 1:
            return given._replace(certain=False)  # most likely a criterion: it compares two things, and has no weights
        return united([Reach(MAYBE, False, () if thing is None else (thing,)), given])

    def _unfollowed(self, made: Operation) -> Reach:
        """What a function of the project gives whose text was not followed here."""
        if made.inner is not None:
            return self.of(made.inner)
        given = self.all_of([*made.args, *(made.keywords or {}).values()])
        target = made.base if isinstance(made.base, FunctionValue) else None
        if target is not None and target.receiver is None and given.grad is NO:
            return given._replace(certain=False)
        if target is None or target.receiver is None:
            return united([_UNKNOWN, given])
        modules = [t for t in options(target.receiver) if isinstance(t, Thing) and isinstance(t.what, Module)]
        return united([Reach(MAYBE, False, tuple(modules)), given])

    def _unseen(self, made: Operation, found: Reach) -> Reach:
        """What code gives that was not seen: it may have cut off what it was given, or made something of it."""
        if found.grad is not NO:
            return found._replace(grad=MAYBE, certain=False)
        if made.how is How.FUNCTION:
            return found  # it has nothing but what it is given
        return found if found.certain else found._replace(certain=False)

    # ------------------------------------------------------------ effects

    def _passed(self, thing: Thing, effect: Effect, found: Reach) -> Reach:
        if effect is Effect.NEW:
            return _NONE
        if effect in law.ENDS:
            return self._ended(thing, effect, found)
        if effect is Effect.FLAT and found.grad is not NO:
            flat = Cutting(thing, effect, False, found.grad is YES)
            numb = _first((found.met, found.numb)) if found.whole else ()
            return found._replace(met=(), numb=numb, flat=(flat, *found.flat)[: limits.CUTS])
        return found

    def _ended(self, thing: Thing, effect: Effect, found: Reach, off: bool = False) -> Reach:
        if found.grad is NO:
            return found._replace(certain=True)  # whatever it was, it is nothing but values now
        cut = Cutting(thing, effect, off, found.grad is YES or bool(found.met or found.numb))
        return Reach(NO, True, (), (cut, *found.cuts)[: limits.CUTS])

    def _recorded(self, thing: Thing, made: Operation, found: Reach) -> Reach:
        if made.recorded is NO:
            return self._ended(thing, Effect.CUT, found, off=True)
        if made.recorded is MAYBE and found.grad is YES:
            return found._replace(grad=MAYBE, certain=False)
        return found


_DEEP = 1 << 30

_OBJECTS = (Instance, Super, Module, Optimizer, Scheduler, StateDict)
"""What has methods of its own, whatever these are called."""


def united(parts: Sequence[Reach]) -> Reach:
    """Of what takes all of some parts: it requires grad if one of them does."""
    if not parts:
        return _NONE
    if len(parts) == 1:
        return parts[0]
    answers = {part.grad for part in parts}
    grad = YES if YES in answers else MAYBE if MAYBE in answers else NO
    deciding = [part for part in parts if part.grad is grad]
    certain = any(part.certain for part in deciding) if grad is YES else all(part.certain for part in deciding)
    return _with(grad, certain, parts)


def either(parts: Sequence[Reach]) -> Reach:
    """Of what is one of some parts."""
    if len(parts) == 1:
        return parts[0]
    answers = {part.grad for part in parts}
    grad = answers.pop() if len(answers) == 1 else MAYBE
    certain = grad is not MAYBE and all(part.certain for part in parts)
    return _with(grad, certain, parts)


def _with(grad: Answer, certain: bool, parts: Sequence[Reach]) -> Reach:
    met, cuts = _first([part.met for part in parts]), _first([part.cuts for part in parts])
    if not any(part.numb for part in parts):
        return Reach(grad, certain, met, cuts)
    whole = len(met) < limits.CUTS
    numb = tuple(t for t in _first([part.numb for part in parts]) if t not in met) if whole else ()
    return Reach(grad, certain, met, cuts, numb, _first([part.flat for part in parts]) if numb else ())


def _first(parts: Iterable[tuple]) -> tuple:  # type: ignore[type-arg]
    """As many of all as are kept, each once."""
    kept = {id(part): part for part in parts if part}  # most have nothing, or have it of one and the same
    if len(kept) < 2:
        only = next(iter(kept.values()), ())
        if len(only) < 2:
            return only
    found = {id(one) if isinstance(one, Thing) else id(one.thing): one for part in kept.values() for one in part}
    return tuple(found.values())[: limits.CUTS]


def _callable(reaching: Reaching, value: Value | None) -> Reach:
    """Of what is no object of torch: a function may be a method of one."""
    if isinstance(value, FunctionValue) and value.receiver is not None:
        return reaching.of(value.receiver)
    if isinstance(value, Partial):
        return reaching.all_of([value.func, *value.args, *value.keywords.values()])
    return _NONE


def _surely_tensor(value: Value | None, depth: int = 20) -> bool:
    """Whether a value is a tensor: other objects have operators, and attributes of the same names, too."""
    if not isinstance(value, Thing) or not depth:
        return False
    if isinstance(value.what, Tensor):
        return True
    made = value.made
    if made is None:
        return False
    if made.how is How.FUNCTION:
        return made.name.startswith(("torch.nn.functional.", "torch.")) and ".rnn." not in made.name
    if made.how is How.METHOD:
        return law.of_method(made.name) is not Effect.UNKNOWN and _surely_tensor(made.base, depth - 1)
    if made.how in (How.OPERATOR, How.JOIN):
        others = [one for one in made.args if not isinstance(one, Constant)]
        return bool(others) and all(_surely_tensor(one, depth - 1) for one in others)
    if made.how in (How.CALL, How.CODE) and made.inner is not None:
        return _surely_tensor(made.inner, depth - 1)
    if made.how is How.CALL and isinstance(made.base, Thing):
        name = made.base.core.class_name
        return name.startswith("torch.nn.") and not name.endswith(("LSTM", "GRU", "RNN", "Attention"))
    return False


def weighs(module: Thing, depth: int = 4) -> Answer:
    """Whether a module surely has parameters of its own, or surely none."""
    name = module.class_name.removeprefix("torch.nn.") if module.class_name.startswith("torch.nn.") else ""
    if name in LEARNING or (isinstance(module.what, Module) and module.what.pretrained):
        return YES
    if name and law.bare_layer(name):
        return NO
    if name in ("Sequential", "ModuleList") and module.args is not None and depth:
        given = [t for t in contents(Items(Container.TUPLE, module.args.all())) if isinstance(t, Thing)]
        inner = [weighs(part, depth - 1) for part in given[: limits.ALTERNATIVES] if isinstance(part.what, Module)]
        if YES in inner:
            return YES
        whole = not module.args.open and len(inner) == len(given) <= limits.ALTERNATIVES
        return NO if whole and all(answer is NO for answer in inner) else MAYBE
    return MAYBE


def _unfollowed(value: Value) -> bool:
    """Whether a value is what a function of the project gave that was not followed."""
    return isinstance(value, Thing) and value.made is not None and value.made.how is How.CODE and not value.made.inner


def _from_outside(value: Value) -> bool:
    """Whether a value is what an entry point was given, or a part of that, as a loader or a batch is."""
    return all(isinstance(option, Thing) and isinstance(option.root.via, Argument) for option in options(value))


def reaching(timeline: Timeline) -> Reaching:
    """The answers for a timeline, which all rules share."""
    return query.once(timeline, _reaching)


def _reaching(timeline: Timeline) -> Reaching:
    things = [event.thing for event in timeline.events(Freeze) if event.value is not False]
    return Reaching(frozenset(id(thing) for thing in things if isinstance(thing.what, (Opaque, Tensor))))


# ---------------------------------------------------------------- terms


class Term(NamedTuple):
    """One of the values that a loss is the sum of, with what it is multiplied by; `negative` where it is taken away."""

    value: Value
    weights: tuple[Value, ...] = ()
    negative: bool = False


def terms(value: Value | None) -> list[Term]:
    """The terms that a loss is the sum of; itself where it is no sum. What paths may have brought is kept whole."""
    found: list[Term] = []
    seen: set[int] = set()
    todo: list[Term] = [Term(value)] if value is not None else []
    while todo:
        spend(2)
        term = todo.pop()
        if id(term.value) in seen or len(seen) > limits.WAY:
            continue
        seen.add(id(term.value))
        inner = list(_terms(term))
        if inner:
            todo += reversed(inner)
        elif not isinstance(term.value, Constant):
            found.append(term)
    return found


def _terms(term: Term) -> Iterator[Term]:
    """The terms that a term is made of."""
    value = term.value
    if isinstance(value, Thing) and isinstance(value.what, LossScaled) and value.what.of is not None:
        yield term._replace(value=value.what.of)
        return
    if isinstance(value, Choice):
        others = [option for option in value.options if not isinstance(option, Constant)]
        if len(others) == 1:
            yield term._replace(value=others[0])
        return
    made = value.made if isinstance(value, Thing) else None
    if made is None:
        return
    if made.how is How.OPERATOR and made.name in ("+", "-", "+=", "-="):
        for index, operand in enumerate(made.args):
            yield term._replace(value=operand, negative=term.negative != (made.name[0] == "-" and index > 0))
    elif made.how is How.OPERATOR and made.name in ("*", "/", "*=", "/=") and len(made.args) == 2:
        first, second = made.args
        if _number(second) or made.name[0] == "/":
            yield term._replace(value=first, weights=(*term.weights, second))
        elif _number(first):
            yield term._replace(value=second, weights=(*term.weights, first))
    elif made.how is How.JOIN:
        others = [option for option in made.args if not isinstance(option, Constant)]
        if len(others) == 1:
            yield term._replace(value=others[0])
    elif made.how is How.FUNCTION and made.name in _ADDING and made.args:
        for option in options(made.args[0]):
            if isinstance(option, (Items, Table)):
                held = option.items if isinstance(option, Items) else list(option.entries.values())
                for one in held[: limits.ITEMS]:
                    yield term._replace(value=one)
    elif made.how is How.METHOD and made.name in ("mean", "sum") and not made.args and _stacked(made.base):
        assert made.base is not None
        yield term._replace(value=made.base)


_ADDING = frozenset({"builtins.sum", "torch.stack", "torch.sum", "torch.mean", "torch.cat", "math.fsum"})


def _number(value: Value) -> bool:
    """Whether a factor is a plain number, or is read from settings."""
    return isinstance(value, Constant) or (
        isinstance(value, Thing) and isinstance(value.what, Opaque) and value.made is None and value.root.made is None
    )


def _stacked(value: Value | None) -> bool:
    made = value.made if isinstance(value, Thing) else None
    return made is not None and made.how is How.FUNCTION and made.name in ("torch.stack", "torch.cat")
