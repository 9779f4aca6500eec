"""Kinds of sightings: frozen, with the fields that they name and those that they inherit."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil

import pytest

from gradcheck_lint.runtime import sightings
from gradcheck_lint.runtime.record import Site, Watched
from gradcheck_lint.runtime.sighting import Scene, Sighting, written
from gradcheck_lint.runtime.sightings.order import Leak, LeakedGradients, LeakUpstream

SCENE = Scene(3, Site("train.py", 7, text="loss.backward()"), Watched(0, "critic", "SGD"))


def kinds() -> list[type[Sighting]]:
    modules = [
        importlib.import_module(f"{sightings.__name__}.{each.name}")
        for each in pkgutil.iter_modules(sightings.__path__)
    ]
    things = [(thing, module) for module in modules for thing in vars(module).values() if isinstance(thing, type)]
    return [one for one, module in things if issubclass(one, Sighting) and one.__module__ == module.__name__]


def test_fields_are_inherited_and_cannot_be_set() -> None:
    seen = LeakUpstream(SCENE, names=("layer",), other="actor", own=None, used=None, real=True)
    assert isinstance(seen, LeakedGradients)
    assert (seen.names, seen.other, seen.real, seen.step, seen.others()) == (("layer",), "actor", True, 3, ("actor",))
    for name in ("other", "real", "names", "misspelt"):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(seen, name, "else")


def test_a_misspelt_or_missing_field_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'othr'"):
        Leak(SCENE, othr="actor", own=None, used=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'other'"):
        Leak(SCENE, own=None, used=None)  # type: ignore[call-arg]


@pytest.mark.parametrize("one", kinds(), ids=lambda one: one.__name__)
def test_every_kind_can_be_made(one: type[Sighting]) -> None:
    with pytest.raises(TypeError, match="missing"):
        one()  # type: ignore[call-arg]
    own = {name for cls in one.__mro__ for name in vars(cls).get("__annotations__", {})}
    fields = {field.name: SCENE if field.name == "scene" else () for field in dataclasses.fields(one)}
    assert set(fields) == own
    scene = fields.pop("scene")
    assert one(scene, **fields).step == 3  # type: ignore[arg-type]


def test_the_words_of_a_line() -> None:
    seen = Leak(SCENE, other="actor", own=None, used=None)
    assert (seen.at_step, seen.source("the call")) == ("at step 3 of critic", "loss.backward()")
    assert (written(None, "the call"), written(Site("train.py", 7), "the call")) == ("the call", "the call")
