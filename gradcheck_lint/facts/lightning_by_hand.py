"""Manual optimisation in a LightningModule: an optimizer that steps in each batch, and that nothing ever clears."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.bindings import Bindings
from gradcheck_lint.facts.lightning_steps import HARMLESS, LightningFacts, of_trainer
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.source import tree
from gradcheck_lint.source.values import FunctionValue

_BACKWARD = frozenset({"manual_backward", "backward"})


class Uncleared(NamedTuple):
    """The backward and the step of an optimizer whose gradients nothing clears, and what the code calls it."""

    method: FunctionValue
    backward: tree.Call
    step: tree.Call
    name: str


def never_cleared(module: LightningFacts) -> Iterator[Uncleared]:
    """The optimizers that `training_step` moves in vain: all that speaks of clearing clears others by their names."""
    method = module.own("training_step")
    if method is None or not module.known or module.manual is not YES:
        return
    here = Bindings(method.function)
    mine = _optimizers(here)
    calls = [node for node in here.nodes if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute)]
    cleared = {name for call in calls if _verb(call) == "zero_grad" and (name := _receiver(call)) in mine}
    spoken = sum(_verb(call) == "zero_grad" and _receiver(call) in mine for call in calls)
    if spoken != _mentioned(module) or _by_hand(module) or _handed_on(module, mine):
        return
    made: tree.Call | None = None
    told: set[str] = set()
    for call in calls:
        name = _receiver(call)
        if _verb(call) in _BACKWARD:
            made = call
        elif _verb(call) == "step" and name in mine and made is not None and name not in cleared | told:
            told.add(name)
            yield Uncleared(method, made, call, name)


def _optimizers(here: Bindings) -> set[str]:
    """The names that are given optimizers of the trainer's, and nothing else."""
    found: set[str] = set()
    for node in here.nodes:
        if isinstance(node, tree.Assign) and of_trainer(node.value) and len(node.targets) == 1:
            target = node.targets[0]
            items = target.items if isinstance(target, tree.Display) else [target]
            found |= {item.id for item in items if isinstance(item, tree.Name)}
    return {name for name in found if len(here.given.get(name, ())) == 1}


def _verb(call: tree.Call) -> str:
    return call.func.attr if isinstance(call.func, tree.Attribute) else ""


def _receiver(call: tree.Call) -> str:
    return (
        call.func.value.id if isinstance(call.func, tree.Attribute) and isinstance(call.func.value, tree.Name) else ""
    )


def _mentioned(module: LightningFacts) -> int:
    """How often the class, or a file that speaks of it, speaks of clearing."""
    elsewhere = sum(text.count("zero_grad") for text in module.facts.elsewhere() if text != module.facts.home.text)
    return elsewhere + max(module.facts.home.text.count("zero_grad"), module.facts.inherited.count("zero_grad"))


def _by_hand(module: LightningFacts) -> bool:
    """Whether a method sets gradients itself."""
    return any(isinstance(node, tree.Attribute) and node.attr == "grad" for node in module.nodes)


def _handed_on(module: LightningFacts, mine: set[str]) -> bool:
    """Whether an optimizer or the module is given to somebody who may clear its gradients."""
    for node in module.nodes:
        if (
            not isinstance(node, tree.Call)
            or tree.last_name(node.func) in HARMLESS
            or tree.dotted(node.func) == "super"
        ):
            continue
        if any(tree.dotted(argument.value) in mine | {"self"} for argument in node.args):
            return True
    return False
