"""GL002: a suppression comment that does nothing. Reported by `gradcheck_lint.source.suppress`."""

from gradcheck_lint.finding import Safety, Severity
from gradcheck_lint.rule import Rule


class UnusedSuppression(Rule):
    code = "GL002"
    slug = "unused-suppression"
    severity = Severity.WARNING
    fix = Safety.SAFE
