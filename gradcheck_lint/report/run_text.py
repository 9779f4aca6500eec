"""The summary of a watched run for a terminal, at most a screen of it: what was found, what was watched and checked,
and where the watcher was blind.
"""

from __future__ import annotations

from collections import Counter
from pathlib import PurePath
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.report.terminal import BOLD, DIM, GREEN, YELLOW, Paint, clean, width, wrap
from gradcheck_lint.report.text import FIELDS, STYLES, count, duration, headline, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gradcheck_lint.finding import Finding
    from gradcheck_lint.runtime.record import RunRecord, Watched

LINES = 24
COLUMNS = 100
_GUTTER = 8  # columns before the source
_OPTIMIZERS = 3  # how many are listed
_MODELS = 3
_SPOTS = 2


def render(record: RunRecord, *, colour: bool = False, brief: bool = False) -> str:
    """At most a screen. `brief` is for the end of a program: no more than is needed to know what is clear."""
    paint = Paint(colour)
    clear = brief and not record.findings and not record.problems
    end = [*_conclusion(record, paint), *_watched(record, paint)]
    end += [] if clear else _checked(record, paint)
    end += _limits(record, paint)
    findings = sorted(record.findings, key=lambda f: (f.severity is not Severity.ERROR, -f.confidence))
    above = _fitted(findings, texts(record.sources), paint, LINES - len(end) - 1)
    return "\n".join([*above, *([""] if above else []), *end]) + "\n"


def program(record: RunRecord) -> str:
    """The name of the program: that of its file."""
    first = record.program.split(" ")[0] if record.program else ""
    return clean(PurePath(first).name) or "the program"


def texts(sources: Mapping[str, Mapping[int, str]]) -> dict[str, list[str]]:
    """The lines of each file as `snippet` takes them; those that were not kept are empty."""
    return {
        path: [lines.get(number, "") for number in range(1, max(lines) + 1)] for path, lines in sources.items() if lines
    }


# Findings


def _fitted(findings: Sequence[Finding], lines: Mapping[str, list[str]], paint: Paint, room: int) -> list[str]:
    """The findings on at most `room` lines: the code of as many as there is room for, then the words about it."""
    if not findings:
        return []
    forms = [(_line(f, paint), _short(f, lines, paint), _full(f, lines, paint)) for f in findings]
    if len(findings) > room:
        shown = [form[0][0] for form in forms[: room - 1]]
        return [*shown, _more(findings[room - 1 :], paint)]
    chosen = [0] * len(forms)
    for level in (1, 2):
        for index in range(len(forms)):
            tried = [*chosen[:index], level, *chosen[index + 1 :]]
            if chosen[index] == level - 1 and len(_joined(forms, tried)) <= room:
                chosen = tried
    return _joined(forms, chosen)


def _joined(forms: Sequence[tuple[list[str], list[str], list[str]]], chosen: Sequence[int]) -> list[str]:
    shown: list[str] = []
    for index, (form, level) in enumerate(zip(forms, chosen, strict=True)):
        if shown and (level or chosen[index - 1]):
            shown.append("")
        shown += form[level]
    return shown


def _line(finding: Finding, paint: Paint) -> list[str]:
    place = f"{finding.span.path}:{finding.span.line}"
    head = f"{finding.severity} {finding.code}"
    words = cut(f" {place}: {finding.message}", COLUMNS - width(head))
    return [paint(head, STYLES[finding.severity]) + words]


def _short(finding: Finding, lines: Mapping[str, list[str]], paint: Paint) -> list[str]:
    return _told(finding, lines, paint, related=False, fields=("help",))


def _full(finding: Finding, lines: Mapping[str, list[str]], paint: Paint) -> list[str]:
    return _told(finding, lines, paint, related=True, fields=FIELDS)


def _told(
    finding: Finding, lines: Mapping[str, list[str]], paint: Paint, *, related: bool, fields: Sequence[str]
) -> list[str]:
    text = told(finding, lines, paint, columns=COLUMNS, widest=COLUMNS - _GUTTER, related=related, fields=fields)
    head, *rest = text.rstrip("\n").split("\n")
    if width(head) <= COLUMNS:
        return [head, *rest]
    plain = Paint(False)
    first, *more = wrap(headline(finding, plain), COLUMNS, rest="    ").split("\n")
    start = headline(finding, plain).index(":")
    return [
        paint(first[:start], STYLES[finding.severity]) + paint(first[start:], BOLD),
        *(paint(line, BOLD) for line in more),
        *rest,
    ]


def _more(findings: Sequence[Finding], paint: Paint) -> str:
    counts = Counter(finding.code for finding in findings)
    told = ", ".join(f"{number} of {code}" for code, number in sorted(counts.items(), key=lambda it: (-it[1], it[0])))
    return paint(cut(f"and {len(findings)} more: {told}", COLUMNS), BOLD)


def cut(text: str, columns: int) -> str:
    """Somebody else's text on one line of at most `columns`."""
    text = clean(text)
    if width(text) <= columns:
        return text
    while width(text) > columns - 3:
        text = text[:-1]
    return text.rstrip() + "..."


# What was watched


def _conclusion(record: RunRecord, paint: Paint) -> list[str]:
    how = "" if record.ended == "ended" else f"; it was {cut(record.ended, COLUMNS)}"
    steps = sum(optimizer.steps for optimizer in record.optimizers)
    many = len(record.optimizers)
    whose = f" of {count(many, 'optimizer')}" if many != 1 else f" of {record.optimizers[0].label}"
    where = f" on rank {record.rank} of {record.ranks}" if record.ranks > 1 else ""
    what = f"{count(steps, 'step')}{whose}{where}, {duration(record.seconds)}{how}"
    if record.findings:
        unsure = sum(finding.confidence < Confidence.HIGH for finding in record.findings)
        number = count(len(record.findings), "mistake")
        some = f", {unsure} of them not certain" if unsure else ""
        return _wrapped(f"Found {number} in the run of {program(record)} ({what}){some}.")
    if steps == 0:
        why = "judge: no step was seen" if record.optimizers else "watch: no optimizer was built"
        return [paint(line, BOLD) for line in _wrapped(f"Nothing to {why} in the run of {program(record)}{how}.")]
    checked = sum(optimizer.checked for optimizer in record.optimizers)
    text = f"All clear in the run of {program(record)} ({what}; {checked} checked)."
    return [paint(line, GREEN) for line in _wrapped(text)]


def _watched(record: RunRecord, paint: Paint) -> list[str]:
    lines = []
    for optimizer in record.optimizers[:_OPTIMIZERS]:
        lines += _named("watched", cut(describe(optimizer), COLUMNS - 11), paint)
    rest = record.optimizers[_OPTIMIZERS:]
    if rest:
        steps = sum(optimizer.steps for optimizer in rest)
        lines += _named("", f"and {count(len(rest), 'optimizer')} more with {count(steps, 'step')}", paint)
    if record.models:
        models = models_of(record)
        more = f" and {len(models) - _MODELS} more" if len(models) > _MODELS else ""
        lines += _named("models", cut(", ".join(models[:_MODELS]), COLUMNS - 11 - len(more)) + more, paint)
    elif any(optimizer.steps for optimizer in record.optimizers):
        lines += _named("models", "none was found", paint)
    return lines


def models_of(record: RunRecord) -> list[str]:
    """`net (Net, 4 parameters)`; those that are alike, as a copy for each task, once."""
    told = []
    for model, times in Counter(record.models).items():
        held = count(model.parameters, "parameter") + (f", {times} times" if times > 1 else "")
        told.append(f"{model.name} ({model.kind}, {held})" if model.name else f"{model.kind} ({held})")
    return told


def _checked(record: RunRecord, paint: Paint) -> list[str]:
    if not record.checked:
        return []
    return _named("checked", ", ".join(f"{number} {what}" for what, number in record.checked.items()), paint)


def describe(optimizer: Watched) -> str:
    """`optimizer (SGD, 4 parameters): 300 steps, 26 of them checked`."""
    kind = optimizer.kind if optimizer.name else ""
    held = count(len(optimizer.parameters), "parameter")
    inside = ", ".join(part for part in (kind, held) if part)
    if not optimizer.steps:
        return f"{optimizer.label} ({inside}): no step was seen"
    checked = "all" if optimizer.checked == optimizer.steps else optimizer.checked
    return f"{optimizer.label} ({inside}): {count(optimizer.steps, 'step')}, {checked} of them checked"


def _limits(record: RunRecord, paint: Paint) -> list[str]:
    lines = []
    if record.missing:
        lines += _named("unheld", f"no optimizer holds {listed(record.missing)}", paint)
    return [*lines, *_unseen(record, paint), *_broken(record, paint)]


def listed(names: Sequence[str]) -> str:
    """`a.weight`; `a.weight and a.bias`; `12 trainable parameters (a.weight, a.bias, ...)`."""
    if len(names) <= 2:
        return " and ".join(f"`{clean(name)}`" for name in names)
    return f"{len(names)} trainable parameters (`{clean(names[0])}`, `{clean(names[1])}`, ...)"


def blind_spots(record: RunRecord) -> list[str]:
    """What could not be seen, each with the optimizers that it is about."""
    whose: dict[str, list[str]] = {}
    for optimizer in record.optimizers:
        for phrase in optimizer.blind:
            whose.setdefault(phrase, []).append(optimizer.label)
    return [f"{', '.join(dict.fromkeys(labels))}: {phrase}" for phrase, labels in whose.items()]


def _unseen(record: RunRecord, paint: Paint) -> list[str]:
    spots = blind_spots(record)
    lines = [line for spot in spots[:_SPOTS] for line in _named("blind", cut(spot, COLUMNS - 11), paint)]
    more = len(spots) - _SPOTS
    return [*lines, *_named("", f"and {more} more", paint)] if more > 0 else lines


def _broken(record: RunRecord, paint: Paint) -> Iterable[str]:
    if not record.problems:
        return []
    problems = list(dict.fromkeys(record.problems))
    first = f"{cut(problems[0], 3 * COLUMNS)} (a bug in gradlint, not in your code; please report it)"
    more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
    return _named("problem", first + more, paint, YELLOW)


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    """Lines that no word of somebody else's makes too long."""
    return [cut(line, COLUMNS) for line in wrap(clean(text), COLUMNS, first=first, rest=rest).split("\n")]


def _named(name: str, text: str, paint: Paint, style: str = DIM) -> list[str]:
    label = f"{name}:" if name else ""
    lines = _wrapped(text, first=f"  {label:<8} ", rest=" " * 11)
    lines[0] = lines[0].replace(label, paint(label, style), 1) if label else lines[0]
    return lines
