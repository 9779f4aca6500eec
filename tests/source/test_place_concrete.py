"""The libcst node of a node: the one that says the same in the same place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import libcst as cst
import libcst.matchers as m
import pytest

import gradcheck_lint
from gradcheck_lint.source import tree
from gradcheck_lint.source.lower import lower_block
from gradcheck_lint.source.place import Chunk, Place, name_of

SOURCE = Path(gradcheck_lint.__file__).parent
FILES = sorted((SOURCE / "source").glob("*.py"))

ODD = """\
x = (a, b,)
y = ( # why
    (a, b) , "ü" )
for i, (j, k) in z[1:, (2, 3)]: del i, j
print(sum(p.numel() for p in ps), ((q) for q in ps), f((r for r in ps)))
t = (a), b
e = ()
h = (
    a, b,  # one
    # two
)
a and b and (c or d) or not e
x[i, j], x[i:j, ...], x[(i, j)] = "a" "b", b"c", f"ü{d!r:>{w}} {e.f(1)}"
first, *rest = f(*a, k=1, **b) if (yield) else await_
if (n := 10) > 5 > m: pass
elif u: v
else:
    w = lambda s, *, t=1: -1 + (s
        .t)
async def g():
    async with a as b, c: return [x async for x in y if await z]
    try: raise E
    except* F as f: assert f
    else: pass
@d
class   C (B, metaclass = M): m: int = 1; n @= 2
match w:
    case [1, 2] if p: continue_
"""

KINDS = {
    tree.Name: cst.Name,
    tree.Attribute: cst.Attribute,
    tree.Call: cst.Call,
    tree.Display: (cst.List, cst.Tuple, cst.Set, cst.Del),
    tree.Dict: cst.Dict,
    tree.Comprehension: (cst.BaseComp, cst.GeneratorExp),
    tree.Subscript: cst.Subscript,
    tree.Conditional: cst.IfExp,
    tree.Lambda: cst.Lambda,
    tree.Assign: (cst.Assign, cst.AnnAssign),
    tree.Augment: cst.AugAssign,
    tree.Evaluate: cst.Expr,
    tree.Return: cst.Return,
    tree.If: cst.If,
    tree.For: cst.For,
    tree.With: cst.With,
    tree.Try: (cst.Try, cst.TryStar),
    tree.Class: cst.ClassDef,
}


def everything(nodes: list[tree.Statement]) -> Iterator[tree.Node]:
    """All nodes, those of nested functions and classes included."""
    for node in tree.walk_block(nodes):
        yield node
        if isinstance(node, (tree.Function, tree.Class)):
            yield from everything(node.body)


@pytest.mark.parametrize("text", [pytest.param(ODD, id="odd"), *(f.read_text(encoding="utf-8") for f in FILES)])
def test_every_node_has_its_libcst_node(text: str) -> None:
    if "except*" in text and not hasattr(ast, "TryStar"):
        text = text.replace("except*", "except")
    chunk = Chunk("x.py", text, 0)
    nodes = list(everything(lower_block(ast.parse(text).body, chunk)))
    assert nodes
    for node in nodes:
        if isinstance(node, (tree.Argument, tree.Starred, tree.Other)):
            continue  # libcst has other nodes for stars and indices, and nothing asks for them
        found = chunk.concrete(node)
        assert isinstance(found, KINDS.get(type(node), cst.CSTNode)), (node, found)
        if isinstance(node, tree.Name):
            assert isinstance(found, cst.Name)
            assert found.value == node.id
        span = chunk.span(node)
        assert span == chunk.span_of(found)


@pytest.mark.parametrize("text", [pytest.param(ODD, id="odd"), *(f.read_text(encoding="utf-8") for f in FILES[1:3])])
def test_every_libcst_node_has_a_place(text: str) -> None:
    chunk = Chunk("x.py", text, 7)
    kinds = (
        m.Name() | m.Call() | m.Attribute() | m.Assign() | m.Return() | m.If() | m.For() | m.Tuple() | m.GeneratorExp()
    )
    nodes = m.findall(chunk.module, kinds)
    assert nodes
    for node in nodes:
        place = chunk.place(node)
        assert place.concrete is node
        assert place.span == chunk.span_of(node)
        assert place.code == chunk.module.code_for_node(node)


def test_the_name_of_a_definition_has_a_place() -> None:
    text = "@d(g)\nasync  def g(g): pass\nclass   C(B): pass\nx = lambda: 1\n"
    chunk = Chunk("x.py", text, 0)
    block = lower_block(ast.parse(text).body, chunk)
    spans = [name_of(Place(chunk, node)).span for node in block[:2]]
    assert [(s.line, s.column, s.end_column) for s in spans] == [(2, 12, 13), (3, 9, 10)]
    assert name_of(Place(chunk, block[2])).node is block[2]
