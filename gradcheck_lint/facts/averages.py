"""Averages of weights (`AveragedModel`): whether they follow the model, and have statistics of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.caring import keeps_statistics
from gradcheck_lint.facts.modes import may_be
from gradcheck_lint.facts.order import after
from gradcheck_lint.laws.answer import NO, Answer
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.libraries.torch_averaging import AVERAGE
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.values import Constant, Thing, contents, only, options


class Still(NamedTuple):
    """An average that is used, and stays what the model was when it was made, though the model is trained."""

    built: ev.Build
    used: ev.Event
    step: ev.Step


class Stale(NamedTuple):
    """An average that is evaluated with the statistics that the norm layers of the model have.

    `normed` says whether the model has such layers.
    """

    built: ev.Build
    moved: ev.Average
    used: ev.SetMode
    normed: Answer


def still(timeline: tl.Timeline) -> Iterator[Still]:
    """The averages that nobody moves."""
    for built in _built(timeline):
        model = only(built.args.get(0, "model"))
        if model is None or any(True for e in timeline.events(ev.Average) if e.concerns(built.subject)):
            continue
        later = after(timeline, built)
        used = next((e for e in later if isinstance(e, ev.Forward) and e.concerns(built.subject)), None)
        steps = (e for e in later if isinstance(e, ev.Step))
        step = next((e for e in steps if (o := only(e.subject, Optimizer)) and reaches(model, o) is not NO), None)
        if used is not None and step is not None:
            yield Still(built, used, step)


def stale(timeline: tl.Timeline) -> Iterator[Stale]:
    """The averages whose norm layers have the statistics of other weights."""
    for built in _built(timeline):
        model = only(built.args.get(0, "model"))
        if model is None or not _parameters_only(built):
            continue
        average = built.subject
        moved = [e for e in timeline.events(ev.Average) if e.concerns(average)]
        if not moved or any(_feeds(e, average) for e in timeline.events(ev.TorchCall, ev.Forward, ev.SetMode)):
            continue
        later = after(timeline, moved[-1])
        used = next((e for e in later if isinstance(e, ev.SetMode) and e.concerns(average)), None)
        normed = keeps_statistics(model)
        if used is not None and normed is not NO:
            yield Stale(built, moved[-1], used, normed)


def _built(timeline: tl.Timeline) -> Iterator[ev.Build]:
    """The averages that only the code at hand has to do with."""
    if timeline.cut or timeline.hooked:
        return
    for built in timeline.events(ev.Build):
        if built.name == AVERAGE and not any(_shares(e, built.subject) for e in timeline.events(*_SHARING)):
            yield built


_SHARING = (ev.Unknown, ev.SetAttribute, ev.Return, ev.LoadState, ev.NewIterator, ev.Grow)


def _shares(event: ev.Event, average: Thing) -> bool:
    """Whether somebody else gets hold of an average, or it is written by hand."""
    spend(1)
    if isinstance(event, ev.Unknown):
        return event.subject is None or may_be(event.subject, average)
    if isinstance(event, (ev.SetAttribute, ev.Return)):
        return any(option is average for option in contents(event.value))
    return any(isinstance(o, Thing) and (o.inside(average) or average in o.deps) for o in options(event.subject))


def _parameters_only(built: ev.Build) -> bool:
    """Whether an average leaves buffers alone, which it does unless it is told `use_buffers=True`."""
    given = built.args.get(4, "use_buffers")
    return not built.args.open and (given is None or (isinstance(given, Constant) and given.value is False))


def _feeds(event: ev.TorchCall | ev.Forward | ev.SetMode, average: Thing) -> bool:
    """Whether an average gets statistics: by `update_bn`, or by passes in training mode."""
    if isinstance(event, ev.TorchCall):
        return event.name.endswith(".update_bn")
    if isinstance(event, ev.SetMode):
        return event.training is not False and event.concerns(average)
    return False
