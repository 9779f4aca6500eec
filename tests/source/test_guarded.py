"""A mistake of ours costs the file that it is made on: whatever breaks, the others are told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Severity
from gradcheck_lint.result import AnalysisError
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import engine, events, follow, outline
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.run import machine

TEXT = """
import torch
import other
model = torch.nn.Linear(2, 2)
class Own(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [torch.nn.Linear(2, 2)]
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(9):
    model(torch.ones(2)).sum().backward()
    optimizer.step()
"""
PLACES = {
    "outline": (outline.Outline, "_collect", lambda self, *a: "# a" in self.text),
    "spread": (engine.Relevance, "take", lambda self, module: module.path == "a.py"),
    "matters": (engine.Relevance, "matters", lambda self, module: module.path == "a.py"),
    "module": (machine.Machine, "run_frame", lambda self, frame, body: frame.home.path == "a.py"),
    "breaches": (follow, "breaches", lambda timeline, *a: timeline.home.path == "a.py"),
    "class_facts": (engine, "class_facts", lambda i, module: module.path == "a.py"),
    "consider": (engine.Analysis, "consider", lambda self, timeline: timeline.home.path == "a.py"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_breaks_costs_one_file(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, hit = PLACES[place]
    whole = getattr(owner, name)

    def broken(*args: Any, **extra: Any) -> Any:
        if hit(*args):
            raise KeyError("given")
        return whole(*args, **extra)

    monkeypatch.setattr(owner, name, broken)
    texts = {"a.py": TEXT.replace("other", "b") + "# a\n", "b.py": TEXT.replace("other", "a"), "c.py": TEXT}
    files = [SourceFile(name, tmp_path / name, text.encode()) for name, text in texts.items()]
    for file in files:
        Path(file.real).write_bytes(file.data)
    with pytest.raises(AnalysisError) as caught:
        engine.analyse(files, [rule for rule in registry.load(packs=False) if "source" in rule.witnesses])
    assert {problem.path for problem in caught.value.problems} == {"a.py"}
    assert all("KeyError: 'given'" in problem.message for problem in caught.value.problems)
    for path in ("b.py", "c.py"):
        assert {f.code for f in caught.value.findings if f.span.path == path} >= {"GL101", "GL308"}


def test_a_rule_that_wants_to_end_the_program_costs_its_own_findings(tmp_path: Path) -> None:
    class Leaves(Rule):
        code, slug, severity = "XR901", "leaves", Severity.ERROR

        def on_timeline(self, timeline: Any, report: Any) -> None:
            raise SystemExit(0)

    file = SourceFile("a.py", tmp_path / "a.py", TEXT.encode())
    rules = [rule for rule in registry.load(packs=False) if rule.code == "GL101"]
    with pytest.raises(AnalysisError) as caught:
        engine.analyse([file], [Leaves(), *rules])
    assert [problem.message.partition(" (")[0] for problem in caught.value.problems] == ["SystemExit: 0"]
    assert [finding.code for finding in caught.value.findings] == ["GL101"]


class Endless(Rule):
    code, slug, severity = "XX001", "endless", Severity.ERROR
    listens = (events.Step,)

    def on_event(self, event: events.Step, report: Report) -> None:
        self.on_event(event, report)


def test_a_rule_of_somebody_elses_that_goes_on_for_ever_is_no_fault_of_the_file(tmp_path: Path) -> None:
    file = SourceFile("a.py", tmp_path / "a.py", TEXT.encode())
    with pytest.raises(AnalysisError) as caught:
        engine.analyse([file], [*registry.load(packs=False), Endless()])
    [problem] = caught.value.problems
    assert problem.path == "a.py"
    assert problem.message.startswith("RecursionError")
    assert "test_guarded.py" in problem.message
    assert "GL101" in {finding.code for finding in caught.value.findings}
    assert "GL003" not in {finding.code for finding in caught.value.findings}
