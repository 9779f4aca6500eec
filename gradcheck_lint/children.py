"""Starting other processes such that they import nothing from the folder that we run in.

Where a process is not forked, Python starts `python -c "from multiprocessing ..."`, which looks for `multiprocessing`
in the working directory first: a linted repository that has a file of that name would be run.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = "PYTHONSAFEPATH"  # Python 3.11 and later leave the working directory out if it is set


@contextmanager
def shielded() -> Iterator[None]:
    """While processes are started: they do not look into the working directory."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = before


def harmless() -> bool:
    """Whether processes can be started safely; before Python 3.11 the names in the working directory tell."""
    if sys.version_info >= (3, 11):
        return True
    from multiprocessing import get_start_method

    if get_start_method() == "fork":
        return True
    try:
        names = {name.partition(".")[0] for name in os.listdir()}
    except OSError:  # it has been deleted
        return True
    return names.isdisjoint(sys.stdlib_module_names)
