"""The numbers of a run for TensorBoard or whatever else draws them: each goes to the writer that the user gave.

A writer is a SummaryWriter, or anything else with `add_scalar(name, value, step)`, or a callable such as `wandb.log`
that takes the numbers of a step in a dict, and the step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime.check import Check

if TYPE_CHECKING:
    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.session import Session

_PREFIX = "gradlint/"


class Scalars(Check):
    """Sights nothing; passes on what has been added to `record.series` since it last looked."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._writer: Any = session.options.writer
        self._sent: dict[str, int] = {}  # the latest step of each series that was passed on

    def after_update(self, observer: Observer) -> None:
        if self._writer is not None:
            self._pass_on()

    def ended(self) -> None:
        if self._writer is not None:
            self._pass_on()

    def _pass_on(self) -> None:
        by_step: dict[int, dict[str, float]] = {}
        for name, points in self.session.record.series.items():
            sent = self._sent.get(name, -1)
            for step, value in reversed(points):
                if step <= sent:
                    break
                by_step.setdefault(step, {}).setdefault(_PREFIX + name, value)
            self._sent[name] = points[-1][0] if points else sent
        for step, numbers in sorted(by_step.items()):
            add = getattr(self._writer, "add_scalar", None)
            if add is None:
                self.session.guard.hand_over(self._writer, numbers, step)
                continue
            for name, value in numbers.items():
                self.session.guard.hand_over(add, name, value, step)
