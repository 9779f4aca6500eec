"""Methods of the models of transformers."""

from __future__ import annotations

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import tree
from gradcheck_lint.source.deps import depends
from gradcheck_lint.source.natures import Opaque
from gradcheck_lint.source.run import parts
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import method
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Thing, Value


@method("resize_token_embeddings")
def _resize(machine: Machine, base: Value, args: Arguments, node: tree.Call) -> Value | None:
    """model.resize_token_embeddings(n) gives the model another embedding."""
    machine.emit(node, ev.TorchCall(name="resize_token_embeddings", args=args, receiver=base))
    parts.given(machine, node, [base])
    return Thing(Opaque(), "", machine.place(node), deps=depends(base), certain=False)
