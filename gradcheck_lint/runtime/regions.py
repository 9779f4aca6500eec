"""Where autocast was on: the blocks that the program has entered lately, while somebody wants to know.

Autograd numbers the nodes that it makes, in each thread for itself. The numbers at the beginning and the end of a block
tell later which nodes of a graph were made in it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.structs import struct

if TYPE_CHECKING:
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sites import Mark

_MOST = 1000  # blocks that are remembered


@struct
class Region:
    """One block, from where it was entered to where it was left."""

    number: int  # counts all blocks
    context: int  # the id of the context manager
    device: str
    dtype: str  # "bfloat16"
    on: bool  # False for `enabled=False`
    grad: bool  # whether a graph was built when it was entered
    first: int  # the number that autograd gives to the next node
    thread: int
    own: bool  # whether the user's own code entered it, and no library
    mark: Mark | None
    last: int | None = None

    def made(self, node: int) -> bool:
        """Whether it was in this block that the node of this number was made."""
        return self.first <= node and (self.last is None or node < self.last)


RECENT: deque[Region] = deque(maxlen=_MOST)
LOOKING: list[Session] = []  # those that want to know
_open: dict[int, list[Region]] = {}  # by thread: those that were entered and not left yet
_count = 0


def available() -> bool:
    """Whether this torch tells how it numbers nodes."""
    return _counter() is not None


def _counter() -> Any:
    import torch

    return getattr(torch._C._autograd, "_get_sequence_nr", None)


def entered(context: Any) -> None:
    """A block begins."""
    import torch

    global _count
    _count += 1
    region = Region(
        _count,
        id(context),
        str(context.device),
        str(context.fast_dtype).removeprefix("torch."),
        bool(context._enabled),
        torch.is_grad_enabled(),
        _counter()(),
        threading.get_ident(),
        _by_the_user(),
        sites.here(3),
    )
    RECENT.append(region)
    _open.setdefault(region.thread, []).append(region)


def left(context: Any) -> None:
    """A block ends; it may have been entered while nobody looked."""
    own = _open.get(threading.get_ident(), [])
    for region in reversed(own):
        if region.context == id(context):
            region.last = _counter()()
            own.remove(region)
            return


def count() -> int:
    """How many blocks there have been."""
    return _count


def look(session: Session) -> None:
    """Take note of blocks from now on."""
    if not LOOKING:
        RECENT.clear()
        _open.clear()
    if session not in LOOKING and available():
        LOOKING.append(session)


def look_away(session: Session) -> None:
    """This one has seen enough."""
    if session in LOOKING:
        LOOKING.remove(session)
    if not LOOKING:
        RECENT.clear()
        _open.clear()


def _by_the_user() -> bool:
    """Whether the first frame above ours and torch's is the user's."""
    import torch

    home = os.path.dirname(str(torch.__file__)) + os.sep
    frame = sys._getframe(1)
    while (file := frame.f_code.co_filename).startswith(home) or sites.ours(file):
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return not sites.foreign(file)
