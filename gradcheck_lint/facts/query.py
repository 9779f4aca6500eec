"""Questions that several rules ask about a timeline: which loops are around an event, what the code calls a thing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from gradcheck_lint.facts import repair
from gradcheck_lint.laws.answer import NO, YES
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.holding import reaches, shares
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import Thing, only, options

if TYPE_CHECKING:
    from gradcheck_lint.source.events import Event
    from gradcheck_lint.source.timeline import Timeline

T = TypeVar("T")


def once(timeline: Timeline, find: Callable[[Timeline], T]) -> T:
    """What a function finds in a timeline, found once for all rules, and let go of when they have been asked.

    Kept anywhere else it would keep the timeline, and with it all that was analysed together.
    """
    if find not in timeline.found:
        timeline.found[find] = find(timeline)
    found: T = timeline.found[find]
    return found


def receiver(event: Event) -> str:
    """The source text of what a method is called on: `self.optimizer` for `self.optimizer.step()`, else ""."""
    node = event.place.node
    if isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute):
        return repair.text(Place(event.place.chunk, node.func.value))
    return ""


def spoken(event: ev.Step | ev.Zero) -> str:
    """What the code calls the optimizer that is stepped or cleared, also where a scaler makes the step."""
    node = event.place.node
    if isinstance(event, ev.Step) and event.scaler is not None and isinstance(node, tree.Call) and node.args:
        return repair.text(Place(event.place.chunk, node.args[0].value))
    return receiver(event)


def loops(around: Sequence[tl.Part]) -> list[tl.Loop]:
    """The loops around an event that go round more than once, outermost first; comprehensions are loops too."""
    return [step for step in around if isinstance(step, tl.Loop) and not step.once]


def inside(around: Sequence[tl.Part], outer: tl.Part) -> tuple[tl.Part, ...]:
    """The steps between `outer` and the event."""
    for index, step in enumerate(around):
        if step is outer:
            return tuple(around[index + 1 :])
    return tuple(around)


def always(around: Sequence[tl.Part]) -> bool:
    """Whether what is directly inside these steps is on every path: no branch is among them."""
    return not any(isinstance(step, tl.Branch) for step in around)


def exclusive(one: Sequence[tl.Part], other: Sequence[tl.Part]) -> bool:
    """Whether two events stand in different arms of one branch."""
    for a, b in zip(one, other, strict=False):
        if isinstance(a, tl.Arm) and isinstance(b, tl.Arm):
            if a.index != b.index:
                return True
        elif a is not b:
            return False
    return False


def unseen(timeline: Timeline, optimizer: Thing | None = None) -> bool:
    """Whether something that cannot be followed may step or clear the optimizer (any one if none is named)."""
    if timeline.cut or timeline.hooked:
        return True
    for event in timeline.events(ev.Unknown):
        if event.subject is None or optimizer is None or reaches(event.subject, optimizer) is not NO:
            return True
    return any(isinstance(o, Thing) and o.summary for e in timeline.events(ev.Step) for o in options(e.subject))


def named_only(timeline: Timeline, method: str, optimizer: Thing | None = None) -> bool:
    """Whether a line names a method and does not call it, so that what is missing is this call (GL105 tells of it).

    With an `optimizer`, one of its own or of something that may hold its parameters.
    """
    for event in timeline.events(ev.Evaluate):
        node, thing = event.expression, only(event.value)
        if not isinstance(node, tree.Attribute) or node.attr != method or thing is None or thing.parent is None:
            continue
        owner = thing.parent[0]
        if optimizer is None or not isinstance(owner.what, Optimizer) or shares(owner, optimizer) is not NO:
            return True
    return False


def called(things: Sequence[Thing]) -> str:
    """What the code calls some things, the first few of them by name."""
    names = list(dict.fromkeys(f"`{thing.label}`" for thing in things if thing.label))
    if not names:
        return "what lies behind it"
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:2])} and others"


def torch_class(thing: Thing) -> str:
    """`Adam` for a torch.optim.Adam, "" for anything that torch did not define."""
    name = thing.class_name
    return name.rpartition(".")[2] if name.startswith("torch.") else ""


def goes_backward(function: tree.Function) -> bool:
    """Whether the function calls backward itself, as a closure does."""
    return any(
        isinstance(node, tree.Call) and isinstance(node.func, tree.Attribute) and node.func.attr == "backward"
        for node in tree.walk_block(function.body)
    )


def remarked(place: Place) -> bool:
    """Whether a comment stands behind a place, on its last line: somebody has thought about it and says something."""
    from gradcheck_lint.source.comments import every, speaks_to_tools

    span, chunk = place.span, place.chunk
    behind = chunk.lines[span.end_line - chunk.offset - 1][span.end_column - 1 :]
    return "#" in behind and any(not speaks_to_tools(c.text) for c in every(behind[behind.index("#") :]))


def loops_within(around: Sequence[tl.Part], loop: tl.Loop | None) -> list[tl.Part]:
    """The loops around an event, also those that are gone through once; those inside of a loop, if one is named."""
    found: list[tl.Part] = [part for part in around if isinstance(part, tl.Loop)]
    return found[found.index(loop) + 1 :] if loop is not None and loop in found else found


def asked(around: Sequence[tl.Part], loop: tl.Loop | None) -> set[str]:
    """The names in the tests of the branches around an event, inside of a loop if one is named."""
    found: set[str] = set()
    for part in inside(around, loop) if loop is not None else around:
        if isinstance(part, tl.Branch) and part.test is not None:
            found |= {tree.dotted(node) for node in part.test.walk() if isinstance(node, (tree.Name, tree.Attribute))}
    return found - {""}


def trained(timeline: Timeline, module: Thing) -> bool:
    """Whether some optimizer that steps has the parameters of a module."""
    optimizers = (only(step.subject, Optimizer) for step in timeline.events(ev.Step))
    return any(optimizer is not None and reaches(module.core, optimizer) is YES for optimizer in optimizers)
