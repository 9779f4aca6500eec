"""GL112: backward runs a second time through a graph that was computed once and has been used up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query, repair
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.values import Constant, Thing, only, passes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Sighting
    from gradcheck_lint.source.place import Place

    Around = Sequence[ev.Step]
    Located = Sequence[tuple[ev.Event, tuple[ev.Step, ...]]]

WHY_FREED = "the first backward has freed the graph, and the second one raises an error"
WHY_OLD = "every step after the first uses the gradient of weights that are long gone"
WHY_GROWS = "each backward goes through all earlier batches, whose graphs are freed or belong to older weights"


class BackwardTwice(Rule):
    code = "GL112"
    slug = "backward-twice"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = frozenset({"graph-again", "graph-freed", "graph-outdated"})
    yields_to = frozenset({("GL309", "step"), ("GL201", "step")})

    def on_timeline(self, timeline: ev.Timeline, report: Report) -> None:
        located = list(timeline.located())
        backward = [(e, a) for e, a in located if e.kind == "backward" and not e.detail.get("engine")]
        if not backward:
            return
        trained = [m for o in timeline.optimizers() if o.certain for m in held_by(o).modules if m.certain]
        if not trained:
            return
        sure = not timeline.cut and not any(e.kind == "freeze" for e, _ in located)
        confidence = Confidence.HIGH if sure else Confidence.MEDIUM
        for number, (event, around) in enumerate(backward):
            loss = only(event.detail.get("of", event.subject))
            runs = _runs(loss, trained)
            if loss is None or not runs or not _plain(event):
                continue
            turns = [loop for loop in query.loops(around) if isinstance(loop.node, (tree.For, tree.While))]
            each = bool(turns) and query.always(query.inside(around, turns[-1])) and not _leaves(turns[-1])
            if each and self.again(timeline, event, turns[-1], loss, runs, confidence, report):
                continue
            for first, other in reversed(backward[:number]):
                shared = runs & _runs(only(first.subject), trained)
                if not shared or not _plain(first) or _kept(first) is not False or query.exclusive(other, around):
                    continue
                if not _leads(other, around) or (turns and any(t.serial < turns[-1].start for t in shared)):
                    continue
                run = next(t for t in sorted(shared, key=lambda t: t.serial))
                report(
                    event.place,
                    "backward runs a second time through one graph",
                    label="needs a graph that is already freed",
                    why=WHY_FREED,
                    help="add the losses and go backward once, or detach what the losses share",
                    related=[("this backward has freed it", first.place), *_made(run)],
                    confidence=confidence,
                )
                break

    def again(
        self,
        timeline: ev.Timeline,
        event: ev.Event,
        loop: ev.Loop,
        loss: Thing,
        runs: frozenset[Thing],
        confidence: Confidence,
        report: Report,
    ) -> bool:
        """Whether each round of the loop goes through a graph that an earlier one has used, or one from before it."""
        inner = timeline.within(loop)
        steps = any(e.kind == "step" and query.always(query.inside(a, loop)) for e, a in inner)
        kept = _kept(event)
        if kept is None or (kept and not steps):
            return False
        old = [t for t in runs if t.serial < loop.start]
        sites = {id(t.place.node) for t in runs if t.serial >= loop.start and t.place is not None}
        carried = [t for t in old if t.place is not None and id(t.place.node) in sites]
        if carried:
            report(
                event.place,
                "each backward goes through the graph of the batch before",
                label="reaches back into earlier rounds of the loop",
                why=WHY_GROWS,
                help="detach what goes from one round into the next, such as a hidden state",
                related=_made(carried[0]),
                confidence=confidence,
            )
            return True
        assigned = [e for e, _ in inner if e.kind == "assign"]
        if not old or any(e.kind == "forward" and e.place in [t.place for t in old] for e, _ in inner):
            return False
        if loss.serial < loop.start:
            name = query.receiver(event)
            if any(tree.dotted(e.detail["target"]) == name or repair.text(e.place) == name for e in assigned):
                return False
        elif kept or any(passes(e.detail.get("old")) for e in assigned):
            return False
        report(
            event.place,
            "each round goes backward through one graph that was made before the loop",
            label="uses the same graph in each round",
            why=WHY_OLD if kept else WHY_FREED,
            help="compute the loss inside the loop, from a new forward pass",
            related=_made(old[0]),
            confidence=confidence,
        )
        return True

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        detail = sighting.detail
        call = sighting.source("", "loss.backward()")
        freed = sighting.sites.get("freed")
        related = [("freed here", freed)] if freed is not None and freed != sighting.site else []
        name = sighting.optimizer.label if sighting.optimizer else "any optimizer"
        when = f"after step {sighting.step} of {name}" if sighting.step else f"before the first step of {name}"
        if sighting.kind == "graph-again":
            report(
                "the same graph goes backward again after a step",
                label=f"{when}: this very loss had gone backward before that step",
                why="the gradient is that of the weights as they were then, however often they have moved since",
                help=f"compute the loss anew before each `{call}`, and drop `retain_graph=True`",
            )
        elif sighting.kind == "graph-outdated":
            report(
                "the graph reaches back to before the last step",
                label=f"{when}: a step has changed weights that an older part of this graph needs",
                why="`retain_graph=True` keeps the old graph, and torch refuses to use it with other weights",
                help="detach what is carried from batch to batch, such as a hidden state, and drop `retain_graph=True`",
            )
        elif detail["again"]:
            report(
                "the same graph goes backward twice",
                label=f"{when}: this very loss has gone backward before, and its graph is freed",
                why="torch raises a RuntimeError; with `retain_graph=True` it would repeat an outdated gradient",
                help=f"compute the loss anew before each `{call}`",
                related=related,
            )
        elif sighting.names or detail["same_round"]:
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


def _runs(loss: Thing | None, trained: Sequence[Thing]) -> frozenset[Thing]:
    """The runs of trained modules that the loss goes back through."""
    if loss is None:
        return frozenset()
    found = set()
    for run in passes(loss.detail.get("of", loss)):
        module = run.detail["of"]
        if any(module.inside(t) for t in trained):
            found.add(run)
    return frozenset(found)


def _plain(event: ev.Event) -> bool:
    """A backward that is not one of several through one graph on purpose: it has no gradient or inputs of its own."""
    if event.detail.get("inputs") is not None or event.detail.get("create_graph") is not None:
        return False
    node = event.place.node
    return isinstance(node, tree.Call) and not any(a.keyword is None or a.keyword == "gradient" for a in node.args)


def _kept(event: ev.Event) -> bool | None:
    """Whether the graph is kept; None if that cannot be told."""
    retain = event.detail.get("retain")
    if retain is None:
        return False
    if isinstance(retain, Constant) and retain.value in (True, False, None):
        return bool(retain.value)
    return None


def _leads(first: Around, second: Around) -> bool:
    """Whether what has run `first` has certainly run before the second: it is not in a branch or loop of its own."""
    shared = [s for s in second if not isinstance(s, ev.Arm)]
    for step in first:
        if isinstance(step, (ev.Branch, ev.Loop)) and not any(step is s for s in shared):
            return isinstance(step, ev.Loop) and step.once
    return True


def _leaves(loop: ev.Loop) -> bool:
    """Whether the first round is always the last one."""
    return any(isinstance(step, ev.Jump) for step in loop.body.steps)


def _made(run: Thing) -> list[tuple[str, Place]]:
    return [("the graph is made here", run.place)] if run.place is not None else []
