"""`gradlint explain`: pages of rules, or how a finding was come to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradcheck_lint.cli.common import page_of, warned
from gradcheck_lint.config import read
from gradcheck_lint.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.account import Account
    from gradcheck_lint.page import Page
    from gradcheck_lint.rule import Rule

_PLACE = re.compile(r"(?P<path>.+?):(?P<line>\d+)(?::\d+)?$")
_NAMED = 8  # lines with findings that are named where there is none at the line asked for


def explained(
    words: Sequence[str], *, columns: int, colour: bool, whole: bool, output_format: str, **where: Any
) -> str:
    """The text for codes, slugs and prefixes, or for one `FILE:LINE`; `whole` for all that pages say.

    Raises ConfigError where there is nothing to explain.
    """
    for word in words:
        place = _PLACE.match(word)
        if place is None and (word.endswith((".py", ".pyi")) or Path(word).is_file()):
            raise ConfigError(f"say which line of {word} to explain, as in {word}:1")
        if place is not None and (len(words) > 1 or output_format == "json"):
            raise ConfigError(f"{word} has to be explained by itself, as text")
        if place is not None:
            return _finding(place["path"], int(place["line"]), columns, colour, where)
    from gradcheck_lint import registry
    from gradcheck_lint.report.page_text import render, render_json, render_short

    rules = registry.load(warned(read([], **where)).rule_folders)
    pages = [_page(rule) for rule in dict.fromkeys(rule for word in words for rule in registry.named(rules, word))]
    if output_format == "json":
        return render_json(pages)
    shown = render if whole else render_short
    return "\n\n".join(shown(page, columns=columns, colour=colour) for page in pages)


def _page(rule: Rule) -> Page:
    page = page_of(rule)
    if page is None:
        raise ConfigError(f"{rule.code} ({rule.slug}) has no page")
    return page


def _finding(path: str, line: int, columns: int, colour: bool, where: dict[str, Any]) -> str:
    from gradcheck_lint.report.account import render
    from gradcheck_lint.source.account import accounts
    from gradcheck_lint.source.file import decode
    from gradcheck_lint.source.lint import collect, rules_of

    settings = warned(read([path], **where))
    batch = collect([path], settings)
    if len(batch.files) != 1:
        raise ConfigError(f"{path} is no file that can be read; name one file of Python, and a line of it")
    [file] = batch.files
    rules = rules_of(settings, batch)
    on = [rule for rule in rules.on if "source" in rule.witnesses]
    every = list(accounts(file, on, rules.known))
    found = [account for account in every if _at(account, line)]
    if not found:
        raise ConfigError(f"nothing is found at line {line} of {path}{_elsewhere(every)}")
    sources = {file.path: decode(file.data)}
    return "\n".join(render(account, sources, columns=columns, colour=colour) for account in found)


def _at(account: Account, line: int) -> bool:
    finding = account.finding
    spans = [finding.span, *(place.span for place in finding.related if place.span.path == finding.span.path)]
    return any(span.line <= line <= max(span.line, span.end_line) for span in spans)


def _elsewhere(accounts: Sequence[Account]) -> str:
    lines = list(dict.fromkeys(account.finding.span.line for account in accounts))
    if not lines:
        return ", nor anywhere else in it"
    more = ", …" if len(lines) > _NAMED else ""
    return f"; there are findings at {', '.join(map(str, lines[:_NAMED]))}{more}"
