"""Applies fixes: plans the new bytes of each file, shows them as a diff, writes them.

Every byte outside an edit stays what it was: comments, quotes, line endings, encoding, byte order mark, a missing
last newline. A fix is applied whole or not at all, also where it edits several files. Two fixes that touch the same
place cannot both be right about it: the first one in the order of the findings is applied, and the other waits for
the next round of linting. A fix whose result does not parse is left out.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from difflib import diff_bytes, unified_diff
from functools import cached_property
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Safety
from gradcheck_lint.report.terminal import visible
from gradcheck_lint.result import Problem
from gradcheck_lint.source import rewrite
from gradcheck_lint.source.file import DecodeError, decode, encoding_of
from gradcheck_lint.source.rewrite import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gradcheck_lint.finding import Edit, Finding, Fix
    from gradcheck_lint.source.file import SourceFile

_NEWLINE = re.compile("\r\n|\r|\n")  # what ends a line for Python's tokenizer: no form feed, no U+0085, no U+2028


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one file: `file.data` are the bytes that were linted, `data` the ones to be written."""

    file: SourceFile
    data: bytes


@dataclass(frozen=True, slots=True)
class Skipped:
    """A fix that is not applied, and why; the reason completes the sentence "this fix ..."."""

    finding: Finding
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a round of fixing is going to do. Making one writes nothing."""

    changes: Mapping[str, Change]  # by the path that a Span gives, sorted
    applied: tuple[Finding, ...]
    skipped: tuple[Skipped, ...]


def newline_of(text: str) -> str:
    """The line ending that `text` uses most; the earlier one of two that are used equally often."""
    counts = Counter(_NEWLINE.findall(text))
    return max(counts, key=counts.__getitem__, default="\n")


def plan(findings: Iterable[Finding], sources: Mapping[str, SourceFile], *, unsafe: bool = False) -> Plan:
    """Chooses which fixes of `findings` to apply to the files in `sources`: the safe ones, or all if `unsafe`."""
    texts = _Texts(sources)
    skipped: list[Skipped] = []
    wanted: list[_Candidate] = []
    for finding in sorted(findings, key=lambda finding: finding.order):
        if finding.fix is None:
            continue
        if finding.fix.safety is Safety.UNSAFE and not unsafe:
            skipped.append(Skipped(finding, "is not always safe; --unsafe-fixes applies it"))
            continue
        try:
            wanted.append(_Candidate(finding, texts.cuts(finding.fix)))
        except _UnfitError as error:
            skipped.append(Skipped(finding, str(error)))

    kept, waiting = _without_clashes(wanted)
    changes = _changes(kept, texts)
    if isinstance(changes, _UnfitError):
        kept, waiting = _one_by_one(wanted, texts)
        changes = _changes(kept, texts)
        assert not isinstance(changes, _UnfitError)
    skipped += waiting
    skipped.sort(key=lambda skip: skip.finding.order)
    return Plan(changes, tuple(candidate.finding for candidate in kept), tuple(skipped))


def patch(plan: Plan) -> bytes:
    """The plan as a patch, byte for byte, for `git apply` and `patch -p1` in the folder that gradlint was run in."""
    return b"".join(
        line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
        for path, change in plan.changes.items()
        for line in _unified(path, change)
    )


def diff(plan: Plan, *, colour: bool = False) -> str:
    """The plan as a diff to be looked at: without what would take effect in a terminal, so it is no patch."""
    lines: list[str] = []
    for path, change in plan.changes.items():
        codec, _ = encoding_of(change.file.data)
        for number, line in enumerate(_unified(path, change)):
            sign, rest = line[:1].decode("ascii"), line[1:]
            text = rest.decode("utf-8" if number < 2 or sign == "@" else codec, "replace").removeprefix("\ufeff")
            shown = sign + "".join(c if c == "\t" else visible(c) for c in text.rstrip("\r\n")) + "\n"
            lines.append(shown if line.endswith(b"\n") else f"{shown}\\ No newline at end of file\n")
    return "".join(map(_coloured, lines) if colour else lines)


def _unified(path: str, change: Change) -> Iterator[bytes]:
    r"""The lines of a unified diff. Only "\n" separates them: all else belongs to the line that it stands in."""
    old, new = (_ended(data.split(b"\n")) for data in (change.file.data, change.data))
    before, after = (_quoted(path) if os.path.isabs(path) else _quoted(f"{side}/{path}") for side in "ab")
    return diff_bytes(unified_diff, old, new, before, after)


def _quoted(path: str) -> bytes:
    r"""A name as a patch has it. One with odd characters is quoted as git does, else a newline would end it."""
    path = path.replace(os.sep, "/")
    data = path.encode("utf-8", "surrogateescape" if os.name != "nt" else "surrogatepass")
    if all(byte >= 0x80 or (byte >= 0x20 and byte not in b'"\\\x7f') for byte in data) and path.isprintable():
        return data + b"\t" if b" " in data else data  # the tab ends a name that holds spaces
    plain = [f"\\{byte:03o}" if byte < 0x20 or byte >= 0x7F or byte in b'"\\' else chr(byte) for byte in data]
    return f'"{"".join(plain)}"'.encode()


def write(plan: Plan) -> list[Problem]:
    """Writes the plan to disk; gives back one Problem for each file that had to be left as it is.

    A file is replaced in one step, so that nobody ever sees half of it, and only if it still holds the bytes that
    were linted. Files that one fix edits together are written together or not at all.
    """
    problems: list[Problem] = []
    for paths in _groups(plan):
        problems += _write_together([plan.changes[path] for path in paths])
    return problems


class _UnfitError(Exception):
    """A fix that cannot be applied; its message is the reason of a Skipped."""


@dataclass(frozen=True, slots=True)
class _Cut:
    """An Edit in offsets: the characters from `start` to `end` of the file at `path` become `text`."""

    path: str
    start: int
    end: int
    text: str

    def clashes(self, other: _Cut) -> bool:
        """Whether two edits of different fixes are about the same place. One edit that both want is no clash."""
        if self.path != other.path or self == other:
            return False
        if self.start == self.end or other.start == other.end:  # an insertion clashes with all that it touches
            return self.start <= other.end and other.start <= self.end
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A finding whose fix has been located in the texts."""

    finding: Finding
    cuts: tuple[_Cut, ...]

    def clashes(self, other: _Candidate) -> bool:
        return any(mine.clashes(theirs) for mine in self.cuts for theirs in other.cuts)


class _Text:
    """The text of one file, with the places of its lines."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self.codec, self.bom = encoding_of(file.data)
        self.text = decode(file.data)
        self.newline = newline_of(self.text)
        ends = [match.span() for match in _NEWLINE.finditer(self.text)]
        self._starts = [0, *(end for _, end in ends)]  # where each line begins
        self._stops = [*(start for start, _ in ends), len(self.text)]  # and where its line ending does

    def cut(self, edit: Edit) -> _Cut:
        """`edit` in offsets, its text with this file's line endings."""
        text = _NEWLINE.sub(self.newline, edit.text)
        span = edit.span
        start, end = self._offset(span.line, span.column), self._offset(span.end_line, span.end_column)
        if end < start:
            raise _UnfitError(f"has an edit that ends before it starts, at {span.path}:{span.line}:{span.column}")
        if span.line > len(self._starts) and text.endswith(self.newline):
            text = self.newline + text.removesuffix(self.newline)  # a new last line where the old one has no end
        return _Cut(span.path, start, end, text)

    @cached_property
    def comments(self) -> list[tuple[int, int, str]]:
        """Where each comment begins and ends, those left out that only speak to tools of their line."""
        from gradcheck_lint.source.comments import every, speaks_to_tools

        found = []
        for comment in every(self.text):
            if comment.text.strip("# \t") and not speaks_to_tools(comment.text):
                start = self._offset(comment.line, comment.column)
                found.append((start, start + len(comment.text), comment.text))
        return found

    def _offset(self, line: int, column: int) -> int:
        if (line, column) == (len(self._starts) + 1, 1) and self._starts[-1] < len(self.text):
            return len(self.text)  # the line after a last one that has no line ending
        if 1 <= line <= len(self._starts) and column >= 1:
            offset = self._starts[line - 1] + column - 1
            if offset <= self._stops[line - 1]:
                return offset
        raise _UnfitError(f"points outside of its file, at {self.file.path}:{line}:{column}")

    def with_cuts(self, cuts: Iterable[_Cut]) -> bytes:
        """The bytes of the file after `cuts`, which do not overlap. All others are taken over, never encoded anew."""
        data = self.file.data
        kept: list[bytes] = [self.bom]
        expected: list[str] = []
        at, place = 0, len(self.bom)
        for cut in sorted(cuts, key=lambda cut: (cut.start, cut.end)):
            before, old = (self._bytes(text) for text in (self.text[at : cut.start], self.text[cut.start : cut.end]))
            if data[place : place + len(before) + len(old)] != before + old:
                raise _UnfitError(f"cannot be placed in {self.file.path}, whose {self.codec} bytes are ambiguous")
            kept += [data[place : place + len(before)], self._bytes(cut.text)]
            expected += [self.text[at : cut.start], cut.text]
            at, place = cut.end, place + len(before) + len(old)
        new = b"".join([*kept, data[place:]])
        self._check(new, "".join([*expected, self.text[at:]]))
        return new

    def _bytes(self, text: str) -> bytes:
        try:
            return text.encode(self.codec)
        except UnicodeEncodeError as error:
            character = ascii(error.object[error.start])
            raise _UnfitError(f"needs the character {character}, which {self.codec} cannot write") from None

    def _check(self, data: bytes, expected: str) -> None:
        """Raises _UnfitError unless `data` is the text `expected` and parses."""
        path = self.file.path
        try:
            text = decode(data)
        except DecodeError as error:
            raise _UnfitError(f"would make {path} unreadable: {error}") from None
        if text != expected:
            raise _UnfitError(f"cannot be written into {path} as {self.codec}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(data)
        except SyntaxError as error:
            raise _UnfitError(f"would leave {path} with a syntax error on line {error.lineno}: {error.msg}") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise _UnfitError(f"would leave {path} such that Python cannot parse it: {error}") from None


class _Texts:
    """The texts of the files that fixes edit, read when they are first asked for."""

    def __init__(self, sources: Mapping[str, SourceFile]) -> None:
        self._sources = sources
        self._texts: dict[str, _Text] = {}

    def __getitem__(self, path: str) -> _Text:
        if path not in self._texts:
            if path not in self._sources:
                raise _UnfitError(f"edits {path}, which was not linted")
            try:
                self._texts[path] = _Text(self._sources[path])
            except DecodeError as error:
                raise _UnfitError(f"edits {path}, which cannot be read: {error}") from None
        return self._texts[path]

    def cuts(self, fix: Fix) -> tuple[_Cut, ...]:
        """The edits of `fix` in offsets; raises _UnfitError where they contradict each other."""
        cuts = tuple(dict.fromkeys(self[edit.span.path].cut(edit) for edit in fix.edits))
        for index, cut in enumerate(cuts):
            for other in cuts[:index]:
                if cut.path == other.path and cut.start < other.end and other.start < cut.end:
                    raise _UnfitError(f"has edits that overlap each other in {cut.path}")
        if not any(self[cut.path].text[cut.start : cut.end] != cut.text for cut in cuts):
            raise _UnfitError("changes nothing")
        new = "\n".join(cut.text for cut in cuts)
        for cut in cuts:
            if "#" in self[cut.path].text[cut.start : cut.end]:
                for start, end, comment in self[cut.path].comments:
                    if cut.start <= start and end <= cut.end and comment not in new:
                        raise _UnfitError(f"would delete a comment in {cut.path}")
        return cuts


def _without_clashes(wanted: Iterable[_Candidate]) -> tuple[list[_Candidate], list[Skipped]]:
    kept: list[_Candidate] = []
    waiting: list[Skipped] = []
    for candidate in wanted:
        clash = _clash(candidate, kept)
        if clash:
            waiting.append(clash)
        else:
            kept.append(candidate)
    return kept, waiting


def _clash(candidate: _Candidate, kept: Sequence[_Candidate]) -> Skipped | None:
    for other in kept:
        if candidate.clashes(other):
            code, span = other.finding.code, other.finding.span
            return Skipped(candidate.finding, f"waits for the fix of {code} at {span.path}:{span.line}")
    return None


def _one_by_one(wanted: Iterable[_Candidate], texts: _Texts) -> tuple[list[_Candidate], list[Skipped]]:
    """The same choice where some fix spoils a file: each is tried on top of those before it."""
    kept: list[_Candidate] = []
    waiting: list[Skipped] = []
    for candidate in wanted:
        clash = _clash(candidate, kept)
        if clash:
            waiting.append(clash)
            continue
        paths = {cut.path for cut in candidate.cuts}
        outcome = _changes([*kept, candidate], texts, only=paths)
        if isinstance(outcome, _UnfitError):
            waiting.append(Skipped(candidate.finding, str(outcome)))
        else:
            kept.append(candidate)
    return kept, waiting


def _changes(
    candidates: Iterable[_Candidate], texts: _Texts, only: set[str] | None = None
) -> dict[str, Change] | _UnfitError:
    """What the files (all, or `only` these) become; or the reason why one of them cannot."""
    cuts: dict[str, dict[_Cut, None]] = {}
    for candidate in candidates:
        for cut in candidate.cuts:
            if only is None or cut.path in only:
                cuts.setdefault(cut.path, {})[cut] = None
    try:
        return {path: Change(texts[path].file, texts[path].with_cuts(cuts[path])) for path in sorted(cuts)}
    except _UnfitError as error:
        return error


def _ended(lines: list[bytes]) -> list[bytes]:
    r"""What `data.split(b"\n")` gave, with the line endings again."""
    *whole, last = lines
    return [line + b"\n" for line in whole] + ([last] if last else [])


def _coloured(line: str) -> str:
    for start, style in (("---", "1"), ("+++", "1"), ("@@", "36"), ("-", "31"), ("+", "32")):
        if line.startswith(start):
            return f"\x1b[{style}m{line.removesuffix(chr(10))}\x1b[0m\n"
    return line


def _groups(plan: Plan) -> list[list[str]]:
    """The paths of the plan, those that one fix edits together in one group."""
    group = {path: [path] for path in plan.changes}
    for finding in plan.applied:
        assert finding.fix is not None
        first, *others = [edit.span.path for edit in finding.fix.edits]
        for path in others:
            if group[path] is not group[first]:
                group[first] += group[path]
                group.update(dict.fromkeys(group[path], group[first]))
    return sorted({id(paths): sorted(paths) for paths in group.values()}.values())


def _write_together(changes: Sequence[Change]) -> list[Problem]:
    """Writes all of `changes`, or none and says why. Files that stay what they were are not touched."""
    changes = [change for change in changes if change.data != change.file.data]
    staged: list[tuple[Change, str, str]] = []  # with the real place and the temporary file
    done: list[tuple[Change, str]] = []
    try:
        for change in changes:
            try:
                real = rewrite.place_of(change.file.real)
                staged.append((change, real, rewrite.stage(real, change.file.data, change.data)))
            except (RefusedError, OSError) as error:
                return _problems(changes, change, _reason(error))
        for change, real, temporary in staged:
            done.append((change, real))  # before it is, so that an interrupt in between undoes it too
            try:
                rewrite.put(temporary, real)
            except OSError as error:
                done.pop()
                return _problems(changes, change, _reason(error)) + _undo(done)
        return []
    except BaseException:  # Ctrl-C: together or not at all
        _undo(done)
        raise
    finally:
        for _, _, temporary in staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)


def _undo(done: Iterable[tuple[Change, str]]) -> list[Problem]:
    """Gives files that were written already their old bytes back."""
    problems = []
    for change, real in done:
        try:
            rewrite.put(rewrite.stage(real, change.data, change.file.data), real)
        except (OSError, RefusedError) as error:
            problems.append(Problem(change.file.path, f"fixed, but a file edited together with it is not: {error}"))
    return problems


def _problems(changes: Sequence[Change], culprit: Change, reason: str) -> list[Problem]:
    """One for the file that could not be written, one for each that is edited together with it."""
    problems = []
    for change in changes:
        words = reason if change is culprit else f"is edited together with {culprit.file.path}, which {reason}"
        problems.append(Problem(change.file.path, f"not fixed: it {words}"))
    return problems


def _reason(error: OSError | RefusedError) -> str:
    """Why a file stays as it is; completes the sentence "it ..."."""
    if isinstance(error, OSError):
        return f"cannot be written: {error.strerror or type(error).__name__}"
    return str(error)
