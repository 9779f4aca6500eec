"""A watched run as JSON and back, in a shape that stays: docs/run.schema.json and docs/watching.md tell it."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span
from gradcheck_lint.report.json import finding_object
from gradcheck_lint.runtime.record import Model, Moment, Parameter, RunRecord, Site, Watched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = 1  # raised when a reader of the old shape would go wrong, not when something is added
KIND = "gradlint run"
LARGEST = 1 << 28  # bytes of a file that is read
_MOST = 1 << 53  # a whole number beyond is none of ours
_ODD = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # what JSON has no number for

_T = TypeVar("_T")


class RunFileError(ConfigError):
    """A file is no saved run, or not one that this version can read; one line says why."""


# Writing


def render(record: RunRecord, *, colour: bool = False) -> str:
    """One object; pure ASCII, so that no console or pipe can spoil it."""
    document = {
        "kind": KIND,
        "version": VERSION,
        "program": record.program,
        "python": record.python,
        "torch": record.torch,
        "rank": record.rank,
        "ranks": record.ranks,
        "seconds": round(record.seconds, 3),
        "watching": round(record.watching, 3),
        "ended": record.ended,
        "findings": [_finding(finding) for finding in record.findings],
        "optimizers": [_watched(optimizer) for optimizer in record.optimizers],
        "models": [
            {"name": model.name, "class": model.kind, "parameters": model.parameters} for model in record.models
        ],
        "missing": list(record.missing),
        "checked": dict(record.checked),
        "problems": list(record.problems),
        "moments": [moment._asdict() for moment in record.moments],
        "series": {name: [[step, _number(value)] for step, value in points] for name, points in record.series.items()},
        "sources": {
            path: {str(number): text for number, text in sorted(lines.items())}
            for path, lines in record.sources.items()
        },
    }
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _finding(finding: Finding) -> dict[str, object]:
    related = [{**_place(place.span), "message": place.message} for place in finding.related]
    return {**finding_object(finding), "related": related, "step": finding.step}


def _place(span: Span) -> dict[str, object]:
    return {
        "path": span.path,
        "line": span.line,
        "column": span.column,
        "end_line": span.end_line,
        "end_column": span.end_column,
    }


def _watched(optimizer: Watched) -> dict[str, object]:
    return {
        "index": optimizer.index,
        "name": optimizer.name,
        "class": optimizer.kind,
        "built": optimizer.built and optimizer.built._asdict(),
        "steps": optimizer.steps,
        "backwards": optimizer.backwards,
        "zeros": optimizer.zeros,
        "checked": optimizer.checked,
        "blind": list(optimizer.blind),
        "parameters": [
            {
                "name": parameter.name,
                "shape": list(parameter.shape),
                "dtype": parameter.dtype,
                "device": parameter.device,
                "group": parameter.group,
                "trainable": parameter.trainable,
                "held": parameter.held,
            }
            for parameter in optimizer.parameters
        ],
    }


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(float(value))


# Reading


def load(file: str) -> RunRecord:
    """The record that is saved in a file; raises RunFileError."""
    path = Path(file)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise RunFileError(f"{file} is a folder; name the JSON file of a run")
        if not stat.S_ISREG(mode):  # a pipe or a device may never end
            raise RunFileError(f"{file} is no regular file; name the JSON file of a run")
        if path.stat().st_size > LARGEST:
            raise RunFileError(f"{file} is too large to be a saved run")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise RunFileError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return read(data.decode("utf-8-sig"), file)
    except UnicodeDecodeError:
        raise RunFileError(f"{file} is not a saved run: it is not UTF-8") from None


def read(text: str, name: str = "the file") -> RunRecord:
    """The record that `render` made this text from; raises RunFileError."""
    if text.lstrip()[:1] == "<":
        raise RunFileError(f"{name} is a page and not JSON; give the file of `gradlint run -o run.json` or `run.save`")
    if not text.strip():
        raise RunFileError(f"{name} is not a saved run: it is empty")
    try:
        document = json.loads(text)
    except RecursionError:
        raise RunFileError(f"{name} is not a saved run: it is nested too deeply") from None
    except ValueError as error:
        raise RunFileError(f"{name} is not a saved run: it is not JSON ({_first_line(error)})") from None
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise RunFileError(f"{name} is not a saved run; save one by `gradlint run --output-file run.json train.py`")
    if document.get("version") != VERSION:
        found = _shown(repr(document.get("version")))
        raise RunFileError(f"{name} has the shape {found} of another version of gradlint; this one reads {VERSION}")
    return _record(_Node(name, "", document))


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _shown(text: str, most: int = 80) -> str:
    """Something out of a file, on one line and not too long."""
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= most else f"{text[:most]}..."


class _Node:
    """A value in the document, which knows where it is, so that what is wrong with it can be told."""

    def __init__(self, file: str, where: str, value: object) -> None:
        self.file, self.where, self.value = file, where, value

    def fail(self, wanted: str) -> RunFileError:
        return RunFileError(f"{self.file} is not a saved run: {_shown(self.where) or 'it'} should be {wanted}")

    def of(self, kind: type[_T] | tuple[type[_T], ...], wanted: str) -> _T:
        value = self.value
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.fail(wanted)
        return value

    def __getitem__(self, key: str) -> _Node:
        value = self.of(dict, "an object")
        where = f"{self.where}.{key}" if self.where else key
        if key not in value:
            raise _Node(self.file, where, None).fail("there")
        return _Node(self.file, where, value[key])

    def get(self, key: str, default: object) -> _Node:
        """What earlier versions did not write."""
        return self[key] if key in self.of(dict, "an object") else _Node(self.file, key, default)

    def __iter__(self) -> Iterator[_Node]:
        for index, value in enumerate(self.of(list, "a list")):
            yield _Node(self.file, f"{self.where}[{index}]", value)

    def items(self) -> Iterator[tuple[str, _Node]]:
        for key, value in self.of(dict, "an object").items():
            yield key, _Node(self.file, f"{self.where}.{key}", value)

    def text(self) -> str:
        return self.of(str, "a text").encode("utf-8", "replace").decode("utf-8")  # half a pair of surrogates is no text

    def whole(self) -> int:
        number = self.of(int, "a whole number")
        if abs(number) > _MOST:
            raise self.fail("a whole number of a size that counts something")
        return number

    def flag(self) -> bool:
        return self.of(bool, "true or false")

    def number(self) -> float:
        if isinstance(self.value, str) and self.value in _ODD:
            return _ODD[self.value]
        number = self.of((int, float), "a number")
        return float(number) if isinstance(number, float) else float(self.whole())

    def maybe(self, read: Callable[[_Node], _T]) -> _T | None:
        return None if self.value is None else read(self)

    def one_of(self, read: Callable[[str], _T], wanted: str) -> _T:
        try:
            return read(self.text())
        except (ValueError, KeyError):
            raise self.fail(wanted) from None


def _record(document: _Node) -> RunRecord:
    return RunRecord(
        program=document["program"].text(),
        python=document["python"].text(),
        torch=document["torch"].text(),
        rank=document["rank"].whole(),
        ranks=document["ranks"].whole(),
        seconds=document["seconds"].number(),
        watching=document["watching"].number(),
        ended=document["ended"].text(),
        findings=[_read_finding(node) for node in document["findings"]],
        optimizers=[_read_watched(node) for node in document["optimizers"]],
        models=[_read_model(node) for node in document.get("models", [])],
        missing=[node.text() for node in document["missing"]],
        checked={key: node.whole() for key, node in document["checked"].items()},
        problems=[node.text() for node in document["problems"]],
        moments=[_read_moment(node) for node in document["moments"]],
        series={name: [_read_point(point) for point in node] for name, node in document["series"].items()},
        sources={path: dict(_read_lines(node)) for path, node in document["sources"].items()},
    )


def _read_point(node: _Node) -> tuple[int, float]:
    pair = list(node)
    if len(pair) != 2:
        raise node.fail("a step and a number")
    return pair[0].whole(), pair[1].number()


def _read_lines(node: _Node) -> Iterator[tuple[int, str]]:
    for number, text in node.items():
        if not (number.isascii() and number.isdigit() and 0 < int(number) < 10_000_000):
            raise node.fail("lines by their numbers")
        yield int(number), text.text()


def _read_moment(node: _Node) -> Moment:
    return Moment(
        node["optimizer"].whole(),
        node["kind"].text(),
        node["step"].whole(),
        node["order"].whole(),
        node["site"].text(),
    )


def _read_finding(node: _Node) -> Finding:
    return Finding(
        code=node["code"].text(),
        slug=node["slug"].text(),
        severity=node["severity"].one_of(Severity, "error or warning"),
        confidence=node["confidence"].one_of(Confidence.parse, "low, medium or high"),
        message=node["message"].text(),
        span=_read_span(node),
        label=node["label"].text(),
        why=node["why"].text(),
        help=node["help"].text(),
        note=node["note"].text(),
        related=tuple(Related(place["message"].text(), _read_span(place)) for place in node["related"]),
        fix=node["fix"].maybe(_read_fix),
        evidence=node["evidence"].text(),
        step=node["step"].maybe(_Node.whole),
    )


def _read_span(node: _Node) -> Span:
    return Span(
        node["path"].text(),
        node["line"].whole(),
        node["column"].whole(),
        node["end_line"].whole(),
        node["end_column"].whole(),
    )


def _read_fix(node: _Node) -> Fix:
    edits = []
    for edit in node["edits"]:
        start, end = edit["start"], edit["end"]
        span = Span(
            edit["path"].text(),
            start["line"].whole(),
            start["column"].whole(),
            end["line"].whole(),
            end["column"].whole(),
        )
        edits.append(Edit(span, edit["text"].text()))
    return Fix(node["title"].text(), node["safety"].one_of(Safety, "safe or unsafe"), tuple(edits))


def _read_watched(node: _Node) -> Watched:
    return Watched(
        index=node["index"].whole(),
        name=node["name"].text(),
        kind=node["class"].text(),
        built=node["built"].maybe(_read_site),
        parameters=tuple(_read_parameter(parameter) for parameter in node["parameters"]),
        steps=node["steps"].whole(),
        backwards=node["backwards"].whole(),
        zeros=node["zeros"].whole(),
        checked=node["checked"].whole(),
        blind=tuple(phrase.text() for phrase in node["blind"]),
    )


def _read_model(node: _Node) -> Model:
    return Model(node["name"].text(), node["class"].text(), node["parameters"].whole())


def _read_parameter(node: _Node) -> Parameter:
    return Parameter(
        name=node["name"].text(),
        shape=tuple(size.whole() for size in node["shape"]),
        dtype=node["dtype"].text(),
        device=node["device"].text(),
        group=node["group"].whole(),
        trainable=node["trainable"].flag(),
        held=node["held"].flag(),
    )


def _read_site(node: _Node) -> Site:
    return Site(
        node["path"].text(),
        node["line"].whole(),
        node["column"].whole(),
        node["end_line"].whole(),
        node["end_column"].whole(),
        node["text"].text(),
    )
