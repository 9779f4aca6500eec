"""Correct programs that clear, step and run backward in unusual places.

A shape is put together from what is done (`DEEDS`), how it is hidden (`ways`), where the code lies, and in what kind
of loop. All shapes of one *rhythm* compute the same numbers as the plain program of that rhythm, which proves that the
hidden deed is done; so nothing is missing, whatever can be seen, and no finding of high confidence is right. Worse is
a safe fix that changes what is computed.

    python -m tests.fuzz.places --list
    python -m tests.fuzz.places --only 'clear.*hook'
    python -m tests.fuzz.places --show NAME
"""

from __future__ import annotations

import argparse
import difflib
import random
import re
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from textwrap import indent
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence
from tests.fuzz.trial import Outcome, Verdict, run, try_out
from tests.fuzz.ways import WAYS, Way, family

if TYPE_CHECKING:
    from collections.abc import Sequence

TURNS = 12
CALLS, HEADS, WRAPS = family("calls"), family("heads"), family("wraps")


@dataclass(frozen=True, slots=True)
class Deed:
    """What is done in an unusual place. `$W` in the text stands for the test of whether it is time."""

    group: str  # clear, step, backward, turn, whole, clip, schedule
    kind: str
    body: str  # of a function that is handed `$P`
    before: str = ""  # what has to be defined before that function

    @property
    def names(self) -> tuple[str, str]:
        """What a call hands over, and as what the function gets it; the last is new in each turn."""
        return {
            "backward": ("loss, model, k", "e, m, k"),
            "whole": ("loss, opt, k", "e, o, k"),
            "closure-backward": ("loss, model, k", "e, m, k"),
            "schedule": ("plan, model, k", "o, m, k"),
            "unscale": ("scaler, opt, k", "s, o, k"),
            "update": ("scaler, opt, k", "s, o, k"),
            "scaled-step": ("scaler, opt, k", "s, o, k"),
            "scale": ("loss, scaler, k", "e, s, k"),
        }.get(self.group, ("opt, model, k", "o, m, k"))

    @property
    def holdable(self) -> bool:
        """Whether what it needs is there before the loop."""
        return "loss" not in self.names[0]


def _each(line: str) -> str:
    return f"for p in m.parameters():\n    if p.grad is not None:\n        {line}"


GRADS = "grads = [p.grad for p in m.parameters() if p.grad is not None]\n"
_WIPE = "def wipe(part):\n    for p in part.parameters(recurse=False):\n        p.grad = None\n"
_WIPE_ALL = "def wipe(m):\n    m.zero_grad()\n    for part in m.children():\n        wipe(part)\n"
CLEARS = [
    Deed("clear", "zero_grad", "o.zero_grad()"),
    Deed("clear", "keyword", "o.zero_grad(set_to_none=False)"),
    Deed("clear", "of-model", "m.zero_grad()"),
    Deed("clear", "none", _each("p.grad = None")),
    Deed("clear", "del", _each("del p.grad")),
    Deed("clear", "setattr", _each('setattr(p, "grad", None)')),
    Deed("clear", "zeros_like", _each("p.grad = p.detach() * 0")),
    Deed("clear", "imul", _each("p.grad *= 0")),
    Deed("clear", "isub", _each("p.grad -= p.grad.clone()")),
    Deed("clear", "zero_", _each("p.grad.zero_()")),
    Deed("clear", "data-zero_", _each("p.grad.data.zero_()")),
    Deed("clear", "detach-zero_", _each("p.grad.detach_().zero_()")),
    Deed("clear", "fill_", _each("p.grad.fill_(0)")),
    Deed("clear", "copy_", _each("p.grad.copy_(p.grad * 0)")),
    Deed("clear", "slice", _each("p.grad[...] = 0")),
    Deed("clear", "mul_", _each("p.grad.mul_(0.0)")),
    Deed("clear", "grads-list", GRADS + "for g in grads:\n    g.zero_()"),
    Deed("clear", "foreach_mul", GRADS + "if grads:\n    torch._foreach_mul_(grads, 0)", "import torch\n"),
    Deed("clear", "foreach_zero", GRADS + "if grads:\n    torch._foreach_zero_(grads)", "import torch\n"),
    Deed("clear", "groups", 'for g in o.param_groups:\n    for p in g["params"]:\n        p.grad = None'),
    Deed("clear", "map-setattr", 'list(map(lambda p: setattr(p, "grad", None), m.parameters()))'),
    Deed("clear", "comprehension", '[setattr(p, "grad", None) for p in m.parameters()]'),
    Deed("clear", "children", "for part in m.modules():\n    part.zero_grad()"),
    Deed("clear", "recursion", "wipe(m)", _WIPE_ALL),
    Deed("clear", "getattr", 'getattr(o, "zero_" + "grad")()'),
    Deed("clear", "getattr-name", "getattr(o, NAME)()", "NAME = 'zero_grad'\n"),
    Deed("clear", "methodcaller", 'operator.methodcaller("zero_grad")(o)', "import operator\n"),
    Deed("clear", "unbound", "Z(o)", "import torch\nZ = torch.optim.SGD.zero_grad\n"),
    Deed("clear", "unbound-base", "torch.optim.Optimizer.zero_grad(o)", "import torch\n"),
    Deed("clear", "lambda", "z(o)", "z = lambda o: o.zero_grad()\n"),
    Deed("clear", "table-of-lambdas", "WORK['z'](o)", "WORK = {'z': lambda o: o.zero_grad()}\n"),
    Deed("clear", "list-of-one", "for one in [o]:\n    one.zero_grad()"),
    Deed("clear", "comprehension-of-one", "[one.zero_grad() for one in (o,)]"),
    Deed("clear", "eval", "eval('o.zero' + '_grad()')"),
    Deed("clear", "apply", "m.apply(wipe)", _WIPE),
    Deed("clear", "apply-lambda", "m.apply(lambda part: part.zero_grad())"),
]
_BY_HAND = "with torch.no_grad():\n    for p in m.parameters():\n        p.add_(p.grad, alpha=-0.1)"
STEPS = [
    Deed("step", "step", "o.step()"),
    Deed("step", "getattr", 'getattr(o, "st" + "ep")()'),
    Deed("step", "unbound", "S(o)", "import torch\nS = torch.optim.SGD.step\n"),
    Deed("step", "methodcaller", 'operator.methodcaller("step")(o)', "import operator\n"),
    Deed("step", "by-hand", _BY_HAND, "import torch\n"),
    Deed("step", "by-hand-data", "for p in m.parameters():\n    p.data.add_(p.grad, alpha=-0.1)"),
]
_GRAD = """\
params = list(m.parameters())
for p, g in zip(params, torch.autograd.grad(e, params)):
    p.grad = g if p.grad is None else p.grad + g"""
BACKWARDS = [
    Deed("backward", "backward", "e.backward()"),
    Deed("backward", "function", "torch.autograd.backward(e)", "import torch\n"),
    Deed("backward", "getattr", 'getattr(e, "back" + "ward")()'),
    Deed("backward", "unbound", "B(e)", "import torch\nB = torch.Tensor.backward\n"),
    Deed("backward", "grad", _GRAD, "import torch\n"),
]
TURN = Deed("turn", "step-and-clear", "o.step()\no.zero_grad()")
OTHERS = [
    Deed("whole", "all", "e.backward()\no.step()\no.zero_grad()"),
    Deed("clip", "norm", "torch.nn.utils.clip_grad_norm_(m.parameters(), 0.5)", "import torch\n"),
    Deed("schedule", "step", "o.step()"),
    Deed("decay", "mul_", _each("p.grad.mul_(0.5)")),
    Deed("decay", "imul", _each("p.grad *= 0.5")),
    Deed("unscale", "unscale", "s.unscale_(o)"),
    Deed("update", "update", "s.update()"),
    Deed("scaled-step", "step", "s.step(o)\ns.update()"),
    Deed("scale", "backward", "s.scale(e).backward()"),
    Deed("skip", "zero_grad", "o.zero_grad()"),
    Deed("skip", "none", _each("p.grad = None")),
    Deed("closure", "zero_grad", "o.zero_grad()"),
    Deed("closure", "zero_", _each("p.grad.zero_()")),
    Deed("closure-backward", "backward", "e.backward()"),
    Deed("noise", "add_", _each("p.grad.add_(0.01)")),
]

LOSS = "loss = torch.nn.functional.mse_loss(model(X[k]), Y[k])"
SCALED = "scaler.step(opt)\nscaler.update()"
CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)"
CLOSURE = f"def closure():\n    @S\n    {LOSS}\n    loss.backward()\n    return loss\nloss = opt.step(closure)"
RHYTHMS = {
    # one batch in four closes a window: the usual accumulation
    ("clear", "window"): f"@S\n{LOSS} / 4\nloss.backward()\nif k % 4 == 3:\n    opt.step()\n@E",
    ("clear", "clipped"): (
        f"@S\n{LOSS} / 4\nloss.backward()\nif k % 4 == 3:\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)\n    opt.step()\n@E"
    ),
    # each step goes along the mean of what the last batches have said
    ("clear", "each"): f"@S\n{LOSS} / 4\nloss.backward()\nopt.step()\n@E",
    ("clear", "plain"): f"@S\n{LOSS}\nloss.backward()\nopt.step()\n@E",
    ("step", "window"): f"if k % 4 == 0:\n    opt.zero_grad()\n{LOSS} / 4\nloss.backward()\n@E",
    ("step", "clipped"): (
        f"if k % 4 == 0:\n    opt.zero_grad()\n{LOSS} / 4\nloss.backward()\nif k % 4 == 3:\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)\n@E"
    ),
    ("step", "cleared-behind"): f"{LOSS} / 4\nloss.backward()\n@E\nif k % 4 == 3:\n    opt.zero_grad()",
    ("step", "scheduled"): f"opt.zero_grad()\n{LOSS}\nloss.backward()\n@E\nplan.step()",
    ("step", "plain"): f"opt.zero_grad()\n{LOSS}\nloss.backward()\n@E",
    ("backward", "plain"): f"opt.zero_grad()\n{LOSS}\n@E\nopt.step()",
    ("backward", "window"): f"{LOSS} / 4\n@E\nif k % 4 == 3:\n    opt.step()\n    opt.zero_grad()",
    ("backward", "clipped"): (
        f"opt.zero_grad()\n{LOSS}\n@E\ntorch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)\nopt.step()"
    ),
    ("turn", "window"): f"{LOSS} / 4\nloss.backward()\n@E",
    ("turn", "plain"): f"{LOSS}\nloss.backward()\n@E",
    ("whole", "plain"): f"{LOSS}\n@E",
    ("clip", "plain"): f"opt.zero_grad()\n{LOSS}\nloss.backward()\n@E\nopt.step()",
    ("schedule", "plain"): f"opt.zero_grad()\n{LOSS}\nloss.backward()\nopt.step()\n@E",
    ("schedule", "window"): f"{LOSS} / 4\nloss.backward()\nif k % 4 == 3:\n    opt.step()\n    opt.zero_grad()\n@E",
    # the gradients of old batches fade: a mean that runs along
    ("decay", "plain"): f"@S\n{LOSS}\nloss.backward()\nopt.step()",
    ("noise", "plain"): f"opt.zero_grad()\n{LOSS}\nloss.backward()\n@E\nopt.step()",
    ("unscale", "plain"): f"opt.zero_grad()\n{LOSS}\nscaler.scale(loss).backward()\n@E\n{CLIP}\n{SCALED}",
    ("update", "plain"): f"opt.zero_grad()\n{LOSS}\nscaler.scale(loss).backward()\nscaler.step(opt)\n@E",
    ("scaled-step", "plain"): f"opt.zero_grad()\n{LOSS}\nscaler.scale(loss).backward()\n@E",
    ("scale", "plain"): f"opt.zero_grad()\n{LOSS}\n@E\n{SCALED}",
    ("skip", "plain"): f"{LOSS}\nloss.backward()\nif k % 5 == 2:\n    @E\n    continue\nopt.step()\nopt.zero_grad()",
    ("closure", "plain"): CLOSURE,
    ("closure-backward", "plain"): CLOSURE.replace("@S", "opt.zero_grad()").replace("loss.backward()", "@E"),
}
"""What can be seen of a turn; the deed is done at `@S` (the start of a turn) or `@E`."""

LOOPS = ("script", "function", "trainer", "main", "epochs", "while")
LYING = ("same", "helper", "attribute", "split", "package")


@dataclass(frozen=True, slots=True)
class Shape:
    """One program."""

    deed: Deed
    way: Way
    rhythm: str
    lying: str = "same"  # where the definitions are
    loop: str = "script"
    listed: bool = True  # whether gradlint is given all files, or the one with the loop alone

    @property
    def name(self) -> str:
        alone = "" if self.listed else "/alone"
        return f"{self.deed.group}:{self.deed.kind}/{self.way.name}/{self.rhythm}/{self.lying}/{self.loop}{alone}"

    @property
    def plain(self) -> Shape:
        """The program that must compute the same."""
        usual = {"clear": CLEARS, "step": STEPS, "backward": BACKWARDS}.get(self.deed.group, [self.deed])[0]
        return Shape(usual, CALLS[0], self.rhythm)

    @property
    def possible(self) -> bool:
        """Whether the parts go together."""
        way, group = self.way, self.deed.group
        if (group, self.rhythm) not in RHYTHMS:
            return False
        if way.holds and not self.deed.holdable:
            return False
        if self.rhythm == "scheduled" and self.deed.kind.startswith("by-hand"):
            return False  # knows nothing of the schedule
        if group in ("skip", "closure", "closure-backward") and way.where != "in":
            return False
        if group == "skip" and self.loop == "while":
            return False
        if group != "clear" and (way.where in ("start", "after") or way.builds):
            return False
        if (
            way.where == "end"
            and group not in ("update", "scaled-step", "schedule")
            and (group not in ("clear", "step", "turn") or self.rhythm in _BEHIND)
        ):
            return False
        texts = way.setup + way.call + way.head + way.wrap + way.outer
        if way.only == "same" and self.lying != "same":
            return False
        if way.only == "script" and (self.lying != "same" or self.loop != "script"):
            return False
        if self.loop == "trainer" and (way.builds or re.search(r"\bself\b|def turn\(\$A|\bopt\b|\bmodel\b", texts)):
            return False
        if self.loop in ("epochs", "while") and way.head:
            return False
        return not (self.lying != "same" and not self.definitions)

    @property
    def definitions(self) -> str:
        return self.way.defs

    def files(self) -> dict[str, str]:
        """Its text."""
        return _Writer(self).files()


_BEHIND = ("cleared-behind", "scheduled")


class _Writer:
    """Writes a shape down."""

    def __init__(self, shape: Shape) -> None:
        self.shape, self.way, self.deed = shape, shape.way, shape.deed
        call, names = shape.deed.names
        held, held_names = call.rpartition(", ")[0], names.rpartition(", ")[0]
        self.marks = [
            ("$H0", held.partition(", ")[0]),
            ("$A", call),
            ("$P", names),
            ("$H", held),
            ("$G", held_names),
            ("$R", call.partition(", ")[2]),
        ]

    def filled(self, text: str) -> str:
        for mark, value in self.marks:
            text = text.replace(mark, value)
        return text

    def act(self) -> str:
        names = self.deed.names[1]
        test = self.test()
        body = f"if {test}:\n{indent(self.deed.body, '    ')}" if test else self.deed.body
        return f"{self.deed.before}def act({names}):\n{indent(body, '    ')}\n"

    def test(self) -> str:
        """When it is time for the deed."""
        shape, group = self.shape, self.deed.group
        if group not in ("clear", "step", "turn") or shape.rhythm in ("plain", "scheduled"):
            return ""
        if self.way.where == "after" and shape.rhythm in ("window", "clipped"):
            return ""  # there is no step but at the end of a window
        return "k % 4 == 0" if self.at_start() else "k % 4 == 3"

    def at_start(self) -> bool:
        if self.way.where != "in":
            return self.way.where == "start"
        if self.deed.group in ("closure", "decay"):
            return True
        return self.deed.group == "clear" and len(self.way.name) % 2 == 0

    def files(self) -> dict[str, str]:
        defs = self.filled(self.way.defs) + "\n" if self.way.defs else ""
        lying = self.shape.lying
        files: dict[str, str] = {}
        if lying == "same":
            loop, brought = self.loop(), self.act() + defs
        else:
            act, names = self.act(), _bound(self.act() + defs)
            loop = self.loop()
            if lying == "split":
                files["deeds.py"] = act
                files["tidy.py"] = f"from deeds import {', '.join(_bound(act))}\n{defs}"
            elif lying == "package":
                files["kit/__init__.py"] = "from .tidy import *\n"
                files["kit/tidy.py"] = act + defs
            else:
                files["tidy.py"] = act + defs
            if lying == "attribute":
                loop = re.sub(rf"(?<![\w.])({'|'.join(names)})\b(?!\s*=[^=])", r"tidy.\1", loop)
                brought = "import tidy\n"
            else:
                module = {"helper": "tidy", "split": "tidy", "package": "kit"}[lying]
                brought = f"from {module} import {', '.join(names)}\n"
        files = {name: _imports(text) + text for name, text in files.items()}
        return {"train.py": _imports(loop + brought, "torch") + brought + loop, **files}

    def turn(self) -> str:
        """What is in the loop."""
        text = RHYTHMS[self.deed.group, self.shape.rhythm]
        call = self.filled(self.way.call)
        inner = "" if self.way.wrap or self.way.where == "after" or self.way.head else call
        at = "@S" if self.at_start() else "@E"
        lines = []
        for line in text.splitlines():
            bare = line.strip()
            if bare in ("@S", "@E"):
                lines += indent(inner, line[: -len(bare)]).splitlines() if bare == at else []
            else:
                lines.append(line)
        lines.append("seen.append(loss.item())")
        body = "\n".join(lines)
        if not self.way.wrap:
            return body
        wrap = self.filled(self.way.wrap)
        after = call or (f"turn({self.deed.names[0]})" if "def turn(" in wrap else "")
        return f"{wrap}\n{indent(body, '    ')}\n{after}"

    def loop(self) -> str:
        """The program but for its imports and definitions."""
        setup = self.filled(self.way.setup)
        if "plan" in self.deed.names[0] or self.shape.rhythm == "scheduled":
            setup = f"plan = torch.optim.lr_scheduler.StepLR(opt, 3, 0.5)\n{setup}"
        if "scaler" in self.deed.names[0]:
            setup = f"scaler = torch.amp.GradScaler('cpu', init_scale=8.0)\n{setup}"
        if self.deed.group == "closure":
            setup = f"opt = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)\n{setup}"
        head = self.filled(self.way.head) or f"for k in range({TURNS}):"
        turn = self.turn()
        if self.shape.loop == "epochs":
            looped = f"k = 4 * epoch + batch\n{turn}"
            looped = indent(f"for batch in range(4):\n{indent(looped, '    ')}", "    ")
            looped = f"for epoch in range(3):\n{looped}"
        elif self.shape.loop == "while":
            looped = f"k = 0\nwhile k < {TURNS}:\n{indent(turn, '    ')}\n    k += 1"
        else:
            looped = f"{head}\n{indent(turn, '    ')}"
        if self.way.outer:
            looped = f"{self.filled(self.way.outer)}\n{indent(looped, '    ')}"
        net = self.way.net or "torch.nn.Linear(3, 2)"
        make = self.way.make or "torch.optim.SGD(model.parameters(), lr=0.1)"
        data = f"torch.manual_seed(0)\nX, Y = torch.randn({TURNS}, 5, 3), torch.randn({TURNS}, 5, 2)\nseen = []\n"
        build = f"model = {net}\nopt = {make}"
        style = self.shape.loop
        if style == "function":
            inner = indent(f"{setup}\n{looped}", "    ")
            return f"{data}{build}\ndef train(model, opt):\n{inner}\ntrain(model, opt)\nprint(seen)\n"
        if style == "main":
            inner = indent(f"{build}\n{setup}\n{looped}\nreturn model", "    ")
            return f'{data}def main():\n{inner}\nif __name__ == "__main__":\n    model = main()\n    print(seen)\n'
        if style == "trainer":
            inner = re.sub(r"(?<![\w.'\"])(opt|model)\b", r"self.\1", f"{setup}\n{looped}")
            fit = indent(f"def fit(self):\n{indent(inner, '    ')}", "    ")
            init = "    def __init__(self, model, opt):\n        self.model, self.opt = model, opt\n"
            return f"{data}{build}\nclass Trainer:\n{init}{fit}\nTrainer(model, opt).fit()\nprint(seen)\n"
        return f"{data}{build}\n{setup}\n{looped}\nprint(seen)\n"


_MODULES = (
    "asyncio collections concurrent.futures contextlib contextvars copy functools importlib io itertools json logging"
    " operator pickle queue sched threading torch types unittest.mock weakref"
).split()


def _imports(text: str, *always: str) -> str:
    return "".join(
        f"import {module}\n"
        for module in _MODULES
        if module in always or (re.search(rf"(?<![\w.]){re.escape(module)}\.", text) and f"import {module}" not in text)
    )


def _bound(text: str) -> list[str]:
    """The names that a text binds at its top."""
    names = re.findall(r"^(?:async def |def |class )(\w+)|^(\w+) = ", text, re.MULTILINE)
    return list(dict.fromkeys(one or other for one, other in names if (one or other) != "_"))


@cache
def shapes() -> tuple[Shape, ...]:
    """All shapes that are tried, in their order."""
    found: dict[str, Shape] = {}

    def add(deed: Deed, way: Way, rhythm: str, lying: str, loop: str, listed: bool = True) -> None:
        """The shape, or what is nearest to it."""
        for tried in ((lying, loop), (lying, "function"), (lying, "script"), ("same", "function"), ("same", "script")):
            shape = Shape(deed, way, rhythm, *tried, listed=listed or tried[0] == "same")
            if shape.possible:
                found.setdefault(shape.name, shape)
                return

    for number, way in enumerate(WAYS):
        odd = CLEARS[number % len(CLEARS)]
        loop = LOOPS[number % len(LOOPS)]
        safe = way.builds
        add(CLEARS[0], way, "window", "same", "script")
        add(CLEARS[0], way, "each", "helper", "function")
        add(CLEARS[0] if safe else odd, way, "window", LYING[number % len(LYING)], loop)
        add(CLEARS[3], way, ("each", "clipped", "plain")[number % 3], "same", loop, True)
        rhythm = ("window", "clipped", "scheduled", "cleared-behind")[number % 4]
        add(STEPS[number % len(STEPS)], way, rhythm, "same", loop)
        add(STEPS[0], way, "window", "helper", "function", number % 2 == 0)
        add(BACKWARDS[number % len(BACKWARDS)], way, ("plain", "window", "clipped")[number % 3], "same", loop)
        add(TURN, way, "window", LYING[(number + 1) % len(LYING)], loop, number % 2 == 1)
        for more in range(3):
            add(OTHERS[(number * 3 + more) % len(OTHERS)], way, "plain", LYING[(number + more) % len(LYING)], loop)
        add(OTHERS[3 + number % 2], way, "plain", "same", "script")
    for number, deed in enumerate([*CLEARS, *STEPS, *BACKWARDS]):
        for way in (CALLS[0], CALLS[number % len(CALLS)], HEADS[number % len(HEADS)], WRAPS[number % len(WRAPS)]):
            for rhythm in ("window", "plain"):
                for lying, loop in (("same", "script"), ("helper", "function"), ("helper", "trainer")):
                    add(deed, way, rhythm, lying, loop)
    return tuple(found.values())


@cache
def expected(plain: Shape) -> Outcome:
    """What the plain program leaves behind."""
    return run(plain.files())


def untrue(shape: Shape) -> str:
    """Why the program of a shape is not what it says; empty if it is."""
    outcome = run(shape.files())
    if outcome.error:
        return outcome.error
    return "" if outcome.weights == expected(shape.plain).weights else "computes something else than the plain program"


def trial(shape: Shape, least: Confidence = Confidence.HIGH) -> Verdict:
    """Lint, mend and run a shape."""
    return try_out(shape.files(), listed=() if shape.listed else ("train.py",), least=least)


def _told(verdict: Verdict) -> str:
    codes = " ".join(f"{f.code}@{f.span.path}:{f.span.line}" for f in verdict.found)
    what = [f"alarm {codes}"] if verdict.found else []
    if verdict.harmed:
        error = verdict.after.error if verdict.after else ""
        what.append(f"HARM{' (' + error + ')' if error else ''}")
    what += [f"problem {problem}" for problem in verdict.problems]
    return "; ".join(what)


def _show(shape: Shape, least: Confidence) -> None:
    verdict = trial(shape, least)
    files = shape.files()
    for name, text in files.items():
        print(f"# {name}\n{text}")
    print(untrue(shape) or "computes what the plain program computes")
    for f in verdict.found:
        print(f"{f.span.path}:{f.span.line}: {f.code} ({f.confidence}) {f.message}; {f.label}; {f.help}")
    for name, text in verdict.mended.items():
        print("\n".join(difflib.unified_diff(files[name].splitlines(), text.splitlines(), name, name, lineterm="")))
    print(_told(verdict) or "quiet")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.places", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--list", action="store_true", help="list the shapes, and try none")
    parser.add_argument("--only", default="", metavar="REGEX", help="those whose name matches")
    parser.add_argument("--show", metavar="NAME", help="one program, and all that comes of it")
    parser.add_argument("--sample", type=int, metavar="N", help="N of them, drawn by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--true", action="store_true", help="whether the programs are what they say")
    parser.add_argument("--least", default="high", choices=["high", "medium", "low"], help="the least confidence shown")
    given = parser.parse_args(words)
    chosen = [shape for shape in shapes() if re.search(given.only, shape.name)]
    least = Confidence.parse(given.least)
    if given.sample:
        chosen = random.Random(given.seed).sample(chosen, min(given.sample, len(chosen)))
    if given.show:
        for shape in shapes():
            if shape.name == given.show:
                _show(shape, least)
        return 0
    if given.list:
        print("\n".join(shape.name for shape in chosen))
        return 0
    if given.true:
        wrong = [(shape.name, why) for shape in chosen if (why := untrue(shape))]
        for name, why in wrong:
            print(f"{name}: {why}")
        print(f"{len(chosen)} programs, {len(wrong)} are not what they say")
        return int(bool(wrong))
    return _try_all(chosen, least)


def _try_all(chosen: Sequence[Shape], least: Confidence) -> int:
    start = time.perf_counter()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    fixed = 0
    for shape in chosen:
        verdict = trial(shape, least)
        fixed += verdict.fixed
        for key in (f"way {shape.way.name}", f"deed {shape.deed.group}:{shape.deed.kind}", f"group {shape.deed.group}"):
            row = counts[key]
            row["tried"] += 1
            row["alarm"] += bool(verdict.found)
            row["harm"] += verdict.harmed
            row["problem"] += bool(verdict.problems)
        told = _told(verdict)
        if told:
            print(f"{shape.name}: {told}")
    print(f"\n{'':40} tried alarm  harm problem")
    for key, row in sorted(counts.items()):
        print(f"{key:40} {row['tried']:5} {row['alarm']:5} {row['harm']:5} {row['problem']:5}")
    rows = [row for key, row in counts.items() if key.startswith("group")]
    total = {word: sum(row[word] for row in rows) for word in ("tried", "alarm", "harm", "problem")}
    seconds = time.perf_counter() - start
    print(
        f"\n{total['tried']} programs, {fixed} fixes executed, {total['alarm']} false alarms, {total['harm']} harmed,"
        f" {total['problem']} problems, {seconds:.0f} s"
    )
    return int(bool(total["alarm"] or total["harm"] or total["problem"]))


if __name__ == "__main__":
    sys.exit(main())
