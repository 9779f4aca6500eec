"""GL312: options that an optimizer refuses, ignores, or that make it stand still."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_lint.facts import handed, query
from gradcheck_lint.facts import optimizer_options as known
from gradcheck_lint.facts.optimizer_options import Wrong
from gradcheck_lint.facts.rate_functions import Factor, odd_factors, spoken
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.rule import Report, Rule
from gradcheck_lint.runtime.sightings.building import OddOption, ZeroRate
from gradcheck_lint.runtime.sightings.clock import RateAsFactor
from gradcheck_lint.source import tree
from gradcheck_lint.source.events import AddGroup, Build, BuildOptimizer, LoadState, Step
from gradcheck_lint.source.natures import Optimizer, moves, nature
from gradcheck_lint.source.values import Items, Table, Thing, Value, options

if TYPE_CHECKING:
    from gradcheck_lint.rule import RunReport
    from gradcheck_lint.runtime.sighting import Sighting
    from gradcheck_lint.source.timeline import Timeline


class InvalidOptimizerOptions(Rule):
    code = "GL312"
    slug = "invalid-optimizer-options"
    severity = Severity.ERROR
    witnesses = frozenset({"source", "run"})
    needs = (AddGroup, Build)
    watches = (OddOption, ZeroRate, RateAsFactor)
    yields_to = frozenset({("GL802", "optimizer")})

    def on_timeline(self, timeline: Timeline, report: Report) -> None:
        for factor in odd_factors(timeline):
            self.factor(factor, report)
        for event in timeline.events(*handed.KINDS):
            for optimizer in options(event.subject):
                if not isinstance(optimizer, Thing) or handed.refused(event) or not handed.takes_parameters(event):
                    continue
                name = query.torch_class(optimizer)
                if name not in known.ORDER:
                    continue
                found = added(name, event) if isinstance(event, AddGroup) else built(name, event, optimizer)
                wrong = next(found, None) or standstill(timeline, event, optimizer)
                if wrong is None:
                    continue
                report(
                    event.place,
                    wrong.message,
                    label=f"gives `{name}` an option that does not do what it says",
                    why=wrong.why,
                    help=wrong.help,
                    confidence=Confidence.HIGH if plain(event, name) else Confidence.MEDIUM,
                )
                break

    def factor(self, factor: Factor, report: Report) -> None:
        """A function of a rate returns what makes no sense as a factor."""
        name = spoken(factor)
        related = [("the schedule is built here", factor.schedule.place)] if factor.schedule.place is not None else []
        if factor.rate:
            report(
                factor.place,
                "the function of a `LambdaLR` returns a rate",
                label="is the rate that the optimizer has already",
                why=f"torch multiplies the rate by it once more, and trains with the square of `{name}`",
                help=f"return the factor alone, without `{name}`",
                related=related,
            )
        elif factor.first:
            report(
                factor.place,
                "the learning rate is 0 for the whole first epoch",
                label="is 0 where the count of epochs begins",
                why="the schedule moves once per epoch, and a step with a rate of 0 moves nothing",
                help="count from 1 in the function",
                related=related,
                confidence=Confidence.MEDIUM,  # another arm of the function may be for the first epoch
            )
        else:
            report(
                factor.place,
                "the factor of a rate is a floor division, which is 0 at first",
                label="is 0 until the divisor is reached, and a whole number after that",
                why="a step with a rate of 0 moves nothing",
                help="divide by `/`",
                related=related,
            )

    def on_sighting(self, sighting: Sighting, report: RunReport) -> None:
        if isinstance(sighting, ZeroRate):
            name, given = sighting.optimizer.label if sighting.optimizer else "optimizer", sighting.given
            turned = isinstance(given, (int, float)) and given != 0
            says = f"built with {given:g}, but the" if turned else "the"
            report(
                "the learning rate is 0",
                site=sighting.built,
                label=f"{says} rate of every group was 0 at each of {sighting.steps} steps",
                why="a step with a rate of 0 moves nothing",
                help=f"look at the scheduler of `{name}`, or at who else sets `{name}.param_groups[0]['lr']`"
                if turned
                else "give a rate, or leave out the steps",
                related=[("steps here", sighting.site)],
            )
            return
        if isinstance(sighting, RateAsFactor):
            name = sighting.optimizer.label if sighting.optimizer else "optimizer"
            report(
                "the function of a `LambdaLR` returns a rate",
                label=f"gives {sighting.base:g}, which is the rate that `{name}` has already",
                why=f"torch multiplies the rate by it once more, and trains with {sighting.rate:.3g}",
                help="return the factor alone, which begins at 1",
            )
            return
        assert isinstance(sighting, OddOption)
        option = sighting.option
        if sighting.likely:
            label, why = f"`{option}` is no option of this optimizer", "the group is trained by the option of all"
            help = f"write `{sighting.likely}`"
        elif option == "nesterov":
            label, why = "nesterov=True without momentum", "without momentum there is nothing to look ahead along"
            help = "give a momentum above 0, or leave out nesterov"
        else:
            label, why = f"`{option}` is {sighting.value}", "each step goes against the descent, and the loss rises"
            help = "give a positive rate, and maximize=True if the loss is to grow"
        report("an option of the optimizer makes no sense", label=label, why=why, help=help, subject=option)


def plain(event: handed.Handing, name: str) -> bool:
    """Whether the code names this very optimizer, and does not choose among several."""
    node = event.place.node
    return isinstance(event, AddGroup) or (isinstance(node, tree.Call) and tree.last_name(node.func) == name)


def built(name: str, event: BuildOptimizer, optimizer: Thing) -> Iterator[Wrong]:
    """What is wrong where an optimizer is built."""
    args, node = event.args, event.place.node
    # what comes by `**` may be meant for another branch of those that choose an optimizer, and torch refuses it there
    written = {a.keyword for a in node.args} if isinstance(node, tree.Call) else set(args.keywords)
    given: dict[str, Value] = {k: v for k, v in args.keywords.items() if k != "params" and k in written}
    for index, value in enumerate(args.positional[1:]):
        option = known.positional(name, index)
        if option is not None:
            given[option] = value
    complete = not args.open and len(args.positional) <= 4
    yield from known.unknown(name, given)
    yield from known.contradictions(name, given, complete)
    params = handed.value(event)
    if params is None and not args.open:
        yield Wrong("an optimizer without parameters", "torch refuses it", "give it `model.parameters()` first")
    groups = handed.tables(params)
    for group in groups:
        yield from wrong_group(name, group, given, complete, optimizer)
    if name == "LBFGS" and len(groups) > 1:
        yield Wrong("groups for `LBFGS`, which has none", "torch refuses them", "hand over one list of parameters")


def added(name: str, event: AddGroup) -> Iterator[Wrong]:
    """What is wrong with a group that is added later."""
    optimizer = next(o for o in options(event.subject) if isinstance(o, Thing))
    args = optimizer.args
    group = event.group
    if args is not None and isinstance(group, Table):
        given = {k: v for k, v in args.keywords.items() if k != "params"}
        complete = not args.open and len(args.positional) <= 1
        yield from wrong_group(name, group, given, complete, optimizer)


def wrong_group(name: str, group: Table, given: dict[str, Value], complete: bool, optimizer: Thing) -> Iterator[Wrong]:
    """What is wrong with one parameter group; the options of the optimizer hold where it has none of its own."""
    own = known.group_options(group)
    if "params" not in group.entries and group.complete:
        yield Wrong("a parameter group without `params`", "torch refuses it", 'name its parameters: `{"params": ...}`')
    if own and set(own) & {"lr", "momentum", "nesterov", "weight_decay", "betas", "eps", "dampening"}:
        yield from known.contradictions(name, {**given, **own}, complete and group.complete)
    what = nature(optimizer, Optimizer)
    if optimizer.escaped or (what is not None and what.opened):
        return  # somebody reads the groups, and may want the key
    for key in known.misnamed(name, group.entries):
        meant = known.meant(name, key)
        yield Wrong(
            f"`{key}` in a parameter group is read by nobody",
            f"the group is trained with the `{meant}` of the optimizer",
            f"write `{meant}`",
        )


def standstill(timeline: Timeline, event: handed.Handing, optimizer: Thing) -> Wrong | None:
    """A rate of 0, if the optimizer steps here and nothing that can be seen ever changes it."""
    if not isinstance(event, BuildOptimizer) or known.constant(event.args.get(1, "lr")) != 0 or query.unseen(timeline):
        return None
    what = nature(optimizer, Optimizer)
    if what is None or what.opened or optimizer.escaped or what.added:
        return None
    given = handed.value(event)
    if any("lr" in group.entries for group in handed.tables(given)) or (
        isinstance(given, Items) and not given.complete
    ):
        return None
    if any(e.concerns(optimizer) for e in timeline.events(LoadState)):
        return None
    for other in timeline.events(Build):
        scheduler = other.subject
        if any(o is optimizer for o in options(moves(scheduler))):
            return None
    if not any(e.concerns(optimizer) for e in timeline.events(Step)):
        return None
    return Wrong("a rate of 0 that nothing changes", "no step ever moves a parameter", "give `lr` a rate above 0")
