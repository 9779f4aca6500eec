"""GL113: the closure given to `step()` lacks a part, or LBFGS gets none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import query, repair
from gradcheck_lint.facts.before_closure import computed_before
from gradcheck_lint.finding import Confidence, Edit, Fix, Safety, Severity, Span
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import ClosureMissing, ClosureWithoutLoss, EmptyStep, StaleStep
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.place import name_of
from gradcheck_lint.source.values import Constant, External, FunctionValue, Thing, only

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.record import Site
    from gradcheck_lint.runtime.sighting import Sighting

WHY_ZERO = "LBFGS evaluates the closure several times in one step, and the gradients of all evaluations add up"
WHY_BACKWARD = "the optimizer finds no gradient where it stands, and moves nothing"
WHY_RETURN = "LBFGS needs the value of the loss, and fails on None"


class ClosureIncomplete(Rule):
    code = "GL113"
    slug = "closure-incomplete"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (ev.Step,)
    watches = (StaleStep, EmptyStep, ClosureWithoutLoss, ClosureMissing)
    triggers = r"LBFGS|closure"

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        runs: dict[int, tl.Call] | None = None
        for event in timeline.events(ev.Step):
            optimizer = only(event.subject, Optimizer)
            if optimizer is None or not isinstance(optimizer.cls, External) or not query.torch_class(optimizer):
                continue
            if event.scaler is not None or event.args.open:
                continue
            closure = event.closure
            if closure is None or (isinstance(closure, Constant) and closure.value is None):
                if query.torch_class(optimizer) == "LBFGS":
                    self.absent(timeline, event, report)
            elif isinstance(closure, FunctionValue):
                if runs is None:
                    runs = {id(c.place.node): c for c in _calls(timeline.tree)}
                run = runs.get(id(event.place.node))
                self.judge(timeline, event, optimizer, closure, run, report)

    def absent(self, timeline: tl.Timeline, event: ev.Step, report: Report) -> None:
        call = query.receiver(event)
        name = _beside(timeline, event)
        fix = None
        if name:
            span = event.place.span
            end = Span(span.path, span.end_line, span.end_column - 1, span.end_line, span.end_column - 1)
            fix = Fix(f"pass `{name}`", Safety.SAFE, (Edit(end, name),))
        report(
            event.place,
            "LBFGS steps without a closure",
            label="needs a function that computes the loss anew",
            why="LBFGS evaluates the loss several times in one step, and fails without the means to do so",
            help=f"pass the closure: `{call}.step({name or 'closure'})`",
            fix=fix,
        )

    def judge(
        self,
        timeline: tl.Timeline,
        event: ev.Step,
        optimizer: Thing,
        closure: FunctionValue,
        run: tl.Call | None,
        report: Report,
    ) -> None:
        function = closure.function
        place = name_of(closure.place(function))
        call = query.receiver(event)
        happens = {type(e) for e in tl.inside(run.body)} if run is not None else set()
        if timeline.cut or timeline.hooked or happens & {ev.Unknown, ev.GradWrite} or _takes_gradients(run):
            return
        lambda_ = function.name == "<lambda>"
        returned = [n for n in tree.walk_block(function.body) if isinstance(n, tree.Return) and n.value is not None]
        lbfgs = query.torch_class(optimizer) == "LBFGS"
        first = repair.stand(closure.place(function.body[0])) if not lambda_ else None
        if ev.Backward not in happens:
            elsewhere = any(True for _ in timeline.events(ev.Backward))
            if not returned or (elsewhere and not lbfgs):
                return
            last = returned[-1]
            assert last.value is not None
            stand = repair.stand(closure.place(last)) if isinstance(last.value, tree.Name) and not lambda_ else None
            line = f"{last.value.id}.backward()" if isinstance(last.value, tree.Name) else "loss.backward()"
            report(
                place,
                "the closure never calls backward",
                label=f"computes the loss for `{call}.step()`, and no gradients",
                why=WHY_BACKWARD,
                help=f"call `{line}` before the closure returns",
                fix=Fix(f"call `{line}`", Safety.SAFE, (repair.insert_before(stand, line),)) if stand else None,
                confidence=Confidence.MEDIUM if elsewhere else Confidence.HIGH,
            )
        elif ev.Zero not in happens and lbfgs and not _once(optimizer):
            made = next(e for e in tl.inside(run.body) if isinstance(e, ev.Backward)) if run is not None else event
            reachable = made.function is function and call.partition(".")[0] in ("self", call)
            edits = (repair.insert_before(first, f"{call}.zero_grad()"),) if first and reachable else ()
            report(
                place,
                "the closure never clears the gradients",
                label=f"is called several times by `{call}.step()`",
                why=WHY_ZERO,
                help=f"call `{call}.zero_grad()` at the head of `{function.name}`",
                fix=Fix(f"call `{call}.zero_grad()` first", Safety.SAFE, edits) if edits else None,
            )
        elif lbfgs and not _once(optimizer) and run is not None and computed_before(closure, run):
            report(
                place,
                "the closure goes backward through a forward pass that was made before it",
                label=f"gives the same loss to each evaluation by `{call}.step()`",
                why="LBFGS evaluates it at other weights, along a line, and is told nothing of them",
                help=f"run the forward pass and compute the loss in `{function.name}`",
            )
        elif lbfgs and not lambda_ and not returned and not _yields(function.body):
            loss = _backward_of(function.body)
            tail = repair.stand(closure.place(function.body[-1]))
            edits = (repair.insert_after(tail, f"return {loss}"),) if loss and tail else ()
            report(
                place,
                "the closure does not return the loss",
                label=f"gives None to `{call}.step()`",
                why=WHY_RETURN,
                help=f"end `{function.name}` with `return {loss or 'loss'}`",
                fix=Fix(f"return `{loss}`", Safety.SAFE, edits) if edits else None,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        call = sighting.source("optimizer.step(closure)")
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        if isinstance(sighting, ClosureMissing):
            report(
                "LBFGS steps without a closure",
                label=f"{sighting.at_step}: no function was given that computes the loss anew",
                why="LBFGS evaluates the loss several times in one step, and fails without the means to do so",
                help=f"pass the closure: `{name}.step(closure)`",
            )
        elif isinstance(sighting, ClosureWithoutLoss):
            if sighting.searches:
                begins, steps = _beginning(sighting, sighting.begins)
                report(
                    "the closure does not return the loss",
                    site=begins,
                    label=f"{sighting.at_step}: the closure has returned None",
                    why=WHY_RETURN,
                    help="end the closure with `return loss`",
                    related=steps,
                )
        elif not isinstance(sighting, (StaleStep, EmptyStep)) or sighting.closure is None:
            return  # GL101, GL102, GL104
        elif isinstance(sighting, StaleStep) and sighting.searches and not sighting.closure.cleared:
            begins, steps = _beginning(sighting, sighting.closure.begins)
            report(
                "the closure never clears the gradients",
                site=begins,
                label=f"{sighting.at_step}: an evaluation began with the gradients of the one before",
                why=WHY_ZERO,
                help=f"call `{name}.zero_grad()` at the head of the closure",
                related=[("made here", sighting.made), *steps],
            )
        elif isinstance(sighting, EmptyStep) and not sighting.closure.made and sighting.tally.always:
            begins, steps = _beginning(sighting, sighting.closure.begins)
            report(
                "the closure makes no gradients",
                site=begins,
                label=f"{sighting.at_step}: `{call}` has run the closure, and nothing that it holds got a gradient",
                why=WHY_BACKWARD,
                help=f"call `loss.backward()` before the closure returns, on a loss of what `{name}` holds",
                related=steps,
            )


def _beginning(sighting: Sighting, begins: Site | None) -> tuple[Site | None, list[tuple[str, Site | None]]]:
    """Where the finding stands, and what belongs beside it: the closure if its line is known, else the step."""
    return begins, [("steps here", sighting.site)] if begins is not None else []


def _calls(step: tl.Part) -> Iterable[tl.Call]:
    """All calls that were followed."""
    if isinstance(step, tl.Call):
        yield step
        yield from _calls(step.body)
    elif isinstance(step, tl.Sequence):
        for inner in step.steps:
            yield from _calls(inner)
    elif isinstance(step, tl.Branch):
        for arm in step.arms:
            yield from _calls(arm)
    elif isinstance(step, (tl.Loop, tl.Guarded)):
        yield from _calls(step.body)


def _takes_gradients(run: tl.Call | None) -> bool:
    """Whether the closure gets its gradients without backward."""
    return run is not None and any(
        isinstance(e, ev.TorchCall) and e.name.startswith(("torch.autograd", "torch.func")) for e in tl.inside(run.body)
    )


def _once(optimizer: Thing) -> bool:
    """Whether the optimizer is told to evaluate only once in a step."""
    given = optimizer.args.get(2, "max_iter") if optimizer.args is not None else None
    return given is not None and not (isinstance(given, Constant) and given.value != 1)


def _yields(body: tree.Block) -> bool:
    return any(type(n) is tree.Yield for n in tree.walk_block(body))


def _backward_of(body: tree.Block) -> str:
    """The name of the loss that goes backward in a statement of its own."""
    for statement in body:
        if isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Call):
            func = statement.value.func
            if isinstance(func, tree.Attribute) and func.attr == "backward" and isinstance(func.value, tree.Name):
                return func.value.id
    return ""


def _beside(timeline: tl.Timeline, event: ev.Event) -> str:
    """The one function without parameters that is defined where the step is, and goes backward; "" if none is."""
    body = event.function.body if event.function is not None else timeline.home.body
    found = [
        n for n in tree.walk_block(body) if isinstance(n, tree.Function) and not n.parameters and query.goes_backward(n)
    ]
    if len(found) != 1 or not any(isinstance(n, tree.Return) and n.value for n in tree.walk_block(found[0].body)):
        return ""
    name = found[0].name
    if any(isinstance(n, tree.Name) and n.id == name for n in tree.walk_block(body)):
        return ""  # it is used in some other way
    return name
