"""What the project puts in place of something of torch: `torch.optim.SGD.step = timed`, `setattr(nn.Module, ...)`.

What a rule knows of torch then no longer holds for certain. Names that every turn of training goes through make all
findings uncertain; another name those alone that speak of it. A plain value, as in `cudnn.benchmark = True`, replaces
no behaviour.
"""

from __future__ import annotations

import re

EVERYWHERE = frozenset(
    "step zero_grad backward parameters named_parameters add_param_group modules children register_parameter"
    " add_module register_module".split()
)
"""What a turn of training goes through although its text does not say so; special methods are like that as well."""

_IMPORT = re.compile(r"^[ \t]*import[ \t]+([^#\n]+)", re.MULTILINE)
_FROM = re.compile(r"^[ \t]*from[ \t]+torch(?:\.\w+)*[ \t]+import[ \t]+(\([^)]*\)|[^#\n]+)", re.MULTILINE)
_PLAIN = r"(?:True|False|None|[-+]?[\d.]|[rbf]?[\"'])"
_NAME = re.compile(r"[^\W\d]\w*")


def replaced(text: str) -> frozenset[str]:
    """The names of attributes of torch's modules and classes that a file assigns something else to."""
    heads = "|".join(sorted(map(re.escape, _heads(text))))
    if not heads:
        return frozenset()
    owner = rf"(?:{heads})(?:\.\w+)*"
    found = re.findall(rf"(?m)(?<![\w.]){owner}\.(\w+)[ \t]*(?::[^=\n]+)?=(?!=)(?![ \t]*{_PLAIN})", text)
    found += re.findall(
        rf"(?<![\w.])(?!(?:get|has)attr\b)[\w.]+\([ \t\n]*{owner}[ \t\n]*,[ \t\n]*[\"'](\w+)[\"']", text
    )
    found += re.findall(r"\b(?:setattr|patch)\([ \t\n]*[\"']torch\.(?:\w+\.)*(\w+)[\"']", text)
    return frozenset(found)


def _heads(text: str) -> set[str]:
    """The names by which a file speaks of torch, its modules and its classes."""
    if "torch" not in text:
        return set()
    found: set[str] = set()
    for line in _IMPORT.findall(text):
        for part in line.split(","):
            name, _, bound = part.strip().partition(" as ")
            if name.partition(".")[0] == "torch":
                found.add(bound.strip() or "torch")
    for names in _FROM.findall(text):
        for part in names.strip("()").split(","):
            bound = part.strip().rpartition(" as ")[2].strip()
            if _NAME.fullmatch(bound):
                found.add(bound)
    return found


def doubtful(names: frozenset[str], told: str) -> bool:
    """Whether a finding that speaks of some code may be wrong because such names mean something else."""
    return any(
        name in EVERYWHERE or (name.startswith("__") and name.endswith("__")) or re.search(rf"\b{name}\b", told)
        for name in names
    )
