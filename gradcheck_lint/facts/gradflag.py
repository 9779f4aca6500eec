"""What an object is to `requires_grad`: a tensor, which has that attribute, or a module, which has only the method."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source import tree
from gradcheck_lint.source.natures import Module, Opaque, Tensor
from gradcheck_lint.source.place import Place
from gradcheck_lint.source.timeline import Branch
from gradcheck_lint.source.values import (
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Nature,
    Partial,
    Thing,
    Value,
    options,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gradcheck_lint.source.events import Event, SetAttribute
    from gradcheck_lint.source.timeline import Timeline

_CONTAINERS = ("torch.nn.Sequential", "torch.nn.ModuleList", "torch.nn.ModuleDict")
_WALKS = frozenset({"children", "modules", "named_children", "named_modules"})


_LAYERS = frozenset(
    "out_proj encoder decoder layers norm norm1 norm2 norm3 self_attn multihead_attn linear1 linear2 dropout".split()
)
"""Attributes of torch's own layers that are modules; what else hangs on one is a tensor, such as `weight_g`."""

_LIKE_TENSORS = re.compile(
    r"(?:^|_)(?:weights?|bias(?:es)?|tokens?|pos|emb|embeds?|scale|gamma|beta|alpha|temp|temperature|param|params"
    r"|parameters?|quer(?:y|ies)|prompts?|mean|var|std|mask|table|orig|original\d*|buffer|g|v|w|b)(?:_|\d|$)"
)
"""Names of attributes of networks from elsewhere that may as well be tensors: `cls_token`, `logit_scale`."""


class Kind(NamedTuple):
    """What an object is, and whether that is certain."""

    what: type[Nature]
    certain: bool


def kind(thing: Thing) -> Kind | None:
    """What an object is, as far as the code shows; None if it may be something else altogether."""
    thing = thing.core
    if isinstance(thing.what, Tensor):
        return Kind(Tensor, True)
    if isinstance(thing.what, Module):
        return Kind(Module, thing.certain)
    if not isinstance(thing.what, Opaque) or thing.parent is None:
        return None
    above, attribute = thing.parent
    if attribute == "[]" or attribute.startswith("["):
        if _walked(thing) or (isinstance(above.cls, External) and above.cls.name in _CONTAINERS):
            return Kind(Module, True)
        return Kind(Module, False) if isinstance(above.what, Module) else None
    if attribute in ("weight", "bias"):
        return Kind(Tensor, kind(above) is not None)
    cls = above.core.cls
    if not isinstance(cls, External) or not isinstance(above.what, Module) or attribute.startswith("_"):
        return None
    if cls.name.startswith("torch.nn."):
        return Kind(Module, False) if attribute in _LAYERS else None
    return Kind(Module, False) if not _LIKE_TENSORS.search(attribute) else None


_ASKING = frozenset({"isinstance", "issubclass", "type", "hasattr", "callable", "is_parameter", "is_tensor"})
"""Functions by which code finds out what it has."""


def told_apart(timeline: Timeline, event: Event) -> bool:
    """Whether a test around an event asks what the object of its attribute is: code that has both kinds knows them."""
    target = event.place.node
    name = tree.dotted(target.value) if isinstance(target, tree.Attribute) else ""
    tests = [step.test for step, _ in timeline.path(event) if isinstance(step, Branch) and step.test is not None]
    return any(
        isinstance(node, tree.Call)
        and tree.last_name(node.func) in _ASKING
        and any(tree.dotted(argument.value) == name for argument in node.args[:1])
        for test in tests
        for node in test.walk()
    )


def _walked(thing: Thing) -> bool:
    """Whether it comes from a walk over the modules in a module: `for name, layer in model.named_children()`."""
    above: Thing | None = thing
    while above is not None and above.parent is not None and above.parent[1] == "[]":
        above = above.parent[0]
    node = above.place.node if above is not None and above.place is not None and above.parent is None else None
    if not isinstance(node, tree.Call) or not isinstance(node.func, tree.Attribute):
        return False
    return above is not thing and node.func.attr in _WALKS


def class_text(timeline: Timeline, thing: Thing) -> str:
    """The text of the methods of an object's class and of its bases in the project."""
    found = []
    cls = thing.core.cls
    project = timeline.home.project
    for value in cls.lineage() if isinstance(cls, ClassValue) else ():
        for member in value.members.values() if isinstance(value, ClassValue) else ():
            if isinstance(member, FunctionValue):
                known = project.definition_of.get(id(member.function))
                found.append(known[1].text if known is not None else "")
    return "".join(found)


def has_own(timeline: Timeline, thing: Thing, name: str) -> bool:
    """Whether the class of an object knows an attribute of this name: defines it, sets it or reads it.

    An item of a container may be any of those that the container was made of.
    """
    cls = thing.core.cls
    if isinstance(cls, ClassValue) and any(cls.member(m) is not None for m in (name, "__setattr__")):
        return True
    if any(has_own(timeline, part, name) for part in part_of(thing)):
        return True
    return re.search(rf"\bself\.{name}\b|[\"']{name}[\"']", class_text(timeline, thing)) is not None


def part_of(thing: Thing) -> list[Thing]:
    """The modules that an item of a container may be, where the code shows what the container was made of."""
    if thing.parent is None or not thing.parent[1].startswith("["):
        return []
    above = thing.parent[0]
    args = above.args
    given = [o for value in (args.positional if args is not None else ()) for o in _flat(value)]
    index = re.fullmatch(r"\[(-?\d+)\]", thing.parent[1])
    if index is not None and -len(given) <= int(index.group(1)) < len(given):
        given = [given[int(index.group(1))]]
    return [o for o in given if isinstance(o, Thing)]


def _flat(value: Value) -> Iterator[Value]:
    for option in options(value):
        items = getattr(option, "items", None)
        if isinstance(items, list):
            for item in items:
                yield from _flat(item)
        else:
            yield option


def read_elsewhere(timeline: Timeline, name: str) -> bool:
    """Whether some text of the project reads an attribute of this name, and so may mean it."""
    pattern = re.compile(rf"\.{name}\b(?!\s*=(?!=))(?!\s*\()")
    texts = [m.text for m in timeline.home.project.modules.values() if m is not None]
    return any(pattern.search(text) or asked_by_name(text, name) for text in texts)


_BY_NAME = re.compile(r"\b(?:getattr|hasattr)\(\s*[\w.\[\]]+\s*,\s*[^\W\d]|\battrgetter\(\s*[^\W\d]")
"""An attribute is asked for whose name is in a variable."""


def asked_by_name(text: str, name: str) -> bool:
    """Whether a text may read an attribute of this name by `getattr` and the like."""
    quoted = rf"[\"']{name}[\"']"
    if re.search(
        rf"(?:(?:get|has)attr|attrgetter)\([^)\n]*{quoted}|(?:__dict__|\bvars\([^)\n]*\))[^\n]*{quoted}", text
    ):
        return True
    return _BY_NAME.search(text) is not None and re.search(rf"(?<![\w\])]\[){quoted}(?!\s*:)", text) is not None


_READ = re.compile(r"(?:(\w+)|[\])])\.requires_grad\b(?!\s*=(?!=))")
_TENSORS = re.compile(
    r"(?i)self|ctx|args|opts?|cfg|conf\w*|hparams"  # flags of other kinds
    r"|[ptvwbxyz]|\w*(?:param|params|parameter|weights?|bias|tensors?|inputs?|outputs?|data|loss|grad|embeddings?)\d*"
)


def flag_of_modules_read(timeline: Timeline) -> bool:
    """Whether some text of the project reads `requires_grad` of what may be a module, and so may mean the attribute.

    Tensors are asked all the time: what is called like one, or comes from a walk over parameters, is none. A module is
    met by code that has to do with the one that makes it.
    """
    for module in timeline.home.project.around(timeline.home):
        if "requires_grad" not in module.text:
            continue
        if asked_by_name(module.text, "requires_grad"):
            return True
        for match in _READ.finditer(module.text):
            name = match.group(1)
            if name is None or not (_TENSORS.fullmatch(name) or _walked_over(module.text, name)):
                return True
    return False


def _walked_over(text: str, name: str) -> bool:
    """Whether a name is that of a parameter in a loop or in a function that selects parameters."""
    walk = rf"\bfor\s+(?:\w+\s*,\s*)?{name}\s+in\b[^:\n]*param|\blambda\s+{name}\s*:"
    return re.search(walk, text) is not None


def set_elsewhere(timeline: Timeline, name: str) -> bool:
    """Whether some text of the project sets an attribute of this name, or defines a method of it."""
    pattern = re.compile(rf"\.{name}\s*(?::[^=\n]+)?=(?!=)|setattr\([^)\n]*[\"']{name}[\"']|\bdef {name}\b")
    return any(pattern.search(m.text) for m in timeline.home.project.modules.values() if m is not None)


def callable_value(value: Value) -> bool:
    """Whether a value is a function, which may well take the place of a method."""
    return any(isinstance(o, (FunctionValue, ClassValue, Partial, External)) for o in options(value))


def plain_flag(event: SetAttribute) -> bool:
    """Whether what is assigned is no function for certain: a constant, or the result of a comparison or a `not`."""
    value = _assigned(event)
    if all(isinstance(o, Constant) for o in options(event.value)):
        return True
    return isinstance(value, tree.Operation) and value.op in ("not", "==", "!=", "is", "is not", "in", "not in")


def _assigned(event: Event) -> tree.Expression | None:
    node = event.place.node
    if isinstance(node, tree.Call) and len(node.args) == 3:
        return node.args[2].value
    statement = event.statement.node
    return statement.value if isinstance(statement, tree.Assign) else None


def called(event: Event) -> tuple[Place, str] | None:
    """What to replace, and by what, so that an assignment to the flag becomes a call of `requires_grad_`.

    None if the assignment is no statement of its own with one target, or if it is written on several lines.
    """
    from gradcheck_lint.facts.repair import text

    chunk, value, statement, node = event.place.chunk, _assigned(event), event.statement.node, event.place.node
    if value is None:
        return None
    if isinstance(node, tree.Attribute) and isinstance(statement, tree.Assign):
        if len(statement.targets) != 1 or statement.targets[0] is not node or statement.annotation is not None:
            return None
        owner = node.value
    elif isinstance(node, tree.Call) and tree.alone(statement, node):
        owner = node.args[0].value
        if not isinstance(owner, (tree.Name, tree.Attribute, tree.Subscript)):
            return None
    else:
        return None
    if "\n" in event.statement.code:
        return None
    return event.statement, f"{text(Place(chunk, owner))}.requires_grad_({text(Place(chunk, value))})"
