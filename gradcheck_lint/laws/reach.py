"""The law of reach: a step moves what a backward has reached, and a backward reaches what its loss was computed from.

A loss trains an optimizer only if it leads to a tensor that the optimizer holds (`trains`). A tensor that is held and
wanted gets a gradient, and one that is not all zeros for want of a derivative (`reached`). Where a loss has no graph at
all, something has cut it off (`cut_by`).

What an operation does to a gradient on its way back is an `Effect`: `of_method`, `of_function`, `of_attribute` and
`of_operator` know it of what torch, Python and their neighbours have. The
linter walks back over the operations that the code shows, a run over the graph of autograd.
"""

from __future__ import annotations

from enum import Enum
from functools import cache

from gradcheck_lint.laws.answer import MAYBE, NO, YES, Answer


def trains(*, met: bool, whole: bool, known: bool, strange: bool) -> Answer:
    """Whether a backward makes gradients for an optimizer.

    `met`: the loss leads to a tensor that the optimizer has, for all that is known. `whole`: all tensors that it leads
    to are known, and `known`: so are all that the optimizer has. `strange`: what is known of the way leads to what has
    nothing to do with the optimizer. What a loss was computed with is hardly ever known in full, so this is NO only
    where all is.
    """
    if met:
        return YES
    if whole:
        return NO if known else MAYBE
    return MAYBE if strange else YES


class Reached(Enum):
    """What the backwards so far have done for a tensor that an optimizer holds."""

    UNWANTED = "unwanted"  # it is not to be trained, or no part of the model
    NEVER = "never"  # none has made it a gradient
    FLAT = "flat"  # its gradient is nothing but zeros, because no way to it has a derivative
    FED = "fed"


def reached(*, wanted: bool, fed: bool, flat: bool = False, zero: bool = False) -> Reached:
    """`fed`: it has a gradient, or had one. `flat`: each way from a loss to it leads through what has no derivative.

    `zero`: there is nothing but zeros in its gradient.
    """
    if not wanted:
        return Reached.UNWANTED
    if not fed:
        return Reached.NEVER
    return Reached.FLAT if flat and zero else Reached.FED


class Effect(Enum):
    """What becomes of the gradient that comes back to the result of an operation."""

    THROUGH = "through"  # it goes on to what the operation was given
    FLAT = "flat"  # it goes on, and is nothing but zeros from here on
    CUT = "cut"  # the result has the values, and none of the graph
    DISCRETE = "discrete"  # the result is made of numbers that change in steps: no gradient can come to it
    NEW = "new"  # the result has nothing of what the operation was given but its shape
    UNKNOWN = "unknown"


ENDS = frozenset({Effect.CUT, Effect.DISCRETE})
"""The effects that cut off what has a graph."""


def of_method(name: str) -> Effect:
    """What a method of a tensor does, by its name."""
    plain = name.removesuffix("_") if name[:1] != "_" else name
    return _METHODS.get(name) or _METHODS.get(plain, Effect.UNKNOWN)


def of_attribute(name: str) -> Effect:
    """What an attribute of a tensor has of its graph."""
    return Effect.CUT if name in ("data", "grad") else _ATTRIBUTES.get(name, Effect.UNKNOWN)


def of_operator(op: str) -> Effect:
    return Effect.DISCRETE if op in _STEPS else Effect.THROUGH


@cache
def of_function(name: str) -> Effect:
    """What a function of a package does, by its full name."""
    known = _FUNCTIONS.get(name)
    if known is not None:
        return known
    head, _, last = name.rpartition(".")
    if last == "*":
        return Effect.UNKNOWN  # `getattr(torch, name)`: any of them
    package = name.partition(".")[0]
    if head in ("torch", "torch.special", "torch.linalg", "torch.fft", "torch.Tensor"):
        return _METHODS.get(last, Effect.THROUGH) if last[:1].islower() else Effect.CUT
    if head == "torch.nn.functional":
        return Effect.NEW if last == "one_hot" else Effect.THROUGH
    if head == "torch.nn.init":
        return Effect.THROUGH
    if package in _NO_TENSORS:
        return Effect.NEW
    if package in _VALUES:
        return Effect.CUT
    if package == "builtins":
        return _BUILTINS.get(last, Effect.UNKNOWN)
    return Effect.THROUGH if package == "einops" or head.startswith("torch.distributions") else Effect.UNKNOWN


def of_item(name: str, index: str) -> Effect:
    """What an item has of the graph of the tuple that an operation of this name has given."""
    second = index in ("1", "-1", "indices")
    return Effect.DISCRETE if second and name.rpartition(".")[2] in _WITH_INDICES else Effect.THROUGH


def bare_layer(name: str) -> bool:
    """Whether a layer of torch.nn of this name surely has no parameters: it only computes."""
    if name in _BARE or name.endswith(("Loss", "Pool1d", "Pool2d", "Pool3d", "Pad1d", "Pad2d", "Pad3d")):
        return name != "AdaptiveLogSoftmaxWithLoss"
    return name.startswith(("Dropout", "AlphaDropout", "FeatureAlphaDropout", "Upsampl"))


def _effects(effect: Effect, names: str) -> dict[str, Effect]:
    return dict.fromkeys(names.split(), effect)


_METHODS = {
    **_effects(
        Effect.THROUGH,
        "abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr adjoint amax amin aminmax angle arccos"
        " arccosh arcsin arcsinh arctan arctan2 arctanh as_strided asin asinh atan atan2 atanh baddbmm bfloat16 bmm"
        " broadcast_to cat cdouble cfloat cholesky chunk clamp clamp_max clamp_min clip clone coalesce concat conj"
        " contiguous copysign cos cosh cpu cross cuda cummax cummin cumprod cumsum det diag diag_embed diagonal diff"
        " digamma dist div divide dot double einsum erf erfc erfinv exp exp2 expand expand_as expm1 flatten flip fliplr"
        " flipud float float_power fmax fmin fmod frac gather ger half hardshrink hypot imag index_add index_copy"
        " index_fill index_put index_select inner inverse kron kthvalue lerp lgamma log log10 log1p log2 log_softmax"
        " logaddexp logaddexp2 logcumsumexp logdet logit logsumexp lu_solve masked_fill masked_scatter masked_select"
        " matmul matrix_exp matrix_power max maximum mean median min minimum mm mode moveaxis movedim msort mul"
        " multiply mv nan_to_num nanmean nanmedian nansum narrow neg negative norm outer permute pin_memory pinverse"
        " positive pow prelu prod put qr quantile ravel real reciprocal relu remainder renorm repeat repeat_interleave"
        " requires_grad_ reshape reshape_as resolve_conj roll rot90 rsqrt scatter scatter_add scatter_reduce select"
        " sigmoid sin sinc sinh slogdet softmax sort split sqrt square squeeze stack std sub subtract sum svd swapaxes"
        " swapdims t take take_along_dim tan tanh tensor_split tile to to_dense to_sparse topk trace transpose tril"
        " triu true_divide type type_as unbind unflatten unfold unsqueeze values var vdot view view_as where xlogy"
        " log_prob rsample entropy kl_divergence stack hstack vstack dstack meshgrid cdist"
        " std_mean var_mean softplus gelu silu atleast_1d",
    ),
    **_effects(Effect.FLAT, "round floor ceil trunc fix sign sgn bernoulli poisson normal"),
    **_effects(Effect.CUT, "detach item tolist numpy __float__ __int__ data_ptr"),
    **_effects(
        Effect.DISCRETE,
        "argmax argmin argsort argwhere long int short byte char bool eq ne gt lt ge le greater greater_equal less"
        " less_equal not_equal equal allclose isclose isnan isinf isfinite any all multinomial nonzero count_nonzero"
        " logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor searchsorted"
        " bucketize histc bincount signbit is_nonzero",
    ),
    **_effects(
        Effect.NEW,
        "size dim numel nelement ndimension element_size get_device is_floating_point stride zeros_like ones_like"
        " rand_like randn_like randint_like full_like empty_like new_zeros new_ones new_full new_empty new zeros ones"
        " rand randn randint randperm empty full arange linspace logspace eye manual_seed device is_tensor"
        " is_grad_enabled tril_indices triu_indices hann_window load",
    ),
    **_effects(Effect.CUT, "tensor from_numpy new_tensor scalar_tensor"),
    **_effects(Effect.THROUGH, "as_tensor asarray"),
}

_ATTRIBUTES = {
    **_effects(Effect.THROUGH, "T mT H mH real imag"),
    **_effects(
        Effect.NEW, "shape dtype device ndim is_leaf requires_grad grad_fn is_cuda layout names itemsize nbytes"
    ),
}

PLAIN = frozenset({"is", "is not", "in", "not in", "not"})
"""Operators that give True or False, whatever they are given."""

_STEPS = PLAIN | {"==", "!=", "<", "<=", ">", ">=", "&", "|", "^", "~"}

_VALUES = frozenset("numpy scipy math sklearn cv2 skimage statistics cmath".split())
"""Packages whose functions take the values of a tensor, and know no graph."""

_NO_TENSORS = frozenset(
    "os sys time datetime random pathlib argparse json glob re logging string warnings platform shutil tempfile uuid"
    " yaml wandb matplotlib".split()
)
"""Packages whose functions give nothing that a tensor is in."""

_BUILTINS = {
    **_effects(Effect.THROUGH, "sum max min abs pow list tuple zip enumerate reversed sorted dict next iter set"),
    **_effects(Effect.CUT, "float int complex str repr format"),
    **_effects(Effect.DISCRETE, "bool any all"),
    **_effects(Effect.FLAT, "round"),
    **_effects(Effect.NEW, "len range type id hash isinstance hasattr issubclass print open input vars dir callable"),
}

_FUNCTIONS = {
    "torch.autograd.Variable": Effect.THROUGH,
    "torch.nn.utils.rnn.pad_sequence": Effect.THROUGH,
    "torch.nn.utils.rnn.pack_padded_sequence": Effect.THROUGH,
    "torch.nn.utils.rnn.pad_packed_sequence": Effect.THROUGH,
    "torch.nn.utils.parameters_to_vector": Effect.THROUGH,
    "torch.distributions.kl_divergence": Effect.THROUGH,
    "torch.distributions.kl.kl_divergence": Effect.THROUGH,
    "torch.utils.data.DataLoader": Effect.NEW,
    "torch.compile": Effect.UNKNOWN,
    "torch.no_grad": Effect.NEW,
    "torch.enable_grad": Effect.NEW,
    "torch.set_grad_enabled": Effect.NEW,
    "torch.inference_mode": Effect.NEW,
    "copy.deepcopy": Effect.UNKNOWN,
}

_WITH_INDICES = frozenset("max min sort topk median mode kthvalue cummax cummin nanmedian".split())
"""Functions that give values together with where they stand."""

_BARE = frozenset(
    "ReLU ReLU6 LeakyReLU ELU CELU SELU GELU SiLU Mish Tanh Sigmoid Softmax Softmax2d LogSoftmax Softmin Softplus"
    " Softsign Hardtanh Hardswish Hardsigmoid Threshold GLU RReLU Tanhshrink Flatten Unflatten Identity"
    " CosineSimilarity PairwiseDistance PixelShuffle PixelUnshuffle Fold Unfold ChannelShuffle LogSigmoid".split()
)


class Cut(Enum):
    """Why a loss has no graph."""

    OFF = "off"  # gradients are switched off where backward is called
    INFERENCE = "inference"  # the loss was made in inference mode
    DECORATED = "decorated"  # gradients are switched off around the `forward` of a module
    DETACHED = "detached"  # it was cut off from something that still has a graph
    NOTHING = "nothing"  # nothing at hand has a graph


def cut_by(*, off: bool, inference: bool, decorated: bool, nearby: bool) -> Cut:
    """What has cut a loss off, the nearest cause first; `nearby`: there is something with a graph beside it."""
    if off:
        return Cut.OFF
    if inference:
        return Cut.INFERENCE
    if decorated:
        return Cut.DECORATED
    return Cut.DETACHED if nearby else Cut.NOTHING
