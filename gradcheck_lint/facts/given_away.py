"""Whether parameters of a network may be used by something else than the network: tied, or computed with by hand.

What is given to an optimizer, clipped or counted is not used; all else that takes hold of them may be.
"""

from __future__ import annotations

import re

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.holding import Held, belongs
from gradcheck_lint.source.natures import Instance, Module, Parameters, element_of, nature
from gradcheck_lint.source.values import Thing, Value, contents, only

_READ = re.compile(r"(?<![\w.\])])(?!self\b)\w+(?:\.\w+|\[[^\]\n]*\])*\.(?:weight|bias|_parameters)\b")
_HARMLESS = re.compile(r"clip_grad|\.init\.|^torch\.save$")


def given_away(timeline: tl.Timeline, held: Held) -> bool:
    """Whether something but its own network may have a parameter that an optimizer has."""
    if _READ.search(timeline.home.text) or _copied_with_memo(timeline):
        return True
    return any(_stored(timeline, one) or _used(timeline, one) or _collected(timeline, one) for one in held.modules)


def _copied_with_memo(timeline: tl.Timeline) -> bool:
    """Whether something is copied that may keep some of what it has: the second argument says what is not copied."""
    return any(e.name.endswith("deepcopy") and len(e.args.all()) > 1 for e in timeline.events(ev.Build))


def _stored(timeline: tl.Timeline, module: Thing) -> bool:
    """Whether a part of a network, or one of its tensors, is put into something that is no part of it."""
    for event in timeline.events(ev.Put):
        subject = event.subject
        if isinstance(event, (ev.Assign, ev.Rebind)) or (isinstance(subject, Thing) and subject.inside(module)):
            continue
        keeps = isinstance(subject, Thing) and isinstance(subject.what, Instance)  # an object keeps the whole network
        for one in contents(event.value):
            if _of(one, module) and not (keeps and isinstance(one, Thing) and isinstance(one.what, Module)):
                return True
    return False


def _used(timeline: tl.Timeline, module: Thing) -> bool:
    """Whether a function of torch, or another network, is handed it or a part of it."""
    calls = [e.args for e in timeline.events(ev.TorchCall) if not _HARMLESS.search(e.name)]
    calls += [e.args for e in timeline.events(ev.Forward)]
    return any(_of(one, module) for args in calls for value in args.all() for one in contents(value))


def _collected(timeline: tl.Timeline, module: Thing) -> bool:
    """Whether its parameters are gone over elsewhere than where an optimizer takes them or gradients are clipped."""
    taken = [e.given for e in timeline.events(ev.BuildOptimizer)] + [e.group for e in timeline.events(ev.AddGroup)]
    taken += [e.subject for e in timeline.events(ev.Clip)]
    known = {id(one) for value in taken for one in contents(value)}
    others = [_owner(e.subject) for e in timeline.events(ev.NewIterator) if id(e.subject) not in known]
    return any(of is None or of.inside(module) or belongs(of, module) or belongs(module, of) for of in others)


def _owner(parameters: Thing) -> Thing | None:
    found = nature(parameters, Parameters)
    return found.of if found is not None else None


def _of(value: Value, module: Thing) -> bool:
    """Whether a value is a network, a part of it or one of its tensors, and not what it computed."""
    thing = only(value)
    if thing is None:
        return False
    of = element_of(thing)
    return thing.inside(module) or belongs(thing, module) or (of is not None and _of(_owner(of) or of, module))
