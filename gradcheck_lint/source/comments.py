"""What the comments of a file say to gradlint.

    # gradlint: ignore[GL101, parameter-rebound]   these rules, on this statement
    # gradlint: ignore[GL1]                        all rules whose codes begin so, on this statement
    # gradlint: ignore                             all rules, on this statement
    # noqa: GL101      # noqa                      the same, as other linters write it
    # gradlint: ignore-file[GL101]                 these rules, in the whole file
    # gradlint: skip-file                          all rules, in the whole file

Only real comments count, never strings that look like one, so the file is split into tokens. One comment may hold
several remarks, each with a `#` of its own: `# type: ignore  # gradlint: ignore[GL101]`.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REMARK = re.compile(r"(?:(?<=\s)|^)#+(?:(?=[\s:!])|(?=(?:gradlint|noqa|type|pragma|fmt|nosec)\b))", re.IGNORECASE)
_IGNORE = re.compile(
    r"#+\s*gradlint\s*:\s*ignore(?P<file>-file(?=\s*\[))?(?![\w-])(?:\s*\[(?P<codes>[^\[\]]*)\])?", re.IGNORECASE
)
_SKIP = re.compile(r"#+\s*gradlint\s*:\s*(?:skip-file(?![\w-])|ignore-file(?!\s*[\w\[(=:-]))", re.IGNORECASE)
_NOQA = re.compile(r"#+\s*noqa(?![\w-])(?:\s*:\s*(?P<codes>[A-Z]+[0-9]+(?:[\s,]+[A-Z]+[0-9]+)*))?", re.IGNORECASE)
_NEARLY = re.compile(r"#+\s*gradlint\s*(?P<colon>[:=]?)[\s-]*(?P<word>[\w-]+)(?P<bracket>\s*[\[(=:])?", re.IGNORECASE)
_LIST_WITHOUT_BRACKETS = re.compile(r"[\[(=:]|GL\d{3}\b", re.IGNORECASE)
_NEWLINE = re.compile("\r\n|\r|\n")  # what ends a line for Python's tokenizer

_MEANT = {
    "ignore": "ignore",
    "disable": "ignore",
    "noqa": "ignore",
    "off": "ignore",
    "suppress": "ignore",
    "skip-file": "skip-file",
    "skip": "skip-file",
    "ignore-file": "ignore-file[GL101]",
    "disable-file": "ignore-file[GL101]",
}
"""What people write after `gradlint:`, and which of our words they mean by it."""

_ABOUT_THE_LINE = re.compile(
    r"#+\s*(?:gradlint\s*:|noqa\b|type\s*:|mypy\s*:|pyright\s*:|pylint\s*:|ruff\s*:|pragma\b|fmt\s*:|isort\s*:|nosec\b)",
    re.IGNORECASE,
)
_BETWEEN = frozenset(
    {tokenize.ENCODING, tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
)
"""The kinds of tokens that begin no statement."""


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment, and the lines of the statement that it stands in (its own line where it is in none)."""

    line: int
    column: int
    text: str
    before: str  # its line up to it
    first: int
    last: int
    at_end: bool  # the file ends with it, without a line ending


@dataclass(frozen=True, slots=True)
class Remark:
    """A part of a comment that silences rules."""

    comment: Comment
    start: int  # where in the text of the comment it begins, and where it ends
    end: int
    words: tuple[tuple[int, str], ...] | None  # what it lists, each with its offset; None: every rule
    ours: bool  # `gradlint: ignore`, not `noqa`
    whole: bool = False  # in the whole file

    def __hash__(self) -> int:
        """By its place: hashing all that a long comment lists would take as long each time."""
        return hash((self.comment.line, self.start, self.end))


@dataclass(frozen=True, slots=True)
class Slip:
    """A part of a comment that was meant for gradlint, which cannot read it."""

    comment: Comment
    start: int
    end: int
    message: str
    help: str


@dataclass(frozen=True, slots=True)
class Remarks:
    """All that the comments of a file say."""

    skip_file: bool
    remarks: tuple[Remark, ...]
    slips: tuple[Slip, ...]


def read(text: str) -> Remarks:
    """What the comments in `text` say, up to where it stops being Python."""
    skip_file = False
    remarks: list[Remark] = []
    slips: list[Slip] = []
    for comment in every(text):
        for start, end in _parts(comment.text):
            part = comment.text[start:end]
            if _SKIP.match(part):
                skip_file = True
            elif match := _NOQA.match(part):
                remarks.append(Remark(comment, start, end, _words(match, start), ours=False))
            elif match := _IGNORE.match(part):
                if match["codes"] is None and _LIST_WITHOUT_BRACKETS.match(part[match.end() :].lstrip()):
                    message = "this suppression cannot be read, and suppresses nothing"
                    slips.append(Slip(comment, start, end, message, "write the list as in `# gradlint: ignore[GL101]`"))
                else:
                    whole = match["file"] is not None
                    remarks.append(Remark(comment, start, end, _words(match, start), ours=True, whole=whole))
            elif (match := _NEARLY.match(part)) and (meant := _meant(match, alone=match.end() == len(part))):
                word = match["word"]
                flaw = "this has no colon" if word.lower() == meant else f"unknown directive `{word}`"
                message = f"{flaw}, and suppresses nothing"
                slips.append(Slip(comment, start, end, message, f"write `# gradlint: {meant}`"))
    return Remarks(skip_file, tuple(remarks), tuple(slips))


def speaks_to_tools(comment: str) -> bool:
    """Whether a comment tells tools about its line (`# noqa`, `# type: ignore`): without the line it says nothing."""
    return _ABOUT_THE_LINE.match(comment) is not None


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Where the remarks of a comment begin and end."""
    starts = [match.start() for match in _REMARK.finditer(text)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=False):  # a comment may hold none
        yield start, start + len(text[start:end].rstrip())


def _words(match: re.Match[str], offset: int) -> tuple[tuple[int, str], ...] | None:
    if match["codes"] is None:
        return None
    base = offset + match.start("codes")
    return tuple((base + word.start(), word[0]) for word in re.finditer(r"[^\s,]+", match["codes"]))


def _meant(match: re.Match[str], *, alone: bool) -> str:
    """Which word somebody meant who wrote `# gradlint: ingore`; empty where it is only prose about gradlint."""
    from difflib import get_close_matches

    near = get_close_matches(match["word"].lower(), _MEANT, n=1, cutoff=0.75)
    if not near:
        return "ignore" if match["colon"] and (match["bracket"] or "").endswith("[") else ""
    return _MEANT[near[0]] if match["colon"] or match["bracket"] or alone else ""


def every(text: str) -> Iterator[Comment]:
    """All comments of a text, up to where it stops being Python."""
    lines = _NEWLINE.split(text)
    waiting: list[tokenize.TokenInfo] = []  # comments inside the statement that is being read
    first = 0  # its first line; 0 between statements

    def comment(token: tokenize.TokenInfo, first: int, last: int) -> Comment:
        line, column = token.start
        before = lines[line - 1][:column]
        return Comment(line, column + 1, token.string, before, first, last, at_end=line == len(lines))

    for token in _tokens(text):
        if token.type == tokenize.COMMENT:
            if first:
                waiting.append(token)
            else:
                yield comment(token, token.start[0], token.start[0])
        elif token.type == tokenize.NEWLINE:
            yield from [comment(kept, first, token.start[0]) for kept in waiting]
            waiting.clear()
            first = 0
        elif not first and token.type not in _BETWEEN:
            first = token.start[0]
    yield from [comment(kept, kept.start[0], kept.start[0]) for kept in waiting]


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens of `text`, up to the first thing that is none."""
    try:
        yield from tokenize.generate_tokens(io.StringIO(text, newline="").readline)
    except (SyntaxError, tokenize.TokenError):
        return
