"""Names imported from other modules of the project, which are not run before one of their names is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.source.project import Module
from gradcheck_lint.source.values import External, ModuleValue, Value

if TYPE_CHECKING:
    from gradcheck_lint.source.run.machine import Machine


class Lazy(Value):
    """A name imported from a module of the project, looked up when it is first used."""

    __slots__ = ("machine", "module", "name", "sub")

    def __init__(self, machine: Machine, module: Module, name: str, sub: Module | None) -> None:
        self.machine, self.module, self.name, self.sub = machine, module, name, sub

    def force(self) -> Value:
        """What the name stands for; runs the module's own code if it has not been."""
        found = self.machine.get(self.machine.namespace(self.module), self.name)
        if isinstance(found, Lazy):
            found = found.force() if found.module is not self.module else None
        if found is not None:
            return found
        if self.sub is not None:
            return ModuleValue(self.sub)
        return External(f"?.{self.module.name}.{self.name}")

    def known(self) -> Value | None:
        """What the name stands for if its module has run; else nothing of it can be in use anywhere yet."""
        return self.force() if self.module.path in self.machine.scope_of else None
