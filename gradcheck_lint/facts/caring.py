"""Which modules compute something else in evaluation mode: by the layers of torch that their classes make.

A class of the project is asked by its text as a tree, with the names that its file has imported, so that it need not
have been interpreted. What it makes of classes outside of torch and of the project leaves the answer open.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Iterable, Iterator, Mapping

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.natures import Module as ModuleNature
from gradcheck_lint.source.project import Module
from gradcheck_lint.source.run.touch import python
from gradcheck_lint.source.torch_api import COPYING
from gradcheck_lint.source.values import ClassValue, Constant, External, Thing, Value, contents

_DROPOUT = frozenset({"Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout"})
_BATCH_NORM = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm", "LazyBatchNorm1d"}) | {
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
}
_INSTANCE_NORM = frozenset({"InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"})
_WITH_DROPOUT = {
    "LSTM": False, "GRU": False, "RNN": False, "MultiheadAttention": False,
    "TransformerEncoderLayer": True, "TransformerDecoderLayer": True, "Transformer": True,
}  # fmt: skip
"""Layers of torch.nn with a `dropout` of their own, and whether there is one unless they are told otherwise."""

_FUNCTIONS = frozenset(
    {"dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "batch_norm", "rrelu"}
)

_NORMED = re.compile(
    r"(?i)^(?:tf_|gluon_|legacy_)?(?:densenet|efficientnet|mnasnet|mobilenet|googlenet|inception|regnet|(?:wide_?|se_?|eca_?|sk"
    r"|csp|t)?res(?:net|next|nest)|shufflenet|vgg\d+_bn|deeplab|fcn_|lraspp|r3d|mc3|r2plus1d|xception|hrnet|repvgg"
    r"|ghostnet|dpn\d|darknet)"
)
"""Families of networks that all have batch norm, in torchvision, in timm and by themselves."""

_DROPPING = re.compile(
    r"(?i)^(?:alexnet|squeezenet|vgg(?:1|_)|(?:faster|mask|keypoint)_?rcnn|retinanet|ssd|fcos)"
    r"|^(?:bert|roberta|distilbert|gpt2|t5(?=for|model|enc|-)|bart|electra|deberta|xlmroberta|camembert|mpnet|xlnet|longformer"
    r"|opt(?=for|model|-)|mbart|marian|pegasus|wav2vec2|hubert|layoutlm)"
    r"|^(?:[\w-]+/)?(?:bert|roberta|distilbert|distilroberta|gpt2|distilgpt2|t5|flan-t5|bart|electra|deberta|xlm-roberta"
    r"|camembert|mpnet|xlnet|longformer|opt|mbart|marian|pegasus|wav2vec2|hubert)-"
)
"""Those that have dropout (unless they are told otherwise) or another way to compute, there and in transformers."""

_SEGMENTS = "segmentation_models_pytorch."

_RATE = re.compile(r"(?i)^(?:\w+_)?(?:drop_?(?:out|path|connect)?(?:_?(?:rate|p|prob))?|p_drop\w*)$")
"""What an argument is called that says how much is dropped."""

_NO_LAYERS = frozenset({"numpy", "scipy", "math", "einops", "os", "time", "random", "logging", "warnings", "json"})
"""Packages whose functions give no layers, besides those that `touch` knows to be Python's own."""

_PYTHON = frozenset(dir(builtins))

_DEEPEST = 6  # classes whose parts are asked for their parts in turn


def cares(module: Thing) -> Answer:
    """Whether a module has a layer that computes something else in evaluation mode."""
    return _Asked(statistics=False).thing(module.core)


def has_caring_layers(module: Thing) -> Answer:
    """Whether layers inside of a module care, which do not ask the module's own flag."""
    core = module.core
    made = isinstance(core.cls, ClassValue) or (isinstance(core.what, ModuleNature) and core.what.pretrained)
    listed = isinstance(core.cls, External) and core.cls.name in ("torch.nn.Sequential", "torch.nn.ModuleList")
    return _Asked(statistics=False, functions=False).thing(core) if made or listed else MAYBE


def keeps_statistics(module: Thing) -> Answer:
    """Whether a module has a layer that keeps statistics of what it is given in training mode, as batch norm does."""
    return _Asked(statistics=True).thing(module.core)


class _Asked:
    """One question, and the classes that were met on the way: one that holds itself adds nothing.

    It is about layers that keep `statistics` only, or about all that care, and `functions` that are told the mode.
    """

    def __init__(self, *, statistics: bool, functions: bool = True) -> None:
        self.statistics, self.functions = statistics, functions
        self.met: set[int] = set()

    def thing(self, module: Thing) -> Answer:
        cls = module.cls
        if isinstance(cls, ClassValue):
            return self.definition(cls.home, cls.node, 0)
        if cls is None and module.parent is not None and isinstance(module.parent[0].core.cls, ClassValue):
            return self.attribute(module.parent[0].core.cls, module.parent[1])
        if not self.statistics and self.told(module):
            return YES
        if not isinstance(cls, External) or not isinstance(module.what, ModuleNature):
            return MAYBE
        if module.what.pretrained:
            if module.args is not None and any(_RATE.match(key) for key in module.args.keywords):
                return MAYBE
            return self.network(cls.name, _first_text(module))
        if not cls.name.startswith("torch.nn.") or module.args is None:
            return MAYBE
        first = module.args.positional[0] if module.args.positional else None
        found = self.layer(cls.name, first, module.args.keywords)
        if found is not None:
            return found
        inner = [
            self.thing(part)
            for value in module.args.all()
            for part in contents(value)
            if isinstance(part, Thing) and isinstance(part.what, ModuleNature)
        ]
        return _strongest(inner) if not module.args.open else _strongest([*inner, MAYBE])

    @staticmethod
    def told(module: Thing) -> bool:
        """Whether a network of which nothing was seen was told how much to drop: `Net(64, dropout=0.5).to(device)`."""
        call = module.place.node if module.place is not None else None
        while isinstance(call, tree.Call) and isinstance(call.func, tree.Attribute) and call.func.attr in COPYING:
            call = call.func.value
        return isinstance(call, tree.Call) and _told(call)

    def attribute(self, cls: ClassValue, name: str) -> Answer:
        """What a class makes of one of its attributes."""
        found: Answer | None = None
        for base in cls.lineage():
            for function in _methods(base.node) if isinstance(base, ClassValue) else ():
                own = function.parameters[0].name if function.parameters else ""
                for node in tree.walk_block(function.body):
                    if not isinstance(node, tree.Assign) or node.value is None:
                        continue
                    if not any(tree.dotted(target) == f"{own}.{name}" for target in node.targets):
                        continue
                    calls = [part for part in node.value.walk() if isinstance(part, tree.Call)]
                    assert isinstance(base, ClassValue)
                    made = [self.made(base.home, tree.dotted(call.func), call, 0, function) for call in calls]
                    found = _strongest([found or NO, *made] if made else [MAYBE])
        return MAYBE if found is None else found

    def definition(self, home: Module, node: Definition, depth: int) -> Answer:
        """What a class makes in its methods, or a function by what it calls."""
        if id(node) in self.met:
            return NO
        self.met.add(id(node))
        if depth > _DEEPEST:
            return MAYBE
        found = NO
        for base in node.bases if isinstance(node, tree.Class) else ():
            found = _stronger(found, self.made(home, tree.dotted(base), None, depth))
        for function in [node] if isinstance(node, tree.Function) else _methods(node):
            for inner in tree.walk_block(function.body):
                if isinstance(inner, tree.Call):
                    found = _stronger(found, self.made(home, tree.dotted(inner.func), inner, depth, function))
                elif isinstance(inner, tree.Attribute) and inner.attr == "training":
                    found = _stronger(found, MAYBE)
                if found is YES:
                    return YES
        return found

    def made(
        self, home: Module, name: str, call: tree.Call | None, depth: int, function: tree.Function | None = None
    ) -> Answer:
        """What a call adds in the methods of a class, or a base that it has (without a call)."""
        spend(2)
        if not name or name.startswith("self."):
            return NO
        where = resolved(home, name)
        if isinstance(where, str):
            if call is None:
                return NO if where in ("torch.nn.Module", "builtins.object") or where.startswith("abc.") else MAYBE
            return self.called(where, call, function)
        if where is None:  # a method of something, a function of Python, or one that may make anything
            return NO if "." in name or name in _PYTHON else MAYBE
        other, found = where
        return self.definition(other, found, depth + 1)

    def called(self, name: str, call: tree.Call, function: tree.Function | None) -> Answer:
        """What a call of a name outside of the project adds."""
        if torch_api.makes_model(name) or name.endswith(".from_pretrained") or name.startswith("transformers."):
            family = call.args[0].value if call.args else None
            return self.network(name, family.value if isinstance(family, tree.Constant) else "")
        if not name.startswith("torch."):
            if not self.statistics and _told(call):
                return YES
            return NO if python(name) or name.partition(".")[0] in _NO_LAYERS else MAYBE
        first = next((_said(a.value, function) for a in call.args if a.keyword is None and not a.star), None)
        keywords = {a.keyword: _said(a.value, function) for a in call.args if a.keyword is not None}
        head, _, last = name.rpartition(".")
        if head == "torch.nn.functional" and last in _FUNCTIONS:
            if not self.functions or (self.statistics and last != "batch_norm"):
                return NO
            return YES if "training" in keywords and not isinstance(keywords["training"], Constant) else NO
        return self.layer(name, first, keywords) or NO

    def layer(self, name: str, first: Value | None, keywords: Mapping[str, Value]) -> Answer | None:
        """Whether a layer of torch cares; None for one that depends on what is in it, or does not."""
        head, _, last = name.rpartition(".")
        if head not in ("torch.nn", "torch.nn.modules"):
            return None
        if last in _DROPOUT:
            return NO if self.statistics else _rate(keywords.get("p", first))
        if last in _BATCH_NORM:
            tracks = keywords.get("track_running_stats")
            return NO if self.statistics and tracks is not None and _false(tracks) else YES
        if last == "RReLU":
            return NO if self.statistics else YES
        if last in _INSTANCE_NORM:
            tracks = keywords.get("track_running_stats")
            return NO if tracks is None or _false(tracks) else YES
        if last in _WITH_DROPOUT and self.statistics:
            return NO
        if last in _WITH_DROPOUT:
            rate = keywords.get("dropout")
            return (YES if _WITH_DROPOUT[last] else NO) if rate is None else _rate(rate)
        return None

    def network(self, name: str, given: object) -> Answer:
        """Whether a network of a collection has such layers, by its family."""
        head, _, last = name.rpartition(".")
        if last == "from_pretrained":
            known: list[object] = [head.rpartition(".")[2], given]
        else:
            known = [given if last in ("create_model", "get_model", "load") else last]
        if name.startswith(_SEGMENTS) and last[:1].isupper():
            return YES
        families = [_NORMED] if self.statistics else [_NORMED, _DROPPING]
        return YES if any(isinstance(k, str) and family.match(k) for k in known for family in families) else MAYBE


def _rate(given: Value | None) -> Answer:
    """Whether dropout at this rate drops something: nobody writes the layer for one that is always 0."""
    if isinstance(given, Constant) and given.value is not ...:
        return NO if not given.value else YES
    return YES if given is None or not isinstance(given, Constant) else MAYBE


def _told(call: tree.Call) -> bool:
    """Whether a call says a rate at which something is dropped, and that is not 0."""
    return any(
        argument.keyword is not None
        and _RATE.match(argument.keyword) is not None
        and isinstance(argument.value, tree.Constant)
        and isinstance(argument.value.value, float)
        and argument.value.value > 0
        for argument in call.args
    )


def _false(given: Value) -> bool:
    return isinstance(given, Constant) and given.value is False


def _said(node: tree.Expression, function: tree.Function | None) -> Value:
    """What an argument is where it is written: a constant, or the default of a parameter that is 0 (then `...`)."""
    if isinstance(node, tree.Constant):
        return Constant(node.value)
    if isinstance(node, tree.Name) and function is not None:
        for parameter in function.parameters:
            if parameter.name == node.id and isinstance(parameter.default, tree.Constant):
                return Constant(...) if not parameter.default.value else Constant(parameter.default.value)
    return External("?")


def _first_text(module: Thing) -> object:
    first = module.args.positional[0] if module.args is not None and module.args.positional else None
    return first.value if isinstance(first, Constant) else ""


def _methods(node: tree.Class) -> Iterator[tree.Function]:
    for statement in node.body:
        if isinstance(statement, tree.Function):
            yield statement


def _stronger(one: Answer, other: Answer) -> Answer:
    return _strongest((one, other))


def _strongest(answers: Iterable[Answer]) -> Answer:
    found = set(answers)
    return YES if YES in found else MAYBE if MAYBE in found else NO


Definition = tree.Class | tree.Function
Where = tuple[Module, Definition]


def resolved(home: Module, name: str, depth: int = 0) -> Where | str | None:
    """What a dotted name in a file leads to: a class or function of the project, or a name outside of it."""
    head, _, rest = name.partition(".")
    for statement in _statements(home.body):
        spend(1)
        if isinstance(statement, (tree.Class, tree.Function)) and statement.name == head and not rest:
            return home, statement
        if isinstance(statement, tree.Import):
            found = _imported(home, statement, head, rest, depth)
            if found is not None:
                return found
    return None


def _imported(home: Module, node: tree.Import, head: str, rest: str, depth: int) -> Where | str | None:
    for name, bound in node.names:
        if (bound or name.partition(".")[0]) != head or name == "*":
            continue
        if node.module is None:
            module = home.project.resolve(home, name, 0)
            if module is None:
                full = name if bound else head
                return torch_api.canonical(f"{full}.{rest}" if rest else full)
            return resolved(module, rest, depth + 1) if rest and depth < _DEEPEST else None
        module = home.project.resolve(home, node.module, node.level)
        if module is None:
            full = f"{home.project.name_outside(home, node.module, node.level)}.{name}"
            return torch_api.canonical(f"{full}.{rest}" if rest else full)
        if depth >= _DEEPEST:
            return None
        if not rest:
            return resolved(module, name, depth + 1)
        inner = home.project.resolve(module, name, 1)
        return resolved(inner, rest, depth + 1) if inner is not None else None
    return None


def _statements(block: tree.Block) -> Iterator[tree.Statement]:
    """The statements of a file's own code, in branches too."""
    for statement in block:
        yield statement
        if isinstance(statement, tree.If):
            yield from _statements(statement.body)
            yield from _statements(statement.orelse)
        elif isinstance(statement, tree.Try):
            yield from _statements(statement.body)
            for handler in statement.handlers:
                yield from _statements(handler)
