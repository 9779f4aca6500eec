"""GL315: a layer with weights, or a parameter, is created in `forward`: new in each call, trained by nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sighting import written
from gradcheck_lint.runtime.sightings.holding import LayerRebuilt
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Module, Parameters, Tensor, made_by, requires_grad
from gradcheck_lint.source.values import External, Items, Table, Thing, Value, only, options, things

if TYPE_CHECKING:
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

_FUNCTIONAL = re.compile(r"autograd|\.backward\(|\boptim|functional_call|stateless|\bvmap\(|load_state|from_pretrained")
_RANDOM = frozenset(["randn", "rand", "empty", "normal", "Tensor", "FloatTensor"])
_PLAIN = frozenset(["property", "staticmethod", "classmethod", "autocast", "override", "export", "ignore", "unused"])
_SILENT = OFF | {"try"}
_TOUCHING = (
    ev.SetAttribute, ev.SetData, ev.SetItem, ev.SetMode, ev.Freeze, ev.LoadState, ev.Register, ev.NewIterator,
    ev.Return,
)  # fmt: skip


class LayerBuiltInForward(Rule):
    code = "GL315"
    slug = "layer-built-in-forward"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    watches = (LayerRebuilt,)
    needs = (ev.Backward,)
    triggers = r"\bdef forward\("

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.classes import WEIGHTED
        from gradcheck_lint.facts.ownership import modules_made

        text = _path(facts)
        if not (WEIGHTED.search(text) or modules_made(facts, text)) or _FUNCTIONAL.search(text) or _remembers(text):
            return
        timeline = facts.called("forward") if facts.is_module else None
        for event, around in timeline.located(ev.Build) if timeline is not None else ():
            if event.context & _SILENT:
                continue
            thing = event.subject
            confidence = _trainable(facts, thing)
            if confidence is None or thing.escaped or _guarded(around):
                continue
            assert timeline is not None
            if not _only_used(facts, timeline, thing, around):
                continue
            what = "parameter" if isinstance(thing.what, Tensor) else "layer"
            report(
                event.place,
                f"a {what} is created in `forward`",
                label=f"`{repair.text(event.place)}` is new in each call",
                why="no optimizer knows it: its gradients are dropped with it, and it never learns",
                help=f"create it once in `{facts.name}.__init__`, and use it here",
                note="where new random weights are meant in each call, create them under `torch.no_grad()`",
                confidence=confidence,
            )

    def on_timeline(self, timeline: tl.Timeline, report: Report) -> None:
        from gradcheck_lint.facts.born import born

        for found in born(timeline):
            report(
                found.place,
                "a parameter is created for each loss",
                label=f"`{repair.text(found.place)}` is new in each call",
                why="no optimizer knows it: its gradient is dropped with it, and it never learns",
                help="create it once beside the model, hand it to the optimizer, and pass it to this function",
                related=[("backward reaches it here", found.backward.place), ("steps without it", found.step.place)],
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        assert isinstance(sighting, LayerRebuilt)
        made = written(sighting.made)
        report(
            "a layer or parameter is created in `forward`",
            label=f"{sighting.at_step}: `{made}` was new for each loss"
            if made
            else f"{sighting.at_step}: a parameter was new for each loss",
            why="no optimizer knows it: its gradients are dropped with it, and it never learns",
            help="create it once in `__init__`, and use it in `forward`",
            note="where new random weights are meant in each call, create them under `torch.no_grad()`",
            related=[("steps here", sighting.stepped)],
        )


def _path(facts: ClassFacts) -> str:
    """The text of `forward` and of the methods of the class that it calls."""
    texts: dict[str, str] = {}
    todo = ["forward"]
    while todo:
        name = todo.pop()
        if name not in texts:
            texts[name] = facts.method_text(name)
            todo += re.findall(r"self\.(\w+)\(", texts[name])
    return "".join(texts.values())


def _remembers(text: str) -> bool:
    """Whether it asks for an attribute that it sets itself: that is how the first call is told from the others."""
    written = set(re.findall(r"self\.(\w+)(?:\[[^\]\n]*\])?(?:\s*:[^=\n]+)?\s*=(?!=)", text))
    asked = re.findall(r"\b(?:if|while|assert|and|or|not)\b[^\n]*?\bself\.(\w+)", text)
    return not written.isdisjoint(asked)


def _trainable(facts: ClassFacts, thing: Thing) -> Confidence | None:
    """How sure it is that what is built should learn; None for what has no weights."""
    from gradcheck_lint.facts.classes import has_weights

    if isinstance(thing.what, Module):
        return Confidence.HIGH if thing.args is not None and has_weights(facts.machine, thing) else None
    if made_by(thing) != "Parameter" or requires_grad(thing) is not True or thing.args is None:
        return None
    data = only(thing.args.get(0, "data"), Tensor)
    if data is None or data.args is None:
        return None
    return Confidence.HIGH if made_by(data) in _RANDOM else Confidence.MEDIUM


def _guarded(around: tuple[tl.Part, ...]) -> bool:
    """Whether a test asks if it is there already, or a decorator may keep what the function gives."""
    for step in around:
        if isinstance(step, tl.Call) and any(tree.last_name(d) not in _PLAIN for d in step.function.decorators):
            return True
        if isinstance(step, tl.Branch) and (step.test is None or any(map(_asks, step.test.walk()))):
            return True
    return False


def _asks(node: tree.Node) -> bool:
    if isinstance(node, tree.Operation):
        return node.op in ("is", "is not", "in", "not in", "not")
    if isinstance(node, tree.Call):
        return tree.last_name(node.func) in ("hasattr", "getattr", "isinstance", "len")
    return isinstance(node, tree.Attribute) and node.attr == "training"


def _only_used(facts: ClassFacts, timeline: tl.Timeline, thing: Thing, around: tuple[tl.Part, ...]) -> bool:
    """Whether what is built is used in the same call, and nothing gives it weights or keeps it for the next one."""
    if isinstance(thing.what, Module) and not any(e.concerns(thing) for e in timeline.events(ev.Forward)):
        return False
    for event in timeline.events(*_TOUCHING):
        if isinstance(event, ev.SetAttribute) and event.concerns(facts.instance) and event.value is thing:
            if any(isinstance(step, tl.Branch) for step in around) or _may_return(timeline.tree, event):
                return False  # kept, and perhaps not built in the next call
        elif isinstance(event, ev.Return):
            if event.function is not None and event.function.name == "forward" and _has(event.value, thing):
                return False
        elif isinstance(event, ev.NewIterator):
            if any(isinstance(t.what, Parameters) and t.what.of is thing for t in things(event.subject)):
                return False
        elif _has(event.subject, thing, part=True) or (isinstance(event, ev.Put) and _has(event.value, thing)):
            return False
    store = facts.machine.store.items()
    if isinstance(thing.cls, External) and any(owner == thing.serial for (owner, _), _ in store):
        return False  # somebody reaches for its weights
    return not any(owner == facts.instance.serial and _has(v, thing, inside=True) for (owner, _), v in store)


def _has(value: Value | None, thing: Thing, part: bool = False, inside: bool = False) -> bool:
    """Whether a value is the thing, holds it, or (if `part`) was read from it; `inside`: only whether it holds it."""
    for option in options(value):
        if isinstance(option, Thing) and not inside and (option is thing or (part and option.inside(thing))):
            return True
        if isinstance(option, (Items, Table)):
            items = option.items if isinstance(option, Items) else option.entries.values()
            if any(_has(item, thing, part) for item in items):
                return True
    return False


def _may_return(step: tl.Part, until: ev.Event) -> bool:
    """Whether the functions around an event may be left by a return before it."""
    for found in _steps(step, until):
        if found is until:
            return False
        if isinstance(found, tl.Jump) and found.kind is tree.Exit.RETURN:
            return True
    return False


def _steps(step: tl.Part, until: ev.Event) -> Iterator[tl.Part]:
    """The events and jumps below a step, in order; of calls, those in the ones that lead to an event."""
    if isinstance(step, tl.Sequence):
        for inner in step.steps:
            yield from _steps(inner, until)
    elif isinstance(step, tl.Branch):
        for arm in step.arms:
            yield from _steps(arm, until)
    elif isinstance(step, tl.Loop) or (isinstance(step, tl.Call) and any(e is until for e in tl.inside(step))):
        yield from _steps(step.body, until)
    elif isinstance(step, tl.Guarded):
        yield from _steps(step.body, until)
        yield from _steps(step.final, until)
    elif not isinstance(step, tl.Call):
        yield step
