"""GL207: trainable parameters take part in the loss, and no optimizer holds them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_lint.facts import by_hand, handed, shares
from gradcheck_lint.facts.classes import reached
from gradcheck_lint.facts.freezing import left_frozen
from gradcheck_lint.facts.identity import contained, inside, only_parameters, stale, weighted
from gradcheck_lint.facts.order import after
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.layers import told
from gradcheck_lint.runtime.sightings.holding import Unheld
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import passes
from gradcheck_lint.source.events import (
    Augment,
    Backward,
    Build,
    BuildOptimizer,
    Consume,
    Freeze,
    GradWrite,
    LoadState,
    Rebind,
    Return,
    SetAttribute,
    SetData,
    SetMode,
    Step,
    Zero,
)
from gradcheck_lint.source.holding import held_by
from gradcheck_lint.source.natures import (
    Module,
    Opaque,
    Optimizer,
    Parameters,
    Pass,
    Tensor,
    chained,
    made_by,
    nature,
    ran,
    requires_grad,
    source_of,
)
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, Value, only, options, things

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


class ParametersMissingFromOptimizer(Rule):
    code = "GL207"
    slug = "parameters-missing-from-optimizer"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (Freeze, Backward, BuildOptimizer)
    watches = (Unheld,)
    yields_to = frozenset({("GL305", "line")})
    triggers = r"\.detach\(|no_grad|return nn\.[A-Z]|return torch\.nn\.[A-Z]"

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        self.unfrozen(timeline, report)
        self.fallen_through(timeline, report)
        if not timeline.has(Backward):
            return
        optimizers = [o for e in timeline.events(Build) for o in things(e.subject, Optimizer)]
        if not optimizers or timeline.cut or not all(_known(o) for o in optimizers):
            return
        facts = _Facts(timeline, optimizers)
        loaded = any(
            True for _ in timeline.events(LoadState)
        )  # what is left out may be trained already, as for a linear probe
        for backward in timeline.events(Backward):
            step = _next_step(timeline, backward)
            optimizer = only(step.subject, Optimizer) if step is not None else None
            if optimizer is None or optimizer not in facts.built or not held_by(optimizer).modules:
                continue
            build = facts.built[optimizer]
            for name, made in facts.missing(backward.subject):
                hand = by_hand.moved(timeline, name.rpartition(".")[2], attribute=facts.kept(name, made))
                if hand is YES:
                    continue
                near = made is None or made.function is build.function or facts.weighs(made, backward.subject)
                sure = not loaded and hand is NO and near
                report(
                    build.place,
                    "parameters that take part in the loss are held by no optimizer",
                    label=f"`{name}` is not among them",
                    why=f"`{name}` gets gradients in every backward, and stays as it was initialised",
                    help=f"hand over the parameters of `{name}` too, or freeze it by `requires_grad_(False)`",
                    related=[("its gradients are made here", backward.place)],
                    confidence=Confidence.HIGH if sure else Confidence.MEDIUM,
                )
                break

    def unfrozen(self, timeline: Timeline, report: Report) -> None:
        """What was frozen when an optimizer took all that was not, and is thawed while it steps."""
        for event in timeline.events(Freeze):
            if event.value is not True:
                continue
            for part in things(event.subject):
                found = stale(timeline, event, lambda held, t=part: inside(t, held))  # type: ignore[misc]
                if found is None or not _selected(found.optimizer):
                    continue
                if not left_frozen(timeline, found.build, part):
                    continue
                report(
                    found.build.place,
                    "parameters that take part in the loss are held by no optimizer",
                    label=f"`{part.label}` is frozen here, and so is left out",
                    why=f"`{part.label}` gets gradients once it is unfrozen, and stays as it is",
                    help="hand it over by `add_param_group` where it is unfrozen",
                    related=[("it is unfrozen here", event.place)],
                )

    def fallen_through(self, timeline: Timeline, report: Report) -> None:
        """The tests that sort the parameters of a model into groups leave some of them out."""
        builds = [e for e in timeline.events(BuildOptimizer) if things(e.subject, Optimizer)]
        if timeline.cut or not any(True for e in builds for _ in shares.picks(shares.shares(e.given))):
            return
        every = [shares.of_optimizer(e.subject) for e in builds]
        known = [share for found in every if found is not None for share in found]
        if None in every or any(e.value is not True for e in timeline.events(Freeze)):
            return
        for event, found in zip(builds, every, strict=True):
            split = next((p for p in shares.picks(found or [])), None)
            if split is None or handed.refused(event):
                continue
            if shares.may_be_trained_elsewhere(timeline, split.tree.model):
                continue
            lost = shares.left_out(known, split)
            sure = shares.sorts_all(found or [])
            if not lost or sure is NO or by_hand.moved(timeline, lost[0].name, attribute=True) is YES:
                continue
            several = len(lost) > 1
            report(
                event.place,
                "parameters that take part in the loss are held by no optimizer",
                label=f"{told([leaf.name for leaf in lost])} {'meet' if several else 'meets'} none of the tests",
                why=f"{'they get' if several else 'it gets'} gradients in every backward, and nobody uses them",
                help="let one of the groups take all that the others leave",
                related=[("the first of the groups is picked here", split_place)]
                if (split_place := shares.place_of(found or [])) is not None
                else [],
                confidence=Confidence.HIGH if sure is YES and timeline.has(Backward) else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, Unheld)
        if sighting.plain:
            return  # the optimizer moves an input of the network, which is meant to stay as it is
        what, several = told(sighting.names), len(sighting.names) > 1
        be, were = ("are", "were") if several else ("is", "was")
        thawed = sighting.thawed
        report(
            "parameters that take part in the loss are held by no optimizer",
            site=sighting.built,
            label=f"{what} {were} frozen then, {be} not any more, and {be} not among them"
            if thawed
            else f"{what} {be} not among them",
            why=f"{'they get' if several else 'it gets'} gradients in every backward, and nobody uses them",
            help=f"hand over {what} by `add_param_group` where {'they' if several else 'it'} {be} unfrozen"
            if thawed
            else f"hand over {what} too, or freeze {'them' if several else 'it'} by `requires_grad_(False)`",
            note="a network that is random on purpose may stay as it is; freeze it" if sighting.meant else "",
            related=[("its gradients are made here", sighting.backward), ("steps here", sighting.site)],
            confidence=Confidence.HIGH if thawed or (sighting.fresh and not sighting.meant) else Confidence.MEDIUM,
            subject=what,
        )


def _selected(optimizer: Thing) -> bool:
    """Whether an optimizer was given those parameters of a module that met a condition."""
    what = nature(optimizer, Optimizer)
    given = nature(only(what.params), Parameters) if what is not None else None
    return given is not None and given.filtered


def _known(optimizer: Thing) -> bool:
    """Whether all that the optimizer holds is known."""
    held = held_by(optimizer)
    several = any(t.root.summary or t.summary for t in held.modules)  # the turn of a loop, whichever it was
    return not held.unknown and not optimizer.summary and not several and bool(held.modules or held.tensors)


def _next_step(timeline: Timeline, backward: Event) -> Event | None:
    """The step that uses what a backward makes."""
    return next((e for e in after(timeline, backward) if isinstance(e, (Step, Backward)) and e is not backward), None)


class _Facts:
    """What the timeline says of the modules and tensors in it."""

    def __init__(self, timeline: Timeline, optimizers: list[Thing]) -> None:
        self.timeline = timeline
        self.built: dict[Thing, Event] = {}
        self.inside: dict[Thing, set[Thing]] = {}  # a module → the modules that it is an attribute of
        self.excused: set[Thing] = set()  # what is frozen, loaded, put into eval mode, or moved by hand
        for event in timeline.events():
            self.note(event)
        self.held: set[Thing] = set()
        self.derived: set[Thing] = set()  # what a tensor that is held may be: itself, or what it was computed from
        for optimizer in optimizers:
            held = held_by(optimizer)
            self.held.update(held.tensors)
            for tensor in held.tensors:
                self.derived.update(_behind(tensor))
            for module in held.modules:
                self.held |= contained(module)

    def note(self, event: Event) -> None:
        found = things(event.subject)
        if isinstance(event, Build):
            self.built.update(dict.fromkeys(found, event))
        elif isinstance(event, SetAttribute):
            held = things(event.value)
            for value in {
                *held,
                *(part for module in held if isinstance(module.what, Module) for part in reached(module)),
            }:
                self.inside.setdefault(value, set()).update(found)
            if event.attr == "grad":
                self.excused.update(found)
        elif isinstance(event, (Freeze, LoadState, Augment, SetData, GradWrite, Rebind)):
            self.excused.update(found)
            self.excused.update(t.root for t in found)
            if isinstance(event, Rebind) and things(event.subject, Module):
                self.excused.update(things(event.value, Module))  # GL202: it has taken the place of another one
            if isinstance(event, Freeze):  # of one of several parts, whichever it was
                self.excused.update(made_from for t in found if not t.certain for made_from in t.deps)
        elif isinstance(event, SetMode) and event.training is not True:
            self.excused.update(found)
        elif isinstance(event, Zero):
            self.excused.update(t for t in found if isinstance(t.what, Tensor))
        elif isinstance(event, Consume) and event.by in ("for", "zip", "chain", "enumerate", "comprehension"):
            self.excused.update(t for p in found for t in _sources(p))
        elif isinstance(event, Return) and event.function is self.timeline.entry:
            self.excused.update(things(event.value, Module))  # who calls this may train it

    def missing(self, loss: Value | None) -> Iterator[tuple[str, Event | None]]:
        """What the loss surely passes through and no optimizer holds: its name, and the event that builds it.

        The event is None for a part of a model whose other parts are held.
        """
        for module in sorted(_modules(loss), key=lambda t: t.serial):
            if self.excuses(module) or not module.certain or module.core not in self.built:
                continue
            if not self.holds(module):
                parts = [h for h in self.held if h.root is module.core or module.core in self.owners(h)]
                if parts:
                    name = _part(module.core, {self.name_in(h, module.core) for h in parts})
                    if name is not None:
                        yield f"{module.label}.{name}" if module.label else name, None
                elif weighted(module) and _trainable(module):
                    yield module.label, self.built[module.core]
        for tensor in _leaves(loss):
            known = tensor in self.held or tensor in self.excused or self.owners(tensor) or tensor in self.derived
            if not known and tensor in self.built:
                yield tensor.label, self.built[tensor]

    def weighs(self, made: Event, loss: Value | None) -> bool:
        """Whether what is missing has nothing but parameters, and is given what a model computes that is held."""
        module = only(made.subject, Module)
        if module is None or not only_parameters(module):
            return False
        runs = [ran.what for ran in passes(loss) if isinstance(ran.what, Pass) and ran.what.of.core is module.core]
        given = [[g.what.of for g in run.given if isinstance(g.what, Pass)] for run in runs]
        return bool(runs) and all(any(self.holds(of) for of in each) for each in given)

    def kept(self, name: str, made: Event | None) -> bool:
        """Whether what is missing is an attribute of some object, not only a name."""
        return "." in name or (made is not None and any(self.owners(t) for t in things(made.subject)))

    def owners(self, thing: Thing) -> set[Thing]:
        """The objects that a thing is an attribute of, at whatever depth."""
        found: set[Thing] = set()
        todo = [thing]
        while todo:
            for owner in self.inside.get(todo.pop(), ()):
                if owner not in found:
                    found.add(owner)
                    todo.append(owner)
        return found

    def excuses(self, module: Thing) -> bool:
        related = {module, module.core, module.root, *self.owners(module)}
        return bool(related & self.excused) or any(
            t.inside(module) or module in self.owners(t)
            for t in self.excused
            if isinstance(t.what, (Module, Opaque, Tensor))
        )

    def holds(self, module: Thing) -> bool:
        """Whether an optimizer holds the module whole, or something that it was made from."""
        return (
            any(module.inside(h) for h in self.held)
            or bool(self.owners(module) & self.held)
            or not self.held.isdisjoint(module.core.deps)
            or self.tied(module)
        )

    def tied(self, module: Thing) -> bool:
        """Whether a module was given parameters of one that an optimizer holds: `decoder.weight = embedding.weight`."""
        for event in self.timeline.events(SetAttribute):
            if any(owner.core is module.core or owner.inside(module) for owner in things(event.subject)):
                for given in things(event.value):
                    if any(given is h or given.inside(h) or h in given.deps for h in self.held):
                        return True
        return False

    def name_in(self, part: Thing, module: Thing) -> str:
        """By which attribute a module has a part."""
        for event in self.timeline.events(SetAttribute):
            if event.concerns(module) and part in things(event.value):
                return event.attr
        return part.parent[1] if part.parent is not None and part.parent[0] is module else ""


def _sources(parameters: Thing) -> Iterator[Thing]:
    what = nature(parameters, Parameters)
    yield from things(what.of if what is not None else None)
    for part in chained(parameters) or ():
        for thing in things(part, Parameters):
            yield from _sources(thing)


def _modules(loss: Value | None) -> set[Thing]:
    """The modules that every backward on the loss goes through."""
    found: set[Thing] = set()
    todo = list(passes(loss))
    while todo:
        run = todo.pop()
        if ran(run).of not in found:
            found.add(ran(run).of)
        todo += [t for t in ran(run).given if ran(t).of not in found]
    return found


def _leaves(loss: Value | None) -> Iterator[Thing]:
    """The parameters that stand for themselves in the loss."""
    for thing in options(loss):
        leaf = thing if isinstance(thing, Thing) else None
        for source in _behind(thing):
            leaf = source
        if leaf is not None and made_by(leaf) == "Parameter" and requires_grad(leaf) is True:
            yield leaf


def _behind(tensor: Value) -> Iterator[Thing]:
    """What a tensor was computed from: `.contiguous()` and `.type(...)` may give the tensor itself."""
    source, left = source_of(tensor), 50
    while source is not None and left:
        yield source
        source, left = source_of(source), left - 1


def _trainable(module: Thing) -> bool:
    """Whether the module shows no sign of being meant to stay as it is."""
    if (isinstance(module.what, Module) and module.what.pretrained) or module.copy_of is not None:
        return False
    forward = module.cls.member("forward") if isinstance(module.cls, ClassValue) else None
    return not isinstance(forward, FunctionValue) or not _stops(forward.function.body)


def _stops(body: tree.Block) -> bool:
    return any(tree.last_name(n) in ("no_grad", "detach", "inference_mode", "data") for n in tree.walk_block(body))


def _part(module: Thing, held: set[str]) -> str | None:
    """An attribute with weights that `forward` calls and that is not among the held ones, if all of those are known."""
    if not isinstance(module.cls, ClassValue) or not module.cls.closed or "" in held:
        return None
    init, forward = module.cls.member("__init__"), module.cls.member("forward")
    if not isinstance(init, FunctionValue) or not isinstance(forward, FunctionValue) or _stops(forward.function.body):
        return None
    made = {
        s.targets[0].attr: s.value
        for s in init.function.body
        if isinstance(s, tree.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], tree.Attribute)
    }
    used = {n.attr for n in tree.walk_block(forward.function.body) if isinstance(n, tree.Attribute)}
    if not held <= made.keys():
        return None
    for name, value in made.items():
        if name in used - held and isinstance(value, tree.Call) and tree.last_name(value.func) in _LAYERS:
            return name
    return None


_LAYERS = frozenset({"Linear", "Conv1d", "Conv2d", "Conv3d", "Embedding", "LSTM", "GRU", "ConvTranspose2d"})
