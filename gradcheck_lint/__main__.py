"""`python -m gradcheck_lint` is the command `gradlint`."""

import gc

from gradcheck_lint.cli import main


def run() -> None:
    """The command, in a process of its own."""
    try:
        main(prog_name="gradlint", obj=True)  # nothing else runs in it
    finally:
        gc.freeze()  # else Python looks through all that was read for garbage before it ends


if __name__ == "__main__":
    run()
