"""Leaves that backward fills and that no optimizer holds: which they are, where they lie, and what they stand for.

Sightings: "unheld" (parameters that nobody moves), "unheld-tensor" (plain tensors), "group-forgotten" (they are all in
one list that was never handed over), "layer-rebuilt" (they are new for each loss), "model-replaced",
"layer-replaced" and "variable-replaced" (they took the place of what the optimizer holds), "layer-unregistered" and
"tensor-unregistered" (they lie in an attribute of a module that registers nothing), "buffer-trained" (they are
buffers), "part-no-module" (they lie in a part of a module that is none itself), "iterator-spent" (the iterator that
should have given them was read before).
"""

from __future__ import annotations

import weakref
from collections import Counter
from inspect import GEN_CREATED, getgeneratorstate
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.by_hand import differentiates, twins, wants_gradient, writes_networks
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.attributes import Hidden, hidden
from gradcheck_lint.runtime.checks.identity import Identity, held_by_any
from gradcheck_lint.runtime.codes import methods
from gradcheck_lint.runtime.graph import uses
from gradcheck_lint.runtime.names import Models, names_of, variable
from gradcheck_lint.runtime.reading import capturing, piece, plain
from gradcheck_lint.runtime.references import Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from types import FrameType

    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event, Site
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

WALKS = 3  # backwards of each optimizer whose graph is walked before sampling begins
_WALKS = 24  # of all optimizers together
_AGAIN = 3  # how often a step without gradients makes the next graph be walked
_LATE = 1000  # steps after which missing parameters are told; until then an optimizer for them may still come
_FRESH = 2  # how often the values of a layer are written while it is built, at most
_NOTED = 2  # the step at which it is noted which parameters nobody holds
_IDLE = 200  # of them that are asked now and then whether they get gradients
_SCALES = frozenset({"Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Exp", "Log", "Pow", "Sqrt", "Sigmoid", "Softplus"})
_PILED = 10  # steps after which a gradient that was never cleared is one that nobody looks at
_MOST = 2000  # leaves that are remembered
_FEW = 200  # operations between a variable and what it was computed from
_NAMELESS = "a tensor without a name"


class Stray:
    """A leaf that got a gradient and that no watched optimizer holds."""

    def __init__(self, leaf: Tensor, number: int, mark: Mark | None, observers: frozenset[int]) -> None:
        from torch.nn import Parameter

        self.ref: Callable[[], Tensor | None] = Ref(leaf)
        self.first = number  # the backward at which it was met
        self.latest = number
        self.times = 1  # how many of the backwards that were walked reached it
        self.mark = mark  # where it was registered
        self.observers = observers  # those whose parameters these backwards reached too
        self.parameter = isinstance(leaf, Parameter)
        self.shape = tuple(leaf.shape)
        self.version = leaf._version
        self.place = leaf.data_ptr()
        self.plain = False  # whether the optimizers that it is met with hold no parameters, only plain tensors
        self.moved = False  # somebody writes to it
        self.factor = False  # it is a number that scales or shifts others
        self.left: tuple[int, int, int] | None = None  # its gradient, id and version, and the number of the step
        self.piles = 0  # how often that was still there when the next backward began
        self.cleared = False  # somebody who is no optimizer did so
        self.step = 0  # of the optimizer, at which it was known that nobody holds it
        self.name = ""
        self.fresh = False  # its values are those that it was built with
        self.thawed = False  # it was frozen when the optimizer was new
        self.replaces = False  # what an optimizer holds goes by the same name, and gets no gradient
        self.kind = (leaf.dtype, leaf.device)
        self.sample: Tensor | None = None  # some of its values, from when it was known that nobody holds it
        self.restored = -1  # how many steps there had been when all of its model was loaded; -1 if it never was
        self.wanted = False  # its gradient may be what the program asks for
        self.list = ""  # the list that holds it
        self.hidden: Hidden | None = None

    def look(self) -> Tensor | None:
        leaf = self.ref()
        if leaf is not None and (leaf._version != self.version or leaf.data_ptr() != self.place):
            self.moved = True
        return leaf

    def keep(self, *, anew: bool = True) -> None:
        """Remember some of its values: what is written through `.data` changes neither the version nor the memory."""
        leaf = self.ref()
        if anew or self.sample is None:
            self.sample = _sample(leaf) if leaf is not None else None

    def compare(self) -> None:
        """Whether somebody has written to it after all; reads values."""
        leaf = self.ref()
        if self.moved or self.sample is None or leaf is None:
            return
        now = _sample(leaf)
        if now is not None and now.dtype == self.sample.dtype and now.device == self.sample.device:
            self.moved = not bool((now == self.sample).all())

    def trained(self, steps: int) -> None:
        """A step follows, of so many: a state that was loaded before it is one that the training goes on with."""
        self.moved = self.moved or -1 < self.restored < steps

    def converted(self) -> None:
        """Its module was moved or converted, which gives it other memory and leaves its values as they were."""
        leaf = self.ref()
        if leaf is not None:
            kind = (leaf.dtype, leaf.device)
            if kind == self.kind and leaf.data_ptr() != self.place:
                self.moved = True  # something else was put there
            self.version, self.place, self.kind = leaf._version, leaf.data_ptr(), kind
            self.keep()

    def restore(self, steps: int) -> None:
        """A state was loaded into it and into all beside it: what that means depends on whether a step follows."""
        leaf = self.ref()
        if leaf is not None:
            self.restored = steps
            self.version, self.place, self.kind = leaf._version, leaf.data_ptr(), (leaf.dtype, leaf.device)
            self.keep()

    def begins(self, steps: int) -> None:
        """Backward begins, for the first time since a step: is the gradient of that step still there?"""
        leaf, left = self.ref(), self.left
        if left is not None and leaf is not None and left[2] == steps:
            if _gradient(leaf, steps) == left:
                self.piles += 1
            else:
                self.cleared = True
        self.left = None

    def used(self, steps: int) -> None:
        """A step begins, which does not use its gradient."""
        leaf = self.ref()
        self.left = _gradient(leaf, steps) if leaf is not None else None

    @property
    def piled_up(self) -> bool:
        """Whether its gradient was there for everybody, and was neither used nor cleared.

        That of an input may lie there too, as of the point at which an equation has a boundary.
        """
        return self.factor and self.piles >= _PILED and not self.cleared


class Strays(Check):
    """Looks at the graph of the first losses, and later now and then or when something is odd."""

    hears = frozenset({"module._apply", "module.load_state_dict"})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        session.looking_elsewhere.append(self)
        self._found: dict[int, Stray] = {}
        self._pending: dict[int, Stray] = {}  # what is told unless something comes in between
        self._news: dict[int, list[Stray]] = {}  # by backward: parameters that were met for the first time
        self._tensors: list[Stray] = []  # those that are no parameters
        self._again = 0  # how many of the next backwards are to be walked
        self._more = _WALKS
        self._idle: list[tuple[weakref.ref[Module], str]] = []  # parameters that nobody holds
        self._frozen: dict[int, Ref] = {}  # those of them that did not require grad, by id
        self._asked: Counter[int] = Counter()
        self._lists: list[tuple[str, frozenset[int], Mark | None]] = []
        self._spent: dict[int, tuple[str, Mark | None]] = {}  # by observer: what left one of its groups empty
        self._variables: dict[int, dict[str, int]] = {}  # by observer: the user's variables and what they held
        self._copies: dict[int, dict[str, tuple[int, str]]] = {}
        self._loaded: set[int] = set()
        self._mark: dict[int, Mark | None] = {}
        self._called: dict[int, dict[int, str]] = {}  # by observer: what it holds, by names that may be others' later
        self._models_found = False  # some, since the latest look at what nobody holds
        self._by_hand: bool | None = None  # whether the program has code that writes networks; None: not asked yet
        self._replaced: dict[int, dict[str, Any]] = {}  # by observer: what its tensors seem to be replaced by

    # What other threads do

    def known(self) -> Collection[int]:
        """The ids of the tensors whose gradients are looked at."""
        return {*self._found, *self._pending, *(id(stray.ref()) for stray in self._tensors)}

    def forsake(self, ids: set[int] | None) -> None:
        """Another thread is at work on these, None for whatever there is, and this is called in it."""
        strays = [*self._found.values(), *self._pending.values(), *self._tensors]
        for news in self._news.values():
            strays += news
        for stray in strays:
            if ids is None or id(stray.ref()) in ids:
                stray.ref = _gone
        self._found = {key: stray for key, stray in self._found.items() if stray.ref is not _gone}
        self._pending = {key: stray for key, stray in self._pending.items() if stray.ref is not _gone}
        self._tensors = [stray for stray in self._tensors if stray.ref is not _gone]
        self._news = {number: [s for s in news if s.ref is not _gone] for number, news in self._news.items()}

    # What is given

    def model_found(self) -> None:
        self._models_found = True

    def attached(self, observer: Observer) -> None:
        ids = observer.ids()
        for key in ids & self._found.keys():
            del self._found[key]
        for key in ids & self._pending.keys():
            del self._pending[key]
        if not all(self.session.models.name(p) for p in observer.parameters()):
            self._variables[observer.watched.index] = {
                name: id(p) for p in observer.parameters()[:100] if (name := variable(p, sites.frames(2)))
            }

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        for key in held & self._pending.keys():
            del self._pending[key]
        for frame in sites.frames(2)[:1]:
            for name, ids in _lists(frame):
                if not ids & held:
                    self._lists.append((name, ids, stores.stored(frame, name) or mark))
            if observer is not None and not all(group["params"] for group in optimizer.param_groups):
                name, made = _spent(frame)
                if name:
                    self._spent[observer.watched.index] = (name, made or mark)

    def call_begins(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind == "module.load_state_dict":
            self._loaded |= {id(parameter) for parameter in args[0].parameters()}
        if self._known():
            for stray in self._within(args[0], recurse=kind == "module.load_state_dict"):
                stray.look()  # what was written before this call
                stray.compare()

    def call_ended(
        self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        """Moving a model at the end of a training, or loading its best state, takes nothing back of what was seen."""
        if not self._known():
            return
        if kind == "module._apply":
            for stray in self._within(args[0], recurse=False):
                stray.converted()
        elif kind == "module.load_state_dict":
            held = self.session.held()
            whole = any(id(parameter) in held for parameter in args[0].parameters())
            for stray in self._within(args[0], recurse=True):
                if whole:
                    stray.restore(self._steps())
                else:
                    stray.look()

    def _known(self) -> bool:
        return bool(self._found or self._pending)

    def _within(self, module: Module, *, recurse: bool) -> list[Stray]:
        """What is known of the parameters of this module."""
        known = self._found | self._pending
        strays = [(known.get(id(p)), p) for p in module.parameters(recurse=recurse)]
        return [stray for stray, p in strays if stray is not None and stray.ref() is p]

    def _steps(self) -> int:
        """How many steps all optimizers have made."""
        return sum(observer.steps for observer in self.session.observers.values())

    # What backward reaches

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        from torch.nn import Parameter

        for stray in self._tensors:
            stray.begins(sum(o.watched.steps for o in self.session.observers.values()))
        session = self.session
        number = session.backwards
        early = number <= _WALKS and any(o.watched.backwards < WALKS for o in session.observers.values())
        if not early and not self._again and not session.rarely():
            return
        if options.get("inputs") is not None:
            return
        self._again = max(self._again - 1, 0)
        reached = session.walk(roots)
        if not reached.whole:
            return
        owners = {id(p): o.watched.index for o in session.observers.values() for p in o.parameters()}
        touched = [leaf for leaf in reached.leaves if id(leaf) in owners]
        observers = frozenset(owners[id(leaf)] for leaf in touched)
        plain = bool(touched) and not any(isinstance(leaf, Parameter) for leaf in touched)
        new: set[int] = set()
        for leaf in reached.leaves:
            key = id(leaf)
            if key in owners:
                continue
            known = self._found.get(key)
            if known is not None and known.ref() is leaf:
                known.times += 1
                known.latest = number
                known.observers |= observers
            elif len(self._found) < _MOST:
                stray = self._found[key] = Stray(leaf, number, session.births.get(key), observers)
                stray.plain = plain
                new.add(key)
                if not stray.parameter:
                    stray.factor = leaf.ndim == 0 and uses(roots, leaf) <= _SCALES
                    self._tensors.append(stray)
                if stray.parameter and observers:
                    self._news.setdefault(number, []).append(stray)
        if new and not session.turn.clear(new, 0.0):
            self.forsake(new)
        elif new and self._more:
            self._more -= 1
            self._walk_next(observers)  # to see whether it comes again

    def _walk_next(self, observers: Collection[int]) -> None:
        """Look at the graph of the next loss, which is that of the next step for these observers."""
        self._again = max(self._again, 1)
        for observer in self.session.observers.values():
            if observer.watched.index in observers:
                observer.attend(2)

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        index, steps = observer.watched.index, observer.watched.steps
        self._mark[index] = mark
        if not observer.window and self._asked[index] < _AGAIN:
            self._asked[index] += 1
            self._again += 1
        if steps == _NOTED:
            self._note_idle()
            self._note_names(observer)
        if observer.sampling.is_sample(steps) and (self._thawed() or self._passed_by(observer)):
            self._walk_next({index})
        if self._copies.get(index) or (steps == 1 and self._variables.get(index)):
            self._judge_copies(observer, mark)
        for stray in self._tensors:
            stray.used(sum(o.watched.steps for o in self.session.observers.values()))
        if not self._found:
            return
        self._judge_rebuilt(observer, mark)
        if not any(p.grad is not None for p in observer.parameters()) or index in self._variables:
            self._judge_replaced(observer, mark)
        self._collect(observer)
        if steps >= _LATE and self._pending:
            self._tell(final=False)

    def ended(self) -> None:
        for observer in self.session.observers.values():
            data = self._replaced.pop(observer.watched.index, None)
            if data is not None and "passing" not in data:
                self._tell_replaced(observer, data)
        self._tell(final=True)

    def _thawed(self) -> bool:
        """Whether a parameter of a watched model that nobody holds has got a gradient, and that is news."""
        for owner, key in self._idle:
            module = owner()
            parameter = module._parameters.get(key) if module is not None else None
            if parameter is not None and parameter.requires_grad and parameter.grad is not None:
                known = self._found.get(id(parameter))
                if known is None or known.times < 2:
                    return True
        return False

    def _passed_by(self, observer: Observer) -> bool:
        """Whether something has no gradient now that had one: another may have taken its place. Asked a few times."""
        index, received = observer.watched.index, observer.received
        if self._asked[index] >= _AGAIN:
            return False
        passed_by = any(p.grad is None and p.requires_grad and id(p) in received for p in observer.parameters())
        self._asked[index] += passed_by
        return passed_by

    def _note_idle(self) -> None:
        """Which parameters of the watched models nobody holds."""
        held = self.session.held()
        idle = [
            (weakref.ref(module), key, parameter)
            for _, module in self.session.models.modules()
            for key, parameter in module._parameters.items()
            if parameter is not None and id(parameter) not in held
        ]
        self._idle = [(owner, key) for owner, key, _ in idle[:_IDLE]]
        self._frozen |= {id(p): Ref(p) for _, _, p in idle[:_MOST] if not p.requires_grad}

    def _note_names(self, observer: Observer) -> None:
        """What the user calls those that an optimizer holds, if they are several modules that lie in some object."""
        held = observer.parameters()
        if len(self.session.models) > 1 and len(held) <= _IDLE:
            names = names_of(self.session.models, held, sites.frames(2))
            self._called[observer.watched.index] = {id(p): name for p, name in zip(held, names, strict=True) if name}

    # New for each loss

    def _judge_rebuilt(self, observer: Observer, mark: Mark | None) -> None:
        """Parameters that are there for one loss, and others like them for the next."""
        identity = self.session.check(Identity)
        for number in sorted(self._news):
            before, after = self._news[number], self._news.get(number + 1)
            if after is None:
                continue
            del self._news[number]
            gone = [stray for stray in before if stray.latest == number and stray.ref() is None]
            again = [s for s in after if any(_alike(s, other) for other in gone)]
            if not again or any((leaf := s.ref()) is not None and leaf._version > _FRESH for s in again):
                continue
            lines = {stray.mark and (stray.mark.code, stray.mark.line): stray for stray in again}.values()
            made = [(line, line.mark or self._made_in_forward()) for line in lines]
            if observer.watched.steps <= _NOTED and self.session.options.everything and not all(one for _, one in made):
                continue  # where it is made shows once the model is known, which may be found at this step only
            for stray in (*gone, *again):
                identity.told.add(next((key for key, value in self._found.items() if value is stray), 0))
                if stray.mark is not None:
                    identity.rebuilt.add((stray.mark.code, stray.mark.line))
            self._found = {key: s for key, s in self._found.items() if s not in gone and s not in again}
            for line, one in made:
                observer.sight("layer-rebuilt", one or mark, made=one, shapes=(line.shape,), number=len(again))

    def _made_in_forward(self) -> Mark | None:
        """The one place at which a module of the user's makes a parameter outside of its constructor."""
        kinds = {type(module) for _, module in self.session.models.modules()}
        codes = {code for kind in kinds for code in methods(kind, "forward") if code.co_name != "__init__"}
        marks = [mark for code in codes if (mark := stores.uses(code, ("Parameter",))) is not None]
        return marks[0] if len(marks) == 1 else None

    # In the place of others

    def _judge_replaced(self, observer: Observer, mark: Mark | None) -> None:
        """What the optimizer holds gets no gradients, and others of the same shapes or of the same name do."""
        identity = self.session.check(Identity)
        parameters = [p for p in observer.parameters() if p.requires_grad]
        strays = {key: s for key, s in self._found.items() if key not in identity.told and s.look() is not None}
        index = observer.watched.index
        idle = [p for p in parameters if p.grad is None]
        if not strays or not idle:
            self._replaced.pop(index, None)
            return
        frames = sites.frames(2)
        names = {key: (variable(s.ref(), frames) if not s.parameter else "") for key, s in strays.items()}
        kept = self._variables.get(index, {})
        turned = {key: name for key, name in names.items() if name and kept.get(name) in {id(p) for p in idle}}
        if turned:
            data: dict[str, Any] = {"kind": "variable-replaced", "ids": tuple(turned), "names": tuple(turned.values())}
            data["made"] = _reassigned(next(iter(turned.values())), observer.built, frames)
        else:
            wanted = Counter(tuple(p.shape) for p in parameters)
            there = Counter(s.shape for s in strays.values() if s.parameter and s.latest > s.first - 1)
            matched = sum((wanted & there).values())
            if len(idle) < len(parameters) or not parameters or matched * 2 < len(parameters):
                return
            if self._shared(observer, idle):
                return
            ids = tuple(key for key, s in strays.items() if s.parameter)
            data = {"kind": "model-replaced", "ids": ids, "names": tuple(self._names(list(strays.values()), frames))}
            data["made"] = next((s.mark for s in strays.values() if s.mark is not None), None)
        data["mark"] = mark
        data["met"] = {self._found[key].first for key in data["ids"]}
        known = self._replaced.pop(index, None)
        if known is None or known["kind"] != data["kind"]:
            observer.broken = True
            self._replaced[index] = data  # to be told if it is so at the next step too
        elif data["kind"] == "model-replaced" and not data["met"] & known["met"]:
            observer.broken = False  # they are copies that live for one step, and replace nothing
            self._replaced[index] = data | {"passing": True}
        elif not set(data["ids"]) & held_by_any():
            self._tell_replaced(observer, data)
        else:
            observer.broken = False

    def _shared(self, observer: Observer, parameters: list[Tensor]) -> bool:
        """Whether other optimizers hold these as well: the model still has them, and this one got the wrong ones."""
        others = (o for o in self.session.observers.values() if o is not observer and o.optimizer is not None)
        held = {key for other in others for key in other.ids() if other.optimizer is not observer.optimizer}
        return all(id(parameter) in held for parameter in parameters)

    def _tell_replaced(self, observer: Observer, data: dict[str, Any]) -> None:
        self.session.check(Identity).told |= set(data["ids"])
        for key in data["ids"]:
            self._pending.pop(key, None)
        observer.sight(
            data["kind"],
            data["mark"],
            names=data["names"],
            made=data.get("made"),
            number=len(data["ids"]),
            held=len(observer.watched.parameters),
        )

    def _judge_copies(self, observer: Observer, mark: Mark | None) -> None:
        """A variable that was handed over stands for a copy of it that is computed once: `w = w.double()`."""
        index = observer.watched.index
        known = self._copies.pop(index, {})
        frames = sites.frames(2)
        held = {id(p): p for p in observer.parameters()}
        now: dict[str, tuple[int, str]] = {}
        for name, key in self._variables.get(index, {}).items():
            value = _value(name, frames)
            node = getattr(value, "grad_fn", None)
            if node is None or key not in held:
                continue
            if any(getattr(following, "variable", None) is held[key] for following, _ in node.next_functions):
                now[name] = (id(value), type(node).__name__)
        same = [name for name, seen in now.items() if known.get(name) == seen]
        if same:
            self._tell_copies(observer, mark, same)
        elif observer.watched.steps == 1 and now:
            self._copies[index] = now

    def _tell_copies(self, observer: Observer, mark: Mark | None, names: Sequence[str]) -> None:
        made = _reassigned(names[0], observer.built, sites.frames(2))
        held = len(observer.parameters())
        observer.sight(
            "variable-replaced", mark, names=tuple(names), number=len(names), held=held, copy=True, made=made
        )

    def backward_failed(self, event: Event, error: BaseException) -> None:
        """`w = w.clamp(min=0)` after each step: the next loss goes back through what has been gone through before."""
        if not isinstance(error, RuntimeError) or "a second time" not in str(error):
            return
        frames = sites.frames(2)
        for observer in self.session.observers.values():
            names = self._variables.get(observer.watched.index, {})
            held = observer.ids()
            same = [n for n, key in names.items() if key in held and _computed_from(_value(n, frames), key)]
            if same:
                self._tell_copies(observer, event.mark, same)

    # Held by nobody

    def _collect(self, observer: Observer) -> None:
        """Keep what is known of the leaves that nobody holds as plain data: they may be gone when it is told."""
        identity = self.session.check(Identity)
        held = self.session.held()
        fresh: list[Stray] = []
        steps = self._steps()
        for key, stray in list(self._found.items()):
            leaf = stray.look()
            if observer.reads:
                stray.compare()
            stray.trained(steps)
            if leaf is None:
                if key not in self._pending:
                    del self._found[key]
            elif stray.moved or key in held or key in identity.told or not leaf.requires_grad:
                self._pending.pop(key, None)
            elif key not in self._pending and (stray.times > 1 or observer.watched.steps == 1):
                stray.step = observer.watched.steps
                fresh.append(stray)
                self._pending[key] = stray
        if self._models_found:  # what was met before may lie in one of them
            fresh += [s for s in self._pending.values() if s not in fresh and s.hidden is None and s.ref() is not None]
            self._models_found = False
        if fresh:
            self._describe(fresh, observer)

    def _describe(self, strays: list[Stray], observer: Observer) -> None:
        frames = sites.frames(2)
        names = self._names(strays, frames)
        attributes = hidden([model for _, model in self.session.models])
        owners = self._owners(frames, {id(s.ref()) for s in strays})
        called = self._called.get(observer.watched.index, {})
        idle = {called.get(id(p)) for p in observer.parameters() if p.grad is None and p.requires_grad}
        for stray, name in zip(strays, names, strict=True):
            leaf = stray.ref()
            stray.keep(anew=False)
            stray.name = name
            stray.replaces = name in idle
            frozen = self._frozen.get(id(leaf))
            stray.thawed = frozen is not None and frozen() is leaf
            stray.hidden = attributes.get(id(leaf))
            if stray.hidden is not None and not stray.parameter:
                stray.wanted = wants_gradient(stray.hidden.attribute, stray.hidden.owner, frames)
            elif not stray.parameter:
                stray.wanted = differentiates(frames)
            if stray.hidden is not None and name == _NAMELESS:
                stray.name = stray.hidden.path
            stray.list = next((n for n, ids, _ in self._lists if id(leaf) in ids), "")
            owner = owners.get(id(leaf))
            stray.fresh = id(leaf) not in self._loaded and _is_fresh(stray, owner, self.session.options.everything)
        fresh = [(s, owner) for s in strays if s.fresh and (owner := owners.get(id(s.ref()))) is not None]
        followers = self._followers([owner for _, owner in fresh], frames)
        for stray, owner in fresh:
            stray.fresh = id(owner) not in followers
        made = {key for other in self.session.observers.values() for key in other.received}
        if any(p.grad is not None and id(p) not in made for p in observer.parameters()):
            for stray in strays:
                stray.moved = True  # somebody copies gradients from one to the other
                self._pending = {key: s for key, s in self._pending.items() if s is not stray}

    def _names(self, strays: Sequence[Stray], frames: list[FrameType]) -> list[str]:
        names = names_of(self.session.models, [stray.ref() for stray in strays], frames)
        return [name or _NAMELESS for name in names]

    def _owners(self, frames: list[FrameType], ids: set[int]) -> dict[int, Module]:
        """The module in which each of these parameters lies."""
        models = Models()
        models.find(frames, ids)
        roots = [model for _, model in (*self.session.models, *models)]
        modules = [module for model in roots for module in model.modules()]
        return {id(p): module for module in modules for p in module._parameters.values() if id(p) in ids}

    def _followers(self, modules: Sequence[Module], frames: list[FrameType]) -> set[int]:
        """The ids of those that may be a target or an average, which the program will write some steps later."""
        if modules and self._by_hand is None:
            self._by_hand = writes_networks(frames)
        if not modules or not self._by_hand:
            return set()
        held = self.session.held()
        trained = (m for _, m in self.session.models.modules() if any(id(p) in held for p in m.parameters()))
        return twins(modules, trained)

    def _tell(self, *, final: bool) -> None:
        """One sighting for each kind of leaf that nobody holds."""
        identity = self.session.check(Identity)
        steps = self._steps()
        for stray in self._pending.values():
            stray.trained(steps)
            stray.compare()
        pending = {k: s for k, s in self._pending.items() if k not in identity.told and not s.moved}
        self._pending = {}
        alive = {key for key, stray in pending.items() if stray.look() is not None}
        if alive:
            elsewhere = held_by_any()
            pending = {k: s for k, s in pending.items() if k not in elsewhere or k not in alive}
        kinds: dict[tuple[str, Any], dict[int, Stray]] = {}
        for key, stray in pending.items():
            seldom = stray.times < 2 and self.session.backwards > 1
            if stray.moved or (seldom and (stray.hidden is None or stray.hidden.kind != "layer-unregistered")):
                continue
            if stray.hidden is not None and stray.hidden.kind == "layer-unregistered":
                where: tuple[str, Any] = (stray.hidden.kind, stray.hidden.owner)  # one mistake of a class
            elif stray.hidden is not None:
                where = (stray.hidden.kind, stray.hidden.attribute)
            elif not stray.parameter:
                where = ("unheld-tensor", "")
            elif stray.list and self._whole(stray.list, pending):
                where = ("group-forgotten", stray.list)
            elif stray.replaces and stray.fresh:
                where = ("layer-replaced", "")
            else:
                where = ("unheld", stray.thawed or stray.fresh)
            kinds.setdefault(where, {})[key] = stray
        observers = {observer.watched.index: observer for observer in self.session.observers.values()}
        for (kind, where), strays in kinds.items():
            place = where if isinstance(where, str) else ""
            about = [s.observers for s in strays.values()]
            index = min((i for some in about for i in some), default=-1)
            observer = observers.get(index)
            if observer is None:
                continue
            identity.told |= strays.keys()
            if kind == "layer-replaced":
                self._tell_layers(observer, list(strays.values()))
                continue
            if kind == "layer-unregistered":
                self._tell_hidden(observer, list(strays.values()))
                continue
            if kind == "unheld" and where and index in self._spent:
                name, made = self._spent[index]
                observer.sight("iterator-spent", made, names=_names(strays.values()), iterator=name)
                continue
            observer.sight(
                kind,
                self._mark.get(index) or observer.mark_of("step"),
                names=_names(strays.values()),
                where=place,
                fresh=all(stray.fresh for stray in strays.values()),
                thawed=all(stray.thawed for stray in strays.values()),
                plain=all(stray.plain for stray in strays.values()),
                wanted=any(stray.wanted for stray in strays.values()),
                cleared=all(stray.cleared for stray in strays.values()),
                piled_up=all(stray.piled_up for stray in strays.values()),
                holder=next((s.hidden.holder.__name__ for s in strays.values() if s.hidden and s.hidden.holder), ""),
                owner=next((s.hidden.owner.__name__ for s in strays.values() if s.hidden), ""),
                container=next((s.hidden.container for s in strays.values() if s.hidden), ""),
                made=self._made(kind, place, strays.values()),
            )

    def _made(self, kind: str, place: str, strays: Iterable[Stray]) -> Mark | Site | None:
        """The line of the user's that keeps them from the optimizer."""
        if kind == "group-forgotten":
            return next((mark for name, _, mark in self._lists if name == place), None)
        return next((mark for s in strays if s.hidden is not None and (mark := s.hidden.made())), None)

    def _tell_hidden(self, observer: Observer, strays: list[Stray]) -> None:
        """Layers that attributes of one class do not register: one mistake, with a place for each attribute."""
        places = {s.hidden.attribute: s.hidden for s in strays if s.hidden is not None}
        made = {name: place.made() for name, place in places.items()}
        names = sorted(places, key=lambda name: made[name].line if made[name] is not None else 0)  # type: ignore[union-attr]
        beside: dict[str, Any] = {f"beside {name}": made[name] for name in names[1:]}
        observer.sight(
            "layer-unregistered",
            self._mark.get(observer.watched.index) or observer.mark_of("step"),
            names=_names(strays),
            where=tuple(names),
            owner=places[names[0]].owner.__name__,
            container=places[names[0]].container,
            made=made[names[0]],
            **beside,
        )

    def _tell_layers(self, observer: Observer, strays: list[Stray]) -> None:
        """Layers that took the place of others in an object that is no module: nobody was told of it then."""
        observer.sight(
            "layer-replaced",
            self._mark.get(observer.watched.index) or observer.mark_of("step"),
            names=tuple(dict.fromkeys(stray.name.rpartition(".")[0] for stray in strays)),
            made=next((stray.mark for stray in strays if stray.mark is not None), None),
            number=len(_names(strays)),
            step=min(stray.step for stray in strays),
            added=False,
        )

    def _whole(self, name: str, pending: dict[int, Stray]) -> bool:
        return any(ids <= pending.keys() for other, ids, _ in self._lists if other == name)


def _names(strays: Iterable[Stray]) -> tuple[str, ...]:
    """Each name once, for what replaces a thing may be replaced again; those without one all count."""
    return tuple(
        {stray.name if stray.name != _NAMELESS else key: stray.name for key, stray in enumerate(strays)}.values()
    )


def _gone() -> None:
    """The reference to a leaf that must not be looked at any more."""


def _gradient(leaf: Tensor, steps: int) -> tuple[int, int, int] | None:
    return (id(leaf.grad), leaf.grad._version, steps) if leaf.grad is not None else None


def _sample(leaf: Tensor) -> Tensor | None:
    values = None if capturing() else plain(leaf)
    return piece(values).clone() if values is not None else None


def _alike(one: Stray, other: Stray) -> bool:
    if one.mark is not None and other.mark is not None:
        return (one.mark.code, one.mark.line) == (other.mark.code, other.mark.line) and one.shape == other.shape
    return one.mark is other.mark and one.shape == other.shape


def _is_fresh(stray: Stray, owner: Module | None, everything: bool) -> bool:
    """Whether nothing was written into a parameter since its layer was built, so that its values are random ones."""
    if owner is None:
        return stray.version <= 1
    if not owner.training:
        return False
    if type(owner).__module__.startswith("torch.nn"):
        return 1 <= stray.version <= (_FRESH if everything else 1)
    return stray.version <= 1


def _lists(frame: FrameType) -> list[tuple[str, frozenset[int]]]:
    """The lists of parameters among the variables of a function, and the groups of an optimizer that hold some."""
    from torch.nn import Parameter

    found = []
    for name, value in list(sites.variables(frame).items()):
        if name.startswith("_"):
            continue
        items: Any = value.get("params") if type(value) is dict else value
        if items is not value and type(items) is GeneratorType:
            items = _unread(items)
        if type(items) in (list, tuple) and 0 < len(items) < 10_000:
            if all(isinstance(item, Parameter) for item in items):
                found.append((name, frozenset(id(item) for item in items)))
    return found


def _unread(iterator: GeneratorType[Any, Any, Any]) -> list[Tensor]:
    """What `module.parameters()` will give, of which nothing has been taken yet; empty for any other iterator."""
    from torch.nn import Module

    frame = iterator.gi_frame
    if frame is None or iterator.gi_code is not sites.code_of(Module.parameters):
        return []
    if getgeneratorstate(iterator) != GEN_CREATED:
        return []
    given = sites.variables(frame)
    return list(given["self"].parameters(given["recurse"])) if given.keys() >= {"self", "recurse"} else []


def _spent(frame: FrameType) -> tuple[str, Mark | None]:
    """A variable with an iterator over the parameters of a module that was read to its end, and its second use."""
    from torch.nn import Module

    codes = [sites.code_of(Module.parameters), sites.code_of(Module.named_parameters)]
    for name, value in list(sites.variables(frame).items()):
        if type(value) is GeneratorType and value.gi_code in codes and value.gi_frame is None:
            uses = stores.loads(frame.f_code, name)
            if len(uses) > 1:
                return name, uses[1]
    return "", None


def _computed_from(value: object, key: int) -> bool:
    """Whether a tensor is computed, in few operations, from the leaf of this id."""
    todo, left = [getattr(value, "grad_fn", None)], _FEW
    while todo and left:
        left -= 1
        node = todo.pop()
        if id(getattr(node, "variable", None)) == key:
            return True
        todo += [following for following, _ in getattr(node, "next_functions", ())]
    return False


def _reassigned(name: str, built: Mark | None, frames: list[FrameType]) -> Mark | None:
    """The one line that gives a variable another value than the optimizer took."""
    for frame in frames:
        own = sites.variables(frame)
        if name.startswith("self."):
            codes = list(methods(type(own["self"]))) if "self" in own else []
        else:
            codes = [frame.f_code] if name in own else []
        marks = [mark for code in codes for mark in stores.assignments(code, name)]
        if built is not None:
            before = [mark for mark in marks if mark.code is built.code and mark.last < built.last]
            marks = [mark for mark in marks if mark not in before[-1:]]
        if codes:
            return marks[0] if len(marks) == 1 else None
    return None


def _value(name: str, frames: list[FrameType]) -> object:
    """What a variable of the user's stands for; only plain names, and attributes of `self`."""
    for frame in frames:
        own = sites.variables(frame)
        if name.startswith("self."):
            if "self" in own:
                return getattr(own["self"], "__dict__", {}).get(name[5:])
        elif name in own:
            return own[name]
        elif name in frame.f_globals:
            return frame.f_globals[name]
    return None
