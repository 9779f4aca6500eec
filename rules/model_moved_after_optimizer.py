"""GL206: the model is moved or cast after the optimizer was built, and what the optimizer holds no longer fits it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.identity import Stale, keeps_state, stale
from gradcheck_lint.facts.order import before
from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import ParameterMoved, StateLeftBehind
from gradcheck_lint.source.events import (
    Build,
    LoadState,
    Move,
    SetAttribute,
    SetData,
    SetItem,
    Step,
    TorchCall,
    Unknown,
)
from gradcheck_lint.source.natures import Module
from gradcheck_lint.source.values import Constant, External, Thing, Value, options, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


class ModelMovedAfterOptimizer(Rule):
    code = "GL206"
    slug = "model-moved-after-optimizer"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Move,)
    watches = (ParameterMoved, StateLeftBehind)

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for event in timeline.events(Move):
            for module in things(event.subject, Module):
                found = stale(timeline, event, lambda held, m=module: any(t.inside(m) for t in held.modules))  # type: ignore[misc]
                if found is None:
                    continue
                earlier = before(timeline, event)
                if not _moves(event, module, earlier):
                    continue
                if _overwrites(event, earlier):
                    label = f"gives the model new parameters, which `{found.name}` does not hold"
                    why = f"`{found.name}.step()` goes on with parameters that belong to no model"
                elif (
                    _has_state(found.optimizer, earlier)
                    and _leaves(event, module, found.optimizer, earlier)
                    and not _mended(event, module, found)
                ):
                    label = f"leaves the state of `{found.name}` where and as it was"
                    why = "the next step meets two dtypes or devices that do not match"
                else:
                    continue
                report(
                    event.statement,
                    "the model is moved or cast after the optimizer was built",
                    label=label,
                    why=why,
                    help=f"move the model before `{found.name}` is built",
                    related=[("the optimizer takes the parameters here", found.build.place)],
                )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        what = told(sighting.names)
        assert isinstance(sighting, (ParameterMoved, StateLeftBehind))
        if isinstance(sighting, ParameterMoved):
            label = f"gave the model new tensors for {what}, which `{name}` does not hold"
            why = f"`{name}.step()` goes on with parameters that belong to no model"
        else:
            be = "are" if len(sighting.names) > 1 else "is"
            label = f"{sighting.at_step}: {what} {be} {sighting.now}, and the state is still {sighting.state}"
            why = "the step meets two dtypes or devices that do not match"
        report(
            "the model is moved or cast after the optimizer was built",
            site=sighting.made,
            label=label,
            why=why,
            help=f"move the model before `{name}` is built",
            related=[
                ("the optimizer took the parameters here", sighting.built),
                ("steps here", sighting.site),
            ],
        )


_DTYPES = {"float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16"}
_DTYPE_NAMES = frozenset({"float32", "float", "float64", "double", "float16", "half", "bfloat16"})


def _goal(event: Move) -> dict[str, str] | None:
    """The dtype and device that a move leads to, by the words "dtype" and "device"; None if not known."""
    how = event.how
    if how in _DTYPES:
        return {"dtype": _DTYPES[how]}
    if how in ("cuda", "cpu"):
        return {"device": how}
    goal: dict[str, str] = {}
    for value in event.args.all():
        for option in options(value):
            word = _word(option)
            if word is None or how != "to":
                return None
            goal["dtype" if word in _DTYPES.values() else "device"] = word
    return goal


def _word(value: Value) -> str | None:
    if isinstance(value, External) and value.name.startswith("torch."):
        last = value.name.rpartition(".")[2]
        return _DTYPES.get(last, last) if last in _DTYPE_NAMES else None
    if isinstance(value, Constant) and isinstance(value.value, str):
        return value.value.partition(":")[0]
    return None


def _moves(event: Move, module: Thing, earlier: list[Event]) -> bool:
    """Whether a model, built here of float32 on the CPU, really changes."""
    if event.how == "to_empty":
        return True
    then = _places(module, [*earlier, event])
    return len(then) > 1 and then[-1] != then[-2]


def _leaves(event: Move, module: Thing, optimizer: Thing, earlier: list[Event]) -> bool:
    """Whether the model goes where the state of the optimizer is not, and does not come back to it.

    The state is made where the parameters are at the first step, and goes to them where it is loaded.
    """
    made = [n for n, e in enumerate(earlier) if isinstance(e, (Build, Step, LoadState)) and e.concerns(optimizer)]
    first = next((n for n in made if isinstance(earlier[n], Step)), made[0])
    last = max((n for n in made if isinstance(earlier[n], LoadState)), default=first)
    then, state = _places(module, [*earlier, event]), _places(module, earlier[:last])
    return bool(then) and bool(state) and then[-1] != state[-1]


def _places(module: Thing, events: list[Event]) -> list[dict[str, str]]:
    """The dtypes and devices that a model comes to by its moves, if all of them are known."""
    built = any(isinstance(e, Build) and e.concerns(module.core) for e in events)
    if not built or (isinstance(module.what, Module) and module.what.pretrained) or module.copy_of is not None:
        return []
    found = [{"dtype": "float32", "device": "cpu"}]
    for e in events:
        if isinstance(e, TorchCall) and e.name.startswith("torch.set_default"):
            return []
        if isinstance(e, Move) and any(module.inside(t) or t.inside(module) for t in things(e.subject)):
            reached = _goal(e)
            if reached is None:
                return []
            found.append({**found[-1], **reached})
    return found


def _overwrites(event: Move, earlier: list[Event]) -> bool:
    """Whether the move makes new Parameter objects."""
    if event.how == "to_empty":
        return True
    flag: Value | None = None
    for e in earlier:
        if isinstance(e, TorchCall) and e.name.endswith(".set_overwrite_module_params_on_conversion"):
            flag = e.args.get(0, "value")
    return isinstance(flag, Constant) and flag.value is True


def _has_state(optimizer: Thing, earlier: list[Event]) -> bool:
    """Whether the optimizer has state for its parameters already: from a step, a checkpoint, or its constructor."""
    if not keeps_state(optimizer):
        return False
    return optimizer.class_name.endswith("Adagrad") or any(
        isinstance(e, (Step, LoadState)) and e.concerns(optimizer) for e in earlier
    )


def _mended(event: Move, module: Thing, found: Stale) -> bool:
    """Whether the model moves on, which is judged there, or the state goes along, before the next step."""
    optimizer = found.optimizer
    for later in found.between:
        if (
            isinstance(later, Move)
            and later is not event
            and any(module.inside(t) or t.inside(module) for t in things(later.subject))
        ):
            return True
        if isinstance(later, (LoadState, Unknown)) and later.concerns(optimizer):
            return True
        if isinstance(later, (SetItem, SetData, SetAttribute)) and any(
            optimizer in t.deps or t.inside(optimizer) for t in things(later.subject)
        ):
            return True
    return False
