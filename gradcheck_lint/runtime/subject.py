"""The optimizer that is watched: what it holds, and what the user calls that."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from gradcheck_lint.runtime import sites
from gradcheck_lint.runtime.record import Parameter

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from gradcheck_lint.runtime.record import Watched
    from gradcheck_lint.runtime.session import Session


class Subject:
    """Keeps no optimizer alive: of one that is gone nothing is held any more."""

    def __init__(self, session: Session, optimizer: Optimizer, watched: Watched) -> None:
        self._session = session
        self._ref = weakref.ref(optimizer)
        self._watched = watched
        self._names: dict[int, str] = {}  # by id
        self.inherits = _calls_super(type(optimizer))

    @property
    def optimizer(self) -> Optimizer | None:
        return self._ref()

    def groups(self) -> list[dict[str, Any]]:
        optimizer = self._ref()
        return optimizer.param_groups if optimizer is not None else []

    def parameters(self) -> list[Tensor]:
        """The tensors that the optimizer holds now, in its order."""
        return [parameter for group in self.groups() for parameter in group["params"]]

    def ids(self) -> set[int]:
        return {id(parameter) for parameter in self.parameters()}

    def has_gradients(self) -> bool:
        return any(parameter.grad is not None for parameter in self.parameters())

    def searches(self) -> bool:
        """Whether this is an optimizer that calls its closure again and again, and cannot do without."""
        return any(kind.__name__ == "LBFGS" for kind in type(self._ref()).__mro__)

    def name(self, parameter: Tensor) -> str:
        """What the user calls a parameter of this optimizer."""
        name = self._names.get(id(parameter))
        if name is None:
            self.describe()
            name = self._names.get(id(parameter)) or self._session.models.name(parameter) or "a tensor"
        return name

    def forget_names(self) -> None:
        """Parameters may be called otherwise from now on."""
        self._names.clear()

    def describe(self) -> None:
        """Fill in what the record says of the parameters."""
        if self._ref() is None:
            return
        described = []
        models = self._session.models
        for number, group in enumerate(self.groups()):
            for index, parameter in enumerate(group["params"]):
                name = self._session.name(parameter)
                held = bool(models.name(parameter)) if models else bool(name)
                name = name or f"parameter {index} of group {number}"
                self._names[id(parameter)] = name
                described.append(
                    Parameter(
                        name,
                        () if is_lazy(parameter) else tuple(parameter.shape),
                        str(parameter.dtype).removeprefix("torch."),
                        str(parameter.device),
                        number,
                        parameter.requires_grad,
                        held,
                    )
                )
        self._watched.parameters = tuple(described)


def is_lazy(parameter: Tensor) -> bool:
    """Whether a parameter of a lazy module has no shape yet."""
    return hasattr(parameter, "materialize")


def _calls_super(kind: type) -> bool:
    """Whether the step of this optimizer is the user's, and calls the one that it inherits."""
    code = sites.code_of(getattr(kind, "step", None))
    return code is not None and "super" in code.co_names and "step" in code.co_names
