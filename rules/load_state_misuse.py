"""GL210: `load_state_dict` is used for its result, or is given a state that does not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.handed import refused
from gradcheck_lint.facts.identity import keeps_state
from gradcheck_lint.facts.order import before
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.building import RefusedLoad
from gradcheck_lint.runtime.sightings.holding import NothingLoaded, StateMisfit
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Assign, Build, LoadState, Step
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module, Opaque, Optimizer, Parameters, Scheduler, StateDict, Tensor, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, External, Items, Table, Thing, only, options

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


class LoadStateMisuse(Rule):
    code = "GL210"
    slug = "load-state-misuse"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (LoadState,)
    watches = (StateMisfit, NothingLoaded, RefusedLoad)
    yields_to = frozenset({("GL301", "optimizer")})
    triggers = r"load_state_dict"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(LoadState):
            if not isinstance(event.place.node, tree.Call) or not isinstance(event.place.node.func, tree.Attribute):
                continue
            self.result(timeline, event, event.place.node.func, report)
            self.argument(timeline, event, event.place.node, report)

    def result(self, timeline: Timeline, event: LoadState, func: tree.Attribute, report: Report) -> None:
        """The result is taken for the object itself."""
        statement, thing = event.statement.node, only(event.subject)
        if thing is None or getattr(statement, "value", None) is not event.place.node:
            return
        if not isinstance(statement, (tree.Assign, tree.Return)):
            return
        receiver = repair.text(Place(event.place.chunk, func.value))
        built = isinstance(thing.what, (Module, Optimizer, Scheduler))
        if isinstance(statement, tree.Assign) and len(statement.targets) == 1:
            name = repair.text(Place(event.place.chunk, statement.targets[0]))
            if isinstance(func.value, tree.Call) and built:
                first = f"{name} = {receiver}"
            elif name == receiver and (built or isinstance(thing.what, Opaque)):
                first = ""
            else:
                return
            last = ""
        elif isinstance(statement, tree.Return) and isinstance(func.value, tree.Name) and built:
            if not _local(timeline, event, thing, func.value.id):
                return
            name, first, last = receiver, "", f"return {receiver}"
        else:
            return
        report(
            event.statement,
            "the result of `load_state_dict` is taken for the object itself",
            label="is a report of missing keys for a model, and None for an optimizer",
            why=f"what `{name}` should be is lost, and the first use of the result fails",
            help=f"call `{name}.load_state_dict(...)` as a statement of its own",
            fix=_apart(event, name, first, last),
            confidence=Confidence.HIGH if thing.certain and built and not refused(event) else Confidence.MEDIUM,
        )

    def argument(self, timeline: Timeline, event: LoadState, call: tree.Call, report: Report) -> None:
        """The state is none, or does not fit."""
        thing, state, fix = only(event.subject), event.state, None
        if thing is None or not isinstance(thing.what, (Module, Optimizer)) or not call.args or not thing.certain:
            return
        chunk = event.place.chunk
        model, saved = only(state, Module), only(state, StateDict)
        if isinstance(state, Constant) and isinstance(state.value, str):
            told = (
                "is given a path",
                f"`{repair.text(Place(chunk, call.args[0].value))}` is a string",
                "it wants a dict, and raises a TypeError",
                "load the file",
            )
        elif model is not None and model.certain and isinstance(thing.what, Module):
            given = repair.text(Place(chunk, call.args[0].value))
            told = (
                "is given a model",
                f"`{given}` is a model",
                "it wants a dict, and raises a TypeError",
                f"pass its state: `{given}.state_dict()`",
            )
            edit = repair.append(Place(chunk, call.args[0].value), ".state_dict()")
            fix = Fix(f"pass `{given}.state_dict()`", Safety.SAFE, (edit,))
        elif saved is None or not isinstance(saved.what, StateDict):
            return
        else:
            found = _misfit(timeline, event, thing, saved.what.of)
            if found is None:
                return
            told = found
        what, label, why, mend = told
        tried = saved is None and refused(event)  # of a state that does not fit, an error tells no more than we do
        name = repair.text(Place(chunk, call.func.value)) if isinstance(call.func, tree.Attribute) else ""
        report(
            event.statement,
            f"`load_state_dict` {what}",
            label=label,
            why=why,
            help=f"{mend} before `{name}` takes it" if fix is None else mend,
            fix=fix,
            confidence=Confidence.MEDIUM if tried else Confidence.HIGH,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, StateMisfit):
            own, given = sighting.shapes
            report(
                "the optimizer is given a state of other sizes",
                label=f"the state of {told(sighting.names)} is of shape {given}, the parameter of shape {own}",
                why="loading compares only how many tensors there are, and the next step fails",
                help="load the state of a model of the same sizes, or drop what does not fit",
            )
        elif isinstance(sighting, NothingLoaded):
            report(
                "nothing is loaded, for none of the keys match",
                label=f"the model looks for `{sighting.wanted}`, and is given `{sighting.given}`",
                why="with `strict=False` that is no error, and all of the model stays as it was initialised",
                help="rename the keys, such as by removing the prefix of a wrapper, and load with `strict=True`",
            )
        elif isinstance(sighting, RefusedLoad):
            has, gets = sighting.groups
            groups = f"it has {has} parameter groups and is given {gets}; " if has != gets and gets else ""
            report(
                "a state cannot be loaded",
                label=f"is refused: {groups}{sighting.words.splitlines()[0]}",
                why="the program ends here",
                help="give it what `state_dict()` of the same kind of object returned",
            )


def _local(timeline: Timeline, event: LoadState, thing: Thing, name: str) -> bool:
    """Whether a thing was made in the function of the event and is known by this name only."""
    for made in before(timeline, event):
        if (
            isinstance(made, Assign)
            and made.concerns(thing)
            and not (isinstance(made.target, tree.Name) and made.target.id == name and made.function is event.function)
        ):
            return False
    return any(
        isinstance(e, Build) and e.concerns(thing) and e.function is event.function for e in before(timeline, event)
    )


def _apart(event: Event, name: str, first: str, last: str) -> Fix | None:
    """Make the call a statement of its own."""
    stand = repair.stand(event.statement)
    call = event.place.node
    if stand is None or not isinstance(call, tree.Call) or not isinstance(call.func, tree.Attribute):
        return None
    receiver = event.place.chunk.code(call.func.value)
    code = f"{name}{event.place.code.removeprefix(receiver)}"
    lines = [line for line in (first, code, last) if line]
    return Fix(
        "make the call a statement of its own",
        Safety.SAFE,
        (repair.replace(event.statement, f"\n{stand.indent}".join(lines)),),
    )


def _misfit(timeline: Timeline, event: LoadState, thing: Thing, saved: Thing) -> tuple[str, str, str, str] | None:
    """Why a state that was taken from another object cannot fit."""
    if isinstance(thing.what, Optimizer) and isinstance(saved.what, Optimizer) and saved.certain and saved is not thing:
        ours, theirs = _groups(thing), _groups(saved)
        if ours is not None and theirs is not None and ours != theirs:
            label = f"the state has {theirs} group{'s' * (theirs > 1)}, and the optimizer {ours}"
            return "is given the state of other groups", label, "torch refuses it", "give the optimizer the same groups"
        stepped = any(isinstance(e, Step) and e.concerns(saved) for e in before(timeline, event))
        if stepped and keeps_state(saved) and _other_sizes(thing, saved):
            label = "the state belongs to parameters of other sizes"
            return "is given the state of other sizes", label, "the next step fails", "train a model of the same sizes"
    if (
        isinstance(thing.what, Module)
        and isinstance(saved.what, Module)
        and _wrapped(saved) != _wrapped(thing)
        and _lenient(event)
    ):
        label = "not one key fits: those of a wrapped model begin with `module.`"
        return "loads nothing", label, "`strict=False` passes over all of it without a word", "unwrap the model"
    return None


def _lenient(event: LoadState) -> bool:
    args = event.args
    strict = args.get(1, "strict")
    return isinstance(strict, Constant) and strict.value is False


def _wrapped(module: Thing) -> bool:
    """Whether this is a wrapper that puts `module.` before each key."""
    call = module.place.node if module.place is not None and module.wraps is not None else None
    return isinstance(call, tree.Call) and tree.last_name(call.func) in (
        "DataParallel",
        "DistributedDataParallel",
        "DDP",
    )


def _groups(optimizer: Thing) -> int | None:
    """How many groups an optimizer has, if the code shows it."""
    what = nature(optimizer, Optimizer)
    value = what.params if what is not None else None
    if isinstance(value, Items):
        if not value.complete or not value.items:
            return None
        tables = [isinstance(item, Table) for item in value.items]
        count = len(tables) if all(tables) else None if any(tables) or not _tensors(value) else 1
    else:
        count = 1 if only(value, Parameters) is not None else None
    return None if count is None or what is None else count + len(what.added)


def _tensors(value: Items) -> bool:
    return all(isinstance(o, Thing) and isinstance(o.what, Tensor) for item in value.items for o in options(item))


def _other_sizes(one: Thing, other: Thing) -> bool:
    """Whether both hold one layer of torch, of the same class with other numbers."""
    first, second = held_by(one), held_by(other)
    if first.unknown or second.unknown or first.tensors or second.tensors:
        return False
    if len(first.modules) != 1 or len(second.modules) != 1:
        return False
    a, b = first.modules[0], second.modules[0]
    if not isinstance(a.cls, External) or not isinstance(b.cls, External) or a.cls.name != b.cls.name:
        return False
    if a.args is None or b.args is None:
        return False
    sizes = [[v.value for v in args.positional[:2] if isinstance(v, Constant)] for args in (a.args, b.args)]
    return len(sizes[0]) == len(sizes[1]) == 2 and sizes[0] != sizes[1] and ... not in sizes[0] + sizes[1]
