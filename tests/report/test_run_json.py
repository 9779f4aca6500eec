"""`report/run_json.py`: nothing is lost on the way, the schema holds, and a file that is no run is told in a line."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from run_samples import clear, everything, nothing, wrong

from gradcheck_lint.report import run_formats, run_json
from gradcheck_lint.runtime.record import RunRecord

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "run.schema.json").read_text(encoding="utf-8"))
SAMPLES = {"nothing": nothing, "clear": clear, "wrong": wrong, "everything": everything}

each_sample = pytest.mark.parametrize("sample", SAMPLES)


@each_sample
def test_what_is_read_is_what_was_written(sample: str) -> None:
    record = SAMPLES[sample]()
    again = run_json.read(run_json.render(record))
    assert repr(again) == repr(record)  # as text, for nan is not equal to itself


@each_sample
def test_the_schema_holds(sample: str) -> None:
    Draft202012Validator.check_schema(SCHEMA)
    text = run_json.render(SAMPLES[sample]())
    assert text.isascii()
    Draft202012Validator(SCHEMA).validate(json.loads(text))


def test_a_run_that_an_earlier_version_has_saved() -> None:
    document = json.loads(run_json.render(clear()))
    del document["models"]
    assert run_json.read(json.dumps(document)).models == []


def test_no_field_of_a_record_is_forgotten() -> None:
    document = json.loads(run_json.render(everything()))
    assert {field.name for field in dataclasses.fields(RunRecord)} == set(document) - {"kind", "version"}
    assert set(SCHEMA["properties"]) == set(document)


def test_numbers_that_json_lacks() -> None:
    document = json.loads(run_json.render(everything()))
    assert document["series"]["loss"][2:] == [[3, "nan"], [4, "inf"]]


def broken(**changes: Any) -> str:
    return json.dumps(json.loads(run_json.render(everything())) | changes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "run.json is not a saved run: it is empty"),
        ("Traceback", "run.json is not a saved run: it is not JSON (Expecting value: line 1 column 1 (char 0))"),
        ("<!doctype html>", "run.json is a page and not JSON; give the file of `gradlint run -o run.json`"),
        ("[]", "run.json is not a saved run; save one by `gradlint run --output-file run.json train.py`"),
        ('{"version": 1, "findings": [], "summary": {}}', "run.json is not a saved run; save one by"),
        (broken(version=2), "run.json has the shape 2 of another version of gradlint; this one reads 1"),
        (broken(seconds="long"), "run.json is not a saved run: seconds should be a number"),
        (broken(rank=True), "run.json is not a saved run: rank should be a whole number"),
        (broken(findings=[{}]), "run.json is not a saved run: findings[0].code should be there"),
        (broken(optimizers={}), "run.json is not a saved run: optimizers should be a list"),
        (broken(series={"loss": [[1]]}), "run.json is not a saved run: series.loss[0] should be a step and a number"),
        (broken(sources={"a.py": {"-1": ""}}), "run.json is not a saved run: sources.a.py should be lines by"),
        ("9" * 5000, "run.json is not a saved run"),
        ("[" * 100000, "run.json is not a saved run: it is nested too deeply"),
        (broken(version={"a\n": ["x" * 500]}), "run.json has the shape {'a\\\\n': ['xxx"),
        (broken(seconds=10**400), "run.json is not a saved run: seconds should be a whole number of a size"),
        (broken(checked={"a\nb": "1"}), "run.json is not a saved run: checked.a\\nb should be a whole number"),
        (broken(moments=[[]]), "run.json is not a saved run: moments[0] should be an object"),
    ],
)
def test_a_file_that_is_no_run(text: str, said: str) -> None:
    with pytest.raises(run_json.RunFileError) as caught:
        run_json.read(text, "run.json")
    message = str(caught.value)
    assert message.startswith(said)
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.json")
    with pytest.raises(run_json.RunFileError, match="is no regular file; name the JSON file of a run"):
        run_json.load(str(tmp_path / "run.json"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x89PNG\r\n", "run.json is not a saved run: it is not UTF-8"),
        (b"\xff\xfe{\x00", "run.json is not a saved run: it is not UTF-8"),
        (b"\x00" * 100, "run.json is not a saved run: it is not JSON"),
        (None, "is a folder; name the JSON file of a run"),
    ],
)
def test_a_file_that_is_no_text(data: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    if data is None:
        path.mkdir()
    else:
        path.write_bytes(data)
    with pytest.raises(run_json.RunFileError) as caught:
        run_json.load(str(path))
    assert said in str(caught.value)


ODD = [None, True, -1, 0, 10**12, 1.5, -1e308, "", "nan", "\ud800", "\x1b[31m", "a\nb", [], [[]], {}, {"a": []}]


def mutated(value: Any, draw: random.Random) -> Any:
    """The document with one odd value somewhere in it."""
    if isinstance(value, (dict, list)) and value and draw.random() < 0.9:
        key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
        changed = value.copy()
        if draw.random() < 0.1:
            del changed[key]
        else:
            changed[key] = mutated(value[key], draw)
        return changed
    return draw.choice(ODD)


@pytest.mark.parametrize("form", ["text", "html", "json"])
def test_an_odd_run_is_shown_or_told_in_a_line(form: str) -> None:
    """Whatever passes as a run can be shown; `ValueError` and the like would be a traceback."""
    draw = random.Random(form)
    said: list[str] = []
    document = json.loads(run_json.render(everything()))
    for _ in range(400):
        text = json.dumps(mutated(document, draw))
        try:
            record = run_json.read(text, "run.json")
        except run_json.RunFileError as error:
            said.append(str(error))
            continue
        run_formats.render(record, form).encode("utf-8")
    assert said
    assert not any("\n" in words for words in said)
