"""GL508: what was frozen is still moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.mode import ExpectedFrozenMoved, FrozenMoves, FrozenStatistics, MaskedMoves
from gradcheck_lint.source.events import Step

if TYPE_CHECKING:
    from gradcheck_lint.facts.drifting import LeftOver, Masked, Woken
    from gradcheck_lint.facts.undone_modes import Undone
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class FrozenPartStillMoves(Rule):
    code = "GL508"
    slug = "frozen-part-still-moves"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Step,)
    watches = (FrozenMoves, FrozenStatistics, ExpectedFrozenMoved, MaskedMoves)
    yields_to = frozenset({("GL212", "names")})

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.drifting import left_over, masked, woken
        from gradcheck_lint.facts.undone_modes import undone

        for part in woken(timeline):
            self.woken(part, report)
        for picked in undone(timeline):
            self.undone(picked, report)
        for mask in masked(timeline):
            self.masked(mask, report)
        for left in left_over(timeline):
            self.left_over(left, report)

    def woken(self, found: Woken, report: Report) -> None:
        from gradcheck_lint.facts.caring import cares

        caring = cares(found.part)
        if caring is NO:
            return
        name = found.part.label or "the part"
        report(
            found.on.place,
            "a frozen part is put back into training mode",
            label=f"wakes up the layers of `{name}` with the rest of the model",
            why="running statistics follow the new data, and so the frozen part computes something else",
            help="call `eval()` on the frozen part after each `train()`, or override `train` so that it does",
            related=[("was put into evaluation mode here", found.off.place), ("frozen here", found.frozen.place)],
            confidence=Confidence.HIGH if caring is YES else Confidence.MEDIUM,
        )

    def undone(self, found: Undone, report: Report) -> None:
        from gradcheck_lint.facts.caring import cares

        caring = cares(found.part) if found.part is not None else YES
        if caring is NO:
            return
        name = query.receiver(found.on) or "the model"
        part = f"`{found.part.label}`" if found.part is not None and found.part.label else ""
        report(
            found.on.place,
            "layers that were put into evaluation mode are put back into training mode",
            label=f"wakes up all layers of `{name}`, those of {part} too"
            if part
            else f"wakes up all layers of `{name}`, those too that were picked out before",
            why="none of the training runs with these layers as they were set, so setting them has no effect",
            help=("set them again" if part else "pick them out again")
            + " after each `train()`, or override `train` so that it does",
            related=[("were put into evaluation mode here", found.off.place), ("trains here", found.trained.place)],
            confidence=Confidence.HIGH if caring is YES else Confidence.MEDIUM,
        )

    def masked(self, found: Masked, report: Report) -> None:
        from gradcheck_lint.facts.query import spoken

        name = spoken(found.step)
        related = [("moves them all the same", found.step.place)]
        if found.optimizer.place is not None:
            related.insert(0, ("built here", found.optimizer.place))
        report(
            found.write.place,
            "rows whose gradient is set to 0 are still moved by the step",
            label="holds back the gradient, and not weight decay",
            why=f"`{name}` decays all of the parameter by {found.decay}",
            help=f"build `{name}` with `weight_decay=0.0`, or write the rows back after the step",
            related=related,
        )

    def left_over(self, found: LeftOver, report: Report) -> None:
        from gradcheck_lint.facts.query import spoken

        name = spoken(found.step)
        report(
            found.step.place,
            "frozen parameters are still moved by the step",
            label=f"`{name}` goes on with what is left of their gradients",
            why="`.grad` is 0 and not None, so momentum and weight decay move them",
            help=f"set `.grad` to None where you freeze, or build `{name}` on the parameters that are left",
            related=[("frozen here", found.frozen.place), ("set to 0, and not to None", found.zero.place)],
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, FrozenMoves):
            self.moves(sighting, report)
        elif isinstance(sighting, FrozenStatistics):
            self.statistics(sighting, report)
        elif isinstance(sighting, ExpectedFrozenMoved):
            self.expected(sighting, report)
        elif isinstance(sighting, MaskedMoves):
            self.mask(sighting, report)

    def mask(self, sighting: MaskedMoves, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "the optimizer"
        causes = [*(["weight decay"] if sighting.decay else []), *(["momentum"] if sighting.momentum else [])]
        report(
            "a part whose gradient is set to 0 is still moved by the step",
            site=sighting.made,
            label="holds back the gradient, and not " + " and ".join(causes),
            why=f"{sighting.at_step}: {sighting.moved} of the {sighting.held_back} elements of "
            f"{sighting.names[0]} without a gradient moved",
            help=(f"build `{name}` with `weight_decay=0.0`, or " if sighting.decay else "")
            + "write the old values back after the step",
            related=[("moves them all the same", sighting.stepped), ("built here", sighting.built)],
            subject="mask",
        )

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
        if sighting.on is not None:
            report(
                "a frozen part is put back into training mode",
                site=sighting.on,
                label=f"wakes up {told(sighting.names, 'norm layers')} with the rest of the model",
                why="running statistics follow the new data, and so the frozen part computes something else",
                help="call `eval()` on the frozen part after each `train()`, or override `train` so that it does",
                related=[("was put into evaluation mode here", sighting.off), ("steps here", sighting.stepped)],
                subject="statistics",
            )
            return
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
