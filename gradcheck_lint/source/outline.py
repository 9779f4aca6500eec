"""What a file defines, and which of it matters: found with `ast`, before libcst sees a line.

libcst needs six to fourteen times as long as `ast` for the same file. So `ast` finds where the definitions are, a
regular expression over their text tells which of them can take part in training, and only those are given to
libcst, one function at a time.
"""

from __future__ import annotations

import ast
import re
import sys
from functools import cached_property

TELLING = frozenset(
    ["print", "add_argument", "info", "debug", "warning", "add_scalar", "add_scalars", "set_description", "set_postfix"]
)
"""Functions and methods that only tell something: a statement that is such a call is not read."""

READING = frozenset(
    "item format len str repr int float bool round abs max min sum mean std range list tuple sorted type time"
    " perf_counter strftime now join upper lower ljust rjust center strip split get keys values items numpy tolist cpu"
    " detach size dim numel get_last_lr memory_allocated max_memory_allocated argmax norm avg isoformat".split()
)
"""What may be called for the arguments of a statement that only tells something."""

LONG = 2_000  # characters of a line; longer ones are looked at for how deep they are nested
DEEPEST = 800  # libcst needs minutes for an expression that is nested a few thousand deep

_TRAINING = re.compile(r"backward|step|grad|optim|\.parameters|:=|numel\(|\bnext\(")  # what uses up an iterator counts

_MENTIONED = re.compile(r"(?<![\w.])(?:self\.)?([^\W\d]\w*)")
_FEEDS = re.compile(r"[ \t\f]*\f")

_LONE = re.compile(r"^[ \t]*\\$", re.MULTILINE)

CALLED = re.compile(r"\b([^\W\d]\w*)[ \t]*\(")


class Definition:
    """A function or method: its name, the class around it, and its lines (first and last, counted from 1)."""

    def __init__(self, outline: Outline, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str) -> None:
        self.outline = outline
        self.name = node.name
        self.owner = owner  # dotted names of the classes around it, "" for a plain function
        self.line = node.lineno
        self.first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        self.last = node.end_lineno or node.lineno
        self.column = node.col_offset
        self.end = node.end_col_offset or 0  # bytes of its last line
        self.body_line = node.body[0].lineno
        first = node.body[0]
        if isinstance(first, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and first.decorator_list:
            self.body_line = first.decorator_list[0].lineno
        self.body_column = node.body[0].col_offset

    @property
    def qualname(self) -> str:
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def text(self) -> str:
        """Its code, which can be parsed by itself; statements that only tell something are blanked, line numbers kept.

        A backslash behind its last statement goes on to a blank line that is no part of it.
        """
        lines = self.outline.code[self.first - 1 : self.last]
        last = lines[-1].rstrip("\n")
        if last.endswith("\\") and not last.encode()[self.end :].strip().startswith(b"#"):
            lines[-1] = last[:-1] + "\n"
            self.outline.shifts.setdefault(self.last, 0)
        return "".join(lines)

    @cached_property
    def mentions(self) -> tuple[str, ...]:
        """The names that are called in its text, or stand in it by themselves (or behind `self.`), each once."""
        return tuple(dict.fromkeys([*self.calls, *map(sys.intern, _MENTIONED.findall(self.text))]))

    @cached_property
    def calls(self) -> tuple[str, ...]:
        """The names that are called in its text, each once."""
        return tuple(dict.fromkeys(map(sys.intern, CALLED.findall(self.text))))


class Outline:
    """The definitions of a file, in source order, and the skeleton that is left without their bodies.

    Raises SyntaxError if the text is not Python, ValueError for what `ast` refuses otherwise, RecursionError or
    MemoryError where it is nested too deeply.
    """

    def __init__(self, text: str) -> None:
        # lines that are not read as they stand in the file → how much further to the right their code stands there
        self.shifts: dict[int, int] = {}
        if "\f" in text:
            lines = split_lines(text)
            self.shifts = _without_feeds(lines)
            text = "".join(lines)[:-1]
        self.text = text
        self.definitions: list[Definition] = []
        self._telling: list[ast.stmt] = []
        tree = ast.parse(text)
        if _LONE.search(text) and self._unfold(tree):
            self.text = "".join(self.lines)[:-1]
            tree = ast.parse(self.text)
        if max(map(len, self.lines)) > LONG:
            _check_depth(tree)
        self._collect(tree.body, "")

    @cached_property
    def lines(self) -> list[str]:
        return split_lines(self.text)

    def let_go(self) -> None:
        """Forget what can be made again from the text: most files matter no more once that was looked at."""
        for name in ("lines", "code", "skeleton"):
            self.__dict__.pop(name, None)

    def _unfold(self, tree: ast.Module) -> bool:
        """Blank the backslashes that stand alone in front of statements: libcst loses count of lines there.

        For Python such a statement is indented as the backslash is.
        """
        found = False
        for node in ast.walk(tree):
            if not isinstance(node, ast.stmt):
                continue
            line = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            above = line - 1
            while above and _LONE.fullmatch(self.lines[above - 1].rstrip("\n")):
                above -= 1
            if above == line - 1:
                continue
            old = self.lines[line - 1]
            code = old.lstrip(" \t")
            indent = self.lines[above].rstrip("\\\n")
            self.lines[above : line - 1] = ["\n"] * (line - 1 - above)
            self.lines[line - 1] = indent + code
            self.shifts[line] = self.shifts.get(line, 0) + len(old) - len(code) - len(indent)
            found = True
        return found

    def _collect(self, body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, ast.Expr):
                if _tells(node.value):
                    self._telling.append(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self.definitions.append(Definition(self, node, owner))
                self._tell(node.body)
            elif isinstance(node, ast.ClassDef):
                self._collect(node.body, f"{owner}.{node.name}" if owner else node.name)
            elif not isinstance(node, ast.Match):
                self._collect(getattr(node, "body", []), owner)
                for handler in getattr(node, "handlers", []):
                    self._collect(handler.body, owner)
                self._collect(getattr(node, "orelse", []), owner)
                self._collect(getattr(node, "finalbody", []), owner)

    def _tell(self, body: list[ast.stmt]) -> None:
        """Find the telling statements of a function."""
        for node in body:
            if isinstance(node, ast.Expr):
                if _tells(node.value):
                    self._telling.append(node)
                continue
            for name in ("body", "handlers", "orelse", "finalbody"):
                inner = getattr(node, name, None)
                if inner.__class__ is list:
                    self._tell(inner)

    @cached_property
    def code(self) -> list[str]:
        """The lines, with the statements blanked that only tell something."""
        lines = list(self.lines)
        for node in self._telling:
            first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
            indent = lines[first][: node.col_offset]
            if indent.strip() or _TRAINING.search("".join(lines[first : last + 1])):
                continue
            rest = self.lines[last].encode()[node.end_col_offset or 0 :].strip()
            if rest and not rest.startswith(b"#"):
                continue
            lines[first] = f"{indent}pass\n"
            for i in range(first + 1, last + 1):
                lines[i] = "\n"
        return lines

    def tells(self, name: str, first: int, last: int) -> bool:
        """Whether a statement in these lines that only tells something, and so is not read, speaks of a name."""
        return any(
            first <= node.lineno <= last and any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(node))
            for node in self._telling
        )

    @cached_property
    def skeleton(self) -> str:
        """The code with the body of every function replaced by `pass`, line numbers kept."""
        lines = list(self.code)
        for d in self.definitions:
            if d.body_line <= d.line or lines[d.body_line - 1][: d.body_column].strip():
                continue  # `def f(): return 1`: nothing to gain
            indent = lines[d.body_line - 1][: d.body_column]
            lines[d.body_line - 1] = f"{indent}pass\n"
            for i in range(d.body_line, d.last):
                lines[i] = "\n"
        return "".join(lines)


def _check_depth(tree: ast.AST) -> None:
    """Raises RecursionError if the tree is nested deeper than it is sensible to read."""
    level: list[ast.AST] = [tree]
    for _ in range(DEEPEST):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise RecursionError("nested too deeply")


def _tells(value: ast.expr) -> bool:
    if isinstance(value, ast.Constant):
        return True
    if not isinstance(value, ast.Call):
        return False
    if any(keyword.arg == "file" for keyword in value.keywords):
        return False
    return _called(value) in TELLING and all(
        _called(inner) in READING for inner in ast.walk(value) if isinstance(inner, ast.Call) and inner is not value
    )


def _called(call: ast.Call) -> str:
    """The last name of what is called."""
    func = call.func
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""


def _without_feeds(lines: list[str]) -> dict[int, int]:
    """Take away what is before a form feed in front of code, and say from which lines how much.

    For Python a line starts anew with it. libcst counts otherwise, and pieces of a file would be indented otherwise.
    """
    shifts: dict[int, int] = {}
    for index, line in enumerate(lines):
        feeds = _FEEDS.match(line)
        if feeds is not None:
            shifts[index + 1] = feeds.end()
            lines[index] = line[feeds.end() :]
    return shifts


def split_lines(text: str) -> list[str]:
    """Lines as Python's tokenizer counts them, each ending in "\\n": only \\n, \\r\\n and \\r end a line."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    return [line + "\n" for line in lines]
