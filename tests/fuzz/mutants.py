"""Wrong examples from the pages of rules that have a safe fix, with other names and other code around them."""

from __future__ import annotations

import ast
import random
import re
from functools import cache
from textwrap import indent

from gradcheck_lint import registry
from gradcheck_lint.finding import Safety
from gradcheck_lint.page import Page


@cache
def _examples() -> tuple[tuple[str, str], ...]:
    """The wrong examples of the rules that have a safe fix."""
    found = []
    for path in sorted(registry.home().glob("*.md")):
        page = Page.read(path)
        if page.fix is Safety.SAFE and "source" in page.found_by:
            found += [
                (f"{page.code}-{number}", example.code)
                for number, example in enumerate(page.examples)
                if example.kind == "wrong" and not example.norun
            ]
    return tuple(found)


_COMMON = frozenset(
    {"model", "optimizer", "opt", "net", "loader", "loss", "criterion", "x", "y", "step", "epoch", "out", "data"}
)


def mutated(seed: int) -> tuple[str, str]:
    """A wrong example of some page with other names, and other code around it."""
    rng = random.Random(seed)
    name, code = rng.choice(_examples())
    text = _renamed(code, rng)
    if rng.random() < 0.5:
        text = _between(text, rng)
    if rng.random() < 0.3 and "__file__" not in text:
        text = _wrapped(text, rng)
    if rng.random() < 0.2:
        text = text.replace("    ", rng.choice(("  ", "\t")))
    if rng.random() < 0.1:
        text = text.replace("\n", "\r\n")
    return name, text if parses(text) else code


def parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _renamed(code: str, rng: random.Random) -> str:
    """`code` with other words for some of its variables."""
    module = ast.parse(code)
    names = {n.id for n in ast.walk(module) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    keywords = {n.arg for n in ast.walk(module) if isinstance(n, ast.keyword)} | {
        n.arg for n in ast.walk(module) if isinstance(n, ast.arg)
    }
    attributes = {n.attr for n in ast.walk(module) if isinstance(n, ast.Attribute)}
    for name in sorted((names & _COMMON) - keywords - attributes):
        if rng.random() < 0.5:
            fresh = f"{name}_{rng.choice(('a', 'main', '2', 'of_it'))}"
            code = re.sub(rf"(?<![\w.'\"]){name}\b(?!['\"])", fresh, code)
    return code


def _between(code: str, rng: random.Random) -> str:
    """`code` with statements between its top statements that do nothing to it."""
    lines = code.splitlines(keepends=True)
    tops = [node.lineno - 1 for node in ast.parse(code).body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    decorated = [n.lineno - 1 for n in ast.walk(ast.parse(code)) for n in getattr(n, "decorator_list", ())]
    extra = (
        "unused = [1, 2, 3]\n",
        "# between\n",
        "def unused_helper(a, b=2):\n    return a + b\n\n",
        "print('here')\n\n",
    )
    for at in sorted(rng.sample(tops, min(2, len(tops))), reverse=True):
        if at not in decorated and at - 1 not in decorated:
            lines.insert(at, rng.choice(extra))
    return "".join(lines)


def _wrapped(code: str, rng: random.Random) -> str:
    """`code` as the body of a function."""
    body = ast.parse(code).body
    last = max((n.end_lineno or 0 for n in body if isinstance(n, (ast.Import, ast.ImportFrom))), default=0)
    first = [n for n in body if not isinstance(n, (ast.Import, ast.ImportFrom))]
    if (
        not first
        or any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in body[len(body) - len(first) :])
        or '"""' in code
    ):
        return code
    lines = code.splitlines(keepends=True)
    return "".join(lines[:last]) + "\n\ndef run_all():\n" + indent("".join(lines[last:]), "    ") + "\n\nrun_all()\n"
