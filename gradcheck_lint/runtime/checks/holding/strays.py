"""Leaves that backward fills and that no optimizer holds: looks at the graph of losses, and finds them.

What they stand for say `unheld` and `replaced`. Sighting: LayerRebuilt (parameters that are new for each loss).
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import stores
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.holding.fronts import in_front, may_be_meant
from gradcheck_lint.runtime.checks.holding.identity import Identity
from gradcheck_lint.runtime.checks.holding.leaves import Leaves
from gradcheck_lint.runtime.checks.holding.replaced import Replaced
from gradcheck_lint.runtime.checks.holding.stray import FRESH, Stray, alike, steps_of_all
from gradcheck_lint.runtime.checks.holding.unheld import Untold
from gradcheck_lint.runtime.codes import methods
from gradcheck_lint.runtime.graph import uses
from gradcheck_lint.runtime.sightings.holding import LayerRebuilt
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

WALKS = 3  # backwards of each optimizer whose graph is walked before sampling begins
_WALKS = 24  # of all optimizers together
_AGAIN = 3  # how often a step without gradients makes the next graph be walked
_LATE = 1000  # steps after which missing parameters are told; until then an optimizer for them may still come
_SOON = (3, 4, 5, 20)  # those at which it is asked whether that is out of the question
_NOTED = 2  # the step at which it is noted which parameters nobody holds
_IDLE = 200  # of them that are asked now and then whether they get gradients
_SCALES = frozenset({"Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Exp", "Log", "Pow", "Sqrt", "Sigmoid", "Softplus"})
_MOST = 2000  # leaves that are remembered


class Strays(Check):
    """Looks at the graph of the first losses, and later now and then or when something is odd."""

    hears = frozenset({Call.MODULE_APPLY, Call.MODULE_LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        session.looking_elsewhere.append(self)
        self._leaves = Leaves()
        self._replaced = Replaced(session, self._leaves)
        self._unheld = Untold(session, self._leaves)
        self._again = 0  # how many of the next backwards are to be walked
        self._more = _WALKS
        self._idle: list[tuple[weakref.ref[Module], str]] = []  # parameters that nobody holds
        self._asked: Counter[int] = Counter()

    # What other threads do

    def known(self) -> Collection[int]:
        """The ids of the tensors whose gradients are looked at."""
        return self._leaves.known()

    def forsake(self, ids: set[int] | None) -> None:
        """Another thread is at work on these, None for whatever there is, and this is called in it."""
        self._leaves.forsake(ids)

    def loads(self, parameter: Tensor) -> bool:
        """Whether a state was loaded into the module of a parameter."""
        return self._unheld.has_loaded(parameter)

    # What is given

    def model_found(self) -> None:
        self._unheld.models_found = True

    def attached(self, observer: Observer) -> None:
        self._leaves.held(observer.ids(), found=True)
        self._replaced.attached(observer)

    def optimizer_built(
        self, optimizer: Optimizer, given: object, mark: Mark | None, observer: Observer | None
    ) -> None:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self._leaves.held(held, found=False)
        self._unheld.built(held, optimizer.param_groups, mark, observer)

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        loads = kind is Call.MODULE_LOAD_STATE
        if loads:
            self._unheld.loaded(args[0])
        if self._leaves:
            for stray in self._leaves.within(args[0], recurse=loads):
                stray.look()  # what was written before this call
                stray.compare()

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        """Moving a model at the end of a training, or loading its best state, takes nothing back of what was seen."""
        if not self._leaves:
            return
        if kind is Call.MODULE_APPLY:
            for stray in self._leaves.within(args[0], recurse=False):
                stray.converted()
        elif kind is Call.MODULE_LOAD_STATE:
            held = self.session.roster.held()
            whole = any(id(parameter) in held for parameter in args[0].parameters())
            for stray in self._leaves.within(args[0], recurse=True):
                if whole:
                    stray.restore(steps_of_all(self.session))
                else:
                    stray.look()

    # What backward reaches

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        from torch.nn import Parameter

        for stray in self._leaves.tensors:
            stray.begins(sum(o.watched.steps for o in self.session.observers.values()))
        session = self.session
        number = session.backwards
        early = number <= _WALKS and any(o.watched.backwards < WALKS for o in session.observers.values())
        if not early and not self._again and not session.roster.rarely():
            return
        if options.get("inputs") is not None:
            return
        self._again = max(self._again - 1, 0)
        reached = session.backward.walk(roots)
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
            known = self._leaves.found.get(key)
            if known is not None and known.ref() is leaf:
                known.times += 1
                known.latest = number
                known.observers |= observers
            elif len(self._leaves.found) < _MOST:
                stray = self._leaves.found[key] = Stray(leaf, number, session.registrations.births.get(key), observers)
                stray.plain = plain
                new.add(key)
                if not stray.parameter:
                    stray.factor = leaf.ndim == 0 and uses(roots, leaf) <= _SCALES
                    self._leaves.tensors.append(stray)
                if stray.parameter and observers:
                    self._leaves.news.setdefault(number, []).append(stray)
        if new and not session.turn.clear(new, 0.0):
            self.forsake(new)
        elif new:
            self._note_fronts(roots, new, touched)
            if self._more:
                self._more -= 1
                self._walk_next(observers)  # to see whether it comes again

    def _note_fronts(self, roots: Sequence[Tensor], new: set[int], touched: Sequence[Tensor]) -> None:
        """Which of those that are new lie in front of all that is trained, as what is meant to stay random does."""
        fresh = [stray for key in new if (stray := self._leaves.found.get(key)) is not None and stray.parameter]
        ids = in_front(roots, {id(leaf) for leaf in touched}) if fresh and touched else set()
        front = [(stray, leaf) for stray in fresh if (leaf := stray.ref()) is not None and id(leaf) in ids]
        meant = may_be_meant([leaf for _, leaf in front], touched)
        for stray, _ in front:
            stray.meant = meant

    def _walk_next(self, observers: Collection[int]) -> None:
        """Look at the graph of the next loss, which is that of the next step for these observers."""
        self._again = max(self._again, 1)
        for observer in self.session.observers.values():
            if observer.watched.index in observers:
                observer.attention.attend(2)

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        index, steps = observer.watched.index, observer.watched.steps
        self._unheld.marks[index] = mark
        if not observer.window and self._asked[index] < _AGAIN:
            self._asked[index] += 1
            self._again += 1
        if steps == _NOTED:
            self._note_idle()
            self._unheld.note_names(observer)
        if observer.sampling.is_sample(steps) and (self._thawed() or self._passed_by(observer)):
            self._walk_next({index})
        self._replaced.step_begins(observer, mark)
        for stray in self._leaves.tensors:
            stray.used(sum(o.watched.steps for o in self.session.observers.values()))
        if not self._leaves.found:
            return
        self._judge_rebuilt(observer, mark)
        self._replaced.look(observer, mark)
        self._unheld.collect(observer)
        if self._leaves.pending and steps in _SOON:
            self._unheld.tell_what_is_certain()
        if steps >= _LATE and self._leaves.pending:
            self._unheld.tell()

    def backward_failed(self, event: Event, error: BaseException) -> None:
        self._replaced.backward_failed(event, error)

    def ended(self) -> None:
        self._replaced.ended()
        self._unheld.tell()

    def _thawed(self) -> bool:
        """Whether a parameter of a watched model that nobody holds has got a gradient, and that is news."""
        for owner, key in self._idle:
            module = owner()
            parameter = module._parameters.get(key) if module is not None else None
            if parameter is not None and parameter.requires_grad and parameter.grad is not None:
                known = self._leaves.found.get(id(parameter))
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
        held = self.session.roster.held()
        idle = [
            (weakref.ref(module), key, parameter)
            for _, module in self.session.models.modules()
            for key, parameter in module._parameters.items()
            if parameter is not None and id(parameter) not in held
        ]
        self._idle = [(owner, key) for owner, key, _ in idle[:_IDLE]]
        self._unheld.note_frozen(p for _, _, p in idle[:_MOST])

    # New for each loss

    def _judge_rebuilt(self, observer: Observer, mark: Mark | None) -> None:
        """Parameters that are there for one loss, and others like them for the next."""
        identity = self.session.check(Identity)
        for number in sorted(self._leaves.news):
            before, after = self._leaves.news[number], self._leaves.news.get(number + 1)
            if after is None:
                continue
            del self._leaves.news[number]
            gone = [stray for stray in before if stray.latest == number and stray.ref() is None]
            again = [s for s in after if any(alike(s, other) for other in gone)]
            if not again or any((leaf := s.ref()) is not None and leaf._version > FRESH for s in again):
                continue
            lines = {stray.mark and (stray.mark.code, stray.mark.line): stray for stray in again}.values()
            made = [line.mark or self._made_in_forward() for line in lines]
            if observer.watched.steps <= _NOTED and self.session.options.everything and not all(made):
                continue  # where it is made shows once the model is known, which may be found at this step only
            for stray in (*gone, *again):
                identity.told.add(next((key for key, value in self._leaves.found.items() if value is stray), 0))
                if stray.mark is not None:
                    identity.rebuilt.add((stray.mark.code, stray.mark.line))
            self._leaves.found = {key: s for key, s in self._leaves.found.items() if s not in gone and s not in again}
            for one in made:
                self.session.take(LayerRebuilt(observer.scene(one or mark), made=resolve(one)))

    def _made_in_forward(self) -> Mark | None:
        """The one place at which a module of the user's makes a parameter outside of its constructor."""
        kinds = {type(module) for _, module in self.session.models.modules()}
        codes = {code for kind in kinds for code in methods(kind, "forward") if code.co_name != "__init__"}
        marks = [mark for code in codes if (mark := stores.uses(code, ("Parameter",))) is not None]
        return marks[0] if len(marks) == 1 else None
