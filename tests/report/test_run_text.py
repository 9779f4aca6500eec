"""`report/run_text.py`: a screen at most, the worst first, and a line if all is well."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from run_samples import clear, everything, held, nothing, wrong

from gradcheck_lint.finding import Severity
from gradcheck_lint.report import run_text
from gradcheck_lint.report.terminal import width
from gradcheck_lint.runtime.record import Model, Watched


@pytest.mark.parametrize("number", [1, 2, 3, 5, 18, 19, 20, 60])
def test_it_fits_a_screen(number: int) -> None:
    record = wrong(number)
    record.optimizers += [Watched(index, f"optimizer_{index}", "SGD", None, (), 9) for index in range(1, 9)]
    record.missing = [f"encoder.layers.{index}.weight" for index in range(30)]
    record.problems = ["x" * 300] * 5
    lines = run_text.render(record).splitlines()
    assert len(lines) <= 24
    assert [line for line in lines if width(line) > 100] == []


def test_one_finding_has_all_its_words_and_its_code() -> None:
    assert run_text.render(wrong()) == (
        "error[missing-zero-grad] GL101: gradients are carried over from the previous step\n"
        "  --> train.py:11:9\n"
        " 5 | optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "   |             ------------------------------------------- the optimizer is built here\n"
        "...\n"
        "11 |         loss.backward()\n"
        "   |         ^^^^^^^^^^^^^^^\n"
        "   |  at step 2 of optimizer: the gradients of the step before were still there when backward ran\n"
        "12 |         optimizer.step()\n"
        "   |         ---------------- uses the sum of all batches\n"
        "  why:  `optimizer.step()` does not clear `.grad`, so every update repeats earlier batches\n"
        "  help: call `optimizer.zero_grad()` before `loss.backward()`\n"
        "  note: for deliberate accumulation, clear every k steps; see `gradlint explain GL101`\n"
        "\n"
        "Found 1 mistake in the run of train.py (300 steps of optimizer, 3.1 s).\n"
        "  watched: optimizer (SGD, 2 parameters): 300 steps, 26 of them checked\n"
        "  models:  model (Line, 2 parameters)\n"
    )


def test_a_long_headline_is_broken() -> None:
    record = wrong()
    record.findings = [replace(record.findings[0], message="a parameter is replaced " + "by a new tensor " * 8)]
    for colour in (False, True):
        lines = run_text.render(record, colour=colour).splitlines()
        assert [line for line in lines if width(line) > 100] == []
        assert "error[missing-zero-grad] GL101" in lines[0]
        assert "    " in lines[1]


def test_many_findings_are_counted() -> None:
    record = wrong(60)
    lines = run_text.render(record).splitlines()
    told = [line for line in lines if line.startswith("error GL101 ")]
    assert told[0] == "error GL101 train.py:11: gradients are carried over from the previous step"
    (more,) = [line for line in lines if line.startswith("and ")]
    assert more == f"and {60 - len(told)} more: {60 - len(told)} of GL101"
    assert any(line.startswith("Found 60 mistakes in the run of train.py") for line in lines)


def test_errors_come_before_warnings() -> None:
    record = everything()
    assert record.findings[-1].severity is Severity.WARNING
    record.findings.reverse()
    text = run_text.render(record)
    assert text.index("GL101") < text.index("GL201")


WATCHED = [
    "  watched: optimizer (SGD, 2 parameters): 300 steps, 26 of them checked",
    "  models:  model (Line, 2 parameters)",
]


def test_what_was_watched_is_told_if_all_is_well() -> None:
    record = clear()
    record.checked = {"rules": 12, "steps": 26}
    assert run_text.render(record, brief=True).splitlines() == [
        "All clear in the run of train.py (300 steps of optimizer, 3.1 s; 26 checked).",
        *WATCHED,
    ]
    assert run_text.render(record).splitlines()[1:] == [*WATCHED, "  checked: 12 rules, 26 steps"]


def test_what_is_unheld_or_was_not_seen_is_told_even_then() -> None:
    record = clear()
    record.missing = ["body.weight", "body.bias"]
    record.optimizers[0].blind = ("its step is compiled, so the order of its calls was not judged",)
    assert run_text.render(record, brief=True).splitlines()[1:] == [
        *WATCHED,
        "  unheld:  no optimizer holds `body.weight` and `body.bias`",
        "  blind:   optimizer: its step is compiled, so the order of its calls was not judged",
    ]
    record.optimizers[0].blind = ("one", "two", "three", "four")
    assert run_text.render(record, brief=True).splitlines()[-2:] == [
        "  blind:   optimizer: two",
        "           and 2 more",
    ]


def test_which_models_were_watched() -> None:
    record = clear()
    record.models = []
    assert "  models:  none was found" in run_text.render(record, brief=True).splitlines()
    record.models = [Model("", "Line", 1), *(Model(f"net_{index}", "Line", 2) for index in range(4))]
    record.models += [Model("", "Line", 1)] * 2
    line = "  models:  Line (1 parameter, 3 times), net_0 (Line, 2 parameters), net_1 (Line, 2 par... and 2 more"
    assert line in run_text.render(record, brief=True).splitlines()


def test_nothing_is_no_success() -> None:
    text = run_text.render(nothing(), brief=True)
    assert text == "Nothing to watch: no optimizer was built in the run of train.py.\n"
    record = nothing()
    record.optimizers = [Watched(0, "optimizer", "SGD", None, held("w"))]
    assert run_text.render(record, brief=True).startswith("Nothing to judge: no step was seen in the run of train.py.")


def test_how_it_ended_and_what_broke_are_told() -> None:
    text = run_text.render(everything())
    assert "it was ended by ValueError: <script>" in " ".join(text.split())
    assert "on rank 1 of 2" in text
    assert "1 of them not certain" in " ".join(text.split())
    assert "a bug in gradlint, not in your code" in " ".join(text.split())


def test_colours_change_no_letter() -> None:
    plain, coloured = (run_text.render(everything(), colour=colour) for colour in (False, True))
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == plain != coloured


def test_control_characters_do_nothing() -> None:
    record = wrong(30)
    record.program = "tr\x1b[2Jain.py"
    record.optimizers[0].name = "op\x1b[31mt"
    assert "\x1b" not in run_text.render(record)
