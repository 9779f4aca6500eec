"""Files in groups that import one another, and the same findings whatever the number of processes."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source import engine, limits
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.islands import islands
from gradcheck_lint.source.outcome import Island
from gradcheck_lint.source.project import Finder
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.timeline import Timeline

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
    groups = [sorted(f.path for f in group.files) for group in islands(given, Finder([str(tmp_path)]))]
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


TRAINING = {
    "train.py": """
import torch
from lib.steps import go, update
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters())
for _ in range(9):
    go(model, optimizer)
for _ in range(9):
    optimizer.zero_grad()
    update(model, optimizer)
""",
    "lib/layers.py": """
import torch
class Base(torch.nn.Module):
    pass
class Net(Base):
    def __init__(self):
        super().__init__()
        self.layers = [torch.nn.Linear(2, 2)]
    def forward(self, x):
        return self.layers[0](x)
""",
    "lib/steps.py": """
import torch
from lib.layers import Net
def go(model, optimizer):
    model(torch.ones(2)).sum().backward()
    optimizer.step()
def update(model, optimizer):
    model(torch.ones(2)).sum().backward()
    optimizer.step()
""",
}


def test_a_large_island_is_taken_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = files(tmp_path, TRAINING)
    whole = islands(given, Finder([str(tmp_path)]))
    assert [len(island.files) for island in whole] == [3]
    together = analyse(given, registry.load(()))
    assert {(f.code, f.span.path) for f in together} == {("GL101", "lib/steps.py"), ("GL308", "lib/layers.py")}
    monkeypatch.setattr(limits, "ISLAND", 600)
    parts = islands(given, Finder([str(tmp_path)]))
    assert [[f.path for f in island.files] for island in parts] == [
        ["lib/layers.py", "lib/steps.py"],
        ["train.py"],
    ]
    assert [len(island.beside) for island in parts] == [1, 2]
    for jobs in (1, 2):
        assert analyse(given, registry.load(()), jobs=jobs) == together


def test_what_cannot_be_read_beside_a_part_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = files(tmp_path, {**TRAINING, "lib/layers.py": "class Net:\n    def ("})
    monkeypatch.setattr(limits, "ISLAND", 400)
    assert len(islands(given, Finder([str(tmp_path)]))) == 2
    found = analyse(given, registry.load(()))
    assert {(f.code, f.span.path) for f in found} == {("GL001", "lib/layers.py"), ("GL101", "lib/steps.py")}


def test_what_two_parts_find_is_told_the_same_whoever_is_done_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = """
import torch
from shared import grow
net = torch.nn.Linear(2, 2)
optimizer_{0} = torch.optim.SGD(net.parameters(), lr=0.1)
grow(net)
optimizer_{0}.step()
"""
    grow = "import torch\ndef grow(net):\n    net.fc = torch.nn.Linear(2, 2)\n    net.half()\n"
    given = files(tmp_path, {"a.py": start.format("a"), "b.py": start.format("b"), "shared.py": grow})
    monkeypatch.setattr(limits, "ISLAND", 10)
    found = analyse(given, registry.load(()))
    assert [(f.code, f.span.path, f.related[0].span.path) for f in found] == [("GL202", "shared.py", "b.py")]
    monkeypatch.setattr(engine, "islands", lambda *args: islands(*args)[::-1])
    assert analyse(given, registry.load(())) == found


LEARNING = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(dim=1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
kept = []
for x, y in [(torch.ones(1, 2), torch.zeros(1, dtype=torch.long))]:
    loss = torch.nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    kept.append(loss)
"""


def test_nothing_of_an_island_outlives_it() -> None:
    """All rules are asked, and what their facts remember goes with the island: else each would stay, one by one."""
    rules = [rule for rule in registry.load(packs=False) if "source" in rule.witnesses]
    file = SourceFile("train.py", Path("nowhere/train.py"), LEARNING.encode())
    work = engine.work_of([file], rules, rules)
    [island] = islands([file], work.finder)
    before = {id(thing) for thing in gc.get_objects()}  # of other tests
    assert engine.analyse_island(work, island).findings
    assert [t for t in gc.get_objects() if type(t) in (Machine, Timeline) and id(t) not in before] == []


def test_what_was_judged_is_let_go_of() -> None:
    """Of each entry point only that is kept which others ask about: else the largest island sets the memory of all."""
    steps = "opt.zero_grad()\n    model(x).sum().backward()\n    opt.step()\n    torch.relu(x)\n"
    code = "import torch\n" + "".join(f"def f{i}(opt, model, x):\n    {steps}" for i in range(50))
    island = Island((SourceFile("train.py", Path("nowhere/train.py"), code.encode()),))
    rules = [rule for rule in registry.load(packs=False) if "source" in rule.witnesses]
    work = engine.work_of(island.files, rules, rules)
    with engine.analysing(work) as settle:
        analysis = engine.analysed(island, work, settle)
        kept = [timeline for timeline in analysis.machine.timelines if timeline.tree.steps]
        assert len(analysis.machine.timelines) == 51
        assert kept == []
        assert all(len(timeline.clearing) == 1 for timeline in analysis.machine.timelines[1:])


def test_what_the_last_entry_point_puts_in_the_place_of_torch_is_known_of_the_first() -> None:
    loop = "    for x in data:\n        model(x).sum().backward()\n        opt.step()\n"
    first = f"import torch\ndef a(model, data):\n    opt = torch.optim.SGD(model.parameters(), 0.1)\n{loop}"
    last = "def z(wiper):\n    torch.optim.SGD.step = wiper(lambda o: o.zero_grad())\n"
    for code, confidence in ((first, Confidence.HIGH), (first + last, Confidence.MEDIUM)):
        file = SourceFile("train.py", Path("nowhere/train.py"), code.encode())
        rules = [rule for rule in registry.load(packs=False) if rule.code == "GL101"]
        assert [finding.confidence for finding in engine.analyse([file], rules)] == [confidence]


class Ring:
    """Is let go of by nobody but the collector."""

    itself: Ring


@pytest.mark.parametrize(("garbage", "left"), [(0, False), (1 << 40, True)])
def test_what_an_island_leaves_is_cleared_away_where_it_is_much(
    garbage: int, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody else looks for garbage, as in the command; each time would cost more than it gives."""
    monkeypatch.setattr(limits, "GARBAGE", garbage)
    collecting = gc.isenabled()
    gc.disable()
    try:
        thing = Ring()
        thing.itself, seen = thing, weakref.ref(thing)
        del thing
        analyse([SourceFile("a.py", Path("/nowhere/a.py"), b"import torch\n")], [])
        assert (seen() is not None) is left
    finally:
        if collecting:
            gc.enable()
