"""When garbage is looked for while an island is analysed.

Trees are many and live to the end, so Python's own collector, which goes through what is alive again and again, would
take a third of the time: it is switched off. What an entry point leaves behind is garbage as soon as that is judged,
in circles for the most part. After every so many objects it is looked for, among those that were made since the last
time; what is alive then is taken to live to the end.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gradcheck_lint.source import limits

Settle = Callable[[], None]
"""To be called where much may have become garbage: it is looked for if there can be enough of it."""


@contextmanager
def suspended() -> Iterator[Settle]:
    """Garbage is looked for when the function that is handed out is called, before the next time, and at the end.

    A process that has switched the collector off, as the command does, has what an island leaves cleared away before
    the next one, if it is much.
    """
    global _left
    collecting = gc.isenabled()
    free = gc.get_freeze_count() == 0  # else somebody else has put objects apart, and would lose that
    apart = False
    gc.disable()
    if _left:
        gc.collect()
        _left = False
    elif _much():
        gc.collect(0)  # all of it is young, as nothing was looked through, and dead, as nothing holds it any more

    def settle() -> None:
        nonlocal apart
        if _much():
            gc.collect(0)
            if free:
                gc.freeze()
                apart = True

    try:
        yield settle
    finally:
        if apart:
            gc.unfreeze()
            _left = True  # to look through all that takes long, and is for nothing if no other island comes
        if collecting:
            gc.collect(0)
            gc.enable()


_left = False  # what was put apart is garbage by now


def _much() -> bool:
    """Whether so many objects have been made since the last time, and are still there."""
    return gc.get_count()[0] >= limits.GARBAGE
