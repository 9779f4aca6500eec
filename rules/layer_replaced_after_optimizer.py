"""GL202: a layer or a whole model is replaced after the optimizer took the old one's parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts.identity import (
    Stale,
    assigns_its_own_way,
    frozen,
    inside,
    one_name,
    stale,
    untied,
    weighted,
)
from gradcheck_lint.facts.order import before
from gradcheck_lint.finding import Severity
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import LayerReplaced, ModelReplaced, ParameterReplaced
from gradcheck_lint.source.events import Build, Forward, Rebind, SetAttribute, SetItem, TorchCall
from gradcheck_lint.source.natures import Module, Opaque
from gradcheck_lint.source.values import Thing, Value, options, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


class LayerReplacedAfterOptimizer(Rule):
    code = "GL202"
    slug = "layer-replaced-after-optimizer"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (SetAttribute, SetItem, Rebind, TorchCall)
    watches = (LayerReplaced, ModelReplaced, ParameterReplaced)
    triggers = r"\.(?<!\bself\.)\w+ *= *(\w+\.)*[A-Z]\w*\(|\] *= *(\w+\.)*[A-Z]\w*\(|resize_token_emb"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        if not timeline.optimizers():
            return
        for event in timeline.events(SetAttribute, SetItem, Rebind, TorchCall):
            if isinstance(event, Rebind):
                found = _model(timeline, event)
            elif isinstance(event, SetAttribute) and assigns_its_own_way(event.subject):
                continue
            elif isinstance(event, TorchCall):
                found = _resized(timeline, event)
            else:
                found = _layer(timeline, event)
            if found is None:
                continue
            kind = "model" if isinstance(event, Rebind) else "layer"
            report(
                event.statement,
                "new parameters come into the model after the optimizer took the old ones",
                label=f"`{found.name}` does not hold the parameters of the new {kind}",
                why=f"`{found.name}.step()` goes on with the old parameters, and the new ones stay as they are",
                help=f"build `{found.name}` after this line, or hand over the new parameters by `add_param_group`",
                related=[("the optimizer takes the parameters here", found.build.place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, (LayerReplaced, ModelReplaced, ParameterReplaced))
        if isinstance(sighting, ParameterReplaced) and not sighting.added:
            return  # GL201
        name = sighting.optimizer.label if sighting.optimizer else "optimizer"
        what, number = told(sighting.names), sighting.number
        if isinstance(sighting, ModelReplaced):
            label = f"{sighting.at_step}: none of its {sighting.held} tensors got a gradient, {what} did"
        else:
            be, it = ("were", "them") if len(sighting.names) > 1 else ("was", "it")
            verb = "came" if sighting.added else f"{be} replaced"
            label = f"{sighting.at_step}: {what} {verb} after `{name}` was built, which holds none of {it}"
        stay = "the new one stays as it is" if number == 1 else f"{number} new ones stay as they are"
        made = sighting.made
        here = made is not None and not isinstance(sighting, ModelReplaced)  # else it is some line within the new model
        where = "after this line" if here else "anew where the model is replaced"
        report(
            "new parameters come into the model after the optimizer took the old ones",
            site=made,
            label=label,
            why=f"`{name}.step()` goes on with the old parameters, and {stay}",
            help=f"build `{name}` {where}, or hand over the new parameters by `add_param_group`",
            related=[
                ("the optimizer took the parameters here", sighting.built),
                *([("steps here", sighting.site)] if made is not None else ()),
            ],
            subject=name,
        )


def _layer(timeline: Timeline, event: SetAttribute | SetItem) -> Stale | None:
    """A layer of a model that the optimizer was given whole becomes another one."""
    value = event.value
    owners = [t for t in things(event.subject) if isinstance(t.what, (Module, Opaque))]
    new = _new_module(timeline, event, value)
    if not owners or new is None or not weighted(new) or frozen(timeline, new):
        return None
    return stale(timeline, event, lambda held: any(inside(t, held) for t in owners))


def _model(timeline: Timeline, event: Rebind) -> Stale | None:
    """The name of a model that the optimizer was given stands for another model, which is then trained."""
    from gradcheck_lint.source import tree

    value, olds = event.value, things(event.subject, Module)
    new = _new_module(timeline, event, value)
    if new is None or not isinstance(event.source, tree.Call) or frozen(timeline, new):
        return None
    if any(new.core is t.core for t in olds) and not _flattens(new):
        return None
    if not any(one_name(timeline, event, t) for t in olds):
        return None
    found = stale(timeline, event, lambda held: any(t.core is m.core for t in olds for m in held.modules))
    if found is None:
        return None
    forwards = [e for e in found.between if isinstance(e, Forward) and not e.context & OFF]
    return found if any(e.concerns(new) for e in forwards) else None


def _resized(timeline: Timeline, event: TorchCall) -> Stale | None:
    """A model of `transformers` gets another size of vocabulary.

    Its embedding stays the same Parameter, whose data are exchanged; the head is a new layer, unless it is tied to the
    embedding. A class of the project that makes a new embedding is followed, and told by the assignment.
    """
    if event.name != "resize_token_embeddings" or not untied(timeline):
        return None
    models = things(event.receiver)
    return stale(timeline, event, lambda held: any(inside(t, held) for t in models))


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
    from gradcheck_lint.source import tree

    if not module.wraps is not None or module.place is None:
        return False
    call = module.place.node
    if not isinstance(call, tree.Call) or any(a.keyword == "use_orig_params" or a.star for a in call.args):
        return False
    return tree.last_name(call.func) in ("FSDP", "FullyShardedDataParallel")
