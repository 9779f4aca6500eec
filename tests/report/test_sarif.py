"""SARIF: valid, and with everything that a service or an editor can use."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from report_samples import BARE, CARRIED, REBOUND

from gradcheck_lint import __version__
from gradcheck_lint.finding import Edit, Finding, Fix, Related, Safety, Span
from gradcheck_lint.page import Page
from gradcheck_lint.report import sarif
from gradcheck_lint.result import Problem, Result

SCHEMA = json.loads((Path(__file__).parent / "sarif_subset.json").read_text(encoding="utf-8"))
PAGES = sorted((Path(__file__).parents[2] / "rules").glob("*.md"))


def run(result: Result, **more: Any) -> Any:
    """The one run of the log, which is valid."""
    log = json.loads(sarif.render(result, **more))
    jsonschema.Draft202012Validator(SCHEMA).validate(log)
    return log["runs"][0]


def one(finding: Finding) -> Any:
    return run(Result((finding,), 1, 0.1))["results"][0]


def test_the_log_is_valid_whatever_is_in_it(
    everything: Result, clean: Result, sources: dict[str, str], page: Callable[..., Page]
) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    run(clean)
    run(everything, sources=sources)
    run(everything, sources=sources, pages={"GL101": page()})


def test_the_log_says_who_wrote_it_and_how_positions_count(clean: Result) -> None:
    log = run(clean)
    assert log["tool"]["driver"] == {"name": "gradlint", "version": __version__, "rules": []}
    assert log["columnKind"] == "unicodeCodePoints"
    assert log["newlineSequences"] == ["\r\n", "\n", "\r"]
    assert log["results"] == []
    assert log["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]


def test_a_finding() -> None:
    result = one(CARRIED)
    assert len(result.pop("partialFingerprints")["gradlint/v1"]) == 64
    train = {"uri": "train.py", "uriBaseId": "%SRCROOT%"}
    assert result == {
        "ruleId": "GL101",
        "ruleIndex": 0,
        "level": "error",
        "message": {
            "text": "Gradients are carried over from the previous step. "
            "Adds to the gradients left by the last iteration. "
            "`optimizer.step()` does not clear `.grad`, so every update repeats earlier batches. "
            "Call `optimizer.zero_grad()` before `loss.backward()`. "
            "For deliberate accumulation, clear every k steps; see `gradlint explain GL101`."
        },
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": train,
                    "region": {"startLine": 11, "startColumn": 9, "endLine": 11, "endColumn": 24},
                }
            }
        ],
        "properties": {"confidence": "high", "evidence": "source"},
        "relatedLocations": [
            {
                "id": 0,
                "physicalLocation": {
                    "artifactLocation": train,
                    "region": {"startLine": 5, "startColumn": 13, "endLine": 5, "endColumn": 56},
                },
                "message": {"text": "the optimizer is built here"},
            },
            {
                "id": 1,
                "physicalLocation": {
                    "artifactLocation": train,
                    "region": {"startLine": 12, "startColumn": 9, "endLine": 12, "endColumn": 25},
                },
                "message": {"text": "uses the sum of all batches"},
            },
        ],
        "fixes": [
            {
                "description": {"text": "call `optimizer.zero_grad()` before `loss.backward()`"},
                "artifactChanges": [
                    {
                        "artifactLocation": train,
                        "replacements": [
                            {
                                "deletedRegion": {"startLine": 11, "startColumn": 9, "endLine": 11, "endColumn": 9},
                                "insertedContent": {"text": "optimizer.zero_grad()\n        "},
                            }
                        ],
                    }
                ],
                "properties": {"safety": "safe"},
            }
        ],
    }


def test_a_finding_that_offers_nothing_has_no_empty_lists() -> None:
    assert not {"fixes", "relatedLocations"} & set(one(BARE))


def test_a_fix_of_two_files_has_a_change_for_each_and_a_deletion_inserts_nothing() -> None:
    mine, model = one(REBOUND)["fixes"][0]["artifactChanges"]
    assert mine["replacements"] == [{"deletedRegion": {"startLine": 3, "startColumn": 1, "endLine": 3, "endColumn": 4}}]
    assert model["artifactLocation"]["uri"] == "model.py"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("src/my train é%#?.py", {"uri": "src/my%20train%20%C3%A9%25%23%3F.py", "uriBaseId": "%SRCROOT%"}),
        ("../x.py", {"uri": "../x.py", "uriBaseId": "%SRCROOT%"}),
        ("/home/me/a b.py", {"uri": "file:///home/me/a%20b.py"}),
        ("C:/code/a b.py", {"uri": "file:///C:/code/a%20b.py"}),
        ("odd\udcff.py", {"uri": "odd%FF.py", "uriBaseId": "%SRCROOT%"}),
        ("a:b.py", {"uri": "a%3Ab.py", "uriBaseId": "%SRCROOT%"}),
    ],
)
def test_paths_become_uris(path: str, location: dict[str, str]) -> None:
    result = one(replace(BARE, span=replace(BARE.span, path=path)))
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == location


def test_severity_and_confidence_are_told() -> None:
    result = one(REBOUND)
    assert result["level"] == "warning"
    assert result["properties"] == {"confidence": "medium", "evidence": "source"}


def test_each_rule_is_told_once_and_found_by_its_index() -> None:
    log = run(Result((REBOUND, BARE, CARRIED), 1, 0.1))
    assert [rule["id"] for rule in log["tool"]["driver"]["rules"]] == ["GL101", "GL201"]
    assert [result["ruleIndex"] for result in log["results"]] == [1, 0, 0]


def test_a_rule_brings_the_help_of_its_page(page: Callable[..., Page]) -> None:
    body = {
        "What it is": "First\nparagraph.\n\nSecond one.",
        "Wrong": "Intro.\n\n```python wrong raises=ValueError\na()  # <- GL101\n```\n\n"
        "```python fixed\nb()\n```\n\n```python harm\nassert hurt\n```\n\nLast words.",
    }
    [rule] = run(Result((BARE,), 1, 0.1), pages={"GL101": page(body)})["tool"]["driver"]["rules"]
    assert rule["name"] == "missing-zero-grad"
    assert rule["shortDescription"] == {"text": "Gradients of the last step are still there."}
    assert rule["fullDescription"] == {"text": "First paragraph."}
    assert rule["defaultConfiguration"] == {"level": "error"}
    assert rule["help"]["text"] == (
        "Gradients of the last step are still there.\n\nFirst paragraph.\n\nSecond one.\n\nText of why it hurts."
    )
    assert rule["help"]["markdown"].startswith("# GL101: missing-zero-grad\n\nGradients of the last step")
    assert "## Wrong\n```python\na()\n```\n\n## Right\n```python\nb()\n```\n" in rule["help"]["markdown"]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_help_of_our_own_pages_holds_no_words_for_the_tests(path: Path) -> None:
    page = Page.read(path)
    finding = replace(BARE, code=page.code, slug=page.slug)
    [rule] = run(Result((finding,), 1, 0.1), pages={page.code: page})["tool"]["driver"]["rules"]
    fences = [line for line in rule["help"]["markdown"].splitlines() if line.startswith("```")]
    assert set(fences) <= {"```", "```python"}
    assert "```" not in rule["help"]["text"]
    assert [fence for fence in fences if fence == "```python"] == ["```python"] * min(2, len(page.of_kind("wrong")) * 2)
    assert len(rule["help"]["markdown"]) < 8_000


def test_problems_make_the_run_unsuccessful() -> None:
    [invocation] = run(Result((), 1, 0.1, (Problem("a b.py", "broke"), Problem("", "no workers"))))["invocations"]
    assert invocation == {
        "executionSuccessful": False,
        "toolExecutionNotifications": [
            {
                "level": "error",
                "message": {"text": "broke"},
                "locations": [
                    {"physicalLocation": {"artifactLocation": {"uri": "a%20b.py", "uriBaseId": "%SRCROOT%"}}}
                ],
            },
            {"level": "error", "message": {"text": "no workers"}, "locations": []},
        ],
    }


def test_what_was_cut_is_told_and_the_run_was_successful_all_the_same() -> None:
    [invocation] = run(Result((), 1, 0.1, cut=(("a.py", "Trainer.fit"), ("a.py", ""))))["invocations"]
    assert invocation["executionSuccessful"]
    levels = [(told["level"], told["message"]["text"].partition(" in a.py")[0]) for told in
              invocation["toolExecutionNotifications"]]  # fmt: skip
    assert levels == [("warning", "`Trainer.fit`"), ("warning", "The code outside of functions")]


def test_equal_places_and_edits_are_told_once() -> None:
    """The standard wants the items of these lists to be unique."""
    twice = Related("here", Span("train.py", 1, 1, 1, 2))
    edit = Edit(Span("train.py", 1, 1, 1, 2), "x")
    result = one(replace(BARE, related=(twice, twice), fix=Fix("mend it", Safety.SAFE, (edit, edit))))
    assert len(result["relatedLocations"]) == 2  # they differ by their id
    assert len(result["fixes"][0]["artifactChanges"]) == 1
