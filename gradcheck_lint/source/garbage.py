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

OBJECTS = 500_000  # made since the last time and still there: about 60 MB

Settle = Callable[[], None]
"""To be called where much may have become garbage: it is looked for if there can be enough of it."""


@contextmanager
def suspended() -> Iterator[Settle]:
    """Garbage is looked for when the function that is handed out is called, and at the end."""
    collecting = gc.isenabled()
    free = gc.get_freeze_count() == 0  # else somebody else has put objects apart, and would lose that
    apart = False
    gc.disable()

    def settle() -> None:
        nonlocal apart
        if gc.get_count()[0] >= OBJECTS:
            gc.collect(0)
            if free:
                gc.freeze()
                apart = True

    try:
        yield settle
    finally:
        if apart:
            gc.unfreeze()
        if collecting:
            gc.collect(2 if apart else 0)  # all of it is dead, as nothing here holds it, and young unless put apart
            gc.enable()
