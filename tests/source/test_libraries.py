"""What is known of libraries: for each function, a loop that clears gradients through what it gives.

Each program is right as it stands, and wrong where the same is done to another model and its optimizer: so it is known
which object the function gives. Of one that is not known it would not be said.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.libraries.found import library
from gradcheck_lint.source.run.library import function, method

RULES = [r for r in registry.load(()) if r.code in ("GL101", "GL106")]

LOOP = """import copy, functools, itertools, operator
import torch
from tqdm import tqdm

net, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
opt, idle = torch.optim.SGD(net.parameters(), lr=0.1), torch.optim.SGD(other.parameters(), lr=0.1)
{before}
for x in data:
    {clear}
    {loss}
    opt.step()
"""

KNOWN = {  # name → what stands before the loop, how it clears, and how it goes backward
    "builtins.list": ("every = list([OPT])", "every[0].zero_grad()", ""),
    "builtins.dict": ("every = dict(opt=OPT)", 'every["opt"].zero_grad()', ""),
    "builtins.next": ("one = next(iter([OPT]))", "one.zero_grad()", ""),
    "builtins.getattr": ("", 'getattr(OPT, "zero_grad")()', ""),
    "builtins.setattr": ("class Box: pass\nbox = Box()\nsetattr(box, 'held', OPT)", "box.held.zero_grad()", ""),
    "builtins.delattr": ("", 'for p in NET.parameters(): delattr(p, "grad")', ""),
    "builtins.enumerate": ("", "for n, one in enumerate([OPT]): one.zero_grad()", ""),
    "builtins.zip": ("", "for n, one in zip([1], [OPT]): one.zero_grad()", ""),
    "builtins.filter": ("", "for p in filter(lambda p: p.requires_grad, NET.parameters()): p.grad = None", ""),
    "itertools.chain": ("", "for p in itertools.chain(NET.parameters()): p.grad = None", ""),
    "functools.partial": ("clear = functools.partial(OPT.zero_grad)", "clear()", ""),
    "operator.methodcaller": ('clear = operator.methodcaller("zero_grad")', "clear(OPT)", ""),
    "torch.autograd.backward": ("", "OPT.zero_grad()", "torch.autograd.backward(net(x).sum())"),
    "tqdm.tqdm": ("", "for one in tqdm([OPT]): one.zero_grad()", ""),
    "method zero_": ("", "for p in NET.parameters(): p.grad.zero_()", ""),
    "method fill_": ("", "for p in NET.parameters(): p.grad.fill_(0)", ""),
    "method mul_": ("", "for p in NET.parameters(): p.grad.mul_(0)", ""),
    "method manual_backward": ("", "OPT.zero_grad()", "self.manual_backward(net(x).sum())"),
}


def found(name: str, net: str, opt: str, folder: Path) -> set[tuple[str, Confidence]]:
    before, clear, loss = (part.replace("NET", net).replace("OPT", opt) for part in KNOWN[name])
    text = LOOP.format(before=before, clear=clear, loss=loss or "net(x).sum().backward()")
    path = folder / "train.py"
    path.write_text(text)
    return {(f.code, f.confidence) for f in analyse([SourceFile("train.py", path, text.encode())], RULES)}


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_known(name: str, tmp_path: Path) -> None:
    assert found(name, "net", "opt", tmp_path) == set()
    wrong = found(name, "other", "idle", tmp_path)
    assert wrong
    assert wrong <= {("GL101", Confidence.HIGH), ("GL106", Confidence.HIGH)}  # not cleared, or another one cleared


def test_a_name_is_entered_once() -> None:
    library()
    with pytest.raises(ValueError, match=r"torch\.nn\.Parameter"):
        function("torch.nn.Parameter")(lambda machine, args, node: None)
    with pytest.raises(ValueError, match="zero_grad"):
        method("zero_grad")(lambda machine, base, args, node: None)
