"""What `watch` gives when it is over: a saved run, a page, a figure, and numbers for a writer."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gradcheck_lint import watch
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.report import run_json


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, 1)
        self.idle = nn.Linear(2, 2)
        self.target = nn.Linear(3, 4)


def train(steps: int = 6, *, zero: bool = True, writer: Any = None, replaced: bool = False) -> watch:
    """A run, whose model and optimizer are gone when it is over."""
    torch.manual_seed(0)

    def program() -> None:
        net = Net()
        optimizer = torch.optim.SGD([*net.body.parameters(), *net.head.parameters()], lr=0.01)
        if replaced:
            net.body.weight = nn.Parameter(torch.ones(4, 3))
        for _ in range(steps):
            if zero:
                optimizer.zero_grad()
            loss = net.head(net.body(torch.ones(5, 3))).pow(2).mean()
            loss.backward()
            net.idle(torch.ones(5, 2)).mean().backward()  # which no optimizer uses
            optimizer.step()

    with watch(on_finding="ignore", writer=writer) as run:
        program()
    assert run.record.problems == []
    return run


@pytest.fixture(scope="module")
def run() -> watch:
    return train(zero=False)


def test_the_record_tells_what_the_optimizer_held_although_it_is_gone(run: watch) -> None:
    (watched,) = run.record.optimizers
    assert [parameter.name for parameter in watched.parameters] == [
        "body.weight", "body.bias", "head.weight", "head.bias",
    ]  # fmt: skip
    assert all(parameter.held and parameter.trainable for parameter in watched.parameters)
    assert run.record.missing == ["idle.weight", "idle.bias"]
    assert (watched.name, watched.kind, watched.steps) == ("optimizer", "SGD", 6)


def test_a_tensor_that_was_replaced_is_in_no_model() -> None:
    record = train(replaced=True).record
    (watched,) = record.optimizers
    assert [parameter.held for parameter in watched.parameters] == [False, True, True, True]
    assert "body.weight" in record.missing


def test_what_no_optimizer_holds_is_told_once_though_its_name_gets_longer() -> None:
    ours, theirs = Net(), Net()
    first = torch.optim.SGD([*ours.body.parameters(), *ours.head.parameters()], lr=0.01)
    with watch(quiet=True, on_finding="ignore") as run:
        for step in range(4):
            if step == 2:
                second = torch.optim.SGD([*theirs.body.parameters(), *theirs.head.parameters()], lr=0.01)
            for net, optimizer in ((ours, first), (theirs, second if step >= 2 else None)):
                if optimizer is not None:
                    optimizer.zero_grad()
                    net.head(net.body(torch.ones(5, 3))).pow(2).mean().backward()
                    optimizer.step()
    assert not [name for name in run.record.missing if "idle" not in name]
    assert len(run.record.missing) == len(set(run.record.missing)) <= 4


def test_what_happened_is_in_the_order_in_which_it_did(run: watch) -> None:
    kinds = [moment.kind for moment in run.record.moments]
    assert kinds == ["backward", "step"] * 6
    assert all("test_output.py:" in moment.site for moment in run.record.moments)


def test_the_lines_of_a_finding_are_kept(run: watch) -> None:
    (finding,) = [finding for finding in run.findings if finding.code == "GL101"]
    assert run.record.sources[finding.span.path][finding.span.line] == "            loss.backward()"


def test_it_is_saved_and_read_again(run: watch, tmp_path: Path) -> None:
    run.save(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text(encoding="utf-8")
    assert run_json.read(text).findings == run.findings
    with pytest.raises(ConfigError, match="cannot be written: No such file"):
        run.save(tmp_path / "nowhere" / "run.json")


def test_it_is_made_into_a_page(run: watch, tmp_path: Path) -> None:
    run.to_html(str(tmp_path / "run.html"))
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "GL101" in page
    assert "<svg" in page
    assert "idle.weight" in page


def test_a_run_is_told_while_it_goes_on(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with watch(optimizer, quiet=True) as run:
        weight.sum().backward()
        optimizer.step()
        assert "1 step" in run.summary()
        run.save(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["optimizers"][0]["steps"] == 1


def test_it_is_drawn(run: watch, tmp_path: Path) -> None:
    figure = run.plot()
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[0] == "loss"
    assert "norm of the gradients" in titles
    assert any(title.startswith("the gradient cycle") for title in titles)
    figure.savefig(tmp_path / "run.png")


def test_without_matplotlib_it_says_so(run: watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"plot\(\) needs matplotlib; `pip install matplotlib`"):
        run.plot()


def test_losses_of_several_lines_are_kept_apart() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    ours, theirs = torch.optim.SGD([first], lr=0.1), torch.optim.SGD([second], lr=0.1)
    with watch(ours, theirs, quiet=True) as run:
        for _ in range(3):
            ours.zero_grad()
            first.sum().backward()
            ours.step()
            theirs.zero_grad()
            loss_of_theirs = 10 + second.pow(2).sum()
            loss_of_theirs.backward()
            theirs.step()
    series = run.record.series
    assert [step for step, _ in series["loss"]] == [1, 2, 3]
    assert all(value < 3 for _, value in series["loss"])
    assert all(value > 10 for _, value in series["loss/loss_of_theirs"])


class Writer:
    def __init__(self) -> None:
        self.given: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.given.append((name, value, step))


def test_numbers_go_to_a_writer_once() -> None:
    writer = Writer()
    record = train(writer=writer).record
    assert len({(name, step) for name, _, step in writer.given}) == len(writer.given)
    told = {(name.removeprefix("gradlint/"), step): value for name, value, step in writer.given}
    assert told == {(name, step): value for name, points in record.series.items() for step, value in points}
    assert {"loss", "gradient/optimizer/body", "update/optimizer/head"} <= {name for name, _ in told}
    assert all(math.isfinite(value) for value in told.values())


def test_numbers_go_to_a_callable_by_step() -> None:
    given: list[tuple[dict[str, float], int]] = []
    train(writer=lambda numbers, step: given.append((numbers, step)))
    assert sorted({step for _, step in given})[:3] == [1, 2, 3]
    assert any("gradlint/loss" in numbers for numbers, _ in given)


def test_a_writer_that_fails_does_not_reach_the_program() -> None:
    def fail(numbers: dict[str, float], step: int) -> None:
        raise OSError("disk full")

    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with watch(optimizer, quiet=True, writer=fail) as run:
        weight.sum().backward()
        optimizer.step()
    assert "disk full" in run.record.problems[0]


def test_something_that_is_no_writer_is_refused() -> None:
    with pytest.raises(TypeError, match="writer= takes a SummaryWriter or a callable"):
        watch(writer=3)
