"""GL508: what was frozen is still moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.mode import ExpectedFrozenMoved, FrozenMoves, FrozenStatistics

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class FrozenPartStillMoves(Rule):
    code = "GL508"
    slug = "frozen-part-still-moves"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (FrozenMoves, FrozenStatistics, ExpectedFrozenMoved)
    yields_to = frozenset({("GL212", "names")})

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, FrozenMoves):
            self.moves(sighting, report)
        elif isinstance(sighting, FrozenStatistics):
            self.statistics(sighting, report)
        elif isinstance(sighting, ExpectedFrozenMoved):
            self.expected(sighting, report)

    def moves(self, sighting: FrozenMoves, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        causes = [
            words
            for words, is_one in (
                ("the gradient of an earlier step", sighting.old),
                ("weight decay", sighting.decay),
                ("momentum", sighting.momentum),
            )
            if is_one
        ]
        report(
            "frozen parameters are still moved by the step",
            label=f"{sighting.at_step}: {told(sighting.names)} moved with `requires_grad` False",
            why=f"`.grad` is still there, so the optimizer goes on with {' and '.join(causes) or 'it'}",
            help=f"set `.grad` to None where you freeze, or build `{name}` on the parameters that are left",
            related=[("built here", sighting.built)],
            subject="parameters",
        )

    def statistics(self, sighting: FrozenStatistics, report: RunReport) -> None:
        one = sighting.names[0]
        report(
            "the statistics of frozen norm layers still change",
            label=f"{sighting.at_step}: {told(sighting.names, 'norm layers')} with frozen weights in training mode",
            why="the running mean and variance follow the new data, and so the frozen part computes something else",
            help=f"call `{one}.eval()` after each `train()` if they are to stay as they are",
            note="letting the statistics adapt to the new data is legitimate",
            confidence=Confidence.MEDIUM,
            subject="statistics",
        )

    def expected(self, sighting: ExpectedFrozenMoved, report: RunReport) -> None:
        held = sighting.held
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        report(
            "parameters that should be frozen have moved",
            label=f"{sighting.at_step}: {told(sighting.names)} are not what they were at the first step",
            why="they are named in `expect_frozen`, and "
            + (
                f"`{name}` holds {'them' if held == len(sighting.names) else 'some of them'}"
                if held
                else "were written"
            ),
            help=f"set `requires_grad` of `{sighting.names[0]}` to False before `{name}` is built, and keep it out",
            related=[("built here", sighting.built)],
            subject="expected",
        )
