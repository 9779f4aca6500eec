"""Whether what should be several networks, or several layers of one, is one and the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.laws.holding import REFERENCE
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Build, Forward, LoadState, Register
from gradcheck_lint.source.natures import Module, StateDict
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Loop
from gradcheck_lint.source.values import ClassValue, FunctionValue, Items, Table, Thing, Value, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


def given_twice(made: Thing) -> tuple[Thing, str, str] | None:
    """A network that an object of the project is made with, for two parameters of which one is for a reference."""
    init = made.cls.member("__init__") if isinstance(made.cls, ClassValue) else None
    if made.args is None or made.args.open or not isinstance(init, FunctionValue):
        return None
    names = [p.name for p in init.function.parameters[1:] if not p.star]
    given = {**dict(zip(names, made.args.positional, strict=False)), **made.args.keywords}
    for reference, value in given.items():
        network = only(value, Module) if REFERENCE.search(reference) else None
        for name, other in given.items():
            if network is not None and not REFERENCE.search(name) and only(other, Module) is network:
                return network, name, reference
    return None


def asked_there(event: LoadState) -> bool:
    """Whether `x.state_dict()` is called where it is loaded: one that was kept is an older state, or meant to be."""
    call = event.place.node
    state = call.args[0].value if isinstance(call, tree.Call) and call.args else None
    return isinstance(state, tree.Call) and isinstance(state.func, tree.Attribute) and state.func.attr == "state_dict"


def repeated(event: Build) -> tuple[Place, list[Thing]] | None:
    """The expression by which a container is given the same modules several times, and these."""
    call = event.place.node
    for argument in call.args if isinstance(call, tree.Call) else ():
        node = argument.value
        if isinstance(node, tree.Comprehension):
            one = _one_layer(node, event)
            if one is not None:
                return Place(event.place.chunk, node), [one]
        if isinstance(node, tree.Operation) and node.op == "*":
            given = [item for value in event.args.positional for item in _items(value)]
            layers = [t for value in given for t in things(value, Module)]
            twice = [t for t in dict.fromkeys(layers) if sum(t is other for other in layers) > 1]
            if twice:
                return Place(event.place.chunk, node), twice
    return None


def _items(value: Value) -> list[Value]:
    """What an argument is, or a list that it is, or one that is unpacked into it."""
    if isinstance(value, Thing) and value.values:
        return [item for held in value.values for item in _items(held)]
    return value.items if isinstance(value, Items) else [value]


def run_as(event: Forward, name: str) -> bool:
    """Whether a network is run by this name."""
    call = event.place.node
    return isinstance(call, tree.Call) and tree.dotted(call.func) == name


def shallow(module: Thing, source: tree.Expression) -> bool:
    """Whether this is `copy.copy(network)`, which has the parameters of the network."""
    called = isinstance(source, tree.Call) and tree.last_name(source.func) == "copy" and len(source.args) == 1
    return called and module.wraps is not None


def states_in(value: Value) -> list[Thing]:
    """The states in a dictionary that is kept, such as that of a checkpoint."""
    return [t for v in value.entries.values() for t in things(v, StateDict)] if isinstance(value, Table) else []


def _one_layer(node: tree.Comprehension, event: Build) -> Thing | None:
    """The layer that a comprehension gives in each round, as one that was made before: `[layer for _ in range(n)]`."""
    bound = {name.id for target, _, _ in node.clauses for name in target.walk() if isinstance(name, tree.Name)}
    if not isinstance(node.element, tree.Name) or node.element.id in bound:
        return None
    layers = [t for value in event.args.positional for item in _items(value) for t in things(item, Module)]
    return layers[0] if len(layers) == 1 and layers[0].certain and not layers[0].summary else None


def appended_again(timeline: Timeline) -> list[tuple[Register, Thing]]:
    """Where a loop puts a layer into a container that was made before the loop: the same one in each round."""
    found: list[tuple[Register, Thing]] = []
    for event in timeline.events(Register):
        layer = only(event.value, Module) if event.how == "append" else None
        made = next((e for e in timeline.events(Build) if layer is not None and e.subject is layer), None)
        if layer is None or made is None:
            continue
        around = {id(part) for part, _ in timeline.path(made)}
        loops = [p for p, _ in timeline.path(event) if isinstance(p, Loop) and not p.once and id(p) not in around]
        if not _by_a_name_from_outside(event, loops):
            continue
        containers = {id(p) for t in things(event.subject) for p in _loops_of(timeline, t)}
        if any(id(loop) not in containers for loop in loops):
            found.append((event, layer))
    return found


def _by_a_name_from_outside(event: Register, loops: list[Loop]) -> bool:
    """Whether what is put in is given by a name that none of some loops binds."""
    call = event.place.node
    given = call.args[0].value if isinstance(call, tree.Call) and call.args else None
    targets = [loop.node.target for loop in loops if isinstance(loop.node, tree.For)]
    bound = {name.id for target in targets for name in target.walk() if isinstance(name, tree.Name)}
    return isinstance(given, tree.Name) and given.id not in bound


def _loops_of(timeline: Timeline, container: Thing) -> list[Loop]:
    """The loops around where a container is made: a new one in each round is another container."""
    made = next((e for e in timeline.events(Build) if e.subject is container), None)
    return [p for p, _ in timeline.path(made) if isinstance(p, Loop)] if made is not None else []


def may_repeat(function: tree.Function) -> bool:
    """Whether a function writes down that a container gets one thing several times: asked before it is run."""
    for node in tree.walk_block(function.body):
        if isinstance(node, tree.Call) and tree.last_name(node.func) in ("ModuleList", "Sequential"):
            if any(_multiplies(argument.value) for argument in node.args):
                return True
        elif isinstance(node, tree.For) and _appends_from_outside(node):
            return True
    return False


def _multiplies(node: tree.Expression) -> bool:
    """`[layer] * n`, or `[layer for _ in range(n)]`."""
    if isinstance(node, tree.Operation):
        return node.op == "*"
    if not isinstance(node, tree.Comprehension) or not isinstance(node.element, tree.Name):
        return False
    bound = {name.id for target, _, _ in node.clauses for name in target.walk() if isinstance(name, tree.Name)}
    return node.element.id not in bound


def _appends_from_outside(loop: tree.For) -> bool:
    """Whether a loop appends what a name stands for that it does not bind."""
    bound: set[str] = set()
    appended: set[str] = set()
    for node in (*loop.target.walk(), *tree.walk_block(loop.body)):
        if isinstance(node, tree.Assign):
            bound |= {name.id for target in node.targets for name in target.walk() if isinstance(name, tree.Name)}
        elif isinstance(node, (tree.For, tree.Named, tree.With)):
            targets = [t for _, t in node.items if t is not None] if isinstance(node, tree.With) else [node.target]
            bound |= {name.id for target in targets for name in target.walk() if isinstance(name, tree.Name)}
        elif isinstance(node, tree.Call) and tree.last_name(node.func) == "append" and len(node.args) == 1:
            given = node.args[0].value
            appended |= {given.id} if isinstance(given, tree.Name) else set()
    bound |= {name.id for name in loop.target.walk() if isinstance(name, tree.Name)}
    return not appended <= bound
