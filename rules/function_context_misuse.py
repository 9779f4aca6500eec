"""GL602: an autograd Function returns the wrong gradients, in number or shape or none, or keeps tensors on `ctx`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.facts import repair
from gradcheck_lint.finding import Confidence, Fix, Safety, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.reach import (
    Cutting,
    IncomingIgnored,
    KeptOnContext,
    NeverAGradient,
    WrongNumber,
    WrongShape,
    WrongType,
)
from gradcheck_lint.source import tree
from gradcheck_lint.source.place import Place, name_of

if TYPE_CHECKING:
    from gradcheck_lint.facts.applied import Applied
    from gradcheck_lint.facts.classes import ClassFacts
    from gradcheck_lint.facts.functions import FunctionFacts, Given
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting

_RING = "output and graph hold each other, so memory is freed only when the garbage collector happens to run"
_HIDDEN = "torch cannot see that it is changed in place before backward, and keeps it as long as the graph"


class FunctionContextMisuse(Rule):
    code = "GL602"
    slug = "function-context-misuse"
    severity = Severity.ERROR
    fix = Safety.SAFE
    witnesses = frozenset({"source", "run"})
    watches = (WrongNumber, WrongShape, WrongType, KeptOnContext, NeverAGradient, IncomingIgnored)
    triggers = r"\bdef backward\("

    def on_class(self, facts: ClassFacts, report: Report) -> None:
        from gradcheck_lint.facts.functions import FunctionFacts

        function = FunctionFacts.of(facts)
        if function is None or facts.cls is None or facts.cls.members.get("backward") is not function.backward:
            return  # not a Function, or its backward is that of another class
        wrong = [given for given in function.given if self.number(function, given, report)]
        if not wrong:
            self.ignored(function, report)
            self.parameters(function, report)
        self.unpacked(function, report)
        self.called(function, report)
        self.attributes(function, report)

    def number(self, function: FunctionFacts, given: Given, report: Report) -> bool:
        """Tell of a `return` with more or fewer gradients than `forward` has inputs; whether it has."""
        got, least, most = len(given.gradients), function.required, function.most
        surplus = [] if most is None else given.gradients[most:]
        if least <= got and (most is None or got < most):
            least = _handed(function, got)  # inputs with a default count where they are given
        if got >= least and not any(function.is_tensor(node) for node in surplus):
            return False
        wanted = f"{least}" if least == most else f"at least {least}" if got < least else f"at most {most}"
        name = function.facts.name
        report(
            function.backward.place(given.at),
            "an autograd Function returns another number of gradients than it has inputs",
            label=f"returns {_count(got)}, and `{name}.forward` has {wanted} input{'' if wanted == '1' else 's'}",
            why="torch raises a RuntimeError as soon as a backward comes here",
            help=f"return one gradient for each argument of `{name}.forward`{' after `ctx`' if function.ctx else ''};"
            " None where there is none",
            related=[("the inputs are named here", name_of(function.forward.place(function.forward.function)))],
        )
        return True

    def ignored(self, function: FunctionFacts, report: Report) -> None:
        """Tell of a `backward` that never looks at the gradient that comes in."""
        given = function.unread()
        if given is None:
            return
        came = " and ".join(f"`{name}`" for name in function.incoming)
        report(
            function.backward.place(given.at),
            "the backward of an autograd Function ignores the gradient that comes in",
            label=f"nothing of {came} goes into what `{function.facts.name}` returns",
            why="a weight of the loss, the scale of a GradScaler and all that comes after this Function have no effect",
            help=f"multiply with it: the gradient of an input is `{function.incoming[0]}` times the derivative",
            related=[("it comes in here", name_of(function.backward.place(function.backward.function)))],
            # a name with an underscore says that it is not read on purpose
            confidence=Confidence.MEDIUM if function.incoming[0].startswith("_") else Confidence.HIGH,
        )

    def parameters(self, function: FunctionFacts, report: Report) -> None:
        """Tell of None for an input that is a parameter of a module."""
        from gradcheck_lint.facts.applied import applied, trained

        missing = set(function.without_gradient())
        if not missing or not function.differentiable():
            return  # a Function without any gradient is meant to have none
        for site in applied(function.facts):
            for index, argument in enumerate(site.call.args):
                if argument.star or argument.keyword is not None:
                    break
                node = argument.value
                if index not in missing or not isinstance(node, tree.Attribute) or tree.dotted(node.value) != "self":
                    continue
                if site.owner is None or not trained(function.facts.machine, site.owner, node.attr):
                    continue
                name, at = function.inputs[index].name, function.given[0].at
                report(
                    function.backward.place(at),
                    "an autograd Function returns None for a parameter",
                    label=f"the gradient of `{name}` is None on every path",
                    why=f"`self.{node.attr}` of `{site.owner.name}` never gets a gradient through it, and never learns",
                    help=f"return the gradient of `{name}`, and None only where it is not needed",
                    note="a parameter that is frozen on purpose needs none: say so by `requires_grad_(False)`",
                    related=[(f"`self.{node.attr}` is handed over here", site.place)],
                )
                return

    def called(self, function: FunctionFacts, report: Report) -> None:
        """Tell of calls of a Function that are not `apply`."""
        from gradcheck_lint.facts.applied import mistaken

        if function.most is None or function.most != function.required:
            return
        name = function.facts.name
        for site, instance in mistaken(function.facts, function.most, bool(function.ctx)):
            report(
                site.place,
                "an autograd Function is called without `apply`",
                label="makes an object of it and calls that" if instance else "has no context to keep anything in",
                why="torch raises a RuntimeError: the way that autograd goes is through `apply` alone"
                if instance
                else "Python raises a TypeError, and with a context of its own it would be left out of the graph",
                help=f"call `{name}.apply(...)`",
                related=[("the Function is here", name_of(function.forward.place(function.forward.function)))],
                fix=self.applied(site),
            )

    @staticmethod
    def applied(site: Applied) -> Fix | None:
        """Call `apply` in place of the object or of `forward`."""
        func = site.call.func
        made = func.value if isinstance(func, tree.Attribute) else func
        given = site.call.args
        if (isinstance(made, tree.Call) and made.args) or any(a.keyword is not None for a in given):
            return None  # `apply` takes no keywords
        if given and isinstance(given[0].value, tree.Constant) and given[0].value.value is None:
            return None  # a context of one's own
        said = tree.dotted(made.func if isinstance(made, tree.Call) else made)
        if not said:
            return None
        place = Place(site.place.chunk, func)
        return Fix("call `apply`", Safety.SAFE, (repair.replace(place, f"{said}.apply"),))

    def unpacked(self, function: FunctionFacts, report: Report) -> None:
        """Tell of saved tensors that are unpacked into another number of names."""
        found = function.mismatch()
        if found is None:
            return
        statement, names, saved = found
        report(
            function.backward.place(statement),
            "backward unpacks another number of tensors than forward has saved",
            label=f"{names} name{'' if names == 1 else 's'} for {saved} saved tensor{'' if saved == 1 else 's'}",
            why="Python raises a ValueError as soon as a backward comes here",
            help="unpack as many as `save_for_backward` is given, in the same order",
        )

    def attributes(self, function: FunctionFacts, report: Report) -> None:
        """Tell of an input or output that is kept as an attribute of the context."""
        for target, output in function.kept():
            kept = tree.dotted(target)
            why = _RING if output else _HIDDEN
            report(
                function.forward.place(target),
                f"an autograd Function keeps its {'output' if output else 'input'} as an attribute of ctx",
                label=f"`{kept}` holds {'what' if output else 'a tensor that'} `{function.facts.name}` "
                f"{'returns' if output else 'is given'}",
                why=why,
                help=f"hand it to `{function.ctx}.save_for_backward(...)` and read `saved_tensors` in backward",
                confidence=Confidence.HIGH if output else Confidence.MEDIUM,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, KeptOnContext):
            self.kept(sighting, report)
            return
        if isinstance(sighting, NeverAGradient):
            if sighting.cutting is Cutting.FUNCTION and not sighting.branch:
                self.withheld(sighting, report)
            return
        if isinstance(sighting, IncomingIgnored):
            came = " and ".join(f"`{name}`" for name in sighting.names)
            report(
                "the backward of an autograd Function ignores the gradient that comes in",
                label=f"nothing of {came} goes into what `{sighting.owner}` returns, and it was not 1",
                why="a weight of the loss, the scale of a GradScaler and all that comes after this Function "
                "have no effect",
                help=f"multiply with it: the gradient of an input is `{sighting.names[0]}` times the derivative",
                subject=sighting.owner,
                confidence=Confidence.HIGH if sighting.sure else Confidence.MEDIUM,
            )
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

    def withheld(self, sighting: NeverAGradient, report: RunReport) -> None:
        from gradcheck_lint.runtime.layers import told

        one = len(sighting.names) == 1
        report(
            "an autograd Function returns None for a parameter",
            site=sighting.cut,
            label=f"the gradient of {told(sighting.names)} is None",
            why=f"{'it never gets a gradient' if one else 'they never get a gradient'} through `{sighting.by}`, and "
            f"never {'learns' if one else 'learn'}",
            help=f"return {'its gradient' if one else 'their gradients'} there, or freeze {'it' if one else 'them'} by "
            "`requires_grad_(False)`",
            related=[("the optimizer is built here", sighting.built)],
            subject=sighting.prefix,
        )

    def kept(self, sighting: KeptOnContext, report: RunReport) -> None:
        owner, names = sighting.owner, " and ".join(f"ctx.{name}" for name in sighting.names)
        output = sighting.output
        why = _RING if output else _HIDDEN
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


def _handed(function: FunctionFacts, got: int) -> int:
    """The most inputs that a call of the project gives, if these are more than so many; else that number."""
    from gradcheck_lint.facts.applied import applied

    counts = [len(site.call.args) for site in applied(function.facts) if not any(a.star for a in site.call.args)]
    return max([got, *counts])


def _count(number: int) -> str:
    return f"{number} gradient{'' if number == 1 else 's'}"
