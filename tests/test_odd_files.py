"""Files that cannot be read or are odd: a clear line for each, and the others are linted all the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradcheck_lint.cli import main

GOOD = """import torch
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters())
for _ in range(3):
    model(torch.ones(1)).sum().backward()
    optimizer.step()
"""

SETUP = "import torch\noptimizer = torch.optim.SGD(model.parameters())\nx = "

ODD = {
    "syntax error": (b"import torch\ndef f(:\n", "GL001"),
    "Python 2": (b'import torch\nprint "hello"\n', "GL001"),
    "2,000 nested brackets": (SETUP.encode() + b"[" * 2000 + b"]" * 2000 + b"\n", "GL001"),
    "not UTF-8": (b'import torch\nx = "\xff\xfe"\n', "GL003"),
    "NUL byte": (b"import torch\nx = 1\0\n", "GL003"),
    "10 MB": (b"import torch\n" + b"x = 1  # optimizer.step()\n" * 400_000, "GL003"),
    "a sum of 20,000": (SETUP.encode() + b"+".join([b"a"] * 20_000) + b"\n", "GL003"),
    "a chain of 3,000 calls": (SETUP.encode() + b"a" + b".f()" * 3000 + b"\n", "GL003"),
    "6,000 branches": (SETUP.encode() + b"1\nif a:\n    pass\n" + b"elif b:\n    pass\n" * 6000, "GL003"),
}


@pytest.mark.parametrize("name", ODD)
def test_clear_line_and_the_others_are_linted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data, code = ODD[name]
    (tmp_path / "odd.py").write_bytes(data)
    (tmp_path / "good.py").write_text(GOOD)
    result = CliRunner().invoke(main, ["--isolated", "--no-cache", "--output-format", "concise", "."])
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert any(line.startswith("good.py:5:5: GL101 ") for line in lines)
    (odd,) = [line for line in lines if line.startswith("odd.py:")]
    assert f" {code} " in odd
    assert "Traceback" not in result.output


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links need a privilege on Windows")
def test_link_loops_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.py").symlink_to("loop.py")
    (tmp_path / "again").symlink_to(".")
    (tmp_path / "good.py").write_text(GOOD)
    result = CliRunner().invoke(main, ["--isolated", "--no-cache", "--output-format", "concise", "."])
    assert result.exit_code == 1
    assert [line.split(" ")[1] for line in result.output.splitlines() if ".py:" in line] == ["GL101", "GL003"]


def test_empty_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--isolated", str(tmp_path)])
    assert result.exit_code == 0
    assert "No Python files" in result.output
