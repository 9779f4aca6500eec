"""Odd text: real files and the pages' examples with lines lost, doubled, swapped, and with all that Python allows.

Whatever the text is, gradlint says what it finds, or that the file is not Python. Nothing of its own may break.

    python -m tests.fuzz.odd --programs 20000 --seed 1
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sys
import sysconfig
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from gradcheck_lint import registry
from gradcheck_lint.config import Settings
from gradcheck_lint.finding import Confidence
from gradcheck_lint.page import Page
from gradcheck_lint.report import FORMATS, renderer
from gradcheck_lint.result import Problem
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import Batch, Rules, check
from gradcheck_lint.source.mend import mend

ROOT = Path(__file__).parent.parent.parent
SETTINGS = Settings(min_confidence=Confidence.LOW, cache=False)
LARGEST = 40_000  # bytes of an installed file that is taken
SLOW = 5.0  # seconds


@cache
def rules() -> Rules:
    known = tuple(registry.load(packs=False))
    return Rules(known, known)


@cache
def ours() -> list[str]:
    """The pages' examples, and the programs in `examples/`."""
    pages = [Page.read(path) for path in sorted((ROOT / "rules").glob("*.md"))]
    texts = [example.code for page in pages for example in page.examples if example.kind != "harm"]
    return texts + [path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").glob("*/*.py"))]


@cache
def installed() -> list[Path]:
    """Installed files of a sensible size that may speak of training."""
    found = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py"))
    return [path for path in found if path.stat().st_size <= LARGEST]


def texts(rng: random.Random) -> str:
    """Some text to start from: mostly one of ours, which speaks of training."""
    if rng.random() < 0.75 or not installed():
        return rng.choice(ours())
    return rng.choice(installed()).read_text(encoding="utf-8", errors="replace")


# ---------------------------------------------------------------- what is done to it

Change = Callable[[random.Random, list[str]], None]


def _some(rng: random.Random, lines: list[str]) -> int:
    return rng.randrange(len(lines))


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def drop(rng: random.Random, lines: list[str]) -> None:
    del lines[_some(rng, lines)]


def double(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    lines.insert(at, lines[at])


def swap(rng: random.Random, lines: list[str]) -> None:
    a, b = _some(rng, lines), _some(rng, lines)
    lines[a], lines[b] = lines[b], lines[a]


def move(rng: random.Random, lines: list[str]) -> None:
    lines.insert(_some(rng, lines), lines.pop(_some(rng, lines)))


def backslash(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    lines[at] += rng.choice(["\\", " \\", "\\\n", " \\\n   "])


def backslash_at_the_end_of_a_block(rng: random.Random, lines: list[str]) -> None:
    ends = [n for n, line in enumerate(lines[:-1]) if line.strip() and not lines[n + 1].strip()]
    if ends:
        lines[rng.choice(ends)] += " \\"


def feed(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    spaces = _indent(lines[at])
    cut = rng.randrange(len(spaces) + 1)
    lines[at] = rng.choice(
        ["\f" + lines[at], spaces[:cut] + "\f" + lines[at].lstrip(), "\f\v"[: rng.randrange(3)] + lines[at]]
    )


def feeds(rng: random.Random, lines: list[str]) -> None:
    for at, line in enumerate(lines):
        if re.match(r"\s*(def|class|@|for|if|return|with)\b", line):
            lines[at] = "\f" + line


def tabs(rng: random.Random, lines: list[str]) -> None:
    lines[:] = [re.sub(r"^(?: {4})+", lambda m: "\t" * (len(m[0]) // 4), line) for line in lines]


def tab(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    lines[at] = lines[at].replace("    ", "\t", 1)


def dedent(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    lines[at] = lines[at][min(4, len(_indent(lines[at]))) :]


def nest(rng: random.Random, lines: list[str]) -> None:
    """Put the lines from somewhere on into a block."""
    head = rng.choice(
        ["def outer():", "async def outer(*a, **k):", "class Outer:", "if x:", "while True:", "for i in range(3):",
         "with open(f) as g, torch.no_grad():", "try:", "match x:", "@dec(lambda: 1)\ndef outer(self, /, a, *, b=1):",
         "async with a as b:", "for a, *b in c:", "if (n := 10) > 5:", "class Outer(torch.nn.Module, metaclass=M):"]
    )  # fmt: skip
    start = rng.choice([0, 0, _some(rng, lines)])
    spaces = _indent(lines[start])
    inner = "    case [1, *_] if x:\n" if head == "match x:" else ""
    body = [("        " if inner else "    ") + line if line.strip() else line for line in lines[start:]]
    tail = [f"{spaces}finally:", f"{spaces}    pass"] if head == "try:" else []
    lines[start:] = [
        *(spaces + part for part in head.split("\n")),
        *([spaces + inner.rstrip()] if inner else []),
        *body,
        *tail,
    ]


_STATEMENTS = (
    "opt = copy.deepcopy(make())",
    "model, *rest = build()",
    "opt.step()",
    "opt.zero_grad(set_to_none=True)",
    "loss = (out := model(x)).sum(); loss.backward()",
    "await opt.step()",
    "yield opt",
    "del opt.param_groups[0]['params'][0].grad",
    "x = y = z = model",
    "(a, [b, *c]), d[0], e.f = g",
    "global opt",
    "nonlocal model",
    "return model if (yield) else None",
    "print(f'{model!r:>{width}} {opt.step()=}', *args, sep='')",
    "f = lambda self, *a, k=opt, **kw: [p for p in model.parameters() if p.grad is not None]",
    "@property",
    "@torch.no_grad()",
    "for p in model.parameters(): p.grad = None",
    "[opt.step() for opt in opts for _ in range(3)]",
    "{**a, 'b': {*c, *d}, **(e or {})}",
    "opt.step",
    "opt.zero_grad; opt.step()",
    "model.train = model.eval = None",
    "torch.optim.SGD",
    "torch.optim.SGD()",
    "torch.optim.SGD(*params, **options)",
    "opt = torch.optim.Adam([{'params': [*a, *b]}, {}], lr=lr)",
    "opt = torch.optim.Adam(model.parameters, lr=...)",
    "opt = type(opt)(opt.param_groups)",
    "scaler.step(opt); scaler.update(); scaler.unscale_(opt)",
    "scheduler = torch.optim.lr_scheduler.StepLR(); scheduler.step()",
    "torch.nn.utils.clip_grad_norm_()",
    "torch.nn.utils.clip_grad_norm_(parameters=model.parameters(), max_norm=inf)",
    "loss.backward(loss)(loss)[0].backward()",
    "model = model(model)(model)",
    "model.requires_grad_ == False",
    "x: int",
    "opt.param_groups: list = []",
    "assert opt.step(), model",
    "raise opt from model",
    "import a.b.c as d, torch",
    "from . import *",
    "from torch import *",
    "type X[T] = list[T]",
    "def f[T: int](x: T, *args: *Ts) -> T: return x",
    "class A[T](torch.nn.Module): layers = [torch.nn.Linear(1, 1)]",
    "try: opt.step()\nexcept* ValueError: pass",
    "with (open(a) as b, model as c): opt.step()",
    "if x: opt.step()\nelse: pass",
    "while x: opt.step(); break",
    "lambda: (yield)",
    "élan = modèle = 变量 = ℌ = model",
    "''.join(x)  # \\",
    "x = '''\n\\\n''' \\\n",
    "...",
    "opt.step(closure)(opt)(**opt)",
    "self.opt = self.model = opt",
    "super().__init__(self)",
    "setattr(self, name, torch.nn.Linear(2, 2))",
    "getattr(model, 'zero_grad')()",
    "x = x.data = x.grad = x[0] = None",
    "model.load_state_dict(model.state_dict())",
    "model.weight.data.copy_(x)",
    "opt += opt",
    "-opt @ ~model ** 2",
    "a < opt.step() < b is not None in c",
    "x[1:2, ..., *y] = model[::opt]",
    "match opt.step():\n    case {'a': [x, *_], **rest} | SGD(lr=y): opt.zero_grad()",
)


def insert(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    spaces = _indent(lines[at]).replace("\f", "")
    lines[at:at] = [spaces + part for part in rng.choice(_STATEMENTS).split("\n")]


def insert_several(rng: random.Random, lines: list[str]) -> None:
    for _ in range(rng.randrange(2, 6)):
        insert(rng, lines)


_WORD = re.compile(r"[^\W\d]\w*")


def rename(rng: random.Random, lines: list[str]) -> None:
    """One word becomes another one of the text, in one line or in all."""
    words = sorted(set(_WORD.findall("\n".join(lines))))
    if len(words) < 2:
        return
    old, new = rng.choice(words), rng.choice([*words, "变量", "ℌ", "opt", "model"])
    where = range(len(lines)) if rng.random() < 0.4 else [n for n, line in enumerate(lines) if old in line][:1]
    for n in where:
        lines[n] = re.sub(rf"\b{old}\b", new, lines[n])


def argument(rng: random.Random, lines: list[str]) -> None:
    """Change what some call is given."""
    at = [n for n, line in enumerate(lines) if "(" in line]
    if at:
        n = rng.choice(at)
        given = rng.choice(
            ["*args, ", "**kw, ", "x := y, ", "lambda: 0, ", "[], ", "None, ", "a=b, ", "*[], ", "(yield), "]
        )
        lines[n] = (
            lines[n].replace("(", "(" + given, 1)
            if rng.random() < 0.6
            else re.sub(r"\([^()]*\)", "()", lines[n], count=1)
        )


_AROUND = (
    "({})", "[{}]", "{{{}}}", "f({})", "a if b else {}", "lambda: {}", "(yield {})", "[{} for _ in x]", "not {}",
    "(z := {})", "{{'k': {}}}", "copy.deepcopy({})", "{} or None", "next(iter([{}]))",
)  # fmt: skip


def wrap(rng: random.Random, lines: list[str]) -> None:
    """Put the right side of an assignment into something."""
    at = [n for n, line in enumerate(lines) if re.match(r"\s*\w+ = [^(\[{]*[^,(\[{:]$", line)]
    if at:
        n = rng.choice(at)
        left, _, right = lines[n].partition(" = ")
        lines[n] = f"{left} = {rng.choice(_AROUND).format(right)}"


def comment(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    lines[at] += rng.choice(
        ["  # gradlint: ignore", "  # gradlint: ignore[GL101, GL102]", "  # \\", "  # é\u2028", "# fmt: off"]
    )


def join(rng: random.Random, lines: list[str]) -> None:
    at = _some(rng, lines)
    if at + 1 < len(lines) and not lines[at].rstrip().endswith((":", ",", "(", "[")):
        lines[at : at + 2] = [f"{lines[at]}; {lines[at + 1].strip()}"]


def cut(rng: random.Random, lines: list[str]) -> None:
    lines[:] = lines[: 1 + _some(rng, lines)]


CHANGES: Sequence[Change] = (
    drop, drop, double, double, swap, move, backslash, backslash_at_the_end_of_a_block, feed, feeds, tabs, tab, dedent,
    nest, nest, insert, insert, insert, insert_several, rename, rename, rename, argument, argument, wrap, wrap, comment,
    join, cut,
)  # fmt: skip


def encoded(rng: random.Random, text: str) -> bytes:
    """The text as bytes: mostly plain, else with other line ends, a mark, or another encoding."""
    kind = rng.randrange(14)
    if kind == 0:
        text = text.replace("\n", "\r\n")
    elif kind == 1:
        text = text.replace("\n", "\r")
    elif kind == 2:
        text = "".join(line + rng.choice(["\n", "\r\n", "\r"]) for line in text.split("\n"))
    elif kind == 3:
        return b"\xef\xbb\xbf" + text.encode("utf-8", "replace")
    elif kind == 4:
        return b"# -*- coding: latin-1 -*-\n" + text.encode("latin-1", "replace")
    elif kind == 5:
        return text.encode(rng.choice(["utf-16", "latin-1", "utf-7", "cp1252"]), "replace")
    elif kind == 6:
        text = text.rstrip("\n")
    return text.encode("utf-8", "replace")


def mutant(rng: random.Random) -> bytes:
    lines = texts(rng).split("\n")
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        rng.choice(CHANGES)(rng, lines)
        lines = "\n".join(lines).split("\n")
    return encoded(rng, "\n".join(lines))


# ---------------------------------------------------------------- what comes of it


def faults(data: bytes, fix: bool) -> list[str]:
    """What breaks where a text is linted and told, or mended, with where it does."""
    batch = Batch((SourceFile("odd.py", ROOT / "tests" / "odd.py", data),))
    try:
        if fix:
            result = mend(batch, rules(), SETTINGS, unsafe=True, jobs=1).result
        else:
            result = check(batch, rules(), SETTINGS, jobs=1)
            for name in FORMATS:
                renderer(name)(result, sources=result.sources)
    except Exception as error:
        return [Problem.of("", error).message]
    return [problem.message for problem in result.problems if problem.traceback]


def is_python(data: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(data)
    except (SyntaxError, ValueError):
        return False
    return True


def mutants(programs: int, seed: int) -> Iterator[tuple[int, bytes]]:
    for number in range(programs):
        yield number, mutant(random.Random(f"{seed}/{number}"))


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a folder for the texts at which something broke")
    options = parser.parse_args(words)
    told: Counter[str] = Counter()
    valid, slow, start = 0, 0, time.perf_counter()
    for number, data in mutants(options.programs, options.seed):
        before = time.perf_counter()
        found = faults(data, number % 2 == 1)
        valid += is_python(data)
        slow += time.perf_counter() - before > SLOW
        for fault in found:
            told[fault] += 1
            if options.keep and told[fault] == 1:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{options.seed}-{number}.py").write_bytes(data)
                print(f"{options.seed}-{number}: {fault}", flush=True)
    for fault, times in told.most_common():
        print(f"{times:6} {fault}")
    seconds = time.perf_counter() - start
    print(f"{options.programs} programs ({valid} of them Python), {sum(told.values())} faults", end="")
    print(f", {slow} above {SLOW:.0f} s, in {seconds:.0f} s")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())
