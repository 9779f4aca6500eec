"""The user's own autograd Functions: what torch refuses in them, what they keep, and whether their gradients are right.

Sightings: FunctionMisfit (what backward returned does not fit), KeptOnContext (inputs or outputs that are
attributes of ctx), and on the level "deep" NotTheDerivative: `torch.autograd.gradcheck` on double copies of the inputs
really seen, once for each class. Estimators that are wrong on purpose are left in peace: those of a function that is
flat (straight-through) and those of one that hands its input on (gradient reversal, scaling, clipping).
"""

from __future__ import annotations

import inspect
import random
import re
import sys
import threading
import weakref
from contextlib import ExitStack, contextmanager
from types import ClassMethodDescriptorType
from typing import TYPE_CHECKING, Any, NamedTuple

from gradcheck_lint.runtime import dynamo, sites, stores
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.reach.losses import roots_of
from gradcheck_lint.runtime.graph import reach
from gradcheck_lint.runtime.reading import has_memory
from gradcheck_lint.runtime.sightings.reach import KeptOnContext, NotTheDerivative, WrongNumber, WrongShape, WrongType
from gradcheck_lint.runtime.sites import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from gradcheck_lint.runtime.observer import Observer
    from gradcheck_lint.runtime.record import Event
    from gradcheck_lint.runtime.session import Session
    from gradcheck_lint.runtime.sighting import Scene
    from gradcheck_lint.runtime.sites import Mark

WALKS = 3  # backwards whose graph is looked at
SMALL = 100  # elements up to which each of them is moved by gradcheck
LARGE = 1_000_000  # elements above which a function is not checked
SAMPLES = 12  # elements of each input that are moved to tell what is wrong
_EPS = 1e-6

_NUMBER = re.compile(r"function (\w+)Backward returned an incorrect number of gradients \(expected (\d+), got (\d+)\)")
_SHAPE = re.compile(r"Function (\w+)Backward returned an invalid gradient at index (\d+) - got (.+?) but expected (.+)")
_TYPE = re.compile(r"expected Variable or None \(got (.+?)\)")


_lock = threading.RLock()
_examining: list[Functions] = []
_applied: list[tuple[Any, Any]] = []  # what `Function.apply` was, and what we have put in its place


def _examine_with(check: Functions) -> None:
    """Wrap `Function.apply` with the first that wants to look at calls."""
    import torch

    with _lock:
        original = vars(torch.autograd.Function).get("apply")
        # torch 2.15 has it from C
        if not _applied and isinstance(original, (classmethod, ClassMethodDescriptorType)):
            wrapper = classmethod(_apply(original))
            _applied.append((original, wrapper))
            torch.autograd.Function.apply = wrapper  # type: ignore[method-assign, assignment]
        _examining.append(check)


def _examine_no_more(check: Functions) -> None:
    """Unwrap it with the last; what somebody else has put in its place meanwhile is left alone."""
    import torch

    with _lock:
        if check in _examining:
            _examining.remove(check)
        if _examining or not _applied:
            return
        original, wrapper = _applied.pop()
        if vars(torch.autograd.Function).get("apply") is wrapper:
            torch.autograd.Function.apply = original  # type: ignore[method-assign]


def _apply(original: Any) -> Callable[..., Any]:
    import torch

    is_compiling = dynamo.tracing()

    def apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
        call = original.__get__(None, cls)
        if is_compiling() or kwargs or not torch.is_grad_enabled():
            return call(*args, **kwargs)
        wanting = [check for check in list(_examining) if check.wants(cls)]
        pairs = [(check, inputs) for check in wanting if (inputs := check.given(cls, args)) is not None]
        if not pairs:
            return call(*args, **kwargs)
        versions = [arg._version for arg in args if isinstance(arg, torch.Tensor)]
        result = call(*args, **kwargs)
        if versions == [arg._version for arg in args if isinstance(arg, torch.Tensor)]:
            for check, inputs in pairs:
                check.called(cls, inputs)
        return result

    apply.__doc__ = original.__doc__
    return apply


class Wrong(NamedTuple):
    """One element at which what backward says is not what the function does."""

    argument: int
    told: float
    true: float
    given: bool  # whether backward returned a gradient for this input at all


class Functions(Check):
    """Looks at classes of the user's own files only."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._seen: weakref.WeakSet[type] = weakref.WeakSet()
        self._told: set[tuple[str, str]] = set()
        self._examines = False

    def _scene(self, method: Any, mark: Mark | None = None) -> Scene:
        """At this line, or else at what a method of a Function returns."""
        code = sites.code_of(method)
        if mark is None and code is not None:
            mark = stores.returned(code) or sites.Mark(code, -1, code.co_firstlineno)
        return self.session.scene_of_next(mark)

    # What is kept

    def backward_begins(self, roots: Sequence[Tensor], event: Event, options: dict[str, Any]) -> None:
        if self.session.backwards >= WALKS:
            self.session.guard.dismiss("backward_begins", self.backward_begins)
        for node in self.session.backward.walk(roots).functions:
            owner = type(node)._forward_cls
            if _own(owner):
                self._look_for_kept(node, owner)

    def _look_for_kept(self, node: Any, owner: type) -> None:
        import torch

        attributes = {name: value for name, value in vars(node).items() if isinstance(value, torch.Tensor)}
        outputs = tuple(name for name, value in attributes.items() if value.grad_fn is node)
        before = [following for following, _ in node.next_functions if following is not None]
        inputs = tuple(
            name
            for name, value in attributes.items()
            if any(value.grad_fn is following or getattr(following, "variable", None) is value for following in before)
        )
        for what, names in (("output", outputs), ("input", inputs)):
            if names and (owner.__qualname__, what) not in self._told:
                self._told.add((owner.__qualname__, what))
                forward = getattr(owner, "setup_context", None)
                code = sites.code_of(forward) if forward is not None else None
                marks = [stores.set_on(code, names[0])] if code is not None else []
                code = sites.code_of(owner.forward)  # type: ignore[attr-defined]
                marks += [stores.set_on(code, names[0])] if code is not None else []
                mark = next((mark for mark in marks if mark is not None), None)
                scene = self._scene(owner.forward, mark)  # type: ignore[attr-defined]
                self.session.take(KeptOnContext(scene, names=names, owner=owner.__name__, output=what == "output"))

    # What is refused

    def backward_failed(self, event: Event, error: BaseException) -> None:
        if not isinstance(error, RuntimeError):
            return
        text = str(error)
        number, shape, other = _NUMBER.search(text), _SHAPE.search(text), _TYPE.search(text)
        found = number or shape or other
        if found is None:
            return
        classes = {type(node)._forward_cls for node in self._nodes(error)}
        if other is None:
            classes = {owner for owner in classes if owner.__name__ == found[1]}
        owners = [owner for owner in classes if _own(owner)]
        if len(owners) != 1:
            return
        scene, owner, called = self._scene(owners[0].backward), owners[0].__name__, resolve(sites.here(2))
        take = self.session.take
        if number is not None:
            take(WrongNumber(scene, owner=owner, called=called, expected=int(number[2]), got=int(number[3])))
        elif shape is not None:
            index = int(shape[2])
            take(WrongShape(scene, owner=owner, called=called, index=index, expected=shape[4], got=shape[3]))
        else:
            take(WrongType(scene, owner=owner, called=called, got=found[1]))

    @staticmethod
    def _nodes(error: BaseException) -> Sequence[Any]:
        return reach(roots_of(error)).functions

    # Whether the gradients are right

    def attached(self, observer: Observer) -> None:
        if self.session.options.level == "deep" and not self._examines:
            self._examines = True
            _examine_with(self)

    def leave(self) -> None:
        _examine_no_more(self)

    def wants(self, owner: type) -> bool:
        """Whether a call of this Function may be examined."""
        return owner not in self._seen

    def given(self, owner: type, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Copies of what a Function is given, if it is to be examined."""
        found: tuple[Any, ...] | None = self.session.guard.run(self._inputs, owner, args)
        return found

    def called(self, owner: type, inputs: tuple[Any, ...]) -> None:
        """The Function was called, and has changed nothing that it was given."""
        self.session.guard.run(self._examine, owner, inputs)

    def _inputs(self, owner: type, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Double copies of what a Function is given; None if it cannot or need not be checked now."""
        import torch

        if not any(isinstance(arg, torch.Tensor) and arg.requires_grad for arg in args):
            return None  # perhaps the next time
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not _own(owner) or distributed:  # one rank alone must not call what the others wait for
            self._seen.add(owner)
            return None
        self._seen.add(owner)
        copies = [_copy(arg) for arg in args]
        return None if any(copy is _Unfit for copy in copies) else tuple(copies)

    def _examine(self, owner: Any, inputs: tuple[Any, ...]) -> None:
        with _aside():
            try:
                wrong = examine(owner.apply, inputs)
            except Exception:  # it does not work in double precision, or not twice
                return
        if wrong:
            worst = max(wrong, key=lambda one: abs(one.told - one.true))
            self.session.take(
                NotTheDerivative(
                    self._scene(owner.backward),
                    names=(_argument(owner, worst.argument),),
                    owner=owner.__name__,
                    said=worst.told,
                    true=worst.true,
                    given=worst.given,
                    called=resolve(sites.here(2)),
                )
            )


class _Unfit:
    """Stands for an argument that cannot be copied."""


def _copy(arg: Any) -> Any:
    import torch

    if isinstance(arg, torch.Tensor):
        plain = type(arg) in (torch.Tensor, torch.nn.Parameter) and arg.layout == torch.strided
        if not plain or arg.is_complex() or arg.is_meta or arg.numel() > LARGE or not has_memory(arg):
            return _Unfit
        copy = arg.detach().clone(memory_format=torch.contiguous_format)
        return copy.double().requires_grad_(arg.requires_grad) if arg.is_floating_point() else copy
    if arg is None or isinstance(arg, (bool, int, float, str, torch.dtype, torch.device, torch.Size)):
        return arg
    if type(arg) in (tuple, list) and all(isinstance(item, (bool, int, float, str)) for item in arg):
        return arg
    return _Unfit


def examine(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Wrong]:
    """Where the gradient of `function` at double `inputs` is wrong, and not on purpose; [] if it is right.

    Uses random numbers; `_aside` puts the state back.
    """
    import torch

    first, second = _outputs(function, inputs), _outputs(function, inputs)
    if not first or not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        return []  # nothing to differentiate, or another result each time
    if any(_hands_on(inputs, output) for output in first):
        return []
    size = sum(arg.numel() for arg in inputs if isinstance(arg, torch.Tensor) and arg.requires_grad)
    fits = torch.autograd.gradcheck(
        function, inputs, eps=_EPS, atol=1e-4, rtol=1e-3, raise_exception=False, fast_mode=size > SMALL,
        check_undefined_grad=False,
    )  # fmt: skip
    if fits:
        return []
    wrong = _differences(function, inputs)
    return [] if all(one.true == 0 for one in wrong) else [one for one in wrong if one.true != 0]


def _outputs(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Tensor]:
    import torch

    result = function(*inputs)
    every = result if isinstance(result, (tuple, list)) else [result]
    return [out for out in every if isinstance(out, torch.Tensor) and out.is_floating_point() and out.requires_grad]


def _hands_on(inputs: tuple[Any, ...], output: Tensor) -> bool:
    """Whether an output is one of the inputs, whose gradient is changed on the way back on purpose."""
    import torch

    return any(
        isinstance(arg, torch.Tensor)
        and arg.numel() == output.numel()
        and torch.equal(arg.reshape(-1), output.reshape(-1))
        for arg in inputs
    )


def _differences(function: Callable[..., Any], inputs: tuple[Any, ...]) -> list[Wrong]:
    """The elements among some of each input at which backward and finite differences disagree."""
    import torch

    places = [i for i, arg in enumerate(inputs) if isinstance(arg, torch.Tensor) and arg.requires_grad]
    outputs = _outputs(function, inputs)
    weights = [
        torch.ones_like(out) if out.numel() == 1 else torch.linspace(0.5, 1.5, out.numel()).to(out).reshape(out.shape)
        for out in outputs
    ]
    gradients = torch.autograd.grad(outputs, [inputs[i] for i in places], weights, allow_unused=True)

    def along(place: int, element: int, distance: float) -> list[Tensor]:
        moved = list(inputs)
        moved[place] = inputs[place].detach().clone()
        moved[place].view(-1)[element] += distance
        moved[place].requires_grad_()
        return [out.detach() for out in _outputs(function, tuple(moved))]

    def slope(high: list[Tensor], low: list[Tensor], distance: float) -> float:
        parts = [((a - b) * w).sum() for a, b, w in zip(high, low, weights, strict=True)]
        return float(sum(parts)) / distance

    middle = [out.detach() for out in outputs]
    wrong = []
    for place, gradient in zip(places, gradients, strict=True):
        size = inputs[place].numel()
        for element in range(0, size, max(size // SAMPLES, 1)):
            high, low = along(place, element, _EPS), along(place, element, -_EPS)
            true = slope(high, low, 2 * _EPS)
            right, left = slope(high, middle, _EPS), slope(middle, low, _EPS)
            if abs(right - left) > 1e-2 * max(abs(true), 1e-2):
                continue  # a kink
            told = float(gradient.reshape(-1)[element]) if gradient is not None else 0.0
            if not abs(told - true) <= 1e-4 + 1e-2 * abs(true):
                wrong.append(Wrong(place, told, true, gradient is not None))
    return wrong


@contextmanager
def _aside() -> Iterator[None]:
    """Compute something that leaves no trace: random states are put back, autocast and anomaly mode are off."""
    import torch

    numpy = sys.modules.get("numpy")
    awake = torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if awake else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.callback(random.setstate, random.getstate())
        if numpy is not None:
            stack.callback(numpy.random.set_state, numpy.random.get_state())
        for device in ("cpu", *(["cuda"] if devices else [])):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.enable_grad())
        yield


def _own(owner: Any) -> bool:
    """Whether a Function is written in a file of the user's."""
    code = sites.code_of(getattr(owner, "forward", None))
    return code is not None and not sites.foreign(code.co_filename)


def _argument(owner: Any, index: int) -> str:
    """What forward calls the argument of this number; ctx does not count."""
    import torch

    names = list(inspect.signature(owner.forward).parameters)
    if owner.setup_context is torch.autograd.Function.setup_context:
        names = names[1:]
    return names[index] if index < len(names) else f"argument {index}"
