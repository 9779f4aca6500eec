"""Weight decay with the wrong sign, in the `step` of an optimizer class of the project: the weights grow by it.

The sign of a factor is read off its text: products, quotients and differences from 1 of options, which are not negative
as they are given, and of names for these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.own_states import Body
from gradcheck_lint.source import tree

if TYPE_CHECKING:
    from gradcheck_lint.facts.own_optimizers import Element, StepFacts

_OPTION = re.compile(r"(?i)^(lr|learning_rate|weight_decay|wd|decay|weight_decay_rate|decoupled_weight_decay)$")
_DECAY = re.compile(r"(?i)^(weight_decay\w*|wd|decoupled_weight_decay)$")
_DEPTH = 4


class Grown(NamedTuple):
    """A statement that adds to a parameter what decay should take from it, and what the code calls that share."""

    node: tree.Node
    name: str


def grown(step: StepFacts) -> Iterator[Grown]:
    """Where the decay of an optimizer class has the wrong sign for certain."""
    if _DECAY_TEXT.search(step.facts.text) is None:
        return
    for element in step.elements:
        yield from _Signs(step, element).grown()


_DECAY_TEXT = re.compile(r"(?i)weight_decay|\bwd\b")


class _Signs:
    """The signs of what the body of a loop over parameters computes with."""

    def __init__(self, step: StepFacts, element: Element) -> None:
        self.step, self.body = step, Body(element, step)

    def grown(self) -> Iterator[Grown]:
        for node in self.body.nodes:
            share = self._called(node) if isinstance(node, tree.Call) else self._assigned(node)
            name = self._decay(share) if share is not None else ""
            if name:
                yield Grown(node, name)

    def _called(self, node: tree.Call) -> tree.Expression | None:
        """The share that a method adds: `p.add_(p, alpha=lr * wd)`, `p.mul_(1 + lr * wd)`."""
        of, verb = (node.func.value, node.func.attr) if isinstance(node.func, tree.Attribute) else (node, "")
        if not self._lasts(node, of, verb):
            return None
        if verb in ("add", "add_"):
            return self._share(node, of)
        if verb in ("mul", "mul_") and len(node.args) == 1 and self.body.parameter(of):
            return self._beyond_one(node.args[0].value)
        return None

    def _lasts(self, call: tree.Call, of: tree.Expression, verb: str) -> bool:
        """Whether what a method computes is kept: in place, or as what the parameter is given; no bare `p.add(...)`."""
        if verb.endswith("_"):
            return True
        for node in self.body.nodes:
            if isinstance(node, tree.Assign) and node.value is call:
                return not self.body.parameter(of) or any(map(self.body.parameter, node.targets))
        return False

    def _turned(self, node: tree.Expression, depth: int = 0) -> bool:
        """Whether what is taken from a parameter may be turned round: it, or what it is made of, has a minus sign."""
        shares = {  # of the parameter, which decay takes from a gradient
            id(inner)
            for call in node.walk()
            if isinstance(call, tree.Call) and call.args and self.body.parameter(call.args[0].value)
            for argument in call.args
            if argument.keyword == "alpha"
            for inner in argument.value.walk()
        }
        for part in node.walk():
            if id(part) in shares:
                continue
            if isinstance(part, tree.Constant) and isinstance(part.value, (int, float)) and part.value < 0:
                return True
            if isinstance(part, tree.Operation) and part.op == "-":
                if len(part.operands) == 1 or not isinstance(part.operands[0], tree.Constant):
                    return True
            if isinstance(part, tree.Name):
                given = self.body.given.get(part.id, []) if depth < _DEPTH else []
                again = (v for v in given if not any(tree.dotted(inner) == part.id for inner in v.walk()))
                if depth >= _DEPTH or any(self._turned(value, depth + 1) for value in again):
                    return True
        return False

    def _assigned(self, node: tree.Node) -> tree.Expression | None:
        """The same by operators: `p.data += lr * wd * p.data`, `p.data *= 1 + lr * wd`, `p.data = p.data * (...)`."""
        if isinstance(node, tree.Augment) and self.body.parameter(node.target):
            if node.op == "*":
                return self._beyond_one(node.value)
            factor, whole = self._times_parameter(node.value)
            return factor if node.op == "+" and whole and factor is not None and self.sign(factor) == 1 else None
        if isinstance(node, tree.Assign) and node.value is not None and any(map(self.body.parameter, node.targets)):
            factor, _ = self._times_parameter(node.value)
            return self._beyond_one(factor) if factor is not None else None
        return None

    def _share(self, call: tree.Call, of: tree.Expression) -> tree.Expression | None:
        """What share of a parameter a call adds: to itself, so that it grows; or takes off a gradient that descends."""
        plain = [a.value for a in call.args if not a.keyword]
        factor = next((a.value for a in call.args if a.keyword == "alpha"), None)
        if factor is None and len(plain) == 2:
            factor, plain = plain[0], plain[1:]  # as `add` was called of old
        elif factor is None and len(plain) == 1:
            factor, plain = self._times_parameter(plain[0])
        if factor is None or len(plain) != 1 or not self.body.parameter(plain[0]):
            return None
        if self.body.parameter(of):
            return factor if self.sign(factor) == 1 else None
        return factor if self._gradient(of) and self.sign(factor) == -1 and self._descends() else None

    def _gradient(self, node: tree.Expression) -> bool:
        """Whether an expression is the gradient, or what began as that: `g = p.grad`, and then `g = g.add(...)`."""
        if not isinstance(node, tree.Name):
            return self.body.gradient(node)
        values = self.body.given.get(node.id, [])
        others = [v for v in values if not self.body.gradient(v)]
        again = all(any(tree.dotted(part) == node.id for part in value.walk()) for value in others)
        return len(others) < len(values) and again

    def _times_parameter(self, node: tree.Expression) -> tuple[tree.Expression | None, list[tree.Expression]]:
        """`lr * wd` of `lr * wd * p`, and the parameter that is taken out of it."""
        if isinstance(node, tree.Operation) and node.op == "*" and len(node.operands) == 2:
            for one, other in (node.operands, node.operands[::-1]):
                if self.body.parameter(other):
                    return one, [other]
        return None, []

    def _beyond_one(self, node: tree.Expression) -> tree.Expression | None:
        """`lr * wd` of `1 + lr * wd`."""
        if isinstance(node, tree.Operation) and node.op == "+" and len(node.operands) == 2:
            for one, other in (node.operands, node.operands[::-1]):
                if isinstance(one, tree.Constant) and one.value == 1 and self.sign(other) == 1:
                    return other
        return None

    def _descends(self) -> bool:
        """Whether all that is written into the parameter goes against the gradient, which nothing turns round."""
        found = False
        if re.search(r"maximi[sz]e|\.neg_?\(", self.step.facts.text):
            return False
        for node in self.body.nodes:
            call = node.value if isinstance(node, tree.Evaluate) else None
            if not isinstance(call, tree.Call) or not isinstance(call.func, tree.Attribute):
                continue
            if not self.body.parameter(call.func.value):
                continue
            factor = next((a.value for a in call.args if a.keyword in ("alpha", "value")), None)
            verb = call.func.attr
            down = verb == "sub_" and (factor is None or self.sign(factor) == 1)
            if any(self._turned(a.value) for a in call.args if a.value is not factor):
                return False
            if down or (verb in ("add_", "addcdiv_") and factor is not None and self.sign(factor) == -1):
                found = True
            elif verb.endswith("_"):
                return False
        return found

    def _decay(self, node: tree.Expression) -> str:
        """What decay is called in a factor; "" for one that it is no part of."""
        for part in node.walk():
            if _DECAY.match(_called(part)):
                return _called(part)
            value = self._given(part)
            if value is not None and (name := next((c for n in value.walk() if _DECAY.match(c := _called(n))), "")):
                return name
        return ""

    def _given(self, node: tree.Node) -> tree.Expression | None:
        """The one expression that a name stands for, which is no element of what a loop goes over."""
        return self.step.bindings.once(node.id) if isinstance(node, tree.Name) else None

    def sign(self, node: tree.Expression, depth: int = 0) -> int:
        """1 for what is above 0 where options are, -1 for what is below it, 0 for what may be either."""
        if depth > _DEPTH:
            return 0
        if isinstance(node, tree.Constant):
            if isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
                return (node.value > 0) - (node.value < 0)
            return 0
        if isinstance(node, tree.Operation):
            return self._computed(node, depth)
        value = self._given(node)
        if value is not None:
            return self.sign(value, depth + 1)
        unbound = not isinstance(node, tree.Name)
        return 1 if unbound and _OPTION.match(_called(node)) else 0

    def _computed(self, node: tree.Operation, depth: int) -> int:
        signs = [self.sign(operand, depth + 1) for operand in node.operands]
        if node.op == "-" and len(signs) == 1:
            return -signs[0]
        if node.op in ("*", "/"):
            found = 1
            for sign in signs:
                found *= sign
            return found
        return signs[0] if node.op == "+" and len(set(signs)) == 1 else 0


def _called(node: tree.Node) -> str:
    """`weight_decay` of `group["weight_decay"]`, of `self.weight_decay`."""
    if isinstance(node, tree.Subscript):
        return node.index.value if isinstance(node.index, tree.Constant) and isinstance(node.index.value, str) else ""
    return tree.last_name(node) if isinstance(node, (tree.Attribute, tree.Name)) else ""
