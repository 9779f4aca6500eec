"""Manual optimisation in a LightningModule: an optimizer that steps in each batch, and that nothing ever clears."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.bindings import Bindings
from gradcheck_lint.facts.lightning_steps import HARMLESS, LightningFacts, of_trainer
from gradcheck_lint.laws.answer import YES
from gradcheck_lint.source import tree
from gradcheck_lint.source.values import FunctionValue

_BACKWARD = frozenset({"manual_backward", "backward"})


class Uncleared(NamedTuple):
    """The backward and the step of an optimizer whose gradients nothing clears, and what the code calls it.

    It is `certain` where torch's own optimizers hold apart parameters, and no other file of the project clears any.
    """

    method: FunctionValue
    backward: tree.Call
    step: tree.Call
    name: str
    certain: bool


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
    built = _built(module)
    held = [_owner(call) for call in built]
    if len(built) > 1 and cleared and len(set(held)) < len(held):
        return  # who clears one of them clears the other
    own = bool(built) and all(_of_torch(call, module.facts.home.text) for call in built)
    clears = _cleared_elsewhere(module)
    if any("Callback" in text or not own for text in clears):
        return
    certain = own and not clears and (not cleared or _apart(held))
    made: tree.Call | None = None
    told: set[str] = set()
    for call in calls:
        name = _receiver(call)
        if _verb(call) in _BACKWARD:
            made = call
        elif _verb(call) == "step" and name in mine and made is not None and name not in cleared | told:
            told.add(name)
            yield Uncleared(method, made, call, name, certain)


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
    """Whether a method sets gradients itself, or a file that speaks of the class does, as in a callback of its own."""
    texts = [module.facts.home.text, *module.facts.elsewhere()]
    return any(isinstance(node, tree.Attribute) and node.attr == "grad" for node in module.nodes) or any(
        map(_SET.search, texts)
    )


_SET = re.compile(r"""\.grad\s*=(?!=)|\.grad\.(zero_|copy_|mul_|detach_)|setattr\([^)\n]*["']grad["']""")


def _cleared_elsewhere(module: LightningFacts) -> list[str]:
    """The other files of the project that clear gradients: a callback, or an optimizer that does so by itself."""
    mine = {module.facts.home.text, *module.facts.elsewhere()}
    texts = [other.text for other in module.facts.machine.project.modules.values() if other is not None]
    return [text for text in texts if text not in mine and ("zero_grad" in text or _SET.search(text))]


def _built(module: LightningFacts) -> list[tree.Call]:
    """What `configure_optimizers` hands parameters to; nothing if the class does not say."""
    method = module.own("configure_optimizers")
    here = Bindings(method.function).nodes if method is not None else []
    return [
        node
        for node in here
        if isinstance(node, tree.Call)
        and node.args
        and any(isinstance(part, tree.Attribute) and part.attr == "parameters" for part in node.args[0].value.walk())
        and tree.last_name(node.func) not in ("list", "chain", "filter")
    ]


def _of_torch(call: tree.Call, text: str) -> bool:
    """Whether a class is one of torch's own optimizers, which clear nothing."""
    name = tree.dotted(call.func)
    home, _, last = name.rpartition(".")
    if home in ("optim", "torch.optim"):
        imported = re.search(r"(?m)^\s*(from torch import .*\boptim\b|import torch\.optim as optim)", text)
        return home != "optim" or imported is not None
    return not home and re.search(rf"(?m)^\s*from torch\.optim import .*\b{re.escape(last)}\b", text) is not None


def _owner(call: tree.Call) -> str:
    """`self.net` for what is given `self.net.parameters()`; "" for anything else."""
    given = call.args[0].value
    func = given.func if isinstance(given, tree.Call) else None
    return tree.dotted(func.value) if isinstance(func, tree.Attribute) and func.attr == "parameters" else ""


def _apart(held: list[str]) -> bool:
    """Whether the modules are different ones, of which none is a part of another one."""
    return all(held) and not any(
        one is not other and f"{other}.".startswith(f"{one}.") for one in held for other in held
    )


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
