"""GL406: `.grad` is read of a tensor that is no leaf, where torch keeps none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Backward, GradOfNonLeaf, GradWrite
from gradcheck_lint.source.natures import Tensor
from gradcheck_lint.source.place import Place

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class NonLeafGradRead(Rule):
    code = "GL406"
    slug = "grad-of-non-leaf"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    needs = (GradOfNonLeaf,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        if any(event.inputs is not None for event in timeline.events(Backward)):
            return  # backward fills `.grad` of what it is given there
        for event in timeline.events(GradOfNonLeaf):
            if "try" not in event.context and not _only_asked(event):
                self.read(timeline, event, report)

    def read(self, timeline: Timeline, event: GradOfNonLeaf, report: Report) -> None:
        tensor, node = event.subject, event.place.node
        if not isinstance(node, tree.Attribute) or (isinstance(tensor.what, Tensor) and tensor.what.retained):
            return
        if any(write.concerns(tensor) for write in timeline.events(GradWrite)):
            return  # somebody gives it one by hand
        name = repair.text(Place(event.place.chunk, node.value))
        here = tensor.place is not None and tensor.place.chunk is event.place.chunk
        report(
            event.place,
            "`.grad` is read of a tensor that is not a leaf",
            label=f"`{name}.grad` is None: torch keeps gradients of leaf tensors only",
            why="what is computed from it fails, or is skipped without a word",
            help=f"call `{name}.retain_grad()` before backward, or read `.grad` of the leaf that it was computed from",
            related=[("computed here", tensor.place)] if tensor.place is not None else [],
            fix=self.mend(timeline, event, name) if here and isinstance(node.value, tree.Name) else None,
            confidence=Confidence.HIGH if here else Confidence.MEDIUM,
        )

    @staticmethod
    def mend(timeline: Timeline, event: GradOfNonLeaf, name: str) -> Fix | None:
        """Have the gradient kept, where one backward stands in the same function before the reading."""
        made = event.subject
        backwards = [e for e in timeline.events(Backward) if made.serial < e.serial < event.serial]
        if not backwards or any(e.place.chunk is not event.place.chunk for e in backwards):
            return None
        here = repair.stand(backwards[0].statement)
        if here is None or len({id(e.place.node) for e in backwards}) > 1:
            return None
        call = f"{name}.retain_grad()"
        return Fix(f"call `{call}` before the backward", Safety.UNSAFE, (repair.insert_before(here, call),))


def _only_asked(event: GradOfNonLeaf) -> bool:
    """Whether the statement just asks whether it is there."""
    return any(
        isinstance(node, tree.Operation)
        and node.op in ("is", "is not", "==", "!=")
        and any(inner is event.place.node for inner in node.operands)
        for node in event.statement.node.walk()
    )
