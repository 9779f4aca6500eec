"""What a LightningModule gives to its trainer: losses, steps and schedules."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.bindings import Bindings, nodes, returns
from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.run.shape import names_in
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Value

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts

_MODULES = frozenset({"lightning.pytorch.LightningModule", "lightning.LightningModule"})
_FLAG = "automatic_optimization"
_BY_HAND = frozenset({"manual_backward", "backward", "step"})
_OF_TRAINER = frozenset({"optimizer_step", "lr_scheduler_step"})
"""Hooks in which the trainer lets a module step."""
HARMLESS = frozenset({"clip_gradients", "toggle_optimizer", "untoggle_optimizer"})
_CUTTING = frozenset({"detach", "item", "tolist", "numpy"})
_OUTER = frozenset({"interval", "frequency", "strict", "name", "reduce_on_plateau"})
"""What belongs into the dictionary of a scheduler, and is lost beside it."""


class LightningFacts:
    """A class that derives from LightningModule; `of` gives None for one that does not."""

    def __init__(self, facts: ClassFacts) -> None:
        self.facts = facts

    @staticmethod
    def of(facts: ClassFacts) -> LightningFacts | None:
        bases = [v for v in facts.lineage if isinstance(v, External) and v.name != "builtins.object"]
        if not any(torch_api.canonical(v.name) in _MODULES for v in bases):
            return None
        return LightningFacts(facts)

    @cached_property
    def manual(self) -> Answer:
        """Whether it does its steps by itself: MAYBE where somebody speaks of the flag, or calls what needs it."""
        written = [
            node.value
            for node in self.nodes
            if isinstance(node, tree.Assign) and any(tree.dotted(t) == f"self.{_FLAG}" for t in node.targets)
        ]
        if written and all(isinstance(value, tree.Constant) and value.value is False for value in written):
            return YES
        called = any(
            isinstance(node, tree.Call) and tree.last_name(node.func) in _BY_HAND
            for name, method in self._methods
            if name not in _OF_TRAINER
            for node in method
        )
        return MAYBE if called or self._flagged else NO

    @cached_property
    def _flagged(self) -> bool:
        """Whether the text of the project speaks of the flag."""
        return _FLAG in self.facts.inherited or any(_FLAG in text for text in self.facts.elsewhere())

    @cached_property
    def _methods(self) -> list[tuple[str, list[tree.Node]]]:
        """Its methods, inherited ones too: the name, and the nodes."""
        return [
            (member.function.name, list(nodes(member.function)))
            for value in self.facts.lineage
            if isinstance(value, ClassValue)
            for member in value.members.values()
            if isinstance(member, FunctionValue) and member.owner is value
        ]

    @property
    def nodes(self) -> Iterator[tree.Node]:
        return (node for _, method in self._methods for node in method)

    @property
    def _moves_schedules(self) -> bool:
        """Whether it moves them by itself, in a hook of the trainer's."""
        if self.facts.cls is not None and self.facts.cls.member("lr_scheduler_step") is not None:
            return True
        return any(isinstance(n, tree.Call) and tree.dotted(n.func) == "self.lr_schedulers" for n in self.nodes)

    @property
    def known(self) -> bool:
        """Whether all of its bases but Lightning's are seen."""
        return all(
            not isinstance(v, External)
            or torch_api.canonical(v.name) in _MODULES
            or v.name in ("builtins.object", "abc.ABC", "typing.Generic")
            for v in self.facts.lineage
        )

    def own(self, name: str) -> FunctionValue | None:
        """A method that it defines itself, without decorators, and not just for others to define."""
        found = self.facts.cls.members.get(name) if self.facts.cls is not None else None
        if not isinstance(found, FunctionValue) or found.function.decorators:
            return None
        body = [s for s in found.function.body if not _nothing(s)]
        return found if body and not isinstance(body[-1], tree.Raise) else None

    # ------------------------------------------------------------ what is wrong

    def returns_nothing(self) -> FunctionValue | None:
        """`training_step`, if no path in it returns anything."""
        step = self.own("training_step")
        if step is None or self.manual is not NO or not self.known:
            return None
        if any(isinstance(node, tree.Yield) for node in nodes(step.function)):
            return None
        none = all(s.value is None or _is_none(s.value) for s in returns(step.function))
        return step if none else None

    def cut_losses(self) -> Iterator[tuple[FunctionValue, tree.Expression, str]]:
        """What `training_step` returns, where that is cut off from its graph: the method, the place, and by what."""
        step = self.own("training_step")
        if step is None or self.manual is not NO:
            return
        bindings = Bindings(step.function)
        for statement in returns(step.function):
            loss = _loss_of(statement.value, bindings)
            how = _cut(loss, bindings)
            if loss is not None and how:
                yield step, loss, how

    def without_loss(self) -> Iterator[tuple[FunctionValue, tree.Dict]]:
        """The dictionaries that `training_step` returns without a loss in them."""
        step = self.own("training_step")
        if step is None or self.manual is not NO:
            return
        for statement in returns(step.function):
            value = statement.value
            if isinstance(value, tree.Dict) and value.pairs:
                keys = [key.value if isinstance(key, tree.Constant) else ... for key, _ in value.pairs]
                if all(isinstance(key, str) for key in keys) and "loss" not in keys:
                    yield step, value

    def closure_skipped(self) -> tuple[FunctionValue, tree.Call] | None:
        """`optimizer_step`, if it steps without the closure that it was handed, and where."""
        method = self.own("optimizer_step")
        if method is None or self._flagged:
            return None
        parameters = method.function.parameters
        reads = Bindings(method.function).reads
        handed = [p.name for p in parameters[3:] if p.star or "closure" in p.name]
        if len(parameters) < 4 or not handed or any(reads.get(name) for name in handed):
            return None
        calls = [n for n in nodes(method.function) if isinstance(n, tree.Call)]
        if any(tree.last_name(call.func) == "optimizer_step" for call in calls):
            return None
        steps = [c for c in calls if isinstance(c.func, tree.Attribute) and c.func.attr == "step" and not c.args]
        optimizer = parameters[3].name
        mine = [c for c in steps if isinstance(c.func, tree.Attribute) and tree.dotted(c.func.value) == optimizer]
        return (method, mine[0]) if mine and len(steps) == len(mine) else None

    def steps_itself(self) -> tuple[FunctionValue, tree.Call] | None:
        """`training_step`, if it goes backward by hand though the trainer does that, and where."""
        step = self.own("training_step")
        if step is None or not self.known or self._flagged:
            return None
        for node in nodes(step.function):
            if isinstance(node, tree.Call) and tree.dotted(node.func) == "self.manual_backward":
                return step, node
        return None

    def never_steps(self) -> FunctionValue | None:
        """`training_step`, if the trainer leaves the steps to the module and the module makes none."""
        step = self.own("training_step")
        if step is None or not self.known or self.manual is not YES:
            return None
        return None if any(_may_step(method) for _, method in self._methods) else step

    def plans(self) -> Iterator[Plan]:
        """The schedules that `configure_optimizers` returns, where the trainer moves them."""
        method = self.facts.cls.members.get("configure_optimizers") if self.facts.cls is not None else None
        if not isinstance(method, FunctionValue) or self.manual is not NO or self._moves_schedules:
            return
        bindings = Bindings(method.function)
        for statement in returns(method.function):
            yield from self._plans(method, statement.value, bindings)

    def _plans(self, method: FunctionValue, value: tree.Expression | None, bindings: Bindings) -> Iterator[Plan]:
        value = _resolved(value, bindings)
        if isinstance(value, tree.Dict):
            entries = _entries(value)
            if entries is None or "optimizer" not in entries:
                return
            found = _resolved(entries.get("lr_scheduler"), bindings)
            yield from self._plan(method, found, bindings, value, entries)
        elif isinstance(value, tree.Display) and len(value.items) == 2:
            second = _resolved(value.items[1], bindings)
            if isinstance(second, tree.Display) and second.kind is tree.Container.LIST:
                for item in second.items:
                    yield from self._plan(method, _resolved(item, bindings), bindings, None, {})

    def _plan(
        self,
        method: FunctionValue,
        found: tree.Expression | None,
        bindings: Bindings,
        outer: tree.Dict | None,
        beside: dict[str, tree.Expression],
    ) -> Iterator[Plan]:
        options: dict[str, tree.Expression] | None = {}
        made = found
        if isinstance(found, tree.Dict):
            options = _entries(found)
            made = _resolved(options.get("scheduler"), bindings) if options is not None else None
        if options is None or not isinstance(made, tree.Call):
            return
        written = found if isinstance(found, tree.Dict) else None
        yield Plan(method, made, self._name(made.func), options, beside, written, outer, _in_steps(made, bindings))

    def _name(self, func: tree.Expression) -> str:
        """The full name of what is called, where that leads out of the project."""
        first, *rest = tree.dotted(func).split(".")
        machine = self.facts.machine
        value: Value | None = machine.get(machine.namespace(self.facts.home), first)
        if not isinstance(value, External):
            return ""
        return torch_api.canonical(".".join([value.name, *rest]))


class Plan(NamedTuple):
    """A schedule that `configure_optimizers` returns."""

    method: FunctionValue
    made: tree.Call
    name: str  # the full name of its class, or function; "" if that is not known
    options: dict[str, tree.Expression]  # of the dictionary that it is in
    beside: dict[str, tree.Expression]  # of the dictionary around that
    written: tree.Dict | None
    outer: tree.Dict | None
    in_steps: bool  # it was built with a number of steps, not of epochs

    @property
    def misplaced(self) -> list[str]:
        return [key for key in self.beside if key in _OUTER]


def _may_step(method: list[tree.Node]) -> bool:
    """Whether a method steps, or hands the trainer's optimizer or its object to somebody who may."""
    optimizers = {
        name.id
        for node in method
        if isinstance(node, tree.Assign) and of_trainer(node.value)
        for target in node.targets
        for name in names_in(target)
    }
    for node in method:
        if isinstance(node, tree.Call):
            if tree.last_name(node.func) == "step":
                return True
            told = tree.dotted(node.func).rpartition(".")[2] in HARMLESS
            if not told and any(tree.dotted(a.value) in optimizers | {"self"} for a in node.args):
                return True
    return False


def of_trainer(node: tree.Expression | None) -> bool:
    """Whether it is what `self.optimizers()` gives."""
    inner = node.walk() if node is not None else ()
    return any(isinstance(part, tree.Call) and tree.dotted(part.func) == "self.optimizers" for part in inner)


def _nothing(statement: tree.Statement) -> bool:
    """A docstring, `pass` and the like."""
    return isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Constant)


def _is_none(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value is None


def _resolved(node: tree.Expression | None, bindings: Bindings) -> tree.Expression | None:
    """An expression, or the one that its name is given; None for a name of which that is not known."""
    for _ in range(4):
        if not isinstance(node, tree.Name):
            return node
        if node.id in bindings.changed:
            return None
        node = bindings.once(node.id)
    return None


def _entries(node: tree.Dict) -> dict[str, tree.Expression] | None:
    """The entries of a dictionary that is written down; None if a key is not."""
    found = {}
    for key, value in node.pairs:
        if not isinstance(key, tree.Constant) or not isinstance(key.value, str):
            return None
        found[key.value] = value
    return found


def _loss_of(value: tree.Expression | None, bindings: Bindings) -> tree.Expression | None:
    """The loss in what is returned: itself, or what a dictionary has under that name."""
    if isinstance(value, tree.Name) and isinstance(bindings.once(value.id), tree.Dict):
        value = bindings.once(value.id)
    if isinstance(value, tree.Dict):
        entries = _entries(value)
        return entries.get("loss") if entries is not None else None
    return value


def _cut(node: tree.Expression | None, bindings: Bindings) -> str:
    """What cuts an expression off from its graph on every path; "" if nothing does."""
    if isinstance(node, tree.Name):
        node = bindings.once(node.id) if node.id not in bindings.changed else None
    if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and node.func.attr in _CUTTING:
        return f".{node.func.attr}()"
    if isinstance(node, tree.Call) and isinstance(node.func, tree.Name) and node.func.id == "float":
        return "float()"
    return ".data" if isinstance(node, tree.Attribute) and node.attr == "data" else ""


def _in_steps(made: tree.Call, bindings: Bindings) -> bool:
    """Whether a schedule is told a number of steps: `steps_per_epoch=`, the trainer's own, or a length of a loader."""
    for argument in made.args:
        if argument.keyword == "steps_per_epoch":
            return True
        if argument.keyword not in ("total_steps", "T_max", "num_training_steps", None):
            continue
        value = _resolved(argument.value, bindings)
        for node in value.walk() if value is not None else ():
            if isinstance(node, tree.Attribute) and node.attr == "estimated_stepping_batches":
                return True
            if argument.keyword is not None and isinstance(node, tree.Call) and tree.dotted(node.func) == "len":
                return True
    return False
