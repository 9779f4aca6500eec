"""What other threads are at, seen without holding their frames.

A frame that is held when its function returns lives on, with all its variables, and whoever held it frees them: in
another thread, at a moment that is not theirs.
"""

from __future__ import annotations

import faulthandler
import os
import re
import tempfile

_THREAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)")
_BACKWARD = re.compile(
    r'  File ".*torch[\\/](?:autograd[\\/]__init__|_tensor)\.py", line \d+ in backward'
)  # `torch.autograd.backward` or `Tensor.backward`
_CUT = "  ..."  # there are more frames than are written


def in_backward() -> frozenset[int] | None:
    """The threads that may be in a backward, this one among them; None if that is not known.

    Raises: nothing; where no temporary file can be written, nothing is known.
    """
    try:
        with tempfile.TemporaryFile() as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0, os.SEEK_SET)
            text = file.read().decode("utf-8", "replace")
    except (OSError, RuntimeError, ValueError):
        return None
    found: set[int] = set()
    thread = 0
    for line in text.splitlines():
        if head := _THREAD.match(line):
            thread = int(head[1], 16)
        elif line == "...":
            return None  # there are more threads than are written
        elif line == _CUT or _BACKWARD.match(line):
            found.add(thread)
    return frozenset(found)
