"""Whether the program moves a network by hand: copies into it, mixes it with another, loads or exchanges it.

Whoever calls the method that does so may be anybody, at any time, so what counts is that there is one. The question
is asked of the few modules for which a finding is at hand, and is answered by the text of the project.
"""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source.effort import spend

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline

_WRITES = re.compile(
    r"\.(?:copy|lerp|mul|add|sub|div|set|fill|swap)_\(|\.data\b|\bload_state_dict\b|\b_foreach_|\bvector_to_parameters\b"
)
"""What a function does that writes into tensors which it is given or looks up."""

_INNER = frozenset({"parameters", "named_parameters", "state_dict", "weight", "bias", "data", "values", "items"})
"""Attributes of a network through which its tensors are got at."""

_THROUGH = frozenset({"zip", "enumerate", "list", "tuple", "iter", "reversed", "chain", "dict", "deepcopy", "unwrap"})
"""Functions that pass on what they are given."""

_LOOKING = re.compile(
    r"^_*(?:print|len|sum|id|str|repr|type|isinstance|hasattr|save\w*|log\w*|info|debug|append|watch|summary|count\w*|num\w*"
    r"|clip_\w*|norm|to|parameters_to_vector|DataParallel|DistributedDataParallel|DDP|compile|eval\w*|load_state_dict"
    r"|[A-Z]\w*)$"
)
"""Functions that leave what they are given as it is; a class keeps it (an optimizer is told by other events)."""


def moved(timeline: Timeline, name: str, *, attribute: bool) -> Answer:
    """Whether something of this name is written by hand: YES, MAYBE if code that is not in the project gets it, or NO.

    `attribute` tells whether an object has it, so that all of the project may speak of it; else it is a name of the
    module at hand.
    """
    texts = [m.text for m in timeline.home.project.modules.values() if m is not None] if attribute else []
    found = NO
    for text in texts or [timeline.home.text]:
        if not re.search(rf"\b{re.escape(name)}\b", text):
            continue
        spend(1 + len(text) // 50)
        try:
            nodes = _nodes(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return MAYBE
        looked = _Look(nodes, texts or [text])
        for mention in (nodes.attributes if attribute else nodes.names).get(name, ()):
            how = looked.use(mention)
            if how is YES:
                return YES
            found = MAYBE if how is MAYBE else found
    return found


class _Nodes(NamedTuple):
    """The nodes of a text: what stands around each, and where names are mentioned, in the order of a walk."""

    tree: ast.Module
    above: dict[ast.AST, ast.AST]
    names: dict[str, list[ast.expr]]
    attributes: dict[str, list[ast.expr]]


@lru_cache(maxsize=2)  # a tree is big, and one text is mostly asked for many names in a row
def _nodes(text: str) -> _Nodes:
    found = _Nodes(ast.parse(text), {}, {}, {})
    for node in ast.walk(found.tree):
        if isinstance(node, ast.Attribute):
            found.attributes.setdefault(node.attr, []).append(node)
        elif isinstance(node, ast.Name):
            found.names.setdefault(node.id, []).append(node)
        for child in ast.iter_child_nodes(node):
            found.above[child] = node
    return found


class _Look:
    """A look at one text of the project."""

    def __init__(self, nodes: _Nodes, texts: list[str]) -> None:
        self.tree, self.above, self.texts = nodes.tree, nodes.above, texts
        self.known: dict[str, Answer] = {}  # the name of a function that is given the network → what it does to it
        self.written: dict[ast.AST, bool] = {}
        spend(1 + len(self.above) // 20)  # as much as without the cache: what is cut may not depend on what came before

    def use(self, node: ast.expr) -> Answer:
        """What is done to a network where it is mentioned."""
        if isinstance(getattr(node, "ctx", None), ast.Store):
            return self.stored(node)
        above = self.above[node]
        while True:
            if isinstance(above, ast.Attribute):
                called = self.above[above]
                if isinstance(called, ast.Call) and called.func is above:
                    if above.attr == "load_state_dict" or (above.attr[-1] == "_" and above.attr[:2] != "__"):
                        return YES
                    if above.attr not in _INNER:
                        return NO
                    node, above = called, self.above[called]
                    continue
                if isinstance(above.ctx, ast.Store):
                    return YES if above.attr == "data" else NO
                if above.attr not in _INNER:
                    return NO
                node, above = above, self.above[above]
            elif isinstance(above, (ast.Subscript, ast.Tuple, ast.List, ast.Starred, ast.keyword)):
                node, above = above, self.above[above]  # type: ignore[assignment]
            elif isinstance(above, ast.Call) and above.func is not node and _last(above.func) in _THROUGH:
                node, above = above, self.above[above]
            else:
                break
        if isinstance(above, ast.Call) and above.func is not node:
            return self.handed(above)
        if isinstance(above, ast.For) and above.iter is node:
            return YES if self.writes(above) else NO
        if isinstance(above, (ast.Assign, ast.AnnAssign)) and above.value is node:
            function = self.function(above)  # a second name, or the state
            return YES if function is not None and self.writes(function) else NO
        return YES if isinstance(above, ast.AugAssign) else NO

    def stored(self, node: ast.expr) -> Answer:
        """It is given to the name: once where the object is made; what comes later exchanges the network."""
        function = self.function(node)
        if isinstance(function, ast.FunctionDef) and function.name != "__init__" and isinstance(node, ast.Attribute):
            return YES if node.attr in self.made else NO
        return NO

    @cached_property
    def made(self) -> set[str]:
        """The attributes that the constructors in the text give a value."""
        makers = [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        inner = (n for maker in makers for n in ast.walk(maker) if isinstance(n, ast.Attribute))
        return {n.attr for n in inner if isinstance(n.ctx, ast.Store)}

    def handed(self, call: ast.Call) -> Answer:
        """A function is given it."""
        name = _last(call.func)
        if name.endswith("_") and not name.startswith("clip"):
            return YES
        if name == "vector_to_parameters":
            return YES
        if _LOOKING.match(name):
            return NO
        if name not in self.known:
            bodies = [found for text in self.texts for found in _definitions(text, name)]
            self.known[name] = MAYBE if not bodies else YES if any(map(self.writes, bodies)) else NO
        return self.known[name]

    def writes(self, node: ast.For | ast.AsyncFor | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        """Whether something in a loop or function writes into tensors."""
        if node not in self.written:
            text = "\n".join(map(ast.unparse, node.body))
            spend(1 + len(text) // 20)
            self.written[node] = _WRITES.search(text) is not None
        return self.written[node]

    def function(self, node: ast.AST) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        above = self.above.get(node)
        while above is not None and not isinstance(above, (ast.FunctionDef, ast.AsyncFunctionDef)):
            spend(1)
            above = self.above.get(above)
        return above


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _definitions(text: str, name: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions of a name in a text."""
    if not re.search(rf"\bdef {re.escape(name)}\b", text):
        return
    spend(1 + len(text) // 50)
    with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
                yield node
