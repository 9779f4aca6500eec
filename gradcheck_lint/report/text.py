"""The format for people: each finding with its code, the reason and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Safety, Severity
from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.snippet import WIDEST, Mark, gutter, lines_of, snippet
from gradcheck_lint.report.terminal import BLUE, BOLD, DIM, GREEN, RED, YELLOW, Paint, clean, wrap
from gradcheck_lint.result import UNCHECKED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.result import Problem, Result

_COLUMNS = 110
_FLAGS = {Safety.SAFE: "--fix", Safety.UNSAFE: "--unsafe-fixes"}
STYLES = {Severity.ERROR: RED, Severity.WARNING: YELLOW}
FIELDS = ("why", "help", "note", "fix")
_SENTENCES = FIELDS[:3]


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """The findings, what went wrong inside gradlint, and a line that sums up."""
    paint = Paint(colour)
    texts = {path: lines_of(text) for path, text in sources.items()}
    parts = [told(finding, texts, paint, fields=fields) for finding, fields in _once(result.findings)]
    parts += [_problem(problem, paint) for problem in result.problems]
    return "\n".join([*parts, summary(result, colour=colour)])


def _once(findings: Sequence[Finding]) -> Iterator[tuple[Finding, list[str]]]:
    """Each finding with those of its fields that no finding of the same rule has told before."""
    seen: set[tuple[str, str, str]] = set()
    for finding in findings:
        said = {(finding.code, name, str(getattr(finding, name))) for name in _SENTENCES}
        new = {name for _, name, _ in said - seen}
        yield finding, [name for name in FIELDS if name in new or name not in _SENTENCES]
        seen |= said


def summary(result: Result, *, colour: bool = False) -> str:
    """A line: how much was found, in how much, and how much of it gradlint can mend. Another: what it left out."""
    unchecked = {finding.span.path for finding in result.findings if finding.code in UNCHECKED}
    mistakes = [finding for finding in result.findings if finding.code not in UNCHECKED]
    checked = _checked(result, result.files - len(unchecked))
    clear = bool(result.training) and not (mistakes or unchecked or result.problems or result.cut or result.known)
    words = []
    if result.fixed:
        words.append(f"Fixed {count(result.fixed, 'mistake')}.")
    if mistakes:
        where = count(len({finding.span.path for finding in mistakes}), "file")
        left = "left " if result.fixed else ""
        words.append(f"Found {count(len(mistakes), 'mistake')} {left}in {where} ({checked}).")
    elif clear:
        words.append(f"All clear: {checked}.")
    elif unchecked or result.problems or result.training or result.cut or result.known:
        words.append(f"Found no {'new ' if result.known else ''}mistakes ({checked}).")
    elif result.files:
        words.append(f"No training code in {count(result.files, 'file')} (read in {duration(result.seconds)}).")
    else:
        words.append("No Python files to check.")
    if unchecked:
        words.append(f"{count(len(unchecked), 'file')} could not be checked.")
    words += _fixable(mistakes)
    if result.known:
        words.append(f"{were(result.known, 'known mistake')} left out.")
    left_out = " ".join(filter(None, (cut(result), *_skipped(result))))
    return Paint(colour)(" ".join(words), GREEN if clear else BOLD) + "\n" + (left_out and left_out + "\n")


def _checked(result: Result, files: int) -> str:
    """How many files were looked at: a file without training code was read, and there was nothing to check."""
    took = duration(result.seconds)
    if result.training >= files:
        return f"{count(files, 'file')} checked in {took}"
    return f"{count(files, 'file')} read in {took}, {result.training or 'none'} with training code"


def cut(result: Result) -> str:
    """What was too much work, as a sentence; nothing where all was looked at."""
    if len(result.cut) > 1:
        return f"{len(result.cut)} functions were followed in part only; -v names them."
    return f"{cut_off(*result.cut[0])}." if result.cut else ""


def cut_off(path: str, name: str) -> str:
    """What was followed in part only."""
    what = f"`{clean(name)}`" if name else "the code outside of functions"
    sentence = f"{what} in {clean(path)} was followed in part only, as it is too much to follow"
    return sentence[:1].upper() + sentence[1:]


def _skipped(result: Result) -> Iterator[str]:
    """What lay beside the files, and was left alone."""
    if result.skipped.notebooks:
        yield f"{were(result.skipped.notebooks, 'notebook')} skipped: cells are not read yet."
    if result.skipped.links:
        lead = "leads" if result.skipped.links == 1 else "lead"
        yield f"{were(result.skipped.links, 'link')} skipped that {lead} nowhere or out of the project."


def were(number: int, noun: str) -> str:
    """ "1 file was", "2 files were"."""
    return f"{count(number, noun)} {'was' if number == 1 else 'were'}"


def _fixable(findings: Sequence[Finding]) -> Iterator[str]:
    verb = " can be fixed"
    for safety, flag in _FLAGS.items():
        number = sum(finding.fix is not None and finding.fix.safety is safety for finding in findings)
        if number:
            yield f"{number}{verb} with {flag}."
            verb = " more"


def told(
    finding: Finding,
    texts: Mapping[str, Sequence[str]],
    paint: Paint,
    *,
    columns: int = _COLUMNS,
    widest: int = WIDEST,
    related: bool = True,
    fields: Sequence[str] = FIELDS,
) -> str:
    """One finding; `texts` has the lines of each file that is known.

    `columns` is how wide sentences get and `widest` how wide source does; `related` places and `fields` can be
    left out.
    """
    style = STYLES[finding.severity]
    lines = [headline(finding, paint)]
    marks = [Mark(finding.span, finding.label, main=True)]
    if related:
        marks += [Mark(place.span, place.message) for place in finding.related]
    room = gutter(marks)
    for path in dict.fromkeys(mark.span.path for mark in marks):
        here = [mark for mark in marks if mark.span.path == path]
        lines += _place(here, texts.get(path, ()), room, style, paint, widest)
    words = {"why": finding.why, "help": finding.help, "note": finding.note, "fix": _fix(finding)}
    lines += [_field(f"{name}:", words[name], paint, columns) for name in fields if words[name]]
    return "\n".join(lines) + "\n"


def headline(finding: Finding, paint: Paint) -> str:
    """`error[slug] GL101: what is wrong`."""
    unsure = "" if finding.confidence is Confidence.HIGH else f" ({finding.confidence} confidence)"
    head = paint(f"{finding.severity}[{finding.slug}] {finding.code}", STYLES[finding.severity])
    return head + paint(f": {clean(finding.message)}", BOLD) + paint(unsure, DIM)


def _place(marks: Sequence[Mark], text: Sequence[str], room: int, style: str, paint: Paint, widest: int) -> list[str]:
    """The marks of one file with its source; without it, or where a line is not in it, their places alone."""
    arrows = [_arrow("-->" if mark.main else ":::", mark, room, paint) for mark in marks]
    if all(1 <= mark.span.line <= len(text) for mark in marks):
        return [arrows[0], *snippet(text, marks, room, style, paint, widest)]
    return [f"{arrow} {clean(mark.words)}".rstrip() for arrow, mark in zip(arrows, marks, strict=True)]


def _arrow(arrow: str, mark: Mark, room: int, paint: Paint) -> str:
    place = f"{clean(mark.span.path)}:{mark.span.line}:{mark.span.column}"
    return f"{' ' * room}{paint(arrow, BLUE)} {place}"


def _fix(finding: Finding) -> str:
    if finding.fix is None:
        return ""
    available = f"available with {_FLAGS[finding.fix.safety]}"
    return available if finding.fix.title == finding.help else f"{finding.fix.title} ({available})"


def _field(name: str, text: str, paint: Paint, columns: int = _COLUMNS) -> str:
    words = wrap(clean(text), columns, first=f"  {name:<5} ", rest=" " * 8)
    return paint.prose(words).replace(name, paint(name, BOLD), 1)


def _problem(problem: Problem, paint: Paint) -> str:
    where = f"{clean(problem.path)}: " if problem.path else ""
    lines = [paint("problem", RED) + paint(f": {where}{clean(problem.message)}", BOLD)]
    if problem.traceback:  # it is our own mistake
        lines.append(_field("note:", "this is a bug in gradlint, not in your code; please report it", paint))
    return "\n".join(lines) + "\n"


def count(number: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """ "0.04 s", "3.1 s", "5 min 2 s"."""
    if seconds >= 60:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{seconds:.1f} s" if seconds >= 0.095 else f"{seconds:.2f} s"
