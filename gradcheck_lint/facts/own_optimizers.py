"""What the `step` of an optimizer class of the project does: to its parameters, its closure and its buffers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.bindings import Bindings
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.natures import GroupParams, element_of
from gradcheck_lint.source.run.shape import names_in
from gradcheck_lint.source.values import ClassValue, External, FunctionValue

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.source.timeline import Timeline

_ON = frozenset({"enable_grad", "set_grad_enabled"})
_METHODS = frozenset({"staticmethod", "classmethod"})
_WRITING = frozenset(
    "add_ sub_ mul_ div_ addcdiv_ addcmul_ copy_ lerp_ clamp_ zero_ fill_ sign_ pow_ sqrt_ neg_ set_ addmm_".split()
)
_REDUCING = frozenset(
    "norm sum mean max min amax amin dot item numel vdot inner trace all any len size float int isnan isfinite".split()
)


class Element(NamedTuple):
    """A loop over the parameters of a group, and the name that stands for one of them."""

    loop: tree.For
    name: str
    group: str
    inside: list[tree.Node]


class StepFacts:
    """The `step` of an optimizer class; `of` gives None for what is none, or has decorators that are not known."""

    def __init__(self, facts: ClassFacts, step: FunctionValue) -> None:
        self.facts, self.step = facts, step
        self.function = step.function
        self.bindings = Bindings(self.function)

    @staticmethod
    def of(facts: ClassFacts) -> StepFacts | None:
        step = facts.cls.members.get("step") if facts.cls is not None else None
        if not isinstance(step, FunctionValue) or facts.cls is None or not is_optimizer(facts.cls):
            return None
        names = {tree.last_name(decorator) for decorator in step.function.decorators}
        return StepFacts(facts, step) if names <= OFF | _ON else None

    @cached_property
    def decorated(self) -> bool:
        """Whether nothing in it is recorded: by a decorator."""
        return any(tree.last_name(decorator) in OFF for decorator in self.function.decorators)

    @property
    def switches(self) -> bool:
        """Whether it switches grad mode by a call, so that nobody knows where it is on."""
        return any(
            isinstance(node, (tree.Evaluate, tree.Assign)) and tree.last_name(node.value) in _ON | OFF
            for node in self.bindings.nodes
        )

    @cached_property
    def elements(self) -> list[Element]:
        """The loops over the parameters of a group: `for p in group["params"]`."""
        found = []
        for node in self.bindings.nodes:
            if isinstance(node, tree.For):
                name, group = _bound_to_params(node.target, node.iter)
                if name:
                    found.append(Element(node, name, group, list(tree.walk_block(node.body))))
        return found

    # ------------------------------------------------------------ what is wrong

    def recorded_writes(self) -> Iterator[tuple[tree.Node, str]]:
        """Where a parameter itself is changed in place while grad mode is on: the statement, and its name."""
        if self.decorated or self.switches:
            return
        for element in self.elements:
            names = self.bindings.given.get(element.name, [])
            if any(value is not None for value in names) or len(names) > len(self.elements):
                continue  # it stands for something else: `p = p.data`
            for statement in _recorded(element.loop.body):
                if (isinstance(statement, tree.Augment) and tree.dotted(statement.target) == element.name) or (
                    isinstance(statement, tree.Evaluate) and _writes(statement.value, element.name)
                ):
                    yield statement, element.name

    def unchecked(self) -> tuple[tree.Attribute, str] | None:
        """Where `.grad` of a parameter is used, of which nothing in the function asks whether it is there."""
        used = self._used_gradient()
        if used is None:
            return None
        for node in self.bindings.nodes:
            if isinstance(node, tree.Try):
                return None
            tests: list[tree.Expression] = []
            if isinstance(node, (tree.If, tree.While, tree.Conditional, tree.Assert)):
                tests = [node.test]
            elif isinstance(node, tree.Comprehension):
                tests = [test for _, _, each in node.clauses for test in each]
            elif isinstance(node, tree.Operation) and node.op in ("is", "is not", "and", "or", "=="):
                tests = [node]
            elif isinstance(node, tree.Call) and tree.last_name(node.func) in ("getattr", "hasattr", "filter"):
                return None
            if any(self._asks(inner) for test in tests for inner in test.walk()):
                return None
        return used

    def _used_gradient(self) -> tuple[tree.Attribute, str] | None:
        """Where something of `.grad` of a parameter is read, or computed with it."""
        for element in self.elements:
            for node in element.inside:
                inner = [node.value] if isinstance(node, tree.Attribute) else ()
                for part in node.operands if isinstance(node, tree.Operation) else inner:
                    if isinstance(part, tree.Attribute) and part.attr == "grad":
                        if tree.dotted(part.value) == element.name:
                            return part, element.name
        return None

    def _asks(self, node: tree.Node) -> bool:
        """Whether a part of a test is about a gradient: itself, or a name for it."""
        if isinstance(node, tree.Attribute):
            return node.attr in ("grad", "requires_grad")
        if not isinstance(node, tree.Name):
            return False
        given = self.bindings.given.get(node.id, ())
        return node.id == "grad" or any(value is not None and _speaks_of_grad(value) for value in given)

    @property
    def closure(self) -> str:
        """What it calls the closure that it is handed; "" if it takes none."""
        parameters = self.function.parameters[1:2]
        return parameters[0].name if parameters and not parameters[0].star else ""

    @cached_property
    def closure_calls(self) -> list[tree.Call]:
        name = self.closure
        return [n for n in self.bindings.nodes if isinstance(n, tree.Call) and name and tree.dotted(n.func) == name]

    def closure_off(self) -> tree.Call | None:
        """Where the closure is called while nothing is recorded, so that its backward has nothing to go through."""
        if not self.closure_calls or self.switches or len(self.bindings.given.get(self.closure, [])) != 1:
            return None
        blocks = [node for node in self.bindings.nodes if isinstance(node, tree.With)]
        on = {id(node) for node in _within(blocks, _ON)}
        off = None if self.decorated else {id(node) for node in _within(blocks, OFF)}
        for call in self.closure_calls:
            if id(call) not in on and (off is None or id(call) in off):
                return call
        return None

    def loss_lost(self) -> tree.Call | None:
        """Where the closure is called, if `step` never returns anything."""
        calls = self.closure_calls
        if not calls or any(isinstance(n, tree.Return) and n.value is not None for n in self.bindings.nodes):
            return None
        return calls[0]

    def shared(self) -> Iterator[tuple[tree.Node, str]]:
        """Where a buffer of all parameters takes in the gradient of one, and moves it: the place, and its name."""
        for element in self.elements:
            bound: dict[str, int] = {}  # name → how many statements of the loop bind it
            for node in [element.loop, *element.inside]:
                for name in _binds(node):
                    bound[name] = bound.get(name, 0) + 1
            for node in element.inside:
                if isinstance(node, tree.Evaluate):
                    name = self._written_into(node.value, element, bound)
                    if name and self._moved_by(name, element):
                        yield node, name
                if not isinstance(node, (tree.Assign, tree.Augment)) or node.value is None:
                    continue
                target = node.targets[0] if isinstance(node, tree.Assign) else node.target
                name = self._outlives(target, element, bound)
                if name and self._gathers(node, node.value, name, element) and self._moved_by(name, element):
                    yield node, name

    def _gathers(self, node: tree.Node, value: tree.Expression, name: str, element: Element) -> bool:
        """Whether a statement adds the gradient of a parameter, as it is, to what a buffer has already."""
        inner = list(value.walk())
        if any(_reduces(part) for part in inner):
            return False
        again = isinstance(node, tree.Augment) or any(_key(part) == name for part in inner)
        tainted = self._made_of_gradients(element) if again else set()
        return again and any(_is_grad(part, element.name, tainted) for part in inner)

    def _written_into(self, node: tree.Expression, element: Element, bound: dict[str, int]) -> str:
        """The buffer of all parameters that `buffer.mul_(0.9).add_(p.grad)` writes a gradient into, as it is."""
        given: list[tree.Expression] = []
        while isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and node.func.attr in _WRITING:
            given += [argument.value for argument in node.args]
            node = node.func.value
        name = self._outlives(node, element, bound) if given else ""
        inner = [part for value in given for part in value.walk()] if name else []
        if not inner or any(_reduces(part) for part in inner):
            return ""
        tainted = self._made_of_gradients(element)
        return name if any(_is_grad(part, element.name, tainted) for part in inner) else ""

    def _moved_by(self, name: str, element: Element) -> bool:
        """Whether a parameter gets a value that was computed with a buffer."""
        moved = [node for node in element.inside if _moves(node, element.name)]
        return any(_key(inner) == name for node in moved for inner in node.walk())

    def _made_of_gradients(self, element: Element) -> set[str]:
        found: set[str] = set()
        for node in element.inside:
            if isinstance(node, tree.Assign) and node.value is not None:
                if any(_is_grad(inner, element.name, found) for inner in node.value.walk()):
                    if not any(_reduces(inner) for inner in node.value.walk()):
                        found |= {t.id for t in node.targets if isinstance(t, tree.Name)}
        return found

    def _outlives(self, target: tree.Expression, element: Element, bound: dict[str, int]) -> str:
        """What something is called that is the same for all parameters; "" for what each of them has."""
        if isinstance(target, tree.Attribute) and tree.dotted(target.value) == "self":
            return _key(target)
        if isinstance(target, tree.Subscript) and isinstance(target.index, tree.Constant):
            base = tree.dotted(target.value)
            return _key(target) if base and base in ("self.state", element.group) else ""
        if isinstance(target, tree.Name) and target.id != element.name:
            inside = bound.get(target.id, 0)
            return target.id if inside <= 1 and len(self.bindings.given.get(target.id, ())) > inside else ""
        return ""


def changed_below(timeline: Timeline) -> ev.LeafWrite | None:
    """Where a function that `step` of an optimizer class calls changes a parameter while torch records.

    The timeline is that of the `step`, or of a module that comes to it; nothing on the way has decorators that are not
    known.
    """
    entry, owner = timeline.entry, timeline.owner
    if entry is not None and (owner is None or entry.name != "step" or not is_optimizer(owner)):
        return None  # whoever calls it may have switched recording off
    for event, around in timeline.located(ev.LeafWrite):
        group = element_of(event.subject)
        if group is None or not isinstance(group.what, GroupParams) or "try" in event.context:
            continue
        calls = [part.function for part in around if isinstance(part, tl.Call)]
        calls += [entry] if entry is not None else []
        at = next((index for index, function in enumerate(calls) if function.name == "step"), None)
        if at is None or event.function is calls[at]:
            continue
        if all(tree.last_name(d) in OFF | _ON | _METHODS for function in calls for d in function.decorators):
            return event
    return None


def is_optimizer(cls: ClassValue) -> bool:
    """Whether a class derives from torch's Optimizer, or from one of its optimizers."""
    return any(
        isinstance(value, External)
        and (value.name == "torch.optim.Optimizer" or value.name.removeprefix("torch.optim.") in torch_api.OPTIMIZERS)
        for value in cls.lineage()
    )


def _bound_to_params(target: tree.Expression, of: tree.Expression) -> tuple[str, str]:
    """The name that a loop gives to one parameter of a group, and what the group is called."""
    if isinstance(of, tree.Subscript) and isinstance(of.index, tree.Constant) and of.index.value == "params":
        return (target.id if isinstance(target, tree.Name) else "", tree.dotted(of.value))
    if isinstance(of, tree.Call) and tree.dotted(of.func) == "enumerate" and of.args:
        if isinstance(target, tree.Display) and len(target.items) == 2:
            return _bound_to_params(target.items[1], of.args[0].value)
    return "", ""


def _binds(node: tree.Node) -> set[str]:
    """The plain names that a statement binds."""
    targets: list[tree.Expression] = []
    if isinstance(node, tree.Assign):
        targets = node.targets
    elif isinstance(node, (tree.For, tree.Named)):
        targets = [node.target]
    elif isinstance(node, tree.With):
        targets = [target for _, target in node.items if target is not None]
    return {name.id for target in targets for name in names_in(target)}


def _recorded(body: tree.Block) -> Iterator[tree.Node]:
    """The statements of a block that are in no `with` which may switch recording off."""
    for statement in body:
        yield statement
        if isinstance(statement, (tree.If, tree.For, tree.While)):
            yield from _recorded(statement.body)
            yield from _recorded(statement.orelse)


def _within(blocks: list[tree.With], modes: frozenset[str]) -> Iterator[tree.Node]:
    """The calls below those `with` that are of one of some grad modes."""
    for block in blocks:
        if any(tree.last_name(item) in modes for item, _ in block.items):
            for node in tree.walk_block(block.body):
                if isinstance(node, tree.Call):
                    yield node


def _writes(node: tree.Expression, name: str) -> bool:
    return (
        isinstance(node, tree.Call)
        and isinstance(node.func, tree.Attribute)
        and node.func.attr in _WRITING
        and tree.dotted(node.func.value) == name
    )


def _moves(node: tree.Node, name: str) -> bool:
    """Whether a statement gives a parameter another value."""
    if isinstance(node, tree.Augment):
        return tree.dotted(node.target) in (name, f"{name}.data")
    if isinstance(node, tree.Assign):
        return any(tree.dotted(target) in (name, f"{name}.data") for target in node.targets)
    return isinstance(node, tree.Evaluate) and (_writes(node.value, name) or _writes(node.value, f"{name}.data"))


def _is_grad(node: tree.Node, name: str, tainted: set[str]) -> bool:
    if isinstance(node, tree.Name):
        return node.id in tainted
    return isinstance(node, tree.Attribute) and node.attr == "grad" and tree.dotted(node.value) == name


def _reduces(node: tree.Node) -> bool:
    return isinstance(node, tree.Call) and tree.last_name(node.func) in _REDUCING


def _key(node: tree.Node) -> str:
    """`self.buffer`, `self.state["buffer"]`, `buffer`."""
    if isinstance(node, tree.Name):
        return node.id
    if isinstance(node, tree.Attribute):
        return tree.dotted(node) if tree.dotted(node).startswith("self.") else ""
    if isinstance(node, tree.Subscript) and isinstance(node.index, tree.Constant):
        base = tree.dotted(node.value)
        return f"{base}[{node.index.value!r}]" if base else ""
    return ""


def _speaks_of_grad(node: tree.Node) -> bool:
    return any(isinstance(inner, tree.Attribute) and inner.attr == "grad" for inner in node.walk())
