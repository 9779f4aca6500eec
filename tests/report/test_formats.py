"""The formats for programs: concise, JSON, GitHub, GitLab, and what all of them have in common."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from report_samples import BARE, CARRIED, REBOUND

from gradcheck_lint import report
from gradcheck_lint.finding import Span
from gradcheck_lint.report import FORMATS, concise, github, gitlab, renderer
from gradcheck_lint.report import json as json_format
from gradcheck_lint.result import Problem, Result

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "findings.schema.json").read_text(encoding="utf-8"))


def result(*findings: Any, problems: tuple[Problem, ...] = ()) -> Result:
    return Result(findings, 12, 0.43219, problems)


# All of them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_deterministic_and_ends_its_last_line(
    name: str, everything: Result, clean: Result, sources: dict[str, str]
) -> None:
    render = renderer(name)
    for subject in (everything, clean):
        rendered = render(subject, colour=False, sources=sources)
        assert rendered == render(subject, colour=False, sources=dict(reversed(sources.items())))
        assert rendered == "" or rendered.endswith("\n")
        assert not rendered.endswith("\n\n")
        assert "\x1b" not in rendered


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("text", "concise", "grouped")])
def test_a_format_for_programs_is_never_coloured(name: str, everything: Result) -> None:
    assert renderer(name)(everything, colour=True) == renderer(name)(everything)


def test_each_format_is_a_module_and_each_is_loaded_by_itself() -> None:
    code = (
        "import sys\n"
        "from gradcheck_lint.report import renderer\n"
        "renderer('concise')\n"
        "print([name for name in ('json', 'libcst', 'torch', 'click', 'gradcheck_lint.report.sarif',"
        " 'gradcheck_lint.report.text') if name in sys.modules])"
    )
    folder = Path(report.__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    assert ran.stdout == "[]\n"


# Concise ----------------------------------------------------------------------------------------------------------


def test_concise_is_one_line_a_finding(everything: Result) -> None:
    assert concise.render(everything).splitlines() == [
        "src/my train é.py:3:1: GL201 [!] a parameter is replaced after the optimizer took it",
        "src/latin.py:3:1: GL003 this file cannot be read: line 3 is not utf-8 (byte 0xe9)",
        "train.py:11:9: GL101 gradients are carried over from the previous step",
        "train.py:11:9: GL101 [*] gradients are carried over from the previous step",
        "odd.py: problem: KeyError: 'x' in GL112",
        "problem: no workers",
    ]


def test_concise_colours_change_nothing_but_colours(everything: Result) -> None:
    coloured = concise.render(everything, colour=True)
    assert "\x1b[1;31mGL101\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == concise.render(everything)


def test_concise_says_nothing_where_nothing_is_found(clean: Result) -> None:
    assert concise.render(clean) == ""


# JSON -------------------------------------------------------------------------------------------------------------


def test_the_json_of_a_finding() -> None:
    document = json.loads(json_format.render(result(CARRIED)))
    assert document == {
        "version": 1,
        "findings": [
            {
                "code": "GL101",
                "slug": "missing-zero-grad",
                "severity": "error",
                "confidence": "high",
                "message": "gradients are carried over from the previous step",
                "label": "adds to the gradients left by the last iteration",
                "why": "`optimizer.step()` does not clear `.grad`, so every update repeats earlier batches",
                "help": "call `optimizer.zero_grad()` before `loss.backward()`",
                "note": "for deliberate accumulation, clear every k steps; see `gradlint explain GL101`",
                "path": "train.py",
                "line": 11,
                "column": 9,
                "end_line": 11,
                "end_column": 24,
                "related": [
                    {"path": "train.py", "line": 5, "message": "the optimizer is built here"},
                    {"path": "train.py", "line": 12, "message": "uses the sum of all batches"},
                ],
                "fix": {
                    "title": "call `optimizer.zero_grad()` before `loss.backward()`",
                    "safety": "safe",
                    "edits": [
                        {
                            "path": "train.py",
                            "start": {"line": 11, "column": 9},
                            "end": {"line": 11, "column": 9},
                            "text": "optimizer.zero_grad()\n        ",
                        }
                    ],
                },
                "evidence": "source",
            }
        ],
        "problems": [],
        "cut": [],
        "summary": {
            "files": 12,
            "training": 0,
            "findings": 1,
            "known": 0,
            "errors": 0,
            "skipped": {"notebooks": 0, "links": 0},
            "seconds": 0.432,
        },
    }


def test_the_json_keeps_to_its_schema(everything: Result, clean: Result) -> None:
    validator = jsonschema.Draft202012Validator(SCHEMA)
    validator.check_schema(SCHEMA)
    for subject in (everything, clean, result(REBOUND, BARE)):
        validator.validate(json.loads(json_format.render(subject)))


def test_what_could_not_be_checked_is_counted(everything: Result) -> None:
    summary = json.loads(json_format.render(everything))["summary"]
    assert (summary["findings"], summary["errors"], summary["training"]) == (4, 3, 2)
    assert summary["skipped"] == {"notebooks": 2, "links": 1}


def test_the_json_names_what_was_not_checked() -> None:
    problems = (Problem("a.py", "broke", "Traceback"), Problem("", "no workers"))
    document = json.loads(json_format.render(result(problems=problems)))
    assert document["problems"] == [{"path": "a.py", "message": "broke"}, {"path": None, "message": "no workers"}]
    assert document["summary"]["errors"] == 2


def test_the_json_is_ascii(everything: Result) -> None:
    assert json_format.render(everything).isascii()
    assert json.loads(json_format.render(everything))["findings"][0]["path"] == "src/my train é.py"


def _without(*keys: str | int) -> Any:
    """The sample document with the value at `keys` gone."""
    document = json.loads(json_format.render(result(CARRIED)))
    parent = document
    for key in keys[:-1]:
        parent = parent[key]
    del parent[keys[-1]]
    return document


@pytest.mark.parametrize(
    "keys",
    [
        ("version",),
        ("summary", "errors"),
        ("findings", 0, "note"),
        ("findings", 0, "fix"),
        ("findings", 0, "related", 0, "line"),
        ("findings", 0, "fix", "safety"),
        ("findings", 0, "fix", "edits", 0),
        ("findings", 0, "fix", "edits", 0, "start", "column"),
    ],
)
def test_the_schema_misses_what_is_missing(keys: tuple[str | int, ...]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(_without(*keys), SCHEMA)


def test_the_schema_knows_every_key_and_no_other() -> None:
    document = json.loads(json_format.render(result(CARRIED)))
    for place in (document, document["summary"], document["findings"][0], document["findings"][0]["fix"]):
        place["surprise"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, SCHEMA)
        del place["surprise"]
    jsonschema.validate(document, SCHEMA)


def test_the_documentation_names_every_key_and_its_example_is_valid() -> None:
    text = (DOCS / "json-output.md").read_text(encoding="utf-8")
    example = re.search("```json\n(.*?)```", text, re.DOTALL)
    assert example
    jsonschema.validate(json.loads(example[1]), SCHEMA)
    keys = {*SCHEMA["$defs"]["finding"]["properties"], *SCHEMA["$defs"]["fix"]["properties"]}
    keys |= set(SCHEMA["properties"]["summary"]["properties"])
    told = set(re.findall(r"`(\w+)`", "".join(line for line in text.splitlines() if line.startswith("| `"))))
    assert keys <= told


# GitHub -----------------------------------------------------------------------------------------------------------


def test_the_workflow_command_of_a_finding() -> None:
    assert github.render(result(replace(CARRIED, note=""))) == (
        "::error file=train.py,line=11,endLine=11,col=9,endColumn=24,title=GL101 (missing-zero-grad)"
        "::gradients are carried over from the previous step"
        "%0Awhy: `optimizer.step()` does not clear `.grad`, so every update repeats earlier batches"
        "%0Ahelp: call `optimizer.zero_grad()` before `loss.backward()`\n"
    )


def test_a_warning_over_several_lines_has_no_columns() -> None:
    assert github.render(result(REBOUND)) == (
        "::warning file=src/my train é.py,line=3,endLine=4,title=GL201 (parameter-rebound)"
        "::a parameter is replaced after the optimizer took it\n"
    )


def test_nothing_in_a_finding_can_end_a_command_or_a_property() -> None:
    nasty = replace(BARE, span=Span("C:/a,b%/x\n.py", 1, 1, 1, 2), message="50% of: a, b\r\n::error::c")
    assert github.render(result(nasty)) == (
        "::error file=C%3A/a%2Cb%25/x%0A.py,line=1,endLine=1,col=1,endColumn=2,title=GL101 (missing-zero-grad)"
        "::50%25 of: a, b%0D%0A::error::c\n"
    )


def test_problems_are_annotated_too() -> None:
    problems = (Problem("a.py", "broke: 1%"), Problem("", "no workers"))
    assert github.render(result(problems=problems)).splitlines() == [
        "::error file=a.py,title=gradlint::broke: 1%25",
        "::error title=gradlint::no workers",
    ]


# GitLab -----------------------------------------------------------------------------------------------------------


def test_the_code_quality_report(sources: dict[str, str]) -> None:
    [entry, other] = json.loads(gitlab.render(result(CARRIED, REBOUND), sources=sources))
    assert re.fullmatch("[0-9a-f]{64}", entry.pop("fingerprint"))
    assert entry == {
        "check_name": "GL101",
        "description": "GL101 (missing-zero-grad): gradients are carried over from the previous step",
        "content": {
            "body": "adds to the gradients left by the last iteration\n\n"
            "`optimizer.step()` does not clear `.grad`, so every update repeats earlier batches\n\n"
            "call `optimizer.zero_grad()` before `loss.backward()`\n\n"
            "for deliberate accumulation, clear every k steps; see `gradlint explain GL101`"
        },
        "categories": ["Bug Risk"],
        "severity": "major",
        "location": {
            "path": "train.py",
            "positions": {"begin": {"line": 11, "column": 9}, "end": {"line": 11, "column": 24}},
        },
    }
    assert other["severity"] == "minor"


def _fingerprints(findings: list[Any], sources: dict[str, str]) -> list[str]:
    return [entry["fingerprint"] for entry in json.loads(gitlab.render(result(*findings), sources=sources))]


def test_fingerprints_stay_when_code_above_or_beside_moves(sources: dict[str, str]) -> None:
    before = _fingerprints([CARRIED], sources)
    lower = replace(CARRIED, span=Span("train.py", 13, 13, 13, 28))
    moved = sources["train.py"].replace("import torch\n", "import os\nimport sys\nimport torch\n")
    moved = moved.replace("        loss.backward", "            loss.backward")
    assert _fingerprints([lower], {**sources, "train.py": moved}) == before


def test_fingerprints_differ_between_files_rules_lines_and_repetitions(sources: dict[str, str]) -> None:
    others = [
        CARRIED,
        CARRIED,
        replace(CARRIED, code="GL102"),
        replace(CARRIED, span=Span("train.py", 12, 9, 12, 25)),
        replace(CARRIED, span=Span("copy.py", 11, 9, 11, 24)),
    ]
    made = _fingerprints(others, {**sources, "copy.py": sources["train.py"]})
    assert len(set(made)) == len(others)


# For build servers and reviews ------------------------------------------------------------------------------------


def test_grouped_has_the_findings_below_the_name_of_their_file(everything: Result) -> None:
    assert renderer("grouped")(everything).split("\n\n")[2].splitlines() == [
        "train.py:",
        "  11:9  GL101 gradients are carried over from the previous step",
        "  11:9  GL101 [*] gradients are carried over from the previous step",
    ]
    assert renderer("grouped")(everything).endswith("problem: no workers\n")


def test_json_lines_are_the_findings_of_the_json(everything: Result) -> None:
    lines = renderer("json-lines")(everything).splitlines()
    assert [json.loads(line) for line in lines] == json.loads(json_format.render(everything))["findings"]


def test_junit_has_a_failed_test_for_each_finding_and_one_that_passed_for_none(
    everything: Result, clean: Result
) -> None:
    root = ElementTree.fromstring(renderer("junit")(everything))
    cases = root.findall("./testsuite/testcase")
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == (str(len(cases)), "4", "2")
    assert [case.get("line") for case in cases if case.find("failure") is not None][-1] == "11"
    passed = ElementTree.fromstring(renderer("junit")(clean))
    assert (passed.get("tests"), passed.get("failures")) == ("1", "0")
    assert passed.find("./testsuite/testcase/*") is None


@pytest.mark.parametrize("name", ["junit", "azure", "pylint", "rdjson", "json-lines"])
def test_names_and_messages_with_odd_characters_break_no_line_and_no_syntax(name: str) -> None:
    span = Span('a;b]\n"<\x1b&%.py', 1, 1, 1, 2)
    odd = replace(BARE, message="two\nlines; ]]> <b> & % \x1b[31m \ud800", span=span)
    rendered = renderer(name)(result(odd, problems=(Problem("x\ny", "b\nc"),)))
    assert "\x1b" not in rendered
    rendered.encode("utf-8")
    if name == "junit":
        failure = ElementTree.fromstring(rendered).find(".//failure")
        assert failure is not None
        assert "]]> <b> & %" in str(failure.get("message"))
    elif name == "rdjson":
        assert json.loads(rendered)["diagnostics"][0]["location"]["path"] == span.path
    else:
        assert len(rendered.splitlines()) == (2 if name == "azure" else 1)


def test_azure_names_the_place_and_the_code(everything: Result) -> None:
    assert (
        "##vso[task.logissue type=error;sourcepath=train.py;linenumber=11;columnnumber=9;code=GL101;]"
        "gradients are carried over from the previous step"
    ) in renderer("azure")(everything).splitlines()


def test_rdjson_counts_bytes() -> None:
    odd = replace(BARE, span=Span("a.py", 1, 6, 1, 8))
    [told] = json.loads(renderer("rdjson")(result(odd), sources={"a.py": "ééé; xy\n"}))["diagnostics"]
    columns = told["location"]["range"]
    assert (columns["start"]["column"], columns["end"]["column"]) == (9, 11)


def test_rdjson_suggests_a_fix_of_one_edit_alone(everything: Result) -> None:
    diagnostics = json.loads(renderer("rdjson")(everything))["diagnostics"]
    fixes = [finding.fix for finding in everything.findings]
    single = [fix is not None and len(fix.edits) == 1 for fix in fixes]
    assert [("suggestions" in diagnostic) for diagnostic in diagnostics] == single
    assert any(single)


@pytest.mark.parametrize(
    ("file", "configured", "chosen"),
    [
        ("a.xml", "text", "junit"),
        ("a.jsonl", "text", "json-lines"),
        ("a.json", "rdjson", "rdjson"),
        ("a.json", "text", "json"),
        ("a.txt", "pylint", "pylint"),
    ],
)
def test_the_name_of_a_file_says_its_format(file: str, configured: str, chosen: str) -> None:
    assert report.format_of(file, configured) == chosen
