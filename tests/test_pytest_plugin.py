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


OTHERS = """
@pytest.mark.gradlint
def test_on():
    train(False)

@pytest.mark.gradlint(ignore=["GL101"])
def test_ignored():
    train(False)

@pytest.mark.gradlint(False)
def test_off():
    train(False)

@pytest.mark.gradlint(select=["GL2"])
class TestAll:
    def test_inner(self):
        train(False)

    @pytest.mark.gradlint(select=["GL1"])
    def test_nearer(self):
        train(False)

@pytest.fixture
def parts():
    model = torch.nn.Linear(2, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)

def test_of_a_fixture(parts):
    model, optimizer = parts
    for _ in range(4):
        model(torch.randn(3, 2)).sum().backward()
        optimizer.step()

def test_that_looks(gradlint):
    train(False)
    assert [f.code for f in gradlint.findings] == ["GL101"]

def test_that_fails():
    train(False)
    raise ValueError("mine")

def test_that_skips():
    train(False)
    pytest.skip("not here")

@pytest.mark.skip
def test_never():
    pass

@pytest.fixture
def broken():
    raise ValueError("broken")

def test_of_what_is_broken(broken):
    pass

def test_that_is_watched_alone():
    from gradcheck_lint import watch
    assert len(watch._running) <= 1

@pytest.mark.gradlint(colour=1)
def test_slip_1():
    pass

@pytest.mark.gradlint(True, 2)
def test_slip_2():
    pass

@pytest.mark.gradlint(select=["GL999"])
def test_slip_3():
    pass
"""
FAILED = {"test_on", "TestAll::test_nearer", "test_that_fails"}  # however pytest is called


def failed(result: pytest.RunResult) -> set[str]:
    return {line.split(" ")[1].split("::", 1)[1] for line in result.outlines if line.startswith("FAILED ")}


def test_marks_alone_are_heeded_unasked(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG + OTHERS, "--strict-markers")
    assert failed(result) == FAILED
    result.assert_outcomes(passed=8, failed=3, skipped=2, errors=4)
    result.stdout.fnmatch_lines(["*the mark gradlint takes *, not colour*", "*not 2 arguments*", "*GL999*"])


def test_a_finding_fails_the_test_that_trains_wrongly(pytester: pytest.Pytester) -> None:
    result = run(pytester, WRONG + OTHERS, "--gradlint")
    assert failed(result) == FAILED | {"test_wrong", "test_of_a_fixture"}
    result.assert_outcomes(passed=6, failed=5, skipped=2, errors=4)
    result.stdout.fnmatch_lines([FOUND, "*Found 1 mistake*", "*ValueError: mine*"])


def test_the_settings_of_pytest_turn_it_on(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngradlint = true\n")
    result = run(pytester, WRONG)
    result.assert_outcomes(passed=1, failed=1)
    assert "pytest_plugin.py" not in result.stdout.str()
