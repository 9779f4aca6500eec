"""How the analysis came to a finding, for a terminal (`gradlint explain FILE:LINE`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.account import Head
from gradcheck_lint.report.snippet import lines_of
from gradcheck_lint.report.terminal import BLUE, BOLD, DIM, RED, Paint, clean, wrap
from gradcheck_lint.report.text import told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gradcheck_lint.account import Account, Step

_CODE = 56  # columns of code that are shown of a step


def render(account: Account, sources: Mapping[str, str], *, columns: int = 100, colour: bool = False) -> str:
    """The finding, where the analysis began, and what it saw on the way; the marked step is the finding's own."""
    paint = Paint(colour)
    texts = {path: lines_of(text) for path, text in sources.items()}
    lines = [told(account.finding, texts, paint)]
    lines += [paint("How gradlint came to it", BOLD), *_wrapped(_began(account), columns, "  ")]
    files = {step.path for step in account.steps}
    for step in account.steps:
        lines += _step(step, columns, paint, named=len(files) > 1)
    if account.left_out:
        lines.append(paint(f"  {account.left_out} more steps are not shown", DIM))
    lines += _wrapped(_confidence(account), columns, "  ")
    return "\n".join(lines) + "\n"


def _began(account: Account) -> str:
    if account.entry is None:
        return "It is read from the text of a class or function; nothing was followed."
    where = f"`{clean(account.entry)}`" if account.entry else "the module's own code"
    rest = ", as nothing that was read calls it: its arguments are unknown" if account.entry else ""
    return f"Followed from {where} in {clean(account.home)}{rest}."


def _confidence(account: Account) -> str:
    finding = account.finding
    words = f"Confidence {finding.confidence.name.lower()}"
    if not account.unseen:
        return f"{words}."
    names = ", ".join(f"`{clean(name)}`" for name in account.unseen[:5])
    more = f" and {len(account.unseen) - 5} more" if len(account.unseen) > 5 else ""
    return f"{words}. Not followed on the way: {names}{more}."


def _step(step: Step, columns: int, paint: Paint, *, named: bool) -> list[str]:
    where = f"{clean(step.path)}:{step.line}" if named else f"line {step.line}"
    code = clean(step.code)
    code = code if len(code) <= _CODE else code[: _CODE - 3] + "..."
    lead = "  " * (step.depth + 1)
    if step.head is not None:
        place = "" if step.head is Head.ARM else paint(f"  ({where})", DIM)
        return [lead + paint(f"{step.head.value} `{code}`", BLUE) + place]
    mark = paint(">", RED) if step.here else " "
    first = f"{lead}{mark} {where}: {paint(code, BOLD)}"
    return [first, *_wrapped(clean(step.said), columns, lead + "      ")]


def _wrapped(text: str, columns: int, lead: str) -> list[str]:
    return [wrap(text, max(len(lead) + 20, columns), first=lead, rest=lead)]
