"""What a program does that matters to training: one class for each kind of event.

`run` makes them (`Machine.emit` fills in where they happen), `Timeline.events` gives them to rules. `subject`
is what an event happens to, as far as the code shows; it is None where it may be anything, or where there is no such
thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gradcheck_lint.source.effort import spend
from gradcheck_lint.source.values import Choice, Thing, Value

if TYPE_CHECKING:
    from gradcheck_lint.source import tree
    from gradcheck_lint.source.place import Place
    from gradcheck_lint.source.run.arguments import Arguments
    from gradcheck_lint.source.run.parts import Parts


class Event:
    """One thing that happens; `place` is the expression (or statement) that does it."""

    __slots__ = ("context", "function", "place", "serial", "statement", "subject")

    place: Place
    statement: Place
    context: frozenset[str]
    function: tree.Function | None
    serial: int

    def __init__(self, subject: Value | None = None) -> None:
        self.subject = subject

    @property
    def order(self) -> tuple[int, ...]:
        """What events are sorted by: the order in which the code was followed."""
        return (self.serial,)

    def concerns(self, thing: Thing) -> bool:
        """Whether `thing` is (on some path) the subject."""
        spend(1)
        if self.subject is thing:
            return True
        return isinstance(self.subject, Choice) and any(option is thing for option in self.subject.options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.subject})"


class Turning(Event):
    """Turns the gradient cycle, or may."""

    __slots__ = ()


class Switching(Event):
    """Switches a mode, or may."""

    __slots__ = ()


class Put(Event):
    """A name, an attribute, an item or a place in a module gets a value."""

    __slots__ = ("value",)

    value: Value | None


# ------------------------------------------------------------ the gradient cycle


class Zero(Turning):
    """Gradients are cleared, in the way `how`: those of an optimizer, module or tensor."""

    __slots__ = ("how",)

    def __init__(self, subject: Value | None, how: str) -> None:
        self.subject, self.how = subject, how


class Backward(Turning):
    """Backward runs from the loss, `scaled` by a GradScaler; an `engine` (Accelerate, Fabric) may do more in it."""

    __slots__ = ("create_graph", "engine", "inputs", "retain", "scaled")

    def __init__(
        self,
        subject: Value | None,
        scaled: bool,
        engine: bool,
        retain: Value | None,
        inputs: Value | None,
        create_graph: Value | None,
    ) -> None:
        self.subject, self.scaled, self.engine = subject, scaled, engine
        self.retain, self.inputs, self.create_graph = retain, inputs, create_graph


class Unscale(Turning):
    """`scaler.unscale_(optimizer)`: the subject is the optimizer."""

    __slots__ = ("scaler",)

    def __init__(self, subject: Value | None, scaler: Value) -> None:
        self.subject, self.scaler = subject, scaler


class Clip(Turning):
    """Gradients are clipped to `norm`: those of what `parameters` names; `used` says whether the result is."""

    __slots__ = ("engine", "norm", "used")

    def __init__(self, subject: Value | None, norm: Value | None, used: bool, engine: bool = False) -> None:
        self.subject, self.norm, self.used, self.engine = subject, norm, used, engine


class Step(Turning):
    """An optimizer steps, by itself or by a `scaler`; `called` is what was called to get the `closure`."""

    __slots__ = ("args", "called", "closure", "scaler")

    def __init__(
        self,
        subject: Value | None,
        args: Arguments,
        scaler: Value | None = None,
        closure: Value | None = None,
        called: Value | None = None,
    ) -> None:
        self.subject, self.args = subject, args
        self.scaler, self.closure, self.called = scaler, closure, called


class Update(Turning):
    """`scaler.update()`: the subject is the scaler."""

    __slots__ = ()


class Schedule(Turning):
    """A scheduler steps."""

    __slots__ = ("args",)

    def __init__(self, subject: Value | None, args: Arguments) -> None:
        self.subject, self.args = subject, args


class Unknown(Turning):
    """A call of `name` cannot be followed and may turn the cycle of what it holds, the subject; None stands for all.

    It is `sure` to do something to it, whatever that is; it `clears` if it did so when it was followed before.
    """

    __slots__ = ("clears", "name", "sure")

    def __init__(self, subject: Value | None, name: str, sure: bool = False, clears: bool = False) -> None:
        self.subject, self.name, self.sure, self.clears = subject, name, sure, clears


class GradWrite(Turning):
    """`.grad` is assigned, or all its values are overwritten: that of a tensor, or of what it is an element of."""

    __slots__ = ("value",)

    def __init__(self, subject: Value | None, value: Value | None) -> None:
        self.subject, self.value = subject, value


class GradChange(Turning):
    """Gradients are changed in place, or handed to code that may: the subject is their owner."""

    __slots__ = ()


# ------------------------------------------------------------ what is made, run and changed


class Build(Event):
    """A thing is made, the subject: an optimizer, scaler, scheduler, module or tensor; `name` is what makes it."""

    __slots__ = ("args", "name")

    subject: Thing

    def __init__(self, subject: Thing, name: str, args: Arguments) -> None:
        self.subject, self.name, self.args = subject, name, args


class BuildOptimizer(Build):
    """An optimizer is made and given parameters; `parts` are the parts of the modules in these, by their serials.

    A copy of something is a plain Build: that it is an optimizer may be seen only later, by what is done with it.
    """

    __slots__ = ("given", "parts")

    def __init__(self, subject: Thing, name: str, args: Arguments, given: Value | None, parts: Parts) -> None:
        self.subject, self.name, self.args = subject, name, args
        self.given, self.parts = given, parts


class AddGroup(Event):
    """`optimizer.add_param_group(group)`; `parts` are the parts of the modules in the group, by their serials."""

    __slots__ = ("group", "parts")

    def __init__(self, subject: Value, group: Value | None, parts: Parts) -> None:
        self.subject, self.group, self.parts = subject, group, parts


class LoadState(Event):
    """`x.load_state_dict(state)`: the subject is x."""

    __slots__ = ("args", "state")

    def __init__(self, subject: Value, state: Value | None, args: Arguments) -> None:
        self.subject, self.state, self.args = subject, state, args


class Forward(Event):
    """A module is called."""

    __slots__ = ("args",)

    subject: Thing

    def __init__(self, subject: Thing, args: Arguments) -> None:
        self.subject, self.args = subject, args


class ForwardCall(Event):
    """`forward` of a module is called by its name, past `__call__` and the hooks: the subject is the module."""

    __slots__ = ()

    subject: Thing


class ForwardHook(Event):
    """Something is to run whenever a module is called: the subject is the module; `how` is what asks for it."""

    __slots__ = ("how",)

    def __init__(self, subject: Value | None, how: str) -> None:
        self.subject, self.how = subject, how


class Distribute(Event):
    """A module is wrapped by DistributedDataParallel: the subject is the wrapper."""

    __slots__ = ()

    subject: Thing


class Prepare(Event):
    """`accelerator.prepare(…)`: the subject is the accelerator; `args` is what it is given."""

    __slots__ = ("args",)

    subject: Thing

    def __init__(self, subject: Thing, args: Arguments) -> None:
        self.subject, self.args = subject, args


class AcceleratedBackward(Event):
    """`accelerator.backward(loss)`: the subject is the accelerator; a Backward comes with it."""

    __slots__ = ()

    subject: Thing


class SetMode(Switching):
    """`x.train()` or `x.eval()`: the subject is x; `training` is None if the code does not show which."""

    __slots__ = ("training",)

    def __init__(self, subject: Value | None, training: bool | None) -> None:
        self.subject, self.training = subject, training


class Average(Event):
    """`average.update_parameters(model)`: the subject is the average."""

    __slots__ = ("model",)

    def __init__(self, subject: Thing, model: Value | None) -> None:
        self.subject, self.model = subject, model


class GradMode(Switching):
    """Grad mode is switched until somebody switches it again; `on` is None if the code does not show which way."""

    __slots__ = ("on",)

    def __init__(self, on: bool | None) -> None:
        self.subject = None
        self.on = on


class Move(Event):
    """`x.to(…)`, `.cuda()`, `.half()` …: the subject is x; `how` is the method."""

    __slots__ = ("args", "how")

    subject: Thing

    def __init__(self, subject: Thing, how: str, args: Arguments) -> None:
        self.subject, self.how, self.args = subject, how, args


class Freeze(Event):
    """`requires_grad` of `thing` is written; `value` is None if the code does not show which.

    The subject is `thing`, or the module or optimizer that it is an element of; `parts` are those of that module.
    """

    __slots__ = ("how", "parts", "thing", "value")

    def __init__(self, subject: Value, value: bool | None, how: str, thing: Thing, parts: Parts) -> None:
        self.subject, self.value, self.how, self.thing, self.parts = subject, value, how, thing, parts


class Register(Put):
    """A module is given a part by `register_…`, `add_module` or `setattr`."""

    __slots__ = ("how", "name")

    def __init__(self, subject: Value, name: Value | None, value: Value | None, how: str) -> None:
        self.subject, self.name, self.value, self.how = subject, name, value, how


class Grow(Event):
    """Code that was not seen may put parts into modules, or thaw them: the subject is those, or None for any."""

    __slots__ = ()


class Initialise(Event):
    """Code of the project gives parameters of a module, the subject, their first values: those `below` it.

    Their names are those of attributes, or "*" for all that there are.
    """

    __slots__ = ("below",)

    subject: Thing

    def __init__(self, subject: Thing, below: frozenset[str]) -> None:
        self.subject, self.below = subject, below


class Hook(Event):
    """A hook is registered that may turn the cycle: the subject is what it is registered on."""

    __slots__ = ()


class TorchCall(Event):
    """A function or method of torch is called by name."""

    __slots__ = ("args", "name", "receiver")

    def __init__(self, name: str, args: Arguments, receiver: Value | None = None) -> None:
        self.subject = None
        self.name, self.args, self.receiver = name, args, receiver


# ------------------------------------------------------------ names, attributes and items


class Assign(Put):
    """A name or attribute is assigned: the subject is the `value`, and `old` what it held; `expression` is its code."""

    __slots__ = ("expression", "old", "target")

    value: Value

    def __init__(
        self, target: tree.Expression, value: Value, expression: tree.Expression | None, old: Value | None
    ) -> None:
        self.subject = self.value = value
        self.target, self.expression, self.old = target, expression, old


class Rebind(Put):
    """A name or attribute that held the subject now holds `value`, made by the code `source`."""

    __slots__ = ("source", "target")

    value: Value

    def __init__(self, subject: Value, target: tree.Expression, value: Value, source: tree.Expression | None) -> None:
        self.subject, self.target, self.value, self.source = subject, target, value, source


class SetAttribute(Put):
    """An attribute is assigned: the subject is the object, `old` what the attribute was; `source` is the code."""

    __slots__ = ("attr", "old", "source")

    value: Value

    def __init__(
        self, subject: Thing, attr: str, value: Value, old: Value | None, source: tree.Expression | None
    ) -> None:
        self.subject, self.attr, self.value, self.old, self.source = subject, attr, value, old, source


class SetData(Put):
    """`.data` is assigned: the subject is the tensor; `source` is the code of the `value`."""

    __slots__ = ("source",)

    value: Value

    def __init__(self, subject: Thing, value: Value, source: tree.Expression | None) -> None:
        self.subject, self.value, self.source = subject, value, source


class Write(Event):
    """A tensor is written by a method that works in place, as `p.add_(…)`: the subject is the tensor."""

    __slots__ = ()

    subject: Thing

    def __init__(self, subject: Thing) -> None:
        self.subject = subject


class SetItem(Put):
    """An item is assigned: the subject is the container."""

    __slots__ = ("index",)

    value: Value

    def __init__(self, subject: Value, index: Value, value: Value) -> None:
        self.subject, self.index, self.value = subject, index, value


class Augment(Event):
    """An augmented assignment: the subject is the old value, `owner` the object whose attribute is assigned, if any."""

    __slots__ = ("op", "owner", "target", "value")

    def __init__(
        self, subject: Value, target: tree.Expression, op: str, value: Value, owner: Value | None = None
    ) -> None:
        self.subject, self.target, self.op, self.value, self.owner = subject, target, op, value, owner


class Keep(Event):
    """What may be a list is given an item, the `value`, in a loop, or loses one (None): the subject is the list."""

    __slots__ = ("value",)

    subject: Value

    def __init__(self, subject: Value, value: Value | None) -> None:
        self.subject, self.value = subject, value


class LeafWrite(Event):
    """A leaf that requires grad is changed in place while torch records: the subject is the leaf."""

    __slots__ = ("how",)

    subject: Thing

    def __init__(self, subject: Thing, how: str) -> None:
        self.subject, self.how = subject, how


class GradOfNonLeaf(Event):
    """`.grad` is read of a tensor that was computed and whose gradient nobody has asked torch to keep: the subject."""

    __slots__ = ()

    subject: Thing


class Misspelt(Event):
    """A name that is nearly `requires_grad` is read, or `called`: the subject is the object."""

    __slots__ = ("attr", "called")

    def __init__(self, subject: Value, attr: str, called: bool) -> None:
        self.subject, self.attr, self.called = subject, attr, called


class Select(Event):
    """Some elements are taken out of a tensor, `of`, by a condition, the `mask`: the subject are those."""

    __slots__ = ("mask", "of")

    subject: Thing

    def __init__(self, subject: Thing, of: Thing, mask: Thing) -> None:
        self.subject, self.of, self.mask = subject, of, mask


# ------------------------------------------------------------ what becomes of values


class NewIterator(Event):
    """An iterator over parameters is made, the subject."""

    __slots__ = ()

    subject: Thing

    def __init__(self, subject: Thing) -> None:
        self.subject = subject


class Consume(Event):
    """An iterator over parameters is used, the subject; `by` is what does it, or "?" if it may not."""

    __slots__ = ("by",)

    subject: Thing

    def __init__(self, subject: Thing, by: str) -> None:
        self.subject, self.by = subject, by


class Evaluate(Event):
    """An expression is a statement and no call."""

    __slots__ = ("expression", "value")

    def __init__(self, value: Value, expression: tree.Expression) -> None:
        self.subject = None
        self.value, self.expression = value, expression


class Dropped(Event):
    """What gives another tensor and does no more is a statement: the subject is the tensor, written as `of`.

    It is a method (`x.clamp(0)`) or a function (`torch.clamp(x, 0)`).
    """

    __slots__ = ("function_form", "how", "of")

    subject: Value

    def __init__(self, subject: Value, how: str, of: tree.Expression, function_form: bool = False) -> None:
        self.subject, self.how, self.of, self.function_form = subject, how, of, function_form


class Iterate(Event):
    """A loop goes over something that is no call."""

    __slots__ = ("expression", "value")

    def __init__(self, value: Value, expression: tree.Expression) -> None:
        self.subject = None
        self.value, self.expression = value, expression


class Return(Event):
    """A function returns a value."""

    __slots__ = ("value",)

    def __init__(self, value: Value) -> None:
        self.subject = None
        self.value = value
