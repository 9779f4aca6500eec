"""Who may turn the cycle (docs/architecture.md): code that clears where it is hard to see is no missing zero_grad.

Each program trains on gradients that something clears every fourth time. What clears is `act`; the program without it
is the control, in which the missing zero_grad has to be found: a linter that is merely silent passes none of these.
Where what is defined may be run by itself (a hook, a decorator, a setter), there is no control.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence, Safety
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

HEAD = """
import functools
import torch
from torch import nn

model = nn.Linear(3, 2)
opt = torch.optim.SGD(model.parameters(), lr=0.1)

def act(o, k):
    if k % 4 == 0:
        o.zero_grad()
"""
TAIL = """
    model(torch.randn(5, 3)).sum().backward()
    opt.step()
"""


def found(code: str) -> list[str]:
    file = SourceFile("train.py", Path(__file__).parent / "nowhere" / "train.py", code.encode())
    rules = [rule for rule in registry.load() if rule.code in ("GL101", "GL102")]
    findings = analyse([file], rules)
    assert all(f.fix is None or f.fix.safety is Safety.UNSAFE for f in findings if f.confidence < Confidence.HIGH)
    return [f.code for f in findings if f.confidence >= Confidence.HIGH]


def program(before: str, inside: str, loop: str = "for k in range(12):") -> str:
    body = textwrap.indent(textwrap.dedent(inside).strip("\n"), "    ")
    return f"{HEAD}{textwrap.dedent(before)}\n{loop}\n{body}{TAIL}"


TURNED = {
    "a function that did nothing with other arguments": (
        """
        def call(f, x):
            f(x)
        call(print, model)
        """,
        "call(nn.Module.zero_grad, model)",
    ),
    "a function that did nothing with another keyword": (
        """
        def run(m, first="", second=""):
            getattr(m, first or "extra_repr")()
        run(model, second="zero_grad")
        """,
        'run(model, first="zero_grad")',
    ),
    "a function that did nothing with another constant": (
        """
        class State:
            optimizer = opt
        def go(flag):
            if flag:
                State.optimizer.zero_grad()
        go(False)
        """,
        "go(True)",
    ),
    "a class that holds the optimizer, handed to unseen code": (
        """
        import thirdparty
        class State:
            optimizer = opt
        """,
        "thirdparty.go(State)",
    ),
    "a decorator of one's own with a well-known name": (
        """
        def record(f):
            def inner(*args):
                act(opt, 0)
                return f(*args)
            return inner
        @record
        def look():
            pass
        """,
        "look()",
    ),
    "a context manager of one's own with a well-known name": (
        """
        def contextmanager(f):
            def inner(*args):
                f(*args)
            return inner
        @contextmanager
        def look(k):
            act(opt, k)
        """,
        "look(k)",
    ),
    "the last of many functions that a decorator enters in a table": (
        """
        table = {}
        def register(f):
            table[f.__name__] = f
            return f
        """
        + "".join(f"@register\n        def look{n}():\n            pass\n        " for n in range(9))
        + """
        @register
        def clear():
            act(opt, 0)
        """,
        'table[f"cl{chr(101)}ar"]()',
    ),
    "a setter, run under a name that is not seen": (
        """
        import sys
        class Box:
            def __init__(self, o):
                self.o = o
            @property
            def turn(self):
                return 0
            @turn.setter
            def turn(self, k):
                act(self.o, k)
        box = Box(opt)
        """,
        "setattr(box, sys.argv[1], k)",
    ),
    "a forward pass that clears by what it calls, met too often to be followed": (
        """
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(3, 2)
            def forward(self, x):
                look()
                return self.fc(x)
        def look():
            act(opt, 0)
        net = Net()
        for k in range(3):
            net(torch.ones(3)); net(torch.ones(3)); net(torch.ones(3)); net(torch.ones(3)); net(torch.ones(3))
        """,
        "net(torch.ones(3))",
    ),
    "a package whose name only begins like torch's": (
        "import torch_xla.core.xla_model as xm",
        "xm.reduce_gradients(opt)",
    ),
    "a decorator of a class": (
        """
        def clearing(cls):
            old = cls.compute
            def compute(self):
                act(opt, 0)
                return old(self)
            cls.compute = compute
            return cls
        @clearing
        class Worker:
            def compute(self):
                pass
        worker = Worker()
        """,
        "worker.compute()",
    ),
    "a hook whose flag is set later": (
        """
        flag = False
        def hook(*args):
            if flag:
                opt.zero_grad()
        model.register_forward_pre_hook(hook)
        flag = True
        """,
        "pass",
    ),
    "a method that is defined in a branch": (
        """
        import sys
        class Worker:
            if sys.platform:
                def clear(self, k):
                    act(opt, k)
        worker = Worker()
        """,
        "worker.clear(k)",
    ),
    "an object that a library calls back, also called by hand": (
        """
        import thirdparty
        class Callback:
            def __init__(self, o):
                self.o = o
            def on(self):
                self.o.zero_grad()
        callback = Callback(opt)
        callback.on()
        thirdparty.register(callback)
        """,
        "thirdparty.fire()",
    ),
    "setattr on an object with a setter": (
        """
        class Knob:
            @property
            def k(self):
                return 0
            @k.setter
            def k(self, k):
                act(opt, k)
        knob = Knob()
        """,
        'setattr(knob, "k", k)',
    ),
    "a key that sorts and clears": ("", "sorted([0], key=lambda _: act(opt, k) or 0)"),
    "an argument behind one of unknown length": (
        """
        def late(*args):
            act(*args)
        """,
        "late(*input().split() or (opt, k))",
    ),
    "the else of a loop over a list": (
        "",
        """
        for o in (opt,):
            pass
        else:
            act(opt, k)
        """,
    ),
    "the private name of a gradient": (
        "",
        """
        for p in model.parameters():
            p._grad = None if k % 4 == 0 else p.grad
        """,
    ),
}


@pytest.mark.parametrize(("before", "inside"), TURNED.values(), ids=TURNED.keys())
def test_what_may_clear_makes_a_missing_zero_grad_uncertain(before: str, inside: str) -> None:
    assert found(program(before, inside)) == []


CONTROLS = {
    name: before
    for name, (before, _) in TURNED.items()
    if not any(w in before for w in ("@", "register", "import third"))
}


@pytest.mark.parametrize("before", CONTROLS.values(), ids=CONTROLS.keys())
def test_without_the_call_it_is_found(before: str) -> None:
    """What is defined and never used in the loop, and neither hooked nor lent, does not hide the mistake."""
    assert found(program(before, "pass")) in (["GL101"], ["GL102"])  # the second where it is cleared before the loop


def test_a_generator_that_clears_where_it_yields() -> None:
    before = """
    def turns(o, n):
        for k in range(n):
            act(o, k)
            yield k
    """
    assert found(program(before, "pass", "for k in turns(opt, 12):")) == []
    assert found(program(before.replace("act(o, k)", "pass"), "pass", "for k in turns(opt, 12):")) == ["GL101"]


def test_a_break_ends_the_generator() -> None:
    code = f"""{HEAD}
def numbers(n):
    for k in range(n):
        yield k

for k in numbers(12):
    model(torch.randn(5, 3)).sum().backward()
    if k == 5:
        opt.step()
        break
"""
    assert found(code) == []


def test_a_module_clears_what_its_parts_hold() -> None:
    code = """
import torch
from torch import nn

class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)

    def learn(self, x):
        self.net(x).sum().backward()
        self.optimizer.step()
        CLEAR
"""
    assert found(code.replace("CLEAR", "self.zero_grad()")) == []
    assert found(code.replace("CLEAR", "pass")) == ["GL101"]


def test_a_handler_is_reached_from_anywhere_in_its_try() -> None:
    code = f"""{HEAD}
for k in range(12):
    try:
        model(torch.randn(5, 3)).sum().backward()
        opt.step()
        raise ValueError
    except ValueError:
        CLEAR
"""
    assert found(code.replace("CLEAR", "opt.zero_grad()")) == []
    assert found(code.replace("CLEAR", "pass")) == ["GL101"]
