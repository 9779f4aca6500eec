"""GL003: a file that cannot be read as text. Reported by `gradcheck_lint.source.lint`, before anything else."""

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule


class UnreadableFile(Rule):
    code = "GL003"
    slug = "unreadable-file"
    severity = Severity.ERROR
