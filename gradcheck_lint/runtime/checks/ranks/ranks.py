"""Training on several ranks: what each keeps to be compared, and how rank 0 gets to know it.

At a few steps the lengths of all gradients and parameters are computed and stay on the device, unread. When the run
is over each rank puts what it has into the store of the process group, and rank 0 compares. There is no collective:
a rank that ended otherwise, or earlier, makes nobody wait for longer than a moment. Sightings: RanksApart.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.order.bypassed import Bypassed
from gradcheck_lint.runtime.checks.ranks.divergence import Divergence, Kept, RankReport, Sample, compare
from gradcheck_lint.runtime.reading import has_memory
from gradcheck_lint.runtime.replicas import Replica, collectives, replicas, world
from gradcheck_lint.runtime.sighting import Scene
from gradcheck_lint.runtime.sightings.ranks import RanksApart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

EARLY = frozenset({1, 2, 3, 5, 8, 13, 20})  # steps at which a sample is taken; later ones with growing distance
MOST = 2000  # parameters of an optimizer that are kept; of more, each k-th
PATIENCE = 10.0  # seconds for which rank 0 waits for the others when its own run is over
HURRY = 2.0  # the same where it was interrupted or failed

_sessions = 0  # that have met other ranks; they do so in the same order everywhere


class _Sampled:
    """A sample whose numbers are still on their device."""

    def __init__(self, step: int, rates: tuple[float, ...], clips: int, seen: int) -> None:
        self.step, self.rates, self.clips, self.seen = step, rates, clips, seen
        self.gradients: list[tuple[list[int], Tensor]] = []
        self.parameters: list[tuple[list[int], Tensor]] = []


class Ranks(Check):
    """Silent in a run of one process."""

    hears = frozenset({Call.CLIP})

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._samples: dict[int, list[_Sampled]] = {}
        self._kept: dict[int, Kept] = {}
        self._replicas: list[Replica] = []
        self._store: Any = None
        self._key = ""
        self._clips = 0
        self._clip: Mark | None = None
        self._averaged = True  # some backward of this window was to be averaged, or nobody promised it

    # While it runs

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if self._replicas and not self._averaged:
            self._averaged = any(replica.synchronises for replica in self._replicas)

    def call_begins(self, kind: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kind is Call.CLIP:
            self._clips += 1
            self._clip = self._clip or sites.here(2)

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        averaged, self._averaged = self._averaged, not self._replicas
        step = observer.watched.steps
        if not _due(step, observer.sampling.apart) or world()[1] < 2:
            return
        taken = self._samples.setdefault(observer.watched.index, [])
        if taken and taken[-1].step == step:
            return  # the closure of an optimizer that calls it often
        if not self._store:
            self._announce()
        if step == 1 or not taken:
            known = {id(replica.wrapper) for replica in self._replicas}
            self._replicas += [replica for replica in replicas() if id(replica.wrapper) not in known]
        optimizer = observer.optimizer
        if optimizer is None:
            return
        rates = tuple(_rate(group.get("lr")) for group in optimizer.param_groups)
        sample = _Sampled(step, rates, self._clips, collectives())
        parameters = _chosen(observer.parameters())
        sample.parameters = _lengths(parameters)
        if averaged:
            sample.gradients = _lengths([parameter.grad for parameter in parameters])
        taken.append(sample)
        self._describe(observer, parameters, averaged)

    def _announce(self) -> None:
        """Tell the others that this rank is watched too, so that they know for whom to wait."""
        global _sessions
        import torch.distributed.distributed_c10d as c10d

        self._store = c10d._get_default_store()
        self._key = f"gradlint/{_sessions}"
        _sessions += 1
        self._store.set(f"{self._key}/here/{world()[0]}", "1")
        self.session.record.rank, self.session.record.ranks = world()

    def _describe(self, observer: Observer, parameters: Sequence[Tensor], averaged: bool) -> None:
        watched = observer.watched
        kept = self._kept.get(watched.index)
        if kept is None:
            kept = self._kept[watched.index] = Kept(watched.index, watched.kind, watched.label)
        if len(kept.names) != len(parameters):
            kept.names = tuple(observer.name(parameter) for parameter in parameters)
            kept.shapes = tuple(tuple(parameter.shape) for parameter in parameters)
        replicated = [replica for replica in self._replicas if replica.wrapper is not None]
        promised = frozenset[int]().union(*(replica.ids for replica in replicated))
        kept.replicated = tuple(id(parameter) in promised for parameter in parameters)
        kept.joined = kept.joined or any(replica.joined for replica in replicated)
        kept.local = kept.local or any(replica.local for replica in replicated)
        kept.hooked = kept.hooked or not averaged or any(replica.hooked for replica in replicated)

    # When it is over

    def ended(self) -> None:
        if not self._store:
            return
        report = RankReport(self.session.record.rank, self.session.record.ended)
        for observer in self.session.observers.values():
            kept = self._kept.get(observer.watched.index)
            if kept is not None:
                self._complete(kept, observer)
                report.optimizers.append(kept)
        report.findings = self.session.engine.findings
        if report.rank:
            self._store.set(f"{self._key}/report/{report.rank}", json.dumps(report.plain()))
            return
        reports = [report, *self._gather(PATIENCE if report.ended == "ended" else HURRY)]
        explained = {index for check in self.session.checks if isinstance(check, Bypassed) for index in check.alone}
        for divergence in compare(reports):
            if divergence.kept[0].index not in explained:
                self._sight(divergence)
        self._adopt(reports[1:])

    def _complete(self, kept: Kept, observer: Observer) -> None:
        kept.steps = observer.steps
        kept.label = observer.label
        size = len(kept.names)
        kept.samples = [
            Sample(s.step, s.rates, _read(s.gradients, size), _read(s.parameters, size), s.clips, s.seen)
            for s in self._samples[kept.index]
        ]
        marks = {"built": observer.built, "clip": self._clip}
        marks |= {kind: event.mark for kind, event in observer.latest.items() if kind in ("step", "backward")}
        for what, mark in marks.items():
            site = sites.resolve(mark)
            if site is not None:
                kept.sites[what] = site

    def _gather(self, patience: float) -> list[RankReport]:
        """What the others have put into the store, of those who come in time."""
        ranks = [
            rank for rank in range(1, self.session.record.ranks) if self._store.check([f"{self._key}/here/{rank}"])
        ]
        deadline = time.monotonic() + patience
        reports: dict[int, RankReport] = {}
        while True:
            for rank in ranks:
                key = f"{self._key}/report/{rank}"
                if rank not in reports and self._store.check([key]):
                    reports[rank] = RankReport.read(json.loads(self._store.get(key)))
            if len(reports) == len(ranks) or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        late = ", ".join(str(rank) for rank in ranks if rank not in reports)
        if late:
            self.session.unseen.append(f"rank {late} was still running {patience:g} s after rank 0 and is not compared")
        return [reports[rank] for rank in sorted(reports)]

    def _sight(self, divergence: Divergence) -> None:
        """The finding is in the line of the rank that differs, which rank 0 has in the same program."""
        kept = divergence.kept[0]
        observer = next(o for o in self.session.observers.values() if o.watched.index == kept.index)
        clips = [twin.sites["clip"] for twin in divergence.kept if "clip" in twin.sites]
        place = {"order": "built", "start": "built", "gradients": "backward"}.get(divergence.what, "step")
        known = dict(kept.sites)
        if divergence.what == "gradients" and len(set(divergence.clips)) > 1 and clips:
            place = "clip"
            known["clip"] = clips[0]
        scene = Scene(
            divergence.step,
            known.get(place) or known.get("step"),
            observer.watched,
            built=known.get("built"),
            stepped=known.get("step"),
            backward=known.get("backward"),
        )
        self.session.take(
            RanksApart(
                scene,
                names=divergence.names,
                what=divergence.what,
                ranks=divergence.ranks,
                values=divergence.values,
                total=divergence.total,
                certain=divergence.certain,
                clips=divergence.clips,
                clip=known.get("clip"),
            )
        )

    def _adopt(self, reports: Sequence[RankReport]) -> None:
        """Findings that only other ranks have."""
        engine = self.session.engine
        known = {(finding.code, finding.span.path, finding.span.line) for finding in engine.findings}
        for report in reports:
            for finding in report.findings:
                key = (finding.code, finding.span.path, finding.span.line)
                if key not in known:
                    known.add(key)
                    engine.adopt(finding, report.rank)


def _due(step: int, every: int) -> bool:
    if step in EARLY:
        return True
    times, rest = divmod(step, every)
    return rest == 0 and times & (times - 1) == 0


def _chosen(parameters: list[Tensor]) -> list[Tensor]:
    return parameters[:: len(parameters) // MOST + 1]


def _rate(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else -1.0  # a tensor would have to be read


def _whole(tensor: Tensor | None) -> bool:
    """Whether it is an ordinary tensor, of which each rank has all."""
    if tensor is None or tensor.layout is not _strided() or tensor.is_meta or tensor.numel() == 0:
        return False
    if not has_memory(tensor):
        return False
    return not hasattr(tensor, "placements") and not hasattr(tensor, "_is_flat_param")


def _strided() -> Any:
    import torch

    return torch.strided


def _lengths(tensors: Sequence[Tensor | None]) -> list[tuple[list[int], Tensor]]:
    """The lengths of those that are whole, by device: which they are, and their lengths as one tensor."""
    import torch

    places: dict[Any, list[int]] = {}
    for index, tensor in enumerate(tensors):
        if tensor is not None and _whole(tensor):
            places.setdefault((tensor.device, tensor.dtype), []).append(index)
    lengths = []
    with torch.no_grad():
        for (_, kind), indices in places.items():
            chosen = [tensor.detach() for index in indices if (tensor := tensors[index]) is not None]
            if kind.itemsize < 4:  # half precision would lose most of the digits
                norms = [torch.linalg.vector_norm(tensor, dtype=torch.float32) for tensor in chosen]
            else:
                norms = list(torch._foreach_norm(chosen))
            lengths.append((indices, torch.stack(norms)))
    return lengths


def _read(lengths: Sequence[tuple[list[int], Tensor]], size: int) -> tuple[float | None, ...]:
    """Wait for them."""
    values: list[float | None] = [None] * size
    for indices, tensor in lengths:
        for index, value in zip(indices, tensor.tolist(), strict=True):
            values[index] = value
    return tuple(values)
