"""One JSON object on each line for each finding, in the shape that it has in the format `json`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gradcheck_lint.report import NO_SOURCES
from gradcheck_lint.report.json import finding_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.result import Result


def render(result: Result, *, colour: bool = False, sources: Mapping[str, str] = NO_SOURCES) -> str:
    """The findings; empty if there are none. Pure ASCII."""
    return "".join(json.dumps(finding_object(finding)) + "\n" for finding in result.findings)
