"""GL703: a column of predictions is compared with a row of targets, and each prediction meets each target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source.events import Backward, Forward, Return, TorchCall

if TYPE_CHECKING:
    from gradcheck_lint.facts.fed import Computed
    from gradcheck_lint.source.timeline import Timeline


class LossBroadcast(Rule):
    code = "GL703"
    slug = "loss-broadcast"
    severity = Severity.ERROR
    needs = (Backward, Forward, Return, TorchCall)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts import fed, shapes
        from gradcheck_lint.facts.losses import DIFFERENCE, SPREADING
        from gradcheck_lint.facts.reach import reaching
        from gradcheck_lint.laws.answer import NO

        reach = reaching(timeline)

        for pair in fed.computed(timeline):
            by_hand = pair.name == DIFFERENCE
            if not by_hand and pair.name not in SPREADING:
                continue
            one, other = shapes.shape_of(pair.input), shapes.shape_of(pair.target)
            found = shapes.broadcast(one, other)
            if found is None:
                continue
            columns, rows = (pair.target, pair.input) if found.swapped else (pair.input, pair.target)
            made = shapes.narrowed(columns)
            if by_hand and (made is None or reach.of(rows).grad is not NO):
                continue  # thresholds that are learnt, and distances of all pairs, are meant to be spread
            given = self.written(pair)
            column, row = (1, 0) if found.swapped else (0, 1)
            alike = found.column[0] == found.row[0]
            report(
                pair.place,
                "the loss compares each prediction with each target",
                label=f"`{given[column]}` is {shapes.written(found.column)} and `{given[row]}` is "
                f"{shapes.written(found.row)}: together they are spread to (N, N)",
                why="the model is pulled towards the mean of all targets in the batch, whatever its input is, and "
                "torch says so in a warning at most",
                help=f"give both the same shape: `{given[column]}.squeeze(1)`, or `{given[row]}.unsqueeze(1)`",
                related=[("the last dimension comes from here", made)] if made is not None else [],
                confidence=Confidence.HIGH if alike or not by_hand else Confidence.MEDIUM,
            )

    @staticmethod
    def written(pair: Computed) -> list[str]:
        """The two as the code writes them."""
        from gradcheck_lint.facts.repair import argument, text
        from gradcheck_lint.source import tree
        from gradcheck_lint.source.place import Place

        node = pair.place.node
        if isinstance(node, tree.Operation):
            return [text(Place(pair.place.chunk, operand)) for operand in node.operands]
        return [argument(pair.place, index) or "an argument" for index in (0, 1)]
