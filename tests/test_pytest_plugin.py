"""pytest with gradlint, in pytest runs of its own."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
import torch

from gradcheck_lint import watch

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import torch

def train(clear=True):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(4):
        if clear:
            optimizer.zero_grad()
        model(torch.randn(3, 2)).sum().backward()
        optimizer.step()
"""
WRONG = HEAD + "\ndef test_wrong():\n    train(clear=False)\n\ndef test_right():\n    train()\n"
FOUND = "*error?missing-zero-grad? GL101*"


@pytest.fixture(autouse=True, scope="module")
def loaded() -> None:
    """What an inner run imports goes with it, and torch cannot be imported twice: all of it is loaded before."""
    weight = torch.zeros(1, requires_grad=True)
    with watch(on_finding="ignore", quiet=True) as run:
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(3):
            weight.sum().backward()
            optimizer.step()
    assert run.findings
    assert run.summary()


def run(pytester: pytest.Pytester, code: str, *args: str) -> pytest.RunResult:
    pytester.makepyfile(code)
    known = {point.value for point in entry_points(group="pytest11")}
    loaded = [] if "gradcheck_lint.pytest_plugin" in known else ["-p", "gradcheck_lint.pytest_plugin"]
    return pytester.runpytest_inprocess("-p", "no:xdist", "-p", "no:cacheprovider", *loaded, *args)


def test_nothing_is_watched_unasked(pytester: pytest.Pytester) -> None:
    run(pytester, WRONG).assert_outcomes(passed=2)


def test_a_finding_fails_the_test_that_trains_wrongly(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG, "--gradlint")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([FOUND, "*Found 1 mistake*"])
    assert "pytest_plugin.py" not in result.stdout.str()


def test_the_settings_of_pytest_turn_it_on(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngradlint = true\n")
    run(pytester, WRONG).assert_outcomes(passed=1, failed=1)


def test_marks_turn_it_on_and_off_and_choose_rules(pytester: pytest.Pytester) -> None:
    code = HEAD + (
        "@pytest.mark.gradlint\ndef test_on():\n    train(False)\n"
        "@pytest.mark.gradlint(ignore=['GL101'])\ndef test_ignored():\n    train(False)\n"
        "@pytest.mark.gradlint(False)\ndef test_off():\n    train(False)\n"
        "@pytest.mark.gradlint(select=['GL2'])\nclass TestAll:\n"
        "    def test_inner(self):\n        train(False)\n"
        "    @pytest.mark.gradlint(select=['GL1'])\n    def test_nearer(self):\n        train(False)\n"
    )
    result = run(pytester, code, "--strict-markers")
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["FAILED *::test_on*", "FAILED *::TestAll::test_nearer*"])


def test_what_a_fixture_builds_is_watched(pytester: pytest.Pytester) -> None:
    code = HEAD + (
        "@pytest.fixture\ndef parts():\n    model = torch.nn.Linear(2, 1)\n"
        "    return model, torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "def test_it(parts):\n    model, optimizer = parts\n    for _ in range(4):\n"
        "        model(torch.randn(3, 2)).sum().backward()\n        optimizer.step()\n"
    )
    run(pytester, code, "--gradlint").assert_outcomes(failed=1)


def test_the_fixture_hands_out_the_findings_and_fails_nothing(pytester: pytest.Pytester) -> None:
    code = (
        HEAD + "def test_it(gradlint):\n    train(False)\n    assert [f.code for f in gradlint.findings] == ['GL101']\n"
    )
    for args in ([], ["--gradlint"]):
        run(pytester, code, *args).assert_outcomes(passed=1)


def test_a_test_that_fails_by_itself_or_is_skipped_stays_what_it_is(pytester: pytest.Pytester) -> None:
    code = HEAD + (
        "def test_fails():\n    train(False)\n    raise ValueError('mine')\n"
        "def test_skips():\n    train(False)\n    pytest.skip('not here')\n"
        "@pytest.mark.skip\ndef test_never():\n    pass\n"
        "@pytest.fixture\ndef broken():\n    raise ValueError('broken')\n"
        "def test_broken(broken):\n    pass\n"
        "def test_not_watched_any_more():\n    from gradcheck_lint import watch\n    assert len(watch._running) == 1\n"
    )
    result = run(pytester, code, "--gradlint")
    result.assert_outcomes(failed=1, skipped=2, errors=1, passed=1)
    result.stdout.fnmatch_lines(["*ValueError: mine*"])


@pytest.mark.parametrize("mark", ["gradlint(colour=1)", "gradlint(True, 2)", "gradlint(select=['GL999'])"])
def test_a_wrong_mark_is_told_in_a_line(pytester: pytest.Pytester, mark: str) -> None:
    result = run(pytester, HEAD + f"@pytest.mark.{mark}\ndef test_it():\n    pass\n")
    assert "gradlint" in result.stdout.str() + result.stderr.str()
    assert result.parseoutcomes().get("passed", 0) == 0
