"""What an optimizer class of the project keeps for each parameter in its `step`, and whether a parameter moves at all.

All of it is read from the text of the loop over the parameters of a group.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend

if TYPE_CHECKING:
    from gradcheck_lint.facts.own_optimizers import Element, StepFacts


class Flaw(Enum):
    """What is wrong in the loop."""

    LEFT = "left"  # a parameter without a gradient ends the loop
    COUNTED = "counted"  # the count of steps is raised for each parameter
    SHARED = "shared"  # the key of a state is the same for several parameters
    SELF = "self"  # what is kept is the parameter itself
    GRADIENT = "gradient"  # what is kept is the gradient itself
    FORGOTTEN = "forgotten"  # what is kept is made anew in each step
    LOCAL = "local"  # what is gathered is kept by no name that lasts
    UNSTORED = "unstored"  # what is gathered is looked up in the state, and never put there
    DROPPED = "dropped"  # what is computed from it is not kept
    STILL = "still"  # nothing moves the parameter


class Found(NamedTuple):
    """A flaw: where it is, what it is about, and whether it does harm whoever calls `step`."""

    flaw: Flaw
    node: tree.Node
    name: str
    certain: bool = True


def flaws(step: StepFacts) -> Iterator[Found]:
    """What is wrong in the loops over parameters of the `step` of an optimizer class."""
    for statement in step.function.body if step.elements else ():
        if isinstance(statement, tree.Assign) and _fresh(statement.value):
            if "self.state" in map(tree.dotted, statement.targets):
                yield Found(Flaw.FORGOTTEN, statement, "self.state")
    for element in step.elements:
        body = Body(element, step)
        for found in (
            body.left(), body.counted(), body.shared(), *body.kept(), body.forgotten(), *body.begun(), body.mistaken(),
            body.dropped() or body.unread() or body.stuck(), body.still(),
        ):  # fmt: skip
            if found is not None:
                yield found


class Body:
    """The body of a loop over the parameters of a group."""

    def __init__(self, element: Element, step: StepFacts) -> None:
        self.element, self.step = element, step
        self.name, self.nodes = element.name, element.inside
        self.top = list(element.loop.body)

    @cached_property
    def given(self) -> dict[str, list[tree.Expression]]:
        """What the names that the body binds are given."""
        found: dict[str, list[tree.Expression]] = {}
        for node in self.nodes:
            if isinstance(node, tree.Assign) and node.value is not None:
                for target, value in _pairs(node):
                    if isinstance(target, tree.Name):
                        found.setdefault(target.id, []).append(value)
        return found

    def parameter(self, node: tree.Node | None) -> bool:
        """Whether an expression is the parameter, or shares its memory: `p`, `p.data`, `p.detach()`."""
        return self._same(node, self.name, 0)

    def gradient(self, node: tree.Node | None) -> bool:
        """Whether an expression is the gradient of the parameter, or shares its memory."""
        return self._same(node, f"{self.name}.grad", 0)

    def _same(self, node: tree.Node | None, what: str, depth: int) -> bool:
        while True:
            if isinstance(node, tree.Attribute) and node.attr == "data":
                node = node.value
            elif isinstance(node, tree.Call) and tree.last_name(node.func) == "detach" and not node.args:
                node = node.func.value if isinstance(node.func, tree.Attribute) else None
            else:
                break
        if tree.dotted(node) == what:
            return True
        values = self.given.get(node.id, []) if isinstance(node, tree.Name) and depth < 3 else []
        return len(values) == 1 and self._same(values[0], what, depth + 1)

    def key(self, node: tree.Node | None) -> str:
        """Under what a place in the state of the parameter is kept: `buf` for `self.state[p]["buf"]`; "" for others."""
        if isinstance(node, tree.Call) and tree.last_name(node.func) == "setdefault" and len(node.args) == 2:
            index = node.args[0].value
            of = node.func.value if isinstance(node.func, tree.Attribute) else None
            return str(index.value) if isinstance(index, tree.Constant) and of is not None and self._state(of) else ""
        if not isinstance(node, tree.Subscript) or not isinstance(node.index, tree.Constant):
            return ""
        return str(node.index.value) if self._state(node.value) else ""

    def _state(self, node: tree.Expression) -> bool:
        """Whether an expression is the state of the parameter."""
        if isinstance(node, tree.Name):
            values = self.given.get(node.id, [])
            return len(values) == 1 and not isinstance(values[0], tree.Name) and self._state(values[0])
        return (
            isinstance(node, tree.Subscript)
            and tree.dotted(node.value) == "self.state"
            and tree.dotted(node.index) == self.name
        )

    # ------------------------------------------------------------ what is wrong

    def left(self) -> Found | None:
        """`if p.grad is None: return`."""
        for node in self.top:
            if not isinstance(node, tree.If) or not _asks_for_none(node.test, f"{self.name}.grad"):
                continue
            last = node.body[-1] if node.body else None
            ends = isinstance(last, tree.Return) or (isinstance(last, tree.Jump) and last.kind is tree.Exit.BREAK)
            if ends and last is not None:
                return Found(Flaw.LEFT, last, self.name)
        return None

    def counted(self) -> Found | None:
        """A count of all parameters is raised for each of them, and a power of it corrects the averages."""
        for node in self.top:
            target: tree.Expression | None = None
            if isinstance(node, tree.Augment) and node.op == "+" and _is(node.value, 1):
                target = node.target
            elif isinstance(node, tree.Assign) and len(node.targets) == 1 and _raises(node.value):
                target = node.targets[0]
            text = self._common(target)
            if text and any(
                isinstance(n, tree.Operation)
                and n.op == "**"
                and any(self._common(p) == text for p in n.operands[1].walk())
                for n in self.nodes
            ):
                return Found(Flaw.COUNTED, node, text)
        return None

    def _common(self, node: tree.Node | None) -> str:
        """What is the same for all parameters: `self.t`, `group["step"]`."""
        if isinstance(node, tree.Attribute) and tree.dotted(node.value) == "self":
            return tree.dotted(node)
        if isinstance(node, tree.Subscript) and isinstance(node.index, tree.Constant):
            if self.element.group and tree.dotted(node.value) == self.element.group:
                return f"{self.element.group}[{node.index.value!r}]"
        return ""

    def shared(self) -> Found | None:
        """A key of the state that is made of what several parameters have in common: their shape, their group."""
        for node in self.nodes:
            if not isinstance(node, tree.Subscript) or tree.dotted(node.value) != "self.state":
                continue
            index = node.index
            values = self.given.get(index.id, []) if isinstance(index, tree.Name) else [index]
            if len(values) == 1 and self._in_common(values[0]):
                return Found(Flaw.SHARED, node, self.name)
        return None

    def _in_common(self, node: tree.Expression) -> bool:
        leaves = [n for n in node.walk() if isinstance(n, (tree.Name, tree.Attribute))]
        mine = [n for n in leaves if isinstance(n, tree.Attribute) and tree.dotted(n.value) == self.name]
        if mine:
            plain = all(n.attr in ("shape", "size", "dtype", "device", "ndim", "dim", "numel") for n in mine)
            used = sum(isinstance(n, tree.Name) and n.id == self.name for n in leaves)
            return plain and used == len(mine) and not any(_computed_name(n, self.name) for n in leaves)
        return isinstance(node, tree.Subscript) and bool(self._common(node))

    def kept(self) -> Iterator[Found]:
        """A place in the state gets the parameter or its gradient, not a copy of it."""
        for node, block in self._assignments():
            keys = [self.key(target) for target in node.targets]
            key = next(filter(None, keys), "")
            if not key or not (self.parameter(node.value) or self.gradient(node.value)):
                continue
            spend(len(self.nodes))
            changed = [n for n in self.nodes if self._writes(n, key)]
            if self.gradient(node.value):
                inside = {id(n) for n in block.walk()} if block is not None else set()
                if changed:
                    yield Found(Flaw.GRADIENT, node, key, any(id(n) not in inside for n in changed))
            elif changed or any(self._computes(n, key) for n in self.nodes):
                yield Found(Flaw.SELF, node, key)

    def _assignments(self) -> Iterator[tuple[tree.Assign, tree.If | None]]:
        """The assignments of the body, each with the `if` at its top that it is in."""
        for outer in self.top:
            for node in outer.walk():
                if isinstance(node, tree.Assign):
                    yield node, outer if isinstance(outer, tree.If) else None

    def _names(self, key: str) -> set[str]:
        """What the body calls a place in the state."""
        if key not in self._called:
            self._called[key] = self._find_names(key)
        return self._called[key]

    @cached_property
    def _called(self) -> dict[str, set[str]]:
        return {}

    def _find_names(self, key: str) -> set[str]:
        found: set[str] = set()
        spend(len(self.nodes))
        for node in self.nodes:
            if not isinstance(node, tree.Assign) or node.value is None:
                continue
            found |= {t.id for t, v in _pairs(node) if isinstance(t, tree.Name) and self._reads(v, key)}
            if any(self.key(target) == key for target in node.targets):
                found |= {target.id for target in node.targets if isinstance(target, tree.Name)}
        return found

    def _reads(self, node: tree.Expression, key: str) -> bool:
        if isinstance(node, tree.Call) and tree.last_name(node.func) == "get" and isinstance(node.func, tree.Attribute):
            return bool(node.args) and _is(node.args[0].value, key) and self._state(node.func.value)
        return self.key(node) == key

    def _stands(self, node: tree.Node | None, key: str) -> bool:
        """Whether an expression is what is kept under a key."""
        return self.key(node) == key or (isinstance(node, tree.Name) and node.id in self._names(key))

    def _writes(self, node: tree.Node, key: str) -> bool:
        """Whether a node changes in place what is kept under a key."""
        return self._stands(written_into(node), key)

    def _computes(self, node: tree.Node, key: str) -> bool:
        """Whether a node computes with what is kept under a key."""
        if isinstance(node, tree.Operation) and node.op in ("+", "-", "*", "/"):
            return any(self._stands(part, key) for part in node.operands)
        if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and node.func.attr in _COMPUTING:
            return any(self._stands(argument.value, key) for argument in node.args)
        return False

    def forgotten(self) -> Found | None:
        """A place in the state gets zeros in each step, and gathers something afterwards."""
        for node in self.top:
            if not isinstance(node, tree.Assign) or not _zeros(node.value):
                continue
            key = next(filter(None, map(self.key, node.targets)), "")
            if not key:
                continue
            after = [n for n in self.nodes if self._writes(n, key)]
            got = any(isinstance(n, tree.Call) and tree.last_name(n.func) == "get" for n in self.nodes)
            if after and not got and not _overwrites(after[0]):  # that is a place to compute in
                read = any(self.key(part) == key for other in self.top[: self.top.index(node)] for part in other.walk())
                sure = not read and any(_scales(n) and self._writes(n, key) for n in self.top)
                return Found(Flaw.FORGOTTEN, node, key, sure)
        return None

    def begun(self) -> Iterator[Found]:
        """`buf = torch.zeros_like(p)`, or what the state does not have, is scaled as if it had gathered something."""
        for node in self.top:
            value = node.value if isinstance(node, tree.Assign) else None
            name = _named(node.targets[0]) if isinstance(node, tree.Assign) and len(node.targets) == 1 else ""
            if not name or len(self.given.get(name, ())) != 1:
                continue
            key = self._lacks(value)
            if not key and not _zeros(value):
                continue
            first = next((n for n in self.top if _named(written_into(n)) == name), None)
            if first is not None and _scales(first) and not any(self._passes(n, name) for n in self.nodes):
                yield Found(Flaw.LOCAL if not key else Flaw.UNSTORED, node, key or name)

    def _lacks(self, value: tree.Expression | None) -> str:
        """The key of `state.get(key, zeros)` that nothing of the class puts into the state."""
        if not isinstance(value, tree.Call) or tree.last_name(value.func) != "get" or len(value.args) != 2:
            return ""
        key, func = value.args[0].value, value.func
        if not isinstance(key, tree.Constant) or not isinstance(key.value, str) or not _zeros(value.args[1].value):
            return ""
        of = func.value if isinstance(func, tree.Attribute) else None
        return key.value if of is not None and self._state(of) and self._mentioned(key.value) == 1 else ""

    def _mentioned(self, key: str) -> int:
        """How often the class and what it derives from speak of a key of the state, outside of the constructor."""
        facts = self.step.facts
        text = facts.inherited.replace(facts.method_text("__init__") or "\0", "").replace(
            facts.method_text("step") or "\0", ""
        )
        quoted = rf"""["']{re.escape(key)}["']"""
        text = re.sub(rf"\w*group\w*\[{quoted}\]", "", text)
        here = self.step.bindings.nodes
        options = [
            n.index for n in here if isinstance(n, tree.Subscript) and tree.dotted(n.value) == self.element.group
        ]
        return sum(
            isinstance(n, tree.Constant) and n.value == key and not any(n is option for option in options) for n in here
        ) + len(re.findall(rf"{quoted}|\b{re.escape(key)}=", text))

    def _passes(self, node: tree.Node, name: str) -> bool:
        """Whether what a name stands for is put where it is kept, or handed to what may fill it."""
        parts: Iterable[tree.Expression] = ()
        if isinstance(node, tree.Assign):
            kept = any(not isinstance(target, (tree.Name, tree.Display)) for target in node.targets)
            parts = (node.value,) if kept and node.value is not None else ()
        elif isinstance(node, tree.Call):
            parts = () if _computes(node) else (argument.value for argument in node.args)
        return any(tree.dotted(inner) == name for part in parts for inner in part.walk())

    def dropped(self) -> Found | None:
        """`buf = state["buf"]; buf = 0.9 * buf + grad`, and the state keeps the old one."""
        for name, values in self.given.items():
            key = next((self.key(value) for value in values if self.key(value)), "")
            if not key or len(self._names(key)) != 1:
                continue
            anew = [
                v for v in values if isinstance(v, tree.Operation) and any(tree.dotted(n) == name for n in v.walk())
            ]
            if self._put_back(key, name):
                continue
            updated = any(isinstance(n, tree.Call) and tree.last_name(n.func) == "update" for n in self.nodes)
            if len(anew) != 1 or updated or any(self._writes(n, key) for n in self.nodes):
                continue
            statement = next((n for n in self.nodes if isinstance(n, tree.Assign) and n.value is anew[0]), None)
            if statement is not None:
                return Found(Flaw.DROPPED, statement, key, self._only_zeros(key) and self._plainly_read(key))
        return None

    def _only_zeros(self, key: str) -> bool:
        """Whether nothing but zeros can be kept under a key: all that the class says of it was seen here."""
        return self._made(key, _zeros) and self._all_seen(key)

    def _all_seen(self, key: str) -> bool:
        """Whether each time that the class speaks of a key is one that is read here."""
        return sum(self.key(n) == key or self._asks_for(n, key) for n in self.nodes) == self._mentioned(key)

    def _made(self, key: str, how: Callable[[tree.Expression | None], bool]) -> bool:
        """Whether a key is given something, and nothing else than that."""
        values = [
            value
            for node in self.nodes
            if isinstance(node, tree.Assign)
            for target, value in _pairs(node)
            if self.key(target) == key
        ]
        first = [n.args[1].value for n in self.nodes if isinstance(n, tree.Call) and self.key(n) == key]
        return bool(values or first) and all(map(how, [*values, *first]))

    def _keys(self) -> Iterator[str]:
        yield from dict.fromkeys(key for node in self.nodes if (key := self.key(node)))

    def unread(self) -> Found | None:
        """`buf = state["buf"].mul(0.9).add(grad)`: what is under the key is zero for ever, and computed with."""
        for key in self._keys():
            if not self._only_zeros(key) or not self._plainly_read(key) or self._spread():
                continue
            for node in self.nodes:
                value = node.value if isinstance(node, tree.Assign) else None
                inner = list(value.walk()) if isinstance(value, (tree.Call, tree.Operation)) else []
                if not self.key(value) and any(self._stands(part, key) for part in inner):
                    if any(self.gradient(part) for part in inner):
                        return Found(Flaw.DROPPED, node, key)
        return None

    def _plainly_read(self, key: str) -> bool:
        """Whether what is kept under a key is nowhere but computed with: not changed, viewed, handed on or put away."""
        spend(len(self.nodes))
        plain: set[int] = set()
        for node in self.nodes:
            if isinstance(node, tree.Operation):
                plain |= set(map(id, node.operands))
            elif isinstance(node, tree.Call):
                if isinstance(node.func, tree.Attribute) and node.func.attr in _PURE:
                    plain.add(id(node.func.value))
                if _computes(node):
                    plain |= {id(argument.value) for argument in node.args}
            elif isinstance(node, tree.Assign):
                plain |= {id(part) for pair in _pairs(node) for part in pair if isinstance(pair[0], tree.Name)}
                plain |= {id(target) for target, value in _pairs(node) if _zeros(value)}
        return all(id(node) in plain for node in self.nodes if self._stands(node, key))

    def _spread(self) -> bool:
        """Whether all that is in a state may be put there or changed at once."""
        verbs = {tree.last_name(node.func) for node in self.nodes if isinstance(node, tree.Call)}
        return bool(verbs & {"update", "values", "items"})

    def stuck(self) -> Found | None:
        """`step = state["step"]; step += 1`, of a number: the state keeps the old one."""
        for key in self._keys():
            if not self._made(key, _number) or not self._all_seen(key):
                continue
            names = self._names(key)
            changed = [n for n in self.nodes if isinstance(n, tree.Augment) and self.key(n.target) == key]
            raised = [n for n in self.nodes if isinstance(n, tree.Augment) and _named(n.target) in names]
            if len(names) == 1 and raised and not changed and not self._spread():
                return Found(Flaw.DROPPED, raised[0], key)
        return None

    def mistaken(self) -> Found | None:
        """`if "m" not in state: state["momentum"] = zeros`, where nothing ever puts "m" there."""
        for node in self.top:
            test = node.test if isinstance(node, tree.If) and not node.orelse else None
            if not isinstance(test, tree.Operation) or test.op != "not in" or not isinstance(node, tree.If):
                continue
            asked = test.operands[0].value if isinstance(test.operands[0], tree.Constant) else None
            if not isinstance(asked, str) or not self._state(test.operands[1]) or self._mentioned(asked) != 1:
                continue
            for made in node.body:
                key = self.key(made.targets[0]) if isinstance(made, tree.Assign) and _zeros(made.value) else ""
                if key and any(_scales(n) and self._writes(n, key) for n in self.top) and not self._spread():
                    return Found(Flaw.FORGOTTEN, made, key)
        return None

    def _asks_for(self, node: tree.Node, key: str) -> bool:
        """`key not in state`."""
        if not isinstance(node, tree.Operation) or node.op not in ("in", "not in"):
            return False
        return _is(node.operands[0], key) and self._state(node.operands[1])

    def _put_back(self, key: str, name: str) -> bool:
        """Whether a place in the state gets more than zeros, or what may be that: `state[key] = name.clone()`."""
        for node in self.nodes:
            for target, value in _pairs(node) if isinstance(node, tree.Assign) else ():
                if self._state(target) and not isinstance(target, tree.Name):
                    return True  # all of it is made anew
                if self.key(target) == key and not _zeros(value):
                    return True
                if isinstance(target, tree.Display) and any(self.key(item) == key for item in target.items):
                    return True
                if self.key(target) == key and any(tree.dotted(part) == name for part in value.walk()):
                    return True
        return False

    def still(self) -> Found | None:
        """Something is computed with the gradient, and nothing is written into the parameter or handed on."""
        last: tree.Node | None = None
        for node in self.nodes:
            written = written_into(node)
            if written is not None and self.parameter(written):
                return None
            if isinstance(node, tree.Assign) and any(self._puts(target) for target in node.targets):
                return None
            if isinstance(node, (tree.Call, tree.Return, tree.Yield)) and self._hands_on(node):
                return None
            if isinstance(node, (tree.Assign, tree.Augment, tree.Evaluate)) and self._moves_copy(node):
                last = node
        return Found(Flaw.STILL, last, self.name) if last is not None else None

    def _puts(self, target: tree.Expression) -> bool:
        """Whether an assignment reaches the parameter, or keeps something of it where it is not followed."""
        return tree.dotted(target) in (self.name, f"{self.name}.data") or (
            not isinstance(target, (tree.Name, tree.Display)) and not self.key(target)
        )

    def _hands_on(self, node: tree.Node) -> bool:
        """Whether something is given the parameter, or a copy of it, that may write into it."""
        if not isinstance(node, tree.Call):
            return True
        name = tree.dotted(node.func)
        if name.startswith(("torch.", "math.")) and not name.endswith("_") and "_foreach" not in name:
            return False
        if isinstance(node.func, tree.Attribute) and node.func.attr in (*_COMPUTING, "get", "size"):
            return False
        return any(self.parameter(part) or self._copied(part) for a in node.args for part in a.value.walk())

    def _copied(self, node: tree.Node) -> bool:
        """Whether a name is that of a copy of the parameter, or of what is computed with it."""
        return isinstance(node, tree.Name) and any(
            self.parameter(part) for value in self.given.get(node.id, []) for part in value.walk()
        )

    def _moves_copy(self, node: tree.Node) -> bool:
        """Whether a statement does to a copy of the parameter what should be done to itself."""
        value = node.value if isinstance(node, (tree.Assign, tree.Augment, tree.Evaluate)) else None
        if value is None or not any(self.gradient(part) for part in value.walk()):
            return False
        if isinstance(node, tree.Assign):
            return isinstance(value, tree.Operation) and any(
                isinstance(t, tree.Name) and any(tree.dotted(n) == t.id for n in value.walk()) and self._copied(t)
                for t in node.targets
            )
        written = written_into(node)
        return isinstance(written, tree.Name) and self._copied(written)


_PURE = frozenset(
    "add sub mul div addcdiv addcmul lerp maximum minimum dot sqrt rsqrt sign abs pow square clone norm neg exp".split()
)
"""Methods whose result is a new tensor, and which leave their receiver as it is."""

_COMPUTING = frozenset(
    "add sub mul div add_ sub_ mul_ div_ addcdiv_ addcmul_ copy_ lerp_ addcdiv addcmul lerp maximum minimum dot".split()
)


def written_into(node: tree.Node) -> tree.Expression | None:
    """What a statement or a call changes in place: `buf` of `buf += g`, of `buf.mul_(0.9).add_(g)`."""
    if isinstance(node, tree.Augment):
        return node.target
    call = node.value if isinstance(node, tree.Evaluate) else node
    found: tree.Expression | None = None
    while isinstance(call, tree.Call) and isinstance(call.func, tree.Attribute) and _in_place(call.func.attr):
        found = call = call.func.value
    return found


def _pairs(node: tree.Assign) -> Iterator[tuple[tree.Expression, tree.Expression]]:
    """What an assignment gives to what: `a, b = c, d` gives two things."""
    for target in node.targets:
        if isinstance(target, tree.Display) and isinstance(node.value, tree.Display):
            yield from zip(target.items, node.value.items, strict=False)
        elif node.value is not None:
            yield target, node.value


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.startswith("_") and name not in ("requires_grad_", "detach_")


def _zeros(value: tree.Expression | None) -> bool:
    return isinstance(value, tree.Call) and tree.last_name(value.func) in ("zeros_like", "zeros", "new_zeros")


def _computes(call: tree.Call) -> bool:
    """Whether a call only computes with what it is given, or writes into its receiver."""
    name = tree.dotted(call.func)
    if name.startswith("torch."):
        plain = not name.endswith("_") and "_foreach" not in name
        return plain and not any(a.keyword == "out" for a in call.args)
    return (isinstance(call.func, tree.Attribute) and call.func.attr in _COMPUTING) or name == "len"


def _fresh(value: tree.Expression | None) -> bool:
    """`{}`, `defaultdict(dict)`."""
    if isinstance(value, tree.Call):
        return tree.last_name(value.func) in ("defaultdict", "dict")
    return isinstance(value, tree.Dict) and not value.pairs


def _number(value: tree.Expression | None) -> bool:
    return isinstance(value, tree.Constant) and type(value.value) in (int, float)


def _named(node: tree.Node | None) -> str:
    return node.id if isinstance(node, tree.Name) else ""


def _scales(node: tree.Node) -> bool:
    """Whether the first thing that a statement does to what it writes into is to make it smaller: `buf.mul_(0.9)`."""
    first = _first(node)
    return first is not None and tree.last_name(first.func) in ("mul_", "lerp_") and not _overwrites(node)


def _overwrites(node: tree.Node) -> bool:
    """Whether that keeps nothing of it, as `mul_(0)` and `lerp_(grad, 1.0)`: so places are filled to be used again."""
    first = _first(node)
    if first is None or not first.args:
        return False
    verb, last = tree.last_name(first.func), first.args[-1].value
    return verb == "copy_" or (verb == "mul_" and _is(last, 0)) or (verb == "lerp_" and _is(last, 1))


def _first(node: tree.Node) -> tree.Call | None:
    """The first of the calls that a statement makes one after the other: `buf.mul_(0.9)` of `buf.mul_(0.9).add_(g)`."""
    call = node.value if isinstance(node, tree.Evaluate) else None
    first: tree.Call | None = None
    while isinstance(call, tree.Call) and isinstance(call.func, tree.Attribute):
        first, call = call, call.func.value
    return first


def _is(node: tree.Node | None, value: object) -> bool:
    return isinstance(node, tree.Constant) and node.value == value and not isinstance(node.value, bool)


def _raises(value: tree.Expression | None) -> bool:
    """`x + 1`, `group.get("step", 0) + 1`."""
    return (
        isinstance(value, tree.Operation) and value.op == "+" and len(value.operands) == 2 and _is(value.operands[1], 1)
    )


def _asks_for_none(test: tree.Expression, gradient: str) -> bool:
    """`p.grad is None`, `not p.requires_grad` is another question."""
    return (
        isinstance(test, tree.Operation)
        and test.op in ("is", "==")
        and tree.dotted(test.operands[0]) == gradient
        and isinstance(test.operands[1], tree.Constant)
        and test.operands[1].value is None
    )


def _computed_name(node: tree.Node, name: str) -> bool:
    """Whether it is something of the loop beside the parameter, such as its index or its own name."""
    return isinstance(node, tree.Name) and node.id not in (name, "str", "tuple", "repr", "hash", "list", "len")
