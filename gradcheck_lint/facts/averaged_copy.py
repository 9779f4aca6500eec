"""Averages that follow a copy of a network in the place of the network itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source import tree
from gradcheck_lint.source.events import Consume, LoadState, Step
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import Module, Optimizer, Parameters, nature
from gradcheck_lint.source.timeline import Loop
from gradcheck_lint.source.values import Thing, only, things

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


class Followed(NamedTuple):
    """A copy of a network that an average follows in its stead, and the step by which the network itself moves."""

    copy: Thing
    network: Thing
    taken: Consume
    step: Step


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
