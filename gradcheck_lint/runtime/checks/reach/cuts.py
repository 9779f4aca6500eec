"""What took part in the forward pass of a loss and got nothing from its backward, and who has cut it off.

Sighting: NeverAGradient, with the cut. Only what was called is looked at: a part that is not used for this loss may be
used for the next. Parameters that nobody is known to cut off are left to `losses`, which tells of them at the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.laws.reach import Reached, reached
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.by_hand import twins
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.holding.stray import FRESH
from gradcheck_lint.runtime.checks.holding.strays import Strays
from gradcheck_lint.runtime.checks.reach.ways import Way, between, valued
from gradcheck_lint.runtime.codes import reachable
from gradcheck_lint.runtime.cutters import mentions
from gradcheck_lint.runtime.graph import behind
from gradcheck_lint.runtime.passes import Passes
from gradcheck_lint.runtime.references import Place
from gradcheck_lint.runtime.sightings.reach import Cutting, NeverAGradient
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.passes import Called
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_AGREE = 2  # passes in a row that have to show the same
_LAST = 5  # the step of an optimizer after which no more is looked for
_MOST = 2000  # parameters that are followed


class Dry(NamedTuple):
    """A parameter that has had no gradient so far."""

    place: Place
    observer: Observer
    owner: Module
    key: str
    name: str
    root: Module  # the outermost module around it that has no parameter with a gradient


class Cuts(Check):
    """Listens to the calls of modules in the second and third step, where a parameter had no gradient in the first."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.told: set[int] = set()  # ids of parameters
        self.whole: dict[int, Way] = {}  # by optimizer: what has cut off all that it holds
        self._passes = Passes(session)
        self._dry: dict[int, Dry] = {}
        self._seen: dict[int, tuple[Way, int]] = {}  # by parameter: what cut it off in the latest pass, and how often
        self._dropped: dict[int, Way] = {}  # in the backward that runs: what a Function gives no gradient
        self._one: bool | None = None  # whether the program goes backward in one place alone

    # When

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        steps = observer.watched.steps
        if steps > _LAST or observer.opaque or observer.broken or self.session.options.level == "light":
            if self._passes.listens and steps > _LAST:
                self._stop()
            return
        if steps == 1:
            self._find(observer)
        elif self._dry:
            self._tell(observer)
        if self._dry:
            self._passes.listen()
        elif self._passes.listens:
            self._stop()

    def ended(self) -> None:
        self._stop()

    def leave(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self._passes.stop()
        self._dry, self._seen = {}, {}

    # What

    def _find(self, observer: Observer) -> None:
        """The parameters of an optimizer that its first step finds without a gradient."""
        fed = self.session.roster.fed()
        dry = {
            id(p): p
            for p in observer.parameters()[:_MOST]
            if p.numel() and reached(wanted=p.requires_grad, fed=p.grad is not None or id(p) in fed) is Reached.NEVER
        }
        if not dry:
            return
        for _, model in self.session.models:
            self._place(model, model, dry, observer, fed)

    def _place(self, module: Module, root: Module, dry: dict[int, Tensor], observer: Observer, fed: set[int]) -> None:
        """Note the dry parameters of a module, each with the outermost module that is dry as a whole."""
        whole = not any(id(p) in fed or p.grad is not None for p in root.parameters())
        if not whole:
            root = module
        for key, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in dry and id(parameter) not in self._dry:
                place = Place(observer, parameter)
                name = observer.name(parameter)
                self._dry[id(parameter)] = Dry(place, observer, module, key, name, root)
        for child in module._modules.values():
            if child is not None:
                self._place(child, root if whole else child, dry, observer, fed)

    # A pass

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        self._dropped = {}
        if not self._passes.listens or options.get("inputs") is not None:
            return
        found = self.session.backward.walk(roots)
        met = {id(leaf) for leaf in found.leaves} & self._dry.keys()
        if not met:
            return
        for node in found.functions:
            owner = type(node)._forward_cls
            code = sites.code_of(owner.backward)
            if code is None or sites.foreign(code.co_filename):
                continue
            for leaf in behind(node):
                if id(leaf) in met:
                    mark = stores.returned(code) or sites.Mark(code, -1, code.co_firstlineno)
                    self._dropped.setdefault(id(leaf), Way(Cutting.FUNCTION, mark, owner.__name__))

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        if not self._passes.listens:
            return
        calls, self._passes.calls = self._passes.calls, []
        called = {call.module for call in calls}
        fed = self._fed(calls)
        ways: dict[tuple[int, int], Way | None] = {}  # by the module that has the parameter, and the part that is dry
        for key, dry in list(self._dry.items()):
            parameter = dry.place()
            if parameter is None or parameter.grad is not None or not parameter.requires_grad:
                self._dry.pop(key)
                self._seen.pop(key, None)
                continue
            way = self._dropped.get(key)
            if way is None and id(dry.owner) in called:
                part = (id(dry.owner), id(dry.root))
                if part not in ways:
                    ways[part] = self._way(dry, calls, fed)
                way = ways[part] or valued(dry.owner, dry.key)
            known = self._seen.get(key)
            if way is None:
                if id(dry.owner) in called:
                    self._seen.pop(key, None)  # it was called, and nobody is seen to cut it off
            elif known is not None and known[0].alike(way):
                self._seen[key] = (way, known[1] + 1)
            else:
                self._seen[key] = (way, 1)
        self._dropped = {}

    def _fed(self, calls: list[Called]) -> list[Called]:
        """The calls of modules whose own parameters have gradients."""
        fed = {
            id(module)
            for _, module in self.session.models.modules()
            if any(p.grad is not None for p in module._parameters.values() if p is not None)
        }
        return [call for call in calls if call.module in fed]

    @staticmethod
    def _way(dry: Dry, calls: list[Called], fed: list[Called]) -> Way | None:
        own = [call for call in calls if call.module == id(dry.owner)]
        if all(not call.on and call.checkpoint is not None for call in own):
            held = own[0].checkpoint
            return Way(Cutting.CHECKPOINT, held) if held is not None else None
        parts = {id(module) for module in dry.root.modules()}
        return between([call for call in calls if call.module in parts], fed)

    # What is told

    def _tell(self, observer: Observer) -> None:
        ways: dict[tuple[Any, ...], list[tuple[Dry, Way]]] = {}
        certain: dict[tuple[int, Cutting], bool] = {}
        for key, (way, times) in self._seen.items():
            dry = self._dry[key]
            if dry.observer is not observer or times < _AGREE:
                continue
            part = (id(dry.root), way.cutting)
            if part not in certain:
                certain[part] = self._is_certain(dry, way)
            if certain[part]:
                ways.setdefault(way.key(), []).append((dry, way))
                self.told.add(key)
        for pairs in ways.values():
            way = pairs[0][1]
            if not observer.received:
                self.whole[observer.watched.index] = way  # told with the step that has nothing to use
                continue
            names = tuple(dry.name for dry, _ in pairs)
            scene = observer.scene(observer.mark_of("step"), 1)
            self.session.take(
                NeverAGradient(
                    scene, names=names, prefix=names[0].rpartition(".")[0], checked=observer.watched.steps,
                    branch=False, cutting=way.cutting, cut=resolve(way.mark), by=way.by,
                )
            )  # fmt: skip
        for key in self.told & self._dry.keys():
            del self._dry[key]
            self._seen.pop(key, None)

    def _is_certain(self, dry: Dry, way: Way) -> bool:
        """Whether it is a mistake for certain; to leave out a trained network by hand is a way to freeze it."""
        if way.cutting in (Cutting.CHECKPOINT, Cutting.FUNCTION, Cutting.VALUE):
            return True
        return self._goes_back_once() and all(map(self._is_new, dry.root.modules())) and not self._follows(dry.root)

    def _goes_back_once(self) -> bool:
        """Whether there is one place that goes backward: else another phase of the training may reach the rest."""
        if self._one is None:
            self._one = sum(mentions(code, "backward") for code in reachable(sites.frames(2))) == 1
        return self._one

    def _is_new(self, module: Module) -> bool:
        """Whether its parameters are as it was built, so that nobody has trained them."""
        strays = self.session.check(Strays)
        least, most = (1, FRESH if self.session.options.everything else 1) if _of_torch(module) else (0, 1)
        own = [p for p in module._parameters.values() if p is not None]
        return not own or (module.training and all(least <= p._version <= most and not strays.loads(p) for p in own))

    def _follows(self, root: Module) -> bool:
        """Whether it may be a target or an average of what is trained."""
        inner = {id(module) for module in root.modules()}
        return bool(twins([root], (m for _, m in self.session.models.modules() if id(m) not in inner)))


def _of_torch(module: Module) -> bool:
    return type(module).__module__.startswith("torch.nn")
