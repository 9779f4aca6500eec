"""The spans of nodes are those that Python's own parser gives, in whatever chunk a node was parsed."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gradcheck_lint
from gradcheck_lint.source import tree
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.project import Finder, Project
from gradcheck_lint.source.triggers import Triggers

SOURCE = Path(gradcheck_lint.__file__).parent
FILES = [SOURCE / "source" / "lint.py", SOURCE / "source" / "suppress.py", SOURCE / "config.py", SOURCE / "page.py"]

ODD = '''\
import torch

class A:
\t@staticmethod
\tdef tabs(x):
\t\treturn f(x, "ü", g(
\t\t\tx)) + h("""
lines""", x)

def one(x): return k(x)

async def two(xs):
    async with m(xs) as y:
        return [n(y) async for y in xs if o(y)]
'''


def spans(path: str, text: str) -> set[tuple[int, int, int, int]]:
    """The spans of all calls below functions, in characters counted from 1."""
    lines = text.split("\n")
    found = set()
    for function in ast.walk(ast.parse(text)):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for node in ast.walk(ast.Module(function.body, [])):
                if isinstance(node, ast.Call):
                    start = len(lines[node.lineno - 1].encode()[: node.col_offset].decode()) + 1
                    end = len(lines[node.end_lineno - 1].encode()[: node.end_col_offset].decode()) + 1
                    found.add((node.lineno, start, node.end_lineno, end))
    return found


def calls(block: tree.Block) -> list[tree.Call]:
    found = []
    for node in tree.walk_block(block):
        if isinstance(node, (tree.Function, tree.Class)):
            found += calls(node.body)
        elif isinstance(node, tree.Call):
            found.append(node)
        elif isinstance(node, tree.Lambda):
            found += calls(node.function.body)
    return found


def functions(block: tree.Block) -> list[tree.Function]:
    found = []
    for node in block:
        if isinstance(node, tree.Function):
            found.append(node)
        elif isinstance(node, tree.Class):
            found += functions(node.body)
    return found


@pytest.mark.parametrize("text", [ODD, *(p.read_text(encoding="utf-8") for p in FILES)])
def test_spans_agree_with_python(text: str, tmp_path: Path) -> None:
    text = re.sub(r"(?m)^.*\bprint\(.*$\n", "", text) if text is ODD else text
    file = SourceFile("x.py", tmp_path / "x.py", text.encode())
    project = Project(Triggers(["."]), Finder([str(tmp_path)]), lambda path, error: None)
    module = project.add(file)
    ours = set()
    for function in functions(module.body):
        for call in calls(function.body):
            span = Place(module.chunks[id(function)], call).span
            ours.add((span.line, span.column, span.end_line, span.end_column))
    assert ours
    assert ours <= spans("x.py", text)
    missing = spans("x.py", text) - ours
    told = {line for line, code in enumerate(module.outline.code, 1) if code.strip() in ("pass", "")}
    assert not {m for m in missing if m[0] not in told and m[2] not in told and not inside_string(text, m)}


def inside_string(text: str, span: tuple[int, int, int, int]) -> bool:
    """Calls inside f-strings are placed by their string in ast before Python 3.12."""
    line = text.split("\n")[span[0] - 1]
    return "f'" in line or 'f"' in line
