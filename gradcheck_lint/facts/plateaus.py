"""What a `ReduceLROnPlateau` is told at each move, and whether that falls or rises where the training gets better."""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from gradcheck_lint.facts import pacing, query, repair
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import tree
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.run.shape import names_in
from gradcheck_lint.source.values import Constant, Thing


class Fault(Enum):
    """What is wrong with what it is told."""

    NOTHING = "nothing"  # it cannot do without
    COUNT = "count"  # the number of the epoch, which grows whatever happens
    FALLS = "falls"  # a loss, where greater is better
    RISES = "rises"  # an accuracy, where less is better


class Told(NamedTuple):
    """A fault, the code of what is told, and whether its name leaves no doubt."""

    fault: Fault
    spoken: str
    certain: bool = True


_LESS = re.compile(r"(?i)^(loss|losses|err|error|errors|mse|mae|rmse|perplexity|ppl|nll|wer|cer|bce)$")
_MORE = re.compile(
    r"(?i)^(accuracy|accuracies|acc|f1|auc|auroc|iou|miou|dice|bleu|psnr|ssim|precision|recall|top1|top5|kappa|mcc)$"
)
_DOUBTFUL = re.compile(r"(?i)^(score|reward|return|map|corr|r2|neg|negative|minus)$")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+\d*|\d+")
_TAKES = frozenset({"item", "mean", "cpu", "detach", "avg", "float", "compute", "value", "result"})


def told(timeline: tl.Timeline, event: ev.Schedule, scheduler: Thing) -> Told | None:
    """What is wrong with what a schedule that waits for a plateau is told by an event."""
    node = event.place.node
    if pacing.kind(scheduler) != "ReduceLROnPlateau" or scheduler.args is None or scheduler.args.open:
        return None
    if not isinstance(node, tree.Call) or tree.last_name(node.func) != "step" or event.args.open:
        return None
    if not node.args:
        return Told(Fault.NOTHING, "")
    named = [argument.value for argument in node.args if argument.keyword == "metrics"]
    if not named and node.args[0].keyword is not None:
        return None
    given = named[0] if named else node.args[0].value
    spoken = repair.text(Place(event.place.chunk, given))
    if isinstance(given, tree.Name) and _counts(timeline, event, given.id):
        return Told(Fault.COUNT, spoken)
    mode = scheduler.args.get(1, "mode")
    if mode is not None and not (isinstance(mode, Constant) and mode.value in ("min", "max")):
        return None
    greater = isinstance(mode, Constant) and mode.value == "max"
    name = _name(given)
    words = [*_WORDS.findall(name), *name.split("_")]
    less, more = any(map(_LESS.match, words)), any(map(_MORE.match, words))
    doubtful = any(map(_DOUBTFUL.match, words)) or name == "acc"  # what is summed up, as well
    if less == more and not (doubtful and not less):
        return None
    if greater == (not less) or _turned(timeline, event, given):
        return None
    return Told(Fault.FALLS if less else Fault.RISES, spoken, not doubtful)


def _counts(timeline: tl.Timeline, event: ev.Schedule, name: str) -> bool:
    """Whether a name is the counter of a loop around an event."""
    around = next((a for e, a in timeline.located(ev.Schedule) if e is event), ())
    for loop in query.loops(around):
        node = loop.node
        if isinstance(node, tree.For) and any(n.id == name for n in names_in(node.target)):
            head = node.iter
            while isinstance(head, tree.Call) and tree.last_name(head.func) in ("tqdm", "track") and head.args:
                head = head.args[0].value
            first = node.target.items[0] if isinstance(node.target, tree.Display) and node.target.items else node.target
            ranged = isinstance(head, tree.Call) and tree.last_name(head.func) in ("range", "trange", "enumerate")
            return ranged and isinstance(first, tree.Name) and first.id == name
    return False


def _name(node: tree.Expression) -> str:
    """What a number is called: `val_loss` for `metrics["val_loss"]`, `val_loss.item()`, `np.mean(val_loss)`."""
    while isinstance(node, tree.Call):
        if isinstance(node.func, tree.Attribute) and node.func.attr in _TAKES and not node.args:
            node = node.func.value
        elif tree.last_name(node.func) in ("mean", "float", "sum") and len(node.args) == 1:
            node = node.args[0].value
        else:
            return ""
    if isinstance(node, tree.Attribute) and node.attr in _TAKES:
        node = node.value
    if isinstance(node, tree.Subscript) and not (
        isinstance(node.index, tree.Constant) and isinstance(node.index.value, str)
    ):
        node = node.value
    return tree.last_name(node) if isinstance(node, (tree.Name, tree.Attribute, tree.Subscript)) else ""


def _turned(timeline: tl.Timeline, event: ev.Schedule, node: tree.Expression) -> bool:
    """Whether a number that is called so is the difference to something: `error = accuracy - 1`, `loss = -reward`."""
    name = tree.dotted(node)
    body = timeline.home.body if event.function is None else event.function.body
    return bool(name) and any(
        isinstance(n, tree.Assign)
        and any(tree.dotted(target) == name for target in n.targets)
        and n.value is not None
        and any(isinstance(part, tree.Operation) and part.op == "-" for part in n.value.walk())
        for n in tree.walk_block(body)
    )
