"""What an object is taken for, and what is known of it and of copies of it."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import pytest

from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.events import Assign
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import (
    Module,
    ModuleLike,
    Opaque,
    Optimizer,
    Scaler,
    StateDict,
    Tensor,
    nature,
    natures_of,
)
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.values import Choice, Constant, Nature, Thing, Value, only, options, things

HEAD = """
import copy
import torch
from torch import nn

net, head, tail = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(1, 1)
first = torch.optim.SGD(net.parameters(), lr=0.1)
"""


class _Recorder(Rule):
    """Keeps the timelines."""

    code, slug = "XX001", "recorder"

    def __init__(self) -> None:
        self.timelines: list[Timeline] = []

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.timelines.append(copy(timeline))  # the timeline itself lets go of what is in it


def values_of(code: str, name: str) -> list[Value]:
    """What was assigned to a name of a program, first to last."""
    recorder = _Recorder()
    analyse([SourceFile("example.py", Path("/nowhere/example.py"), (HEAD + code).encode())], [recorder])
    assigned = recorder.timelines[0].events(Assign)
    return [event.subject for event in assigned if event.subject is not None and event.place.code == name]


def held(value: Value) -> list[str]:
    return [module.label for module in held_by(things(value, Optimizer)[0]).modules]


def test_things_are_picked_by_their_nature() -> None:
    net, scaler = Thing(Module(), "net"), Thing(Scaler(), "scaler")
    either = Choice((net, Constant(None), scaler))
    assert things(either) == things(either, (Module, Scaler)) == [net, scaler]
    assert things(either, Module) == [net]
    assert only(either) is None
    assert only(net, Module) is net
    assert only(net, Scaler) is None
    assert nature(scaler, Module) is None
    assert natures_of(either, Module) == [net.what]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("x = torch.zeros(3)", Tensor),
        ("x = nn.Linear(1, 1)", Module),
        ("x = torch.nn.DataParallel(net)", Module),
        ("x = torch.optim.Adam(net.parameters())", Optimizer),
        ("x = net.state_dict()", StateDict),
        ("x = copy.deepcopy(first)", Optimizer),
    ],
)
def test_what_a_call_gives(code: str, kind: type[Nature]) -> None:
    (value,) = values_of(code + "\n", "x")
    assert [type(thing.what) for thing in things(value)] == [kind]
    assert len(options(value)) == 1


def test_a_copied_optimizer_has_groups_of_its_own() -> None:
    code = """
first.add_param_group({"params": head.parameters()})
second = copy.deepcopy(first)
second.add_param_group({"params": tail.parameters()})
one, two = first, second
"""
    assert held(values_of(code, "one")[0]) == ["net", "head"]
    assert held(values_of(code, "two")[0]) == ["net", "head", "tail"]


def test_a_copy_is_no_part_of_what_the_original_is_a_part_of() -> None:
    code = """
whole = nn.Sequential(net)
whole.layer = nn.Linear(1, 1)
other = copy.deepcopy(whole.layer)
"""
    (other,) = things(values_of(code, "other")[0])
    assert other.copy_of is not None
    assert [owner.label for owner in other.copy_of.owners] == ["whole"]
    assert other.owners == ()
    assert other.what is not other.copy_of.what


def test_what_nothing_is_known_of_has_one_nature() -> None:
    assert Opaque() is Opaque()
    assert Opaque().copy() is Opaque()
    assert ModuleLike() is not ModuleLike()
    assert isinstance(ModuleLike(), ModuleLike)
