"""What is shown about rules: the table, a page in a terminal, the counts of `--statistics`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import BARE, CARRIED, REBOUND

from gradcheck_lint.page import Page
from gradcheck_lint.report import page_text, rules_table, statistics
from gradcheck_lint.report.terminal import width
from gradcheck_lint.result import Result

PAGES = sorted((Path(__file__).parents[2] / "rules").glob("*.md"))
MakePage = Callable[..., Page]


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


# Statistics -------------------------------------------------------------------------------------------------------


def test_statistics_count_by_rule_the_most_frequent_first() -> None:
    findings = (BARE, *[replace(BARE, code="GL301", slug="unordered-params")] * 10, CARRIED, REBOUND)
    assert statistics.render(Result(findings, 3, 0.1)).splitlines() == [
        "10  GL301  unordered-params",
        " 2  GL101  missing-zero-grad  1 with --fix",
        " 1  GL201  parameter-rebound  1 with --unsafe-fixes",
    ]


def test_statistics_as_json() -> None:
    assert json.loads(statistics.render_json(Result((BARE, CARRIED, REBOUND), 3, 0.1))) == [
        {"code": "GL101", "slug": "missing-zero-grad", "count": 2, "safe_fixes": 1, "unsafe_fixes": 0},
        {"code": "GL201", "slug": "parameter-rebound", "count": 1, "safe_fixes": 0, "unsafe_fixes": 1},
    ]


def test_statistics_of_nothing(clean: Result) -> None:
    assert statistics.render(clean) == ""
    assert json.loads(statistics.render_json(clean)) == []


def test_statistics_in_colour(everything: Result) -> None:
    coloured = statistics.render(everything, colour=True)
    assert "\x1b[" in coloured
    assert plain(coloured) == statistics.render(everything)


# The table of rules -----------------------------------------------------------------------------------------------


def test_the_table_of_rules(page: MakePage) -> None:
    pages = [
        page(code="GL301", slug="unordered-params", fix="none", severity="warning", found_by="[run]", summary="A set."),
        page(summary="one two three four five six seven eight nine ten"),
    ]
    assert rules_table.render(pages, columns=94).splitlines() == [
        "code   slug               found by         severity  fix   summary",
        "GL101  missing-zero-grad  linter, watcher  error     safe  one two three four five six seven",
        "                                                           eight nine ten",
        "GL301  unordered-params   watcher          warning   -     A set.",
    ]


def test_the_table_of_rules_in_colour(page: MakePage) -> None:
    coloured = rules_table.render([page(summary="`code` here")], colour=True)
    assert "\x1b[36m`code`\x1b[0m here" in coloured
    assert plain(coloured) == rules_table.render([page(summary="`code` here")])


def test_the_table_of_rules_as_json(page: MakePage) -> None:
    assert json.loads(rules_table.render_json([page(fix="none")])) == [
        {
            "code": "GL101",
            "slug": "missing-zero-grad",
            "severity": "error",
            "found_by": ["source", "run"],
            "fix": None,
            "since": "0.1.0",
            "summary": "Gradients of the last step are still there.",
        }
    ]


def test_a_narrow_terminal_still_has_a_readable_summary(page: MakePage) -> None:
    lines = rules_table.render([page(summary="word " * 20)], columns=40).splitlines()
    assert all(line.count("word") >= 5 for line in lines[1:-1])


# A page -----------------------------------------------------------------------------------------------------------

WRONG = """\
Two words of `code here`, **strong** ones, *leaning* ones and a [link](https://pytorch.org).

- first item that is long enough to be wrapped somewhere in the middle of it, is it not
  and goes on
  * nested
1. numbered

| a | b |
|---|:--|
| 1 | `two` |

### Below
```python wrong raises=ValueError medium
for batch in 名:
    loss(名).backward()  # <- GL101

    step()
```

```python fixed
# *not* markup
```

```python harm
assert x
```

````text
```
plain
````"""


def test_a_page_is_laid_out_for_a_terminal(page: MakePage) -> None:
    right = "```python right\nok()\n```\n\nA trap.\n\n```python quiet norun\nfine()\n```"
    rendered = page_text.render(page({"Wrong": WRONG, "Right": right}), columns=60)
    assert (
        rendered
        == """\
GL101 missing-zero-grad
  error, found by the linter and watcher, safe fix, since 0.1.0

  Gradients of the last step are still there.

What it is
  Text of what it is.

Why it hurts
  Text of why it hurts.

Wrong
  Two words of `code here`, strong ones, leaning ones and a
  link (https://pytorch.org).

  - first item that is long enough to be wrapped somewhere
    in the middle of it, is it not and goes on
    - nested
  1. numbered

  a  b
  1  `two`

  Below

  wrong (raises ValueError, medium confidence):
      for batch in 名:
          loss(名).backward()
          ^^^^^^^^^^^^^^^^^^^ GL101

          step()

  what the fix makes of it:
      # *not* markup

  what this shows:
      assert x

      ```
      plain

Right
  right:
      ok()

  A trap.

  not reported:
      fine()

When to ignore it
  Text of when to ignore it.

Fix safety
  Text of fix safety.
"""
    )


def test_a_page_without_a_fix_that_only_the_watcher_finds(page: MakePage) -> None:
    assert "  warning, found by the watcher, no fix, since 2.1\n" in page_text.render(
        page(severity="warning", found_by="[run]", fix="none", since="2.1")
    )


def test_a_page_in_colour(page: MakePage) -> None:
    subject = page({"Wrong": WRONG})
    coloured = page_text.render(subject, colour=True)
    assert "\x1b[1mWhat it is\x1b[0m" in coloured
    assert "\x1b[36m`code here`\x1b[0m" in coloured
    assert "\x1b[1;31m^^^^^^^^^^^^^^^^^^^ GL101\x1b[0m" in coloured
    assert plain(coloured) == page_text.render(subject)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
@pytest.mark.parametrize("columns", [70, 100])
def test_our_own_pages_keep_to_the_columns_and_show_no_markup(path: Path, columns: int) -> None:
    subject = Page.read(path)
    rendered = page_text.render(subject, columns=columns)
    prose = [line for line in rendered.splitlines() if not line.startswith("      ")]
    too_long = [line for line in prose if width(line) > columns and "`" not in line and len(line.split()) > 1]
    assert too_long == []
    assert not any(line.strip().startswith(("```", "##")) or "**" in line for line in prose)
    assert rendered.count(f"^ {subject.code}") == sum(len(example.expected) for example in subject.examples)
    for example in subject.examples:
        assert all(f"      {line}".rstrip() in rendered for line in example.code.splitlines())
