"""GL403: the loss reaches parameters only through an operation whose derivative is zero."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.reach import Effect
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.reach import NoDerivative
from gradcheck_lint.source.events import Backward

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline

DRAWS = (
    "draw so that backward can follow, as `mean + std * torch.randn_like(std)` or `rsample()` do, or train {it} by the "
    "log-probability of what was drawn"
)
ROUNDS = (
    "let the value be rounded and the gradient pass, as `x + (x.{operation}() - x).detach()` does, or put something "
    "smooth in its place"
)


class NonDifferentiableLoss(Rule):
    code = "GL403"
    slug = "non-differentiable-loss"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Backward,)
    watches = (NoDerivative,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.query import called, once
        from gradcheck_lint.facts.refused import lost, numb

        for found in numb(timeline):
            if found.flat.place is None:
                continue
            operation = found.flat.name.rpartition(".")[2]
            whose = "every parameter" if found.whole else called(found.behind)
            help = DRAWS if operation in ("bernoulli", "poisson", "normal") else ROUNDS
            report(
                found.flat.place,
                f"no gradient passes `{operation}`",
                label=f"every way from the loss to {whose} leads through `{operation}`, whose derivative is zero",
                why="the gradients are all zero, so the loss does not train what lies behind it",
                help=help.format(it="it", operation=operation),
                related=[("backward", found.backward.place)],
            )
        for term in once(timeline, lost):
            if term.cut.effect is not Effect.DISCRETE or term.cut.place is None:
                continue
            report(
                term.cut.place,
                "a term of the loss is made of numbers that change in steps",
                label="no gradient comes to what this was computed from",
                why="the term is added to the loss as a constant: it changes what is printed, and trains nothing",
                help="put something smooth in its place, or leave it out of what backward runs on",
                related=[("backward runs on the sum here", term.backward.place)],
                confidence=Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, NoDerivative)
        from gradcheck_lint.runtime.layers import told

        operation, names = sighting.operation, sighting.names
        one = len(names) == 1
        it = "it" if one else "them"
        whose = "every parameter" if sighting.whole else told(names)
        help = (DRAWS if sighting.draws else ROUNDS).format(it=it, operation=operation)
        report(
            f"no gradient passes `{operation}`",
            label=f"every way from the loss to {whose} leads through `{operation}`, whose derivative is zero",
            why=f"the gradients are all zero, so the loss does not train {it}",
            help=help,
            related=[("backward", sighting.backward)],
            confidence=Confidence.HIGH,
        )
