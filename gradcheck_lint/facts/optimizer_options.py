"""The options of torch's optimizers, and what is wrong with a set of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gradcheck_lint.source.values import Constant, Items, Table, Value

_FOREACH = "foreach maximize capturable differentiable"

ORDER = {
    "SGD": "lr momentum dampening weight_decay nesterov maximize foreach differentiable fused",
    "Adam": f"lr betas eps weight_decay amsgrad {_FOREACH} fused decoupled_weight_decay",
    "AdamW": f"lr betas eps weight_decay amsgrad {_FOREACH} fused",
    "RMSprop": f"lr alpha eps weight_decay momentum centered {_FOREACH}",
    "Adagrad": "lr lr_decay weight_decay initial_accumulator_value eps foreach maximize differentiable fused",
    "Adadelta": f"lr rho eps weight_decay {_FOREACH}",
    "Adamax": f"lr betas eps weight_decay {_FOREACH}",
    "NAdam": f"lr betas eps weight_decay momentum_decay decoupled_weight_decay {_FOREACH}",
    "RAdam": f"lr betas eps weight_decay decoupled_weight_decay {_FOREACH}",
    "ASGD": f"lr lambd alpha t0 weight_decay {_FOREACH}",
    "Rprop": f"lr etas step_sizes {_FOREACH}",
    "LBFGS": "lr max_iter max_eval tolerance_grad tolerance_change history_size line_search_fn",
    "SparseAdam": "lr betas eps maximize",
    "Adafactor": "lr beta2_decay eps d weight_decay foreach maximize",
    "Muon": "lr weight_decay momentum nesterov ns_coefficients eps ns_steps adjust_lr_fn",
}
"""Each optimizer's options after `params`. The first two or three stand in this order in every version of torch."""

_OPTIONS = {name: tuple(order.split()) for name, order in ORDER.items()}
_ALL = frozenset(option for order in _OPTIONS.values() for option in order)
_MEANT = {"learningrate": "lr", "lrate": "lr", "weightdecay": "weight_decay", "wd": "weight_decay", "beta": "betas"}
_NEVER_NEGATIVE = ("lr", "momentum", "weight_decay", "eps", "rho", "lr_decay")


class Wrong(NamedTuple):
    """What is wrong with the options: as a headline, what follows from it, and what to do."""

    message: str
    why: str
    help: str


def positional(name: str, number: int) -> str | None:
    """The name of an optimizer's option at a position, counted from the one after `params`."""
    return _OPTIONS[name][number] if number < min(3, len(_OPTIONS[name])) else None


def meant(name: str, option: str) -> str | None:
    """The option of this optimizer that a wrong name stands for, if that is plain."""
    plain = option.lower().replace("-", "").replace("_", "")
    known = _MEANT.get(plain) or next((o for o in _OPTIONS[name] if o.replace("_", "") == plain), None)
    return known if known in _OPTIONS[name] and known != option else None


def unknown(name: str, options: Mapping[str, Value]) -> Iterator[Wrong]:
    """Options that the optimizer does not have."""
    for option in options:
        if option in _OPTIONS[name] or option == "params" or option == "**":
            continue
        instead = meant(name, option)
        if instead is None and option not in _ALL:
            continue  # that of a later version, perhaps
        yield Wrong(
            f"`{name}` has no option `{option}`",
            "torch refuses it here, with a TypeError",
            f"write `{instead}`" if instead else f"remove `{option}`, or take the optimizer that has it",
        )


def misnamed(name: str, group: Mapping[object, Value]) -> Iterator[str]:
    """Keys of a parameter group that stand for another one, which the optimizer would read."""
    for key in group:
        if isinstance(key, str) and key not in _ALL and meant(name, key) is not None:
            yield key


def contradictions(name: str, options: Mapping[str, Value], complete: bool) -> Iterator[Wrong]:
    """Values that are out of range, and values that do not fit together; `complete` if no option is unseen."""
    for option in _NEVER_NEGATIVE:
        number = constant(options.get(option))
        if option in _OPTIONS[name] and number is not None and number < 0:
            yield Wrong(
                f"a negative `{option}`",
                "each step climbs instead of descending" if option == "lr" else "torch refuses it where it checks",
                "say `maximize=True` if that is meant" if option == "lr" else f"make `{option}` positive",
            )
    betas = options.get("betas")
    if "betas" in _OPTIONS[name]:
        if constant(betas) is not None:
            yield Wrong("`betas` is one number", "it is a pair, and torch takes it apart", "write `betas=(0.9, 0.999)`")
        elif isinstance(betas, Items) and any(not 0 <= n < 1 for n in map(constant, betas.items) if n is not None):
            yield Wrong("a beta outside of 0 to 1", "torch refuses it", "keep each beta at least 0 and below 1")
    nesterov = options.get("nesterov")
    if name == "SGD" and isinstance(nesterov, Constant) and nesterov.value is True:
        momentum, dampening = options.get("momentum"), constant(options.get("dampening"))
        if (momentum is None and complete) or constant(momentum) == 0:
            yield Wrong("Nesterov momentum without momentum", "there is nothing to look ahead with", "give `momentum`")
        elif dampening:
            yield Wrong("Nesterov momentum with dampening", "torch refuses the two together", "remove `dampening`")


def constant(value: Value | None) -> float | None:
    """The number that a value is for certain."""
    if isinstance(value, Constant) and isinstance(value.value, (int, float)) and not isinstance(value.value, bool):
        return float(value.value)
    return None


def group_options(group: Table) -> dict[str, Value]:
    """The options that a parameter group gives."""
    return {key: value for key, value in group.entries.items() if isinstance(key, str) and key != "params"}
