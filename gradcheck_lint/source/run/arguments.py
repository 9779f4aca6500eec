"""The arguments of a call, evaluated."""

from __future__ import annotations

from gradcheck_lint.source.values import Value


class Arguments:
    """The evaluated arguments of a call; `open` if there are * or ** arguments whose content is not known.

    `sure` is how many of the positional ones stand where they seem to: those before the first of unknown length.
    """

    __slots__ = ("keywords", "open", "positional", "sure")

    def __init__(
        self, positional: list[Value], keywords: dict[str, Value], open: bool = False, sure: int | None = None
    ) -> None:
        self.positional, self.keywords, self.open = positional, keywords, open
        self.sure = len(positional) if sure is None else sure

    def get(self, index: int, name: str) -> Value | None:
        """The argument at a position or of a name."""
        if index < min(len(self.positional), self.sure + 1):
            return self.positional[index]
        return self.keywords.get(name)

    def all(self) -> list[Value]:
        return [*self.positional, *self.keywords.values()]
