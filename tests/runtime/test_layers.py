"""Parameters are put together into layers, and told in few words."""

from __future__ import annotations

from gradcheck_lint.runtime.layers import common, layers, told


def test_layers_are_the_modules_of_the_names() -> None:
    assert layers(["encoder.0.weight", "encoder.0.bias", "w"]) == ["encoder.0", "encoder.0", "w"]


def test_many_layers_are_put_together() -> None:
    names = [f"block.{block}.part.{part}.weight" for block in range(30) for part in range(10)]
    found = layers([*names, "head.weight"])
    assert len(set(found)) == 31
    assert found[0] == "block.0.part"


def test_many_names_without_parts_are_numbered() -> None:
    found = layers([f"parameter {index} of group 0" for index in range(150)])
    assert len(set(found)) == 50
    assert found[0] == found[2] == "parameter 0 of group 0 to parameter 2 of group 0"


def test_names_for_a_sentence() -> None:
    assert told(["a", "b"]) == "a and b"
    assert told(["net.0.weight", "net.0.bias", "net.2.weight"]) == "3 parameters of net (net.0.weight, ...)"
    assert common(["a.weight", "b.weight"]) == ""
