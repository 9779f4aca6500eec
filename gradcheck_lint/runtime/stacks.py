"""What other threads are at, seen without holding their frames.

A frame that is held when its function returns lives on, with all its variables, and whoever held it frees them: in
another thread, at a moment that is not theirs.
"""

from __future__ import annotations

import gc
import os
import sys
from itertools import accumulate, chain, repeat, starmap, takewhile
from operator import attrgetter, methodcaller, truth

_AUTOGRAD = (os.path.join("torch", "autograd", "__init__.py"), os.path.join("torch", "_tensor.py"))
_where = attrgetter("f_code.co_name", "f_code.co_filename")


def in_backward() -> frozenset[int]:
    """The threads that are in a backward, this one among them: `torch.autograd.backward` or `Tensor.backward`."""
    threads: set[int] = set()
    collects = gc.isenabled()
    try:
        gc.disable()  # a collection runs code
        threads.update(chain.from_iterable(starmap(sys._current_frames, ((),))))
        return frozenset(thread for thread in threads if _goes_backward(thread))
    finally:
        if collects:
            gc.enable()


def _goes_backward(thread: int) -> bool:
    """Whether there is a backward on the stack of a thread, which may have ended.

    All its frames are gone through in one call into C. No Python code runs meanwhile, and so no other thread.
    """
    innermost = map(methodcaller("get", thread), starmap(sys._current_frames, ((),)))
    frames = takewhile(truth, accumulate(chain(innermost, repeat("f_back")), getattr))
    places: list[tuple[str, str]] = []
    places.extend(map(_where, frames))
    return any(name == "backward" and file.endswith(_AUTOGRAD) for name, file in places)
