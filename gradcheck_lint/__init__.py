"""gradlint: finds gradient, optimizer and autograd mistakes in PyTorch training code.

Importing the package imports neither torch nor libcst; each name is loaded when it is first asked for. Nothing at all
is imported here, not even `__future__`: under `python -m` a stranger's module of that name could come first (`start`).
"""

TYPE_CHECKING = False  # for a type checker it is true, as that of `typing`
if TYPE_CHECKING:
    from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.runtime.guard import FindingError
    from gradcheck_lint.runtime.watch import GradlintWarning, watch

__version__ = "0.1.0"

_HOMES = {
    "Confidence": "finding",
    "Edit": "finding",
    "Finding": "finding",
    "Fix": "finding",
    "Related": "finding",
    "Safety": "finding",
    "Severity": "finding",
    "Span": "finding",
    "FindingError": "runtime.guard",
    "GradlintWarning": "runtime.watch",
    "Rule": "rule",
    "watch": "runtime.watch",
}

__all__ = [
    "Confidence",
    "Edit",
    "Finding",
    "FindingError",
    "Fix",
    "GradlintWarning",
    "Related",
    "Rule",
    "Safety",
    "Severity",
    "Span",
    "__version__",
    "watch",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
