"""Do ranks that should be equal differ? Compares what each of them has kept: plain data, without torch.

What is to be equal has to be known first. DistributedDataParallel promises it. Without it ranks may well train
different things, so there it has to have been so: values that were equal and then are not, or equal for most
parameters and not for some, while the ranks talk to each other at each step.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.finding import Confidence, Finding, Related, Severity, Span
from gradcheck_lint.runtime.record import Site
from gradcheck_lint.runtime.structs import frozen, struct

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gradcheck_lint.runtime.sightings.ranks import What

TOLERANCE = 1e-5  # relative; replicas compute the same bits, other machines may add them up in another order


@frozen
class Sample:
    """What one optimizer held as it was about to make a step; lengths of gradients and parameters, None if unknown."""

    step: int
    rates: tuple[float, ...]
    gradients: tuple[float | None, ...]
    parameters: tuple[float | None, ...]
    clips: int  # calls of a clipping function so far
    collectives: int  # that the rank has taken part in so far; -1 if that is not known


@struct
class Kept:
    """One optimizer on one rank."""

    index: int
    kind: str
    label: str
    names: tuple[str, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    replicated: tuple[bool, ...] = ()  # by DistributedDataParallel
    steps: int = 0
    joined: bool = False
    hooked: bool = False
    local: bool = False  # ranks may differ for a while
    samples: list[Sample] = field(default_factory=list)
    sites: dict[str, Site] = field(default_factory=dict)


@struct
class RankReport:
    """What one rank hands over when its run is over."""

    rank: int
    ended: str = "ended"
    optimizers: list[Kept] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As numbers, texts, lists and dicts."""
        return asdict(self)

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> RankReport:
        """What `plain` made, after a way through JSON."""
        return cls(
            plain["rank"],
            plain["ended"],
            [_kept(kept) for kept in plain["optimizers"]],
            [_finding(finding) for finding in plain["findings"]],
        )


def _kept(plain: Mapping[str, Any]) -> Kept:
    samples = []
    for sample in plain["samples"]:
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in sample.items()
        }
        samples.append(Sample(**fields))
    return Kept(
        **{
            **plain,
            "names": tuple(plain["names"]),
            "shapes": tuple(tuple(shape) for shape in plain["shapes"]),
            "replicated": tuple(plain["replicated"]),
            "samples": samples,
            "sites": {what: Site(*site) for what, site in plain["sites"].items()},
        }
    )


def _finding(plain: Mapping[str, Any]) -> Finding:
    return Finding(
        **{
            **plain,
            "severity": Severity(plain["severity"]),
            "confidence": Confidence(plain["confidence"]),
            "span": Span(**plain["span"]),
            "related": tuple(Related(words["message"], Span(**words["span"])) for words in plain["related"]),
            "fix": None,
        }
    )


class Divergence(NamedTuple):
    """What differs between ranks, of one optimizer."""

    what: What
    step: int
    kept: tuple[Kept, ...]  # by rank
    ranks: tuple[int, int]  # one that differs, and one that it differs from
    values: tuple[Any, Any]  # theirs
    names: tuple[str, ...] = ()
    total: int = 0  # parameters that could be compared
    certain: bool = True
    clips: tuple[int, int] = (0, 0)  # how often they had clipped


def compare(reports: Sequence[RankReport]) -> list[Divergence]:
    """At most one divergence for each optimizer, the one from which the others follow."""
    found = []
    for first in reports[0].optimizers if len(reports) > 1 else ():
        twins = [_twin(report, first) for report in reports]
        kept = tuple(twin for twin in twins if twin is not None)
        if len(kept) < len(reports):
            continue
        divergence = _order(kept, reports) or _steps(kept, reports)
        if divergence is None and not any(twin.local for twin in kept):
            divergence = _values(kept, reports)
        if divergence is not None:
            found.append(divergence)
    return found


def _twin(report: RankReport, first: Kept) -> Kept | None:
    """The optimizer of this rank that is a copy of `first`: with the same parameters, in whatever order."""
    for kept in report.optimizers:
        if kept.index == first.index and kept.kind == first.kind:
            same = Counter(zip(kept.names, kept.shapes, strict=True)) == Counter(
                zip(first.names, first.shapes, strict=True)
            )
            return kept if same else None
    return None


def _order(kept: tuple[Kept, ...], reports: Sequence[RankReport]) -> Divergence | None:
    names = [twin.names for twin in kept]
    if len(set(names)) == 1 or any(len(set(order)) < len(order) for order in names):
        return None
    odd, usual = _odd(names)
    where = next(index for index, pair in enumerate(zip(names[odd], names[usual], strict=True)) if pair[0] != pair[1])
    return Divergence(
        "order",
        0,
        kept,
        (reports[odd].rank, reports[usual].rank),
        (names[odd][where], names[usual][where]),
        tuple(a for a, b in zip(names[odd], names[usual], strict=True) if a != b),
        len(names[0]),
    )


def _steps(kept: tuple[Kept, ...], reports: Sequence[RankReport]) -> Divergence | None:
    """Ranks that ended as they should and made more or fewer steps."""
    steps = [twin.steps for twin in kept]
    if len(set(steps)) == 1 or any(report.ended != "ended" for report in reports) or any(k.joined for k in kept):
        return None
    odd, usual = _odd(steps)
    replicated = all(twin.replicated and all(twin.replicated) for twin in kept)
    pair = (steps[odd], steps[usual])
    return Divergence(
        "steps", min(pair), kept, (reports[odd].rank, reports[usual].rank), pair, certain=replicated and min(pair) > 0
    )


def _values(kept: tuple[Kept, ...], reports: Sequence[RankReport]) -> Divergence | None:
    by_step = [{sample.step: sample for sample in twin.samples} for twin in kept]
    common = sorted(set.intersection(*(set(samples) for samples in by_step)))
    agreed = 0  # samples at which everything was equal
    talked = _talk(kept)
    for step in common:
        samples = [of_rank[step] for of_rank in by_step]
        parameters = _differing([sample.parameters for sample in samples])
        gradients = _differing([sample.gradients for sample in samples])
        rates = [sample.rates for sample in samples]
        if not parameters and not gradients and len(set(rates)) == 1:
            agreed += 1
            continue
        what: What = "parameters"
        differing, values = parameters, [sample.parameters for sample in samples]
        if len(set(rates)) > 1:
            odd, usual = _odd(rates)
            ranks = (reports[odd].rank, reports[usual].rank)
            certain = _promised(kept, range(len(kept[0].names))) or (agreed > 0 and talked and not gradients)
            return Divergence("rates", step, kept, ranks, (rates[odd], rates[usual]), certain=certain)
        if parameters and not agreed:
            what = "start"
        elif gradients:
            what, differing, values = "gradients", gradients, [sample.gradients for sample in samples]
        odd, usual = _odd(_alike([value[differing[0]] for value in values]))
        total = sum(all(value[index] is not None for value in values) for index in range(len(values[0])))
        promised = _promised(kept, differing)
        equal = _equal([sample.gradients for sample in samples])
        if what == "start" and not promised and not equal:
            return None  # ranks that train different things, and do not mean to be one
        if not promised and not agreed and not equal:
            return None
        return Divergence(
            what,
            step,
            kept,
            (reports[odd].rank, reports[usual].rank),
            (values[odd][differing[0]], values[usual][differing[0]]),
            tuple(kept[0].names[index] for index in differing),
            total,
            certain=(promised and not any(twin.hooked for twin in kept)) or (not promised and talked),
            clips=(samples[odd].clips, samples[usual].clips),
        )
    return None


def _promised(kept: tuple[Kept, ...], indices: Sequence[int]) -> bool:
    return all(index < len(twin.replicated) and twin.replicated[index] for twin in kept for index in indices)


def _talk(kept: tuple[Kept, ...]) -> bool:
    """Whether the ranks take part in collectives from step to step."""
    for twin in kept:
        counts = [(sample.step, sample.collectives) for sample in twin.samples]
        for (step, count), (later, more) in pairwise(counts):
            if count < 0 or more - count < later - step:
                return False
        if len(counts) < 2:
            return False
    return True


def _differing(columns: Sequence[tuple[float | None, ...]]) -> list[int]:
    """Where the ranks have different numbers."""
    return [
        index
        for index, values in enumerate(zip(*columns, strict=True))
        if None not in values and any(not _same(values[0], value) for value in values[1:])
    ]


def _equal(columns: Sequence[tuple[float | None, ...]]) -> list[int]:
    """Where the ranks have the same number, and it is not nothing."""
    return [
        index
        for index, values in enumerate(zip(*columns, strict=True))
        if values[0] and all(_same(values[0], v) for v in values)
    ]


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return one == other or abs(one - other) <= TOLERANCE * max(abs(one), abs(other))


def _alike(values: Sequence[float | None]) -> list[int]:
    """For each value the index of the first that is the same."""
    return [next(index for index, other in enumerate(values) if _same(other, value)) for value in values]


def _odd(values: Sequence[Any]) -> tuple[int, int]:
    """The index of one of the fewest, and of one of the most; the first is held to be right in a tie."""
    counts = Counter(values)
    usual = max(range(len(values)), key=lambda index: (counts[values[index]], -index))
    odd = next(index for index in range(len(values)) if values[index] != values[usual])
    return odd, usual
