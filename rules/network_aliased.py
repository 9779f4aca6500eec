"""GL211: what should be a copy of a network or of its best state is the network itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.facts.aliases import (
    appended_again,
    asked_there,
    given_twice,
    may_repeat,
    repeated,
    run_as,
    shallow,
    states_in,
)
from gradcheck_lint.facts.identity import name_of, steps_on, weighted
from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.rebinding import used_later
from gradcheck_lint.facts.unread import read_by_name
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.laws.holding import REFERENCE, SHARED
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.holding import LayerRepeated, OwnReference, OwnStateLoaded
from gradcheck_lint.runtime.sightings.numbers import BuffersStill
from gradcheck_lint.source.events import Assign, Build, Consume, Forward, LoadState, SetAttribute, TorchCall
from gradcheck_lint.source.layers import layer_of
from gradcheck_lint.source.natures import Instance, Module, Parameters, StateDict, nature, stored
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Branch
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Thing, only, things

if TYPE_CHECKING:
    from collections.abc import Callable

    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline


_AGAIN = (
    r"\]\s*\*\s*\w+\s*[,)]|\[\w+ for \w+ in range\("
    r"|for \w+ in range\([^\n]*\n\s*self\.\w+\.append\(\w+\)"
)
"""Text that may put one layer into a container several times."""


class NetworkAliased(Rule):
    code = "GL211"
    slug = "network-aliased"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    needs = (Assign, LoadState, TorchCall)
    watches = (OwnStateLoaded, BuffersStill, LayerRepeated, OwnReference)
    triggers = _AGAIN

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        from gradcheck_lint.source import tree

        for built in timeline.events(Build):
            if timeline.entry is None and built.function is None:
                self.one_layer(built, timeline.home.text, weighted, report)
        aliased: set[Thing] = set()  # what is told of by its name
        for event in timeline.events(Assign):
            for thing in things(event.value, (Instance, Module)):
                self.own_reference(timeline, event, thing, report)
            source, value = event.expression, event.value
            module, state = only(value, Module), only(value, StateDict)
            name = tree.last_name(event.target)
            if module is not None and isinstance(source, (tree.Name, tree.Attribute)):
                if _synchronised(timeline, event, module, name):
                    aliased.add(module.core)
                    self.tell_network(timeline, event, source, module, report)
                elif _BEST.search(name):
                    self.best_network(timeline, event, source, module, report)
                elif REFERENCE.search(name) and not REFERENCE.search(tree.last_name(source)):
                    self.lagging_network(timeline, event, source, module, report)
            elif module is not None and source is not None and shallow(module, source) and _BEST.search(name):
                self.best_network(timeline, event, source, module, report)
            elif source is not None and not isinstance(source, (tree.Name, tree.Attribute)):
                for kept in (state, *states_in(value)):
                    if kept is not None and kept.copy_of is None:
                        self.best_state(timeline, event, source, kept, report)
        for copying in timeline.events(TorchCall, LoadState):
            self.from_itself(copying, aliased, report)

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.classes import has_weights

        members = facts.cls.members.values() if facts.is_module and facts.cls is not None else ()
        if any(isinstance(m, FunctionValue) and may_repeat(m.function) for m in members):
            for built in facts.made.events(Build):
                self.one_layer(built, facts.text, lambda layer: has_weights(facts.machine, layer), report)
            for put, layer in appended_again(facts.made) if not SHARED.search(facts.text) else ():
                if has_weights(facts.machine, layer):
                    self.tell_shared(put.place, None, report)

    def one_layer(self, event: Build, text: str, learns: Callable[[Thing], bool], report: Report) -> None:
        """`nn.ModuleList([layer] * n)`: one layer under several names."""
        if layer_of(event.subject) not in ("ModuleList", "Sequential") or SHARED.search(text):
            return
        found = repeated(event)
        if found is None:
            return
        place, layers = found
        layer = next((t for t in layers if learns(t)), None)
        if layer is None:
            return
        inside = layer.place is not None and any(layer.place.node is node for node in place.node.walk())
        self.tell_shared(place, layer if inside else None, report)

    def tell_shared(self, place: Place, layer: Thing | None, report: Report) -> None:
        """`layer` is the one that is shared, if it is made there."""
        report(
            place,
            "a container holds one layer several times",
            label="repeats the layer, not the call that makes it",
            why="all of its places share the same weights, and what one of them learns changes the others",
            help=f"make one for each place: `[{repair.text(layer.place)} for _ in range(...)]`"
            if layer is not None and layer.place is not None
            else "make one for each place, in a comprehension",
            note="where the weights are meant to be shared, call the layer several times in `forward`",
            confidence=Confidence.HIGH if layer is not None else Confidence.MEDIUM,
        )

    def from_itself(self, event: TorchCall | LoadState, aliased: set[Thing], report: Report) -> None:
        """A tensor of a network is copied onto itself, or a network is given the state that it has."""
        if isinstance(event, TorchCall):
            if event.name not in ("copy_", "lerp_"):
                return
            to, source = stored(event.receiver), stored(event.args.get(0, "src"))
            if to is None or source is None or to.of.core is not source.of.core or to.name is not source.name:
                return
            network = to.of
        else:
            kept, loaded = nature(only(event.state), StateDict), only(event.subject, Module)
            if kept is None or loaded is None or kept.of.core is not loaded.core or not asked_there(event):
                return
            network = loaded
        if network.core in aliased:
            return
        name = f"`{network.label}`" if network.label else "the network"
        report(
            event.place,
            "a network is copied from itself",
            label=f"both sides are tensors of {name}",
            why=f"the copying changes nothing, and {name} stays behind the network that it should follow",
            help="take the tensors of the other network",
        )

    def own_reference(self, timeline: Timeline, event: Assign, made: Thing, report: Report) -> None:
        """What is made with a network and a reference for it gets the same network for both."""
        given = given_twice(made)
        if given is None:
            return
        network, name, reference = given
        found = steps_on(timeline, event, network)
        if found is None or _SWITCHED.search(timeline.home.text):
            return
        kept = {e.attr for e in timeline.events(SetAttribute) if e.concerns(made) and only(e.value) is network}
        if len(kept) < 2:
            return  # it makes a copy of one of them
        runs = [e for e in after(timeline, event) if isinstance(e, Forward) and e.concerns(network)]
        report(
            event.statement,
            "a network is its own reference",
            label=f"`{reference}` and `{name}` are one network",
            why=f"`{name_of(found[0])}.step()` moves both, so that they never differ",
            help=f"hand over a copy for `{reference}`: `copy.deepcopy(...)`",
            related=[("steps here", found[0].place)],
            confidence=Confidence.HIGH if any(e.context & OFF for e in runs) else Confidence.MEDIUM,
        )

    def tell_network(
        self, timeline: Timeline, event: Assign, value: tree.Expression, module: Thing, report: Report
    ) -> None:
        source, target = _texts(event, value)
        report(
            event.statement,
            "a copy that is synchronised with a network is the network itself",
            label=f"`{target}` is a second name for `{source}`",
            why=f"every step on `{source}` moves `{target}` as well, and the copying copies nothing",
            help=f"make a copy: `copy.deepcopy({source})`",
            fix=_fix(timeline, event, value, module),
        )

    def best_network(
        self, timeline: Timeline, event: Assign, value: tree.Expression, module: Thing, report: Report
    ) -> None:
        from gradcheck_lint.source import tree

        found = steps_on(timeline, event, module)
        target = event.target
        if found is None or (isinstance(target, tree.Name) and not used_later(timeline, event, target.id)):
            return
        source, name = _texts(event, value)
        report(
            event.statement,
            "the best network is kept by name, and trains on",
            label=f"`{name}` is a second name for `{source}`",
            why=f"`{name_of(found[0])}.step()` goes on to change it, so the best network is always the last one",
            help=f"make a copy: `copy.deepcopy({source})`",
            fix=_fix(timeline, event, value, module),
        )

    def lagging_network(
        self, timeline: Timeline, event: Assign, value: tree.Expression, module: Thing, report: Report
    ) -> None:
        """A teacher, by its name and by being run without gradients, that is the network which is trained."""
        found = steps_on(timeline, event, module)
        source, target = _texts(event, value)
        runs = [e for e in after(timeline, event) if isinstance(e, Forward) and e.concerns(module)]
        silent = any(run_as(e, target) and e.context & OFF for e in runs)
        if found is None or not silent or not any(not run_as(e, target) and not e.context & OFF for e in runs):
            return
        report(
            event.statement,
            "a network is its own reference",
            label=f"`{target}` is a second name for `{source}`",
            why=f"`{name_of(found[0])}.step()` moves both, so that they never differ",
            help=f"make a copy: `copy.deepcopy({source})`",
            fix=_fix(timeline, event, value, module),
            related=[("steps here", found[0].place)],
            confidence=Confidence.MEDIUM
            if any(isinstance(part, Branch) for part, _ in timeline.path(event))
            else Confidence.HIGH,
        )

    def best_state(
        self, timeline: Timeline, event: Assign, value: tree.Expression, state: Thing, report: Report
    ) -> None:
        from gradcheck_lint.source import tree

        kept = nature(state, StateDict)
        found = steps_on(timeline, event, kept.of) if kept is not None else None
        if found is None or kept is None:
            return
        step, later = found
        if not any(isinstance(e, LoadState) and state in things(e.state) for e in later):
            return
        source, name = _texts(event, value)
        report(
            event.statement,
            "a state that is kept for later changes with every step",
            label=f"`{name}` holds the network's own tensors, not copies of them",
            why=f"`{name_of(step)}.step()` changes them in place, so what is loaded back is the last state",
            help="copy the tensors, by `copy.deepcopy(...)` around it"
            if isinstance(value, tree.Dict)
            else f"copy the tensors: `{_copied(value, event)[1]}`",
            fix=_fix(timeline, event, value, kept.of),
            confidence=Confidence.MEDIUM
            if re.search(r"\bcpu\(", source) or _copied_on_the_way(timeline, event, state)
            else Confidence.HIGH,
        )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, BuffersStill):
            (name,) = sighting.names
            report(
                "a network is copied from itself",
                label=f"{sighting.at_step}: the buffers of `{name}` have been written at each step and are what they "
                f"were, while those of `{sighting.network}` have moved",
                why=f"the copying changes nothing, and `{name}` has the statistics that it began with",
                help=f"take the buffers of `{sighting.network}`",
                confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
            )
        elif isinstance(sighting, LayerRepeated):
            report(
                "a container holds one layer several times",
                label=f"all {sighting.places} places of `{sighting.names[0]}` are one {sighting.layer}",
                why="all of its places share the same weights, and what one of them learns changes the others",
                help="make one for each place, in a comprehension",
                note="where the weights are meant to be shared, call the layer several times in `forward`",
                confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
            )
        elif isinstance(sighting, OwnReference):
            name, reference = sighting.names
            report(
                "a network is its own reference",
                label=f"`{reference}` and `{name}` are one network",
                why=f"`{sighting.optimizer.label if sighting.optimizer else 'optimizer'}.step()` moves both, "
                "so that they never differ",
                help=f"hand over a copy for `{reference}`: `copy.deepcopy(...)`",
                confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
            )
        else:
            assert isinstance(sighting, OwnStateLoaded)
            report(
                "a model is given the state that is its own memory",
                label=f"the state was taken {sighting.steps} steps ago, and has moved with the model since",
                why="`state_dict()` refers to the parameters and copies nothing, so that this changes nothing",
                help="keep a copy: `copy.deepcopy(model.state_dict())`",
            )


_SWITCHED = re.compile(r"\bdisable_adapters?\b|\bset_adapter\b")


_COPIES = re.compile(r"\bregister_(?:load_)?state_dict_\w*hook\b|\bdef state_dict\(")


def _copied_on_the_way(timeline: Timeline, event: Event, state: Thing) -> bool:
    """Whether the tensors may be copied where the state is made, or by code that is handed it or all names."""
    if state.escaped or (isinstance(state.what, StateDict) and state.what.rewritten) or read_by_name(timeline, event):
        return True
    return any(_COPIES.search(m.text) for m in timeline.home.project.modules.values() if m is not None)


_BEST = re.compile(r"(?i)(^|_)best(_|$)")


def _synchronised(timeline: Timeline, event: Event, module: Thing, name: str) -> bool:
    """Whether the code goes on to copy from the one name to the other, which would be pointless if both were one."""
    from gradcheck_lint.source import tree

    loads = any(e.concerns(module) for e in timeline.events(LoadState))
    if not loads and not (_LAGS.search(name) and any(e.by == "zip" for e in timeline.events(Consume))):
        return False
    zipped: dict[int, int] = {}
    for later in after(timeline, event):
        if isinstance(later, LoadState) and later.concerns(module) and isinstance(later.place.node, tree.Call):
            state, call = nature(only(later.state), StateDict), later.place.node
            if state is None or state.of is not module or not isinstance(call.func, tree.Attribute):
                continue
            if tree.last_name(call.func.value) == name and call.args and _other(call.args[0].value, name):
                return True
        elif isinstance(later, Consume) and later.by == "zip" and _LAGS.search(name):
            zip_of = nature(things(later.subject)[0], Parameters)
            if zip_of is not None and zip_of.of is module:
                zipped[id(later.statement.node)] = zipped.get(id(later.statement.node), 0) + 1
                if zipped[id(later.statement.node)] == 2:
                    return True
    return False


_LAGS = re.compile(r"(?i)target|teacher|ema|average|avg|mean|shadow|momentum|slow|old|previous|key")


def _other(state: tree.Expression, name: str) -> bool:
    """Whether `x.state_dict()` is asked of something that is called otherwise."""
    from gradcheck_lint.source import tree

    return (
        isinstance(state, tree.Call)
        and isinstance(state.func, tree.Attribute)
        and state.func.attr == "state_dict"
        and tree.last_name(state.func.value) != name
    )


def _texts(event: Assign, value: tree.Expression) -> tuple[str, str]:
    """The source texts of what is assigned and of what it is assigned to."""
    chunk = event.place.chunk
    return repair.text(Place(chunk, value)), repair.text(Place(chunk, event.target))


def _copied(source: tree.Expression, event: Assign) -> tuple[tree.Expression, str]:
    """The expression without a shallow `.copy()` or `dict(...)`, and its deep copy."""
    from gradcheck_lint.source import tree

    inner = source
    if isinstance(source, tree.Call) and not source.args and isinstance(source.func, tree.Attribute):
        inner = source.func.value if source.func.attr == "copy" else source
    elif isinstance(source, tree.Call) and isinstance(source.func, tree.Name) and len(source.args) == 1:
        inner = source.args[0].value
    return inner, f"copy.deepcopy({repair.text(Place(event.place.chunk, inner))})"


def _fix(timeline: Timeline, event: Assign, source: tree.Expression, module: Thing) -> Fix | None:
    """Put `copy.deepcopy(...)` around the expression, and `import copy` above the first import if it is missing."""
    from gradcheck_lint.source import tree

    home = timeline.home
    if event.place.chunk.path != home.path:
        return None
    _, text = _copied(source, event)
    edits = [repair.replace(Place(event.place.chunk, source), text)]
    imports = [s for s in home.body if isinstance(s, tree.Import) and s.module != "__future__"]
    names = {bound or name for s in imports if s.module is None for name, bound in s.names}
    if "copy" not in names:
        stand = repair.stand(Place(home.chunk, imports[0])) if imports else None
        if stand is None or any(bound == "copy" for s in imports for _, bound in s.names):
            return None
        edits.append(repair.insert_before(stand, "import copy"))
    known = module.core.certain and isinstance(module.core.cls, (External, ClassValue))  # what its copy is like
    return Fix(f"make it a copy: `{text}`", Safety.SAFE if known else Safety.UNSAFE, tuple(edits))
