"""GL001: a file does not parse. Reported by the engine, which is the one that parses."""

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule


class SyntaxErrorInFile(Rule):
    code = "GL001"
    slug = "syntax-error"
    severity = Severity.ERROR
