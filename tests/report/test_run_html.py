"""`report/run_html.py`: one page that needs nothing else, in which nothing of the program's is markup."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from run_samples import clear, everything, held, nothing, wrong

from gradcheck_lint.report import run_drawings, run_html, run_series
from gradcheck_lint.runtime.record import Moment, RunRecord, Watched

SAMPLES: dict[str, Callable[[], RunRecord]] = {
    "nothing": nothing,
    "clear": clear,
    "wrong": wrong,
    "everything": everything,
}
VOID = {"meta"}
WIDE, HALF = 782, 365  # pixels that a card has for a picture, alone in its row or beside another
HOSTILE = '"><script>alert(1)</script><img src=x onerror=y>&lt;`<b>`\x1b[2J\u202e'

each_sample = pytest.mark.parametrize("sample", SAMPLES)


class Reader(HTMLParser):
    """Which elements and attributes there are; fails where tags do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data


@each_sample
def test_it_is_one_page_that_needs_nothing_else(sample: str) -> None:
    page = run_html.render(SAMPLES[sample]())
    assert page.startswith("<!doctype html>\n")
    reader = Reader(page)
    assert reader.tags & {"script", "link", "img", "iframe", "object", "u", "a"} == set()
    assert not [name for name, _ in reader.attributes if name in ("src", "href", "style") or name.startswith("on")]
    assert set(re.findall(r"https?://[^\s\"]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "url(" not in page
    assert "@import" not in page


def test_what_is_the_programs_is_never_markup() -> None:
    record = everything()
    record.program = record.ended = record.torch = HOSTILE
    record.optimizers[0].name = record.optimizers[0].kind = HOSTILE
    record.optimizers[0].blind = (HOSTILE,)
    record.optimizers[0].parameters = held(HOSTILE)
    record.missing = record.problems = [HOSTILE]
    record.checked = {HOSTILE: 1}
    record.series = {f"{kind}/{HOSTILE}/{HOSTILE}": [(1, 1.0), (2, 2.0)] for kind in ("loss", "gradient", "update")}
    record.moments = [moment._replace(site=HOSTILE) for moment in record.moments]
    record.sources = {HOSTILE: {1: HOSTILE}, "train.py": {11: HOSTILE * 3}}
    span = replace(record.findings[0].span, path=HOSTILE, line=1)
    texts = dict.fromkeys(("code", "slug", "message", "label", "why", "help", "note"), HOSTILE)
    record.findings.append(replace(record.findings[0], span=span, **texts))
    reader = Reader(run_html.render(record))
    assert reader.tags & {"script", "img"} == set()
    assert "alert(1)" in reader.text  # it is there, as text
    assert "\x1b" not in reader.text
    assert "\u202e" not in reader.text


@each_sample
def test_pictures_are_there_where_there_is_something_to_draw(sample: str) -> None:
    record = SAMPLES[sample]()
    page = run_html.render(record)
    assert ("The gradient cycle" in page) == bool(record.moments)
    assert ("Who holds what" in page) == bool(record.optimizers)
    assert ("Numbers" in page) == bool(record.series)
    assert page.count('class="card finding') == len(record.findings)


def test_the_code_of_a_finding_is_marked() -> None:
    page = run_html.render(wrong())
    assert "        <mark>loss.backward()</mark>" in page
    assert '<mark class="other">optimizer.step()</mark>' in page
    assert "at step 2 of optimizer: the gradients of the step before were still there" in page


def test_the_verdict() -> None:
    assert "<title>train.py: all clear (gradlint)</title>" in run_html.render(clear())
    assert "<title>train.py: 1 mistake (gradlint)</title>" in run_html.render(wrong())
    assert "<title>train.py: nothing to judge (gradlint)</title>" in run_html.render(nothing())


def test_the_cycle_shows_what_never_happened_and_rings_what_was_found() -> None:
    record = wrong()
    picture = run_drawings.cycle(record, 0)
    assert "zero: never" in picture
    assert picture.count('class="kind-backward"') == picture.count('class="kind-step"') == 2
    assert "18 more alike," in picture
    assert "to step 20" in picture
    assert picture.count('class="ring"') == 1
    record.optimizers.append(Watched(1, "another", "SGD"))
    record.findings = [replace(record.findings[0], label="at step 2 of another: the gradients were still there")]
    assert 'class="ring"' not in run_drawings.cycle(record, 0)
    assert "zero: never" not in run_drawings.cycle(clear(), 0)


def test_the_map_tells_who_holds_what() -> None:
    record = clear()
    record.optimizers[0].parameters += held("parameter 2 of group 0", in_model=False)
    record.missing = ["head.weight"]
    picture = run_drawings.holders(record)
    assert picture.count('class="link held"') == 1  # the layer `fc`
    assert picture.count('class="link gone"') == 1
    assert picture.count('class="spot missing"') == 1
    assert "no optimizer holds it" in picture


def test_tensors_without_a_name_are_told_apart() -> None:
    record = clear()
    without = held("parameter 0 of group 0", in_model=False)
    record.optimizers = [Watched(index, f"optimizer_{index}", "SGD", None, without) for index in range(2)]
    assert run_drawings.holders(record).count('class="link gone"') == 2
    record.optimizers = [Watched(index, f"optimizer_{index}", "SGD", None, held("fc.weight")) for index in range(2)]
    picture = run_drawings.holders(record)
    assert picture.count('class="link held"') == 2
    assert picture.count('class="spot held"') == 1


@pytest.mark.parametrize("turns", [1, 8, 30, 200])
def test_the_cycle_is_never_wider_than_the_page(turns: int) -> None:
    record = clear()
    record.moments = []
    for turn in range(turns):
        kinds = ["zero", *["backward"] * (turn % 7 + 1), "clip", *["step"] * (turn % 3), "schedule"]
        for kind in kinds:
            done = turn + (kind in ("step", "schedule"))
            record.moments.append(Moment(0, kind, done, len(record.moments), str(turn)))
    picture = run_drawings.cycle(record, 0)
    assert float(re.findall(r'<svg [^>]*width="([\d.]+)"', picture)[0]) <= WIDE


@pytest.mark.parametrize("steps", [1, 12, 13, 60, 120])
def test_numbers_are_never_wider_than_the_page(steps: int) -> None:
    record = clear()
    points = [(step, 1.0) for step in range(1, steps + 1)]
    record.series = {f"{kind}/optimizer/{'layer' * 8}": points for kind in ("gradient", "update")}
    page = run_html.render(record)
    widths = [float(width) for width in re.findall(r'<svg [^>]*width="([\d.]+)"', page)]
    assert max(widths) <= WIDE
    if 'class="pair"' in page:
        assert max(widths[1:-1]) <= HALF  # the cycle is the first, and who holds what the last
    assert ('class="pair"' in page) == (steps <= 12)


def test_numbers_that_are_not_finite_stand_out() -> None:
    record = everything()
    (grid,) = [grid for grid in run_series.grids(record) if grid.kind == "update"]
    assert 'class="bad"' in run_drawings.heat(grid)
    assert run_drawings.curve("loss", record.series["loss"]).count('class="bad"') == 2
    assert run_drawings.curve("loss", [(1, math.nan)]).count('class="bad"') == 1


def test_a_large_model_and_a_long_run_stay_readable() -> None:
    record = clear()
    names = [f"encoder.layers.{layer}.attention.{part}.weight" for layer in range(48) for part in "qkvo"]
    record.optimizers[0].parameters = held(*names)
    record.series = {f"gradient/optimizer/{name[:-7]}": [(s, 1.0) for s in range(1, 4000)] for name in names}
    page = run_html.render(record)
    assert len(page) < 1_500_000
    assert page.count('class="link held"') <= 26
    (grid,) = run_series.grids(record)
    assert len(grid.steps) == run_series.MOST_STEPS
    assert grid.steps[-1] == 3999
