"""Remembers what expressions were taken for, in the pieces of code that some rule reads with libcst.

A machine keeps no values of expressions: nobody asks, and they are many. Where somebody does, the handlers that it is
given are wrapped; a machine without such code runs the bare ones, and pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gradcheck_lint.source import tree
from gradcheck_lint.source.place import Chunk
from gradcheck_lint.source.run.machine import Language, Machine
from gradcheck_lint.source.values import Value

Handler = Callable[[Machine, Any], Value]


class Recall:
    """The values of the expressions in those chunks whose text is `wanted`."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self.listens = False  # some run is listened to
        self._wanted = wanted
        self._wants: dict[Chunk, bool] = {}
        self._values: dict[Chunk, dict[tree.Node, list[Value]]] = {}

    def of(self, chunk: Chunk) -> Mapping[tree.Node, Sequence[Value]]:
        """What each expression of a chunk was taken for, each time that a run went over it."""
        return self._values.get(chunk, {})

    def wants(self, chunk: Chunk) -> bool:
        if chunk not in self._wants:
            self._wants[chunk] = self._wanted(chunk.text)
        return self._wants[chunk]

    def went_over(self, path: str) -> bool:
        """Whether a run went over such a chunk of this file."""
        return any(chunk.path == path for chunk in self._values)

    def listening(self, language: Language) -> Language:
        """The same language, whose expressions are remembered."""
        self.listens = True
        return language._replace(
            expressions={kind: self._noting(handler) for kind, handler in language.expressions.items()}
        )

    def _noting(self, handler: Handler) -> Handler:
        def evaluate(machine: Machine, node: tree.Expression) -> Value:
            value = handler(machine, node)
            chunk = machine.frame.chunk
            if self.wants(chunk) and not machine.trying:
                values = self._values.setdefault(chunk, {}).setdefault(node, [])
                if not values or values[-1] is not value:
                    values.append(value)
            return value

        return evaluate
