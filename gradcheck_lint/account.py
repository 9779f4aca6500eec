"""How a finding was come to: the events that led to it. Plain data; `source/account.py` makes it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from gradcheck_lint.finding import Finding


class Head(Enum):
    """What stands over other steps."""

    LOOP = "for each iteration of"
    ARM = "if it goes this way:"
    CALL = "in the call"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens at a line of a file, or the head of such; so many heads are over it."""

    depth: int
    path: str
    line: int
    code: str
    """What stands there, on one line."""
    said: str = ""
    """What it does, as the analysis takes it."""
    head: Head | None = None
    here: bool = False
    """Whether the finding stands there."""


@dataclass(frozen=True, slots=True)
class Account:
    """A finding, with the steps that led to it. A rule that reads classes and definitions alone follows nothing."""

    finding: Finding
    entry: str | None
    """The function with which the analysis began; "" is the module's own code, None: nothing was followed."""
    home: str
    """The path of the file that this is in."""
    steps: tuple[Step, ...] = ()
    left_out: int = 0
    """How many steps there are besides."""
    unseen: tuple[str, ...] = ()
    """The calls on the way that were not followed, and may turn the gradient cycle."""
