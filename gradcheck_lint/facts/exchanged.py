"""What brings new parameters into a model after an optimizer took those that it had."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.identity import (
    Stale,
    assigns_its_own_way,
    fresh,
    frozen,
    inside,
    one_name,
    stale,
    untied,
    weighted,
)
from gradcheck_lint.facts.order import before
from gradcheck_lint.facts.rebinding import body_of
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import (
    Build,
    Event,
    Forward,
    Grow,
    LoadState,
    Rebind,
    Register,
    SetAttribute,
    SetItem,
    TorchCall,
    Unknown,
)
from gradcheck_lint.source.holding import Held, belongs
from gradcheck_lint.source.natures import Instance, Module, Opaque, Tensor, made_by
from gradcheck_lint.source.run.parts import walked_from
from gradcheck_lint.source.timeline import Branch
from gradcheck_lint.source.torch_api import NORMED
from gradcheck_lint.source.values import Constant, Thing, Value, only, options, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline

KINDS = (SetAttribute, SetItem, Register, Rebind, TorchCall)
"""The events that may do so."""


class Exchange(NamedTuple):
    """An optimizer that goes on with what a model no longer consists of, and what has become another one."""

    stale: Stale
    what: str  # "layer", "model", "parameter" or "adapter"


def exchanged(timeline: Timeline, event: Event) -> Exchange | None:
    """The optimizer that does not know of the parameters which an event brings into a model that it was given."""
    if isinstance(event, Rebind):
        return _as(_model(timeline, event, event.value, things(event.subject, Module), event.source), "model")
    if isinstance(event, TorchCall):
        return _called(timeline, event)
    if isinstance(event, SetAttribute):
        if assigns_its_own_way(event.subject):
            return None
        if event.old is not None and all(isinstance(t.what, Instance) for t in things(event.subject)):
            return _as(_model(timeline, event, event.value, things(event.old, Module), event.source), "model")
    if isinstance(event, Register) and event.how == "buffer":
        return None
    if isinstance(event, (SetAttribute, SetItem, Register)):
        return _put(timeline, event)
    return None


def _late(timeline: Timeline, event: SetAttribute) -> Stale | None:
    """The optimizer that was built before the first forward pass, in which a layer is made that is not there yet."""
    owner = only(event.subject, Module)
    found = _held(timeline, event, [owner]) if owner is not None else None
    if owner is None or found is None or not found.sure:
        return None
    seen = [e for e in before(timeline, found.build) if isinstance(e, (Build, Forward, Grow, LoadState, Unknown))]
    built = any(
        isinstance(e, Build) and any(owner.inside(t) or belongs(owner, t) for t in things(e.subject)) for e in seen
    )
    return found if built and all(isinstance(e, Build) for e in seen) else None


def taken_over(timeline: Timeline, event: LoadState) -> Stale | None:
    """`load_state_dict(..., assign=True)`: the tensors of the state become parameters in the place of the old ones."""
    flag = event.args.keywords.get("assign")
    if not isinstance(flag, Constant) or flag.value is not True:
        return None
    return _held(timeline, event, things(event.subject))


def _as(found: Stale | None, what: str) -> Exchange | None:
    return Exchange(found, what) if found is not None else None


def _put(timeline: Timeline, event: SetAttribute | SetItem | Register) -> Exchange | None:
    """A part of a model that the optimizer was given whole becomes another one, or one more comes into it."""
    owners = [walked_from(t) or t for t in things(event.subject) if isinstance(t.what, (Module, Opaque))]
    if not owners or event.value is None:
        return None
    if isinstance(event, Register) and things(event.value, Tensor):
        if not fresh(event.value) or any(made_by(t) != "Parameter" for t in things(event.value)):
            return None
        return _as(_held(timeline, event, owners), "parameter")
    new = _new_module(timeline, event, event.value)
    if new is None or not weighted(new) or frozen(timeline, new):
        return None
    if isinstance(event, SetAttribute) and _asked_for(timeline, event):
        return _as(_late(timeline, event), "layer")
    if isinstance(event, Register) and event.how in ("append", "insert", "extend"):
        if not _called_later(timeline, event, owners):
            return None
    return _as(_held(timeline, event, owners), "layer")


def _asked_for(timeline: Timeline, event: SetAttribute) -> bool:
    """Whether a part is made only where it is not there yet: it may have been made before the optimizer was built."""
    tests = [part.test for part, _ in timeline.path(event) if isinstance(part, Branch) and part.test is not None]
    return any(
        (isinstance(node, tree.Attribute) and node.attr == event.attr)
        or (isinstance(node, tree.Constant) and node.value == event.attr)
        for test in tests
        for node in test.walk()
    )


def _called_later(timeline: Timeline, event: Event, owners: list[Thing]) -> bool:
    """Whether the model of a list that grows is run after that: what is in a list alone computes nothing."""
    found = stale(timeline, event, lambda held: any(_in(t, held) for t in owners))
    return found is not None and any(isinstance(e, Forward) and not e.context & OFF for e in found.between)


def _held(timeline: Timeline, event: Event, owners: list[Thing]) -> Stale | None:
    """The optimizer that was given a model whole which is, or has, what a part is put into."""
    found = stale(timeline, event, lambda held: any(_in(t, held) for t in owners))
    if found is None or any(t.core.serial < found.optimizer.serial for t in owners):
        return found
    return stale(timeline, event, lambda held: any(inside(t, held) for t in owners))


def _in(part: Thing, held: Held) -> bool:
    """Whether something is, or was made, a part of what an optimizer was given whole."""
    return inside(part, held) or any(belongs(part, module) for module in held.modules)


def _model(
    timeline: Timeline, event: Event, value: Value, olds: list[Thing], source: tree.Expression | None
) -> Stale | None:
    """What holds a model that the optimizer was given gets another model, which is then trained."""
    if not olds or not isinstance(source, tree.Call) or not isinstance(event, (Rebind, SetAttribute)):
        return None
    opaque = only(value, Opaque)
    if opaque is not None and opaque.origin in _MAKES_ANOTHER:
        if opaque.origin == "torch.load" and not _run_by_name(timeline, event):
            return None
        return stale(timeline, event, lambda held: any(t.core is m.core for t in olds for m in held.modules))
    new = _new_module(timeline, event, value)
    if new is None or frozen(timeline, new):
        return None
    if any(new.core is t.core for t in olds) and not _flattens(new):
        return None
    if isinstance(event, Rebind) and not any(one_name(timeline, event, t) for t in olds):
        return None
    found = stale(timeline, event, lambda held: any(t.core is m.core for t in olds for m in held.modules))
    if found is None:
        return None
    runs = [e for e in found.between if isinstance(e, Forward) and not e.context & OFF]
    anew = {id(e.place.node) for e in runs if _made_there(e, new)}
    # the old one is run there too where it depends on the path which of them it is
    return found if anew and all(id(e.place.node) in anew or not _any(e, olds) for e in runs) else None


def _made_there(event: Forward, new: Thing) -> bool:
    """Whether what is run is a module, or one that the same call has made in an earlier round of a loop."""
    run, made = event.subject.place, new.place
    return event.concerns(new) or (run is not None and made is not None and run.node is made.node)


def _any(event: Event, found: list[Thing]) -> bool:
    return any(event.concerns(thing) for thing in found)


_MAKES_ANOTHER = frozenset({"torch.load", "peft.get_peft_model", "peft.PeftModel.from_pretrained"})
"""Functions outside the project that give a model with other parameters than the one whose name it gets."""


def _run_by_name(timeline: Timeline, event: Rebind | SetAttribute) -> bool:
    """Whether what an event gives a value to is called like a model, in the same function."""
    target = event.target if isinstance(event, Rebind) else event.place.node
    name = tree.dotted(target)
    calls = (n for n in tree.walk_block(body_of(timeline, event)) if isinstance(n, tree.Call))
    return bool(name) and any(tree.dotted(call.func) == name for call in calls)


def _called(timeline: Timeline, event: TorchCall) -> Exchange | None:
    """A function that gives a model, or a layer of it, other parameters.

    The embedding of a model of `transformers` stays the same Parameter when it is resized, whose data are exchanged;
    the head is a new layer, unless it is tied to the embedding. A class of the project that makes a new embedding is
    followed, and told by the assignment.
    """
    if event.name == "resize_token_embeddings" and untied(timeline):
        return _as(_held(timeline, event, things(event.receiver)), "layer")
    if event.name in NORMED and event.name.endswith("weight_norm"):
        return _as(_held(timeline, event, things(event.args.get(0, "module"))), "parameter")
    return None


def _new_module(timeline: Timeline, event: Event, value: Value) -> Thing | None:
    """The module that the value is, if it was built before the event for this purpose."""
    if len(options(value)) != 1:
        return None
    for thing in things(value, Module):
        if _flattens(thing):
            return thing
        made = [e for e in timeline.events(Build) if e.concerns(thing)]
        if made and any(e in made for e in before(timeline, event)):
            return thing
    return None


def _flattens(module: Thing) -> bool:
    """Whether this is a wrapper that puts its own parameters in the place of those that it is given."""
    if not module.wraps is not None or module.place is None:
        return False
    call = module.place.node
    if not isinstance(call, tree.Call) or any(a.keyword == "use_orig_params" or a.star for a in call.args):
        return False
    return tree.last_name(call.func) in ("FSDP", "FullyShardedDataParallel")
