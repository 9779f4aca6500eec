"""What the project puts in place of something of torch: `torch.optim.SGD.step = timed`, `setattr(nn.Module, ...)`.

What a rule knows of torch then no longer holds for certain: anywhere in the project, or in the same file alone where
what patches puts it back by itself, as the libraries for tests do. Names that every turn of training goes through make
all findings uncertain; another name those alone that speak of it. A plain value, as in `cudnn.benchmark = True`,
and any setting of `torch.backends` replace no behaviour.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradcheck_lint.source.effort import spend

EVERYWHERE = frozenset(
    "step zero_grad backward parameters named_parameters add_param_group modules children register_parameter"
    " add_module register_module".split()
)
"""What a turn of training goes through although its text does not say so; special methods are like that as well."""

_IMPORT = re.compile(
    r"^[ \t]*(?:import[ \t][^\n]*\btorch\b[^\n]*|from[ \t]+torch\b[\w.]*[ \t]+import[ \t]*(?:\([^)]*\)|[^\n]*))",
    re.MULTILINE,
)
_SETTINGS = ("backends", "config")  # modules with values for torch to go by: `torch.backends.cudnn.deterministic`
_WORD = re.compile(r"[^\W\d]\w*")


class Replaced(NamedTuple):
    """The names of attributes of torch's modules and classes that a file puts something else in place of."""

    for_good: frozenset[str]
    for_a_while: frozenset[str]  # by what patches


NOTHING = Replaced(frozenset(), frozenset())


def replaced(text: str) -> Replaced:
    """What a file replaces in torch.

    It assigns it, or calls what is handed the owner, the name and a value, or these two if it says that it patches.
    """
    if not _may(text):
        return NOTHING
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return NOTHING  # is not analysed either
    spend(len(nodes) // 100)
    heads = _heads(nodes)
    found: set[str] = set()
    patched: set[str] = set()
    for node in nodes:
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and not isinstance(node.value, (ast.Constant, type(None))):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {t.attr for t in _flat(targets) if isinstance(t, ast.Attribute) and _of(t.value, heads)}
        elif isinstance(node, ast.Call) and node.args:
            function = ast.unparse(node.func)
            (patched if "patch" in function else found).update(_handed(node, function, heads))
    return Replaced(frozenset(found), frozenset(patched))


def _may(text: str) -> bool:
    """Whether a text is worth parsing for this; most are not."""
    if "torch" not in text:
        return False
    words = {word for statement in _IMPORT.findall(text) for word in _WORD.findall(statement)}
    owner = rf"(?<![\w.])(?:{'|'.join(sorted(words))})(?:\.(?!(?:{'|'.join(_SETTINGS)})\b)\w+)*"
    handed = rf"(?<![gh][ae][ts]attr)\([ \t\n]*{owner}[ \t\n]*,[ \t\n]*[\"']"
    target = rf"{owner}\.\w+[ \t]*(?:,[ \t\w.]*[ \t])?(?::[^=\n]+)?=(?!=)(?![ \t]*(?:None|True|False|[-+\d.]|[\"']))"
    statement = rf"(?<!:)(?<!: ){target}|\b(?:if|elif|else|try|except|finally|for|while|with)\b[^\n]*:[ \t]*{target}"
    named = r"(?:patch|setattr)[\w.]*\([ \t\n]*[\"']torch\."
    return re.search(rf"{named}|{handed}|{statement}", text) is not None


def _handed(node: ast.Call, function: str, heads: set[str]) -> set[str]:
    """The attribute that a call is told to replace."""
    replaces = "patch" in function or "setattr" in function
    words = [a.value if isinstance(a, ast.Constant) and isinstance(a.value, str) else "" for a in node.args[:2]]
    if replaces and words[0].startswith("torch."):
        return {words[0].rpartition(".")[2]}
    if len(words) == 2 and words[1] and (replaces or len(node.args) + len(node.keywords) > 2) and function != "getattr":
        return {words[1]} if _of(node.args[0], heads) else set()
    return set()


def _of(node: ast.expr, heads: set[str]) -> bool:
    """Whether an expression is a name of torch, or an attribute of one."""
    while isinstance(node, ast.Attribute):
        if node.attr in _SETTINGS:
            return False
        node = node.value
    return isinstance(node, ast.Name) and node.id in heads


def _flat(targets: Iterable[ast.expr]) -> Iterator[ast.expr]:
    for target in targets:
        if isinstance(target, (ast.Tuple, ast.List)):
            yield from _flat(target.elts)
        else:
            yield target


def _heads(nodes: Iterable[ast.AST]) -> set[str]:
    """The names by which a file speaks of torch, its modules and its classes."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {a.asname or "torch" for a in node.names if a.name.partition(".")[0] == "torch"}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            path = node.module or ""
            if path.partition(".")[0] == "torch" and not is_setting(path):
                found |= {a.asname or a.name for a in node.names if a.name not in _SETTINGS}
    return found


def is_setting(path: str) -> bool:
    """Whether something of torch is, or belongs to, a module of values to go by: `torch.backends.cudnn`."""
    return any(name in _SETTINGS for name in path.split("."))


def doubtful(names: frozenset[str], told: str) -> bool:
    """Whether a finding that speaks of some code may be wrong because such names mean something else."""
    return any(
        name in EVERYWHERE or (name.startswith("__") and name.endswith("__")) or re.search(rf"\b{name}\b", told)
        for name in names
    )
