"""Results and pages to render."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from report_samples import BARE, CARRIED, MODEL, REBOUND, TRAIN, UNREADABLE

from gradcheck_lint.page import HEADINGS, Page
from gradcheck_lint.result import Problem, Result, Skipped


@pytest.fixture
def everything() -> Result:
    """A result with each kind of thing that a renderer can meet."""
    return Result(
        findings=(REBOUND, UNREADABLE, BARE, CARRIED),
        files=12,
        seconds=0.4321,
        problems=(Problem("odd.py", "KeyError: 'x' in GL112", "Traceback ..."), Problem("", "no workers")),
        fixed=2,
        cut=(("odd.py", "main"), ("train.py", "")),
        training=2,
        skipped=Skipped(notebooks=2, links=1),
    )


@pytest.fixture
def sources() -> dict[str, str]:
    return {"train.py": TRAIN, "model.py": MODEL}


@pytest.fixture
def clean() -> Result:
    return Result(findings=(), files=12, seconds=0.31, training=12)


@pytest.fixture
def page() -> Callable[..., Page]:
    """Makes a page; `body` gives the text of some sections by their heading."""

    def make(body: dict[str, str] | None = None, **front: str) -> Page:
        facts = {
            "code": "GL101",
            "slug": "missing-zero-grad",
            "severity": "error",
            "found-by": "[source, run]",
            "fix": "safe",
            "since": "0.1.0",
        } | {key.replace("_", "-"): value for key, value in front.items() if key != "summary"}
        lines = ["---", *(f"{key}: {value}" for key, value in facts.items()), "---"]
        lines += [front.get("summary", "Gradients of the last step are still there."), ""]
        for heading in HEADINGS:
            lines += [f"## {heading}", (body or {}).get(heading, f"Text of {heading.lower()}."), ""]
        return Page.parse("\n".join(lines), "page.md")

    return make
