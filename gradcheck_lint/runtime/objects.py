"""The objects of a kind that are alive, found without holding any other.

`gc.get_objects()` refers to everything there is. While a list of it is walked other threads go on, and what they let go
of meanwhile is freed by us, in our thread, at a moment that is not theirs.
"""

from __future__ import annotations

import gc
from collections import deque
from itertools import chain, compress, starmap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_bases = type.__dict__["__mro__"].__get__  # a metaclass may have another idea of it


def instances(kind: type) -> list[Any]:
    """All that the garbage collector knows whose type derives from this; takes up to a tenth of a second.

    `isinstance` would ask lazy proxies for their class, and so wake them.
    """
    things: list[Any] = []
    types: dict[int, type] = {}
    found: list[Any] = []
    collects = gc.isenabled()
    try:
        gc.disable()  # a collection runs code
        _walk(things, types.update, zip(map(id, map(type, things)), map(type, things), strict=True))
        wanted = frozenset(number for number, known in types.items() if any(base is kind for base in _bases(known)))
        _walk(things, found.extend, compress(things, map(wanted.__contains__, map(id, map(type, things)))))
    finally:
        things.clear()
        if collects:
            gc.enable()
    return found


def _walk(things: list[Any], take: Callable[[Any], None], lazily: Iterable[Any]) -> None:
    """Fill the list with everything, have something taken of it and clear it, in one call into C.

    No Python code runs meanwhile, and so no other thread comes to run.
    """
    filled = map(things.extend, starmap(gc.get_objects, ((),)))
    deque(chain(filled, starmap(take, ((lazily,),)), starmap(things.clear, ((),))), maxlen=0)
