"""GL202: a layer or a whole model is replaced after the optimizer took the old one's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.exchanged import KINDS, exchanged
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import LayerReplaced, ModelReplaced, ParameterReplaced
from gradcheck_lint.source.events import BuildOptimizer

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class LayerReplacedAfterOptimizer(Rule):
    code = "GL202"
    slug = "layer-replaced-after-optimizer"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (*KINDS, BuildOptimizer)
    watches = (LayerReplaced, ModelReplaced, ParameterReplaced)
    triggers = r"\.(?<!\bself\.)\w+ *= *(\w+\.)*[A-Z]\w*\(|\] *= *(\w+\.)*[A-Z]\w*\(|resize_token_emb"
    r"|deepcopy\(|setattr\([^\n]*, *(\w+\.)*[A-Z]\w*\(|weight_norm\(|= *(?:torch\.load|get_peft_model)\("

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        if not timeline.optimizers():
            return
        for event in timeline.events(*KINDS):
            exchange = exchanged(timeline, event)
            if exchange is None:
                continue
            found = exchange.stale
            report(
                event.statement,
                "new parameters come into the model after the optimizer took the old ones",
                label=f"`{found.name}` does not hold the parameters of the new {exchange.what}",
                why=f"`{found.name}.step()` goes on with the old parameters, and the new ones stay as they are",
                help=f"build `{found.name}` after this line, or hand over the new parameters by `add_param_group`",
                related=[("the optimizer takes the parameters here", found.build.place)],
            )
        self.copies(timeline, report)

    def copies(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.query import called
        from gradcheck_lint.facts.starved import starved
        from gradcheck_lint.facts.trained_copy import trained_copies

        for found in trained_copies(timeline):
            copy, name = called([found.copy]), name_of(found.step)
            report(
                found.copied.statement,
                "a copy of the model is trained, and the optimizer holds the original",
                label=f"`{name}` does not hold the parameters of {copy}",
                why=f"`{name}.step()` finds no gradient, and {copy} stays as it is",
                help=f"compute the loss with what `{name}` has, or build `{name}` of the parameters of {copy}",
                related=[("the optimizer takes the parameters here", found.built.place)],
                confidence=Confidence.MEDIUM,  # the copy may have been given the parameters themselves
            )
        for left in starved(timeline):
            if not left.copied:
                continue
            copy, name = called([left.model]), name_of(left.step)
            trained = called([left.model.core.copy_of]) if left.model.core.copy_of is not None else "the model"
            report(
                left.built.place,
                "a model is trained, and the optimizer holds a copy of it",
                label=f"takes the parameters of {copy}, which is a copy of {trained}",
                why=f"`{name}.step()` finds no gradient, and {trained} stays as it is",
                help=f"build `{name}` of the parameters of {trained}, or compute the loss with {copy}",
                related=[("backward leads to the original here", left.backward.place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, (LayerReplaced, ModelReplaced, ParameterReplaced))
        if isinstance(sighting, ParameterReplaced) and not sighting.added:
            return  # GL201
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        what, number = told(sighting.names), sighting.number
        if isinstance(sighting, ModelReplaced):
            label = f"{sighting.at_step}: none of its {sighting.held} tensors got a gradient, {what} did"
        else:
            be, it = ("were", "them") if len(sighting.names) > 1 else ("was", "it")
            verb = "came" if sighting.added else f"{be} replaced"
            label = f"{sighting.at_step}: {what} {verb} after `{name}` was built, which holds none of {it}"
        stay = "the new one stays as it is" if number == 1 else f"{number} new ones stay as they are"
        made = sighting.made
        here = made is not None and not isinstance(sighting, ModelReplaced)  # else it is some line within the new model
        where = "after this line" if here else "anew where the model is replaced"
        report(
            "new parameters come into the model after the optimizer took the old ones",
            site=made,
            label=label,
            why=f"`{name}.step()` goes on with the old parameters, and {stay}",
            help=f"build `{name}` {where}, or hand over the new parameters by `add_param_group`",
            related=[
                ("the optimizer took the parameters here", sighting.built),
                *([("steps here", sighting.site)] if made is not None else ()),
            ],
            subject=name,
        )
