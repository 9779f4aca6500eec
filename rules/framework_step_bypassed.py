"""GL605: code goes past the wrapper or the framework that was to do a part of the step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.order import (
    ClosureSkipped,
    GonePast,
    NothingReturned,
    PlainBackward,
    Unprepared,
    Unsynchronised,
)
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import AcceleratedBackward, Backward, Distribute, Prepare, Step
from gradcheck_lint.source.place import Place, name_of

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.lightning_steps import LightningFacts, Plan
    from gradcheck_lint.facts.spread import Past
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline
    from gradcheck_lint.source.values import FunctionValue


_PLATEAU = "torch.optim.lr_scheduler.ReduceLROnPlateau"


class FrameworkStepBypassed(Rule):
    code = "GL605"
    slug = "framework-step-bypassed"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    watches = (GonePast,)
    needs = (Distribute, Prepare, AcceleratedBackward, Step)
    triggers = r"\bdef (?:training_step|optimizer_step|configure_optimizers)\("

    # ------------------------------------------------------------ wrappers and Accelerate

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.spread import never_averaged, nothing_prepared, past_wrapper

        if timeline.has(Distribute):
            for past in past_wrapper(timeline):
                self.unsynchronised(timeline, past, report)
        for step, backward in never_averaged(timeline):
            self.alone(timeline, step, backward, report)
        if timeline.has(Prepare):
            self.accelerated(timeline, report)
        alone = nothing_prepared(timeline)
        if alone is not None:
            accelerated, built = alone
            report(
                accelerated.place,
                "nothing was prepared by Accelerate",
                label="goes backward for a model and an optimizer that it was never handed",
                why="they stay where they are: on one device, without the gradients of other processes",
                help="hand them over first: `model, optimizer = accelerator.prepare(model, optimizer)`",
                related=[("the optimizer is built here", built.place)],
            )

    def unsynchronised(self, timeline: Timeline, past: Past, report: Report) -> None:
        from gradcheck_lint.facts.query import unseen

        name = past.wrapper.subject.label or "model"
        moved = past.cause
        report(
            past.backward.place,
            "the forward goes past DistributedDataParallel"
            if moved is None
            else "the model was moved after DistributedDataParallel wrapped it",
            label=f"no gradient is averaged by this backward: `{name}` itself was not called"
            if moved is None
            else "no gradient is averaged by this backward",
            why="each rank trains a model of its own on its own part of the data"
            if moved is None
            else "the conversion made new places for gradients, which the wrapper's hooks are not on",
            help=f"call `{name}(...)`; what it wraps is for evaluation and for saving"
            if moved is None
            else "move and convert the model first, then wrap it",
            related=[("wrapped here", past.wrapper.place), *([("converted here", moved.place)] if moved else [])],
            confidence=Confidence.MEDIUM if unseen(timeline) else Confidence.HIGH,  # what was not seen may average
        )

    def alone(self, timeline: Timeline, step: Step, backward: Backward, report: Report) -> None:
        from gradcheck_lint.facts.query import unseen

        report(
            step.place,
            "a step uses gradients that were averaged over no ranks",
            label="the last backward before it runs under `no_sync`",
            why="each rank trains a model of its own on its own part of the data",
            help="run the last backward of a window outside of `no_sync`",
            related=[("runs under `no_sync`", backward.place)],
            confidence=Confidence.MEDIUM if unseen(timeline) else Confidence.HIGH,  # what was not seen may average
        )

    def accelerated(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.facts.repair import receiver, text
        from gradcheck_lint.facts.spread import Accelerated

        found = Accelerated(timeline)
        for backward, prepare in found.plain_backwards():
            name = prepare.subject.label or "accelerator"
            report(
                backward.place,
                "backward goes past Accelerate",
                label="calls backward on the loss itself, though the model was prepared",
                why="Accelerate neither scales it for half precision nor divides it by the number of micro-batches",
                help=f"call `{name}.backward({receiver(backward.place)})`",
                related=[("prepared here", prepare.place)],
                fix=self.mend(backward, prepare),
                confidence=Confidence.HIGH if id(prepare) in found.always else Confidence.MEDIUM,
            )
        for step, optimizer, prepare, certain in found.unprepared():
            name = optimizer.label or "optimizer"
            report(
                step.place,
                "the optimizer was not prepared by Accelerate",
                label="steps at each micro-batch, and without the scaler of half precision",
                why="only a prepared optimizer waits for the last micro-batch, and skips a step that overflowed",
                help=f"hand it over with the model: `accelerator.prepare(model, {name})`",
                related=[("the model is prepared here", prepare.place)],
                confidence=Confidence.HIGH if certain else Confidence.MEDIUM,
            )
        for backward, divisor in found.divided_twice():
            report(
                backward.place,
                "the loss is divided twice by the number of micro-batches",
                label=f"was divided by `{text(Place(backward.place.chunk, divisor))}`, and is so again in here",
                why="gradients are that many times too small",
                help="leave the division to `accelerator.backward`",
            )

    # ------------------------------------------------------------ Lightning

    @staticmethod
    def mend(backward: Backward, prepare: Prepare) -> Fix | None:
        """Hand the loss to Accelerate, where that has a name in the same function and backward is told nothing.

        Unsafe: Accelerate divides it by the number of micro-batches, and the code may do that as well.
        """
        from gradcheck_lint.facts.repair import receiver, replace

        node = backward.place.node
        name = receiver(prepare.place)
        if not isinstance(node, tree.Call) or node.args or backward.place.chunk is not prepare.place.chunk:
            return None
        if not name.isidentifier():
            return None
        call = f"{name}.backward({receiver(backward.place)})"
        return Fix(f"call `{call}`", Safety.UNSAFE, (replace(backward.place, call),))

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.lightning_steps import LightningFacts

        module = LightningFacts.of(facts)
        if module is None:
            return
        self.losses(module, report)
        self.steps(module, report)
        for plan in module.plans():
            self.plan(plan, report)

    def losses(self, module: LightningFacts, report: Report) -> None:
        empty = module.returns_nothing()
        if empty is not None:
            report(
                name_of(empty.place(empty.function)),
                "`training_step` returns no loss",
                label="no path in it returns anything",
                why="without a loss Lightning runs no backward, and nothing is trained",
                help="return the loss, or a dict that has it under `loss`",
            )
        for method, node, how in module.cut_losses():
            report(
                method.place(node),
                "`training_step` returns a loss without a graph",
                label=f"`{how}` cuts it off from the model",
                why="Lightning goes backward from what is returned, and finds nothing to go through",
                help="return the loss itself, and cut off what is logged",
            )
        for method, written in module.without_loss():
            report(
                method.place(written),
                "`training_step` returns a dictionary without a loss",
                label="has no `loss`",
                why="Lightning looks for the loss under this key, and raises a MisconfigurationException",
                help="put the loss under `loss`",
            )

    def steps(self, module: LightningFacts, report: Report) -> None:
        skipped = module.closure_skipped()
        if skipped is not None:
            method, call = skipped
            report(
                method.place(call),
                "the step skips the closure in which training happens",
                label="steps without the closure that `optimizer_step` is handed",
                why="in Lightning's automatic optimisation `training_step` and backward run in it, and so never do",
                help="hand it on: `optimizer.step(closure=optimizer_closure)`, or call it before",
            )
        by_hand = module.steps_itself()
        if by_hand is not None:
            method, call = by_hand
            report(
                method.place(call),
                "backward is called by hand, and the trainer does it as well",
                label="`manual_backward` is for manual optimisation",
                why="Lightning raises a MisconfigurationException here",
                help="set `self.automatic_optimization = False` in `__init__`, or return the loss and leave this out",
            )
        idle = module.never_steps()
        if idle is not None:
            report(
                name_of(idle.place(idle.function)),
                "manual optimisation, and nobody makes a step",
                label="no method of the module steps an optimizer",
                why="with `automatic_optimization = False` the trainer leaves it alone, and nothing is trained",
                help="call `self.manual_backward(loss)` and step the optimizer, or leave the flag alone",
            )

    def plan(self, plan: Plan, report: Report) -> None:
        method: FunctionValue = plan.method
        what = plan.name.rpartition(".")[2] or "schedule"
        interval = plan.options.get("interval")
        if plan.misplaced and plan.outer is not None:
            key = plan.misplaced[0]
            report(
                method.place(plan.beside[key]),
                f"`{key}` is in the wrong dictionary",
                label="beside the scheduler, where Lightning does not look",
                why="the schedule moves once in each epoch, and other options keep their defaults too",
                help=f'put it in with the scheduler: `"lr_scheduler": {{"scheduler": ..., "{key}": ...}}`',
            )
        elif isinstance(interval, tree.Constant) and interval.value not in ("step", "epoch"):
            report(
                method.place(interval),
                "Lightning knows no such interval",
                label="is neither `step` nor `epoch`",
                why="it raises a MisconfigurationException when training begins",
                help='write `"interval": "step"` or `"interval": "epoch"`',
            )
        elif plan.name == _PLATEAU and "monitor" not in plan.options and "monitor" not in plan.beside:
            report(
                method.place(plan.made),
                "a plateau is looked for in no quantity",
                label="has no `monitor` beside it",
                why="Lightning raises a MisconfigurationException: it does not know what to hand to the schedule",
                help='name what was logged: `"monitor": "val_loss"`',
            )
        elif plan.in_steps and plan.name and interval is None and plan.name != _PLATEAU:
            report(
                method.place(plan.made),
                "a schedule of steps is moved once in each epoch",
                label=f"`{what}` is built with a number of steps",
                why="without an interval Lightning moves it at the end of each epoch, and it hardly gets anywhere",
                help='say so: `{"scheduler": ..., "interval": "step"}`',
            )

    # ------------------------------------------------------------ runs

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        headline, label, why, help = _words(sighting)
        moved = sighting.moved if isinstance(sighting, Unsynchronised) else None
        known = not isinstance(sighting, Unsynchronised) or sighting.how
        report(
            headline,
            label=f"{sighting.at_step}: {label}",
            why=why,
            help=help,
            related=[("moved here", moved), ("built here", sighting.built)],
            confidence=Confidence.HIGH if known else Confidence.MEDIUM,
            subject=type(sighting).__name__,
        )


def _words(sighting: Sighting) -> tuple[str, str, str, str]:
    """Headline, label, why and help."""
    optimizer = sighting.optimizer.label if sighting.optimizer else "optimizer"
    if isinstance(sighting, ClosureSkipped):
        return (
            "the step skips the closure in which training happens",
            "`training_step` and backward had not run",
            "in Lightning's automatic optimisation the step calls them, through the closure that it is handed",
            f"hand it on: `{optimizer}.step(closure=optimizer_closure)`, or call it before",
        )
    if isinstance(sighting, NothingReturned):
        return (
            "`training_step` returns no loss",
            "no batch so far has given a loss",
            "without one Lightning runs no backward, and the step finds no gradients",
            "return the loss, or a dict that has it under `loss`",
        )
    if isinstance(sighting, PlainBackward):
        return (
            "backward goes past Accelerate",
            f"backward was called on the loss itself, of which {sighting.number} are added up",
            f"`accelerator.backward` would have divided it by {sighting.number}, so the step is that much too long",
            f"call `accelerator.backward({_receiver(sighting.source('loss.backward()'))})`",
        )
    if isinstance(sighting, Unprepared):
        return (
            "the optimizer was not prepared by Accelerate",
            "it makes a step though the window of accumulation is not complete",
            f"only a prepared optimizer waits for the last of {sighting.number} micro-batches",
            f"hand it over: `{optimizer} = accelerator.prepare({optimizer})`",
        )
    assert isinstance(sighting, Unsynchronised)
    model = sighting.model
    if sighting.how == "moved":
        return (
            "the model was moved after DistributedDataParallel wrapped it",
            "no gradient was averaged by this backward",
            "the move made new places for gradients, which the wrapper's hooks are not on",
            "move and convert the model first, then wrap it",
        )
    if sighting.how == "raw":
        return (
            "the forward goes past DistributedDataParallel",
            f"no gradient was averaged by this backward, and `{model}` itself was never called",
            "each rank trains a model of its own on its own part of the data",
            f"call `{model}(...)`; `{model}.module` is for evaluation and for saving",
        )
    return (
        "gradients are not averaged over the ranks",
        f"no collective ran in this backward, though `{model}` is wrapped by DistributedDataParallel",
        "each rank trains a model of its own on its own part of the data",
        f"call `{model}(...)` in each forward, and average in the last backward before the step",
    )


def _receiver(call: str) -> str:
    """`loss` of `loss.backward()`."""
    return call.partition(".backward")[0] or "loss"
