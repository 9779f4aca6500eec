"""How time and memory grow with the size of a file, for shapes of code that are hard on a linter.

    python benchmarks/bombs.py [SHAPE…]         all shapes, or those whose name holds one of the words
    python benchmarks/bombs.py --sizes 6,12,25  other sizes, in thousands of characters (the default is 25, 50, 100)
    python benchmarks/bombs.py --limit 10       seconds of CPU time that a file gets (the default is 60)

Each shape is a function that makes a program of any size. It is linted at three sizes, each time in a process of its
own that has a limit of time and memory (where the platform can set one), and what is printed is the CPU time and the
memory at the peak, both above those of a few lines with a mistake (for which all is loaded that is loaded late), with
the exponents of their growth: 1 is linear, 2 is quadratic. A shape fails if an exponent is above 1.3, or if the largest
file takes more than 2 s or 300 MB for each 100,000 characters. An exponent is only taken where there is something to
measure: from 0.3 s and from 30 MB on.
Exits with 1 if a shape fails.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]

STEEPEST = 1.3  # exponent
SLOWEST = 2.0  # seconds for 100,000 characters
BIGGEST = 300.0  # MB for 100,000 characters
MEMORY = 4 << 30  # bytes of memory that it gets
NOTICED = 0.3, 30.0  # seconds and MB from which on an exponent says something

Source = str | dict[str, str]
SHAPES: dict[str, Callable[[int], Source]] = {}

HEAD = "import torch\nimport torch.nn as nn\nimport torch.optim as optim\nimport torch.nn.functional as F\n"
MODEL = HEAD + "model = nn.Linear(2, 1)\nopt = optim.SGD(model.parameters(), lr=0.1)\n"
WRONG = MODEL + "for x in data:\n  loss = model(x).sum()\n  loss.backward()\n  opt.step()\n"
CYCLE = ("opt.zero_grad()", "loss = model(torch.randn(3, 2)).sum()", "loss.backward()", "opt.step()")


def shape(make: Callable[[int], Source]) -> Callable[[int], Source]:
    SHAPES[make.__name__] = make
    return make


def lines(count: int, line: str, start: int = 0) -> str:
    """The line so many times; `{i}` in it is the number, `{p}` the one before, `{n}` the one after."""
    return "".join(line.format(i=i, p=i - 1, n=i + 1) + "\n" for i in range(start, start + count))


def indented(text: str, depth: int) -> str:
    return "".join(f"{'  ' * depth}{line}\n" for line in text.splitlines())


# ------------------------------------------------------------------------------------------------ values


@shape
def pairs_of_itself(n: int) -> Source:
    return HEAD + "l = nn.Linear(2, 1)\n" + "l = (l, l)\n" * n + "opt = optim.SGD(l, lr=0.1)\nopt.step()\n"


@shape
def pairs_handed_on(n: int) -> Source:
    return HEAD + "l = [torch.zeros(1)]\n" + "l = (l, l)\nf(l)\nopt = optim.SGD(l)\n" * n


@shape
def doubled_lists(n: int) -> Source:
    return HEAD + "l = [torch.zeros(1)]\n" + "l = l + l\n" * n + "opt = optim.SGD(l, lr=0.1)\nopt.step()\n"


@shape
def added_lists(n: int) -> Source:
    return HEAD + "l = []\n" + "l = l + [model.weight]\n" * n + "opt = optim.SGD(l, lr=0.1)\nopt.step()\n"


@shape
def lists_in_themselves(n: int) -> Source:
    return (
        HEAD + "l = [torch.zeros(1)]\n" + "l.append(l)\nl.extend(l)\n" * n + "opt = optim.SGD(l, lr=0.1)\nopt.step()\n"
    )


@shape
def appended_lists(n: int) -> Source:
    return MODEL + "seen = []\nfor x in data:\n" + lines(n, "    seen.append(model(x + {i}))\n    opt.step()")


@shape
def starred_lists(n: int) -> Source:
    return HEAD + "l = [torch.zeros(1)]\n" + "l = [*l, *l, torch.zeros(2)]\n" * n + "opt = optim.SGD(l)\nopt.step()\n"


@shape
def numbers(n: int) -> Source:
    return MODEL + "data = [\n" + "    1, 2, 3, 4, 5, 6, 7, 8, 9,\n" * n + "]\n" + "\n".join(CYCLE) + "\n"


@shape
def numbers_in_a_line(n: int) -> Source:
    return MODEL + "data = [" + "1, " * n + "]\n" + "\n".join(CYCLE) + "\n"


@shape
def numbers_in_tuples(n: int) -> Source:
    return MODEL + "data = [\n" + lines(n, "    ({i}, {p}.5, -{i}),") + "]\n" + "\n".join(CYCLE) + "\n"


@shape
def strings(n: int) -> Source:
    return MODEL + "data = [\n" + lines(n, "    'text {i}', \"more {i}\",") + "]\n" + "\n".join(CYCLE) + "\n"


@shape
def one_string(n: int) -> Source:
    return MODEL + "data = '''\n" + "a line of text that says opt.step()\n" * n + "'''\n" + "\n".join(CYCLE) + "\n"


@shape
def dictionary(n: int) -> Source:
    return MODEL + "data = {\n" + lines(n, "    'key{i}': {i},") + "}\n" + "\n".join(CYCLE) + "\n"


@shape
def growing_dictionaries(n: int) -> Source:
    return MODEL + "d = {}\n" + lines(n, "d = {{**d, 'k{i}': model}}") + "\n".join(CYCLE) + "\n"


@shape
def table_of_keys(n: int) -> Source:
    return (
        MODEL + "d = {}\n" + lines(n, "d['k{i}'] = model\nfor k, v in d.items(): v.train()") + "\n".join(CYCLE) + "\n"
    )


@shape
def group_lists(n: int) -> Source:
    groups = lines(n, "    {{'params': model.weight, 'lr': 0.{i}}},")
    return MODEL + f"other = optim.SGD([\n{groups}], lr=0.1)\n" + "\n".join(CYCLE) + "\n"


@shape
def many_group_lists(n: int) -> Source:
    groups = "".join(f"{{'params': model.weight, 'lr': 0.{i}}}, " for i in range(100))
    return MODEL + lines(
        n, "o{i} = optim.SGD([" + groups.replace("{", "{{").replace("}", "}}") + "], lr=0.1)\no{i}.step()"
    )


@shape
def assignments(n: int) -> Source:
    return MODEL + lines(n, "x{i} = {i}") + "\n".join(CYCLE) + "\n"


@shape
def attributes(n: int) -> Source:
    inside = lines(n, "        self.l{i} = nn.Linear(2, 2)")
    return (
        HEAD + f"class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n{inside}"
        "    def forward(self, x):\n        return self.l0(x)\n"
        "model = Net()\nopt = optim.SGD(model.parameters(), lr=0.1)\n" + "\n".join(CYCLE) + "\n"
    )


@shape
def frozen_parts(n: int) -> Source:
    return MODEL + lines(
        n, "model.l{i} = nn.Linear(2, 2)\nmodel.l{i}.requires_grad_(False)\nmodel.requires_grad_(True)"
    )


@shape
def choices(n: int) -> Source:
    return (
        MODEL + "x = None\n" + lines(n, "x = nn.Linear({i}, 1) if c{i} else x") + "optim.SGD(x.parameters()).step()\n"
    )


@shape
def choices_of_calls(n: int) -> Source:
    made = lines(n, "if c{i}:\n    o = optim.SGD(model.parameters(), lr={i})\no.step()")
    return MODEL + "o = opt\n" + made + "\n".join(CYCLE) + "\n"


@shape
def dependencies(n: int) -> Source:
    return MODEL + "x = torch.randn(2)\n" + "x = x + model(x)\n" * n + "x.backward()\nopt.step()\n"


@shape
def dependencies_of_many(n: int) -> Source:
    return (
        MODEL
        + "x = torch.randn(2)\n"
        + lines(n, "m{i} = nn.Linear(2, 2)\nx = x + m{i}(x)")
        + "x.backward()\nopt.step()\n"
    )


# ------------------------------------------------------------------------------------------------ statements


def nested(depth: int, n: int) -> str:
    nest = "".join(f"{'  ' * d}for i{d} in range(c):\n" for d in range(depth))
    return MODEL + (nest + indented("\n".join(CYCLE), depth)) * n


@shape
def loops_5_deep(n: int) -> Source:
    return nested(5, n)


@shape
def loops_10_deep(n: int) -> Source:
    return nested(10, n)


@shape
def loops_20_deep(n: int) -> Source:
    return nested(20, n)


@shape
def loops_that_change(n: int) -> Source:
    """Each loop gives the names a new value, so that its body has to be run again."""
    nest = "".join(f"{'  ' * d}for i{d} in range(c):\n{'  ' * (d + 1)}m{d} = nn.Linear({d}, 1)\n" for d in range(15))
    names = "opt = optim.SGD(m3.parameters(), lr=0.1)"
    first = lines(15, "m{i} = None")
    return MODEL + first + (nest + indented("\n".join([names, *CYCLE]), 15)) * n


@shape
def whiles_20_deep(n: int) -> Source:
    nest = "".join(f"{'  ' * d}while more({d}):\n" for d in range(20))
    return MODEL + (nest + indented("\n".join(CYCLE), 20)) * n


@shape
def many_loops(n: int) -> Source:
    return MODEL + f"for x in data:\n{indented(chr(10).join(CYCLE), 1)}" * n


@shape
def ifs_deep(n: int) -> Source:
    nest = "".join(f"{' ' * d}if c{d}:\n{' ' * (d + 1)}opt.step()\n" for d in range(60))
    return MODEL + (nest + " " * 60 + "opt.zero_grad()\n") * n


@shape
def ifs_in_a_row(n: int) -> Source:
    return MODEL + "for x in data:\n" + lines(n, "  if c{i}: model(x).sum().backward()\n  if d{i}: opt.step()")


@shape
def ifs_that_clear(n: int) -> Source:
    steps = "  if c{i}: model(x).sum().backward()\n  if b{i}: opt.zero_grad()\n  if d{i}: opt.step()"
    return MODEL + "for x in data:\n" + lines(n, steps)


@shape
def elifs(n: int) -> Source:
    return MODEL + "if c:\n  pass\n" + lines(n, "elif c == {i}:\n  opt.step()")


@shape
def elifs_that_bind(n: int) -> Source:
    return MODEL + "if c:\n  pass\n" + lines(n, "elif c == {i}:\n  x{i} = model(c)\n  x{i}.backward()")


@shape
def conditional_chain(n: int) -> Source:
    return MODEL + "x = (" + lines(n, "model if c{i} else") + "opt)\nx.step()\n"


@shape
def tries(n: int) -> Source:
    return MODEL + "try:\n  opt.step()\nexcept E:\n  opt.zero_grad()\nfinally:\n  loss = model(1)\n" * n


@shape
def tries_deep(n: int) -> Source:
    nest = "".join(f"{' ' * d}try:\n{' ' * (d + 1)}opt.step()\n" for d in range(20))
    ends = "".join(
        f"{' ' * d}except E:\n{' ' * d}  opt.zero_grad()\n{' ' * d}finally:\n{' ' * d}  f(opt)\n"
        for d in range(19, -1, -1)
    )
    return MODEL + (nest + ends) * n


@shape
def handlers(n: int) -> Source:
    return MODEL + "try:\n  opt.step()\n" + lines(n, "except E{i}:\n  opt.zero_grad()\n  x{i} = model({i})")


@shape
def withs(n: int) -> Source:
    nest = "".join(f"{' ' * d}with f({d}) as a{d}:\n" for d in range(20))
    return MODEL + (nest + " " * 20 + "opt.step()\n") * n


@shape
def matches(n: int) -> Source:
    return MODEL + "match c:\n" + lines(n, "  case {i}:\n    x{i} = model(c)\n    opt.step()")


@shape
def deletions(n: int) -> Source:
    return MODEL + lines(n, "a{i} = model.weight\ndel a{i}") + "\n".join(CYCLE) + "\n"


@shape
def cycles_in_a_function(n: int) -> Source:
    return MODEL + "def train():\n" + indented("\n".join(CYCLE), 1) * n


@shape
def cycles_in_a_module(n: int) -> Source:
    return MODEL + ("\n".join(CYCLE) + "\n") * n


@shape
def optimizers_in_a_loop(n: int) -> Source:
    made = lines(n, "m{i} = nn.Linear(2, 1)\no{i} = optim.SGD(m{i}.parameters(), lr=0.1)")
    used = lines(n, "  o{i}.zero_grad()\n  l{i} = m{i}(x).sum()\n  l{i}.backward()\n  o{i}.step()")
    return HEAD + made + "for x in data:\n" + used


@shape
def optimizers_of_one_model(n: int) -> Source:
    made = lines(n, "o{i} = optim.SGD(model.parameters(), lr=0.1)")
    return (
        MODEL + made + "for x in data:\n  model(x).sum().backward()\n" + lines(n, "  o{i}.step()\n  o{i}.zero_grad()")
    )


@shape
def windows(n: int) -> Source:
    step = "  model(x).backward()\n  if (k + 1) % accum == {i}:\n    opt.step()\n    opt.zero_grad()"
    return MODEL + "for k, x in enumerate(data):\n" + lines(n, step)


@shape
def rebound_parameters(n: int) -> Source:
    return (
        MODEL
        + "w = torch.zeros(2, requires_grad=True)\nfor x in data:\n"
        + "  w = w - 0.1 * w.grad\n  opt.step()\n" * n
    )


@shape
def data_assigned(n: int) -> Source:
    return MODEL + "for p in model.parameters():\n" + lines(n, "  q{i} = p.data * {i}\n  p.data = q{i}\n  opt.step()")


# ------------------------------------------------------------------------------------------------ expressions


@shape
def chained_calls(n: int) -> Source:
    return MODEL + lines(n, "x{i} = " + "a.b().c(model).d()" + ".e().f()" * 40) + "\n".join(CYCLE) + "\n"


@shape
def one_chain_of_calls(n: int) -> Source:
    return MODEL + "x = (model\n" + "  .to(a).b(c)\n" * n + ")\n" + "\n".join(CYCLE) + "\n"


@shape
def attribute_chains(n: int) -> Source:
    return MODEL + lines(n, "x{i} = model" + ".a.b.c" * 30) + "\n".join(CYCLE) + "\n"


@shape
def boolean_chain(n: int) -> Source:
    return MODEL + "if (c\n" + lines(n, "    and x{i} != model") + "): opt.step()\n"


@shape
def boolean_lines(n: int) -> Source:
    return MODEL + lines(n, "if " + " or ".join(f"c{k}" for k in range(100)) + ": opt.step()")


@shape
def sum_chain(n: int) -> Source:
    return MODEL + "loss = (0\n" + "    + model(x)\n" * n + ")\nloss.backward()\nopt.step()\n"


@shape
def comprehensions(n: int) -> Source:
    inside = "model(x)"
    for depth in range(12):
        inside = f"[{inside} for x{depth} in y{depth}]"
    return MODEL + lines(n, f"a{{i}} = {inside}") + "\n".join(CYCLE) + "\n"


@shape
def lambdas(n: int) -> Source:
    inside = "opt.step()"
    for depth in range(20):
        inside = f"(lambda a{depth}: {inside})(x)"
    return MODEL + lines(n, inside) + "\n".join(CYCLE) + "\n"


@shape
def lambdas_that_call(n: int) -> Source:
    return MODEL + "f0 = lambda: opt.step()\n" + lines(n, "f{i} = lambda: (f{p}(), f{p}())", 1) + f"f{n}()\n"


@shape
def formatted_strings(n: int) -> Source:
    return MODEL + lines(n, "x = f'{{model}} {{opt.step()}} {{loss:.3f}} {i}'") + "\n".join(CYCLE) + "\n"


@shape
def long_lines(n: int) -> Source:
    line = "; ".join([*CYCLE[:1], "x = {i}", *CYCLE[1:]] * 10)
    return MODEL + lines(n, line)


@shape
def one_long_line(n: int) -> Source:
    return MODEL + "; ".join(CYCLE * n) + "\n"


@shape
def long_line_in_unicode(n: int) -> Source:
    return MODEL + "é = [" + "(a, b), f'{é}', " * n + "]\n" + "\n".join(CYCLE) + "\n"


@shape
def arguments(n: int) -> Source:
    return MODEL + "f(\n" + lines(n, "    a{i}=opt,") + ")\n" + "\n".join(CYCLE) + "\n"


@shape
def nested_tuples(n: int) -> Source:
    inside = "model.parameters()"
    for _ in range(60):
        inside = f"[{inside}]"
    return MODEL + lines(n, f"o{{i}} = optim.SGD({inside})\no{{i}}.step()")


# ------------------------------------------------------------------------------------------------ functions and classes


@shape
def functions_that_call_two(n: int) -> Source:
    return MODEL + "def f0():\n  opt.step()\n" + lines(n, "def f{i}():\n  f{p}()\n  f{p}()", 1)


@shape
def functions_that_call_two_later(n: int) -> Source:
    return MODEL + lines(n, "def f{i}(o):\n  f{n}(o)\n  f{n}(o)") + f"def f{n}(o):\n  o.step()\nf0(opt)\n"


@shape
def methods_that_call_two(n: int) -> Source:
    methods = lines(n, "  def m{i}(self):\n    self.m{p}()\n    self.m{p}()\n    self.opt.step()", 1)
    return HEAD + (
        "class Trainer:\n  def __init__(self):\n    self.model = nn.Linear(2, 1)\n"
        "    self.opt = optim.SGD(self.model.parameters(), lr=0.1)\n  def m0(self):\n    self.opt.step()\n" + methods
    )


@shape
def methods_that_call_all(n: int) -> Source:
    methods = lines(n, "  def m{i}(self):\n    self.opt.step()\n    self.run()")
    calls = lines(n, "    self.m{i}()")
    return HEAD + (
        "class Trainer:\n  def __init__(self):\n    self.model = nn.Linear(2, 1)\n"
        f"    self.opt = optim.SGD(self.model.parameters(), lr=0.1)\n  def run(self):\n{calls}{methods}"
    )


@shape
def methods_of_a_big_init(n: int) -> Source:
    made = lines(n, "    self.l{i} = nn.Linear(2, 1)")
    methods = lines(n, "  def m{i}(self):\n    self.l{i}(1).backward()\n    self.opt.step()")
    return HEAD + (
        f"class Trainer:\n  def __init__(self):\n{made}"
        f"    self.opt = optim.SGD(self.l0.parameters(), lr=0.1)\n{methods}"
    )


@shape
def mutual_recursion(n: int) -> Source:
    return MODEL + lines(n, "def f{i}(o):\n  g{i}(o)\n  f{n}(o)\ndef g{i}(o):\n  f{i}(o)\n  o.step()\n  g{n}(o)")


@shape
def ring_of_functions(n: int) -> Source:
    return MODEL + lines(n, "def f{i}():\n  opt.step()\n  f{n}()\n  f{p}()")


@shape
def small_functions(n: int) -> Source:
    body = "  opt = optim.SGD(model.parameters(), lr=0.1)\n  for x in data:\n" + indented("\n".join(CYCLE), 2)
    return HEAD + lines(n, "def train{i}(model, data):\n" + body)


@shape
def functions_called_from_one(n: int) -> Source:
    used = lines(n, "def f{i}(o, m):\n  m(1).backward()\n  o.step()")
    return MODEL + used + "def train():\n" + lines(n, "  f{i}(opt, model)") + "train()\n"


@shape
def functions_in_functions(n: int) -> Source:
    nest = "".join(f"{' ' * d}def f{d}():\n{' ' * (d + 1)}opt.step()\n" for d in range(60))
    return MODEL + (nest + " " * 60 + "opt.zero_grad()\n") * n


@shape
def parameters(n: int) -> Source:
    return MODEL + "def f(\n" + lines(n, "    a{i}=model,") + "):\n  opt.step()\n" + "f()\n" * 20


@shape
def defaults(n: int) -> Source:
    return MODEL + lines(n, "def f{i}(a=f{p}(), b=[opt, model], *c, **d):\n  opt.step()\n  f{i}(a, b)", 1)


@shape
def decorators(n: int) -> Source:
    return MODEL + "def deco(f): return f\n" + "@deco\n" * n + "def train():\n" + indented("\n".join(CYCLE), 1)


@shape
def generators(n: int) -> Source:
    return MODEL + lines(n, "def g{i}(o):\n  yield o.step()\n  yield from g{p}(o)\nfor x in g{i}(opt): x", 1)


@shape
def derived_classes(n: int) -> Source:
    return HEAD + "class A0:\n  def step(self): pass\n" + lines(n, "class A{i}(A{p}): pass", 1) + f"A{n}().step()\n"


@shape
def derived_modules(n: int) -> Source:
    more = lines(n, "class A{i}(A{p}):\n  def forward(self, x):\n    return super().forward(x).backward()", 1)
    return HEAD + "class A0(nn.Module):\n  def forward(self, x):\n    return x\n" + more + f"A{n}()(1)\n"


@shape
def derived_trainers(n: int) -> Source:
    """Each class adds to what the one before does at the start and at a step."""
    more = lines(
        n,
        "class A{i}(A{p}):\n  def __init__(self):\n    super().__init__()\n    self.o{i} = optim.SGD(self.m, 0.1)\n"
        "  def go(self):\n    super().go()\n    self.o{i}.step()",
        1,
    )
    return HEAD + "class A0:\n  def __init__(self):\n    self.m = []\n  def go(self):\n    pass\n" + more


@shape
def children_of_one(n: int) -> Source:
    more = lines(n, "class A{i}(Base):\n  def go(self):\n    self.run()\n    self.opt.step()")
    return HEAD + "class Base:\n  def run(self):\n    self.go()\n" + more


@shape
def many_classes(n: int) -> Source:
    made = (
        "class N{i}(nn.Module):\n  def __init__(self):\n    super().__init__()\n    self.a = nn.Linear(2, 2)\n"
        "  def forward(self, x):\n    return self.a(x)\n  def train_it(self, opt):\n    opt.step()\n"
    )
    return HEAD + lines(n, made)


@shape
def modules_of_modules(n: int) -> Source:
    made = (
        "class N{i}(nn.Module):\n  def __init__(self):\n    super().__init__()\n"
        "    self.a = N{p}()\n    self.b = N{p}()\n  def forward(self, x):\n    return self.a(self.b(x))\n"
    )
    first = "class N0(nn.Module):\n  def __init__(self):\n    super().__init__()\n    self.a = nn.Linear(2, 2)\n"
    last = f"model = N{n}()\nopt = optim.SGD(model.parameters(), lr=0.1)\n"
    return HEAD + first + lines(n, made, 1) + last + "\n".join(CYCLE) + "\n"


# ------------------------------------------------------------------------------------------------ text and files


@shape
def suppressions(n: int) -> Source:
    return MODEL + lines(n, "x{i} = 1  # gradlint: ignore[GL101]")


@shape
def suppressions_that_silence(n: int) -> Source:
    cycle = "for x in data:\n  model(x).sum().backward()\n  opt.step()  # gradlint: ignore[GL101]\n"
    return MODEL + cycle * n


@shape
def suppressions_in_a_statement(n: int) -> Source:
    return MODEL + "x = [\n" + "  1,  # noqa: GL101\n" * n + "]\nfor x in data:\n  loss.backward()\n  opt.step()\n"


@shape
def comments(n: int) -> Source:
    return MODEL + "# opt.step() is what a comment may say\n" * n + "\n".join(CYCLE) + "\n"


@shape
def prints(n: int) -> Source:
    return MODEL + "for x in data:\n" + lines(n, "  print('loss', loss, {i})\n  loss = model(x)\n  opt.step()")


@shape
def imports(n: int) -> Source:
    more = {f"part{i}.py": HEAD + f"def go(o):\n  o.step()\n  x = {i}\n" for i in range(min(n, 200))}
    used = lines(n, "from part{i} import go as go{i}\ngo{i}(opt)")
    return {"main.py": MODEL + used, **more}


@shape
def imports_in_a_row(n: int) -> Source:
    count = max(2, n // 20)
    made = {
        f"part{i}.py": HEAD + f"from part{i + 1} import *\nfrom part{i + 1} import go{i + 1}\ndef go{i}(o):\n"
        f"  go{i + 1}(o)\n  o.step()\n" + lines(20, "v{i} = 1")
        for i in range(count)
    }
    return {"main.py": MODEL + "from part0 import *\ngo0(opt)\n", **made}


@shape
def mistakes(n: int) -> Source:
    """Something is found on every third line."""
    return MODEL + "for x in data:\n  loss = model(x).sum()\n  loss.backward()\n  opt.step()\n" * n


@shape
def mistakes_in_a_loop(n: int) -> Source:
    return MODEL + "for x in data:\n" + "  loss = model(x).sum()\n  loss.backward()\n  opt.step()\n" * n


# ------------------------------------------------------------------------------------------------ measuring


def sized(make: Callable[[int], Source], size: int) -> Source:
    """A program of about so many characters."""
    n = 10
    made = make(n)
    for _ in range(12):
        here = _length(made)
        if 0.93 * size <= here <= 1.07 * size:
            break
        base = _length(make(0)) if n > 1 else 0
        n = max(1, round(n * max(1, size - base) / max(1, here - base)))
        made = make(n)
    return made


def _length(source: Source) -> int:
    return len(source) if isinstance(source, str) else sum(map(len, source.values()))


def child(folder: str, seconds: int) -> None:
    """Lint a folder here, and print what that takes."""
    sys.path.insert(0, str(CHECKOUT))
    from gradcheck_lint.config import Settings
    from gradcheck_lint.source.lint import lint

    (Path(folder) / "small").mkdir()
    (Path(folder) / "small" / "small.py").write_text(WRONG, encoding="utf-8")
    settings = Settings(root=Path(folder), cache=False)
    gc.set_threshold(2_000_000)  # as the command does
    lint([str(Path(folder) / "small")], settings, jobs=1)
    _limit(seconds)
    before, start = _peak(), time.process_time()
    result = lint([str(Path(folder) / "made")], settings, jobs=1)
    spent = time.process_time() - start
    told = [f"{p.path}: {p.message}" for p in result.problems] + [
        f.message for f in result.findings if f.code == "GL003"
    ]
    print(
        json.dumps({"time": spent, "memory": (_peak() - before) / 1e6, "found": len(result.findings), "told": told[:1]})
    )


def _limit(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has none: the parent's time limit remains
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _peak() -> int:
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(source: Source, seconds: int) -> dict[str, object]:
    """What linting the source takes, or why that cannot be told."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "made").mkdir()
        for name, text in {"main.py": source}.items() if isinstance(source, str) else source.items():
            (Path(folder) / "made" / name).write_text(text, encoding="utf-8")
        command = [sys.executable, __file__, "--child", folder, "--limit", str(seconds)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds * 20 + 60, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": "time"}
    if done.returncode:
        lines = done.stderr.splitlines()
        return {"failed": "memory" if "MemoryError" in done.stderr else "time" if done.returncode < 0 else lines[-1]}
    measured: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return measured


def exponent(sizes: list[int], costs: list[float], noticed: float) -> float:
    """The slope of the line through the logarithms; 0 where there is too little to measure."""
    if max(costs) < noticed:
        return 0.0
    xs, ys = [math.log(s) for s in sizes], [math.log(max(c, noticed / 30)) for c in costs]
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def exponent_of_peaks(sizes: list[int], peaks: list[float]) -> float:
    """The exponent of memory; the first megabytes fit into what the small file has left free, and are not seen.

    So what counts is the growth between the sizes: the exponent e for which a * size ** e - b goes through all three.
    """
    if max(peaks) < NOTICED[1] or len(peaks) != 3:
        return exponent(sizes, peaks, NOTICED[1])
    first, second = peaks[1] - peaks[0], peaks[2] - peaks[1]
    if first <= 0 or second <= 0:
        return 0.0
    low, high = 0.0, 4.0
    for _ in range(40):
        e = (low + high) / 2
        small, middle, large = (size**e if e else math.log(size) for size in sizes)
        low, high = (e, high) if (large - middle) / (middle - small) < second / first else (low, e)
    return low


def row(name: str, sizes: list[int], seconds: int) -> bool:
    """Measure one shape and print it; whether it holds."""
    times: list[float] = []
    peaks: list[float] = []
    lengths: list[int] = []
    failed = told = ""
    for size in sizes:
        source = sized(SHAPES[name], size)
        found = measure(source, seconds)
        if "failed" in found:
            failed = f"{found['failed']} at {_length(source) // 1000} kB"
            break
        lengths.append(_length(source))
        times.append(float(str(found["time"])))
        peaks.append(float(str(found["memory"])))
        told = " ".join(found["told"])[:60] if isinstance(found["told"], list) else ""
    if failed:
        so_far = ", ".join(f"{t:.2f} s" for t in times)
        print(f"{name:34} {so_far:>30}  FAILS: {failed}", flush=True)
        return False
    of_time, of_memory = exponent(lengths, times, NOTICED[0]), exponent_of_peaks(lengths, peaks)
    scale = max(1.0, lengths[-1] / 100_000)
    flaws = [
        *(["slow"] if times[-1] > SLOWEST * scale else []),
        *(["big"] if peaks[-1] > BIGGEST * scale else []),
        *(["time grows"] if of_time > STEEPEST else []),
        *(["memory grows"] if of_memory > STEEPEST else []),
    ]
    spent = " ".join(f"{t:6.2f}" for t in times)
    used = " ".join(f"{p:5.0f}" for p in peaks)
    verdict = f"FAILS: {', '.join(flaws)}" if flaws else ""
    print(f"{name:34} {spent} s ^{of_time:4.2f}  {used} MB ^{of_memory:4.2f}  {verdict} {told}".rstrip(), flush=True)
    return not flaws


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE")
    parser.add_argument("--sizes", default="25,50,100", help="in thousands of characters")
    parser.add_argument("--limit", default=60, type=int, help="seconds of CPU time that a file gets")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.limit)
        return 0
    sizes = [int(size) * 1000 for size in options.sizes.split(",")]
    chosen = [name for name in SHAPES if not options.shapes or any(word in name for word in options.shapes)]
    fails = [name for name in chosen if not row(name, sizes, options.limit)]
    print(f"{len(chosen)} shapes, {len(fails)} fail" + (f": {', '.join(fails)}" if fails else ""))
    return 1 if fails else 0


if __name__ == "__main__":
    sys.exit(main())
