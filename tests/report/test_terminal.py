"""`report/terminal.py` and `report/snippet.py`: widths, cutting, wrapping, underlining."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.finding import Span
from gradcheck_lint.report.snippet import LIMIT, Mark, gutter, lines_of, snippet
from gradcheck_lint.report.terminal import RED, Paint, cells, clean, table, visible, width, wrap

PLAIN = Paint(False)


def draw(line: str, start: int, end: int, words: str = "here") -> list[str]:
    """The line and what is under it, without the gutter."""
    rows = snippet([line], [Mark(Span("a.py", 1, start, 1, end), words, main=True)], 2, RED, PLAIN)
    assert all(re.match(r"( 1|  ) \|", row) for row in rows)
    return [row[5:] for row in rows]


def under(line: str, start: int, end: int) -> tuple[int, int]:
    """Where on the screen the carets are: from which column, and up to which."""
    carets = draw(line, start, end)[1]
    return carets.index("^"), carets.rindex("^") + 1


def test_a_span_is_underlined_with_the_words_behind_it() -> None:
    assert draw("loss.backward()", 6, 14) == ["loss.backward()", "     ^^^^^^^^ here"]


@pytest.mark.parametrize(
    ("line", "marked", "columns"),
    [
        pytest.param("名 = x", "x", (5, 6), id="a wide character before"),
        pytest.param("a = '名前'", "'名前'", (4, 10), id="wide characters in it"),
        pytest.param("😀 = x", "x", (5, 6), id="an emoji"),
        pytest.param("ｆｕｌｌ = x", "x", (11, 12), id="full width letters"),
        pytest.param("e\u0301 = x", "x", (4, 5), id="an accent of its own takes no room"),
        pytest.param("\tx", "x", (4, 5), id="a tab"),
        pytest.param("  \tx", "x", (4, 5), id="a tab goes to the next stop"),
        pytest.param("名\tx", "x", (4, 5), id="after a wide character too"),
        pytest.param("a\tb = x", "b", (4, 5), id="a tab in the middle"),
        pytest.param("a\x00\x1b = x", "x", (6, 7), id="control characters take one column"),
        pytest.param("a\u200b = x", "x", (4, 5), id="a space without width"),
    ],
)
def test_carets_stand_under_what_they_mark(line: str, marked: str, columns: tuple[int, int]) -> None:
    start = line.index(marked) + 1
    assert under(line, start, start + len(marked)) == columns


def test_an_empty_span_gets_one_caret() -> None:
    assert draw("x = (", 6, 6) == ["x = (", "     ^ here"]


def test_a_place_behind_the_line_gets_one_caret() -> None:
    assert draw("x", 9, 12)[1] == " ^ here"


def test_a_span_of_several_lines_is_underlined_to_the_end_of_the_first() -> None:
    mark = Mark(Span("a.py", 1, 5, 3, 2), "here", main=True)
    assert snippet(["x = (  ", "  1", ")"], [mark], 2, RED, PLAIN) == [" 1 | x = (", "   |     ^ here"]


@pytest.mark.parametrize("start", [1, 50, 110, 140, 300, 490])
def test_a_long_line_is_cut_around_the_span(start: int) -> None:
    line = "".join(f"<{number:03}>" for number in range(100))  # 500 characters, no two places alike
    start -= (start - 1) % 5
    code, carets = draw(line, start, start + 5)[:2]
    assert LIMIT - 10 < width(code) <= LIMIT
    at = carets.index("^")
    assert code[at : at + 5] == line[start - 1 : start + 4]
    assert code.startswith("...") == (line[:5] not in code)
    assert code.endswith("...") == (line[-5:] not in code)


def test_a_long_span_is_underlined_as_far_as_it_is_shown() -> None:
    code, carets = draw("x" * 500, 11, 490)
    assert code.endswith("...")
    assert carets == " " * 10 + "^" * (width(code) - 13) + " here"


def test_a_line_that_just_fits_is_not_cut() -> None:
    assert draw("x" * LIMIT, 1, 2)[0] == "x" * LIMIT


def test_a_long_line_of_wide_characters_is_cut_by_columns() -> None:
    line = "名" * 200
    code, carets = draw(line, 151, 152)
    assert width(code) <= LIMIT
    assert carets.strip() == "^^ here"


def test_words_that_would_stand_too_far_right_go_below() -> None:
    code, carets, words = draw("x" * 100, 1, 101, "very " * 10 + "long")
    assert (code, carets) == ("x" * 100, "^" * 100)
    assert words == "very " * 10 + "long"


@given(
    st.text(st.sampled_from("ab \t名😀é\u0301\x00\x0c\x85\u2028\u202e"), max_size=300),
    st.integers(1, 320),
    st.integers(0, 9),
)
def test_no_line_can_break_the_drawing(line: str, start: int, length: int) -> None:
    code, carets = draw(line, start, start + length)[:2]
    assert not {"\n", "\t"} & set(code)
    assert width(code) <= LIMIT
    assert set(carets.partition("here")[0].strip()) == {"^"}
    shown = carets[: carets.rindex("^") + 1]
    assert width(shown) <= LIMIT + 1


def test_near_lines_are_joined_and_distant_ones_are_not() -> None:
    lines = [f"line {number}" for number in range(1, 30)]
    marks = [Mark(Span("a.py", number, 1, number, 5), f"mark {number}", number == 5) for number in (20, 2, 5, 7, 8)]
    assert snippet(lines, marks, 2, RED, PLAIN) == [
        " 2 | line 2",
        "   | ---- mark 2",
        "...",
        " 5 | line 5",
        "   | ^^^^ mark 5",
        " 6 | line 6",
        " 7 | line 7",
        "   | ---- mark 7",
        " 8 | line 8",
        "   | ---- mark 8",
        "...",
        "20 | line 20",
        "   | ---- mark 20",
    ]


def test_several_marks_of_one_line_are_drawn_one_below_the_other_the_main_one_first() -> None:
    marks = [Mark(Span("a.py", 1, 1, 1, 2), "left"), Mark(Span("a.py", 1, 5, 1, 6), "main", main=True)]
    assert snippet(["a = b"], marks, 2, RED, PLAIN) == [" 1 | a = b", "   |     ^ main", "   | - left"]


def test_the_gutter_is_as_wide_as_the_largest_number() -> None:
    assert gutter([Mark(Span("a.py", 7, 1, 7, 2), "")]) == 2
    assert gutter([Mark(Span("a.py", 7, 1, 7, 2), ""), Mark(Span("a.py", 12345, 1, 12345, 2), "")]) == 5


def test_lines_end_where_python_ends_them() -> None:
    assert lines_of("a\nb\r\nc\rd\x0ce\x85f\u2028g\x0bh\n") == ["a", "b", "c", "d\x0ce\x85f\u2028g\x0bh", ""]


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x1b", "␛"),
        ("\x00", "␀"),
        ("\x7f", "␡"),
        ("\x9b", "\ufffd"),
        ("\u202e", "\ufffd"),
        ("\ud800", "\ufffd"),
        ("é", "é"),
    ],
)
def test_no_control_character_reaches_the_terminal(character: str, shown: str) -> None:
    assert visible(character) == shown
    assert clean(f"a{character}b") == f"a{shown}b"


def test_clean_text_is_one_line() -> None:
    assert clean("a\nb\tc\r\nd") == "a b c  d"


def test_the_cells_of_a_line_are_as_many_as_its_characters() -> None:
    assert cells("a\t名") == ["a", "   ", "名"]


def test_wrapping_hangs_and_keeps_code_together() -> None:
    text = "call `a b c d` then stop"
    assert wrap(text, 14, first="* ", rest="  ") == "* call\n  `a b c d`\n  then stop"


def test_wrapping_leaves_a_long_word_whole_and_breaks_code_that_fits_no_line() -> None:
    assert wrap("aaaaaaaaaaaa b", 5) == "aaaaaaaaaaaa\nb"
    assert wrap("`aaa bbb ccc ddd`", 8) == "`aaa bbb\nccc ddd`"


@given(st.lists(st.text(st.sampled_from("ab名`"), min_size=1, max_size=8), max_size=20), st.integers(10, 40))
def test_wrapping_loses_no_word_and_keeps_to_the_columns(words: list[str], columns: int) -> None:
    lines = wrap(" ".join(words), columns).split("\n")
    assert " ".join(lines).split() == words
    assert all(width(line) <= columns or "`" in line or " " not in line for line in lines)


def test_colours_have_no_width() -> None:
    red = Paint(True)("名x", RED)
    assert red == "\x1b[1;31m名x\x1b[0m"
    assert width(red) == 3
    assert Paint(False)("x", RED) == "x"
    assert Paint(True)("", RED) == ""


def test_a_table_is_aligned_by_what_is_seen() -> None:
    rows = [("1", "名", "x"), ("22", Paint(True)("b", RED), ""), ("3", "ccc", "z")]
    assert table(rows, right=frozenset({0})) == [" 1  名   x", "22  \x1b[1;31mb\x1b[0m", " 3  ccc  z"]
    assert table([]) == []
