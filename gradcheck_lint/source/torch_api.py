"""What the names of torch and of the frameworks around it mean to the gradient cycle.

Names outside the project are known by what they are called; torch's aliases are folded into one name first
(`torch.optim.adam.Adam` and `torch.optim.Adam` are one).
"""

from __future__ import annotations

import re
from functools import cache

from gradcheck_lint.source.natures import Module, Optimizer, Scaler, Scheduler

OPTIMIZERS = frozenset(
    "SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam ASGD Rprop LBFGS SparseAdam Adafactor Muon".split()
)
"""The optimizers of torch.optim."""

WITH_MODES = frozenset(
    "AdamWScheduleFree SGDScheduleFree RAdamScheduleFree ScheduleFreeWrapper ScheduleFreeAdamW ScheduleFreeSGD"
    " ScheduleFreeRAdam".split()
)
"""Optimizers that have a training mode and an evaluation mode, which exchange the weights of the model."""

FOREIGN_OPTIMIZERS = (
    OPTIMIZERS
    | WITH_MODES
    | frozenset(
        "FusedAdam FusedSGD FusedLAMB DeepSpeedCPUAdam Lion Lamb LARS Ranger AdaBelief AdaBound AdamP SGDP Yogi Adan"
        " AdamW8bit Adam8bit PagedAdamW8bit PagedAdamW Prodigy DAdaptAdam Sophia BertAdam OpenAIAdam HybridAdam CPUAdam"
        " ClippedAdam RMSpropTFLike DecayedAdam MADGRAD QHAdam Shampoo StableAdamW ScheduleFree".split()
    )
)

STATELESS_DEFAULT = frozenset({"SGD"})  # keeps no state unless momentum is given

SCHEDULERS = re.compile(r"(LR|Scheduler|Restarts|Plateau)$|^get_\w*schedul\w*$")

FACTORIES = frozenset(
    "zeros ones randn rand empty full tensor as_tensor arange linspace eye zeros_like ones_like randn_like rand_like"
    " empty_like full_like normal randint from_numpy logspace Tensor FloatTensor DoubleTensor".split()
)
"""Functions of torch that make a new tensor; with `requires_grad=True`, a leaf to be trained."""

NORMED = ("torch.nn.utils.parametrizations.weight_norm", "torch.nn.utils.parametrizations.spectral_norm")
"""Functions that give back the module that they are given, with its weights computed in another way."""

NORMED_BY_HOOK = ("torch.nn.utils.weight_norm", "torch.nn.utils.spectral_norm")
"""The older ones, which compute the weight in a hook, whenever the module is called."""

COPYING = frozenset("to cuda cpu float half double bfloat16 type xpu".split())
"""Methods that convert a tensor (giving another one if anything changes) or move a module in place."""

ALIASES = (
    (re.compile(r"^torch\.optim\.(?!lr_scheduler)[a-z_0-9]+\.([A-Z]\w*)$"), r"torch.optim.\1"),
    (re.compile(r"^torch\.nn\.modules(\.\w+)*\.([A-Z]\w*)$"), r"torch.nn.\2"),
    (re.compile(r"^torch\.nn\.parameter\.(\w+)$"), r"torch.nn.\1"),
    (re.compile(r"^torch\.nn\.utils\.clip_grad\.(\w+)$"), r"torch.nn.utils.\1"),
    (re.compile(r"^torch\.(cuda\.|cpu\.|xpu\.)?amp\.(grad_scaler\.)?GradScaler$"), "torch.amp.GradScaler"),
    (re.compile(r"^torch\.autograd\.grad_mode\.(\w+)$"), r"torch.\1"),
    (re.compile(r"^torch\.distributed\.optim\.(\w+)$"), r"torch.distributed.optim.\1"),
    (re.compile(r"^torch\.nn\.parallel\.distributed\.(\w+)$"), r"torch.nn.parallel.\1"),
    (re.compile(r"^accelerate\.accelerator\.Accelerator$"), "accelerate.Accelerator"),
    (re.compile(r"^pytorch_lightning\b"), "lightning.pytorch"),
    (re.compile(r"^lightning\.pytorch\.core(\.\w+)*\.LightningModule$"), "lightning.pytorch.LightningModule"),
    (re.compile(r"^lightning\.LightningModule$"), "lightning.pytorch.LightningModule"),
)


@cache
def canonical(name: str) -> str:
    """One name for all the names by which the same object of torch can be imported."""
    if name.startswith(("torch.", "pytorch_lightning", "lightning", "accelerate.")):
        for pattern, to in ALIASES:
            name, changed = pattern.subn(to, name)
            if changed:
                break
    return name


def nature_of_class(name: str) -> type[Optimizer | Scheduler | Scaler | Module] | None:
    """What calling the outside name gives, if it is one of these."""
    head, _, last = name.rpartition(".")
    if head == "torch.optim":
        return Optimizer if last in OPTIMIZERS else None
    if last == "GradScaler":
        return Scaler
    if head == "torch.optim.lr_scheduler" or (head and SCHEDULERS.search(last)):
        return Scheduler
    if last in FOREIGN_OPTIMIZERS:
        return Optimizer
    if head == "torch.nn" and last[:1].isupper() and last not in _NO_MODULES:
        return Module
    return None


_NO_MODULES = frozenset({"Parameter", "ParameterList", "ParameterDict", "DataParallel"})  # the last is a wrapper


WRAPPERS = re.compile(
    r"(^|\.)(DataParallel|DistributedDataParallel|DDP|FullyShardedDataParallel|FSDP|compile|fully_shard|prepare"
    r"|setup|initialize|auto_optim|auto_model|DistributedOptimizer|optimize|convert_sync_batchnorm|script|wrap\w*"
    r"|SyncBatchNorm|prepare_model|prepare_optimizer|setup_module|setup_optimizers|setup_model)$"
)
"""Calls that give back their model and optimizer arguments wrapped, holding the same parameters."""

OPTIMIZER_NAME = re.compile(
    r"(?i)(^|_|\d)opt(im)?(i[sz]ers?|s)?(_|\d|$)|optimi[sz]er|(^|_)optim(?!i[sz]ation)|(^|_)solver($|_)"
)
SCHEDULER_NAME = re.compile(r"(?i)sched|(^|_)lr($|_)|warm_?up")
SCALER_NAME = re.compile(r"(?i)scaler($|_)|^scaler|grad_?scaler")

CLEARS = re.compile(r"(?i)^_*(?:zero|clear|reset|empty|delete|del)\w*_?grad")
"""Names of functions that clear gradients, whoever has written them."""

SUSPICIOUS = re.compile(
    r"(?i)zero|grad|step|optim|updat|backw|backprop|train|fit|closure|learn|engine|epoch|iterat|accum|minimi[sz]e"
)
"""A call of unknown code with such a name may turn the gradient cycle."""

BENIGN = re.compile(
    r"(?i)^_*(save|load|log|print|adjust|set_|get_|is_|has_|warm|count|len|repr|str|id|type|isinstance|getattr|hasattr"
    r"|format|summary|resume|restore|checkpoint|state|create_lr|build_lr|make_lr|current|report|write|add_scalar"
    r"|watch|describe|check|update_lr|update_learning|lr_|poly_|cosine|step_decay|decay|soft_?update|hard_?update"
    r"|polyak|ema_|update_ema|update_target|dispatch_clip)"
    r"|(?i:lr|learning_?rate|sched\w*|scheduler|checkpoint|logger|writer|summary|meter|metrics?|ema|avg|loss|losses"
    r"|progress|bar|pbar|print|stats?|accuracy|score|augment\w*|transforms?|loader|data|dataset|batch|sampler|collate)$"
)
"""A call of unknown code with such a name only looks at an optimizer that it is handed (or sets its options)."""

READING = re.compile(r"(?i)^_*(add|log|print|append|save|write|plot|hist|check|assert|is|has|get|isnan|norm)")
"""A call of unknown code with such a name only looks at the gradients that it is handed."""

_TORCHVISION = re.compile(
    r"^torchvision\.models\.(?:[a-z]\w*\.)*(?:get_model|[A-Z]\w*(?<!Outputs)(?<!List)(?<!Generator)(?<!Coder)(?<!Matcher)"
    r"|(?:alexnet|convnext|densenet|efficientnet|googlenet|inception|mnasnet|mobilenet|regnet|res(?:net|next)|wide_res"
    r"|shufflenet|squeezenet|vgg|vit|swin|maxvit|deeplab|fcn|lraspp|(?:faster|mask|keypoint)_?rcnn|retinanet|ssd|fcos"
    r"|r3d|mc3|r2plus1d|s3d|mvit|raft)\w*)$"
)
"""The networks of torchvision by their families, and its classes: much else lies beside them in the same modules."""

_ZOO = re.compile(r"^(timm\.create_model$|timm\.models\.|torch\.hub\.load$|segmentation_models_pytorch\.)")
_BESIDE = re.compile(
    r"_Weights\b|Weights(?:Enum)?$|\.(?:_?utils|_api|feature_extraction|layers|losses|metrics|encoders|datasets)\."
    r"|\.(?:get_(?!model$)|list_|load_|is_|has_|register_|make_|create_feature_|build_|model_(?:parameters|entrypoint)"
    r"|adapt_|apply_|checkpoint_|clean_|convert_|filter_|freeze|group_|named_|parse_|remap_|resample_|resize_|safe_"
    r"|set_|split_|unfreeze)\w*$"
)


def makes_model(name: str) -> bool:
    """Whether an outside function or class of a collection of networks gives one when it is called.

    Beside the networks they have functions that give weights, names or settings:
    `ResNet18_Weights.DEFAULT.get_state_dict()`, `models.list_models()`.
    """
    found = _TORCHVISION.match(name) or _ZOO.match(name)
    return found is not None and _BESIDE.search(name) is None


SMOOTH = frozenset(
    "mean sum pow sqrt exp log abs neg add sub mul div clamp view reshape squeeze unsqueeze flatten permute transpose t"
    " contiguous matmul mm bmm norm std var cumsum sigmoid tanh relu softmax log_softmax square logsumexp gather"
    " index_select select narrow expand repeat to cuda cpu float half double bfloat16 type clone chunk split"
    " log_prob entropy rsample cpu permute mT".split()
)
"""Methods of tensors (and of distributions) through which backward goes."""

CONVERTS = frozenset("to cuda cpu xpu float half double bfloat16 type int long short bool char".split())
"""Methods of tensors that give one on another device or of another dtype; a module moves in place."""

IN_PLACE = frozenset(
    "clamp clamp_min clamp_max clip abs neg add sub mul div pow sqrt exp log round floor ceil sign tanh sigmoid lerp"
    " addcmul addcdiv nan_to_num masked_fill masked_scatter index_fill index_add index_copy scatter scatter_add renorm"
    " detach squeeze unsqueeze transpose".split()
)
"""Methods of tensors that give another one, and have a twin with `_` behind the name that changes the tensor itself."""

COPIES = IN_PLACE - {"detach", "squeeze", "unsqueeze", "transpose"}
"""Those of them whose result shares nothing with the tensor."""

WRITING = frozenset(f"{name}_" for name in COPIES) | frozenset(
    "copy_ zero_ fill_ normal_ uniform_ random_ bernoulli_ exponential_ geometric_ cauchy_ log_normal_ relu_".split()
)
"""Methods of tensors that write into the tensor."""

GIVES_ANOTHER = CONVERTS | IN_PLACE | frozenset("view reshape permute flatten type_as".split())
"""Methods of tensors that leave the tensor as it is and do nothing but give another one."""

NO_GRADIENT = frozenset(
    "argmax argmin argsort sign round floor ceil eq ne gt lt ge le equal allclose isnan isinf isfinite any all"
    " multinomial bernoulli zeros_like ones_like rand_like randn_like full_like empty_like is_tensor numel"
    " stop_gradient grad".split()
)
"""Functions of torch that cut their result off from the graph."""

CRITERION_NAME = re.compile(r"(?i)criter|loss")
"""What is called so computes a loss that backward goes through."""


_NEAR = re.compile(r"req\w*gr", re.IGNORECASE)


def misspelt(name: str) -> bool:
    """Whether a name is meant to be `requires_grad` (or `requires_grad_`), and is not."""
    if name in ("requires_grad", "requires_grad_") or name.startswith("_") or not _NEAR.match(name):
        return False
    plain = re.sub(r"(?:ients?|s)$", "", name.lower().replace("_", ""))
    return _distance(plain, "requiresgrad") <= 2


def _distance(one: str, other: str) -> int:
    """How many letters must be put in, left out or exchanged to make one word of the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
