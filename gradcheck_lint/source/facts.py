"""What a class of the project looks like to the rules about modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_lint.source import tree
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import ClassValue, FunctionValue

if TYPE_CHECKING:
    from gradcheck_lint.source.interpret import Interpreter


class ClassFacts:
    """A class: its value, its methods as trees, and places in them."""

    def __init__(self, interpreter: Interpreter, cls: ClassValue) -> None:
        self.interpreter, self.cls = interpreter, cls

    @property
    def is_module(self) -> bool:
        """Whether it derives from nn.Module as far as the code shows."""
        return self.cls.derives("torch.nn.Module", "LightningModule", "Module")

    def methods(self) -> Iterator[tuple[str, tree.Function]]:
        """Its own methods."""
        for name, member in self.cls.members.items():
            if isinstance(member, FunctionValue) and member.owner is self.cls:
                yield name, member.function

    def method(self, name: str) -> tree.Function | None:
        """One of its own methods."""
        return dict(self.methods()).get(name)

    def place(self, function: tree.Function, node: tree.Node) -> Place:
        """The place of a node in the body of one of its methods."""
        chunk = self.cls.home.chunks.get(id(function)) or self.interpreter.chunk_of[id(function)]
        return Place(chunk, node)


def class_facts(interpreter: Interpreter, cls: ClassValue) -> ClassFacts:
    return ClassFacts(interpreter, cls)
