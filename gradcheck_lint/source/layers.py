"""Which parameters the layers of torch.nn have: their names, and how many dimensions they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gradcheck_lint.source.natures import Tensor, made_by
from gradcheck_lint.source.values import Constant, External, Items, Thing, Value

if TYPE_CHECKING:
    from gradcheck_lint.source.run.arguments import Arguments


class Slot(NamedTuple):
    """A parameter of a layer; `ndim` is None where the code does not show how many dimensions it has."""

    name: str
    ndim: int | None


_PLAIN = {
    # layer → dimensions of its weight, and at which position it is told whether it has a bias
    "Linear": (2, 2),
    "Bilinear": (3, 3),
    "Conv1d": (3, 7),
    "Conv2d": (4, 7),
    "Conv3d": (5, 7),
    "ConvTranspose1d": (3, 7),
    "ConvTranspose2d": (4, 7),
    "ConvTranspose3d": (5, 7),
}
_EMBEDDING = frozenset({"Embedding", "EmbeddingBag"})
_BATCH_NORM = frozenset({"BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"})
_INSTANCE_NORM = frozenset({"InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"})
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_CELLS = frozenset({"LSTMCell", "GRUCell", "RNNCell"})

LEARNING = frozenset(
    {
        "Linear", "Bilinear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
        "LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell", "Embedding", "EmbeddingBag", "BatchNorm1d",
        "BatchNorm2d", "BatchNorm3d", "LayerNorm", "GroupNorm", "MultiheadAttention", "PReLU", "Transformer",
        "TransformerEncoderLayer", "TransformerDecoderLayer",
    }
)  # fmt: skip
"""Layers of torch.nn that have parameters, as they are usually made."""

WITHOUT_PARAMETERS = frozenset(
    {
        "ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Tanh", "Sigmoid", "Softmax",
        "Softmax2d", "LogSoftmax", "LogSigmoid", "Softmin", "Softplus", "Softsign", "Softshrink", "Hardshrink",
        "Hardtanh", "Hardswish", "Hardsigmoid", "Threshold", "GLU", "RReLU", "Tanhshrink", "Dropout", "Dropout1d",
        "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout", "Flatten", "Unflatten", "Identity", "Fold",
        "Unfold", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d", "AvgPool1d",
        "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d",
        "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "LPPool1d", "LPPool2d", "FractionalMaxPool2d", "Upsample",
        "UpsamplingNearest2d", "UpsamplingBilinear2d", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "ZeroPad1d",
        "ZeroPad2d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d", "ReflectionPad1d", "ReflectionPad2d",
        "ReplicationPad1d", "ReplicationPad2d", "LocalResponseNorm", "CosineSimilarity", "PairwiseDistance", "MSELoss",
        "L1Loss", "CrossEntropyLoss", "NLLLoss", "BCELoss", "BCEWithLogitsLoss", "SmoothL1Loss", "HuberLoss",
        "KLDivLoss", "PoissonNLLLoss", "GaussianNLLLoss", "HingeEmbeddingLoss", "MarginRankingLoss", "SoftMarginLoss",
        "TripletMarginLoss", "TripletMarginWithDistanceLoss", "CosineEmbeddingLoss", "CTCLoss", "MultiMarginLoss",
        "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss",
    }
)  # fmt: skip
"""Layers of torch.nn that have none."""


def layer_of(thing: Thing) -> str:
    """The name of the layer of torch.nn that a thing is; "" for all else."""
    if isinstance(thing.cls, External) and thing.cls.name.startswith("torch.nn."):
        return thing.cls.name.removeprefix("torch.nn.")
    return ""


def slots(layer: str, args: Arguments | None) -> list[Slot] | None:
    """The parameters of a layer that is made with some arguments; None if that is not known."""
    if layer in WITHOUT_PARAMETERS:
        return []
    if args is None or args.open:
        return None
    if layer in _PLAIN:
        ndim, position = _PLAIN[layer]
        return _with_bias([Slot("weight", ndim)], args, position)
    if layer in _EMBEDDING:
        return [Slot("weight", 2)]
    if layer == "PReLU":
        return [Slot("weight", 1)]
    if layer in _BATCH_NORM or layer in _INSTANCE_NORM:
        affine = _flag(args, 3, "affine", layer in _BATCH_NORM)
        return None if affine is None else _norm(1) if affine else []
    if layer == "GroupNorm":
        affine = _flag(args, 3, "affine", True)
        return None if affine is None else _norm(1) if affine else []
    if layer in ("LayerNorm", "RMSNorm"):
        affine = _flag(args, 2, "elementwise_affine", True)
        if affine is None:
            return None
        shape = dimensions(args.get(0, "normalized_shape"))
        weight = [Slot("weight", shape)] if affine else []
        return weight if layer == "RMSNorm" or not affine else _with_bias(weight, args, 3, shape)
    if layer in _RECURRENT:
        return _recurrent(args)
    if layer in _CELLS:
        bias = _flag(args, 2, "bias", True)
        weights = [Slot("weight_ih", 2), Slot("weight_hh", 2)]
        return None if bias is None else [*weights, Slot("bias_ih", 1), Slot("bias_hh", 1)] if bias else weights
    if layer == "MultiheadAttention":
        return _attention(args)
    if layer in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        return _transformer(args, decoder=layer == "TransformerDecoderLayer")
    return None


def dimensions(size: Value | None) -> int | None:
    """How many dimensions a size speaks of: an integer, or a tuple of them."""
    if isinstance(size, Constant) and type(size.value) is int:
        return 1
    if isinstance(size, Items) and size.complete:
        return len(size.items)
    return None


def dims(data: Value | None) -> int | None:
    """How many dimensions a new tensor has, by the arguments that it is made with."""
    if not isinstance(data, Thing) or not isinstance(data.what, Tensor) or data.args is None:
        return None
    args, by = data.args.positional, made_by(data)
    if by in ("tensor", "as_tensor"):
        depth, value = 0, args[0] if args else None
        while isinstance(value, Items) and value.items:
            depth, value = depth + 1, value.items[0]
        return depth if isinstance(value, Constant) else None
    if by in ("zeros", "ones", "randn", "rand", "empty", "Tensor", "FloatTensor"):
        return dimensions(args[0]) if len(args) == 1 else len(args) or None
    if by in ("full", "randint", "normal"):
        return dimensions(args[0]) if args and isinstance(args[0], Items) else None
    return {"eye": 2, "linspace": 1, "arange": 1, "logspace": 1}.get(by)


def _with_bias(weight: list[Slot], args: Arguments, position: int, ndim: int | None = 1) -> list[Slot] | None:
    bias = _flag(args, position, "bias", True)
    return None if bias is None else [*weight, Slot("bias", ndim)] if bias else weight


def _norm(ndim: int) -> list[Slot]:
    return [Slot("weight", ndim), Slot("bias", ndim)]


def _flag(args: Arguments, position: int, name: str, default: bool) -> bool | None:
    """A switch among the arguments; None where its value is not known."""
    value = args.get(position, name)
    if value is None:
        return default
    return bool(value.value) if isinstance(value, Constant) and value.value is not ... else None


def _recurrent(args: Arguments) -> list[Slot] | None:
    layers = args.get(2, "num_layers")
    count = 1 if layers is None else layers.value if isinstance(layers, Constant) else None
    bias, both = _flag(args, 3, "bias", True), _flag(args, 6, "bidirectional", False)
    projected = args.keywords.get("proj_size")
    if type(count) is not int or count > 64 or bias is None or both is None or projected is not None:
        return None
    found: list[Slot] = []
    for number in range(count):
        for end in ("", "_reverse") if both else ("",):
            found += [Slot(f"weight_ih_l{number}{end}", 2), Slot(f"weight_hh_l{number}{end}", 2)]
            found += [Slot(f"bias_ih_l{number}{end}", 1), Slot(f"bias_hh_l{number}{end}", 1)] if bias else []
    return found


def _attention(args: Arguments) -> list[Slot] | None:
    bias = _flag(args, 3, "bias", True)
    if bias is None or {"add_bias_kv", "kdim", "vdim"} & args.keywords.keys() or len(args.positional) > 4:
        return None
    weights = [Slot("in_proj_weight", 2), *([Slot("in_proj_bias", 1)] if bias else []), Slot("out_proj.weight", 2)]
    return [*weights, Slot("out_proj.bias", 1)] if bias else weights


def _transformer(args: Arguments, decoder: bool) -> list[Slot] | None:
    bias = _flag(args, 8, "bias", True)
    if bias is None:
        return None
    attentions, norms = (("self_attn", "multihead_attn"), 3) if decoder else (("self_attn",), 2)
    found = [
        Slot(f"{name}.{inner}", ndim)
        for name in attentions
        for inner, ndim in (("in_proj_weight", 2), ("in_proj_bias", 1), ("out_proj.weight", 2), ("out_proj.bias", 1))
    ]
    found += [Slot(f"linear{n}.{inner}", ndim) for n in (1, 2) for inner, ndim in (("weight", 2), ("bias", 1))]
    found += [Slot(f"norm{n}.{inner}", 1) for n in range(1, norms + 1) for inner in ("weight", "bias")]
    return found if bias else [slot for slot in found if not slot.name.endswith("bias")]
