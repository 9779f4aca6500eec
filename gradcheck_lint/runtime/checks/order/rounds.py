"""How backwards, clearings, clippings and steps go together over several steps of one optimizer.

Sightings: WindowCleared (gradients are cleared between the backwards of one step), StepOutside (the same, with
the step outside of the loop that goes backward), WindowEarly (a window that closes on its first backward),
WindowClipped (clipping between the backwards of one step), SkipLeft (a backward that no step follows leaves its
gradients to the next), WindowSpills (what is left over when a loop ends goes into the first step of the next round),
NeverStepped (gradients are made and cleared, and never used).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.holding import shares_ids
from gradcheck_lint.runtime import patches
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.reach.cuts import Cuts
from gradcheck_lint.runtime.reading import beginning, equal
from gradcheck_lint.runtime.sightings.order import (
    EmptyStep,
    NeverStepped,
    SkipLeft,
    StepOutside,
    WindowCleared,
    WindowClipped,
    WindowEarly,
    WindowSpills,
)
from gradcheck_lint.runtime.sites import resolve
from gradcheck_lint.runtime.subject import is_lazy
from gradcheck_lint.runtime.trails import calls, divides, left_loop, same_calls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark
    from gradcheck_lint.runtime.window import Round

_WALKS = 3  # backwards of which we look whether they are after the gradient of an input
_PASSED = 3  # steps in a row that every backward so far has passed by
_MADE = 3  # backwards after which a step should have come
_CUT = 20  # how many there have to be where the run did not come to its end: the step can still have been to come
_AGAIN = 2  # windows with something left over from the one before
_BYTES = 16  # values of a parameter that are compared


class Began(NamedTuple):
    """What an optimizer held when it was met."""

    ids: set[int]
    values: list[Tensor]  # some of them


class Idle(NamedTuple):
    """An optimizer that steps and has never had a gradient."""

    seen: object  # what the observer keeps of the latest step that found none
    still: bool  # whether that was the latest step that was looked at
    backwards: int  # of the whole program, when that began
    latest: int  # how many the thread that is listened to had made at that step
    passed: int  # how many of these steps in a row had a backward before them


class Rounds(Check):
    """Reads the rounds that observers record; values only when something is suspected."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._judged: dict[int, int] = {}  # the step of each optimizer up to which its rounds were judged
        self._began: dict[int, Began] = {}
        self._lately: dict[int, list[Tensor]] = {}  # the same values of those that have not stepped yet
        self._idle: dict[int, Idle] = {}
        self._spilt: set[int] = set()  # optimizers of which that was told
        self._inputs = False  # some backward reached a leaf that is no parameter: its gradient may be what is wanted

    def attached(self, observer: Observer) -> None:
        self._began[observer.watched.index] = Began(observer.ids(), _values(observer))

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        from torch.nn import Parameter

        if self._inputs or self.session.backwards > _WALKS:
            return
        held = self.session.roster.held()
        leaves = self.session.backward.walk(roots).leaves
        self._inputs = any(not isinstance(leaf, Parameter) and id(leaf) not in held for leaf in leaves)

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        for observer in touched:
            if observer.watched.steps == 0 and observer.watched.zeros > 1:
                self._lately[observer.watched.index] = _values(observer)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        index, steps = observer.watched.index, observer.watched.steps
        if observer.verdicts.idle is not None:
            known = self._idle.get(index)
            again = known is None or known.seen is not observer.verdicts.idle  # this step too has found nothing
            made = self.session.backwards
            passed = (known.passed if known else 0) + 1 if again and made > (known.latest if known else 0) else 0
            begun = known.backwards if known else patches.counts().backwards
            self._idle[index] = Idle(observer.verdicts.idle, again, begun, made, passed)
            cut_off = index in self.session.check(Cuts).whole
            if passed == _PASSED == steps and (cut_off or self._all_idle()):
                self._tell_idle(observer, since=1)
        if self._judged.get(index) == steps or not observer.window.rounds or observer.opaque:
            return
        self._judged[index] = steps
        rounds = list(observer.window.rounds)
        self._cleared(observer, rounds)
        self._clipped(observer, rounds)
        if len(rounds) == 3:
            self._early(observer, rounds, left=0)
        if index not in self._spilt and len(rounds) > 3:
            self._spills(observer, rounds)
        if len(rounds) > 1:
            self._left(observer, rounds[:-1], rounds[-1].window, mark)

    def ended(self) -> None:
        for observer in self.session.observers.values():
            if observer.opaque:
                continue
            if observer.verdicts.idle is not None and not observer.watched.backwards:
                self._tell_idle(observer)
            if not observer.awake:
                continue
            if observer.watched.steps == 0:
                self._never_stepped(observer)
            elif observer.window and observer.window.rounds:
                rounds = list(observer.window.rounds)
                if len(rounds) == 2:
                    self._early(observer, rounds, left=len(observer.window))
                self._left(observer, rounds, tuple(observer.window), None)

    # What may be wrong

    def _cleared(self, observer: Observer, rounds: list[Round]) -> None:
        last = rounds[-1]
        if len(rounds) < 2 or not last.dropped or not last.untouched or len(last.window) != 1:
            return
        before = rounds[-2]
        if len(before.dropped) != len(last.dropped) or _line(before) is None or _line(before) != _line(last):
            return
        used = last.window[0]
        way = observer.machine.trails.get(used.order, ())
        for dropped in last.dropped:
            if len(dropped.window) != 1 or not same_calls(
                way, observer.machine.trails.get(dropped.window[0].order, ())
            ):
                return
            if self._used_by_another(observer, dropped.window[0]):
                return
        scene, made, cleared = observer.scene(last.mark), resolve(used.mark), resolve(last.dropped[-1].mark)
        backwards = len(last.dropped) + 1
        if left_loop(way, last.trail):
            self.session.take(StepOutside(scene, made=made, cleared=cleared, backwards=backwards))
        else:
            self.session.take(WindowCleared(scene, made=made, cleared=cleared, backwards=backwards))

    def _used_by_another(self, observer: Observer, event: Event) -> bool:
        others = (other for other in self.session.observers.values() if other is not observer)
        return any(
            not other.awake
            or other.machine.unrecorded > event.order
            or any(event in round_.window for round_ in other.window.rounds)
            for other in others
        )

    def _clipped(self, observer: Observer, rounds: list[Round]) -> None:
        if len(rounds) < 2:
            return
        before, last = rounds[-2:]
        for round_ in (before, last):
            if len(round_.window) < 2 or _line(round_) is None or round_.dropped:
                return
            if len(round_.clips) != len(round_.window) or len(set(round_.clips)) != 1:
                return
        if len(before.window) == len(last.window) and _line(before) == _line(last):
            scene, made = observer.scene(last.clips[0]), resolve(last.window[0].mark)
            self.session.take(WindowClipped(scene, made=made, backwards=len(last.window)))

    def _early(self, observer: Observer, rounds: list[Round], left: int) -> None:
        """One backward before the first step, and k before each of the others; or the last is k - 1 short of a step."""
        first, size = rounds[0], len(rounds[1].window)
        if len(first.window) != 1 or size < 2 or any(len(round_.window) != size for round_ in rounds[1:]):
            return
        if left and (left != size - 1 or size < 3):
            return
        if any(_line(round_) != _line(first) or round_.mark != first.mark or round_.dropped for round_ in rounds):
            return
        if _line(first) is not None and observer.machine.finite():
            made = resolve(first.window[0].mark)
            self.session.take(WindowEarly(observer.scene(first.mark), made=made, size=size))

    def _left(self, observer: Observer, before: list[Round], window: tuple[Event, ...], mark: Mark | None) -> None:
        """More backwards than each step had before, of the same line, and not all of their gradients are numbers."""
        usual = len(before[0].window)
        if not usual or len(window) <= usual or any(len(round_.window) != usual for round_ in before):
            return
        line = _line(before[0])
        if line is None or any(event.mark != line for event in window) or any(_line(r) != line for r in before):
            return
        finite = observer.machine.finite()
        if not finite or (mark is None and len(before) > 2 and len(window) > 2 * usual):
            scene, used = observer.scene(line), resolve(mark)
            self.session.take(SkipLeft(scene, used=used, window=len(window), usual=usual, finite=finite))

    def _spills(self, observer: Observer, rounds: list[Round]) -> None:
        """Each so many steps, from the first so many on, a window has a few backwards more: by the rest of a division.

        Who counts samples has such windows too, and divides nothing.
        """
        sizes = [len(round_.window) for round_ in rounds]
        usual, window = min(sizes), max(sizes)
        if not 1 < usual < window < 2 * usual or sizes[-1] != window or len(set(sizes)) != 2:
            return
        at = [index for index, size in enumerate(sizes) if size == window]
        line = _line(rounds[0])
        if len(at) < _AGAIN or len(rounds) != observer.watched.steps or {b - a for a, b in pairwise(at)} != {at[0]}:
            return
        if line is None or any(_line(r) != line or r.mark != rounds[0].mark or r.dropped for r in rounds):
            return
        step = rounds[0].mark
        if step is not None and divides(step.code) and observer.machine.finite():
            self._spilt.add(observer.watched.index)
            scene, made = observer.scene(step), resolve(line)
            self.session.take(WindowSpills(scene, window=window, usual=usual, every=at[0], made=made))

    def _all_idle(self) -> bool:
        """Whether no optimizer has had a gradient so far: else it may be another's turn."""
        observers = self.session.observers.values()
        return not any(o.watched.backwards or o.opaque or o.broken for o in observers)

    def _tell_idle(self, observer: Observer, since: int | None = None) -> None:
        """It has stepped from the first to the last without any gradient, and has moved nothing."""
        if observer.verdicts.idle is None or any(parameter.grad is not None for parameter in observer.parameters()):
            return
        began, now = self._began.get(observer.watched.index), _values(observer)
        if not observer.awake and observer.optimizer is None:  # it is gone with the function that built it
            idle = self._idle.get(observer.watched.index)
            if idle is None or not idle.still or idle.backwards != patches.counts().backwards:
                return
        elif not observer.awake and (began is None or not _same(began.values, now)):
            return
        mark, tally = observer.verdicts.idle
        if not observer.verdicts.named_only(mark, "backward"):
            elsewhere = bool(self.session.backwards)
            way = self.session.check(Cuts).whole.get(observer.watched.index)
            self.session.take(
                EmptyStep(
                    observer.scene(mark, since), tally=tally, elsewhere=elsewhere,
                    cut=resolve(way.mark) if way is not None else None,
                )
            )  # fmt: skip

    def _never_stepped(self, observer: Observer) -> None:
        watched = observer.watched
        enough = _MADE if self.session.record.ended == "ended" else _CUT
        if watched.backwards < enough or watched.zeros < 2 or self._inputs or observer.machine.skipped:
            return
        began = self._began.get(watched.index)
        others = [o for o in self.session.observers.values() if o is not observer and o.watched.steps]
        if began is None or any(shares_ids(began.ids, other.ids()) is not NO for other in others):
            return
        if not _same(began.values, self._lately.get(watched.index, [])):
            return  # somebody moves them all the same
        latest = observer.latest.get("backward")
        site = observer.built if others and observer.built is not None else latest.mark if latest else None
        code = latest.mark.code if latest is not None and latest.mark is not None else None
        somewhere = code is not None and calls(code, watched.name.rpartition(".")[2], "step")
        stepped = tuple(other.label for other in others)
        if latest is not None and observer.verdicts.named_only(latest.mark, "step"):
            return
        self.session.take(
            NeverStepped(observer.scene(site), backwards=watched.backwards, stepping=stepped, somewhere=somewhere)
        )


def _line(round_: Round) -> Mark | None:
    """The line that made all gradients of a round; None if there were several."""
    lines = [event.mark for event in round_.window]
    return lines[0] if lines and all(line == lines[0] for line in lines) else None


def _same(then: list[Tensor], now: list[Tensor]) -> bool:
    """Whether these values are all equal; not if there are none any more."""
    return len(then) == len(now) and all(equal(a, b) for a, b in zip(then, now, strict=True))


def _values(observer: Observer) -> list[Tensor]:
    """A few values of a few parameters."""
    found = [p for p in observer.parameters() if not is_lazy(p) and not p.is_sparse and not p.is_meta]
    return [beginning(p, _BYTES) for p in (found[:1] + found[-1:])]
