"""GL602: an autograd Function returns the wrong gradients in number or shape, or keeps tensors on `ctx`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Rule
from gradcheck_lint.runtime.sightings.reach import KeptOnContext, WrongNumber, WrongShape, WrongType

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting


class FunctionContextMisuse(Rule):
    code = "GL602"
    slug = "function-context-misuse"
    severity = Severity.ERROR
    witnesses = frozenset({"run"})
    watches = (WrongNumber, WrongShape, WrongType, KeptOnContext)

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, KeptOnContext):
            self.kept(sighting, report)
            return
        assert isinstance(sighting, (WrongNumber, WrongShape, WrongType))
        owner = sighting.owner
        if isinstance(sighting, WrongNumber):
            told = f"returns {_count(sighting.got)} for {sighting.expected} inputs"
            help = f"return one gradient for each argument of `{owner}.forward` after `ctx`; None where there is none"
        elif isinstance(sighting, WrongShape):
            told = f"the gradient at index {sighting.index} is {sighting.got}, and torch expected {sighting.expected}"
            help = "give each gradient the shape of its input: sum over the dimensions that were broadcast"
        else:
            told = f"returns a {sighting.got} where a tensor or None belongs"
            help = "return tensors, and None for arguments that have no gradient"
        report(
            "what an autograd Function returns from backward does not fit its inputs",
            label=f"{sighting.at_step}: `{owner}.backward` {told}",
            why="torch refuses to go on with this backward",
            help=help,
            related=[("backward was called here", sighting.called)],
            subject=owner,
        )

    def kept(self, sighting: KeptOnContext, report: RunReport) -> None:
        owner, names = sighting.owner, " and ".join(f"ctx.{name}" for name in sighting.names)
        output = sighting.output
        if output:
            why = "output and graph hold each other, so memory is freed only when the garbage collector happens to run"
        else:
            why = "torch cannot see that it is changed in place before backward, and keeps it as long as the graph"
        verb = "hold" if len(sighting.names) > 1 else "holds"
        report(
            f"an autograd Function keeps its {'output' if output else 'input'} as an attribute of ctx",
            label=f"{sighting.at_step}: `{names}` {verb} {'what' if output else 'a tensor that'} `{owner}` "
            f"{'returns' if output else 'was given'}",
            why=why,
            help="hand it to `ctx.save_for_backward(...)` and read `ctx.saved_tensors` in backward",
            confidence=Confidence.HIGH if output else Confidence.MEDIUM,
            subject=f"{owner} {'output' if output else 'input'}",
        )


def _count(number: int) -> str:
    return f"{number} gradient{'' if number == 1 else 's'}"
