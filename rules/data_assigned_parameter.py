"""GL205: `.data` is given a Parameter, another tensor's memory, or a tensor of another shape or dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.identity import keeps_state, owner
from gradcheck_lint.facts.order import after, before
from gradcheck_lint.facts.rebinding import copy_instead
from gradcheck_lint.finding import Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import DataMisfit, MemoryShared
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Build, LoadState, Move, SetData, Step, TorchCall, Unknown
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Optimizer, Tensor, made_by
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Constant, External, Thing, only, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline

MEMORY = (
    "takes over memory that is not its own",
    "two tensors share one piece of memory: a step that moves the one moves the other",
)


class DataAssignedParameter(Rule):
    code = "GL205"
    slug = "data-assigned-parameter"
    severity = Severity.ERROR
    fix = Safety.UNSAFE
    witnesses = frozenset({"source", "run"})
    needs = (SetData,)
    watches = (MemoryShared, DataMisfit)
    triggers = r"\.data *= "

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(SetData):
            parameter, source = only(event.subject), event.source
            if parameter is None or source is None or not isinstance(event.place.node, tree.Attribute):
                continue
            module = owner(parameter)
            target = event.place.node.value
            found, copied = _wrong(timeline, event, parameter, module, source)
            if found is None:
                continue
            label, why = found
            name = repair.text(Place(event.place.chunk, target))
            report(
                event.statement,
                "`.data` is given what does not belong to the parameter alone"
                if copied
                else "`.data` changes its kind",
                label=f"`{name}` {label}",
                why=why,
                help=f"copy the values: `{name}.copy_(...)` under `torch.no_grad()`"
                if copied
                else "make the change before the optimizer is built",
                fix=copy_instead(timeline, event, target, source, Safety.UNSAFE) if copied else None,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        what = told(sighting.names)
        if isinstance(sighting, MemoryShared):
            report(
                "`.data` is given what does not belong to the parameter alone",
                label=f"{sighting.at_step}: {what} lies in the memory of {told(sighting.owners)}",
                why=MEMORY[1],
                help="copy the values: `parameter.copy_(...)` under `torch.no_grad()`",
                related=[("the optimizer was built here", sighting.built)],
            )
        elif isinstance(sighting, DataMisfit):
            report(
                "`.data` changes its kind",
                label=f"{sighting.at_step}: {what} is {sighting.now}, what `{name}` keeps of it is {sighting.state}",
                why="the step meets two shapes, dtypes or devices",
                help="make the change before the optimizer is built",
                related=[("the optimizer was built here", sighting.built)],
            )


_Told = tuple[str, str]


def _wrong(
    timeline: Timeline, event: SetData, parameter: Thing, module: Thing | None, source: tree.Expression
) -> tuple[_Told | None, bool]:
    """What is wrong with the assignment, if anything is, and whether copying the values would mend it."""
    if module is None:
        return None, False
    memory = _wrapped(event)
    if memory is not None and any(_wrapped(e) is memory and e is not event for e in timeline.events(SetData)):
        return MEMORY, True
    if _shares(timeline, event, module, source):
        return MEMORY, True
    if _doubles(timeline, event, source):
        told = "becomes double precision, which numpy arrays are", "the forward pass meets two dtypes that do not match"
        return told, True
    if _changes(timeline, event, parameter, module, source):
        told = "no longer fits the state of the optimizer", "the next step meets two shapes, dtypes or devices"
        return told, False
    return None, False


def _wrapped(event: SetData) -> Thing | None:
    """The tensor that a new Parameter is made of, whose memory the Parameter has."""
    made = only(event.value, Tensor)
    if made is None or made.args is None or made_by(made) != "Parameter":
        return None
    return only(made.args.get(0, "data"))


def _shares(timeline: Timeline, event: SetData, module: Thing, source: tree.Expression) -> bool:
    """Whether the memory is that of a parameter of another module, while an optimizer trains one of the two."""
    value = only(event.value)
    if not isinstance(source, (tree.Name, tree.Attribute)) or value is None:
        return False
    other = owner(value)
    if other is None or other.core is module.core or not (module.certain and other.certain):
        return False
    later = after(timeline, event)
    for e in later:
        if isinstance(e, SetData) and e is not event:
            return False  # lent, and given back
        if isinstance(e, Step):
            held = [h for o in things(e.subject, Optimizer) for h in held_by(o).modules]
            if any(h.inside(m) or m.inside(h) for h in held for m in (module, other)):
                return True
    return False


def _doubles(timeline: Timeline, event: SetData, source: tree.Expression) -> bool:
    """Whether this is `torch.from_numpy` of an array that numpy makes of doubles."""
    if not isinstance(source, tree.Call) or tree.last_name(source.func) != "from_numpy" or len(source.args) != 1:
        return False
    made = source.args[0].value
    if not isinstance(made, tree.Call) or tree.dotted(made.func).partition(".")[0] not in ("np", "numpy"):
        return False
    if tree.last_name(made.func) not in _OF_DOUBLES or any(a.keyword == "dtype" or a.star for a in made.args):
        return False
    return not any(isinstance(e, (Move, TorchCall)) and _unsettles(e) for e in before(timeline, event))


_OF_DOUBLES = frozenset({"ones", "zeros", "eye", "identity", "randn", "rand", "normal", "uniform", "linspace"})


def _unsettles(event: Move | TorchCall) -> bool:
    return isinstance(event, Move) or event.name.startswith("torch.set_default")


def _changes(timeline: Timeline, event: SetData, parameter: Thing, module: Thing, source: tree.Expression) -> bool:
    """Whether the parameter gets another shape, dtype or device while its optimizer has state for it."""
    if not _casts(source) and not _reshapes(event, parameter):
        return False
    earlier = before(timeline, event)
    if any(isinstance(e, (Move, SetData)) or (isinstance(e, TorchCall) and _unsettles(e)) for e in earlier):
        return False
    for e in after(timeline, event):
        if isinstance(e, (SetData, LoadState, Unknown)) and e is not event:
            return False
        if isinstance(e, Build) and things(e.subject, Optimizer):
            return False
        if isinstance(e, Step):
            for optimizer in things(e.subject, Optimizer):
                holds = any(h.inside(module) or module.inside(h) for h in held_by(optimizer).modules)
                stepped = any(isinstance(b, Step) and b.concerns(optimizer) for b in earlier)
                if holds and stepped and keeps_state(optimizer):
                    return True
    return False


def _casts(source: tree.Expression) -> bool:
    """`p.data.double()`, `.half()`, `.bfloat16()`, `.cuda()`."""
    return (
        isinstance(source, tree.Call)
        and isinstance(source.func, tree.Attribute)
        and source.func.attr in ("double", "half", "bfloat16", "cuda")
        and tree.last_name(source.func.value) == "data"
    )


def _reshapes(event: SetData, parameter: Thing) -> bool:
    """Whether the weight of a linear layer gets a tensor whose numbers are others."""
    value = only(event.value, Tensor)
    layer = parameter.parent[0] if parameter.parent is not None and parameter.parent[1] == "weight" else None
    if value is None or layer is None or not isinstance(layer.cls, External) or layer.cls.name != "torch.nn.Linear":
        return False
    sizes, shape = (
        [v.value for v in args.positional if isinstance(v, Constant)] if args is not None else []
        for args in (layer.args, value.args)
    )
    return len(sizes) == len(shape) == 2 and ... not in sizes + shape and shape != sizes[::-1]
