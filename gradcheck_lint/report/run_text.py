"""The summary of a watched run for a terminal: what was watched, what was found, where the watcher was blind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.report.text import _finding
from gradcheck_lint.report.terminal import Paint

if TYPE_CHECKING:
    from gradcheck_lint.runtime.record import RunRecord


def render(record: RunRecord, *, colour: bool = False, brief: bool = False) -> str:
    """At most a screen."""
    paint = Paint(colour)
    parts = [_finding(finding, {}, paint) for finding in record.findings]
    for optimizer in record.optimizers:
        parts.append(f"{optimizer.label}: {optimizer.steps} steps, {optimizer.checked} checked")
    return "\n".join([*parts, ""])
