"""Where Python looks for modules when the command starts: not in the folder that it runs in.

`python -m` puts the working directory before all else, and the code that is linted may lie there: its `click.py` or
`ast.py` would be imported in place of the real one. What Python imports before it comes to us we cannot help
(docs/security.md says what can be done about that).
"""

import os
import sys

cleared = False  # whether the first entry of `sys.path` has been taken away


def clear_path(package_folder: str) -> None:
    """Take the working directory from the front of `sys.path`, where `python -m` has put it.

    If we live there ourselves (a checkout) it goes to the end: other processes have to find us.
    """
    global cleared
    if cleared or not sys.path or getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        return
    try:
        here = os.getcwd()
    except OSError:  # it has been deleted
        here = ""
    if sys.path[0] not in ("", here):
        return
    del sys.path[0]
    cleared = True
    if os.path.dirname(os.path.abspath(package_folder)) == here:
        sys.path.append(here)
