"""The events that a program causes, and how rules ask for them."""

from __future__ import annotations

import textwrap
from copy import copy
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.timeline import Timeline

HEAD = """\
import torch
from torch import nn

model = nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler()
"""

PACK = """
    from gradcheck_lint.rule import Report, Rule
    from gradcheck_lint.source import events


    class Plain(Rule):
        code, slug = "XX101", "plain-step"
        listens = {listens}

        def on_event(self, event: events.Step, report: Report) -> None:
            if event.scaler is None:
                report(event.place, "a plain step", label="steps", why="it does", help="let it")
"""

KINDS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)]


class Listener(Rule):
    """Keeps the timelines that it is shown."""

    code, slug = "XX999", "listener"

    def __init__(self) -> None:
        self.timelines: list[Timeline] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.timelines.append(copy(timeline))  # the timeline itself lets go of what is in it


def source(body: str) -> SourceFile:
    return SourceFile("program.py", Path("/nowhere/program.py"), (HEAD + textwrap.dedent(body)).encode())


def timeline_of(body: str) -> Timeline:
    """The timeline of a module's own code."""
    listener = Listener()
    analyse([source(body)], [listener])
    return next(timeline for timeline in listener.timelines if timeline.entry is None)


def load(folder: Path, listens: str) -> Rule:
    """The rule of a pack that asks for some events."""
    (folder / "plain.py").write_text(textwrap.dedent(PACK).format(listens=listens), encoding="utf-8")
    return registry.find(registry.load([folder], packs=False), "XX101")


def test_a_rule_of_a_pack_hears_of_what_it_listens_to(tmp_path: Path) -> None:
    found = analyse([source("opt.zero_grad()\nopt.step()\nscaler.step(opt)\n")], [load(tmp_path, "(events.Step,)")])
    assert [finding.span.line - HEAD.count("\n") for finding in found] == [2]


@pytest.mark.parametrize("listens", ['("step",)', "events.Step", "(events.Step, int)", "frozenset({events.Step})"])
def test_a_rule_listens_to_classes_of_events(tmp_path: Path, listens: str) -> None:
    with pytest.raises(registry.RegistryError, match=r"Plain in .*plain\.py listens to .*, as \(events\.Step,\)"):
        load(tmp_path, listens)


def test_events_come_in_the_order_of_the_code_whatever_their_kind() -> None:
    timeline = timeline_of("opt.zero_grad()\nmodel(1).sum().backward()\nopt.step()\nother = nn.Linear(1, 1)\n")
    turning = [type(event) for event in timeline.events(events.Step, events.Backward, events.Zero)]
    assert turning == [events.Zero, events.Backward, events.Step]
    assert list(timeline.events(events.Turning)) == list(timeline.events(*turning))
    built = list(timeline.events(events.Build))
    assert [event.name for event in built] == [
        "torch.nn.Linear",
        "torch.optim.SGD",
        "torch.amp.GradScaler",
        "torch.nn.Linear",
    ]
    assert list(timeline.events(events.BuildOptimizer)) == built[1:2]
    assert {*built, *timeline.events(events.Turning)} < set(timeline.events())


RECURSIVE = """
def walk(tree, opt):
    for child in tree:
        {first}
        walk(child, opt)

walk([[], []], opt)
"""


@pytest.mark.parametrize(("first", "told"), [("print(child)", set()), ("opt.step()", {"walk"})])
def test_what_a_function_does_by_itself_is_told_only_if_it_does_something(first: str, told: set[str]) -> None:
    timeline = timeline_of(RECURSIVE.format(first=first))
    assert {event.name for event in timeline.events(events.Unknown)} == told


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_has_the_fields_that_its_class_names(kind: type[events.Event]) -> None:
    assert "__slots__" in vars(kind)
    assert not hasattr(kind.__new__(kind), "__dict__")
    assert kind.__doc__
