"""GL408: a parameter of the optimizer that no backward ever reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.mode import ShouldBeTrained, Untrained
from gradcheck_lint.runtime.sightings.reach import Cutting, NeverAGradient
from gradcheck_lint.source.events import Backward

if TYPE_CHECKING:
    from gradcheck_lint.facts.starved import Starved
    from gradcheck_lint.facts.unreached import Unreached
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline

_LACKS = {
    Untrained.FROZEN: ("does not require grad", "call `requires_grad_()` on it before the optimizer is built"),
    Untrained.UNHELD: ("is held by no optimizer", "hand it to the optimizer, or to another one"),
    Untrained.DRY: ("has had no gradient in two steps", "let the loss depend on it, without `.detach()` or `no_grad`"),
}
"""What is the matter with a parameter that should be trained, and what to do."""


class ParameterWithoutGradient(Rule):
    code = "GL408"
    slug = "parameter-without-gradient"
    severity = Severity.WARNING
    witnesses = frozenset({"source", "run"})
    needs = (Backward,)
    watches = (NeverAGradient, ShouldBeTrained)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.starved import starved
        from gradcheck_lint.facts.unreached import unreached

        starving = {id(left.built): left for left in starved(timeline)}
        told: set[int] = set()
        for found in unreached(timeline):
            left = starving.get(id(found.built))
            if left is not None and left.copied:
                continue  # GL202
            if left is None or id(found.built) not in told:  # of one that gets nothing at all, one place tells why
                self.part(timeline, found, left, report)
            told.add(id(found.built))
        for key, left in starving.items():
            if key not in told and not left.copied:
                self.nothing(left, report)

    @staticmethod
    def part(timeline: Timeline, found: Unreached, starved: Starved | None, report: Report) -> None:
        """A part is cut off; if `starved`, all that the optimizer has is."""
        from gradcheck_lint.facts.effects import DRAWS

        thing = starved.model if starved is not None else found.part
        part = f"`{thing.label}`" if thing.label else "a part of the model"
        cut = found.blamed(timeline)
        if cut is None:
            label = f"is handed the parameters of {part}, which no backward comes to"
        elif found.cut.off:
            label = f"gradients are switched off here while {part} runs"
        else:
            label = f"cuts off {part}, whose output comes here"
        if found.cut.off:
            help = f"let {part} run where gradients are recorded"
        elif found.cut.name in DRAWS:
            help = "draw by `rsample()`, which has a gradient"
        else:
            help = f"let the gradient through to {part}"
        report(
            cut or found.built.place,
            "parameters of the optimizer never get a gradient",
            label=label,
            why=f"each step passes them by, so {part} stays as it was",
            help=help,
            note=""
            if starved is not None
            else "where it is meant to stay, leave it out of the optimizer or freeze it, by "
            f"`{found.part.label or 'part'}.requires_grad_(False)`",
            related=[("the optimizer is handed its parameters here", found.built.place)] if cut is not None else [],
            confidence=Confidence.HIGH if found.sure or starved is not None else Confidence.MEDIUM,
        )

    @staticmethod
    def nothing(left: Starved, report: Report) -> None:
        """All losses lead elsewhere, and nothing has cut off what the optimizer has: it took no part."""
        from gradcheck_lint.facts.identity import name_of
        from gradcheck_lint.facts.query import called
        from gradcheck_lint.facts.repair import text

        model, behind = called([left.model]), called(left.behind)
        if behind == model:
            behind = f"another {model}"
        report(
            left.backward.place,
            "parameters of the optimizer never get a gradient",
            label=f"leads to {behind}, and not to {model}",
            why=f"`{name_of(left.step)}.step()` finds no gradients, so {model} stays as it was",
            help=f"compute the loss of `{text(left.backward.place)}` with {model}",
            related=[
                ("the optimizer is handed its parameters here", left.built.place),
                ("steps here", left.step.place),
            ],
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, ShouldBeTrained):
            self.expected(sighting, report)
            return
        assert isinstance(sighting, NeverAGradient)
        from gradcheck_lint.runtime.layers import told

        if sighting.branch:
            return  # another of these modules was taken; this one's turn may come
        if sighting.cutting in (Cutting.CHECKPOINT, Cutting.FUNCTION):
            return  # GL414, GL602
        if sighting.cutting is not None:
            self.cut_off(sighting, report)
            return
        names = sighting.names
        one = len(names) == 1
        report(
            f"{'a parameter' if one else 'parameters'} of the optimizer never got a gradient",
            label=f"{told(names)}: none in the {sighting.checked} steps of "
            f"{sighting.optimizer.label if sighting.optimizer else 'the optimizer'} that were checked",
            why=f"no loss depends on {'it' if one else 'them'} in a way that backward can follow, so each step passes "
            f"{'it' if one else 'them'} by",
            help=f"use {'it' if one else 'them'} in `forward` without `.detach()`, `.item()`, `.data` or `no_grad`; or "
            f"freeze {'it' if one else 'them'} with `requires_grad_(False)`",
            note="a part of a library's model that this task does not use is harmless",
            confidence=Confidence.MEDIUM,
            subject=sighting.prefix,
        )

    def expected(self, sighting: ShouldBeTrained, report: RunReport) -> None:
        """What the user has named in `expect_trained`."""
        from gradcheck_lint.runtime.layers import told

        word, what, reason = sighting.word, told(sighting.names), sighting.reason
        if reason is Untrained.NAMELESS:
            report(
                "no parameter has the name that is expected to be trained",
                site=sighting.built,
                label=f"none of the parameters here has a name that begins with `{word}`",
                why="nothing of that name is trained, and nothing can be checked",
                help="look at the names in `model.named_parameters()`, and mend `expect_trained`",
                subject=word,
            )
            return
        lacks, help = _LACKS[reason]
        report(
            "parameters that should be trained are not",
            site=sighting.built,
            label=f"{what} {lacks}, and `expect_trained` names `{word}`",
            why="each step passes them by, and they stay as they are",
            help=help,
            related=[("steps here", sighting.site)],
            subject=word,
        )

    def cut_off(self, sighting: NeverAGradient, report: RunReport) -> None:
        """They took part in the loss, and it is known who has cut them off."""
        from gradcheck_lint.runtime.layers import told

        what, one = told(sighting.names), len(sighting.names) == 1
        they, them, get = ("it", "it", "gets") if one else ("they", "them", "get")
        by = f"`{sighting.by}`"
        if sighting.cutting is Cutting.VALUE:
            label = f"{by} takes the value of {what} alone"
            help = f"use {them} as {'it is' if one else 'they are'}, without {by}"
        elif sighting.cutting is Cutting.OFF:
            label = f"gradients are switched off by {by} while {what} {'is' if one else 'are'} used"
            help = f"call the part outside of {by}, or freeze it by `requires_grad_(False)`"
        else:
            label = f"{by} cuts off {what}, whose output comes here"
            help = f"leave out {by}, or freeze the part by `requires_grad_(False)`"
        report(
            f"{'a parameter' if one else 'parameters'} of the optimizer never got a gradient",
            site=sighting.cut,
            label=label,
            why=f"{they} took part in every loss so far and {get} nothing back, so each step passes {them} by",
            help=help,
            related=[("the optimizer is built here", sighting.built)],
            subject=sighting.prefix,
        )
