"""Goes through a function that nobody has to follow, only to see how what it gives comes of what it is given.

Between a model and its loss lie forward passes and helpers that turn no cycle, and any of them may cut one off from the
other. Nothing that happens in there is told, and nothing is kept of it but the value that it gives, and what an object
of the project is seen to put into a sum or a list of its own, as a meter does.
"""

from __future__ import annotations

from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import Allowance, Stop, meter
from gradcheck_lint.source.natures import Instance, Module, Opaque
from gradcheck_lint.source.operations import How
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.spotted import Spotted
from gradcheck_lint.source.values import ClassValue, Constant, FunctionValue, Items, Thing, Value, only, options


def look(machine: Machine, target: FunctionValue, args: Arguments, node: tree.Node) -> Value | None:
    """What a call gives that is followed for nothing else; None if it does not lie between a model and its loss.

    What is too long is not looked at to its end: then nothing is known of what it gives.
    """
    if machine.looking or machine.trying or not machine.trains:
        return None
    if not _between(target, args) and (machine.looping or not _loads(machine, target)):
        return None
    if not any(frame.home.goes_backward for frame in machine.frames):
        return None  # nobody wants its graph
    _, spent = machine.looks.get(id(target.function), (0, 0))
    if machine.frame.context & OFF and spent > limits.LOOK_WORK // 2:
        return None  # it has no graph: a target, or an evaluation
    return _apart(machine, target, args, node)


def sample(machine: Machine, loader: Thing, node: tree.Node) -> Value | None:
    """What the `__getitem__` of a data set gives for one index, of which a loader makes batches."""
    data = data_set(loader)
    getter = data.cls.member("__getitem__") if data is not None and isinstance(data.cls, ClassValue) else None
    if data is None or not isinstance(getter, FunctionValue) or len(getter.function.parameters) != 2:
        return None
    if machine.looking or machine.trying or not machine.trains:
        return None
    return _apart(machine, getter.bind(data), Arguments([Constant(...)], {}), node)


def loader_of(thing: Thing) -> Thing | None:
    """The DataLoader that a thing is, or that a function gives which was looked at."""
    found = seen(thing)
    return found if found is not None and found.origin == "torch.utils.data.DataLoader" else None


def data_set(loader: Thing) -> Thing | None:
    """What a DataLoader takes its samples from, or a part of that."""
    args = loader.args
    for _ in range(4):
        if args is None or args.open or not args.all():
            return None
        thing = seen(only(args.get(0, "dataset")))
        base = only(thing.made.base) if thing is not None and thing.made is not None else None
        whole = base if base is not None and base.origin == "torch.utils.data.random_split" else thing
        if whole is None or whole.origin not in ("torch.utils.data.random_split", "torch.utils.data.Subset"):
            return thing
        args = whole.args
    return None


def seen(thing: Thing | None) -> Thing | None:
    """What a thing is that a function gave which was looked at, or an item of that; else the thing itself."""
    for _ in range(4):
        made = thing.made if thing is not None else None
        if made is None or made.how not in (How.CODE, How.ITEM):
            return thing
        if made.how is How.CODE:
            inner = made.inner
        else:
            of = only(made.base)
            given = of.made.inner if of is not None and of.made is not None and of.made.how is How.CODE else None
            known = isinstance(given, Items) and made.name.isdigit() and int(made.name) < len(given.items)
            inner = given.items[int(made.name)] if known and isinstance(given, Items) else None
        if inner is None:
            return thing
        thing = only(inner)
    return thing


def _loads(machine: Machine, target: FunctionValue) -> bool:
    """Whether a function makes what the training goes over."""
    known = machine.loading.get(id(target.function))
    if known is None:
        nodes = tree.walk_block(target.function.body)
        known = machine.loading[id(target.function)] = any(
            tree.last_name(node) in _LOADING for node in nodes if isinstance(node, (tree.Name, tree.Attribute))
        )
    return known


_LOADING = frozenset({"DataLoader", "TensorDataset", "random_split", "train_test_split", "from_numpy"})


def _apart(machine: Machine, target: FunctionValue, args: Arguments, node: tree.Node) -> Value | None:
    """What a function gives that is gone through by itself, with all undone that it does."""
    looks, spent = machine.looks.get(id(target.function), (0, 0))
    if (looks >= limits.LOOKS and spent > limits.LOOK_WORK) or machine.looked_at > limits.LOOKED_AT:
        return None
    kept = (machine.sequence, machine.followed, machine.reached, machine.spotted, machine.idle, machine.steps)
    around = (machine.depth, machine.looping, machine.unrolled, machine.unsettled, machine.making, machine.graded)
    within = (machine.sizes, machine.ending, machine.ended)
    timeline, level, frames = machine.timeline, len(machine.undo), len(machine.frames)
    marks = (timeline.cut, timeline.skipped) if timeline is not None else (False, False)
    machine.sequence, machine.spotted, machine.followed = tl.Sequence(), Spotted(), {}
    machine.reached, machine.idle = set(machine.reached), set(machine.idle)
    machine.sizes, machine.ending, machine.ended = {}, {}, {}
    machine.steps, machine.looking = max(0, machine.budget // 2 - limits.LOOK), True
    machine.undo.append({})
    result: Value | None = None
    put: tl.Sequence | None = None
    try:
        with Allowance(min(meter.left, limits.LOOK_WORK)) as allowance:
            result = machine.follow(target, args, node, forced=True)
        put = _put(machine.sequence, target) if machine.looping else None
    except Stop:
        result = None
    finally:
        machine.unwind(level)
        del machine.frames[frames:]
        for thing, ready in machine.unready.items():
            thing.ready = ready
        machine.unready = {}
        machine.looking = False
        machine.sequence, machine.followed, machine.reached, machine.spotted, machine.idle, machine.steps = kept
        (machine.depth, machine.looping, machine.unrolled, machine.unsettled, machine.making, machine.graded) = around
        machine.sizes, machine.ending, machine.ended = within
        if timeline is not None:
            timeline.cut, timeline.skipped = marks
    if put is not None:
        machine.sequence.steps.append(tl.Call(put, target.function, machine.place(node), clears=False))
    meter.left -= allowance.used
    machine.looked_at += allowance.used
    machine.looks[id(target.function)] = looks + 1, spent + allowance.used
    return result


def again(machine: Machine, method: FunctionValue, args: Arguments, node: tree.Node) -> Value | None:
    """What a forward pass gives that was followed on an object whose parts are not known, as nobody looked at
    `__init__`: here they are made for as long as it takes."""
    thing = method.receiver
    init = thing.cls.member("__init__") if isinstance(thing, Thing) and isinstance(thing.cls, ClassValue) else None
    if not isinstance(init, FunctionValue) or machine.relevant(init.function) or not machine.relevant(method.function):
        return None
    return look(machine, method, args, node)


def _put(sequence: tl.Sequence, target: FunctionValue) -> tl.Sequence | None:
    """What a method puts into sums and lists on every path, if its object is no module."""
    if not isinstance(target.receiver, Thing) or not isinstance(target.receiver.what, Instance):
        return None
    found = tl.Sequence()
    for event, around in tl.located(sequence):
        if isinstance(event, (ev.Keep, ev.Augment)) and not any(isinstance(part, tl.Branch) for part in around):
            found.steps.append(event)
    return found if found.steps else None


def _between(target: FunctionValue, args: Arguments) -> bool:
    """Whether a function is a forward pass or another method of a module, or is given what a module has made."""
    receiver = target.receiver
    if target.function.name != "__init__" and isinstance(receiver, Thing) and isinstance(receiver.what, Module):
        return True
    return any(_computed(value) for value in args.all())


def _computed(value: Value) -> bool:
    for option in options(value):
        if isinstance(option, Items):
            if any(isinstance(item, Thing) and _made(item) for item in option.items[:8]):
                return True
        elif isinstance(option, Thing) and _made(option):
            return True
    return False


def _made(thing: Thing) -> bool:
    return isinstance(thing.what, Opaque) and bool(thing.deps) and (thing.made is not None or thing.parent is not None)
