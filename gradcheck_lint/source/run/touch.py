"""Who may turn the gradient cycle: a call whose code was not seen, if it is handed or holds what the cycle turns on.

Whoever is handed an optimizer, a model, their parameters or gradients, or holds one (as receiver, in a closure, in a
global name, in a container), may clear, run backward or step, unless its body was seen not to. Exempt is what stands
in the tables of this module, each entry with its reason, and the forward call of a module unless a hook or an override
was seen. docs/architecture.md has the law in words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source import torch_api, tree
from gradcheck_lint.source.natures import (
    Data,
    Grad,
    Instance,
    Module,
    Opaque,
    Optimizer,
    Scaler,
    Scheduler,
    Super,
    Tensor,
)
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import Holdings, callables, empty, held
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Constant, External, FunctionValue, Thing, Value, options, things

KNOWN = {
    "torch": "its functions neither clear nor step, but for those that this package knows by name",
    "torchvision torchaudio torchtext torchmetrics torcheval timm segmentation_models_pytorch": "layers, data, metrics",
    "transformers diffusers peft sentence_transformers open_clip clip": "models; their trainers are called by name",
    "lightning pytorch_lightning lightning_fabric accelerate ignite deepspeed": "known by their methods",
    "numpy scipy sklearn pandas skimage cv2 PIL imageio einops h5py": "know no optimizer",
    "matplotlib seaborn plotly": "draw",
    "wandb tensorboard tensorboardX mlflow neptune comet_ml clearml visdom aim": "note what they are shown",
    "logging loguru rich pprint tabulate tqdm prettytable termcolor": "print",
    "thop ptflops fvcore torchinfo torchsummary torchviz": "describe a model",
    "json yaml pickle safetensors joblib csv shutil pathlib glob io os sys platform": "read and write files",
    "time datetime math random statistics re string warnings argparse hashlib uuid gc": "know no optimizer",
    "gym gymnasium": "environments know no optimizer",
}
"""Packages whose functions leave optimizers and gradients alone, and why. What they are given to *call* is another
matter: a function that is handed to them is followed, and counts as called there."""


PYTHON = frozenset(
    "builtins collections dataclasses itertools functools operator heapq bisect abc contextlib copy types typing enum"
    " threading concurrent multiprocessing queue asyncio signal atexit weakref subprocess contextvars sched inspect"
    " unittest traceback importlib".split()
)
"""Packages of Python itself: their functions do nothing to an optimizer either, but may keep it, call what they are
given, and give back something that does so when it is called in its turn."""


EXECUTING = frozenset(
    "builtins.exec builtins.eval builtins.compile builtins.globals builtins.locals builtins.vars runpy.run_path"
    " runpy.run_module builtins.__import__".split()
)
"""Functions of Python that run text, or give all names there are: what comes of them may be anything."""


TELLS = re.compile(
    r"^_*(?i:print|log|logs|logging|info|debug|warn|warning|error|critical|exception|save|dump|write|report|plot|draw"
    r"|show|display|visuali[sz]e|summary|summari[sz]e|describe|watch|add_(?:scalar|scalars|image|images|histogram|graph"
    r"|text|figure|embedding|hparams|video))(_|$|\d|[A-Z])"
)
"""A call of unseen code with such a name prints, logs or saves: it reads what it is handed."""


TELLERS = re.compile(
    r"(?i)(^|_)(log|logger|loggers|logging|writer|summary|tb|tensorboard|wandb|board|pbar|bar|progress|console|plotter"
    r"|visuali[sz]er|vis|viz)(_|$|\d)"
)
"""What is called so is there for printing, logging and saving."""


TRAINER = re.compile(
    r"(?i)train|agent|policy|algo|learn|engine|self|super|solver|optim|ppo|actor|critic|runner|model|net"
)


_PACKAGES = frozenset(name for names in KNOWN for name in names.split())


@cache
def known(name: str) -> bool:
    """Whether a name outside the project belongs to a package of `KNOWN`."""
    head = name.partition(".")[0]
    return head in _PACKAGES or head in PYTHON


@cache
def python(name: str) -> bool:
    """Whether a name belongs to Python's own library of functions and containers."""
    return name.partition(".")[0] in PYTHON


@cache
def _tells(name: str) -> bool:
    return TELLS.search(name) is not None


@cache
def _teller(name: str) -> bool:
    return TELLERS.search(name) is not None


def told(name: str, receiver: Thing | None) -> bool:
    """Whether a call only prints, logs or saves, by its name or by that of what it is a method of."""
    if _tells(name):
        return True
    while receiver is not None:
        if _teller(receiver.label):
            return True
        receiver = receiver.parent[0] if receiver.parent is not None else None
    return False


def touch(
    machine: Machine,
    name: str,
    receiver: Thing | None,
    args: Arguments,
    node: tree.Call,
    outside: str = "",
) -> None:
    """Tell that a call of unseen code may turn the gradient cycle, and of whom.

    `receiver` is the object of the method that is called, or what is called; `outside` is the full name of a function
    outside the project.
    """
    if not machine.trains or name == "__get__":  # which binds a function to what it is given, and calls nothing
        return
    if outside in EXECUTING:
        unknown(machine, node, None, name)
        return
    origin = receiver.origin if receiver is not None else ""
    if known(outside) or (known(origin) and not python(origin)):
        calls = turning(machine, args.all(), args, node)
        if calls is not None:
            unknown(machine, node, calls.subject, name)
        if known(outside) or not _suspicious(name):
            return
    elif python(origin) and receiver is not None:
        calls = turning(machine, [*receiver.values, *args.all()], args, node)
        if calls is not None:
            unknown(machine, node, calls.subject, name)
            return
    if told(name, receiver) or (receiver is not None and _of_base(receiver, name)):
        return
    found = held(machine, *args.all(), *_from(receiver, name))
    if found and _computes(machine, node, found):
        return
    if found:
        unknown(machine, node, found.subject, name)
        return
    if receiver is not None and receiver.anything:
        unknown(machine, node, None, name)
        return
    if not _suspicious(name):
        return
    if machine.trying and name == "step" and args.all():
        return  # `env.step(action)`
    if receiver is not None and not machine.trying:
        if not isinstance(receiver.what, (Instance, Super, Module)) and not TRAINER.search(receiver.label):
            return
        if isinstance(receiver.what, (Optimizer, Scheduler, Tensor, Grad, Scaler)):
            return
    unknown(machine, node, None, name)


def _computes(machine: Machine, node: tree.Call, found: Holdings) -> bool:
    """Whether a call is handed trained tensors alone, and gives something: it computes with them, as a layer does."""
    return (
        not found.anything
        and all(isinstance(t.what, Tensor) for t in found.things.values())
        and not tree.alone(machine.frame.statement, node)
    )


def _of_base(receiver: Thing, name: str) -> bool:
    """Whether `super().method()` leads to a base outside the project that is known, or only makes the object."""
    if not isinstance(receiver.what, Super):
        return False
    outside = [base.name for base in receiver.what.owner.lineage() if isinstance(base, External)]
    return name == "__init__" or (all(map(known, outside)) and not _suspicious(name))


@cache
def _suspicious(name: str) -> bool:
    return torch_api.SUSPICIOUS.search(name) is not None and not torch_api.BENIGN.search(name)


def _from(receiver: Thing | None, name: str) -> Sequence[Value]:
    """The receiver of a call, where its method may do something to what it holds."""
    if receiver is None or isinstance(receiver.what, (Grad, Tensor, Data)):
        return ()
    if name in _HARMLESS:
        return ()
    if isinstance(receiver.what, Module) or (
        isinstance(receiver.what, Opaque) and isinstance(receiver.root.what, Module)
    ):
        # a method of a model whose code is not seen runs its forward pass, unless it is named like training
        return (receiver,) if _suspicious(name) else ()
    return (receiver,)


_HARMLESS = frozenset(
    "state_dict load_state_dict named_modules modules children named_children buffers named_buffers get_parameter"
    " get_submodule size dim item numel tolist numpy cpu add_param_group extra_repr type float half double bfloat16"
    " share_memory register_forward_hook".split()
)
"""Methods of torch's own modules, optimizers and tensors that neither clear nor step."""


def unknown(machine: Machine, node: tree.Node, subject: Value | None, name: str) -> ev.Unknown:
    """Tell that unseen code may turn the cycle of `subject`; None stands for all there is."""
    return machine.emit(node, ev.Unknown(subject, name=name))


def turning(machine: Machine, values: Sequence[Value], args: Arguments, node: tree.Node) -> Holdings | None:
    """What the functions among some values may turn when they are called; None if they were seen to turn nothing."""
    found: list[Value] = []
    for value in values:
        if isinstance(value, (Constant, External)):
            continue
        found += [f for f in callables(value) if turns(machine, f, node)]
        found += [t for t in things(value) if bound(t)]
    return held(machine, *found, *args.all()) if found else None


def bound(thing: Thing) -> bool:
    """Whether it is a method of an optimizer or module that turns the cycle, not called yet: `optimizer.zero_grad`."""
    return (
        isinstance(thing.what, Opaque)
        and thing.parent is not None
        and isinstance(thing.parent[0].what, (Optimizer, Module, Tensor, Grad))
        and thing.parent[1] in ("zero_grad", "step", "backward", "zero_", "requires_grad_")
    )


def turns(machine: Machine, function: Value, node: tree.Node, args: Arguments | None = None) -> bool:
    """Whether a function turns the gradient cycle when it is called, with arguments that are not known if none are."""
    sight = (
        (id(function.function), held(machine, function).key)
        if args is None and isinstance(function, FunctionValue)
        else None
    )
    if sight is not None and sight in machine.tried:
        return machine.tried[sight]
    saved = (machine.sequence, machine.followed, machine.reached, machine.spotted, machine.idle, machine.trying)
    made = machine.sequence = tl.Sequence()
    machine.followed, machine.reached, machine.spotted, machine.idle = (
        {},
        set(machine.reached),
        type(machine.spotted)(),
        set(machine.idle),
    )
    machine.undo.append({})
    machine.trying = True
    arguments = Arguments([], {}, True) if args is None else args
    try:
        if isinstance(function, FunctionValue):  # also one that yields: what it does when it is run
            machine.follow(function, arguments, node)
        else:
            machine.call(function, arguments, _call_of(node))
    finally:
        machine.sequence, machine.followed, machine.reached, machine.spotted, machine.idle, machine.trying = saved
        machine.reached |= machine.reached_by_modules
        machine.rollback(machine.undo.pop())
    turned = any(isinstance(event, (ev.Turning, ev.Hook)) for event, _ in tl.located(made))
    if sight is not None:
        machine.tried[sight] = turned
    return turned


def _call_of(node: tree.Node) -> tree.Call:
    """A call to stand for one that other code makes."""
    return node if isinstance(node, tree.Call) else tree.Call(node.at, tree.Name(node.at, ""), [])


def absorb(receiver: Thing | None, name: str, args: Arguments) -> None:
    """An object that cannot be seen was handed something: it may hold it from now on."""
    if receiver is None or told(name, receiver):
        return
    root = receiver.root
    if isinstance(root.what, (Opaque, Instance)):
        given = made_of([*root.values, *args.all()])
        if given:
            root.values = given


def made_of(values: Sequence[Value]) -> tuple[Value, ...]:
    """What a thing may hold that unseen code made of some values: those through which something may be reached.

    Of things that unseen code made, it is what these were made of.
    """
    found: dict[int, Value] = {}
    for option in (option for value in values for option in options(value)):
        inner: tuple[Value, ...] = (option,)
        if isinstance(option, Thing) and isinstance(option.what, Opaque) and option.parent is None:
            inner = option.values
        for one in inner:
            if len(found) < MOST_KEPT and not empty(one):
                found[id(one)] = one
    return tuple(found.values())


MOST_KEPT = 32  # values that a thing made by unseen code is remembered to hold
