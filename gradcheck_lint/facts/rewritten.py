"""Who else may give an attribute another value: a placeholder that a method fills before it is used."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Tensor, nature
from gradcheck_lint.source.values import Items, Table, Thing, Value

if TYPE_CHECKING:
    from gradcheck_lint.source.timeline import Timeline


def kept(value: Value) -> tuple[Thing, str] | None:
    """The object that has a tensor or a list as an attribute, or has what it is in, and the name of that."""
    if isinstance(value, (Items, Table)):
        return value.kept
    tensor = nature(value, Tensor)
    return tensor.kept if tensor is not None else None


_ASSIGNED = r"\.NAME\s*(?::[^=\n]{1,200})?=(?!=)|^[^=\n()]{0,200}\.NAME\s*,[^=\n()]{0,200}=(?!=)"
_PUT = (
    r"\.NAME\b(?:\[[^\n]{0,200}?\])?(?:\.(?:append|extend|insert|add|update|setdefault)\(|\s*\+=)"
    r"|\.NAME\[[^\n=]{0,200}\]\s*=(?!=)|\.NAME\b[^\n]{0,200}\brequires_grad(?:_\((?!False)|\s*=\s*(?!False))"
    r"|setattr\([^\n]{0,200}?[\"']NAME[\"']|setattr\(\s*[^,\n]{1,200},\s*(?![\"'])\w"
)


@lru_cache(maxsize=64)
def _patterns(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What assigns an attribute of a name, and what changes what it holds, or any attribute."""
    name = re.escape(name)
    return re.compile(_ASSIGNED.replace("NAME", name), re.MULTILINE), re.compile(_PUT.replace("NAME", name))


def filled_elsewhere(timeline: Timeline, value: Value) -> bool:
    """Whether the attribute that a value was given to is written in more than one place, or what it holds is.

    A method that does no more than that is not followed, and who calls it may be anybody.
    """
    known = kept(value)
    if known is None or not known[1]:
        return False
    assigned, put = _patterns(known[1])
    count = 0
    for module in timeline.home.project.modules.values():
        if module is None:
            continue
        spend(1 + len(module.text) // 500)
        count += sum(1 for _ in assigned.finditer(module.text))
        if count > 1 or put.search(module.text):
            return True
    return False


def escaped(value: Value) -> bool:
    """Whether code that was not seen had the object that has the value as an attribute."""
    known = kept(value)
    return known is not None and bool(known[0].root.escaped)
