"""The cache: the same findings again, without reading a tree, until something changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span
from gradcheck_lint.source import engine
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.memory import Memory

SPAN = Span("a.py", 1, 2, 3, 4)
FINDING = Finding(
    "GL101", "missing-zero-grad", Severity.ERROR, Confidence.MEDIUM, "message", SPAN, "label", "why", "help", "note",
    (Related("ü", SPAN),), Fix("title", Safety.UNSAFE, (Edit(SPAN, "text\n"),)),
)  # fmt: skip

MAIN = """
import torch
from steps import forget

model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters())
for batch in range(9):
    forget(optimizer)
    model(torch.ones(2)).sum().backward()
    optimizer.step()
"""


def test_findings_come_back_as_they_were(tmp_path: Path) -> None:
    file = SourceFile("a.py", tmp_path / "a.py", b"x = 1\n")
    memory = Memory(tmp_path / "cache", [], [])
    assert memory.recall([file]) is None
    memory.keep([file], [FINDING], [])
    assert Memory(tmp_path / "cache", [], []).recall([file]) == [FINDING]
    assert memory.recall([replace(file, data=b"x = 2\n")]) is None
    assert (tmp_path / "cache" / ".gitignore").read_text() == "*\n"


def test_spoilt_entries_are_forgotten(tmp_path: Path) -> None:
    file = SourceFile("a.py", tmp_path / "a.py", b"x = 1\n")
    memory = Memory(tmp_path, [], [])
    memory.keep([file], [FINDING], [])
    (entry,) = tmp_path.glob("*.json")
    for text in ("", "[]", "{}", '{"others": {}, "findings": [{}]}'):
        entry.write_text(text)
        assert memory.recall([file]) is None


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(tmp_path / "file" / "cache", [], [])
    memory.keep([SourceFile("a.py", tmp_path / "a.py", b"")], [FINDING], [])
    assert memory.recall([SourceFile("a.py", tmp_path / "a.py", b"")]) is None


def test_imported_files_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train.py alone is linted; what it imports decides, and is read again when it changes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steps.py").write_text("import torch\ndef forget(optimizer):\n    optimizer.zero_grad()\n")
    (tmp_path / "train.py").write_text(MAIN)
    file = SourceFile("train.py", tmp_path / "train.py", MAIN.encode())
    rules = [r for r in registry.load(()) if r.code == "GL101"]
    cache = tmp_path / "cache"
    calls = []
    real = engine.analyse_island
    monkeypatch.setattr(engine, "analyse_island", lambda work, files: calls.append(files) or real(work, files))

    def lines() -> list[int]:
        return [f.span.line for f in engine.analyse([file], rules, cache=cache)]

    assert (lines(), len(calls)) == ([], 1)
    assert (lines(), len(calls)) == ([], 1)
    (tmp_path / "steps.py").write_text("import torch\ndef forget(optimizer):\n    return optimizer\n")
    assert (lines(), len(calls)) == ([9], 2)
    assert (lines(), len(calls)) == ([9], 2)
