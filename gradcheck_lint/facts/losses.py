"""What the losses of torch want to be fed with, and what operations give: any numbers, probabilities, logarithms.

Names and numbers only; `fed` walks over the values of a program with them.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import cache
from typing import NamedTuple


class Scale(Enum):
    """What the numbers of a tensor are."""

    FREE = "numbers of any size"
    UNIT = "probabilities"  # each by itself
    SHARES = "probabilities that sum to 1"
    LOG = "log-probabilities"


PROBABILITIES = frozenset({Scale.UNIT, Scale.SHARES})


class Loss(NamedTuple):
    """A loss that tells apart what it is fed with, or a distribution whose `log_prob` is one.

    `squashes`: it applies a softmax or a sigmoid of its own, so that it wants numbers of any size. Else it wants
    numbers on one of the scales in `wants`.
    """

    name: str
    squashes: str = ""
    wants: frozenset[Scale] = frozenset()
    twin: str = ""
    """The loss that takes numbers of any size in its place."""
    instead: str = ""
    """What has to be applied before it."""
    at: tuple[int, str] = (0, "input")
    """Which argument that is about."""

    @property
    def short(self) -> str:
        """Its name without the package."""
        return self.name.rpartition(".")[2]


_LOG = frozenset({Scale.LOG})
_CE = Loss("torch.nn.CrossEntropyLoss", squashes="softmax")
_BCE_LOGITS = Loss("torch.nn.BCEWithLogitsLoss", squashes="sigmoid")
_SOFT_MARGIN = Loss("torch.nn.MultiLabelSoftMarginLoss", squashes="sigmoid")
_NLL = Loss("torch.nn.NLLLoss", wants=_LOG, twin="CrossEntropyLoss", instead="log_softmax")
_BCE = Loss("torch.nn.BCELoss", wants=PROBABILITIES, twin="BCEWithLogitsLoss", instead="sigmoid")
_KL = Loss("torch.nn.KLDivLoss", wants=_LOG, instead="log_softmax")

_DRAWN = Loss("", squashes="softmax", at=(1, "logits"))

SOFTMAXES = frozenset({"softmax", "torch.softmax", "torch.nn.functional.softmax", "torch.nn.Softmax"})
"""A softmax itself, which wants no probabilities either."""

_LOSSES = {
    **{name: Loss(name, squashes="softmax") for name in sorted(SOFTMAXES)},
    **{
        f"torch.distributions.{name}": _DRAWN._replace(name=f"torch.distributions.{name}", squashes=squashes)
        for name, squashes in (("Categorical", "softmax"), ("OneHotCategorical", "softmax"), ("Bernoulli", "sigmoid"))
    },
    **{loss.name: loss for loss in (_CE, _BCE_LOGITS, _SOFT_MARGIN, _NLL, _BCE, _KL)},
    "torch.nn.NLLLoss2d": _NLL,
    **{
        name: loss._replace(name=name, twin=twin)
        for name, loss, twin in (
            ("torch.nn.functional.cross_entropy", _CE, ""),
            ("torch.nn.functional.binary_cross_entropy_with_logits", _BCE_LOGITS, ""),
            ("torch.binary_cross_entropy_with_logits", _BCE_LOGITS, ""),
            ("torch.nn.functional.multilabel_soft_margin_loss", _SOFT_MARGIN, ""),
            ("torch.nn.functional.nll_loss", _NLL, "cross_entropy"),
            ("torch.nn.functional.binary_cross_entropy", _BCE, "binary_cross_entropy_with_logits"),
            ("torch.nn.functional.kl_div", _KL, ""),
            ("torch.kl_div", _KL, ""),
        )
    },
}

ENTROPIES = frozenset({_CE.name, _BCE_LOGITS.name, _NLL.name, _BCE.name, "torch.nn.NLLLoss2d"}) | frozenset(
    f"torch.nn.functional.{name}"
    for name in ("cross_entropy", "binary_cross_entropy_with_logits", "nll_loss", "binary_cross_entropy")
)
"""Losses that are another thing if their two arguments are exchanged."""

SPREADING = frozenset(f"torch.nn.{name}" for name in ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")) | frozenset(
    f"torch.nn.functional.{name}" for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
)
"""Losses that spread two arguments of different shapes over one another."""


DIFFERENCE = "-"
"""What a loss that is written out begins with, in place of the name of one."""


def loss_of(name: str) -> Loss | None:
    """The loss that a class or a function of torch is, by its full name."""
    return _LOSSES.get(name)


def known(name: str) -> bool:
    """Whether something is said here of a class or a function of this name."""
    return name in _LOSSES or name in SPREADING or name == DIFFERENCE


class Step(Enum):
    """What an operation does to the scale of what it is given, where it does not give one of its own."""

    KEEPS = "keeps"
    LOG = "log"
    EXP = "exp"
    UNKNOWN = "unknown"


_GIVES = {
    "softmax": Scale.SHARES,
    "softmin": Scale.SHARES,
    "sigmoid": Scale.UNIT,
    "expit": Scale.UNIT,
    "hardsigmoid": Scale.UNIT,
    "log_softmax": Scale.LOG,
    "logsigmoid": Scale.LOG,
    "linear": Scale.FREE,
    "conv1d": Scale.FREE,
    "conv2d": Scale.FREE,
    "conv3d": Scale.FREE,
}

_KEEPING = frozenset(
    "view reshape view_as reshape_as squeeze unsqueeze flatten unflatten permute transpose t swapaxes swapdims moveaxis"
    " movedim float double half bfloat16 type type_as to cuda cpu contiguous clone detach requires_grad_ select"
    " index_select gather narrow chunk split unbind masked_select expand expand_as repeat tile cat concat stack flip"
    " take_along_dim as_strided ravel squeeze_ unsqueeze_ interpolate upsample nan_to_num".split()
)
"""Operations that give the same numbers, in another shape or fewer of them."""

_STAYING = frozenset("clamp clip clamp_min clamp_max mean amax amin max min".split())
"""Operations that give numbers within the range of those that they are given."""


@cache
def gives(name: str) -> Scale | None:
    """The scale of what a function of torch gives, by its full name, or a method of a tensor, by its own."""
    head, _, last = name.rpartition(".")
    return _GIVES.get(last) if head in _HEADS else None


@cache
def step(name: str) -> Step:
    """What a function or a method does to the scale of its operand."""
    head, _, last = name.rpartition(".")
    if head not in _HEADS:
        return Step.UNKNOWN
    if last == "log":
        return Step.LOG
    if last == "exp":
        return Step.EXP
    return Step.KEEPS if last in _KEEPING or last in _STAYING else Step.UNKNOWN


def stays(name: str) -> bool:
    """Whether an operation keeps to the range of its operand only, as a mean does: of FREE numbers it says nothing."""
    return name.rpartition(".")[2] in _STAYING


_HEADS = frozenset({"", "torch", "torch.nn.functional", "torch.special", "torch.Tensor"})

_LAYERS = {
    **dict.fromkeys(("Softmax", "Softmax2d", "Softmin"), Scale.SHARES),
    **dict.fromkeys(("Sigmoid", "Hardsigmoid"), Scale.UNIT),
    **dict.fromkeys(("LogSoftmax", "LogSigmoid"), Scale.LOG),
    **dict.fromkeys(
        "Linear LazyLinear Bilinear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d".split(),
        Scale.FREE,
    ),
}


def layer_gives(layer: str) -> Scale | None:
    """The scale of what a layer of torch.nn gives, by its name."""
    return _LAYERS.get(layer)


_ENDING_IN = {
    re.compile(r"torchvision\.models\.(?:resnet\.)?(?:resnet|resnext|wide_resnet|shufflenet|regnet)\w*"): "fc",
    re.compile(
        r"torchvision\.models\.(?:vgg|alexnet|densenet|mobilenet|efficientnet|mnasnet|convnext)\w*"
    ): "classifier",
}


@cache
def head_of(name: str) -> str:
    """What the last layer is called of a network of torchvision that gives logits, by the name of what makes it."""
    return next((head for pattern, head in _ENDING_IN.items() if pattern.fullmatch(name)), "")


def layer_keeps(layer: str) -> bool:
    """Whether a layer of torch.nn gives the numbers that it is given, in another shape or fewer of them."""
    return layer in ("Identity", "Flatten", "Unflatten", "PixelShuffle", "PixelUnshuffle") or layer.startswith(
        ("Upsampl", "MaxPool", "AdaptiveMaxPool")
    )
