"""Pages are read exactly, and a page that breaks the format says where and what to do."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck_lint.finding import Safety, Severity
from gradcheck_lint.page import HEADINGS, Page, PageError

TEXT = """\
---
code: GL101
slug: missing-zero-grad
severity: error   # error | warning
found-by: [source, run]
fix: safe
since: 0.1.0
---
Gradients of the last iteration are still there.

## What it is
Text with `code`.

## Why it hurts
```
## not a heading
```

## Wrong
First paragraph.

A loop
without zeroing.

```python wrong
x = 1

x += 1  # <- GL101
```

```python fixed
x = 1

x = 2
```
```python harm
assert x == 2
```
```python harm
assert x > 1
```

Without a fix.
```python wrong raises=ValueError medium
raise ValueError  # <- GL101
```

```python wrong norun
import lightning  # <- GL101
```

## Right
```python right
x = 0
```

Counted by hand: nothing is wrong here.
```python quiet
print("# <- GL101 in the middle stays")
```

## When to ignore it
Never.

## Fix safety
Safe.
"""


def parse(text: str) -> Page:
    return Page.parse(text, "rules/page.md")


def test_front_matter_and_summary() -> None:
    page = parse(TEXT)
    assert (page.path, page.code, page.slug) == ("rules/page.md", "GL101", "missing-zero-grad")
    assert page.severity is Severity.ERROR
    assert page.found_by == {"source", "run"}
    assert page.fix is Safety.SAFE
    assert page.since == "0.1.0"
    assert page.summary == "Gradients of the last iteration are still there."


def test_fix_none_and_one_witness() -> None:
    page = parse(TEXT.replace("fix: safe", "fix: none").replace("[source, run]", "[run]"))
    assert page.fix is None
    assert page.found_by == {"run"}


def test_sections_keep_order_and_markdown() -> None:
    page = parse(TEXT)
    assert tuple(page.sections) == HEADINGS
    assert page.sections["What it is"] == "Text with `code`."
    assert page.sections["Why it hurts"] == "```\n## not a heading\n```"
    assert "# <- GL101" in page.sections["Wrong"]


def test_examples() -> None:
    examples = parse(TEXT).examples
    kinds = [(example.kind, example.number) for example in examples]
    assert kinds == [
        ("wrong", 1),
        ("fixed", 1),
        ("harm", 1),
        ("harm", 2),
        ("wrong", 2),
        ("wrong", 3),
        ("right", 1),
        ("quiet", 1),
    ]
    first, fixed, _, _, second, third, right, quiet = examples
    assert first.code == "x = 1\n\nx += 1\n"
    assert first.expected == (3,)
    assert TEXT.splitlines()[first.line - 1] == "```python wrong"
    assert first.intro == "A loop without zeroing."
    assert fixed.intro == ""
    assert (second.raises, second.medium, second.norun) == ("ValueError", True, False)
    assert second.intro == "Without a fix."
    assert (third.raises, third.medium, third.norun) == (None, False, True)
    assert right.intro == ""
    assert quiet.intro == "Counted by hand: nothing is wrong here."
    assert quiet.code == 'print("# <- GL101 in the middle stays")\n'


def test_what_belongs_to_a_wrong_example() -> None:
    page = parse(TEXT)
    first, second, third = page.of_kind("wrong")
    right = page.of_kind("right")[0]
    assert page.fixed(first) == page.twin(first) == page.examples[1]
    assert [harm.code for harm in page.harms(first)] == ["assert x == 2\n", "assert x > 1\n"]
    assert page.fixed(second) is None
    assert page.harms(second) == ()
    assert page.twin(second) == page.twin(third) == right


def test_line_endings_and_byte_order_mark_change_nothing() -> None:
    assert parse("\ufeff" + TEXT.replace("\n", "\r\n")) == parse(TEXT)


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_bytes(TEXT.encode())
    page = Page.read(file)
    assert page.path == file.as_posix()
    assert page.sections == parse(TEXT).sections
    file.write_bytes(b"---\ncode: \xff\n")
    with pytest.raises(PageError, match="not UTF-8"):
        Page.read(file)


def test_pages_can_be_sent_between_processes() -> None:
    page = parse(TEXT)
    assert pickle.loads(pickle.dumps(page)) == page


def test_reading_pages_imports_no_heavy_package() -> None:
    program = "import sys, gradcheck_lint.page; print(*{'torch', 'libcst', 'yaml', 'click'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip() == ""


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("---\ncode", "code", 1, "no front matter"),
        ("since: 0.1.0\n---\n", "since: 0.1.0\n", 8, "not of the form `key: value`"),
        ("since: 0.1.0\n", "", 7, "lacks `since`"),
        ("since: 0.1.0", "since: soon", 7, "a version such as 0.1.0"),
        ("code: GL101", "code: 101", 2, "such as GL101"),
        ("missing-zero-grad", "missing_zero_grad", 3, "joined by hyphens"),
        ("severity: error", "severity: bad", 4, "should be one of error, warning"),
        ("severity:", "sevrity:", 4, "did you mean `severity`"),
        ("[source, run]", "source", 5, "a list such as"),
        ("[source, run]", "[source, test]", 5, "`test` in found-by"),
        ("fix: safe", "fix: safe\nfix: safe", 7, "given twice"),
        ("Gradients of the last iteration are still there.\n", "", 9, "one line that states the mistake"),
        ("still there.\n", "still there.\nMore.\n", 9, "one line that states the mistake"),
        ("## Why it hurts", "## Why", "## Why", "should be `## Why it hurts`"),
        ("## Fix safety\nSafe.\n", "", "", "`## Fix safety` is missing"),
        ("Safe.\n", "Safe.\n## More\n", "## More", "one heading too many"),
        ("```python wrong norun", "```python bad", "```python bad", "should be `python` and `wrong`"),
        ("```python wrong norun", "```python", "```python", "`python` should be `python` and"),
        ("```python wrong norun", "```python wrong skip", "```python wrong skip", "`skip` means nothing"),
        ("```python right", "```python right medium", "```python right medium", "`medium` means nothing after"),
        ("x += 1  # <- GL101", "x += 1", "```python wrong", "must mark a line"),
        ("x += 1  # <- GL101", "x += 1  # <- GL102", "x += 1  # <- GL102", "marks GL102 on the page of GL101"),
        ("x = 0", "x = 0  # <- GL101", "x = 0  # <- GL101", "only a wrong example"),
        ("Counted by hand: nothing is wrong here.\n", "", "```python quiet", "needs a sentence"),
        ("```python quiet", "```python fixed", "```python fixed", "directly after its wrong one"),
        ("```python quiet", "```python harm", "```python harm", "must stand after its wrong one"),
        (
            "norun\nimport lightning  # <- GL101\n```",
            "norun\npass  # <- GL101\n```\n```python harm\n```",
            "```python harm",
            "is executed",
        ),
        ("```python harm\nassert x > 1", "```python harm norun\n", "```python harm norun", "`norun` means nothing"),
        ('stays")\n```', 'stays")', "```python quiet", "never closed"),
    ],
)
def test_errors_say_where_and_what(old: str, new: str, at: int | str, message: str) -> None:
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    # `at`: a line number, or the last line of the page with this text
    lines = text.split("\n")
    line = at if isinstance(at, int) else len(lines) - lines[::-1].index(at)
    with pytest.raises(PageError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith(f"rules/page.md:{line}: ")
    assert "\n" not in str(caught.value)


@given(st.lists(st.one_of(st.sampled_from(TEXT.splitlines()), st.text(max_size=12)), max_size=20), st.integers(0, 70))
def test_any_other_text_is_a_page_or_an_error(lines: list[str], start: int) -> None:
    text = "\n".join([*TEXT.splitlines()[:start], *lines])
    page, refused = None, None
    try:
        page = parse(text)
    except PageError as error:
        refused = error
    if refused:
        assert 1 <= refused.line <= text.count("\n") + 1
        assert str(refused).startswith(f"rules/page.md:{refused.line}: ")
    else:
        assert page
        assert tuple(page.sections) == HEADINGS
