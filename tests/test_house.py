"""The house is in order: imports run one way, without a circle, and a module can be read in one sitting."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from gradcheck_lint.source import memory

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "gradcheck_lint").rglob("*.py")
}
ROOMS = (
    # lowest first: a module belongs where most of its name is written, and may import from its own room and from lower
    "laws",  # what must hold of training, whoever has seen it
    # plain data, and what all others stand on
    "account finding errors files places start children trust page rule result source.file"
    " runtime.call runtime.record runtime.sighting runtime.sightings runtime.layers runtime.structs",
    "report config console baseline",
    "source",  # reading code: trees, values, events
    "source.run.machine source.run.arguments source.run.holdings source.run.lazy source.run.passing"
    " source.run.spotted source.run.shape",
    "source.run",  # what code means
    "source.libraries",
    "facts registry",
    "source.engine source.islands source.workers source.memory source.store source.entry source.outcome source.lint"
    " source.account source.edit source.mend source.rewrite source.per_file source.suppress"
    " source.silence",  # whole projects
    "runtime frameworks",
    "cli testing pytest_plugin __main__",
)
LONGEST = 600  # lines of a module


def imported(node: ast.AST) -> Iterator[str]:
    """The modules of ours that some code imports when it runs, functions included."""
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.If) and ast.unparse(inner.test) == "TYPE_CHECKING":
            continue
        if isinstance(inner, ast.Import):
            yield from (alias.name for alias in inner.names if alias.name in MODULES)
        elif isinstance(inner, ast.ImportFrom) and inner.module in MODULES:
            names = [f"{inner.module}.{alias.name}" for alias in inner.names]
            yield from (name if name in MODULES else inner.module for name in names)
        yield from imported(inner)


@cache
def graph() -> dict[str, set[str]]:
    return {name: set(imported(ast.parse(path.read_text(encoding="utf-8")))) - {name} for name, path in MODULES.items()}


def room(module: str) -> int:
    """How high the room of a module lies."""
    inner = module.removeprefix("gradcheck_lint.")
    found = [
        (len(part), height)
        for height, parts in enumerate(ROOMS)
        for part in parts.split()
        if inner == part or inner.startswith(f"{part}.")
    ]
    return max(found)[1] if found else 0


def test_no_modules_import_one_another_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" ← ".join(error.args[1]))


def test_imports_run_down() -> None:
    assert [f"{a} imports {b}" for a in graph() for b in graph()[a] if room(a) < room(b)] == []


def test_laws_know_neither_code_nor_tensors() -> None:
    """What a law imports, under `TYPE_CHECKING` too, is of Python or another law."""
    found = []
    for name, path in MODULES.items():
        if name.startswith("gradcheck_lint.laws"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                heads = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                heads += [node.module or "."] if isinstance(node, ast.ImportFrom) else []
                found += [f"{name} imports {head}" for head in heads if not _is_pure(head)]
    assert found == []


def test_each_law_is_asked_by_both_witnesses() -> None:
    """And all that it says is asked by one of them: what nobody asks is no law yet."""
    texts = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
    texts |= {f"rules.{path.stem}": path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.py")}
    unasked = []
    for name in MODULES:
        _, _, law = name.partition("gradcheck_lint.laws.")
        if not law:
            continue
        asks = re.compile(rf"laws\.{law} import|laws import (\w+, )*{law}\b")
        asking = [other for other, text in texts.items() if asks.search(text)]
        run = [other for other in asking if other.startswith("gradcheck_lint.runtime.")]
        unasked += [law] if not run or len(run) == len(asking) else []
        said = [node for node in ast.parse(texts[name]).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        used = {word for other in asking for word in _imported_or_read(texts[other])}
        unasked += [f"{law}.{node.name}" for node in said if node.name[0] != "_" and node.name not in used]
    assert unasked == []


def _imported_or_read(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _is_pure(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names or module.startswith("gradcheck_lint.laws")


def test_every_module_has_a_room() -> None:
    named = {part for parts in ROOMS for part in parts.split()}
    tops = {name.split(".")[1] for name in MODULES if "." in name}
    assert sorted(top for top in tops if not any(part.split(".")[0] == top for part in named)) == []


def test_modules_are_short() -> None:
    lengths = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST} == {}


def test_the_cache_is_told_of_every_module_that_can_change_what_is_found() -> None:
    stamps = "\n".join(memory._stamps(()))
    paths = [
        path
        for name, path in MODULES.items()
        if name.startswith(("gradcheck_lint.source.", "gradcheck_lint.facts.", "gradcheck_lint.laws."))
    ]
    assert [path for path in paths if f"/{path.relative_to(ROOT).as_posix()} " not in stamps.replace("\\", "/")] == []
