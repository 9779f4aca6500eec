"""What a file defines, and the skeleton and code that libcst is given of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import gradcheck_lint
from gradcheck_lint.source.outline import Outline, split_lines

OURS = sorted(Path(gradcheck_lint.__file__).parent.rglob("*.py"))

PROGRAM = '''\
"""A docstring
of two lines."""
import torch

class Net(torch.nn.Module):
    """Another."""

    @property
    def size(self):
        print("a", end="")
        return 1

    def forward(self, x): return x

    class Inner:
        async def run(self):
            pass

if torch.cuda.is_available():
    def pick():
        return "cuda"
else:
    def pick():
        return "cpu"

try:
    import apex
except ImportError:
    def scale(x):
        return x
finally:
    def last():
        def nested():
            return 0
        return nested
'''


def test_definitions_come_in_source_order_with_their_owners() -> None:
    outline = Outline(PROGRAM)
    names = [d.qualname for d in outline.definitions]
    assert names == ["Net.size", "Net.forward", "Net.Inner.run", "pick", "pick", "scale", "last"]
    assert [d.line for d in outline.definitions] == sorted(d.line for d in outline.definitions)
    assert outline.definitions[0].first == outline.definitions[0].line - 1  # its decorator


def test_skeleton_keeps_lines_and_drops_bodies() -> None:
    outline = Outline(PROGRAM)
    skeleton = outline.skeleton
    assert skeleton.count("\n") == len(outline.lines)
    ast.parse(skeleton)
    assert "return 1" not in skeleton
    assert "nested" not in skeleton
    assert "def forward(self, x): return x" in skeleton


def test_statements_that_only_tell_are_not_read() -> None:
    outline = Outline("def f(loss):\n    '''doc'''\n    print(\n        loss,\n    )\n    print(loss.backward())\n")
    text = outline.definitions[0].text
    assert "doc" not in text
    assert text.count("print") == 1
    assert "backward" in text
    assert text.count("\n") == 6


@pytest.mark.parametrize("path", OURS, ids=lambda p: p.name)
def test_skeleton_and_code_of_real_files_parse_with_the_same_definitions(path: Path) -> None:
    outline = Outline(path.read_text(encoding="utf-8"))
    again = Outline(outline.skeleton)
    assert [(d.qualname, d.line) for d in again.definitions] == [(d.qualname, d.line) for d in outline.definitions]
    ast.parse("".join(outline.code))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb", ["a\n", "b\n"]),
        ("a\r\nb\rc", ["a\n", "b\n", "c\n"]),
        ("a\x0cb\x85c\u2028d", ["a\x0cb\x85c\u2028d\n"]),
    ],
)
def test_lines_are_those_of_the_tokenizer(text: str, lines: list[str]) -> None:
    assert split_lines(text) == lines
