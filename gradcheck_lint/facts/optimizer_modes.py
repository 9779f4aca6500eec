"""Optimizers with a training mode and an evaluation mode (schedule-free ones): who is never switched."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.modes import may_be, switched
from gradcheck_lint.facts.order import after
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api
from gradcheck_lint.source.holding import reaches
from gradcheck_lint.source.values import Thing, contents


class Unswitched(NamedTuple):
    """An optimizer that steps without its training mode, or the evaluation of a model that it leaves as it is."""

    built: ev.BuildOptimizer
    step: ev.Step
    judged: ev.SetMode | None


def unswitched(timeline: tl.Timeline) -> Iterator[Unswitched]:
    """The optimizers that nobody switches where the code needs it."""
    if timeline.cut or timeline.hooked:
        return
    for built in timeline.events(ev.BuildOptimizer):
        optimizer = built.subject
        if optimizer.class_name.rpartition(".")[2] not in torch_api.WITH_MODES or _shared(timeline, optimizer):
            continue
        later = after(timeline, built)
        step = next((e for e in later if isinstance(e, ev.Step) and e.concerns(optimizer)), None)
        if step is None:
            continue
        modes = [e.training for e in timeline.events(ev.SetMode) if e.concerns(optimizer)]
        if None in modes:
            continue
        if True not in modes:
            yield Unswitched(built, step, None)
        elif False not in modes:
            judged = next((e for e in after(timeline, step) if _judges(timeline, e, optimizer)), None)
            if isinstance(judged, ev.SetMode):
                yield Unswitched(built, step, judged)


def _judges(timeline: tl.Timeline, event: ev.Event, optimizer: Thing) -> bool:
    """Whether it puts the model of an optimizer into evaluation mode, in which it is run then."""
    model = switched(event) if isinstance(event, ev.SetMode) and event.training is False else None
    if model is None or reaches(model, optimizer) is not YES:
        return False
    runs = (e for e in after(timeline, event) if isinstance(e, ev.Forward) and e.subject.core is model)
    return any(run.context & OFF for run in runs)


def _shared(timeline: tl.Timeline, optimizer: Thing) -> bool:
    """Whether other code may switch an optimizer: what was not seen, or another method of the object that has it."""
    for event in timeline.events(ev.Unknown, ev.SetAttribute, ev.Return):
        if isinstance(event, ev.Unknown):
            if event.subject is None or may_be(event.subject, optimizer):
                return True
        elif any(option is optimizer for option in contents(event.value)):
            return True
    return False
