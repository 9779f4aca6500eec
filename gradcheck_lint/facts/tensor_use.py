"""What methods do with a tensor that is an attribute: whether it may be trained there, or is only read."""

from __future__ import annotations

from gradcheck_lint.source import tree

_INITIALISES = frozenset(
    "uniform_ normal_ fill_ zero_ zeros_ ones_ trunc_normal_ xavier_uniform_ xavier_normal_ kaiming_uniform_"
    " kaiming_normal_ orthogonal_ constant_ eye_ sparse_ dirac_ exponential_ log_normal_ bernoulli_ random_".split()
)
"""Methods of tensors, and functions of `torch.nn.init`, that give them their first values."""

_READS = frozenset({"shape", "dtype", "device", "ndim", "is_cuda", "T", "mT", "requires_grad", "is_leaf", "layout"})
_LOOKS = frozenset({"print", "len", "float", "int", "str", "repr", "isinstance", "type", "sum", "min", "max", "range"})


def trained_there(function: tree.Function, name: str) -> bool:
    """Whether a method may train the attribute of its object, or hand it to somebody who does.

    It surely does not where it computes with it, asks for its shape, or gives it its first values.
    """
    around: dict[int, tree.Node] = {}
    found: list[tree.Attribute] = []
    for node in tree.walk_block(function.body):
        if isinstance(node, (tree.Function, tree.Class)):
            if any(_mentions(inner, name) for inner in _inside(node)):
                return True
            continue
        for child in node.children():
            around[id(child)] = node
        if isinstance(node, tree.Attribute) and node.attr == name:
            found.append(node)
    return any(not _harmless(node, around) for node in found)


def _inside(node: tree.Function | tree.Class) -> list[tree.Node]:
    return list(tree.walk_block(node.body))


def _mentions(node: tree.Node, name: str) -> bool:
    return isinstance(node, tree.Attribute) and node.attr == name


def _harmless(node: tree.Expression, around: dict[int, tree.Node]) -> bool:
    """Whether what stands around an expression only reads it, or gives it its first values."""
    above = around.get(id(node))
    if isinstance(above, (tree.Operation, tree.If, tree.While, tree.Assert)):
        return True
    if isinstance(above, tree.Subscript):
        return above.value is not node or _harmless(above, around)
    if isinstance(above, tree.Argument):
        call = around.get(id(above))
        return isinstance(call, tree.Call) and _computes(call)
    if isinstance(above, tree.Attribute):
        if above.attr in _READS:
            return True
        call = around.get(id(above))
        called = isinstance(call, tree.Call) and call.func is above
        if above.attr == "data":
            return _initialised(above, around)
        if called:
            return above.attr in _INITIALISES or not above.attr.endswith("_")
    return False


def _initialised(node: tree.Expression, around: dict[int, tree.Node]) -> bool:
    """Whether `.data` is only there to be given its first values."""
    above = around.get(id(node))
    if isinstance(above, tree.Attribute):
        return above.attr in _INITIALISES or above.attr in _READS
    call = around.get(id(above)) if isinstance(above, tree.Argument) else None
    return isinstance(call, tree.Call) and tree.last_name(call.func) in _INITIALISES


def _computes(call: tree.Call) -> bool:
    """Whether a function of torch computes with what it is given, or initialises it."""
    name = tree.dotted(call.func)
    if name in _LOOKS or tree.last_name(call.func) in _INITIALISES:
        return True
    if name.startswith(
        ("torch.optim", "torch.autograd", "torch.nn.Parameter", "nn.Parameter", "torch.nn.ParameterList")
    ):
        return False
    return name.startswith(("torch.", "F.", "nn.functional.", "math.", "np."))
