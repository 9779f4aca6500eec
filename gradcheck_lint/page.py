"""The page of a rule: `rules/<stem>.md` read into front matter, prose and examples.

The format is told in docs/architecture.md. A page that does not keep to it is an error with a place and one line
of advice, never half a page: what the tests run, what `gradlint explain` shows and what the documentation prints
all come from the same object. Needs neither torch nor libcst, and no YAML.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gradcheck_lint.finding import Safety, Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_T = TypeVar("_T")

HEADINGS = ("What it is", "Why it hurts", "Wrong", "Right", "When to ignore it", "Fix safety")
KINDS = ("wrong", "fixed", "harm", "right", "quiet")

_KEYS = ("code", "slug", "severity", "found-by", "fix", "since")
_SEVERITIES: dict[str, Severity] = {severity.value: severity for severity in Severity}
_FIXES: dict[str, Safety | None] = {"none": None, **{safety.value: safety for safety in Safety}}
_WORDS = {  # after the kind of an example
    "norun": frozenset(KINDS) - {"harm"},
    "deep": frozenset(KINDS) - {"harm"},
    "medium": frozenset({"wrong", "quiet"}),
    "unwatched": frozenset({"wrong"}),
    "unread": frozenset({"wrong"}),
}
_WITNESSES = ("source", "run")

_CODE = re.compile(r"[A-Z]+\d{3,}")
_SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_VERSION = re.compile(r"\d+(\.\d+)+")
_FENCE = re.compile(r"(?P<ticks>`{3,})(?P<info>[^`]*)")
_MARKER = re.compile(r"\s*# <- (?P<code>\S+)$")


class PageError(ValueError):
    """A page that does not keep to the format; its text is one line with the place and what to do."""

    def __init__(self, path: str, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line


@dataclass(frozen=True, slots=True)
class Example:
    """One fenced program of a page.

    `code` has no markers any more: `expected` holds the lines (from 1) on which they stood. `line` is where the
    fence opens in the page, so that line `n` of the code is line `line + n` of the page. `intro` is the paragraph
    straight before the fence on one line, and `number` counts the examples of the same kind from 1.
    """

    kind: str
    number: int
    code: str = field(repr=False)
    expected: tuple[int, ...]
    raises: str | None
    norun: bool
    medium: bool
    unwatched: bool
    unread: bool
    deep: bool
    line: int
    intro: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Page:
    """What a rule says about itself, parsed."""

    path: str
    code: str
    slug: str
    severity: Severity
    found_by: frozenset[str]
    fix: Safety | None
    since: str
    summary: str
    sections: Mapping[str, str] = field(repr=False)  # heading → Markdown, in the order of HEADINGS
    examples: tuple[Example, ...] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Page:
        """The page in the file `path`; raises PageError, or OSError if it cannot be opened."""
        name = path.as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise PageError(name, 1, f"is not UTF-8 (byte {error.start}); save it as UTF-8") from None
        return cls.parse(text, name)

    @classmethod
    def parse(cls, text: str, path: str) -> Page:
        """The page in `text`; `path` names it in messages."""
        lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
        front, end = _front_matter(lines, path)
        code = _matching(front, "code", _CODE, "such as GL101", path)
        summary, sections, fences = _body(lines, end, path)
        return cls(
            path=path,
            code=code,
            slug=_matching(front, "slug", _SLUG, "lower-case words joined by hyphens", path),
            severity=_choice(front, "severity", _SEVERITIES, path),
            found_by=_witnesses(front, path),
            fix=_choice(front, "fix", _FIXES, path),
            since=_matching(front, "since", _VERSION, "a version such as 0.1.0", path),
            summary=summary,
            sections=sections,
            examples=_examples(fences, code, path),
        )

    def prose(self, heading: str) -> list[str]:
        """The paragraphs, lists and tables of a section, without its examples and what introduces them."""
        found: list[str] = []
        block: list[str] = []
        lines = iter(self.sections[heading].split("\n"))
        for line in lines:
            fence = _FENCE.fullmatch(line.rstrip())
            if fence:
                until_closed(lines, fence["ticks"])
                block = []  # it says what the example shows
            elif line.strip():
                block.append(line)
            elif block:
                found.append("\n".join(block))
                block = []
        return [*found, "\n".join(block)] if block else found

    def of_kind(self, *kinds: str) -> tuple[Example, ...]:
        """The examples of these kinds, in the order of the page."""
        return tuple(example for example in self.examples if example.kind in kinds)

    def fixed(self, wrong: Example) -> Example | None:
        """What the fix makes of the example `wrong`, if the page shows it."""
        return next((example for example in self._after(wrong) if example.kind == "fixed"), None)

    def harms(self, wrong: Example) -> tuple[Example, ...]:
        """The assertions that show what the example `wrong` does to a run."""
        return tuple(example for example in self._after(wrong) if example.kind == "harm")

    def twin(self, wrong: Example) -> Example | None:
        """The correct program to hold against `wrong`: its fixed form, else the first right one of the page."""
        return self.fixed(wrong) or next(iter(self.of_kind("right")), None)

    @property
    def pair(self) -> tuple[Example | None, Example | None]:
        """The first wrong program, and the correct one to hold against it."""
        wrong = next(iter(self.of_kind("wrong")), None)
        return wrong, self.twin(wrong) if wrong is not None else next(iter(self.of_kind("right")), None)

    def _after(self, wrong: Example) -> Iterator[Example]:
        for example in self.examples[self.examples.index(wrong) + 1 :]:
            if example.kind not in ("fixed", "harm"):
                return
            yield example


@dataclass(frozen=True, slots=True)
class _Fence:
    """A fenced block before it is understood."""

    info: str
    lines: tuple[str, ...]
    line: int
    intro: str


def _front_matter(lines: list[str], path: str) -> tuple[dict[str, tuple[str, int]], int]:
    """The values with their lines, and the number of lines up to and with the closing `---`."""
    if not lines or lines[0].rstrip() != "---":
        raise PageError(path, 1, "has no front matter; start the page with a line `---`")
    front: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() == "---":
            missing = [key for key in _KEYS if key not in front]
            if missing:
                raise PageError(path, number, f"the front matter lacks {_names(missing)}")
            return front, number
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.partition(" #")[0].strip()
        if not colon:
            raise PageError(path, number, "is not of the form `key: value`")
        if key not in _KEYS:
            raise PageError(path, number, f"`{key}` is not a key of the front matter{_suggestion(key, _KEYS)}")
        if key in front:
            raise PageError(path, number, f"`{key}` is given twice; remove one")
        front[key] = (value, number)
    raise PageError(path, len(lines), "the front matter is never closed; end it with a line `---`")


def _matching(front: dict[str, tuple[str, int]], key: str, pattern: re.Pattern[str], wanted: str, path: str) -> str:
    value, line = front[key]
    if not pattern.fullmatch(value):
        raise PageError(path, line, f"`{key}: {value}` should be {wanted}")
    return value


def _choice(front: dict[str, tuple[str, int]], key: str, choices: Mapping[str, _T], path: str) -> _T:
    value, line = front[key]
    if value not in choices:
        raise PageError(path, line, f"`{key}: {value}` should be one of {', '.join(choices)}")
    return choices[value]


def _witnesses(front: dict[str, tuple[str, int]], path: str) -> frozenset[str]:
    value, line = front["found-by"]
    if not (value.startswith("[") and value.endswith("]")):
        raise PageError(path, line, f"`found-by: {value}` should be a list such as [source, run]")
    names = [name.strip() for name in value[1:-1].split(",")]
    for name in names:
        if name not in _WITNESSES:
            raise PageError(path, line, f"`{name}` in found-by should be one of {', '.join(_WITNESSES)}")
    return frozenset(names)


def _body(lines: list[str], start: int, path: str) -> tuple[str, dict[str, str], list[_Fence]]:
    """Everything after the front matter: the summary, the sections and the fenced blocks."""
    blocks: dict[str, list[str]] = {"": []}  # under "": what stands before the first heading
    fences: list[_Fence] = []
    section = blocks[""]
    paragraph: list[str] = []  # the paragraph that may turn out to introduce a fence
    ended = False
    index = start
    while index < len(lines):
        line = lines[index]
        opening = _FENCE.fullmatch(line.rstrip())
        if opening:
            end = _closing(lines, index, opening["ticks"], path)
            intro = " ".join(part.strip() for part in paragraph)
            fences.append(_Fence(opening["info"].strip(), tuple(lines[index + 1 : end]), index + 1, intro))
            section.extend(lines[index : end + 1])
            paragraph = []
            index = end + 1
            continue
        if line.startswith("## "):
            heading = line[3:].strip()
            _check_heading(heading, len(blocks) - 1, path, index + 1)
            section = blocks[heading] = []
            paragraph = []
        else:
            section.append(line)
            if not line.strip():
                ended = True
            else:
                paragraph = [line] if ended else [*paragraph, line]
                ended = False
        index += 1
    if len(blocks) <= len(HEADINGS):
        raise PageError(path, len(lines), f"the heading `## {HEADINGS[len(blocks) - 1]}` is missing")
    summary = "\n".join(blocks.pop("")).strip()
    if not summary or "\n" in summary:
        raise PageError(path, start + 1, "the front matter must be followed by one line that states the mistake")
    return summary, {heading: "\n".join(block).strip() for heading, block in blocks.items()}, fences


def until_closed(lines: Iterator[str], ticks: str) -> list[str]:
    """The lines of a fenced block that has begun with such ticks; the one that closes it is taken as well."""
    code = []
    for line in lines:
        if line.startswith(ticks) and not line.strip("` "):
            break
        code.append(line)
    return code


def _closing(lines: list[str], opening: int, ticks: str, path: str) -> int:
    """The index of the line that closes the fence opened at index `opening`."""
    for index in range(opening + 1, len(lines)):
        line = lines[index].rstrip()
        if line.startswith(ticks) and not line.strip("`"):
            return index
    raise PageError(path, opening + 1, f"this block is never closed; end it with {ticks}")


def _check_heading(heading: str, position: int, path: str, line: int) -> None:
    if position >= len(HEADINGS):
        raise PageError(path, line, f"`## {heading}` is one heading too many; the last one is `## {HEADINGS[-1]}`")
    if heading != HEADINGS[position]:
        raise PageError(path, line, f"`## {heading}` should be `## {HEADINGS[position]}`")


def _examples(fences: list[_Fence], code: str, path: str) -> tuple[Example, ...]:
    """The fenced Python programs; blocks in other languages are prose."""
    examples: list[Example] = []
    counts = dict.fromkeys(KINDS, 0)
    for fence in fences:
        language, *words = fence.info.split() or [""]
        if language != "python":
            continue
        example = _example(fence, words, counts, code, path)
        _check_order(example, examples, path)
        counts[example.kind] += 1
        examples.append(example)
    return tuple(examples)


def _example(fence: _Fence, words: list[str], counts: dict[str, int], code: str, path: str) -> Example:
    kind, *options = words or [""]
    if kind not in KINDS:
        raise PageError(
            path, fence.line, f"`python {kind}".rstrip() + f"` should be `python` and {_names(KINDS, 'or')}"
        )
    raises = None
    for option in options:
        if option.startswith("raises=") and kind == "wrong":
            raises = option.removeprefix("raises=")
        elif kind not in _WORDS.get(option, ()):
            raise PageError(path, fence.line, f"`{option}` means nothing after `python {kind}`")
    lines: list[str] = []
    expected: list[int] = []
    for number, line in enumerate(fence.lines, start=1):
        marker = _MARKER.search(line)
        if marker and marker["code"] != code:
            raise PageError(path, fence.line + number, f"marks {marker['code']} on the page of {code}")
        if marker:
            expected.append(number)
        lines.append(line[: marker.start()] if marker else line)
    if kind == "wrong" and not expected:
        raise PageError(path, fence.line, f"a wrong example must mark a line with `# <- {code}`")
    if kind != "wrong" and expected:
        raise PageError(path, fence.line + expected[0], f"only a wrong example may mark a line with `# <- {code}`")
    if kind == "quiet" and not fence.intro:
        raise PageError(path, fence.line, "a quiet example needs a sentence before it that says why it is right")
    return Example(
        kind=kind,
        number=counts[kind] + 1,
        code="".join(f"{line}\n" for line in lines),
        expected=tuple(expected),
        raises=raises,
        norun="norun" in options,
        medium="medium" in options,
        unwatched="unwatched" in options,
        unread="unread" in options,
        deep="deep" in options,
        line=fence.line,
        intro=fence.intro,
    )


def _check_order(example: Example, before: list[Example], path: str) -> None:
    """A fixed or a harm example belongs to the wrong one that it follows."""
    previous = before[-1].kind if before else ""
    if example.kind == "fixed" and previous != "wrong":
        raise PageError(path, example.line, "a fixed example must stand directly after its wrong one")
    if example.kind != "harm":
        return
    if previous not in ("wrong", "fixed", "harm"):
        raise PageError(path, example.line, "a harm example must stand after its wrong one (and the fixed one)")
    if next(other for other in reversed(before) if other.kind == "wrong").norun:
        raise PageError(path, example.line, "a harm example needs a wrong one that is executed; remove its `norun`")


def _names(words: Collection[str], joint: str = "and") -> str:
    quoted = [f"`{word}`" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {joint} {quoted[-1]}"


def _suggestion(word: str, words: Collection[str]) -> str:
    close = get_close_matches(word, words, n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; the keys are {_names(words)}"
