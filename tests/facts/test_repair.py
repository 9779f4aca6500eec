"""Lines put in, deleted and moved: only where a statement has its lines to itself."""

from __future__ import annotations

import ast

import pytest

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Edit
from gradcheck_lint.source import tree
from gradcheck_lint.source.lower import lower_block
from gradcheck_lint.source.place import Chunk, Place

OFFSET = 10  # the first line of TEXT is line 11 of its file

TEXT = """\
if x:
    first()  # kept with it
    for y in z:
        second(
            y,
        )
        # after the last

    if a: third()
    elif b:
        fourth(); fifth()
    else:
        sixth()
seventh(p .q)
"""

CHUNK = Chunk("file.py", TEXT, OFFSET)
LOWERED = lower_block(ast.parse(TEXT).body, CHUNK)


def place(name: str) -> Place:
    """The place of the statement that calls `name`, or of the compound statement of that type."""
    for node in tree.walk_block(LOWERED):
        called = isinstance(node, tree.Evaluate) and isinstance(node.value, tree.Call) and tree.dotted(node.value.func)
        if name in (called, type(node).__name__):
            return Place(CHUNK, node)
    raise AssertionError(name)


def stand(name: str) -> repair.Stand:
    found = repair.stand(place(name))
    assert found is not None
    return found


def applied(*edits: Edit) -> str:
    """TEXT after edits of whole lines, the last ones in the file first."""
    lines = TEXT.splitlines(keepends=True)
    for edit in sorted(edits, key=lambda e: e.span, reverse=True):
        assert (edit.span.column, edit.span.end_column) == (1, 1)
        lines[edit.span.line - OFFSET - 1 : edit.span.end_line - OFFSET - 1] = [edit.text]
    return "".join(lines)


@pytest.mark.parametrize(
    ("name", "lines", "indent"),
    [
        ("first", (12, 12), 4),
        ("second", (14, 16), 8),
        ("For", (13, 16), 4),
        ("sixth", (23, 23), 8),
        ("seventh", (24, 24), 0),
    ],
)
def test_a_statement_stands_on_its_lines(name: str, lines: tuple[int, int], indent: int) -> None:
    found = stand(name)
    assert (found.first, found.last) == lines
    assert found.indent == " " * indent
    assert found.text == "".join(TEXT.splitlines(keepends=True)[lines[0] - OFFSET - 1 : lines[1] - OFFSET])


@pytest.mark.parametrize("name", ["third", "fourth", "fifth"])
def test_a_statement_that_shares_its_line_has_no_stand(name: str) -> None:
    assert repair.stand(place(name)) is None


def test_an_elif_has_no_stand() -> None:
    outer = next(n for n in tree.walk_block(LOWERED) if isinstance(n, tree.If) and n.orelse)
    inner = next(n for n in outer.orelse if isinstance(n, tree.If))
    assert repair.stand(Place(CHUNK, outer)) is not None
    assert repair.stand(Place(CHUNK, inner)) is None


def test_blocks_and_neighbours() -> None:
    assert stand("first").beside(stand("For"))
    assert not stand("first").beside(stand("second"))
    assert stand("second").alone
    assert not stand("first").alone


def test_lines_beside_a_statement_take_its_indentation() -> None:
    assert applied(repair.insert_before(stand("second"), "new()")) == TEXT.replace(
        "        second(", "        new()\n        second("
    )
    assert applied(repair.insert_after(stand("second"), "new()")) == TEXT.replace(
        "            y,\n        )\n", "            y,\n        )\n        new()\n"
    )


def test_a_comment_outlives_its_statement() -> None:
    assert applied(repair.delete(stand("first"))) == TEXT.replace("first()  # kept with it\n", "# kept with it\n")


@pytest.mark.parametrize("comment", ["# noqa", "# gradlint: ignore[GL101]", "# type: ignore", "#noqa: E501"])
def test_a_comment_that_tools_read_goes_with_its_statement(comment: str) -> None:
    alone = stand("first")._replace(text=f"    first(  # one\n        x,  {comment}\n    )  # two\n")
    assert repair.delete(alone).text == "    # one\n    # two\n"


def test_a_statement_is_moved_with_its_comment() -> None:
    line = "    first()  # kept with it\n"
    without = TEXT.replace(line, "")
    assert applied(*repair.move_after(stand("first"), stand("For"))) == without.replace(
        "        )\n", f"        )\n{line}"
    )
    loop = stand("For").text
    assert applied(*repair.move_before(stand("For"), stand("first"))) == TEXT.replace(loop, "").replace(
        line, loop + line
    )


def test_a_node_is_replaced_or_given_a_tail() -> None:
    call = next(n for n in tree.walk_block(LOWERED) if isinstance(n, tree.Call) and tree.dotted(n.func) == "seventh")
    argument = Place(CHUNK, call.args[0].value)
    assert repair.text(argument) == "p .q"
    replaced, appended = repair.replace(argument, "r"), repair.append(argument, "()")
    assert (replaced.span.line, replaced.span.column, replaced.span.end_column, replaced.text) == (24, 9, 13, "r")
    assert (appended.span.column, appended.span.end_column, appended.text) == (13, 13, "()")


def test_a_statement_is_put_into_a_block() -> None:
    line = "    first()  # kept with it\n"
    assert applied(repair.within(stand("first"), "with on:")) == TEXT.replace(line, f"    with on:\n    {line}")


def test_a_decorator_goes_directly_above_a_function() -> None:
    text = "    @old\n    def method(self): pass\n"
    chunk = Chunk("file.py", "if x:\n" + text, OFFSET)
    (block,) = lower_block(ast.parse(chunk.text).body, chunk)
    assert isinstance(block, tree.If)
    edit = repair.decorate(Place(chunk, block.body[0]), "@new()")
    assert (edit.span.line, edit.span.column, edit.text) == (OFFSET + 3, 1, "    @new()\n")
