"""One module under several names that should be several: the places of a container, a network and its reference.

Sightings: LayerRepeated, OwnReference. Names and bytecode tell what was meant: a layer that is made inside of
`[...] * n` is repeated by a slip, and a reference that is run without gradients is there to be compared with.
"""

from __future__ import annotations

import dis
import linecache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.laws.holding import REFERENCE, SHARED
from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.codes import methods, reachable
from gradcheck_lint.runtime.cutters import straight
from gradcheck_lint.runtime.names import attributes
from gradcheck_lint.runtime.passes import Passes
from gradcheck_lint.runtime.sightings.holding import LayerRepeated, OwnReference
from gradcheck_lint.runtime.sites import Mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, FrameType

    from torch.nn import Module

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.passes import Called
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session

SWITCHED = frozenset({"disable_adapter", "disable_adapters", "set_adapter"})
_LISTENS, _LAST = 2, 4  # the steps of an optimizer after which calls are heard, and are not any more


class _Double(NamedTuple):
    """Two names of one network in one object, or in one function."""

    module: int  # its id
    name: str
    reference: str
    mark: Mark | None
    sure: bool  # the one name is given to it each time


class Aliases(Check):
    """Looks once for each model and optimizer; at calls of modules only where a network has two such names."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._passes = Passes(session)
        self._doubles: dict[int, _Double] = {}  # by observer
        self._silent: set[int] = set()  # observers whose network was run by the name of the reference, without grad
        self._looked: set[int] = set()  # containers

    def before_update(self, observer: Observer, mark: Mark | None) -> None:
        steps, index = observer.watched.steps, observer.watched.index
        if steps == 1:
            self._containers(observer)
        elif steps == _LISTENS:
            double = self._double(observer)
            if double is not None:
                self._doubles[index] = double
                self._passes.listen()
        elif self._doubles and steps <= _LAST and index in self._silent:
            self._tell(observer, self._doubles.pop(index))
        elif self._doubles and steps > _LAST:
            self._doubles.pop(index, None)
        if not self._doubles:
            self._passes.stop()

    def ended(self) -> None:
        self._passes.stop()

    def leave(self) -> None:
        self._passes.stop()

    # Containers

    def _containers(self, observer: Observer) -> None:
        from torch.nn import ModuleList, Sequential

        ids = observer.ids()
        for name, owner in self.session.models.modules():
            for key, child in owner._modules.items():
                if child is None or type(child) not in (ModuleList, Sequential) or id(child) in self._looked:
                    continue
                places = list(child._modules.values())
                first = places[0] if len(places) > 1 else None
                if first is None or any(place is not first for place in places):
                    continue
                self._looked.add(id(child))
                if any(id(p) in ids and p.requires_grad for p in first.parameters()):
                    self._repeated(observer, f"{name}.{key}", owner, key, places)

    def _repeated(
        self, observer: Observer, name: str, owner: Module, key: str, places: Sequence[Module | None]
    ) -> None:
        """Where the class that has the container assigns it, or it was given the container."""
        found = [(code, mark) for code in methods(type(owner)) if (mark := stores.set_on(code, key)) is not None]
        code, mark = found[0] if found else (None, None)
        if code is None:
            every = [(code, at) for code in reachable(sites.frames(2)) if (at := _repeats(code)) is not None]
            code, mark = every[0] if len(every) == 1 else (None, None)
        if code is None or SHARED.search(_text(code, type(owner))):
            return
        at = _repeats(code, mark)
        self.session.take(
            LayerRepeated(
                observer.scene(at or mark), names=(name,), layer=type(places[0]).__name__, places=len(places),
                sure=at is not None,
            )
        )  # fmt: skip

    # References

    def _double(self, observer: Observer) -> _Double | None:
        """A network that this optimizer trains, if something at hand has it twice."""
        frames = sites.frames(2)
        ids = observer.received.keys() & observer.ids()
        for owner, names, code in _holders(frames):
            for reference, other, module in _twice(names):
                if not any(id(p) in ids for p in module.parameters()):
                    continue
                setters = list(methods(type(owner))) if owner is not None else [code] if code is not None else []
                if any(not SWITCHED.isdisjoint(one.co_names) for one in setters):
                    return None
                wanted = f".{reference}" if owner is not None else reference
                marks = [(c, m) for c in setters for m in stores.assignments(c, wanted)]
                sure = len(marks) == 1 and straight(marks[0][0], marks[0][1].last)
                return _Double(id(module), other, reference, marks[0][1] if len(marks) == 1 else None, sure)
        return None

    def backward_ended(self, event: Event, touched: Sequence[Observer]) -> None:
        if not self._passes.listens:
            return
        calls, self._passes.calls = self._passes.calls, []
        for index, double in self._doubles.items():
            own = [call for call in calls if call.module == double.module]
            if any(call.on for call in own) and any(not call.on and _by(call, double.reference) for call in own):
                self._silent.add(index)

    def _tell(self, observer: Observer, double: _Double) -> None:
        names = (double.name, double.reference)
        self.session.take(OwnReference(observer.scene(double.mark), names=names, sure=double.sure))


def _text(code: CodeType, owner: type) -> str:
    """What the user has written there: of a class all of it, as far as its methods go."""
    codes = [one for one in methods(owner) if one.co_filename == code.co_filename] if code.co_name == "__init__" else []
    lines = [n for one in codes or [code] for _, _, n in one.co_lines() if n is not None]
    first = min((one.co_firstlineno for one in codes or [code]), default=1)
    return owner.__name__ + "".join(linecache.getlines(code.co_filename)[max(first - 4, 0) : max(lines, default=first)])


def _repeats(code: CodeType, stored: Mark | None = None) -> Mark | None:
    """The one place of a function at which something is made inside of `[...] * n`.

    stored: where the container is given to its attribute, if that is known, which the same statement has to do.
    """
    at = [one for one in dis.get_instructions(code) if one.opname not in ("CACHE", "PRECALL", "RESUME")]
    found = []
    for index, one in enumerate(at):
        if one.opname != "BUILD_LIST" or one.arg != 1 or not index or not at[index - 1].opname.startswith("CALL"):
            continue
        if not any(other.opname == "BINARY_OP" and other.argrepr == "*" for other in at[index + 1 : index + 6]):
            continue
        between = [other for other in at[index:] if stored is not None and other.offset <= stored.last]
        if stored is None or (one.offset < stored.last and not any(b.opname.startswith("STORE_") for b in between)):
            found.append(Mark(code, one.offset, stores.line_of(code, one.offset)))
    return found[0] if len(found) == 1 else None


def _holders(frames: Sequence[FrameType]) -> Iterator[tuple[object, dict[str, object], CodeType | None]]:
    """The objects at hand with what they have, and the functions with their variables."""
    seen: set[int] = set()
    for frame in frames:
        variables = dict(sites.variables(frame))
        yield None, variables, frame.f_code
        for value in variables.values():
            if id(value) not in seen:
                seen.add(id(value))
                found = attributes(value)
                found.update(found.get("_modules") or {})
                yield value, found, None


def _twice(names: dict[str, object]) -> Iterator[tuple[str, str, Module]]:
    """The name of a reference, another name of the same network, and the network."""
    from torch.nn import Module

    for reference, thing in names.items():
        if REFERENCE.search(reference) and issubclass(type(thing), Module):
            for other, same in names.items():
                if same is thing and not REFERENCE.search(other) and not other.startswith("__"):
                    yield reference, other, thing  # type: ignore[misc]
                    break


def _by(call: Called, reference: str) -> bool:
    """Whether a call came about in a line of the user's that says the name of the reference."""
    for code, last in call.trail:
        line = stores.line_of(code, last)
        names = (at.argval for at, _ in pairwise(dis.get_instructions(code)) if stores.line_of(code, at.offset) == line)
        if any(name == reference or (isinstance(name, tuple) and reference in name) for name in names):
            return True
    return False
