"""Ways in which a program may do something to its optimizer where nobody would look for it: `ways.txt`, read.

Each `Way` reaches one function, `act`, that does the deed (clear, step, run backward): by a table, a hook, a generator,
a thread. A way knows nothing of the deed, and a deed nothing of the way; `places` puts the two together. In the texts

    $A  stands for what a call in the loop hands over      opt, model, k
    $P  for the names under which `act` gets it            o, m, k
    $H  for that part of it that is there before the loop  opt, model
    $G  for the names of that part                         o, m
    $H0, $R  for the first of what is handed over, and for the rest

A way that needs `$H` cannot carry a deed whose first argument is made anew in each turn (the loss).

`ways.txt` has a line `### family: what it is` before the ways of a family, a line `## name` before each way, which may
go on with `where=` and `only=`, and lines `# part` before the parts of its text.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("ways.txt")


@dataclass(frozen=True, slots=True)
class Way:
    """How `act` is reached."""

    family: str  # calls, heads, wraps, hooks, outers
    name: str
    where: str = "in"  # in: wherever `call` stands; start or end of a turn; after: with each step of the optimizer
    only: str = ""  # same: the definitions must be in the file of the loop; script: so must the loop, at module level
    defs: str = ""  # definitions, which may lie in another module
    net: str = ""  # how the model is built
    make: str = ""  # how the optimizer is built
    setup: str = ""  # statements before the loop
    outer: str = ""  # the head of a compound statement around the loop
    head: str = ""  # the head of the loop, instead of `for k in range(12)`
    wrap: str = ""  # the head of a compound statement around all that a turn does
    call: str = ""  # statements in the loop

    @property
    def holds(self) -> bool:
        """Whether the way is handed things before the loop."""
        return any(mark in text for mark in ("$H", "$G") for text in (self.defs, self.setup, self.call, self.head))

    @property
    def builds(self) -> bool:
        """Whether it chooses what is trained, or changes what torch does: what it does then is not for every deed."""
        return self.family == "hooks"


def read(text: str) -> tuple[Way, ...]:
    """The ways that a text in the form of `ways.txt` lists."""
    ways: list[Way] = []
    for family in text.split("### ")[1:]:
        title, *entries = family.split("\n## ")
        for entry in entries:
            first, *parts = entry.split("\n# ")
            name, *words = first.split()
            options = dict(word.split("=") for word in words)
            options |= {part.partition("\n")[0]: part.partition("\n")[2].rstrip() for part in parts}
            ways.append(Way(title.partition(":")[0], name, **options))
    return tuple(ways)


WAYS = read(FILE.read_text(encoding="utf-8"))


def family(name: str) -> tuple[Way, ...]:
    """The ways of a family."""
    return tuple(way for way in WAYS if way.family == name)
