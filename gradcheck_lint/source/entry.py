"""What was found, as text and back. Reading believes nothing: whatever is not exactly what was written is an error."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TypeVar

from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span
from gradcheck_lint.source.outcome import Basis, Outcome

if TYPE_CHECKING:
    from gradcheck_lint.source.project import Question

_T = TypeVar("_T")

_WORDS = ("code", "slug", "message", "label", "why", "help", "note", "evidence")


class SpoiltError(ValueError):
    """It is not what we have written."""


def text_of(outcome: Outcome) -> str:
    """The findings, what they rest on, and how much was looked at for them."""
    record = {
        "others": [list(each) for each in outcome.basis.others],
        "asked": [[*question, answer] for question, answer in outcome.basis.asked],
        "findings": [dataclasses.asdict(finding) for finding in outcome.findings],
        "cut": [list(each) for each in outcome.cut],
        "training": list(outcome.training),
    }
    return json.dumps(record)


def parse(text: str, paths: Collection[str]) -> Outcome:
    """What `text_of` has written; `paths` are the files that findings may point into and fixes may edit."""
    try:
        record = _object(json.loads(text), {"others", "asked", "findings", "cut", "training"})
        others = _list(record["others"], _other)
        asked = _list(record["asked"], _answer)
        findings = _list(record["findings"], lambda value: _finding(value, paths))
        cut = _list(record["cut"], lambda value: _part(value, paths))
        training = _list(record["training"], lambda value: _path(value, paths))
    except (ValueError, RecursionError) as error:
        raise SpoiltError(str(error)) from None
    return Outcome(findings, (), Basis(others, asked), cut, training)


def _object(value: object, keys: Collection[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(keys):
        raise SpoiltError("it has other keys")
    return value


def _list(value: object, read: Callable[[Any], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise SpoiltError("it is no list")
    return tuple(map(read, value))


def _row(value: object, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise SpoiltError(f"it is no list of {length}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise SpoiltError("it is no text")
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _number(value: object, least: int) -> int:
    if type(value) is not int or value < least:  # True is an int, too
        raise SpoiltError("it is no such number")
    return value


def _other(value: object) -> tuple[str, str | None]:
    path, known = _row(value, 2)
    return _text(path), _text_or_none(known)


def _answer(value: object) -> tuple[Question, str | None]:
    folder, name, level, answer = _row(value, 4)
    return (_text(folder), _text(name), _number(level, 0)), _text_or_none(answer)


def _path(value: object, paths: Collection[str]) -> str:
    path = _text(value)
    if path not in paths:
        raise SpoiltError("it speaks of another file")
    return path


def _part(value: object, paths: Collection[str]) -> tuple[str, str]:
    path, name = _row(value, 2)
    return _path(path, paths), _text(name)


def _fields(value: object, kind: type) -> dict[str, Any]:
    return _object(value, {field.name for field in dataclasses.fields(kind)})


def _span(value: object, paths: Collection[str] | None = None) -> Span:
    data = _fields(value, Span)
    path = _text(data["path"]) if paths is None else _path(data["path"], paths)
    start = (_number(data["line"], 1), _number(data["column"], 1))
    end = (_number(data["end_line"], 1), _number(data["end_column"], 1))
    if end < start:
        raise SpoiltError("it ends before it starts")
    return Span(path, *start, *end)


def _related(value: object) -> Related:
    data = _fields(value, Related)
    return Related(_text(data["message"]), _span(data["span"]))


def _fix(value: object, paths: Collection[str]) -> Fix | None:
    if value is None:
        return None
    data = _fields(value, Fix)

    def edit(value: object) -> Edit:
        data = _fields(value, Edit)
        return Edit(_span(data["span"], paths), _text(data["text"]))

    return Fix(_text(data["title"]), Safety(_text(data["safety"])), _list(data["edits"], edit))


def _finding(value: object, paths: Collection[str]) -> Finding:
    data = _fields(value, Finding)
    words: dict[str, Any] = {name: _text(data[name]) for name in _WORDS}
    if data["step"] is not None:
        raise SpoiltError("the linter knows no steps")
    return Finding(
        **words,
        severity=Severity(_text(data["severity"])),
        confidence=Confidence(_number(data["confidence"], 1)),
        span=_span(data["span"], paths),
        related=_list(data["related"], _related),
        fix=_fix(data["fix"], paths),
    )
