"""Parts of a model that an optimizer was handed and no backward comes to: they ran, and what they gave was cut off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts import query
from gradcheck_lint.facts.led_to import Led, led_to
from gradcheck_lint.facts.order import after
from gradcheck_lint.facts.reach import Cutting, weighs
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.laws.mode import OFF
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.holding import Held, belongs, held_by
from gradcheck_lint.source.natures import Module, Parameters, StateDict, element_of, nature
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, External, FunctionValue, Thing, only, options, things


class Unreached(NamedTuple):
    """A part that ran and was `cut` off from every loss, the optimizer that has it, and a step of that.

    `named`: it was handed over by itself, or in parts, and not with the whole model that it is in.
    """

    part: Thing
    cut: Cutting
    built: ev.BuildOptimizer
    step: ev.Step
    named: bool
    sure: bool

    def blamed(self, timeline: tl.Timeline) -> Place | None:
        """What stands where the part was cut off: what switched the gradients off, if that is seen to be around it."""
        return blamed(timeline, self.cut)


def blamed(timeline: tl.Timeline, cut: Cutting) -> Place | None:
    """Where something was cut off: what switched the gradients off, if that is seen to be around it."""
    place = cut.place
    return _switch(timeline, place) or place if place is not None and cut.off else place


def _switch(timeline: tl.Timeline, place: Place) -> Place | None:
    """The context or the decorator by which nothing is recorded at a place, in its own function."""
    function = place.chunk.function
    if function is None and place.chunk is not timeline.home.chunk:
        return None
    found: Place | None = None
    for node in tree.walk_block(timeline.home.body if function is None else function.body):
        if isinstance(node, tree.With) and any(inner is place.node for inner in tree.walk_block(node.body)):
            found = next((Place(place.chunk, item) for item, _ in node.items if _switches_off(item)), found)
    for decorator in function.decorators if found is None and function is not None else ():
        if _switches_off(decorator):
            return Place(place.chunk, decorator)
    return found


def _switches_off(item: tree.Expression) -> bool:
    return tree.last_name(item.func if isinstance(item, tree.Call) else item) in OFF


def _gone_over(timeline: tl.Timeline, part: Thing) -> bool:
    """Whether a loop goes over the parameters of something that is called like a part: it may move them by hand."""
    name = part.label.rpartition(".")[2]
    return re.search(rf"\bin\s+[\w.(]*\b{re.escape(name)}\.(named_)?parameters\(", timeline.home.text) is not None


def backwards(timeline: tl.Timeline) -> list[tuple[ev.Backward, Led]]:
    """The backwards of a timeline with what they lead to, found once for all rules."""
    return query.once(timeline, _backwards)


def _backwards(timeline: tl.Timeline) -> list[tuple[ev.Backward, Led]]:
    return [(event, led_to(event.subject)) for event in timeline.events(ev.Backward)]


def unreached(timeline: tl.Timeline) -> Iterator[Unreached]:
    """The parts that an optimizer cannot train, whatever it was handed them for."""
    if timeline.cut or timeline.hooked or not timeline.has(ev.BuildOptimizer) or not timeline.has(ev.Step):
        return
    led = backwards(timeline)
    models = {id(one): one for _, found in led for one in found.through.values()}
    if not any(one.cut for _, one in led) or any(one.open for _, one in led) or other_gradients(timeline):
        return
    for built in timeline.events(ev.BuildOptimizer):
        optimizer = built.subject
        held = held_by(optimizer)
        step = next((e for e in timeline.events(ev.Step) if e.concerns(optimizer)), None)
        if step is None or optimizer.summary or not held.modules:
            continue
        told: list[Thing] = []
        # an optimizer of which nothing is trained at all may be one for another network than was meant
        fed = any(held_part(one, held, found) for _, found in led for one in found.alive.values())
        for part, cut in sorted(_candidates(timeline, optimizer, held, led, models), key=_height):
            within = any(is_part(part, m, models) for m in held.modules)
            named = any(m.core is part or m.inside(part) for m in held.modules)
            if not (within or named) or any(part.inside(one) for one in told):
                continue
            if not isinstance(part.what, Module) or part.summary or weighs(part) is NO:
                continue
            if id(part) in models or any(_comes(one, part, models) for _, one in led) or not _plain(timeline, part):
                continue
            if not named and (held.unknown or not _fresh(part) or _meant(part)):
                continue
            told.append(part)
            sure = (
                fed
                and not _gone_over(timeline, part)
                and named
                and part.certain
                and not held.unknown
                and timeline.owner is None
            )
            yield Unreached(part, cut, built, step, named, sure and not query.unseen(timeline, optimizer))


def _candidates(
    timeline: tl.Timeline,
    optimizer: Thing,
    held: Held,
    led: list[tuple[ev.Backward, Led]],
    models: dict[int, Thing],
) -> list[tuple[Thing, Cutting]]:
    """What losses are cut off from: by those after which the optimizer steps, if one of these has parts of its own.

    What the loss of another network is cut off from is often meant.
    """
    every = {key: found for _, one in led for key, found in one.cut.items()}
    own = before_step(timeline, optimizer)
    near = {key: found for event, one in led if event in own for key, found in one.cut.items()}
    if any(is_part(part, m, models) or m.inside(part) for part, _ in near.values() for m in held.modules):
        return list(near.values())
    return list(every.values())


def before_step(timeline: tl.Timeline, optimizer: Thing) -> list[ev.Backward]:
    """The backwards after which an optimizer steps before the next one."""
    return [
        backward
        for backward in timeline.events(ev.Backward)
        if any(step.concerns(optimizer) for step in steps_after(timeline, backward))
    ]


def steps_after(timeline: tl.Timeline, backward: ev.Backward) -> list[ev.Step]:
    """The steps on what a backward leaves, before the next one."""
    found: list[ev.Step] = []
    for event in after(timeline, backward):
        if isinstance(event, ev.Backward):
            break
        if isinstance(event, ev.Step):
            found.append(event)
    return found


def _comes(led: Led, part: Thing, models: dict[int, Thing]) -> bool:
    """Whether a gradient may come to some parameter of a part."""
    return any(
        is_part(part, one, models) or is_part(one, part, models) or twins(one, part) for one in led.alive.values()
    )


def twins(one: Thing, other: Thing) -> bool:
    """Whether two things were made in one place, as those are that one call of a constructor makes: see `_made_in`."""
    return one.place is not None and other.place is not None and one.place.node is other.place.node


def held_part(part: Thing, held: Held, led: Led) -> bool:
    """Whether a module is among what an optimizer has, or has some of that, for all that is known."""
    return any(is_part(part, m, led.through) or m.inside(part) or belongs(m, part) for m in held.modules)


def is_part(part: Thing, model: Thing, models: dict[int, Thing]) -> bool:
    """Whether a module is a part of another one, or that itself."""
    return part.inside(model) or belongs(part, model) or _made_in(part, model, models)


def _made_in(part: Thing, model: Thing, models: dict[int, Thing], depth: int = 4) -> bool:
    """Whether a part was made by the constructor of a model, or of a part of that, where this was not kept.

    What a `forward` gave is kept where it was looked at for that alone, and what its object has is not.
    """
    if part.place is None or not depth:
        return False
    owners = {id(m.core): m.core for m in (*models.values(), model) if makes(m.core, part)}
    if not owners:
        return _made_below(part, model.core)
    if len(owners) != 1:
        return False
    (owner,) = owners.values()
    return owner is model.core or owner.inside(model) or _made_in(owner, model, models, depth - 1)


def _made_below(part: Thing, model: Thing) -> bool:
    """Whether a part is made by the constructor of a class of which the constructor of a model makes an object."""
    init = model.cls.member("__init__") if isinstance(model.cls, ClassValue) else None
    maker = part.place.chunk.function if part.place is not None else None
    if not isinstance(init, FunctionValue) or not isinstance(model.cls, ClassValue) or maker is None:
        return False
    known = model.cls.home.project.definition_of.get(id(maker))
    if known is None or known[1].name != "__init__" or not known[1].owner:
        return False
    spend(10)
    if any(_KEPT.search(one.text) for one in known[0].outline.definitions if one.owner == known[1].owner):
        return False  # that class may freeze it, or move it by hand
    calls = [node for node in tree.walk_block(init.function.body) if isinstance(node, tree.Call)]
    return any(tree.last_name(call.func) == known[1].owner for call in calls)


_KEPT = re.compile(r"requires_grad|no_grad|\.data\b")


def makes(model: Thing, part: Thing) -> bool:
    """Whether the code that makes a part stands in the constructor of a model."""
    init = model.cls.member("__init__") if isinstance(model.cls, ClassValue) else None
    if not isinstance(init, FunctionValue) or part.place is None or part is model:
        return False
    return part.place.chunk.function is init.function


def _height(found: tuple[Thing, Cutting]) -> tuple[int, int]:
    return found[0].height, found[0].serial


def other_gradients(timeline: tl.Timeline) -> bool:
    """Whether gradients come from elsewhere than from the backwards, or those of other methods are not seen."""
    if timeline.has(ev.GradWrite) or timeline.has(ev.GradChange) or timeline.has(ev.ForwardHook):
        return True
    if any("grad" in e.name.rpartition(".")[2] for e in timeline.events(ev.TorchCall) if "autograd" in e.name):
        return True
    seen = {id(event.place.node) for event in timeline.events(ev.Backward)}
    for cls in timeline.owner.lineage() if timeline.owner is not None else ():
        for member in cls.members.values() if isinstance(cls, ClassValue) else ():
            function = getattr(member, "function", None)
            for node in tree.walk_block(function.body) if isinstance(function, tree.Function) else ():
                if isinstance(node, tree.Call) and tree.last_name(node.func) == "backward" and id(node) not in seen:
                    return True
    return False


def _plain(timeline: tl.Timeline, part: Thing) -> bool:
    """Whether nothing else is done with the weights of a part: it is not frozen, averaged, loaded or synchronised."""
    for freeze in timeline.events(ev.Freeze):
        owner = freeze.subject
        if not isinstance(owner, Thing) or not owner.certain or owner.summary or touches(owner, part):
            return False
    return not (_synchronised(timeline, part) or _written(timeline, part) or _lent(timeline, part))


def _synchronised(timeline: tl.Timeline, part: Thing) -> bool:
    """Whether a part may get its weights from another network."""
    for event in timeline.events(ev.Consume):
        given = nature(event.subject, Parameters)
        if event.by == "zip" and given is not None and (given.of is None or touches(given.of, part)):
            return True
    return any(
        nature(only(load.state), StateDict) is not None and any(touches(t, part) for t in things(load.subject))
        for load in timeline.events(ev.LoadState)
    )


def _written(timeline: tl.Timeline, part: Thing) -> bool:
    """Whether tensors of a part may be written by hand."""
    for event in timeline.events(ev.SetData, ev.TorchCall):
        for one in things(event.receiver if isinstance(event, ev.TorchCall) else event.subject):
            of = element_of(one)
            if (one.inside(part) and one.core is not part) or (of is not None and touches(of, part)):
                return True
    return False


def _lent(timeline: tl.Timeline, part: Thing) -> bool:
    """Whether code that was not seen may do something to a part."""
    for event in timeline.events(ev.Unknown):
        if event.subject is None or any(isinstance(o, Thing) and touches(o, part) for o in options(event.subject)):
            return True
    return False


def touches(one: Thing, part: Thing) -> bool:
    return one.inside(part) or part.inside(one) or belongs(part, one) or belongs(one, part)


def _fresh(part: Thing) -> bool:
    """Whether a part surely begins with random weights, which nobody wants to keep."""
    cls = part.cls
    if isinstance(cls, External):
        return cls.name.startswith("torch.nn.") and weighs(part) is YES
    return isinstance(cls, ClassValue) and part.certain and not any(map(_brings, cls.lineage()))


def _brings(cls: object) -> bool:
    """Whether a class gets weights from somewhere, as far as its text says."""
    if not isinstance(cls, ClassValue):
        return not (isinstance(cls, External) and cls.name.startswith(("torch.nn", "builtins.")))
    for member in cls.members.values():
        function = getattr(member, "function", None)
        for node in tree.walk_block(function.body) if isinstance(function, tree.Function) else ():
            name = tree.last_name(node) if isinstance(node, (tree.Name, tree.Attribute)) else ""
            if name and _WEIGHTS.search(name):
                return True
    return False


_WEIGHTS = re.compile(r"(?i)pretrain|load|^hub$|timm|torchvision|from_|checkpoint|^clip$|weights")


def _meant(part: Thing) -> bool:
    """Whether a part is to stay as it is, by its name."""
    thing: Thing | None = part
    while thing is not None:
        if _FIXED.search(thing.parent[1] if thing.parent is not None else thing.label):
            return True
        thing = thing.parent[0] if thing.parent is not None else None
    return False


_FIXED = re.compile(
    r"(?i)(?:^|_)(?:target|teacher|ema|avg|average|momentum|frozen|fixed|rand|random|pretrained|old|ref|reference|key|k"
    r"|vgg|lpips|perceptual)(?:_|$)"
)
