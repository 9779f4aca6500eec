"""What the analysis follows. Each program is run twice: with its zeroing, and with that line dropped.

With it nothing is found, without it the missing zero_grad is, both at high confidence: so each program shows that its
names, calls and paths really are followed, and not merely that nothing is said.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

RULES = [r for r in registry.load(()) if r.code in ("GL101", "GL102", "GL106")]

PROGRAMS = {
    "a decorator that gives the function itself on some paths": """
        import sys
        import torch
        def only_if(flag):
            def decorate(f):
                if flag or sys.argv[1:]:
                    return f
                def refuse(*args):
                    raise RuntimeError
                return refuse
            return decorate
        net = torch.nn.Linear(2, 2)
        o = torch.optim.SGD(net.parameters())
        @only_if(sys.argv)
        def fit(data):
            for x in data:
                o.zero_grad()  # ZERO
                net(x).sum().backward()
                o.step()
        fit([1])
        """,
    "import alias": """
        from torch import optim as O
        import torch.nn as nn
        net = nn.Linear(2, 2)
        o = O.SGD(net.parameters())
        for x in data:
            o.zero_grad()  # ZERO
            net(x).sum().backward()
            o.step()
        """,
    "star import": """
        from torch.optim import *
        o = Adam(net.parameters())
        for x in data:
            o.zero_grad()  # ZERO
            loss(x).backward()
            o.step()
        """,
    "attributes of self": """
        import torch
        class Trainer:
            def __init__(self, model):
                self.model = model
                self.optimizer = torch.optim.Adam(model.parameters())
            def fit(self, loader):
                for x in loader:
                    self.step(x)
            def step(self, x):
                self.optimizer.zero_grad()  # ZERO
                self.model(x).mean().backward()
                self.optimizer.step()
        """,
    "zeroed by the model": """
        import torch
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters())
        while True:
            model.zero_grad()  # ZERO
            model(x).sum().backward()
            optimizer.step()
        """,
    "zeroed by hand": """
        import torch
        model = torch.nn.Linear(2, 2)
        optimizer = torch.optim.SGD(model.parameters())
        for x in data:
            model(x).sum().backward()
            optimizer.step()
            for p in model.parameters():
                p.grad = None  # ZERO
        """,
    "zeroed by hand through the groups": """
        import torch
        optimizer = torch.optim.SGD(model.parameters())
        for x in data:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p.grad is not None:
                        p.grad.zero_()  # ZERO
            model(x).sum().backward()
            optimizer.step()
        """,
    "tuple assignment and returns": """
        import torch
        def build(lr):
            model = torch.nn.Linear(2, 2)
            return model, torch.optim.SGD(model.parameters(), lr=lr)
        model, opt = build(0.1)
        for x in data:
            opt.zero_grad()  # ZERO
            model(x).sum().backward()
            opt.step()
        """,
    "conditional construction": """
        import torch
        if adam:
            opt = torch.optim.Adam(model.parameters())
        elif sgd:
            opt = torch.optim.SGD(model.parameters())
        else:
            raise ValueError
        for x in data:
            opt.zero_grad()  # ZERO
            model(x).sum().backward()
            opt.step()
        """,
    "partial": """
        import torch
        from functools import partial
        make = partial(torch.optim.SGD, lr=0.1)
        opt = make(model.parameters())
        for x in data:
            opt.zero_grad()  # ZERO
            model(x).sum().backward()
            opt.step()
        """,
    "class picked by name": """
        import torch
        opt = getattr(torch.optim, name)(model.parameters())
        for x in data:
            opt.zero_grad()  # ZERO
            model(x).sum().backward()
            opt.step()
        """,
    "dict of classes": """
        import torch
        KINDS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}
        opt = KINDS["adam"](model.parameters())
        for x in data:
            opt.zero_grad()  # ZERO
            model(x).sum().backward()
            opt.step()
        """,
    "list of optimizers": """
        import torch
        a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
        both = [torch.optim.SGD(a.parameters()), torch.optim.SGD(b.parameters())]
        for x in data:
            for opt in both:
                opt.zero_grad()  # ZERO
            b(a(x)).sum().backward()
            for opt in both:
                opt.step()
        """,
    "dict of optimizers": """
        import torch
        opts = {"a": torch.optim.SGD(a.parameters()), "b": torch.optim.SGD(b.parameters())}
        for x in data:
            for opt in opts.values():
                opt.zero_grad()  # ZERO
            b(a(x)).sum().backward()
            opts["a"].step()
        """,
    "function with parameters": """
        import torch
        def train(model, loader, optimizer, criterion):
            for x, y in loader:
                optimizer.zero_grad()  # ZERO
                criterion(model(x), y).backward()
                optimizer.step()
        """,
    "helper around backward": """
        import torch
        def backward(loss, retain=False):
            loss.backward(retain_graph=retain)
        def train(model, loader, optimizer):
            for x in loader:
                optimizer.zero_grad()  # ZERO
                backward(model(x).sum())
                optimizer.step()
        """,
    "closure": """
        import torch
        def main():
            model = torch.nn.Linear(2, 2)
            optimizer = torch.optim.SGD(model.parameters())
            def clear():
                optimizer.zero_grad()  # ZERO
                return None
            for x in data:
                clear()
                model(x).sum().backward()
                optimizer.step()
        """,
    "lambda": """
        import torch
        def main(model, optimizer):
            after = [lambda: None]
            clear = lambda: None
            clear = lambda: optimizer.zero_grad()  # ZERO
            for x in data:
                clear()
                model(x).sum().backward()
                optimizer.step()
        """,
    "property and base class": """
        import torch
        class Base:
            @property
            def optimizer(self):
                return self.opt
            def clear(self):
                self.optimizer.zero_grad()  # ZERO
                return None
        class Run(Base):
            def __init__(self):
                super().__init__()
                self.model = torch.nn.Linear(2, 2)
                self.opt = torch.optim.SGD(self.model.parameters())
            def go(self):
                for x in data:
                    self.clear()
                    self.model(x).sum().backward()
                    self.optimizer.step()
        """,
    "wrapped optimizer": """
        import torch
        class Warm:
            def __init__(self, optimizer):
                self.inner = optimizer
            def zero(self):
                self.inner.zero_grad()  # ZERO
                return None
            def step_and_update(self):
                self.inner.step()
        warm = Warm(torch.optim.Adam(model.parameters()))
        for x in data:
            warm.zero()
            model(x).sum().backward()
            warm.step_and_update()
        """,
    "early continue": """
        import torch
        opt = torch.optim.SGD(model.parameters())
        for x in data:
            if x is None:
                continue
            opt.zero_grad()  # ZERO
            model(x).sum().backward()
            opt.step()
        """,
    "try and with": """
        import torch
        opt = torch.optim.SGD(model.parameters())
        for x in data:
            try:
                with torch.enable_grad():
                    opt.zero_grad()  # ZERO
                    model(x).sum().backward()
            except RuntimeError:
                raise
            finally:
                pass
            opt.step()
        """,
    "main guard and epochs": """
        import torch
        def run(model, opt):
            for x in data:
                opt.zero_grad()  # ZERO
                model(x).sum().backward()
                opt.step()
        def main():
            model = torch.nn.Linear(2, 2)
            opt = torch.optim.SGD(model.parameters())
            for epoch in range(3):
                run(model, opt)
        if __name__ == "__main__":
            main()
        """,
    "prepared by accelerate": """
        import torch
        from accelerate import Accelerator
        accelerator = Accelerator()
        opt = torch.optim.SGD(model.parameters())
        model, opt, data = accelerator.prepare(model, opt, data)
        for x in data:
            opt.zero_grad()  # ZERO
            accelerator.backward(model(x).sum())
            opt.step()
        """,
    "gradient scaler": """
        import torch
        scaler = torch.amp.GradScaler()
        opt = torch.optim.SGD(model.parameters())
        for x in data:
            opt.zero_grad()  # ZERO
            scaler.scale(model(x).sum()).backward()
            scaler.step(opt)
            scaler.update()
        """,
    "scaler or none": """
        import torch
        def train(model, opt, scaler=None):
            for x in data:
                opt.zero_grad()  # ZERO
                loss = model(x).sum()
                if scaler is not None:
                    scaler.scale(loss).backward()
                    scaler.step(opt)
                    scaler.update()
                else:
                    loss.backward()
                    opt.step()
        """,
    "manual optimization of Lightning": """
        import torch
        import lightning as L
        class Module(L.LightningModule):
            def __init__(self):
                super().__init__()
                self.automatic_optimization = False
            def fit_all(self, data):
                opt = self.optimizers()
                for x in data:
                    opt.zero_grad()  # ZERO
                    self.manual_backward(self(x).sum())
                    opt.step()
        """,
    "two phases": """
        import torch
        opt = torch.optim.SGD(model.parameters())
        for epoch in range(9):
            for phase in ["train", "val"]:
                for x in data[phase]:
                    opt.zero_grad()  # ZERO
                    loss = model(x).sum()
                    if phase == "train":
                        loss.backward()
                        opt.step()
        """,
    "match": """
        import torch
        opt = torch.optim.SGD(model.parameters())
        for x in data:
            match x:
                case None:
                    continue
                case _:
                    opt.zero_grad()  # ZERO
                    model(x).sum().backward()
                    opt.step()
        """,
}


def found(text: str, folder: Path) -> list[tuple[str, Confidence]]:
    path = folder / "train.py"
    path.write_text(text)
    return [(f.code, f.confidence) for f in analyse([SourceFile("train.py", path, text.encode())], RULES)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_zeroing_is_seen(name: str, tmp_path: Path) -> None:
    assert found(dedent(PROGRAMS[name]), tmp_path) == []


@pytest.mark.parametrize("name", PROGRAMS)
def test_its_absence_is_seen(name: str, tmp_path: Path) -> None:
    lines = dedent(PROGRAMS[name]).splitlines()
    kept = []
    for line in lines:
        if line.endswith("# ZERO"):
            if "=" in line and "grad" not in line.partition("=")[0]:
                continue  # the assignment that replaces one that does nothing
            line = line[: len(line) - len(line.lstrip())] + "pass"
        kept.append(line)
    assert {("GL101", Confidence.HIGH)} == set(found("\n".join(kept) + "\n", tmp_path))


UNKNOWN = {
    "the optimizer is handed to unseen code": """
        import torch
        from elsewhere import prepare_step
        opt = torch.optim.SGD(model.parameters())
        for x in data:
            prepare_step(opt)
            model(x).sum().backward()
            opt.step()
        """,
    "an unseen base class": """
        import torch
        from elsewhere import Base
        class Mine(Base):
            def go(self):
                for x in self.data:
                    self.on_train_step()
                    self.loss(x).backward()
                    self.optimizer.step()
        """,
    "a subclass fills it in": """
        import torch
        class Base:
            def begin_step(self):
                raise NotImplementedError
            def go(self):
                for x in self.data:
                    self.begin_step()
                    self.loss(x).backward()
                    self.optimizer.step()
        """,
    "hooks that clear": """
        import torch
        opt = torch.optim.SGD(model.parameters())
        opt.register_step_post_hook(lambda optimizer, args, kwargs: optimizer.zero_grad())
        for x in data:
            model(x).sum().backward()
            opt.step()
        """,
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_followed_lowers_confidence(name: str, tmp_path: Path) -> None:
    assert all(confidence < Confidence.HIGH for _, confidence in found(dedent(UNKNOWN[name]), tmp_path))


def test_calls_are_followed_across_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "project"
    package.mkdir()
    texts = {
        "project/__init__.py": "",
        "project/build.py": "import torch\ndef optimizer_of(model):\n    return torch.optim.SGD(model.parameters())\n",
        "project/loop.py": dedent(
            """
            from .tools import clear
            def run(model, optimizer, data):
                for x in data:
                    clear(optimizer)
                    model(x).sum().backward()
                    optimizer.step()
            """
        ),
        "project/tools.py": "import torch\ndef clear(optimizer):\n    optimizer.zero_grad()\n",
        "main.py": dedent(
            """
            import torch
            from project import build, loop
            model = torch.nn.Linear(2, 2)
            loop.run(model, build.optimizer_of(model), [torch.ones(2)])
            """
        ),
    }

    def check() -> list[tuple[str, int]]:
        files = []
        for name, text in texts.items():
            (tmp_path / name).write_text(text)
            files.append(SourceFile(name, tmp_path / name, text.encode()))
        return [(f.span.path, f.span.line) for f in analyse(files, RULES)]

    assert check() == []
    texts["project/tools.py"] = "import torch\ndef clear(optimizer):\n    return optimizer\n"
    assert check() == [("project/loop.py", 6)]
