"""`report/run_json.py`: nothing is lost on the way, the schema holds, and a file that is no run is told in a line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from run_samples import clear, everything, nothing, wrong

from gradcheck_lint.report import run_json
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
        ("", "run.json is no saved run: Expecting value: line 1 column 1 (char 0)"),
        ("[]", "run.json is no saved run; save one by `gradlint run --output-file run.json train.py`"),
        ('{"version": 1, "findings": [], "summary": {}}', "run.json is no saved run; save one by"),
        (broken(version=2), "run.json has the shape 2 of another version of gradlint; this one reads 1"),
        (broken(seconds="long"), "run.json is no saved run: seconds should be a number"),
        (broken(rank=True), "run.json is no saved run: rank should be a whole number"),
        (broken(findings=[{}]), "run.json is no saved run: findings[0].code should be there"),
        (broken(optimizers={}), "run.json is no saved run: optimizers should be a list"),
        (broken(series={"loss": [[1]]}), "run.json is no saved run: series.loss[0] should be a step and a number"),
        (broken(sources={"a.py": {"-1": ""}}), "run.json is no saved run: sources.a.py should be lines by"),
        ("9" * 5000, "run.json is no saved run"),
        ("[" * 100000, "run.json is no saved run"),
    ],
)
def test_a_file_that_is_no_run(text: str, said: str) -> None:
    with pytest.raises(run_json.RunFileError) as caught:
        run_json.read(text, "run.json")
    message = str(caught.value)
    assert message.startswith(said)
    assert "\n" not in message
