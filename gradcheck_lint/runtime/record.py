"""What the watcher has seen, as plain data: places, events, and the record of the whole run.

Nothing here holds a tensor or needs torch, so that a record can be saved, sent between ranks and rendered later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime.structs import frozen

if TYPE_CHECKING:
    from gradcheck_lint.finding import Finding


class Site(NamedTuple):
    """A place in the user's own code. Lines and columns start at 1; the end is exclusive.

    `text` is the source of the call on one line, empty where it could not be read.
    """

    path: str
    line: int
    column: int = 1
    end_line: int = 0
    end_column: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


class Event(NamedTuple):
    """One thing that happened to an optimizer: a kind of `gradcheck_lint.laws.cycle`, when, and by which line."""

    kind: str
    order: int  # counts all events of the run, from 1
    step: int  # how many steps of this optimizer were done before it
    how: str = ""
    mark: Any = None  # where, unresolved; see `sites.Mark`


@frozen
class Parameter:
    """One tensor that an optimizer was given."""

    name: str  # `encoder.weight`, the user's variable name, or `parameter 2 of group 0`
    shape: tuple[int, ...]
    dtype: str
    device: str
    group: int
    trainable: bool = True
    held: bool = True  # whether a watched model holds it too; where there is no model, whether a variable does


@dataclass(slots=True)
class Watched:
    """An optimizer under watch, and how often what happened to it. `name` is the user's variable if it is known."""

    index: int
    name: str
    kind: str  # the class: "SGD"
    built: Site | None = None
    parameters: tuple[Parameter, ...] = ()
    steps: int = 0
    backwards: int = 0
    zeros: int = 0
    checked: int = 0  # steps that were checked
    blind: tuple[str, ...] = ()  # what could not be seen, one sentence each

    @property
    def label(self) -> str:
        """What a sentence calls it: the variable, or the class."""
        return self.name or self.kind


@frozen
class Model:
    """A model under watch. `name` is the user's variable if it is known."""

    name: str
    kind: str  # the class
    parameters: int  # how many tensors it has


class Moment(NamedTuple):
    """An event as the report draws it."""

    optimizer: int
    kind: str
    step: int
    order: int
    site: str = ""  # "train.py:12"


@dataclass(slots=True)
class RunRecord:
    """All that is known of one watched run when it is over (or so far)."""

    program: str = ""
    python: str = ""
    torch: str = ""
    rank: int = 0
    ranks: int = 1
    seconds: float = 0.0
    watching: float = 0.0  # seconds of them that the watcher itself took, as far as it measured
    optimizers: list[Watched] = field(default_factory=list)
    models: list[Model] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    series: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Numbers by step: "loss" (and "loss/<name>" where backward is called on several), "gradient/<optimizer>/<layer>",
    "update/<optimizer>/<layer>"."""
    checked: dict[str, int] = field(default_factory=dict)  # how often each check was made
    missing: list[str] = field(default_factory=list)  # parameters of a model that got gradients and no optimizer holds
    problems: list[str] = field(default_factory=list)  # what went wrong inside the watcher
    ended: str = "ended"  # "ended", "interrupted", or the error that ended it
    sources: dict[str, dict[int, str]] = field(default_factory=dict)
    """The lines of the user's files that the findings speak of and those around them, by path and number."""


class Terminated(BaseException):
    """Stands for SIGTERM where a run is told how it ended; raised nowhere."""


def ending(error: BaseException | None) -> str:
    """How a run ended, for `RunRecord.ended`; `error` is what it raised."""
    if error is None:
        return "ended"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, Terminated):
        return "ended by SIGTERM"
    if isinstance(error, SystemExit):
        return "ended" if error.code in (None, 0) else f"ended by exit({error.code!r})"
    return f"ended by {type(error).__name__}: {error}"
