"""`python -m gradcheck_lint` is the command `gradlint`."""

from gradcheck_lint.cli import main

if __name__ == "__main__":
    main(prog_name="gradlint")
