"""Averages of a network: which network they follow, and what is done to them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.facts.identity import contained
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Assign, Consume, LoadState, Step, TorchCall
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.layers import layer_of
from gradcheck_lint.source.natures import Module, Optimizer, Parameters, nature
from gradcheck_lint.source.timeline import Loop
from gradcheck_lint.source.values import ClassValue, Constant, FunctionValue, Thing, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class Followed(NamedTuple):
    """A copy of a network that an average follows in its stead, and the step by which the network itself moves."""

    copy: Thing
    network: Thing
    taken: Consume
    step: Step


class Averaged(NamedTuple):
    """`AveragedModel(network)`, and the name that it gets."""

    made: TorchCall
    network: Thing
    name: str


def followed(timeline: Timeline) -> Followed | None:
    """An average that takes its values from a copy which nobody trains, beside the training of the network."""
    zipped: dict[int, list[tuple[Consume, Thing]]] = {}
    for event in timeline.events(Consume):
        given = nature(event.subject, Parameters)
        of = only(given.of, Module) if given is not None and event.by == "zip" and not given.filtered else None
        if of is not None:
            zipped.setdefault(id(event.statement.node), []).append((event, of))
    pairs = [pair for pair in zipped.values() if len(pair) == 2 and _moves(pair[0][0].statement.node)]
    if not pairs:
        return None
    steps = list(timeline.events(Step))
    held = {m.core for s in steps for o in things(s.subject, Optimizer) for m in held_by(o).modules}
    if any(held_by(o).unknown for s in steps for o in things(s.subject, Optimizer)):
        return None
    loaded = {t.core for e in timeline.events(LoadState) for t in things(e.subject)}
    for pair in pairs:
        both = [module.core for _, module in pair]
        if any(module in held or module in loaded or module.parent is not None for module in both):
            continue
        for event, module in pair:
            network = module.core.copy_of
            step = next((s for s in steps if network is not None and _beside(timeline, s, event)), None)
            if network is not None and network.core in held and step is not None and not module.core.escaped:
                return Followed(module.core, network.core, event, step)
    return None


def _moves(loop: tree.Node) -> bool:
    """Whether a loop writes into the tensors that it goes over."""
    if not isinstance(loop, tree.For):
        return False
    for node in tree.walk_block(loop.body):
        if isinstance(node, tree.Call) and tree.last_name(node.func) in ("copy_", "lerp_", "mul_", "add_", "sub_"):
            return True
        if isinstance(node, tree.Assign) and any(tree.last_name(t) == "data" for t in node.targets):
            return True
    return False


def _beside(timeline: Timeline, step: Step, event: Consume) -> bool:
    """Whether both happen in the same loop."""
    around = {id(part) for part, _ in timeline.path(step) if isinstance(part, Loop)}
    return any(isinstance(part, Loop) and id(part) in around for part, _ in timeline.path(event))


def averaged(timeline: Timeline) -> list[Averaged]:
    """The averages that torch keeps, of networks that are trained in this entry point."""
    stepped = {m.core for s in timeline.events(Step) for o in things(s.subject, Optimizer) for m in held_by(o).modules}
    found = []
    for event in timeline.events(TorchCall):
        network = only(event.args.get(0, "model"), Module)
        if not event.name.endswith(".AveragedModel") or network is None or network.core not in stepped:
            continue
        node = event.place.node
        names = [tree.dotted(e.target) for e in timeline.events(Assign) if e.expression is node]
        if names and names[0]:
            found.append(Averaged(event, network, names[0]))
    return found


_MOVES = re.compile(r"\bupdate_parameters\b")
_RENEWS = re.compile(r"(?:update_bn|bn_update)\w*\(|reset_running_stats|running_mean(?:\.data)?(?:\.\w+_\(| *=[^=])")


def moved(timeline: Timeline) -> bool:
    """Whether some code of the project moves averages."""
    return _said(timeline, _MOVES)


def renewed(timeline: Timeline) -> bool:
    """Whether some code of the project computes the statistics of batch normalisation."""
    return _said(timeline, _RENEWS)


def _said(timeline: Timeline, words: re.Pattern[str]) -> bool:
    return any(words.search(m.text) for m in timeline.home.project.modules.values() if m is not None)


def run_later(timeline: Timeline, average: Averaged) -> bool:
    """Whether the file runs an average as a network."""
    name = re.escape(average.name)
    return re.search(rf"(?<![\w.]){name}\(", timeline.home.text) is not None


def takes_statistics(average: Averaged) -> bool:
    """Whether an average is told to take the buffers as well."""
    flag = average.made.args.get(4, "use_buffers")
    return flag is not None and not (isinstance(flag, Constant) and flag.value is False)


def normalises(network: Thing) -> bool:
    """Whether there is batch normalisation in a network, as far as the code shows."""
    return any(_normalises(part) for part in contained(network))


def _normalises(part: Thing) -> bool:
    if layer_of(part).startswith("BatchNorm"):
        return True
    init = part.core.cls.member("__init__") if isinstance(part.core.cls, ClassValue) else None
    if not isinstance(init, FunctionValue):
        return False
    calls = (node for node in tree.walk_block(init.function.body) if isinstance(node, tree.Call))
    return any(tree.last_name(call.func).startswith("BatchNorm") for call in calls)
