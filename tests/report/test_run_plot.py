"""The figure of a run: a picture for each optimizer, and nothing over anything else."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from run_samples import clear, cycles, everything, held, nothing, wrong

from gradcheck_lint.report.run_plot import plot
from gradcheck_lint.runtime.record import RunRecord, Watched


def drawn(record: RunRecord) -> dict[str, Any]:
    """The axes by their titles; the figure has been drawn as for a file."""
    figure = plot(record)
    figure.savefig(io.BytesIO(), format="png")
    return {title: axis for axis in figure.axes if (title := axis.get_title(loc="left"))}


def several(number: int) -> RunRecord:
    record = clear()
    record.optimizers = [Watched(i, f"part_{i}", "SGD", None, held(f"{i}.weight")) for i in range(number)]
    record.moments = [moment for index in range(number) for moment in cycles(20, optimizer=index, zero=index != 1)]
    points = [(step, 10.0**-step) for step in range(1, 6)]
    for kind in ("update", "gradient"):
        for index in reversed(range(number)):
            record.series[f"{kind}/part_{index}/layer"] = points
    return record


def places(axes: dict[str, Any]) -> list[tuple[float, float, float, float]]:
    return [tuple(axis.get_position().bounds) for axis in axes.values()]


@pytest.mark.parametrize("number", [1, 2, 5])
def test_each_optimizer_has_its_own_pictures(number: int) -> None:
    axes = drawn(several(number))
    for index in range(number):
        whose, of = (f" (part_{index})", f" of part_{index}") if number > 1 else ("", "")
        gradients, updates = axes[f"norm of the gradients{whose}"], axes[f"updates relative to the weights{whose}"]
        assert gradients.get_position().y0 == pytest.approx(updates.get_position().y0)
        assert gradients.get_position().x1 < updates.get_position().x0
        assert f"the gradient cycle{of}" in axes
    for one in places(axes):
        for other in places(axes):
            beside = one[0] + one[2] <= other[0] or other[0] + other[2] <= one[0]
            apart = one[1] + one[3] <= other[1] or other[1] + other[3] <= one[1]
            assert one == other or beside or apart


def test_what_never_happened_stands_out_and_what_is_alike_is_told() -> None:
    axis = drawn(several(2))["the gradient cycle of part_1"]
    assert [(name.get_text(), name.get_color()) for name in axis.get_yticklabels()] == [
        ("zero: never", "#c62f2f"), ("backward", "black"), ("step", "black")
    ]  # fmt: skip
    assert [text.get_text() for text in axis.texts] == ["18 more alike,\nto step 20"]


def rings(axis: Any) -> int:
    return sum(len(dots.get_offsets()) for dots in axis.collections if len(dots.get_facecolors()) == 0)


def test_what_was_found_has_a_ring() -> None:
    assert rings(drawn(wrong())["the gradient cycle"]) == 1
    assert rings(drawn(clear())["the gradient cycle"]) == 0


def test_numbers_that_are_not_finite_stand_out() -> None:
    record = clear()
    record.series = {
        "gradient/optimizer/fc": [(1, 1.0), (2, math.inf), (5, math.nan)],
        "gradient/optimizer/head": [(1, 1.0), (2, 2.0), (5, 3.0), (10, math.nan)],
    }
    (crosses,) = drawn(record)["norm of the gradients"].collections
    assert crosses.get_offsets().tolist() == [[1, 0], [2, 0]]


def test_a_loss_that_goes_far_is_drawn_by_its_logarithm() -> None:
    record = clear()
    record.series = {"loss": [(1, 1.0), (2, 0.5)]}
    assert drawn(record)["loss"].get_yscale() == "linear"
    record.series = {"loss": [(1, 1.0), (2, 1e-5)], "loss/other": [(1, 1.0)]}
    axis = drawn(record)["loss"]
    assert axis.get_yscale() == "log"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["loss", "other"]


def test_a_long_run_ends_in_dots() -> None:
    record = clear()
    record.moments = [moment for moment in cycles(40) if moment.kind != "zero" or moment.step % 3]
    axis = drawn(record)["the gradient cycle"]
    assert axis.texts[-1].get_text() == "..."
    assert max(x for dots in axis.collections for x, _ in dots.get_offsets()) < axis.get_xlim()[1]


@pytest.mark.parametrize("record", [nothing(), everything()], ids=["nothing", "everything"])
def test_all_runs_can_be_drawn(record: RunRecord) -> None:
    assert "loss" in drawn(record)
