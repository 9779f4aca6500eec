"""What an autograd Function takes, keeps and gives back: `forward` and `backward` of one class, held side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.bindings import Bindings, nodes, returns
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.run.shape import method_kind
from gradcheck_lint.source.values import External, FunctionValue

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts

_BASES = frozenset(
    {"torch.autograd.Function", "torch.autograd.function.Function", "torch.autograd.function.InplaceFunction"}
)
_PLAIN = frozenset(
    {"staticmethod", "once_differentiable", "custom_fwd", "custom_bwd", "no_grad", "jit_ignore", "disable"}
)
"""Decorators that leave what a method takes and gives as it is."""
_ZEROS = frozenset({"zeros", "zeros_like", "new_zeros"})


class Given(NamedTuple):
    """What one `return` of backward gives: an expression for each input."""

    at: tree.Return
    gradients: Sequence[tree.Expression]


class FunctionFacts:
    """A class that derives from `torch.autograd.Function`; `of` gives None for one that is not, or is unusual."""

    def __init__(self, facts: ClassFacts, forward: FunctionValue, backward: FunctionValue, context: bool) -> None:
        self.facts, self.forward, self.backward = facts, forward, backward
        self._context = context  # `forward` has the context as its first parameter

    @staticmethod
    def of(facts: ClassFacts) -> FunctionFacts | None:
        if not is_function(facts) or facts.cls is None:
            return None
        forward, backward = facts.cls.member("forward"), facts.cls.member("backward")
        if facts.cls.member("apply") is not None or facts.cls.member("vjp") is not None:
            return None
        if not isinstance(forward, FunctionValue) or not isinstance(backward, FunctionValue):
            return None
        if any(tree.last_name(d) not in _PLAIN for f in (forward, backward) for d in f.function.decorators):
            return None
        return FunctionFacts(facts, forward, backward, facts.cls.member("setup_context") is None)

    @property
    def static(self) -> bool:
        return method_kind(self.forward.function) == "static" and method_kind(self.backward.function) == "static"

    @cached_property
    def inputs(self) -> list[tree.Parameter]:
        """The parameters of `forward` that are inputs."""
        parameters = self.forward.function.parameters
        return parameters[1:] if self._context else parameters

    @property
    def ctx(self) -> str:
        """What `forward` calls the context; "" if it has none."""
        parameters = self.forward.function.parameters
        return parameters[0].name if self._context and parameters and not parameters[0].star else ""

    @property
    def required(self) -> int:
        """How many inputs there are at least."""
        return sum(1 for p in self.inputs if not p.star and p.default is None)

    @property
    def most(self) -> int | None:
        """How many inputs there can be; None if there is no limit."""
        return None if any(p.star for p in self.inputs) else len(self.inputs)

    @cached_property
    def before(self) -> Bindings:
        return Bindings(self.forward.function)

    @cached_property
    def behind(self) -> Bindings:
        return Bindings(self.backward.function)

    @cached_property
    def incoming(self) -> list[str]:
        """What `backward` calls the gradients that it is given; nothing if it takes any number."""
        parameters = self.backward.function.parameters[1:]
        return [] if any(p.star for p in parameters) else [p.name for p in parameters]

    @cached_property
    def given(self) -> list[Given]:
        """What `backward` returns, where that can be counted."""
        found = []
        for statement in returns(self.backward.function):
            value = statement.value
            if isinstance(value, tree.Name) and value.id not in self.incoming:
                value = self.behind.once(value.id) if value.id not in self.behind.changed else value
                value = value if isinstance(value, tree.Display) or self._single(statement.value) else statement.value
            if isinstance(value, tree.Display) and value.kind is tree.Container.TUPLE:
                if not any(isinstance(item, tree.Starred) for item in value.items):
                    found.append(Given(statement, value.items))
            elif statement.value is not None and self._single(statement.value):
                found.append(Given(statement, [statement.value]))
        return found

    @property
    def counted(self) -> bool:
        """Whether all that `backward` can return was counted."""
        return len(self.given) == len(returns(self.backward.function)) > 0

    def _single(self, node: tree.Expression | None, depth: int = 0, saved: bool = True) -> bool:
        """Whether an expression is one tensor: a gradient that came in, or what was computed from one.

        So is a tensor that was `saved`, unless None was.
        """
        if node is None or depth > 6:
            return False
        if isinstance(node, tree.Name):
            given = self.behind.given.get(node.id, [])
            known = node.id in self.incoming or (saved and self._saved(node.id))
            return bool(given) and all(known if v is None else self._single(v, depth + 1, saved) for v in given)
        if isinstance(node, tree.Operation):
            return node.op in _ARITHMETIC and any(self._single(part, depth + 1, saved) for part in node.operands)
        if isinstance(node, tree.Subscript):
            return saved and isinstance(node.value, tree.Attribute) and node.value.attr == "saved_tensors"
        if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute):
            if tree.dotted(node.func.value) == "torch":
                return node.func.attr in _ONE or node.func.attr in torch_api.FACTORIES
            return node.func.attr in _ONE and self._single(node.func.value, depth + 1, saved)
        return False

    def is_tensor(self, node: tree.Expression) -> bool:
        """Whether an expression of `backward` is a tensor for certain, and not None."""
        return self._single(node, saved=False)

    # ------------------------------------------------------------ what is wrong

    def gradient_of(self, index: int) -> list[tree.Expression]:
        """What is returned for an input, on each path on which there are as many gradients as inputs."""
        return [one.gradients[index] for one in self.given if len(one.gradients) >= len(self.inputs) > index]

    def without_gradient(self) -> list[int]:
        """The inputs for which None is returned on every path."""
        if not self.counted or self.most is None:
            return []
        return [
            index
            for index in range(len(self.inputs))
            if len(found := self.gradient_of(index)) == len(self.given)
            and all(self.behind.always_none(node) for node in found)
        ]

    def differentiable(self) -> list[int]:
        """The inputs for which some path returns more than None, so that they are tensors."""
        return [
            index
            for index in range(len(self.inputs))
            if any(not self.behind.always_none(node) for node in self.gradient_of(index))
        ]

    def unread(self) -> Given | None:
        """A `return` of a gradient that nothing from above has gone into: no incoming gradient is ever read."""
        if not self.incoming or any(self.behind.reads.get(name) for name in self.incoming):
            return None
        if any(self.behind.given[name] != [None] for name in self.incoming):
            return None
        for one in self.given:
            if any(not self.behind.always_none(node) and not self._zero(node) for node in one.gradients):
                return one
        for statement in returns(self.backward.function):
            value = statement.value
            saved = _reads_saved(value, self.backward) or (isinstance(value, tree.Name) and self._saved(value.id))
            if value is not None and (saved or isinstance(value, tree.Operation)):
                return Given(statement, [value])
        return None

    def _zero(self, node: tree.Expression) -> bool:
        """Whether it may be a gradient of zeros, which needs nothing from above; a constant is an input's number."""
        if isinstance(node, tree.Name):
            given = self.behind.given.get(node.id, [])
            return any(value is None or self._zero(value) for value in given) and not self._saved(node.id)
        if isinstance(node, tree.Call):
            return tree.last_name(node.func) in _ZEROS
        return isinstance(node, tree.Constant)

    def _saved(self, name: str) -> bool:
        """Whether a name of `backward` is one of the saved tensors."""
        for node in nodes(self.backward.function):
            if isinstance(node, tree.Assign) and _reads_saved(node.value, self.backward):
                if any(name in [n.id for n in _names(target)] for target in node.targets):
                    return isinstance(node.value, tree.Attribute) and node.value.attr == "saved_tensors"
        return False

    def kept(self) -> Iterator[tuple[tree.Expression, bool]]:
        """Where `forward` keeps an input or the output as an attribute of the context, and whether it is the output."""
        if not self.ctx:
            return
        trained = {self.inputs[i].name for i in self.differentiable() if not self.inputs[i].star}
        given_back = [s.value for s in returns(self.forward.function)]
        freed = {
            target.attr
            for node in nodes(self.backward.function)
            if isinstance(node, (tree.Assign, tree.Delete))
            for target in (node.targets if isinstance(node, tree.Assign) else [node.target])
            if isinstance(target, tree.Attribute)
        }
        for node in nodes(self.forward.function):
            if not isinstance(node, tree.Assign) or node.value is None:
                continue
            for target in node.targets:
                if not isinstance(target, tree.Attribute) or tree.dotted(target.value) != self.ctx:
                    continue
                if target.attr in freed or target.attr in _CONTEXT:
                    continue
                value = node.value
                name = value.id if isinstance(value, tree.Name) else ""
                if name in trained and self.before.given[name] == [None]:
                    yield target, False
                elif any(self._is_output(v, target, name) for v in given_back):
                    yield target, True

    def _is_output(self, value: tree.Expression | None, target: tree.Attribute, name: str) -> bool:
        """Whether what is returned is what an attribute of the context was given."""
        if tree.dotted(value) == f"{self.ctx}.{target.attr}":
            return True
        if not isinstance(value, tree.Name) or value.id != name or name in self.before.parameters:
            return False
        return len(self.before.given.get(name, [])) == 1 and not self._unmarked(name)

    def _unmarked(self, name: str) -> bool:
        """Whether an output is said not to have a gradient."""
        return any(
            isinstance(node, tree.Call) and tree.last_name(node.func) == "mark_non_differentiable"
            for node in nodes(self.forward.function)
        )

    def mismatch(self) -> tuple[tree.Assign, int, int] | None:
        """Where `backward` unpacks another number of saved tensors than `forward` saves: how many, and of how many."""
        saving = self.facts.cls.member("setup_context") if self.facts.cls is not None else None
        saver = saving if isinstance(saving, FunctionValue) else self.forward
        saved: set[int] = set()
        for node in nodes(saver.function):
            if isinstance(node, tree.Call) and tree.last_name(node.func) == "save_for_backward":
                if any(argument.star for argument in node.args):
                    return None
                saved.add(len(node.args))
        context = saver.function.parameters[0].name if saver.function.parameters else ""
        if not saved or any(_hands_on(node, context) for node in nodes(saver.function)):
            return None
        for node in nodes(self.backward.function):
            if not isinstance(node, tree.Assign) or not isinstance(node.value, tree.Attribute):
                continue
            if node.value.attr != "saved_tensors" or len(node.targets) != 1:
                continue
            target = node.targets[0]
            if not isinstance(target, tree.Display) or any(isinstance(i, tree.Starred) for i in target.items):
                continue
            if len(target.items) not in saved:
                return node, len(target.items), max(saved)
        return None


_ARITHMETIC = frozenset({"*", "/", "-", "+", "@", "**", "%"})
_ONE = torch_api.SMOOTH - {"chunk", "split"} | torch_api.GIVES_ANOTHER | {"masked_fill_", "mul_", "clone"}
"""Methods of a tensor that give one tensor."""
_CONTEXT = frozenset({"needs_input_grad", "dirty_tensors", "materialize_grads", "set_materialize_grads"})


def is_function(facts: ClassFacts) -> bool:
    """Whether a class derives from torch's Function, as far as the code shows."""
    return any(isinstance(value, External) and value.name in _BASES for value in facts.lineage)


def _reads_saved(node: tree.Expression | None, backward: FunctionValue) -> bool:
    """Whether an expression is what the context has kept: `ctx.saved_tensors`, or an attribute of it."""
    parameters = backward.function.parameters
    while isinstance(node, (tree.Subscript, tree.Attribute)):
        if isinstance(node.value, tree.Name) and parameters and node.value.id == parameters[0].name:
            return True
        node = node.value
    return False


def _names(target: tree.Expression) -> list[tree.Name]:
    if isinstance(target, tree.Name):
        return [target]
    return [name for item in target.items for name in _names(item)] if isinstance(target, tree.Display) else []


def _hands_on(node: tree.Node, context: str) -> bool:
    """Whether the context is handed to other code, which may save more."""
    return isinstance(node, tree.Call) and any(tree.dotted(argument.value) == context for argument in node.args)
