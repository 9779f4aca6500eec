"""What a witness says who may not have seen everything: yes, no, or maybe.

A run that was watched has seen all that it asks, and says yes or no. Code that was read leaves things open.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final


class Answer(Enum):
    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


NO: Final = Answer.NO
MAYBE: Final = Answer.MAYBE
YES: Final = Answer.YES


def agreed(answers: Iterable[Answer]) -> Answer:
    """What all of them say; MAYBE where they differ, and where there are none."""
    found = set(answers)
    return found.pop() if len(found) == 1 else MAYBE


def first(answers: Iterable[Answer]) -> Answer:
    """The first that is not NO, which is the last that is asked for; NO if there is none."""
    return next((answer for answer in answers if answer is not NO), NO)
