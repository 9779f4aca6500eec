"""Each mistake has one rule and one page, and the two say the same."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from gradcheck_lint import registry
from gradcheck_lint.page import HEADINGS, Page
from gradcheck_lint.rule import Rule

HOME = registry.home()
FILES = sorted(HOME.glob("*.md"))
RULES = registry.load(packs=False)

TRAPS = {
    "GL101": 10,
    "GL102": 2,
    "GL103": 2,
    "GL104": 4,
    "GL106": 2,
    "GL112": 2,
    "GL114": 2,
    "GL115": 4,
    "GL201": 4,
    "GL204": 2,
    "GL207": 2,
    "GL301": 2,
    "GL308": 3,
    "GL402": 3,
    "GL404": 3,
    "GL407": 2,
}
"""How many ways of being right the catalogue lists for a mistake, where these are more than one."""

NO_TRAPS = frozenset(
    ["GL113", "GL116", "GL117", "GL118", "GL210", "GL302", "GL306", "GL307", "GL312", "GL313", "GL316", "GL317"]
)
"""The mistakes for which it lists none."""

each_page = pytest.mark.parametrize("page", [Page.read(file) for file in FILES], ids=lambda page: page.code)
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


@each_rule
def test_rule_has_a_page_that_agrees(rule: Rule) -> None:
    file = registry.page_path(rule)
    assert file, f"{rule.code} has no page; write rules/{rule.slug.replace('-', '_')}.md"
    page = Page.read(file)
    assert (page.code, page.slug) == (rule.code, rule.slug)
    assert page.severity is rule.severity
    assert page.fix is rule.fix
    assert page.found_by == rule.witnesses


@each_page
def test_page_has_a_rule(page: Page) -> None:
    assert page.code in {rule.code for rule in RULES}


def test_stems_are_slugs() -> None:
    for file in FILES:
        assert file.stem == Page.read(file).slug.replace("-", "_")
    for file in HOME.glob("[!_]*.py"):
        slugs = [rule.slug for rule in RULES if type(rule).__module__.rpartition(".")[2] == file.stem]
        assert slugs == [file.stem.replace("_", "-")]


def test_codes_and_slugs_are_unique() -> None:
    pages = [Page.read(file) for file in FILES]
    for words in ([page.code for page in pages], [page.slug for page in pages]):
        assert [word for word, count in Counter(words).items() if count > 1] == []


@each_page
def test_every_section_says_something(page: Page) -> None:
    assert tuple(page.sections) == HEADINGS
    assert [heading for heading, text in page.sections.items() if not text] == []


@each_page
def test_summary_is_one_sentence(page: Page) -> None:
    assert re.fullmatch(r"[A-Z`].*[^.]\.", page.summary)
    assert len(page.summary) <= 130


@each_page
def test_page_shows_wrong_and_right(page: Page) -> None:
    if page.code.startswith("GL0"):  # about the tool and the file, not about a program
        return
    assert page.of_kind("wrong")
    assert page.of_kind("right")


@each_page
def test_first_wrong_example_shows_its_harm(page: Page) -> None:
    for wrong in page.of_kind("wrong")[:1]:
        assert page.harms(wrong) or wrong.raises or wrong.norun


@each_page
def test_each_trap_is_a_quiet_example(page: Page) -> None:
    if page.code.startswith("GL0") or page.code in NO_TRAPS:
        return
    assert len(page.of_kind("quiet")) >= TRAPS.get(page.code, 1)


@each_page
def test_fixed_examples_where_there_is_a_fix(page: Page) -> None:
    assert bool(page.of_kind("fixed")) == (page.fix is not None)
