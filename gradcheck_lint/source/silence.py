"""Comments that suppress what is found, to be put into a file as fixes are (`--add-noqa`)."""

from __future__ import annotations

import io
import tokenize
from dataclasses import replace
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Edit, Fix, Safety, Span
from gradcheck_lint.result import UNCHECKED
from gradcheck_lint.source import suppress
from gradcheck_lint.source.comments import read
from gradcheck_lint.source.file import DecodeError, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.source.file import SourceFile

_NOT_OURS = UNCHECKED | {suppress.CODE}


def silencing(findings: Iterable[Finding], files: Iterable[SourceFile]) -> list[Finding]:
    """The findings, each with a comment in place of its fix; with none where no comment can stand for it."""
    known = {file.path: file for file in files}
    texts: dict[str, _Text] = {}
    given = []
    for finding in findings:
        path = finding.span.path
        fix = None
        if finding.code not in _NOT_OURS and path in known:
            if path not in texts:
                texts[path] = _Text(known[path])
            edit = texts[path].comment(finding)
            fix = Fix("suppress it", Safety.SAFE, (edit,)) if edit is not None else None
        given.append(replace(finding, fix=fix))
    return given


class _Text:
    """The lines of a file, and where comments are and can be."""

    def __init__(self, file: SourceFile) -> None:
        try:
            text = decode(file.data)
        except DecodeError:
            text = ""
        self._lines = io.StringIO(text, newline="").readlines()  # as Python's tokenizer has them
        self._remarks = {r.comment.line: r for r in read(text).remarks if r.ours and r.words and not r.whole}
        self._open: set[int] = set()  # lines at whose end a comment can stand
        self._statement: dict[int, tuple[int, int]] = {}  # line → the first and the last line of its statement
        for first, last, ends in _statements(text):
            self._open.update(ends)
            self._statement.update(dict.fromkeys(range(first, last + 1), (first, last)))

    def comment(self, finding: Finding) -> Edit | None:
        """Adds the finding's rule to the comment that stands for it, or a comment where there is none."""
        span = finding.span
        first, last = self._statement.get(span.line, (0, 0))
        lines = [line for line in (span.line, span.end_line, first, last) if line in self._open]
        for line in lines:
            remark = self._remarks.get(line)
            if remark is not None and remark.words:
                at, word = remark.words[-1]
                column = remark.comment.column + at + len(word)
                return Edit(Span(span.path, line, column, line, column), f", {finding.slug}")
        if not lines:
            return None
        column = len(self._lines[lines[0] - 1].rstrip("\r\n")) + 1
        return Edit(Span(span.path, lines[0], column, lines[0], column), f"  # gradlint: ignore[{finding.slug}]")


def _statements(text: str) -> Iterator[tuple[int, int, list[int]]]:
    """The first and the last line of each statement, and those lines of it at whose end a comment can stand."""
    ends: list[int] = []
    first = 0
    try:
        for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
            if token.type in (tokenize.NL, tokenize.NEWLINE):
                ends.append(token.start[0])
            elif not first and token.type not in (tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT):
                first = token.start[0]
            if token.type == tokenize.NEWLINE:
                yield first, token.start[0], [end for end in ends if end >= first]
                ends, first = [], 0
    except (SyntaxError, tokenize.TokenError):
        return
