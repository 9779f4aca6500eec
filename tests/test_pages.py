"""Every example of every page does what the page says: under the linter, and executed against the real torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.page import Example, Page, PageError
from gradcheck_lint.rule import Rule
from gradcheck_lint.testing import check_lint, check_run, check_watch, name

FILES = sorted(registry.home().glob("*.md"))


def _pages() -> list[Page]:
    """The pages that can be read; `test_page_is_well_formed` tells of the others."""
    pages = []
    for file in FILES:
        try:
            pages.append(Page.read(file))
        except PageError:
            continue
    return pages


EXAMPLES = [(page, example) for page in _pages() for example in page.examples if example.kind != "harm"]
PROGRAMS = [pytest.param(*pair, id=name(*pair)) for pair in EXAMPLES]
EXECUTED = [pytest.param(*pair, id=name(*pair)) for pair in EXAMPLES if not pair[1].norun]


@cache
def _rules() -> tuple[Rule, ...]:
    return tuple(registry.load(packs=False))


def _rules_on(page: Page) -> list[Rule]:
    """The rules that are on by default, and the page's own."""
    return [rule for rule in _rules() if getattr(rule, "default", True) or rule.code == page.code]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_page_is_well_formed(file: Path) -> None:
    Page.read(file)


@pytest.mark.parametrize(("page", "example"), EXECUTED)
def test_execution(page: Page, example: Example) -> None:
    check_run(page, example)


@pytest.mark.parametrize(("page", "example"), PROGRAMS)
def test_lint(page: Page, example: Example) -> None:
    check_lint(page, example, _rules_on(page))


@pytest.mark.parametrize(("page", "example"), EXECUTED)
def test_watch(page: Page, example: Example) -> None:
    check_watch(page, example, _rules_on(page))
