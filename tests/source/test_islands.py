"""Files in groups that import one another, and the same findings whatever the number of processes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.islands import islands
from gradcheck_lint.source.project import Finder

LOOP = """
import torch
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters())
for _ in range(9):
    model(torch.ones(2)).sum().backward()
    optimizer.step()
"""


def files(folder: Path, texts: dict[str, str]) -> list[SourceFile]:
    made = []
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        made.append(SourceFile(name, path, text.encode()))
    return made


def test_imports_join_files(tmp_path: Path) -> None:
    given = files(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/a.py": "from . import b\n",
            "pkg/b.py": "from .deep.c import x\n",
            "pkg/deep/__init__.py": "",
            "pkg/deep/c.py": "from ..d import y\n",
            "pkg/d.py": "y = 1\n",
            "alone.py": "import os, torch\n",
            "main.py": "import pkg.a as a, json\n",
            "other.py": "def f():\n    from tools import g\n",
            "tools.py": "",
        },
    )
    groups = [sorted(f.path for f in group) for group in islands(given, Finder([str(tmp_path)]))]
    assert ["alone.py"] in groups
    assert ["other.py", "tools.py"] in groups
    joined = next(g for g in groups if "main.py" in g)
    assert {"main.py", "pkg/a.py", "pkg/b.py", "pkg/deep/c.py", "pkg/d.py"} <= set(joined)


def test_nothing_outside_the_roots_is_read(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("")
    given = files(tmp_path / "inner", {"main.py": "import helper\n"})
    finder = Finder([str(tmp_path / "inner")])
    assert finder.imported(str(tmp_path / "inner"), "import helper\n") == []
    assert len(islands(given, finder)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs links as POSIX has them")
def test_no_link_is_followed_out_of_the_roots(tmp_path: Path) -> None:
    root = tmp_path / "inner"
    for name in ("outside.py", "package/__init__.py", "inner/there.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (root / "out.py").symlink_to("../outside.py")
    (root / "pack").symlink_to("../package", target_is_directory=True)
    (root / "alias.py").symlink_to("there.py")
    linked = tmp_path / "link"
    linked.symlink_to("inner", target_is_directory=True)  # a link above the root leads nowhere else
    for folder in (root, linked):
        found = Finder([str(folder)]).imported(str(folder), "import out, pack, alias, there\n")
        assert found == [str(folder / "alias.py"), str(folder / "there.py")]


@pytest.mark.parametrize("jobs", [1, 2])
def test_number_of_processes_changes_nothing(jobs: int, tmp_path: Path) -> None:
    given = files(tmp_path, {f"{name}.py": LOOP for name in "abcde"})
    rules = [r for r in registry.load(()) if r.code == "GL101"]
    done = []
    found = analyse(given, rules, jobs=jobs, progress=lambda *steps: done.append(steps))
    assert [(f.span.path, f.span.line) for f in found] == [(f"{name}.py", 6) for name in "abcde"]
    assert done[-1] == (5, 5)
