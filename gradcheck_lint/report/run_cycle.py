"""The gradient cycle of a run as it is drawn: turn by turn, and in a word what comes again and again.

Not every step is looked at, and a record keeps some hundred moments.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck_lint.runtime.record import Moment, RunRecord

KINDS = ("zero", "backward", "unscale", "clip", "step", "schedule")  # as a turn goes
_ALWAYS = frozenset({"zero", "backward", "step"})
_ALIKE = 2  # so many turns that are alike are drawn, and so many moments of one kind and line in a row
_FEW = 2  # so many more of them are drawn too
_LONG = 24  # moments; a turn that has more is drawn in parts


class Again(NamedTuple):
    """So many more moments like the one before."""

    times: int
    kind: str


class Turn(NamedTuple):
    """The moments that lead to a step, and are it; or a part of them."""

    step: int
    moments: tuple[Moment | Again, ...]


class More(NamedTuple):
    """So many more turns like the one before, and the step of the last of them."""

    turns: int
    last: int


def kinds(record: RunRecord, optimizer: int) -> list[str]:
    """The kinds of moments that have a row in the picture of an optimizer."""
    happened = happening(record, optimizer)
    return [kind for kind in KINDS if kind in _ALWAYS or kind in happened]


def happening(record: RunRecord, optimizer: int) -> set[str]:
    """The kinds of moments that there were."""
    return {moment.kind for moment in record.moments if moment.optimizer == optimizer}


def cycle(record: RunRecord, optimizer: int) -> list[Turn | More]:
    """What happened to the gradients of an optimizer. A turn in which something was found is drawn in any case."""
    wrong = wrong_places(record, optimizer)
    found: list[Turn | More] = []
    like: list[tuple[str, str]] = []
    times = 0
    left: list[tuple[int, list[Moment]]] = []
    turns = _turns(m for m in record.moments if m.optimizer == optimizer and m.kind in KINDS)
    for index, (step, moments) in enumerate(turns):
        now = [(moment.kind, moment.site) for moment in moments]
        ends = index + 1 == len(turns) or turns[index + 1][0] > step + 1  # nobody has looked at what came then
        if now == like or (ends and now == like[: len(now)]):
            times += 1
        else:
            times, like = 1, now
        if times > _ALIKE and not any((moment.site, step) in wrong for moment in moments):
            left.append((step, moments))
            continue
        found += [*_told(left), *_parts(step, moments)]
        left = []
    return found + _told(left)


def _told(left: Sequence[tuple[int, list[Moment]]]) -> list[Turn | More]:
    if len(left) > _FEW:
        return [More(len(left), left[-1][0])]
    return [part for step, moments in left for part in _parts(step, moments)]


def _turns(moments: Iterable[Moment]) -> list[tuple[int, list[Moment]]]:
    """The moments by the step to which they lead; what comes late in a turn may count for the next one."""
    found: list[tuple[int, list[Moment]]] = []
    latest = 1
    for moment in moments:
        latest = max(latest, moment.step + (moment.kind not in ("step", "schedule")))
        if not found or found[-1][0] != latest:
            found.append((latest, []))
        found[-1][1].append(moment)
    return [
        (step, some)
        for index, (step, some) in enumerate(found)
        if some[0].kind != "schedule" or (index and found[index - 1][0] == step - 1)  # else its step was not looked at
    ]


def _parts(step: int, moments: Sequence[Moment]) -> list[Turn]:
    """The turn, without what comes again and again in it, in parts that are not too long."""
    short: list[Moment | Again] = []
    for (kind, _), group in groupby(moments, lambda moment: (moment.kind, moment.site)):
        some = list(group)
        short += some if len(some) <= _ALIKE + _FEW else [*some[:_ALIKE], Again(len(some) - _ALIKE, kind)]
    return [Turn(step, tuple(short[at : at + _LONG])) for at in range(0, len(short), _LONG)]


def wrong_places(record: RunRecord, optimizer: int) -> set[tuple[str, int]]:
    """The lines of findings and the steps at which they were seen, but for those that speak of another optimizer."""
    others = [f" of {other.label}:" for other in record.optimizers if other.index != optimizer]
    return {
        (f"{finding.span.path}:{finding.span.line}", finding.step)
        for finding in record.findings
        if finding.step is not None and not any(other in finding.label for other in others)
    }
