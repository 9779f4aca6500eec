"""`python -m gradcheck_lint` is the command `gradlint`."""

import os

from gradcheck_lint import start

if __name__ == "__main__":  # by -m: before anything else is imported
    start.clear_path(os.path.dirname(__file__))

import gc
import sys


def run() -> None:
    """The command, in a process of its own."""
    try:
        from gradcheck_lint.cli import main  # takes long enough for somebody to interrupt it
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        main(prog_name="gradlint", obj=True)  # nothing else runs in it
    finally:
        gc.freeze()  # else Python looks through all that was read for garbage before it ends


if __name__ == "__main__":
    run()
