"""The tensors on which backward is called: whether they lead anywhere, and whether their graphs are let go.

Sightings: LossLeadsNowhere (backward on a tensor that begins at itself), BackwardRefused (torch finds no graph; with
what is known of the reason), StepWithoutGradMode (steps without gradients while gradients are switched off),
RunningTotal (the sum holds the loss of an earlier step), GraphKept (the graphs of many steps in a row are still
in memory), NeverAGradient (parameters that backward never reached).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.answer import NO
from gradcheck_lint.laws.mode import IDLE, idle
from gradcheck_lint.laws.reach import Reached, cut_by, reached, trains
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.reach.cuts import Cuts
from gradcheck_lint.runtime.graph import kind, marked, only_sums, terms
from gradcheck_lint.runtime.handed import handed_over
from gradcheck_lint.runtime.names import attributes, variable
from gradcheck_lint.runtime.references import Place
from gradcheck_lint.runtime.sightings.mode import StepWithoutGradMode
from gradcheck_lint.runtime.sightings.order import GraphKept, RunningTotal
from gradcheck_lint.runtime.sightings.reach import BackwardRefused, LossLeadsNowhere, NeverAGradient
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

Call = tuple[int, int]  # which instruction of which code

KEPT = 12  # graphs of steps in a row that have to be in memory
FEW, FAR = 4, 100  # or so few of them, if they reach so many steps back: between samples none is marked
CLOSELY = 8  # backwards of which all terms of the loss are looked at
_NUMBER = re.compile(r"\b\d+\b")
_LOOKED_IN = 100  # objects of the user's
CHECKED = 5  # steps after which a parameter should have had a gradient
_ENDS = frozenset({"Sum", "Mean", "Stack", "Cat", "Add", "Sub", "Neg", "Mul", "Div"})


class Unfed(NamedTuple):
    """The parameters of an optimizer that have had no gradient so far, by name, and the names of those that had one."""

    names: dict[str, Place]
    fed: set[str]
    lists: tuple[str, ...]  # the lists and dictionaries of modules, which may be branches


class Rebuilt:
    """A line that calls backward on a leaf that nobody trains."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.names: tuple[str, ...] = ()
        self.made: Mark | None = None
        self.summed = False
        self.number = 0  # of the latest of its backwards
        self.steps = 0  # how many steps came after one of them and found no gradients


class Losses(Check):
    """Looks at the roots of backward, and keeps none of them."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._rebuilt: dict[Call, Rebuilt] = {}  # backwards that began at themselves
        self._at: dict[int, int] = {}  # by optimizer: the number of the latest backward when it last stepped
        self._sound: set[Call] = set()  # places of which nothing more is to be said
        self._carried: set[Call] = set()
        self._idle: dict[int, int] = {}  # steps in a row without gradients and without grad mode, by optimizer
        self._recorded: dict[int, int] = {}  # how many gradients the latest step found while grad mode was on
        self._kept = False
        self._unfed: dict[int, Unfed] = {}  # by optimizer
        self._first: dict[int, frozenset[int]] = {}  # the ids of what each optimizer was to train when it was met

    def _done(self) -> tuple[int, ...]:
        return tuple(observer.steps for observer in self.session.observers.values())

    # Before backward

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if len(roots) != 1 or event.mark is None:
            return
        root = roots[0]
        node = root.grad_fn
        place = (id(event.mark.code), event.mark.last)
        if node is not None and place in self._sound and self.session.backwards > CLOSELY:
            freed = not options.get("retain_graph") and not options.get("create_graph")
            self.session.canaries.touch(node, self.session.backwards, self._done(), freed=freed, place=place)
            return
        if root.numel() != 1 or not root.requires_grad:
            return
        if node is not None and kind(node) not in _ENDS:
            self._sound.add(place)
        elif place not in self._sound:
            self._look_for_leaf(root, place, event.mark)
        if node is not None:
            self._mark(root, place, event, options)

    def _look_for_leaf(self, root: Tensor, place: Call, mark: Mark) -> None:
        leaves = only_sums(root) if root.grad_fn is not None else (root,)
        if not leaves or not self._strange(leaves):
            self._sound.add(place)
            self._rebuilt.pop(place, None)
            return
        known = self._rebuilt.get(place)
        if known is None:
            known = self._rebuilt[place] = Rebuilt(mark)
            frames = sites.frames(2)
            name = variable(root, frames)
            known.names = (name,) if name else ()
            if name:
                known.made = _first(stores.flagged(frame, name) or stores.stored(frame, name) for frame in frames)
            known.made = known.made or handed_over(model for _, model in self.session.models)
        known.summed = root.grad_fn is not None
        known.number = self.session.backwards

    def _strange(self, leaves: Sequence[Tensor]) -> bool:
        """Whether these leaves are nobody's parameters, but numbers that were made to require grad."""
        from torch.nn import Parameter

        if any(isinstance(leaf, Parameter) or leaf.dim() > 1 or leaf.numel() > 64 for leaf in leaves):
            return False
        held = self.session.roster.held()
        met = any(id(leaf) in held for leaf in leaves)
        return bool(held) and trains(met=met, whole=True, known=True, strange=True) is NO

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        """Such a backward is a mistake where a step relies on it; else it may be a warm-up, or probe something."""
        before = self._at.get(observer.watched.index, 0)
        self._at[observer.watched.index] = self.session.backwards
        if observer.window or observer.opaque or not self._rebuilt or observer.machine.written():
            return
        for place, rebuilt in list(self._rebuilt.items()):
            if rebuilt.number > before and place not in self._sound:
                rebuilt.steps += 1
                if rebuilt.steps == 2:
                    self._tell_rebuilt(rebuilt, place)

    def _tell_rebuilt(self, rebuilt: Rebuilt, place: Call) -> None:
        alone = not self._sound  # no backward went through a graph
        self._sound.add(place)
        if self.session.engine.wants(LossLeadsNowhere):
            for observer in self.session.observers.values():
                observer.broken = observer.broken or not observer.window
        self.session.take(
            LossLeadsNowhere(
                self.session.scene_of_next(rebuilt.mark),
                names=rebuilt.names,
                made=resolve(rebuilt.made),
                summed=rebuilt.summed,
                sure=alone or not rebuilt.summed,
            )
        )

    def _mark(self, root: Tensor, place: Call, event: Event, options: dict[str, Any]) -> None:
        """Put a canary into the graph, and see whether an earlier one is there."""
        session = self.session
        freed = not options.get("retain_graph") and not options.get("create_graph")
        steps = self._done()
        earlier = session.canaries.mark(root, session.backwards, steps, freed=freed, place=place)
        if earlier is None or place in self._carried or not steps or len(earlier.steps) != len(steps):
            return
        if earlier is marked(root.grad_fn):
            return  # the same loss again, and not a sum
        if earlier.place != place:
            return  # what another line has gone backward on can be of this round: a loss that two optimizers share
        moved = [now > then for now, then in zip(steps, earlier.steps, strict=True) if now]
        if moved and all(moved):  # each optimizer has stepped since
            self._carried.add(place)
            if session.engine.wants(RunningTotal):
                session.explained = event.order
            name, made = _sum_of(root)
            scene, names = session.scene_of_next(event.mark), (name,) if name else ()
            session.take(RunningTotal(scene, names=names, made=resolve(made), earlier=max(earlier.steps) + 1))

    # Refused

    def backward_failed(self, event: Event, error: BaseException) -> None:
        if not isinstance(error, RuntimeError) or "does not require grad" not in str(error):
            return
        roots = roots_of(error)
        if len(roots) != 1 or roots[0].requires_grad:
            return
        import torch

        root = roots[0]
        mark = event.mark or sites.here(4)
        frames = sites.frames(2)
        name = variable(root, frames)
        trained = [p for observer in self.session.observers.values() for p in observer.parameters()]
        names: tuple[str, ...] = ()
        made: Mark | None = None
        off, inference = not torch.is_grad_enabled(), root.is_inference()
        decorated = self._decorated() if not (off or inference) else None
        if decorated is not None:
            names, made = (decorated[0],), decorated[1]
        elif not (off or inference):
            names = tuple(_with_graph(frames))
        because = cut_by(off=off, inference=inference, decorated=decorated is not None, nearby=bool(names))
        if name and decorated is None:
            made = _first(stores.stored(frame, name) for frame in frames)
        self.session.take(
            BackwardRefused(
                self.session.scene_of_next(mark),
                names=names,
                because=because,
                trainable=any(p.requires_grad for p in trained),
                inference=torch.is_inference_mode_enabled() or inference,
                root=name,
                made=resolve(made),
            )
        )

    def _decorated(self) -> tuple[str, Mark] | None:
        """A module whose forward is decorated with `torch.no_grad()` or `torch.inference_mode()`."""
        for name, module in self.session.models.modules():
            forward = type(module).forward
            inner = getattr(forward, "__wrapped__", None)
            if inner is None or getattr(forward, "__name__", "") != "forward" or not hasattr(inner, "__code__"):
                continue
            for cell in getattr(forward, "__closure__", None) or ():
                owner = getattr(cell.cell_contents, "__self__", cell.cell_contents)
                if type(owner).__name__ in ("no_grad", "inference_mode") and type(owner).__module__.startswith("torch"):
                    return name, sites.Mark(inner.__code__, 0, inner.__code__.co_firstlineno)
        return None

    # At a step

    def stepped(self, observer: Observer, mark: Mark | None) -> None:
        if mark is None:
            return
        self._without_gradients(observer, mark)
        steps = observer.watched.steps
        if steps < CHECKED:
            return
        if steps == CHECKED:
            self._find_unfed(observer)
        else:
            self.glance(observer, mark)
        if not self._kept and (steps > 20 or steps in (KEPT + 4, 20)):
            self._look_for_kept(observer, mark)

    def glance(self, observer: Observer, mark: Mark | None) -> None:
        import torch

        unfed = self._unfed.get(observer.watched.index)
        if unfed is not None and unfed.names:
            self._feed(unfed)
        if not torch.is_grad_enabled() and observer.watched.index in self._recorded:
            observer.attention.suspect()

    def _without_gradients(self, observer: Observer, mark: Mark) -> None:
        """Steps while gradients are off, none of which finds a gradient, or most of those that there were before."""
        import torch

        index = observer.watched.index
        records = torch.is_grad_enabled() or bool(observer.opaque)
        now = sum(p.grad is not None for p in observer.parameters())
        if records:
            self._recorded[index] = now
        before = max(self._recorded.get(index, 1), 1)
        row = self._idle[index] = idle(self._idle.get(index, 0), records=records, fed=2 * now >= before)
        if row == IDLE:
            step = observer.watched.steps - IDLE + 1
            self.session.take(StepWithoutGradMode(observer.scene(mark, step), left=now, before=before))

    def _look_for_kept(self, observer: Observer, mark: Mark) -> None:
        import gc

        if not self._many(steps := self._done()):
            return
        self._kept = True  # look once; collecting garbage takes a while
        gc.collect()  # a graph in a cycle of references is let go by and by
        if not self._many(steps):
            return
        kept = self.session.canaries.kept(steps)
        place = list(self.session.observers.values()).index(observer)
        first = kept[-1][place] + 1 if place < len(kept[-1]) else 1
        name, made = "", None
        for frame in sites.frames(2):
            found = _holder(frame)
            if found:
                name, made = found, stores.grown(frame, found)
                break
        names = (name,) if name else ()
        self.session.take(GraphKept(observer.scene(mark), names=names, made=resolve(made), first=first))

    def _many(self, steps: tuple[int, ...]) -> bool:
        """Whether the graphs of many steps in a row are in memory, or of a few that lie far apart."""
        kept = self.session.canaries.kept(steps)
        return len(kept) >= KEPT or (len(kept) >= FEW and max(steps) - max(kept[-1]) >= FAR)

    # Parameters that are never reached

    def attached(self, observer: Observer) -> None:
        self._first[observer.watched.index] = frozenset(
            id(p) for p in observer.parameters() if p.requires_grad and p.is_leaf
        )

    def _find_unfed(self, observer: Observer) -> None:
        """Parameters without a gradient so far, where others had theirs."""
        from torch.nn import ModuleDict, ModuleList

        index, models = observer.watched.index, self.session.models
        self._unfed[index] = unfed = Unfed({}, set(), ())
        if not observer.received or observer.opaque:
            return
        known = len(models) > 0
        for parameter in observer.parameters():
            fed = id(parameter) in observer.received or parameter.grad is not None
            wanted = id(parameter) in self._first[index] and parameter.requires_grad
            there = parameter.numel() > 0  # else another rank has its part of it
            if there and reached(wanted=wanted, fed=fed) is Reached.NEVER:
                if not known or models.name(parameter):  # else it is not the model's any more
                    unfed.names[observer.name(parameter)] = Place(observer, parameter)
        if unfed.names:
            unfed.fed.update(observer.name(p) for p in observer.parameters() if id(p) in observer.received)
            lists = tuple(name for name, module in models.modules() if isinstance(module, (ModuleList, ModuleDict)))
            self._unfed[index] = unfed._replace(lists=lists)

    @staticmethod
    def _feed(unfed: Unfed) -> None:
        """Strike out those that have a gradient now."""
        for name, ref in list(unfed.names.items()):
            parameter = ref()
            wanted = parameter is not None and parameter.requires_grad
            fed = parameter is not None and parameter.grad is not None
            if reached(wanted=wanted, fed=fed) is not Reached.NEVER:
                del unfed.names[name]
                unfed.fed.add(name)

    def ended(self) -> None:
        for place, rebuilt in self._rebuilt.items():
            if rebuilt.steps and not self._sound:  # a backward that ran once, and the only one
                self._tell_rebuilt(rebuilt, place)
        for observer in self.session.observers.values():
            if observer.watched.index in self._unfed:
                self._tell_unfed(observer, self._unfed[observer.watched.index])

    def _tell_unfed(self, observer: Observer, unfed: Unfed) -> None:
        optimizer = observer.optimizer
        groups: dict[str, list[str]] = {}
        for name, ref in unfed.names.items():
            parameter = ref()
            if id(parameter) in self.session.check(Cuts).told:
                continue
            if optimizer is not None and parameter is not None and optimizer.state.get(parameter):
                continue  # it has had a gradient on a step that was only counted
            groups.setdefault(_prefix(name, unfed.fed), []).append(name)
        latest = observer.latest.get("backward") or observer.latest.get("step")
        alike: dict[tuple[str, bool], list[str]] = {}  # the same part of several blocks is one mistake
        for prefix, members in groups.items():
            branch = any(_is_branch(prefix, name) and _any_of(unfed.fed, name) for name in unfed.lists)
            alike.setdefault((_NUMBER.sub("*", prefix), branch), []).extend(members)
        for (_, branch), members in alike.items():
            self.session.take(
                NeverAGradient(
                    observer.scene(observer.built or (latest.mark if latest else None)),
                    names=tuple(members),
                    prefix=_prefix(members[0], unfed.fed),
                    checked=observer.watched.checked,
                    branch=branch,
                )
            )


def _first(marks: Iterator[Mark | None]) -> Mark | None:
    return next((mark for mark in marks if mark is not None), None)


def _sum_of(root: Tensor) -> tuple[str, Mark | None]:
    """The variable in which a loss is summed up, the root itself or a term of it, and where something is added."""
    import torch

    nodes = terms(root)
    for frame in sites.frames(3):
        for name, value in list(sites.variables(frame).items()):
            if isinstance(value, torch.Tensor) and value.grad_fn in nodes:
                made = stores.grown(frame, name)
                if made is not None:
                    return name, made
    return variable(root, sites.frames(3)), None


def roots_of(error: BaseException) -> list[Tensor]:
    """The tensors on which the backward was called that raised this, from the frame of torch in which it was."""
    import torch

    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "backward" and frame.f_globals.get("__name__") == "torch.autograd":
            roots = sites.variables(frame).get("tensors")
            roots = [roots] if isinstance(roots, torch.Tensor) else roots
            return [root for root in roots if isinstance(root, torch.Tensor)] if roots is not None else []
        trace = trace.tb_next
    return []


def _with_graph(frames: Sequence[FrameType]) -> Iterator[str]:
    """The variables that hold a tensor with a graph, newest first; of the innermost frame that has some."""
    import torch

    for frame in frames:
        found = [
            name
            for name, value in list(sites.variables(frame).items())
            if isinstance(value, torch.Tensor) and value.grad_fn is not None
        ]
        if found:
            yield from reversed(found)
            return


def _holder(frame: FrameType) -> str:
    """A variable of the frame, or an attribute of an object there, that holds many graphs; "" if there is none."""
    own = sites.variables(frame)
    scopes = [("", own)]
    scopes.append(("self.", attributes(own.get("self"))))
    if frame.f_globals is not own:
        scopes.append(("", frame.f_globals))
    things = [(name, value) for _, variables in scopes for name, value in list(variables.items())[:_LOOKED_IN]]
    scopes += [(f"{name}.", attributes(value)) for name, value in things if not name.startswith("__")]
    for before, variables in scopes:
        for name, value in list(variables.items()):
            if not name.startswith("__") and _holds_graphs(value):
                return before + name
    return ""


def _holds_graphs(value: object) -> bool:
    import torch

    if isinstance(value, torch.Tensor):
        return value.grad_fn is not None and _canaries_behind(value) >= FEW - 1
    if isinstance(value, dict):
        return any(_holds_graphs(item) for item in list(value.values())[:50])
    if not isinstance(value, (list, tuple)) and type(value).__name__ != "deque":
        return False
    items: Sequence[Any] = list(value)[:100]  # type: ignore[call-overload]
    graphs = [item for item in items if isinstance(item, torch.Tensor) and item.grad_fn is not None]
    inner = [item for item in items if isinstance(item, (list, tuple, dict))]
    return len(graphs) >= KEPT // 2 or any(
        isinstance(part, torch.Tensor) and part.grad_fn is not None for item in inner[-1:] for part in _values(item)
    )


def _values(item: Any) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else list(item)


def _canaries_behind(total: Tensor) -> int:
    """How many backwards' graphs a sum leads to."""
    found: set[int] = set()
    todo, left = [total.grad_fn], 50_000
    while todo and left and len(found) < KEPT:
        left -= 1
        node: Any = todo.pop()
        there = marked(node)
        if there is not None:
            found.add(there.number)
            continue
        todo += [following for following, _ in node.next_functions if following is not None]
    return len(found)


def _prefix(name: str, fed: set[str]) -> str:
    """The outermost module that has this parameter and none that was fed; else the one that it is in."""
    pieces = name.split(".")[:-1]
    for length in range(1, len(pieces) + 1):
        prefix = ".".join(pieces[:length])
        if not _any_of(fed, prefix):
            return prefix
    return ".".join(pieces)


def _is_branch(prefix: str, name: str) -> bool:
    """Whether it is one of the modules in a list, or several of them, and not a part of one that is in use."""
    return prefix == name or prefix.rpartition(".")[0] == name


def _any_of(names: set[str], prefix: str) -> bool:
    return any(name.startswith(f"{prefix}.") for name in names)
