"""Functions of the user's whose backward never looks at what comes in, where something else comes in than ones.

By the bytecode of `backward`, which has to use none of its arguments but `ctx`, and by the gradient that came in.
Sighting: IncomingIgnored.
"""

from __future__ import annotations

import dis
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.numbers.values import Values
from gradcheck_lint.runtime.reading import plain
from gradcheck_lint.runtime.sightings.reach import IncomingIgnored

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType

    from torch import Tensor

    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session

Gradients = tuple["Tensor | None", ...]
_WALKS = 3  # backwards whose graph is looked at
_LARGE = 1_000_000  # elements of a gradient that are looked at


class Ignoring(Check):
    """Puts a hook into the graph of the first losses, where it has such a Function."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._told: set[type] = set()

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if self.session.backwards >= _WALKS:
            self.session.guard.dismiss("backward_begins", self.backward_begins)
        for node in self.session.backward.walk(roots).functions:
            owner = type(node)._forward_cls
            code = sites.code_of(owner.backward)
            if code is None or sites.foreign(code.co_filename) or owner in self._told or not ignores(code):
                continue
            wanted = tuple(bool(needs) for needs in node.needs_input_grad)
            node.register_hook(partial(self._comes, owner, code, wanted))

    def _comes(self, owner: type, code: CodeType, wanted: tuple[bool, ...], out: Gradients, came: Gradients) -> None:
        """A gradient has come in, and others go out; all are left as they are."""
        self.session.guard.run(self._look, owner, code, wanted, out, came)

    def _look(self, owner: type, code: CodeType, wanted: tuple[bool, ...], out: Gradients, came: Gradients) -> None:
        import torch

        given = [one for gradient in came if gradient is not None and (one := _small(gradient)) is not None]
        gone = [one for gradient in out if gradient is not None and (one := _small(gradient)) is not None]
        if owner in self._told or len(given) != len(came) or not gone:
            return
        with torch.no_grad():
            ones = [(one != 1).any().float() for one in given]
            some = torch.stack([(one != 0).any().float() for one in gone]).amax()  # a step has none, whatever comes
            found = torch.stack([*ones, some])
        one_number = all(gradient.numel() == 1 for gradient in given)
        sure = (one_number and all(wanted)) or _keeps_input(sites.code_of(getattr(owner, "forward", None)), wanted)
        self.session.check(Values).plans.later.read([found], partial(self._judge, owner, code, sure))

    def _judge(self, owner: type, code: CodeType, sure: bool, values: list[list[float]]) -> None:
        if owner not in self._told and all(values[0]):
            self._told.add(owner)
            mark = stores.returned(code) or sites.Mark(code, -1, code.co_firstlineno)
            names = code.co_varnames[1 : code.co_argcount]
            scene = self.session.scene_of_next(mark)
            self.session.take(IncomingIgnored(scene, names=names, owner=owner.__name__, sure=sure))


def _small(tensor: Tensor) -> Tensor | None:
    return plain(tensor) if tensor.numel() <= _LARGE else None


def _keeps_input(code: CodeType | None, wanted: tuple[bool, ...]) -> bool:
    """Whether all that a `forward` keeps are its own arguments, and one of them is among those it has a gradient for.

    Else what it keeps may be that gradient itself, computed elsewhere: a guess, or what another network says.
    """
    if code is None:
        return False
    kept = _kept(code)
    names = code.co_varnames[1 : code.co_argcount]
    return set(kept) <= {*names} and any(needs and name in kept for name, needs in zip(names, wanted, strict=False))


@lru_cache(256)
def _kept(code: CodeType) -> tuple[str, ...]:
    """The variables given to `save_for_backward`, "" for anything else; nothing where it is not called just once."""
    found: list[tuple[str, ...]] = []
    names: list[str] | None = None
    for at in dis.get_instructions(code):
        if names is None:
            names = [] if at.argval == "save_for_backward" else None
        elif at.opname in ("CALL", "CALL_METHOD", "CALL_FUNCTION", "CALL_FUNCTION_EX"):
            found.append(tuple(names))
            names = None
        elif at.opname.startswith("LOAD_FAST"):
            names += at.argval if isinstance(at.argval, tuple) else (at.argval,)
        elif at.opname not in ("PRECALL", "CACHE", "PUSH_NULL", "NOP", "EXTENDED_ARG"):
            names.append("")
    return found[0] if len(found) == 1 else ()


@lru_cache(256)
def ignores(code: CodeType) -> bool:
    """Whether a `backward` uses none of the gradients that come in, and returns something made of what it has kept."""
    names = frozenset(code.co_varnames[1 : code.co_argcount])
    if not names or code.co_flags & 0x0C or any(name.startswith("_") for name in names):
        return False
    if names & {*code.co_cellvars} or "saved_tensors" not in code.co_names:
        return False
    return not any(
        at.opname.startswith(("LOAD_FAST", "LOAD_CLOSURE", "LOAD_DEREF"))
        and (at.argval in names or (isinstance(at.argval, tuple) and not names.isdisjoint(at.argval)))
        for at in dis.get_instructions(code)
    )
