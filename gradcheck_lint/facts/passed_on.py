"""Classes whose own `train` or `eval` does not hand the mode on to their layers, by their text as a tree.

`eval()` of torch calls `train(False)`, and `train` is called for each part. Who does nothing in it keeps the object in
the mode that it has, and means it; who notes the mode or passes on another one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradcheck_lint.facts.classes import ClassFacts, is_module
from gradcheck_lint.source import tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.values import FunctionValue


class Kept(NamedTuple):
    """A method that keeps the mode for itself, or (if `given` is a call) hands on another one than it was given.

    `mode` is what it calls the mode. `meant`: it looks as if somebody had thought of it.
    """

    place: Place
    method: str
    mode: str
    given: tree.Call | None
    meant: bool = False


def kept_for_itself(facts: ClassFacts) -> Iterator[Kept]:
    """The methods `train` and `eval` of a module that the modes of its layers do not follow."""
    if facts.cls is None or not is_module(facts.cls):
        return
    for name in ("train", "eval"):
        member = facts.cls.members.get(name)
        if isinstance(member, FunctionValue) and member.owner is facts.cls:
            found = _kept(member, name)
            if found is not None:
                # the mode is said, `eval` is somebody's own, or layers stay in evaluation mode for good
                said = bool(found.given.args) if found.given is not None else ".eval(" in facts.text
                yield found._replace(meant=said or (name == "train" and "eval" in facts.cls.members))


def _kept(member: FunctionValue, name: str) -> Kept | None:
    function = member.function
    plain = [parameter.name for parameter in function.parameters]
    if not plain or len(plain) > 2 or (name == "train") is not (len(plain) == 2):
        return None
    own, mode = plain[0], plain[1] if len(plain) == 2 else ""
    calls: list[tree.Call] = []
    noted: tree.Node | None = None
    speaks = False
    for node in tree.walk_block(function.body):
        spend(1)
        if isinstance(node, tree.Name) and node.id == mode:
            speaks = True
        elif isinstance(node, tree.Call):
            calls.append(node)
        elif isinstance(node, tree.Assign) and any(tree.dotted(t) == f"{own}.training" for t in node.targets):
            noted = node
    above = [call for call in calls if _of_super(call, own, name)]
    if len(above) == 1 and name == "train" and not speaks:
        given = [a for a in above[0].args if not (isinstance(a.value, tree.Name) and a.value.id == own)]
        constant = given[0].value if len(given) == 1 else None
        if not given or (isinstance(constant, tree.Constant) and constant.value is True):
            return Kept(member.place(above[0]), name, mode, above[0])
    if noted is None or any(isinstance(call.func, tree.Attribute) or _in(call, own) for call in calls):
        return None  # it calls what may hand it on
    return Kept(member.place(noted), name, mode, None)


def _of_super(call: tree.Call, own: str, name: str) -> bool:
    """`super().train()`, or `nn.Module.train(self)`."""
    func = call.func
    if not isinstance(func, tree.Attribute) or func.attr != name:
        return False
    if isinstance(func.value, tree.Call):
        return tree.dotted(func.value.func) == "super"
    return bool(call.args) and tree.dotted(call.args[0].value) == own and tree.dotted(func.value)[-6:] == "Module"


def _in(call: tree.Call, own: str) -> bool:
    """Whether a function is handed the object."""
    return any(tree.dotted(argument.value).partition(".")[0] == own for argument in call.args)
