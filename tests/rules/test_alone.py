"""What a rule finds does not depend on which others are on, nor on what it says that it needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Finding
from gradcheck_lint.page import Page
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import engine
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

RULES = tuple(rule for rule in registry.load(packs=False) if "source" in rule.witnesses)
PAGES = [Page.read(registry.home() / f"{type(rule).__module__.rpartition('.')[2]}.md") for rule in RULES]


def found(code: str, rules: tuple[Rule, ...]) -> list[Finding]:
    file = SourceFile("a.py", Path.cwd() / "a.py", code.encode())
    return analyse([file], rules, known=RULES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.code)
def test_a_rule_finds_alone_what_it_finds_among_all(page: Page) -> None:
    for example in page.examples:
        if example.kind != "wrong":
            continue
        among = found(example.code, RULES)
        for rule in RULES:
            mine = [finding for finding in among if finding.code == rule.code]
            if mine:
                assert found(example.code, (rule,)) == mine


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.code)
def test_what_a_rule_needs_hides_nothing_from_it(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [example for example in page.examples if example.kind == "wrong"]
    hidden = [found(example.code, RULES) for example in examples]
    monkeypatch.setattr(engine, "_asks", lambda rule, timeline: type(rule).on_timeline is not Rule.on_timeline)
    assert [found(example.code, RULES) for example in examples] == hidden
