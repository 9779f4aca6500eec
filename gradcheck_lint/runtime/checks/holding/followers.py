"""Averages of a network that is trained: is what is written into them ever another value?

An average is a network that no optimizer holds, of the form of one that is trained, near the loop that trains. Versions
tell that it is written, a piece of its values that this changes nothing. Sightings: AverageStill, BuffersStill, and
StatisticsOfAnother (an average of torch's own is evaluated with the statistics that another model's norm layers have).
"""

from __future__ import annotations

import math
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import reading, sites, stores
from gradcheck_lint.runtime.by_hand import paired, writes_networks
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.numbers.values import Values
from gradcheck_lint.runtime.codes import at_hand
from gradcheck_lint.runtime.names import modules_near, variable
from gradcheck_lint.runtime.references import Ref
from gradcheck_lint.runtime.sightings.numbers import AverageStill, BuffersStill, StatisticsOfAnother

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from types import FrameType

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

FIRST, LATER = 2, (5, 20)  # the steps at which values are kept, and compared with those
_WRITES = 3  # into each tensor, from the one look to the other
_MOST = 4  # averages that are followed, and tensors of each
_MOVED = 1e-3  # of the size of a weight: how far the network has to have come
_FAR = 3e-2  # and how far where an average that is written in several steps may be off by rounding
_ROUNDING = 1e-6
_SLOWEST = 3e-5  # of the way of the network: less than any average comes in so many steps

_MOVES = frozenset({"lerp_", "mul_", "_foreach_lerp_", "_foreach_mul_"})
_COPIES = frozenset({"copy_", "lerp_", "_foreach_copy_", "_foreach_lerp_"})
_WEIGHTS = frozenset({"parameters", "named_parameters", "state_dict"})
_BUFFERS = frozenset({"buffers", "named_buffers", "get_buffer"})


class _Kept(NamedTuple):
    """A tensor of an average, and the one of the network that it should follow."""

    average: Ref
    network: Ref
    version: int
    before: Tensor
    then: Tensor
    buffer: bool


class _Pair(NamedTuple):
    average: str
    network: str
    half: str
    kept: list[_Kept]


class _Evaluated(NamedTuple):
    """An average of torch's own that was put into evaluation mode."""

    average: weakref.ref[Any]
    network: weakref.ref[Module]
    name: str
    updates: int
    mark: Mark | None


class Followers(Check):
    """Looks at one optimizer's network, three times."""

    hears = frozenset({Call.MODULE_LOAD_STATE})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._pairs: dict[int, list[_Pair]] = {}  # by observer
        self._evaluated: dict[int, _Evaluated] = {}  # by average
        self._told: set[str] = set()

    # Whether they move

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        steps = observer.watched.steps
        if steps == FIRST and self.session.options.level != "light":
            self._find(observer)
        elif steps in LATER and self._pairs.get(observer.watched.index):
            for pair in self._pairs[observer.watched.index]:
                self._compare(observer, pair, last=steps == LATER[-1])
            if steps == LATER[-1]:
                del self._pairs[observer.watched.index]

    def _find(self, observer: Observer) -> None:
        ids, frames = observer.ids(), sites.frames(2)
        held = self.session.roster.held()
        around = [m for m in modules_near(frames) if not all(id(p) in held for p in m.parameters())]
        if not around:
            return  # nothing at hand but what is trained
        trained = [m for _, m in self.session.models.modules() if _all_in(m, ids)]
        pairs = paired(around, trained, lambda module: _none_in(module, held))
        if not pairs or not writes_networks(frames):
            return
        kept = [
            _Pair(
                variable(average, frames) or "the average", variable(network, frames) or "the network",
                _half(average), _kept(average, network),
            )
            for average, network in pairs[:_MOST]
        ]  # fmt: skip
        self._pairs[observer.watched.index] = [pair for pair in kept if pair.kept]

    def _compare(self, observer: Observer, pair: _Pair, *, last: bool) -> None:
        import torch

        numbers, kept = [], []
        for one in pair.kept:
            average, network = one.average(), one.network()
            if average is None or network is None:
                return
            now, then = reading.piece(reading.local(average)), reading.piece(reading.local(network))
            if now.shape != one.before.shape or then.shape != one.then.shape or now.device != then.device:
                return
            with torch.no_grad():
                before = one.before.float(), one.then.float()
                sizes = [(now.float() - before[0]).norm(), (then.float() - before[1]).norm(), before[1].norm()]
                numbers.append(torch.stack(sizes))
            kept.append((one, average._version - one.version))
        plans = self.session.check(Values).plans
        plans.later.read([torch.stack(numbers).reshape(-1)], partial(self._judge, observer, pair, kept, last))

    def _judge(
        self, observer: Observer, pair: _Pair, kept: list[tuple[_Kept, int]], last: bool, values: list[list[float]]
    ) -> None:
        if not all(map(math.isfinite, values[0])):
            return
        rows = [values[0][i : i + 3] for i in range(0, len(values[0]), 3)]
        weights = [(row, times) for (one, times), row in zip(kept, rows, strict=True) if not one.buffer]
        buffers = [(row, times) for (one, times), row in zip(kept, rows, strict=True) if one.buffer]
        weights = [(row, times) for row, times in weights if row[1] >= _MOVED * row[2] > 0]  # what learns
        if not weights or any(times < _WRITES for _, times in weights):
            return
        still = [_still(row, last=last) for row, _ in weights]
        names = (pair.average,)
        if all(still):
            if pair.average in self._told or (pair.half and not last):
                return
            self._told.add(pair.average)
            writers = self._writers("parameters")
            self.session.take(
                AverageStill(
                    observer.scene(_only(writers)),
                    names=names,
                    network=pair.network,
                    half=pair.half,
                    sure=bool(writers),
                )
            )
        elif not any(still) and buffers and all(times >= _WRITES and way > 0 for (_, way, _), times in buffers):
            if any(moved for (moved, _, _), _ in buffers) or pair.average in self._told:
                return
            self._told.add(pair.average)
            writers = self._writers("buffers")
            scene = observer.scene(_only(writers))
            self.session.take(BuffersStill(scene, names=names, network=pair.network, sure=bool(writers)))

    @staticmethod
    def _writers(what: str) -> list[Mark]:
        """Where the user's functions move such tensors; who writes what was kept may mean to go back."""
        names, parts = (_MOVES, _WEIGHTS) if what == "parameters" else (_COPIES, _BUFFERS)
        found: list[Mark] = []
        for code in dict.fromkeys(at_hand(sites.frames(2))):
            asked = stores.uses(code, parts) if not parts.isdisjoint(code.co_names) else None
            if asked is not None:
                calls = [at for name in names & {*code.co_names} for at in stores.calls(code, name)]
                found += sorted((at for at in calls if at.last > asked.last), key=lambda at: at.last)[:1]
        return found

    # Whose statistics they have

    def call_ended(
        self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any], result: object, error: BaseException | None
    ) -> None:
        given = {id(p) for p in args[0].parameters()} if self._pairs else set()
        for index, pairs in self._pairs.items():
            self._pairs[index] = [pair for pair in pairs if not any(id(one.average()) in given for one in pair.kept)]

    def mode_switched(self, module: Module, mode: bool) -> None:
        if type(module).__name__ == "AveragedModel":
            self._evaluated.pop(id(module), None)
            if not mode and _plain(module):
                self.session.guard.run(self._evaluates, module, sites.here(4), sites.frames(4))

    def _evaluates(self, average: Any, mark: Mark | None, frames: list[FrameType]) -> None:
        others = [module for _, module in self.session.models.modules()]
        network = next((network for _, network in paired([average.module], others, lambda _: True)), None)
        if network is not None and _same_statistics(average.module, network):
            name = variable(average, frames) or "the average"
            self._evaluated[id(average)] = _Evaluated(
                weakref.ref(average), weakref.ref(network), name, int(average.n_averaged), mark
            )

    def ended(self) -> None:
        for seen in self._evaluated.values():
            average, network = seen.average(), seen.network()
            if average is None or network is None or _same_statistics(average.module, network):
                scene = self.session.scene_of_next(seen.mark)
                self.session.take(StatisticsOfAnother(scene, names=(seen.name,), updates=seen.updates))


def _only(marks: list[Mark]) -> Mark | None:
    return marks[0] if len(marks) == 1 else None


def _all_in(module: Module, ids: set[int]) -> bool:
    own = [id(p) for p in module.parameters() if p.requires_grad]
    return bool(own) and all(key in ids for key in own)


def _none_in(module: Module, ids: set[int]) -> bool:
    own = [id(p) for p in module.parameters()]
    return bool(own) and not any(key in ids for key in own)


def _half(module: Module) -> str:
    return next((found for p in module.parameters() if (found := reading.half(p))), "")


def _kept(average: Module, network: Module) -> list[_Kept]:
    weights = [
        (mine, theirs)
        for mine, theirs in zip(average.parameters(), network.parameters(), strict=True)
        if theirs.requires_grad and _readable(mine) and _readable(theirs)
    ]
    weights = sorted(weights, key=lambda both: -both[0].numel())[:_MOST]
    others = dict(network.named_buffers())
    buffers = [
        (mine, others[name])
        for name, mine in average.named_buffers()
        if name in others and mine.shape == others[name].shape and _readable(mine) and mine.numel() > 1
    ]
    return [
        _Kept(Ref(mine), Ref(theirs), mine._version, _copy(mine), _copy(theirs), buffer)
        for pairs, buffer in ((weights, False), (buffers[:_MOST], True))
        for mine, theirs in pairs
        if mine.device == theirs.device
    ]


def _readable(tensor: Tensor) -> bool:
    return reading.plain(tensor) is not None


def _copy(tensor: Tensor) -> Tensor:
    return reading.piece(reading.local(tensor)).clone()


def _still(row: Sequence[float], *, last: bool) -> bool:
    """Whether a tensor of an average has not moved, as the network has. A sum of its own parts may be off by a bit."""
    moved, way, size = row
    if moved == 0:
        return True
    return last and moved <= _ROUNDING * size and way >= _FAR * size and moved < _SLOWEST * way


def _plain(average: Any) -> bool:
    """Whether it is the plain mean, as of SWA: what follows closely has the statistics that it needs, more or less."""
    ways = (getattr(average, "avg_fn", None), getattr(average, "multi_avg_fn", None))
    return ways == (None, None) and not getattr(average, "use_buffers", True) and int(average.n_averaged) > 1


def _same_statistics(average: Module, network: Module) -> bool:
    """Whether the norm layers of both have the very same statistics, and have been in use."""
    means = list(zip(_norms(average), _norms(network), strict=False))
    return bool(means) and all(reading.equal(mine, theirs) for mine, theirs in means)


def _norms(module: Module) -> Iterable[Tensor]:
    from torch.nn.modules.batchnorm import _NormBase

    for part in module.modules():
        if isinstance(part, _NormBase) and part.running_mean is not None:
            yield part.running_mean
