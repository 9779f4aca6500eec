"""What several commands need."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gradcheck_lint.console import tell

if TYPE_CHECKING:
    from gradcheck_lint.config import Settings
    from gradcheck_lint.page import Page
    from gradcheck_lint.rule import Rule

WIDEST = 100  # columns of running text, however wide the terminal is


def page_of(rule: Rule) -> Page | None:
    """The page of a rule; one that cannot be read is told and left out."""
    from gradcheck_lint import registry
    from gradcheck_lint.page import Page, PageError

    path = registry.page_path(rule)
    if path is None:
        return None
    try:
        return Page.read(path)
    except (OSError, PageError) as error:
        tell("warning", f"the page of {rule.code} cannot be read: {error}")
        return None


def warned(settings: Settings) -> Settings:
    """`settings`, when a warning has said which rule folders they leave out."""
    if settings.left_out:
        from gradcheck_lint import trust

        for folder in settings.left_out:
            tell("warning", trust.told(folder))
    return settings


def columns() -> int:
    return max(40, shutil.get_terminal_size((WIDEST, 24)).columns)


def lines() -> int:
    return shutil.get_terminal_size((WIDEST, 24)).lines
