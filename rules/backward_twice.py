"""GL112: backward runs a second time through a graph that was computed once and has been used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query, regone, repair
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import GraphAgain, GraphFreed, GraphOutdated
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.values import only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

    Around = Sequence[tl.Part]

WHY_FREED = "the first backward has freed the graph, and the second one raises an error"
WHY_OLD = "every step after the first uses the gradient of weights that are long gone"
WHY_GROWS = "each backward goes through all earlier batches, whose graphs are freed or belong to older weights"


class BackwardTwice(Rule):
    code = "GL112"
    slug = "backward-twice"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (ev.Backward,)
    watches = (GraphAgain, GraphFreed, GraphOutdated)
    yields_to = frozenset({("GL309", "step"), ("GL201", "step")})

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        modules = regone.trained(timeline)
        confidence = regone.confidence(timeline)
        self.states(timeline, confidence, report)
        before = [(e, a) for e, a in timeline.located(ev.Backward) if not e.engine]
        for back in regone.backwards(timeline):
            event, around, loop = back.event, back.around, back.each
            if loop is not None and self.again(timeline, back, loop, confidence, report):
                continue
            number = next(n for n, (e, _) in enumerate(before) if e is event)
            for first, other in reversed(before[:number]):
                shared = back.runs & regone.runs_of(only(first.subject), modules)
                if not shared or not regone.plain(first) or regone.kept(first) is not False:
                    continue
                if query.exclusive(other, around) or not _leads(other, around):
                    continue
                if back.turns and any(t.serial < back.turns[-1].start for t in shared):
                    continue
                run = next(t for t in sorted(shared, key=lambda t: t.serial))
                report(
                    event.place,
                    "backward runs a second time through one graph",
                    label="needs a graph that is already freed",
                    why=WHY_FREED,
                    help="add the losses and go backward once, or detach what the losses share",
                    related=[("this backward has freed it", first.place), *regone.made(run)],
                    confidence=confidence,
                )
                break

    def states(self, timeline: tl.Timeline, confidence: Confidence, report: Report) -> None:
        """States that a module keeps from call to call."""
        from gradcheck_lint.facts.remembered import remembered

        told: set[int] = set()
        for found in remembered(timeline):
            if id(found.backward.place.node) in told:
                continue
            told.add(id(found.backward.place.node))
            model = f"`{found.module.label}`" if found.module.label else "the model"
            report(
                found.backward.place,
                "each backward goes through the graph of the batch before",
                label=f"reaches back into earlier rounds, by what {model} keeps as `self.{found.name}`",
                why=WHY_GROWS,
                help=f"detach `self.{found.name}` in `forward` where it is read, or set it back before each batch",
                related=[("runs here", found.run.place)],
                confidence=confidence if found.sure else Confidence.MEDIUM,
            )

    def again(
        self, timeline: tl.Timeline, back: regone.Back, loop: tl.Loop, confidence: Confidence, report: Report
    ) -> bool:
        """Whether each round of the loop goes through a graph that an earlier one has used, or one from before it."""
        event = back.event
        kept = regone.kept(event)
        if kept is None or (kept and not regone.steps_in(timeline, loop)):
            return False
        carried = regone.carried(back, loop)
        if carried is not None:
            run, summed = carried
            if not summed:  # else GL413 tells it
                report(
                    event.place,
                    "each backward goes through the graph of the batch before",
                    label="reaches back into earlier rounds of the loop",
                    why=WHY_GROWS,
                    help="detach what goes from one round into the next, such as a hidden state",
                    related=regone.made(run),
                    confidence=confidence,
                )
            return True
        inner = timeline.within(loop)
        old = [t for t in back.runs if t.serial < loop.start]
        assigned = [e for e, _ in inner if isinstance(e, ev.Assign)]
        if not old or any(isinstance(e, ev.Forward) and e.place in [t.place for t in old] for e, _ in inner):
            return False
        if back.loss.serial < loop.start:
            name = query.receiver(event)
            if any(tree.dotted(e.target) == name or repair.text(e.place) == name for e in assigned):
                return False
        elif kept or any(passes(e.old) for e in assigned):
            return False
        report(
            event.place,
            "each round goes backward through one graph that was made before the loop",
            label="uses the same graph in each round",
            why=WHY_OLD if kept else WHY_FREED,
            help="compute the loss inside the loop, from a new forward pass",
            related=regone.made(old[0]),
            confidence=confidence,
        )
        return True

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        call = sighting.source("loss.backward()")
        name = sighting.optimizer.label if sighting.optimizer else "any optimizer"
        when = f"after step {sighting.step} of {name}" if sighting.step else f"before the first step of {name}"
        if isinstance(sighting, GraphAgain):
            report(
                "the same graph goes backward again after a step",
                label=f"{when}: this very loss had gone backward before that step",
                why="the gradient is that of the weights as they were then, however often they have moved since",
                help=f"compute the loss anew before each `{call}`, and drop `retain_graph=True`",
            )
        elif isinstance(sighting, GraphOutdated):
            report(
                "the graph reaches back to before the last step",
                label=f"{when}: a step has changed weights that an older part of this graph needs",
                why="`retain_graph=True` keeps the old graph, and torch refuses to use it with other weights",
                help="detach what is carried from batch to batch, such as a hidden state, and drop `retain_graph=True`",
            )
        elif isinstance(sighting, GraphFreed):
            self.freed(sighting, when, report)

    def freed(self, sighting: GraphFreed, when: str, report: RunReport) -> None:
        freed = sighting.freed
        related = [("freed here", freed)] if freed is not None and freed != sighting.site else []
        if sighting.again:
            call = sighting.source("loss.backward()")
            report(
                "the same graph goes backward twice",
                label=f"{when}: this very loss has gone backward before, and its graph is freed",
                why="torch raises a RuntimeError; with `retain_graph=True` it would repeat an outdated gradient",
                help=f"compute the loss anew before each `{call}`",
                related=related,
            )
        elif sighting.names or sighting.same_round:
            shared = f"`{sighting.names[0]}`" if sighting.names else "a part of this graph"
            report(
                "two losses share a graph that the first has freed",
                label=f"{when}: {shared} had gone backward with another loss already",
                why="torch raises a RuntimeError, for the graph of what they share is gone",
                help=f"add the losses and call backward once, or detach {shared} for one of them",
                related=related,
            )
        else:
            report(
                "the graph of an earlier batch goes backward again",
                label=f"{when}: this graph goes on into one that an earlier batch has freed",
                why="torch raises a RuntimeError, for something is carried over together with its graph",
                help="detach what is carried from one batch to the next, such as a hidden state",
                related=related,
            )


def _leads(first: Around, second: Around) -> bool:
    """Whether what has run `first` has certainly run before the second: it is not in a branch or loop of its own."""
    shared = [s for s in second if not isinstance(s, tl.Arm)]
    for step in first:
        if isinstance(step, (tl.Branch, tl.Loop)) and not any(step is s for s in shared):
            return isinstance(step, tl.Loop) and step.once
    return True
