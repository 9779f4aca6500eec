"""GL601: the `step` of an optimizer class trips over its parameters, its closure or its buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.own_decay import grown
from gradcheck_lint.facts.own_states import Flaw, flaws
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import LeafWrite
from gradcheck_lint.source.place import name_of

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.own_optimizers import StepFacts
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.timeline import Timeline


_PLAIN = frozenset({Flaw.LEFT, Flaw.GRADIENT, Flaw.FORGOTTEN, Flaw.LOCAL, Flaw.UNSTORED, Flaw.DROPPED})
"""The flaws that a look at a few statements shows; the others depend on what an optimizer means to do."""
FLAWS = {
    Flaw.LEFT: (
        "a parameter without a gradient ends the step",
        "leaves all parameters after `{}` where they are",
        "one layer that no backward has reached keeps those behind it from training",
        "write `continue`",
    ),
    Flaw.COUNTED: (
        "an optimizer counts its steps once for each parameter",
        "raises `{}` for each parameter of the group",
        "the averages of each parameter are corrected for another number of steps than there were",
        "raise `{}` before the loop over the parameters, or keep a count in the state of each",
    ),
    Flaw.SHARED: (
        "parameters of an optimizer share one state",
        "is the same for each parameter like `{}`",
        "each parameter is moved by what was gathered of the others",
        "keep one for each parameter: `self.state[{}]`",
    ),
    Flaw.SELF: (
        "what an optimizer keeps of a parameter is the parameter itself",
        "keeps no copy under `{}`, and what changes one changes both",
        "the old value is always the new one, and what is gathered is written into the weights",
        "keep a copy: `.clone()`",
    ),
    Flaw.GRADIENT: (
        "what an optimizer keeps of a gradient is the gradient itself",
        "keeps no copy under `{}`, and what changes one changes both",
        "gradients and averages are written over each other, as soon as `.grad` is not made anew",
        "keep a copy: `.clone()`",
    ),
    Flaw.FORGOTTEN: (
        "what an optimizer has gathered is thrown away in each step",
        "empties `{}` in each step",
        "no step knows of the gradients before it",
        "make it once: `if len(state) == 0:`",
    ),
    Flaw.LOCAL: (
        "what an optimizer has gathered is thrown away in each step",
        "makes `{}` of zeros in each step",
        "no step knows of the gradients before it",
        "keep it in `self.state[...]`, and make it there once",
    ),
    Flaw.UNSTORED: (
        "what an optimizer has gathered is not kept",
        "looks for `{}` in the state, and nothing ever puts it there",
        "no step knows of the gradients before it",
        "put it there: `state.setdefault({!r}, ...)`",
    ),
    Flaw.DROPPED: (
        "what an optimizer has gathered is not kept",
        "makes a new tensor, and `{}` in the state stays as it was",
        "no step knows of the gradients before it",
        "change it in place, or put it back: `state[{!r}] = ...`",
    ),
    Flaw.STILL: (
        "the step of an optimizer moves no parameter",
        "changes a copy, and `{}` stays as it is",
        "nothing is trained, whatever the gradients are",
        "write into the parameter: `{}.add_(...)`",
    ),
}
"""By flaw: message, label, consequence and advice."""


class OptimizerStepRebinds(Rule):
    code = "GL601"
    slug = "optimizer-step-rebinds"
    severity = Severity.ERROR
    fix = Safety.SAFE
    triggers = r"\bdef step\(self, closure|\[[\"']params[\"']\]"

    needs = (LeafWrite,)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        """Tell of a parameter that is changed in a function that `step` calls."""
        from gradcheck_lint.facts.own_optimizers import changed_below

        event = changed_below(timeline)
        if event is not None:
            self.changed(event.place, event.subject.label or "it", False, None, report)

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.own_optimizers import StepFacts

        step = StepFacts.of(facts)
        if step is None:
            return
        self.recorded(step, report)
        self.closure(step, report)
        self.buffers(step, report)
        self.states(step, report)
        self.decay(step, report)
        self.missing(step, report)

    def recorded(self, step: StepFacts, report: Report) -> None:
        """Tell of a parameter that is changed in place while torch records."""
        for statement, name in step.recorded_writes():
            closure = bool(step.closure_calls)
            fix = self.unrecorded(step) if not closure else None
            self.changed(step.step.place(statement), name, closure, fix, report)
            return  # one decorator mends all of them

    def changed(self, place: Place, name: str, closure: bool, fix: Fix | None, report: Report) -> None:
        report(
            place,
            "an optimizer changes a parameter in place while gradients are recorded",
            label=f"`{name}` is a leaf tensor that requires grad",
            why="torch raises a RuntimeError at the first step",
            help="put `@torch.no_grad()` over `step`, and call the closure under `torch.enable_grad()`"
            if closure
            else "put `@torch.no_grad()` over `step`",
            fix=fix,
        )

    @staticmethod
    def unrecorded(step: StepFacts) -> Fix | None:
        """Put the decorator over `step`."""
        spelt = step.facts.spelled("torch.no_grad")
        if spelt is None:
            return None
        edit = repair.decorate(step.step.place(step.function), f"@{spelt}()")
        return Fix("record nothing in `step`", Safety.SAFE, (edit,))

    @staticmethod
    def recorded_again(step: StepFacts, call: tree.Call) -> Fix | None:
        """Call the closure while torch records."""
        spelt = step.facts.spelled("torch.enable_grad")
        plain = [node for node in step.bindings.nodes if isinstance(node, (tree.Assign, tree.Evaluate))]
        holding = [node for node in plain if any(part is call for part in node.walk())]
        here = repair.stand(step.step.place(holding[0])) if len(holding) == 1 else None
        if here is None or spelt is None or here.first != here.last:
            return None
        return Fix("record what the closure does", Safety.SAFE, (repair.within(here, f"with {spelt}():"),))

    def closure(self, step: StepFacts, report: Report) -> None:
        call = step.closure_off()
        if call is not None:
            report(
                step.step.place(call),
                "an optimizer calls its closure while nothing is recorded",
                label=f"`{step.closure}` goes forward and backward, and here gradients are off",
                why="its backward raises a RuntimeError, as its loss has no graph",
                help=f"call it under `torch.enable_grad()`: `with torch.enable_grad(): loss = {step.closure}()`",
                related=[("off since here", name_of(step.step.place(step.function)))] if step.decorated else [],
                fix=self.recorded_again(step, call),
            )
        lost = step.loss_lost()
        if lost is not None:
            report(
                step.step.place(lost),
                "an optimizer does not return the loss of its closure",
                label="the loss is computed, and `step` returns None",
                why="whoever calls `step(closure)` waits for the loss: a training loop to log it, a framework to go on",
                help=f"keep it and return it at the end: `loss = {step.closure}()`",
                confidence=Confidence.MEDIUM,
            )

    def buffers(self, step: StepFacts, report: Report) -> None:
        for node, name in step.shared():
            report(
                step.step.place(node),
                "all parameters of an optimizer share one buffer",
                label=f"`{name}` takes in the gradient of one parameter after the other",
                why="each parameter is moved by what was gathered of the others",
                help="keep one for each parameter: `self.state[p]`",
            )
            return

    def states(self, step: StepFacts, report: Report) -> None:
        for found in flaws(step):
            message, label, why, help = FLAWS[found.flaw]
            report(
                step.step.place(found.node),
                message,
                label=label.format(found.name),
                why=why,
                help=help.format(found.name),
                confidence=Confidence.HIGH if found.certain and found.flaw in _PLAIN else Confidence.MEDIUM,
            )

    def decay(self, step: StepFacts, report: Report) -> None:
        for found in grown(step):
            report(
                step.step.place(found.node),
                "the weight decay of an optimizer makes weights grow",
                label=f"`{found.name}` has the wrong sign",
                why="each step makes each weight larger by a fixed share, the faster the larger it is",
                help=f"turn the sign of `{found.name}`",
            )

    def missing(self, step: StepFacts, report: Report) -> None:
        found = step.unchecked()
        if found is None:
            return
        node, name = found
        report(
            step.step.place(node),
            "an optimizer expects a gradient of each parameter",
            label=f"`{repair.text(step.step.place(node))}` is None for a parameter that no backward has reached",
            why="the first step after a branch that was not taken, or with a frozen layer, raises an error",
            help=f"leave it out: `if {name}.grad is None: continue`",
            confidence=Confidence.MEDIUM,
        )
