"""Progress bars give what they are given."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import function
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Value


@function("tqdm.tqdm", "tqdm.auto.tqdm")
def _bar(machine: Machine, args: Arguments, node: tree.Call) -> Value | None:
    return args.get(0, "iterable")
