"""A part of `places` that is small enough for each day: all ways, each with another deed and in another place."""

from __future__ import annotations

import pytest

from gradcheck_lint.facts.repair import insert_before, stand
from gradcheck_lint.finding import Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Step, Zero
from gradcheck_lint.source.lint import Rules
from gradcheck_lint.source.timeline import Timeline
from tests.fuzz.places import Shape, shapes, trial, untrue
from tests.fuzz.trial import try_out
from tests.fuzz.ways import WAYS

SHAPES = {shape.name: shape for shape in shapes()}


def _sample() -> list[Shape]:
    """One shape of each way and one of each deed; which one goes by its number, so that all sorts are among them."""
    chosen: dict[str, Shape] = {}
    for number, way in enumerate(WAYS):
        own = [shape for shape in shapes() if shape.way is way]
        for place in (number, number * 7 + 3)[: 1 + (number % 4 == 0)]:
            shape = own[place % len(own)]
            chosen[shape.name] = shape
    tried = {shape.deed for shape in chosen.values()}
    for number, deed in enumerate(dict.fromkeys(shape.deed for shape in shapes() if shape.deed not in tried)):
        own = [shape for shape in shapes() if shape.deed is deed]
        shape = own[number % len(own)]
        chosen[shape.name] = shape
    return list(chosen.values())


SAMPLE = _sample()


def test_there_are_many_shapes_and_the_sample_has_all_ways() -> None:
    assert len(shapes()) > 3000
    assert len(SAMPLE) > 300
    assert {shape.way.name for shape in SAMPLE} == {way.name for way in WAYS}
    assert {shape.deed for shape in SAMPLE} == {shape.deed for shape in shapes()}


@pytest.mark.parametrize("shape", SAMPLE[::8], ids=lambda shape: shape.name)
def test_program_does_the_hidden_deed(shape: Shape) -> None:
    assert not untrue(shape)


def test_nothing_is_found_in_correct_programs_and_mending_changes_nothing() -> None:
    alarms, harmed, problems = [], [], []
    for shape in SAMPLE:
        verdict = trial(shape)
        alarms += [f"{shape.name}: {finding.code} on line {finding.span.line}" for finding in verdict.found]
        harmed += [shape.name] if verdict.harmed else []
        problems += [f"{shape.name}: {problem}" for problem in verdict.problems]
    assert not harmed, "\n".join(harmed)
    assert not alarms, "\n".join(alarms)
    assert not problems, "\n".join(problems)


class _Meddler(Rule):
    """Finds fault with a program that clears in one place only, and clears before the step: what no fix may do."""

    code, slug, severity, fix = "XX101", "cleared-once", Severity.ERROR, Safety.SAFE

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        steps, zeros = list(timeline.events(Step)), list(timeline.events(Zero))
        here = stand(steps[0].statement) if steps else None
        if here is not None and len(zeros) == 1:
            fix = Fix("clear before it", Safety.SAFE, (insert_before(here, "opt.zero_grad()"),))
            report(steps[0].place, "cleared once", label="", why="", help="", fix=fix)


PLAIN = "clear:zero_grad/direct/plain/same/script"


def test_a_fix_that_does_harm_is_seen_to() -> None:
    rule = _Meddler()
    verdict = try_out(SHAPES[PLAIN].files(), rules=Rules((rule,), (rule,)))
    assert verdict.fixed == 1
    assert verdict.harmed
    assert verdict.before is not None
    assert verdict.after is not None
    assert verdict.before.weights != verdict.after.weights
    assert not verdict.before.error


def test_a_program_that_is_not_what_it_says_is_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SHAPES[PLAIN]
    files = shape.files()
    cut = {"train.py": files["train.py"].replace("    o.zero_grad()\n", "    pass\n")}
    assert cut != files
    monkeypatch.setattr(Shape, "files", lambda self: cut if self is shape else files)
    assert untrue(shape)


def test_a_program_that_ends_its_process_is_told() -> None:
    from tests.fuzz.trial import run

    assert run({"train.py": "import os\nos._exit(3)\n"}).error
    assert run({"train.py": "raise ValueError('no')\n"}).error == "ValueError: no"
