"""The gradients of one optimizer: which of them a backward has touched, and what became of them in between.

They are looked at as objects, all at once, before and after each backward and after each step: a gradient that backward
adds to is another tensor afterwards or has another version. So no hook is needed on the parameters, which would cost
time long after it was removed. Only where the program itself has a hook that may take a gradient away while backward
runs, one of ours stands behind it. Values are read only on suspicion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime.reading import finite, local
from gradcheck_lint.runtime.references import Ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

LOOKED_AT = 3  # gradients of which values are read where it matters whether they were cleared
_PIECE = 16  # elements of each of those


class Objects(NamedTuple):
    """Which tensors the gradients were at some moment, and in which version, in the order of the parameters."""

    ids: list[int]  # `NOTHING` where there was none
    versions: list[int]


class Touched(NamedTuple):
    """What one backward did."""

    where: list[int]  # the parameters that got a gradient, by their place in the optimizer
    empty: bool  # some had none before, or another tensor than the last step had left
    old: bool  # some held what an earlier step had used
    zero: bool  # some held zeros
    dropped: bool  # one that was made for the step to come had been taken away


NOTHING = id(None)
_CLEAN = Objects([], [])  # no parameter had a gradient


def objects(grads: Sequence[Tensor | None]) -> Objects:
    """What these gradients are now; `_CLEAN` where there are none."""
    for grad in grads:
        if grad is not None:
            break
    else:
        return _CLEAN
    return Objects(list(map(id, grads)), [-1 if grad is None else grad._version for grad in grads])


def holds_something(grad: Tensor) -> bool:
    """Whether a gradient is not all zeros. Makes an accelerator wait, so only where gradients seem to be kept."""
    return bool(local(grad).any())


class Gradients:
    """What is known of them. `parameters` is given anew each time, for they may change; while backward runs, and only
    then, the gradients that were there before are kept.
    """

    def __init__(self) -> None:
        self.received: dict[int, None] = {}  # ids of the parameters that ever got one, in the order of the first time
        self._spent: Objects | None = None  # as the last step left them, until they are cleared
        self._before: Objects = _CLEAN  # as backward found them
        self._held: list[Tensor | None] = []  # those, so that no other tensor can be taken for one of them
        self._looked: dict[int, bool] = {}  # of some of them, whether they held something then
        self._where: list[int] = []  # what the last backward touched
        self._fed: Sequence[int] | set[int] = ()  # what the backwards since the last step or clearing have touched
        self._hooked: dict[int, Any] = {}  # our handles, by the id of the parameter
        self._heard: list[Tensor] = []  # parameters of which a hook told us while backward ran
        self._made: list[tuple[int, Ref, Tensor]] = []  # place, which and beginning of some, as backward made them
        self._touched = False  # they have been clipped or unscaled since, as they should be

    # Backward

    def backward_begins(self, parameters: Sequence[Tensor], *, used: bool) -> None:
        """used: whether a step has used the gradients since they were made."""
        self._stand_behind(parameters)
        grads = [parameter.grad for parameter in parameters]
        self._before = before = objects(grads)
        self._held = grads
        self._looked = {}
        if used and before is not _CLEAN:
            where = [index for index in self._where if index < len(grads)] or range(len(grads))
            kept = [index for index in where if grads[index] is not None and self._same(before, index)]
            sizes = [0 if grad is None else grad.numel() for grad in grads]
            others = [index for index, size in enumerate(sizes) if size] if len(kept) < len(grads) else []
            # those that the last backward did not touch may be the ones that this one will
            others = [index for index in others if index not in kept and self._same(before, index)]
            for index in (*_spread(kept, sizes), *_spread(others, sizes)):
                grad = grads[index]
                self._looked[index] = grad is not None and holds_something(grad)

    def backward_ended(self, parameters: Sequence[Tensor], order: Sequence[Tensor] = ()) -> Touched | None:
        """None if it has touched none of these. order: the leaves that it went to, where that is known."""
        before, ids = self._before, self._before.ids
        grads = [parameter.grad for parameter in parameters]
        self._held = []
        if before is _CLEAN:
            where = [index for index, grad in enumerate(grads) if grad is not None]
            if where and where == self._where and not self._fed and not self._heard:
                self._fed = where
                return Touched(where, True, False, False, False)  # what nearly every backward does
        elif len(ids) != len(grads):
            where = []  # the optimizer was given others meanwhile
        else:
            versions = before.versions
            where = [
                index
                for index, grad in enumerate(grads)
                if grad is not None and (id(grad) != ids[index] or grad._version != versions[index])
            ]
        if self._heard:
            heard = {id(parameter) for parameter in self._heard}
            self._heard.clear()
            where = sorted({*where, *(i for i, parameter in enumerate(parameters) if id(parameter) in heard)})
        if not where:
            return None
        if where != self._where or not self.received:
            self._where = where
            self._receive([parameters[index] for index in where], order)
        touched = self._judge(where)
        self._fed = where if not self._fed else {*self._fed, *where}
        return touched

    def _judge(self, where: list[int]) -> Touched:
        before, fed = self._before, self._fed
        if before is _CLEAN:
            return Touched(where, True, False, False, bool(fed) and not set(where).isdisjoint(fed))
        ids = before.ids
        missing = [index for index in where if ids[index] == NOTHING]
        dropped = bool(fed and missing) and not set(missing).isdisjoint(fed)
        left = [index for index in where if self._left(index)]
        empty = not left or not all(ids[index] != NOTHING and self._same(before, index) for index in left)
        looked = [something for index, something in self._looked.items() if index in where]
        return Touched(where, empty, any(looked), bool(looked) and not all(looked), dropped)

    def _left(self, index: int) -> bool:
        """Whether the last step has left a gradient there, as far as is known."""
        spent = self._spent
        return spent is None or (index < len(spent.ids) and spent.ids[index] != NOTHING)

    def _same(self, before: Objects, index: int) -> bool:
        """Whether this was the gradient that the last step left, not another tensor put in its place."""
        spent = self._spent
        return spent is None or len(spent.ids) <= index or spent.ids[index] == before.ids[index]

    def _receive(self, parameters: list[Tensor], order: Sequence[Tensor]) -> None:
        known = self.received
        new = [id(parameter) for parameter in parameters if id(parameter) not in known]
        if new and order:
            place = {id(leaf): number for number, leaf in enumerate(order)}
            new.sort(key=lambda key: place.get(key, len(place)))
        elif new:
            new.reverse()  # backward mostly comes to the last layers first
        known.update(dict.fromkeys(new))

    def _stand_behind(self, parameters: Sequence[Tensor]) -> None:
        for parameter in parameters:
            if getattr(parameter, "_post_accumulate_grad_hooks", None) and id(parameter) not in self._hooked:
                handle = parameter.register_post_accumulate_grad_hook(self._heard.append)  # type: ignore[no-untyped-call]
                self._hooked[id(parameter)] = handle

    def unhook(self) -> None:
        """Take our hooks out again."""
        for handle in self._hooked.values():
            handle.remove()
        self._hooked.clear()
        self._heard.clear()

    # Between backwards

    def used(self) -> None:
        """A step has used them or they were cleared: what comes now belongs to the next step."""
        self._fed = ()

    def cleared(self) -> None:
        """They were cleared, by a call that was seen."""
        self._fed = ()
        self._spent = None

    def remember(self, parameters: Iterable[Tensor]) -> None:
        """A step is over: what it has left."""
        self._spent = objects([parameter.grad for parameter in parameters])

    def forget(self) -> None:
        """What is known of the gradients of this moment holds no more."""
        self._fed, self._spent, self._before = (), None, _CLEAN
        self._held, self._where = [], []
        self._looked, self._made = {}, []

    def written(self, parameters: Sequence[Tensor]) -> bool:
        """Whether somebody has put gradients there that no backward was seen to make. Reads values."""
        spent = self._spent
        for index, parameter in enumerate(parameters):
            grad = parameter.grad
            if grad is None:
                continue
            if spent is not None and index < len(spent.ids):
                if spent.ids[index] == id(grad) and spent.versions[index] == grad._version:
                    continue
            if holds_something(grad):
                return True
        return False

    def erased(self, parameters: Sequence[Tensor]) -> bool:
        """Whether none is there any more; not where the program has hooks of its own."""
        if any(parameter.grad is not None for parameter in parameters):
            return False
        for parameter in parameters:
            hooks = getattr(parameter, "_post_accumulate_grad_hooks", None)
            if hooks and len(hooks) > (id(parameter) in self._hooked):
                return False
        return True

    # Values, on suspicion

    @staticmethod
    def finite(parameters: Sequence[Tensor]) -> bool:
        """Whether the gradients hold numbers only."""
        return all(finite(local(p.grad)) for p in parameters if p.grad is not None)

    def probe(self, parameters: Sequence[Tensor]) -> None:
        """Remember some of them as backward left them."""
        self._touched = False
        self._made = []
        for index in _spread(self._where, [parameter.numel() for parameter in parameters]):
            grad = parameters[index].grad
            if grad is not None and not grad.is_sparse:
                self._made.append((index, Ref(grad), local(grad).reshape(-1)[:_PIECE].clone()))

    def touch(self, parameters: Sequence[Tensor]) -> None:
        """They are changed as they should be: clipped or unscaled."""
        if self._made and not self.untouched(parameters):
            self._made = []  # they had been changed before in another way
        self._touched = True

    def untouched(self, parameters: Sequence[Tensor]) -> bool:
        """Whether they are what backward made of them, as far as was looked."""
        pairs = self._since(parameters)
        if not pairs:
            return False
        same = _clipped if self._touched else _same
        return all(same(then, now) for then, now in pairs)

    def summed(self, parameters: Sequence[Tensor]) -> bool:
        """Whether what backward has added up is still in them; it may have been clipped by hand, or divided.

        Not if somebody has put something else in its place, of which nobody can tell by the tensors themselves.
        """
        pairs = self._since(parameters)
        if not pairs:
            return not self._made
        return self._touched or all(_clipped(then, now) for then, now in pairs)

    def _since(self, parameters: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of some gradients the beginning as backward has left it, and as it is now; none if one is another tensor."""
        pairs = []
        for index, made, values in self._made:
            grad = parameters[index].grad if index < len(parameters) else None
            if grad is None or made() is not grad:
                return []
            pairs.append((values, local(grad).reshape(-1)[:_PIECE]))
        return pairs


def _same(then: Tensor, now: Tensor) -> bool:
    return bool((now == then).logical_or(then.isnan()).all())


def _clipped(then: Tensor, now: Tensor) -> bool:
    """Whether these are the same numbers, or were made smaller: all by one factor, or the largest down to a bound."""
    same = (now == then).logical_or(then.isnan())
    if bool(same.all()):
        return True
    factors = now[then != 0] / then[then != 0]
    if factors.numel() < 2:
        return False
    first = factors[0]
    if 0 < first <= 1 and bool(((factors - first).abs() <= 1e-3 * first).all()):
        return True
    others, bound = ~same, now.abs().max()
    return bool(((now[others].abs() == bound) & (then[others].abs() > bound) & (now[others] * then[others] > 0)).all())


def _spread(places: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """A few of these places, spread over all of them, small tensors where there is a choice."""
    if len(places) <= LOOKED_AT:
        return list(places)
    part = len(places) / LOOKED_AT
    chosen = []
    for number in range(LOOKED_AT):
        among = places[int(number * part) : max(int((number + 1) * part), int(number * part) + 1)]
        small = [place for place in among if sizes[place] > 1] or among
        chosen.append(min(small, key=lambda place: sizes[place]))
    return chosen
