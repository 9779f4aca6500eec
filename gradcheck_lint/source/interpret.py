"""Runs a function abstractly: names become values, calls are followed, and what matters becomes events.

Both arms of a branch are taken and the values joined after it; a loop's body is run once more where its first run
changed something that matters; a call of the project's own code is followed into its body with the arguments it is
given. What cannot be followed gives an opaque thing that remembers what it was made from, and an `Unknown` event
where it might touch the gradient cycle.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from gradcheck_lint.source import (
    access,
    decorated,
    flags,
    frameworks,
    gradflag,
    limits,
    parts,
    tensors,
    torch_api,
    tree,
    yields,
)
from gradcheck_lint.source import events as ev
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import Allowance, Purse, Stop, meter, spend
from gradcheck_lint.source.holding import leaves_of, regroup
from gradcheck_lint.source.holdings import KEPT, Holdings, callables, handed, held
from gradcheck_lint.source.lazy import Lazy
from gradcheck_lint.source.place import Chunk, Place
from gradcheck_lint.source.project import Broken, Module, Project
from gradcheck_lint.source.spotted import Spotted
from gradcheck_lint.source.touch import made_of, turns, unknown
from gradcheck_lint.source.values import (
    Choice,
    ClassValue,
    Constant,
    External,
    FunctionValue,
    Items,
    ModuleValue,
    Partial,
    Table,
    Thing,
    Value,
    cut_off,
    depends,
    join,
    limited,
    merged,
    new_serial,
    only,
    options,
    passes,
    things,
    tracked,
    united,
    unordered,
)

DEPTH = 9  # calls followed into one another
REPEATS = 16  # times that one function is followed for one entry point
BUDGET = 12_000  # calls and statements run for one entry point; from half of it on, no call is followed
HEAVY = 100_000  # calls and statements run in one function for all entry points; from there on, it is not followed
LONG = 150_000  # calls and statements run for all of them; from there on, each gets a tenth of its budget

_MISSING = Constant(...)
NONE = Constant(None)

Emitted = TypeVar("Emitted", bound=ev.Event)


class Arguments:
    """The evaluated arguments of a call; `open` if there are * or ** arguments whose content is not known.

    `sure` is how many of the positional ones stand where they seem to: those before the first of unknown length.
    """

    __slots__ = ("keywords", "open", "positional", "sure")

    def __init__(
        self, positional: list[Value], keywords: dict[str, Value], open: bool = False, sure: int | None = None
    ) -> None:
        self.positional, self.keywords, self.open = positional, keywords, open
        self.sure = len(positional) if sure is None else sure

    def get(self, index: int, name: str) -> Value | None:
        """The argument at a position or of a name."""
        if index < min(len(self.positional), self.sure + 1):
            return self.positional[index]
        return self.keywords.get(name)

    def all(self) -> list[Value]:
        return [*self.positional, *self.keywords.values()]


class Frame:
    """A function being run."""

    __slots__ = (
        "again",
        "chunk",
        "context",
        "function",
        "globals",
        "home",
        "owner",
        "parent",
        "returns",
        "self",
        "serial",
        "statement",
        "yielding",
    )

    def __init__(self, home: Module, chunk: Chunk, function: tree.Function | None, parent: int | None) -> None:
        self.home, self.chunk, self.function, self.parent = home, chunk, function, parent
        self.serial = new_serial()
        self.globals: set[str] = set()
        self.returns: list[Value] = []
        self.self: Value | None = None
        self.owner: ClassValue | None = None
        self.context: frozenset[str] = frozenset()
        self.statement: tree.Node | None = None
        self.again: list[tuple[tl.Sequence, ev.Unknown]] = []  # calls of the same function from inside of it
        self.yielding: yields.Yielding | None = None  # what to do where it yields


class Interpreter:
    """Interprets the modules of a project; `timelines` collects what each entry point causes."""

    def __init__(
        self,
        project: Project,
        relevant: Callable[[tree.Function], bool],
        may_turn: Callable[[tree.Function], bool],
        caller: Callable[[Interpreter, tree.Call], Value],
        broken: Broken,
    ) -> None:
        """`broken` is told of a module whose own code could not be followed to its end."""
        self.project, self.relevant, self.caller, self.broken = project, relevant, caller, broken
        self.may_turn = may_turn
        self.store: dict[tuple[int, str], Value] = {}
        self.undo: list[dict[tuple[int, str], Value]] = []
        self.frames: list[Frame] = []
        self.parents: dict[int, int | None] = {}  # scope → enclosing scope
        self.homes: dict[int, Module] = {}  # scope → module
        self.scope_of: dict[str, int] = {}  # module path → its scope
        self.globals: dict[int, dict[str, None]] = {}  # scope of a module → the names bound in it, first to last
        self.stars: dict[str, str] = {}  # path of a module → the outside module that it imports * from
        self.sequence = tl.Sequence()
        self.timelines: list[tl.Timeline] = []
        self.decorators: dict[int, list[tree.Expression]] = {}  # function → those that have not been looked at
        self.wrapped: dict[int, tuple[Value | None, bool]] = {}  # function → what these made of it
        self.keepers: set[int] = set()  # things and scopes that were given an optimizer or an object of the project
        self.unwrapping: set[int] = set()  # decorated functions that are called at this moment
        self.registers: dict[int, int] = {}  # decorator → how often it gave back what it was given, and did no more
        self.reached_by_modules: set[int] = set()  # functions that the own code of a module ran
        self.reached: set[int] = set()  # functions that some entry point ran
        self.classes: list[ClassValue] = []
        self.instances: dict[int, tuple[Thing, tl.Sequence]] = {}
        self.unmade: set[int] = set()  # classes whose instance was made in part only, as that was too much
        self.spent, self.budget = 0, BUDGET
        self.steps = 0
        self.turned = 0  # events so far that turn the cycle, or may
        self.timeline: tl.Timeline | None = None
        self.children: dict[int, list[ClassValue]] = {}  # class → classes derived from it
        self.places: dict[int, Place] = {}
        self.chunk_of: dict[int, Chunk] = {}  # nested function → the chunk that it was parsed in
        self.followed: dict[int, int] = {}  # function → times followed for this entry point
        self.spotted = Spotted()  # what this entry point had in its hands
        self.costs: dict[int, int] = {}  # function → calls and statements run in it, for all entry points
        self.quiet: set[Hashable] = set()  # calls that turned nothing, and gave nothing that has an identity
        self.idle: set[int] = set()  # functions that do nothing that matters when given plain values
        self.depth = 0  # branches around the statement being run
        self.turning: set[int] = set()  # functions that turned the gradient cycle when they were followed
        self.clearing: set[int] = set()  # those of them that cleared gradients
        self.sizes: dict[int, int] = {}  # what follows a `%` in the test being looked at, if it is a known number
        self.ending: dict[int, tree.While] = {}  # statement that sets the flag by which a loop ends → the loop
        self.ended: dict[int, dict[int, tl.Sequence]] = {}  # loop → the sequences in which its flag was set
        self.looping = 0  # loops around the statement being run
        self.unsettled = False  # a loop inside of the one being run would have to be run again
        self.unrolled = 1  # how often the statement being run is run for loops over known lists
        self.purse = Purse(limits.ENTRY_WORK, 0)
        self.assigned: dict[int, dict[str, None]] = {}  # body of a loop → the names that it assigns
        self.weights: dict[int, bool] = {}  # module class → whether layers with weights are made in it
        self.names_of: dict[int, dict[str, None]] = {}  # scope or thing → the names that were ever bound in it
        self.making: int | None = None  # serial of the module whose `__init__` runs: what is newer is in no optimizer
        self.replaced: set[str] = set()  # attributes of torch that the code gives another value
        self.patched = False  # something outside the project was replaced by what may turn the cycle
        self.generators: dict[int, bool] = {}  # function → whether it yields
        self.tried: dict[Hashable, bool] = {}  # functions that were run so, and what they hold → whether they turn it
        self.trains = True  # the module of the entry point speaks of training; else nothing in it can be judged
        self.trying = False  # a function is run with unknown arguments, to see whether it turns the cycle
        self.names_in: dict[int, tuple[str, ...]] = {}  # function → the names that its text speaks of
        self.leaves: dict[int, bool] = {}  # function → whether it leaves the modules that it is given as they are

    # ------------------------------------------------------------ entry points

    def namespace(self, module: Module) -> int:
        """The scope of a module, its own code run first if it has not been."""
        scope = self.scope_of.get(module.path)
        if scope is None:
            scope = self.scope_of[module.path] = new_serial()
            self.parents[scope] = None
            self.globals[scope] = {}
            self.homes[scope] = module
            saved = (self.frames, self.sequence, self.timeline, self.steps, self.followed, self.depth, self.spotted)
            loops = (self.looping, self.unrolled)
            self.looping, self.unrolled = 0, 1
            self.frames, self.sequence, self.steps, self.followed, self.depth = [], tl.Sequence(), 0, {}, 0
            self.spotted = Spotted()
            trains, self.trains = self.trains, True
            trying, self.trying, unsettled, self.unsettled = self.trying, False, self.unsettled, False
            reached = set(self.reached)
            undo, self.undo = self.undo, []  # what a module binds stays, also if a function was the first to ask for it
            self.timeline = tl.Timeline(module, None)
            self.timeline.tree = self.sequence
            frame = Frame(module, module.chunk, None, None)
            frame.serial = scope
            body = module.body
            lines = module.chunk.text.count("\n")
            budget, self.budget = self.budget, self.budget_of(lines)
            with self.purse.allowance(limits.ENTRY_LINE * lines) as allowance:
                try:
                    self.run_frame(frame, body)
                    self.look_back(frame)
                except Stop:
                    self.timeline.cut = True
                    self.unwind(0)
                    self.look_back_from_cut(frame)
                except Exception as error:  # whoever imports the module is not to suffer from it
                    self.timeline.cut = True
                    self.broken(module.path, error)
            self.purse.pay(allowance.used)
            self.budget = budget
            self.undo = undo
            self.trying, self.unsettled, self.trains = trying, unsettled, trains
            self.reached_by_modules |= self.reached - reached
            self.looping, self.unrolled = loops
            self.timelines.append(self.timeline)
            self.frames, self.sequence, self.timeline, self.steps, self.followed, self.depth, self.spotted = saved
        return scope

    def run_function(self, function: FunctionValue) -> None:
        """Run a function that nothing known calls, with unknown arguments."""
        home = function.home
        self.timeline = tl.Timeline(home, function.function, function.owner)
        self.sequence = self.timeline.tree
        self.spent += self.steps
        lines = self.lines(function.function)
        self.budget = self.budget_of(lines)
        self.steps = 0
        self.followed = {}
        self.spotted = Spotted()
        self.trains = home.trains
        self.depth = 0
        self.frames = []
        self.looping, self.unrolled = 0, 1  # a run that was cut short has left them as they were
        level = len(self.undo)
        self.undo.append({})
        with self.purse.allowance(limits.ENTRY_LINE * lines) as allowance:
            try:
                self.run_entry(function)
            finally:
                self.unwind(level)
        self.purse.pay(allowance.used)
        self.timelines.append(self.timeline)
        self.timeline = None

    def budget_of(self, lines: int) -> int:
        """How many calls and statements may be run for an entry point of so many lines."""
        return (BUDGET if self.spent < LONG else BUDGET // 10) + 2 * lines

    def lines(self, function: tree.Function) -> int:
        """How many lines a function of a file has."""
        found = self.project.definition_of.get(id(function))
        return found[1].last - found[1].first + 1 if found is not None else 0

    def run_entry(self, function: FunctionValue) -> None:
        timeline = self.timeline
        assert timeline is not None
        undo = len(self.undo)
        try:
            receiver: Value | None = None
            if function.owner is not None:
                instance, made = self.instance(function.owner)
                timeline.tree.steps.append(made)
                timeline.cut = timeline.skipped = function.owner.serial in self.unmade
                self.sequence = timeline.tree
                receiver = instance
            kind = _kind(function.function)
            bound = function if kind == "static" or receiver is None else function.bind(receiver)
            self.followed[id(function.function)] = 1
            self.follow(bound, None, None)
            self.look_back(Frame(function.home, function.home.chunk, function.function, None))
        except Stop:
            timeline.cut = True
            self.unwind(undo)
            self.look_back_from_cut(Frame(function.home, function.home.chunk, function.function, None))

    def look_back(self, frame: Frame) -> None:
        """At the end of an entry point: was a function that turns the cycle at hand, and not seen to be called?"""
        if (
            self.timeline is None
            or not self.trains
            or not any(isinstance(event, ev.Turning) for event, _ in tl.located(self.timeline.tree))
        ):
            return
        self.frames.append(frame)
        try:
            node = frame.function or next(iter(frame.home.body), None)
            if node is not None and self.spotted.turning(self, node):
                self.timeline.loose = True
        finally:
            self.frames.pop()

    def look_back_from_cut(self, frame: Frame) -> None:
        """The same where the work was cut short; what is too much for that, too, may do anything."""
        self.steps = self.budget - BUDGET // 10
        try:
            with Allowance(limits.ENTRY_WORK // limits.SHARE) as allowance:
                self.look_back(frame)
        except Stop:
            assert self.timeline is not None
            self.timeline.loose = True
        self.purse.pay(allowance.used)

    def instance(self, cls: ClassValue) -> tuple[Thing, tl.Sequence]:
        """An instance of a class made with unknown arguments, and the events of making it.

        They are the same whoever asks first: an entry point at its start, or `spotted` in the middle of one.
        """
        if cls.serial not in self.instances:
            thing = self.new_instance(cls, None)
            saved, self.sequence = self.sequence, tl.Sequence()
            undo, self.undo = self.undo, []
            steps, under_way = self.steps, (self.frames, self.depth, self.looping, self.unrolled)
            self.frames, self.depth, self.looping, self.unrolled = [], 0, 0, 1
            made = self.sequence
            self.instances[cls.serial] = (thing, made)
            init = cls.member("__init__")
            lines = self.lines(init.function) if isinstance(init, FunctionValue) else 0
            with self.purse.allowance(limits.ENTRY_LINE * lines) as allowance:
                try:
                    self.prepare(thing, None)
                except Stop:  # its methods are looked at all the same, with what is known of it up to there
                    self.unmade.add(cls.serial)
                    tl.lead_on(made)
                    self.unwind(0)
                    self.steps = steps
                finally:
                    self.frames, self.depth, self.looping, self.unrolled = under_way
                    self.sequence, self.undo = saved, undo
            self.purse.pay(allowance.used)
        return self.instances[cls.serial]

    # ------------------------------------------------------------ the store

    def get(self, owner: int, name: str) -> Value | None:
        return self.store.get((owner, name))

    def set(self, owner: int, name: str, value: Value) -> None:
        key = (owner, name)
        if self.undo:
            log = self.undo[-1]
            if key not in log:
                log[key] = self.store.get(key, _MISSING)
        self.store[key] = value
        if owner not in self.keepers and not isinstance(value, Constant) and any(t.role in KEPT for t in things(value)):
            self.keepers.add(owner)
        self.names_of.setdefault(owner, {})[name] = None
        if owner in self.globals:
            self.globals[owner][name] = None

    def rollback(self, log: dict[tuple[int, str], Value]) -> dict[tuple[int, str], Value]:
        """Undo the writes of a log; gives what they had written."""
        written = {}
        for key, old in log.items():
            written[key] = self.store.get(key, _MISSING)
            if old is _MISSING:
                self.store.pop(key, None)
            else:
                self.store[key] = old
        return written

    def unwind(self, level: int) -> None:
        """Undo the writes of all logs above a level: of code that is done with, or was broken off in some branch."""
        while len(self.undo) > level:
            self.rollback(self.undo.pop())

    def put(self, key: tuple[int, str], value: Value) -> None:
        if value is _MISSING:
            if self.undo and key not in self.undo[-1]:
                self.undo[-1][key] = self.store.get(key, _MISSING)
            self.store.pop(key, None)
        else:
            self.set(key[0], key[1], value)

    def arms(
        self, arms: Sequence[Callable[[], bool]], node: tree.Node, test: tree.Expression | None = None
    ) -> tuple[list[tl.Sequence], bool]:
        """Run alternatives from the same start and join what they leave; True if none goes on afterwards."""
        saved = self.sequence
        sequences: list[tl.Sequence] = []
        left: list[dict[tuple[int, str], Value]] = []
        for arm in arms:
            self.sequence = tl.Sequence()
            sequences.append(self.sequence)
            self.undo.append({})
            self.depth += 1
            try:
                ended = arm()
            except Stop:
                self.cut_short(saved, tl.Branch(test, sequences, self.place(node)))
                raise
            self.depth -= 1
            written = self.rollback(self.undo.pop())
            if not ended:
                left.append(written)
        self.sequence = saved
        if not left:
            return sequences, True
        keys: dict[tuple[int, str], None] = {}
        for written in left:
            keys.update(dict.fromkeys(written))
        spend(len(keys) // 2)
        for key in keys:
            value: Value = _MISSING
            for written in left:
                new = written.get(key)
                if new is None:
                    new = self.store.get(key, _MISSING)
                if new is _MISSING:
                    continue
                value = new if value is _MISSING else join(value, new)
            self.put(key, value)
        return sequences, False

    def cut_short(self, outer: tl.Sequence, step: tl.Branch | tl.Loop | tl.Call) -> None:
        """The work is cut short inside of a step: keep what it has so far, and let no path lead on from there."""
        inner = step.arms[-1] if isinstance(step, tl.Branch) else step.body
        inner.steps.append(tl.Jump("raise", step.place))
        if isinstance(step, tl.Loop):
            step.unfinished = True
        outer.steps += [step, tl.Jump("raise", step.place)]
        self.sequence = outer

    # ------------------------------------------------------------ events

    @property
    def frame(self) -> Frame:
        return self.frames[-1]

    def place(self, node: tree.Node) -> Place:
        found = self.places.get(id(node))
        if found is None:
            found = self.places[id(node)] = Place(self.frame.chunk, node)
        return found

    def emit(self, node: tree.Node, event: Emitted) -> Emitted:
        """Tell of an event: it happens now, where the node stands."""
        frame = self.frame
        event.place = self.place(node)
        event.statement = self.place(frame.statement) if frame.statement is not None else event.place
        event.context, event.function = frame.context, frame.function
        event.serial = new_serial()
        self.sequence.steps.append(event)
        if isinstance(event, ev.Turning):
            self.turned += 1
        return event

    # ------------------------------------------------------------ statements

    @contextmanager
    def scope(self, target: FunctionValue) -> Iterator[None]:
        """Evaluate expressions where a function was defined; what they cause belongs to no entry point."""
        frame = Frame(target.home, target.chunk or target.home.chunk, None, None)
        frame.serial = target.scope if target.scope is not None else frame.serial
        saved = (self.frames, self.sequence)
        self.frames, self.sequence = [frame], tl.Sequence()
        try:
            yield
        finally:
            self.frames, self.sequence = saved

    def run_frame(self, frame: Frame, body: tree.Block) -> None:
        self.frames.append(frame)
        try:
            self.block(body)
        finally:
            self.frames.pop()

    def block(self, body: Iterable[tree.Statement]) -> bool:
        """Run statements; True if the end is never reached (a jump on every path)."""
        for statement in body:
            self.steps += 1
            meter.left -= 3
            meter.spent += 3
            if self.steps > self.budget:
                raise Stop
            self.frame.statement = statement
            if _STATEMENTS[type(statement)](self, statement):
                return True
        return False

    def do_evaluate(self, node: tree.Evaluate) -> bool:
        value = self.eval(node.value)
        if isinstance(node.value, tree.Call):
            return isinstance(value, External) and value.name == "builtins.NoReturn"
        if not isinstance(node.value, tree.Constant):
            self.emit(node.value, ev.Evaluate(value=value, expression=node.value, of=self.compared(node.value)))
        return False

    def compared(self, node: tree.Expression) -> Value | None:
        """The object of the attribute on the left of a comparison, where looking at it again does nothing."""
        if not isinstance(node, tree.Operation) or not isinstance(node.operands[0], tree.Attribute):
            return None
        owner = node.operands[0].value
        return None if any(isinstance(n, (tree.Call, tree.Other)) for n in owner.walk()) else self.eval(owner)

    def do_assign(self, node: tree.Assign) -> bool:
        if node.value is None:
            return False
        value = self.eval(node.value)
        for target in node.targets:
            self.assign(target, value, node.value)
        loop = self.ending.get(id(node))
        if loop is not None:
            self.ended.setdefault(id(loop), {})[id(self.sequence)] = self.sequence
        return False

    def do_augment(self, node: tree.Augment) -> bool:
        old = self.eval(node.target)
        value = self.eval(node.value)
        self.emit(node.target, ev.Augment(old, op=node.op, value=value, target=node.target))
        if isinstance(old, Items) and node.op == "+":
            if isinstance(value, Items) and old.kind == "list":
                self.assign(node.target, self.added(old, value, node), None, quiet=True)
            else:
                old.complete = False
            return False
        if isinstance(old, Thing) and old.role in ("tensor", "grad", "module", "parameters"):
            if old.role == "grad" and node.op == "*" and _is_zero(value):
                self.zero_grad_of(old, node.target, "grad *= 0")
            elif old.role == "grad":
                self.change_grad(old, node.target)
            elif old.role == "parameters" and node.op == "+":
                self.lengthen(old, value)
            elif old.role == "tensor":
                old.detail["written"] = True
            return False  # in place: the object stays the same
        result = Thing("opaque", tree.last_name(node.target), deps=depends(old, value), certain=False)
        self.assign(node.target, result, None, quiet=True)
        return False

    def lengthen(self, parameters: Thing, more: Value) -> None:
        """A list of parameters gets more in place, by `+=`, `extend` or `append`."""
        first = Thing("parameters", "", parameters.place, deps=parameters.deps, detail=parameters.detail)
        mixed = unordered(first) or unordered(more)
        parameters.detail = {"parts": [first, more], "kind": "list", "how": "list", "unordered": mixed}
        parameters.deps = united(parameters.deps, depends(more))

    def added(self, old: Items, value: Items, node: tree.Node) -> Items:
        complete = old.complete and value.complete and not (isinstance(node, tree.Augment) and self.looping)
        mixed = unordered(old) or unordered(value)
        spend(min(len(old.items) + len(value.items), 2 * limits.ITEMS) // 8)
        items, whole = limited([*old.items[: limits.ITEMS], *value.items[: limits.ITEMS]])
        whole = whole and len(items) == len(old.items) + len(value.items)
        return Items(old.kind, items, complete and whole, old.place, unordered=mixed)

    def do_return(self, node: tree.Return) -> bool:
        value = self.eval(node.value) if node.value is not None else NONE
        self.frame.returns.append(value)
        if self.frame.function is not None and node.value is not None:
            self.emit(node, ev.Return(value=value))
        self.sequence.steps.append(tl.Jump("return", self.place(node)))
        return True

    def do_raise(self, node: tree.Raise) -> bool:
        if node.value is not None:
            self.eval(node.value)
        self.sequence.steps.append(tl.Jump("raise", self.place(node)))
        return True

    def do_jump(self, node: tree.Jump) -> bool:
        self.sequence.steps.append(tl.Jump(node.kind, self.place(node)))
        return True

    def do_delete(self, node: tree.Delete) -> bool:
        target = node.target
        if isinstance(target, tree.Attribute):
            base = self.eval(target.value)
            for thing in things(base):
                self.delete_attribute(thing, target.attr, target)
        elif isinstance(target, tree.Subscript):
            self.eval(target)
        return False

    def delete_attribute(self, thing: Thing, attr: str, node: tree.Node) -> None:
        """`del thing.attr`, or `delattr(thing, "attr")`."""
        if attr in ("grad", "_grad"):
            self.zero_tensor(thing, node, "del .grad")
        access.delete(self, thing, attr, node)

    def do_assert(self, node: tree.Assert) -> bool:
        self.eval(node.test)
        return False

    def do_import(self, node: tree.Import) -> bool:
        home = self.frame.home
        scope = self.frame.serial
        if node.module is None:
            for name, bound in node.names:
                module = self.project.resolve(home, name, 0)
                if bound:
                    full = self.project.name_outside(home, name, 0)
                    value: Value = ModuleValue(module) if module else External(torch_api.canonical(full))
                    self.set(scope, bound, value)
                else:
                    head = name.partition(".")[0]
                    top = self.project.resolve(home, head, 0)
                    self.set(scope, head, ModuleValue(top) if top else External(head))
            return False
        module = self.project.resolve(home, node.module, node.level)
        for name, bound in node.names:
            if name == "*":
                if module is not None:
                    self.import_star(module, scope)
                elif node.module.startswith("torch"):
                    self.stars[home.path] = node.module
                continue
            found: Value | None = None
            if module is not None:
                sub = self.project.resolve(module, name, 1) if module.file.real and _is_package(module) else None
                found = Lazy(self, module, name, sub)
            else:
                sub = self.project.resolve(home, f"{node.module}.{name}" if node.module else name, node.level)
                full = self.project.name_outside(home, node.module, node.level)
                found = ModuleValue(sub) if sub else External(torch_api.canonical(f"{full}.{name}"))
            self.set(scope, bound or name, found)
        return False

    def import_star(self, module: Module, scope: int) -> None:
        other = self.namespace(module)
        for name in list(self.globals.get(other, ())):
            value = self.get(other, name)
            if value is not None and not name.startswith("_"):
                self.set(scope, name, value)

    def do_scope(self, node: tree.Scope) -> bool:
        if node.kind == "global":
            self.frame.globals.update(node.names)
        return False

    def do_if(self, node: tree.If) -> bool:
        self.sizes = {}
        value, sizes = self.eval(node.test), self.sizes
        known = self.truth(node.test, value)
        if known is not None:
            return self.block(node.body if known else node.orelse)
        place = self.place(node)

        def first() -> bool:
            self.assume(node.test, True)
            return self.block(node.body)

        def second() -> bool:
            self.assume(node.test, False)
            return self.block(node.orelse)

        sequences, ended = self.arms([first, second], node, node.test)
        self.sequence.steps.append(tl.Branch(node.test, sequences, place, sizes))
        return ended

    def assume(self, test: tree.Expression, holds: bool) -> None:
        """Narrow a name that a test compares with None (or takes as a truth value) to what it must then be."""
        if isinstance(test, tree.Operation):
            if test.op == "not":
                self.assume(test.operands[0], not holds)
                return
            if test.op == "and" and holds:
                for part in test.operands:
                    self.assume(part, True)
                return
            if test.op in ("is", "is not", "==", "!=") and _none(test.operands[1]):
                self.narrow(test.operands[0], holds == (test.op in ("is", "==")))
            return
        if holds:
            self.narrow(test, False)

    def narrow(self, node: tree.Expression, none: bool) -> None:
        if not isinstance(node, (tree.Name, tree.Attribute)):
            return
        value = self.eval(node)
        if not isinstance(value, Choice):
            return
        kept = [v for v in value.options if (isinstance(v, Constant) and v.value is None) == none]
        if kept and len(kept) < len(value.options):
            self.assign(node, kept[0] if len(kept) == 1 else Choice(tuple(kept)), None, quiet=True)

    def truth(self, test: tree.Expression, value: Value) -> bool | None:
        """Whether a test is known to hold."""
        if isinstance(test, tree.Operation) and test.op == "==" and tree.dotted(test.operands[0]) == "__name__":
            return True
        if self.trying and not isinstance(test, tree.Constant):
            return None  # what it is now, it need not be when the function is called
        if isinstance(value, Constant) and value.value is not ...:
            return bool(value.value)
        return None

    def do_for(self, node: tree.For) -> bool:
        iterable = yields.iterator_of(self, self.eval(node.iter), node)
        generator = yields.running(iterable)
        if generator is not None:
            if yields.loop_over(self, generator, node):
                return self.block(node.orelse) if node.orelse else False
        if (
            isinstance(iterable, Items)
            and iterable.complete
            and 0 < len(iterable.items) <= 6
            and (iterable.kind != "set" or len(iterable.items) == 1)
        ):
            count = len(iterable.items)
            if self.unrolled * count <= limits.UNROLLED and any(tracked(i) for i in iterable.items):
                self.unrolled *= count
                for item in iterable.items:
                    saved, self.sequence = self.sequence, tl.Sequence()
                    step = tl.Loop(self.sequence, node, self.place(node), once=True, start=new_serial())
                    try:
                        self.assign(node.target, item, None, quiet=True)
                        self.block(node.body)
                    except Stop:
                        self.cut_short(saved, step)
                        raise
                    self.sequence = saved
                    self.sequence.steps.append(step)
                self.unrolled //= count
                return self.block(node.orelse) if node.orelse else False
        self.iterate(iterable, node.iter)
        lazy = None
        if isinstance(iterable, Items):
            lazy, iterable.lazy = iterable.lazy, None
        self.consume(iterable, node.iter, "for, left early" if _leaves(node.body) else "for")

        following = yields.next_of(self, iterable)
        elements: set[int] = set()

        def bind() -> None:
            found = self.element(iterable, node.target)
            if lazy is not None:
                self.sequence.steps.append(lazy)
            if following is not None:
                found = self.follow(following, Arguments([], {}), node)
            self.assign(node.target, found, None, quiet=True)
            elements.clear()
            elements.update(id(thing) for name in _names_in(node.target) for thing in things(self.eval(name)))

        once = isinstance(node.iter, tree.Call) and _range_of_one(node.iter)
        self.loop(node, node.body, bind, endless=False, once=once)
        made = self.sequence.steps[-1]
        if isinstance(made, tl.Loop):
            made.rounds = self.rounds(node.iter, iterable)
            made.listed = isinstance(iterable, Items) and iterable.place is not None
            made.groups = bool(things(iterable, "groups"))
            made.elements = elements
        return self.block(node.orelse) if node.orelse else False

    def rounds(self, node: tree.Expression, iterable: Value) -> int | None:
        """How often a loop goes round, if the code says so."""
        if isinstance(iterable, Items):
            return len(iterable.items) if iterable.complete else None
        if not isinstance(node, tree.Call) or tree.dotted(node.func) != "range" or len(node.args) != 1:
            return None
        count = node.args[0].value
        value = self.eval(count) if isinstance(count, (tree.Name, tree.Attribute, tree.Constant)) else None
        return value.value if isinstance(value, Constant) and type(value.value) is int else None

    def do_while(self, node: tree.While) -> bool:
        value = self.eval(node.test)
        endless = isinstance(value, Constant) and bool(value.value) and value.value is not ...
        once = isinstance(value, Items) and value.complete and len(value.items) == 1  # `while todo: todo.pop()()`
        outer, self.ending = self.ending, {**self.ending, **dict.fromkeys(flags.ending(node), node)}
        endless = self.loop(node, node.body, lambda: None, endless=endless, once=once, test=node.test)
        self.ending = outer
        if node.orelse:
            self.block(node.orelse)
        return endless and not _breaks(node.body)

    def loop(
        self,
        node: tree.For | tree.While,
        body: tree.Block,
        bind: Callable[[], None],
        endless: bool,
        once: bool = False,
        test: tree.Expression | None = None,
    ) -> bool:
        """Run the body of a loop; whether nothing but a jump ends it."""
        place = self.place(node)
        self.widen(body)
        saved = self.sequence
        self.looping += 1
        outer, self.unsettled = self.unsettled, False
        for _ in range(3):
            self.sequence = tl.Sequence()
            self.undo.append({})
            start = new_serial()
            try:
                bind()
                self.block(body)
                if test is not None:
                    value = self.eval(test)
                    endless = endless and self.truth(test, value) is True
            except Stop:
                step = tl.Loop(self.sequence, node, place, once=once, endless=endless, start=start)
                self.cut_short(saved, step)
                raise
            result = self.sequence
            log = self.undo.pop()
            written = self.rollback(log)
            again, self.unsettled = self.unsettled, False
            for key, new in written.items():
                old = log[key]
                if old is _MISSING or new is _MISSING:
                    self.put(key, new)
                    continue
                both = new if _carries(new) and _passive(old) else join(old, new)
                if both is new and new is not old:
                    again = again or _sites(new) != _sites(old)
                elif both is not old and (tracked(old) or tracked(new)) and not _alike(both, old):
                    again = True
                self.put(key, both)
            if again and self.looping > limits.RERUN:
                outer = True  # a loop around this one is run again, and with it this one
                break
            if not again or once:
                break
        self.looping -= 1
        self.unsettled = outer
        self.sequence = saved
        flags.leave(result, self.ended.pop(id(node), {}), place)
        self.sequence.steps.append(tl.Loop(result, node, place, once=once, endless=endless, start=start))
        return endless

    def widen(self, body: tree.Block) -> None:
        """Forget the constants that a loop changes: `first = True` before it is not so in every round."""
        names = self.assigned.get(id(body))
        if names is None:
            names = self.assigned[id(body)] = _assigned(body)
        for name in names:
            scope = self.frame.serial
            if isinstance(self.get(scope, name), Constant):
                self.set(scope, name, Thing("opaque", name, certain=False))

    def do_try(self, node: tree.Try) -> bool:
        place = self.place(node)

        def body() -> bool:
            frame, saved = self.frame, self.frame.context
            if node.handlers:
                frame.context = saved | {"try"}
            ended = self.block(node.body)
            frame.context = saved
            return ended or self.block(node.orelse)

        handlers = [lambda h=h: self.block(h) for h in node.handlers]
        sequences, ended = self.arms([body, *handlers], node)
        branch = tl.Attempt(None, sequences, place)
        if not node.final:
            self.sequence.steps.append(branch)
            return ended
        guarded = tl.Guarded(tl.Sequence(), tl.Sequence())
        guarded.body.steps.append(branch)
        self.sequence.steps.append(guarded)
        saved, self.sequence = self.sequence, guarded.final
        left = self.block(node.final)
        self.sequence = saved
        return left or ended

    def do_with(self, node: tree.With) -> bool:
        return self.within(node, list(node.items))

    def within(self, node: tree.With, items: list[tuple[tree.Expression, tree.Expression | None]]) -> bool:
        """Run a `with` from one of its items on."""
        if not items:
            return self.block(node.body)
        item, target = items[0]
        frame, saved = self.frame, self.frame.context
        value = self.eval(item)
        frame.context |= self.context_of(item, value)

        def body(bound: Value) -> bool:
            if target is not None:
                self.assign(target, bound, None, quiet=True)
            return self.within(node, items[1:])

        ended = yields.managed(self, value, node, body)
        frame.context = saved
        return ended

    def context_of(self, item: tree.Expression, value: Value) -> frozenset[str]:
        name = tree.last_name(item)
        if name in (
            "no_grad",
            "inference_mode",
            "accumulate",
            "no_sync",
            "enable_grad",
            "autocast",
            "set_grad_enabled",
        ):
            return frozenset({name})
        if name in ("raises", "suppress") or name.startswith("assertRaises"):
            return frozenset({"try"})
        return frozenset()

    def do_match(self, node: tree.Match) -> bool:
        self.eval(node.subject)
        arms = [lambda a=a: self.block(a) for a in node.arms]
        sequences, _ = self.arms([*arms, lambda: False], node)
        self.sequence.steps.append(tl.Branch(None, sequences, self.place(node)))
        return False

    def do_function(self, node: tree.Function) -> bool:
        value = self.function_value(node)
        for parameter in node.parameters:
            for part in (parameter.default, parameter.annotation):
                if part is not None and any(isinstance(n, tree.Call) for n in part.walk()):
                    self.eval(part)
        decorated.wrap(self, value)
        self.set(self.frame.serial, node.name, value)
        return False

    def function_value(self, node: tree.Function, owner: ClassValue | None = None) -> FunctionValue:
        self.chunk_of[id(node)] = self.frame.chunk
        value = FunctionValue(node, self.frame.home, self.frame.serial, owner)
        value.chunk = self.frame.chunk
        if (owner is None and len(self.frames) > 1) or node.name == "<lambda>":
            self.spotted.note(value)
        return value

    def do_class(self, node: tree.Class) -> bool:
        bases = [self.eval(b) for b in node.bases]
        cls = ClassValue(node, self.frame.home, self.frame.serial, bases)
        for keyword in node.keywords:
            if keyword.keyword == "metaclass":
                cls.metaclass = self.eval(keyword.value)
        self.set(self.frame.serial, node.name, cls)
        self.classes.append(cls)
        for base in cls.lineage():
            if isinstance(base, ClassValue) and base is not cls:
                self.children.setdefault(base.serial, []).append(cls)
        certain = {id(statement) for statement in node.body}
        for statement in _flat(node.body):
            if isinstance(statement, tree.Function):
                function = self.function_value(statement, cls)
                decorated.wrap(self, function)
                name = statement.name
                if name in cls.members and _kind(statement) == "setter":
                    name = f"__{name}.{tree.last_name(statement.decorators[0])}__"  # called by an assignment or `del`
                old = cls.members.get(name) if id(statement) not in certain else None
                cls.members[name] = function if old is None else join(old, function)
            elif isinstance(statement, tree.Assign) and statement.value is not None:
                for target in statement.targets:
                    if isinstance(target, tree.Name):
                        cls.members[target.id] = self.eval(statement.value)
            elif isinstance(statement, tree.Evaluate) and isinstance(statement.value, tree.Call):
                self.eval(statement.value)
            elif isinstance(statement, tree.Class):
                self.do_class(statement)
                inner = self.get(self.frame.serial, statement.name)
                if inner is not None:
                    cls.members[statement.name] = inner
        made = decorated.wrap_class(self, cls)
        if made is not cls:
            self.set(self.frame.serial, node.name, made)
        return False

    # ------------------------------------------------------------ assignment

    def assign(
        self, target: tree.Expression, value: Value, source: tree.Expression | None, quiet: bool = False
    ) -> None:
        """Bind a target; `quiet` binds without telling (loop variables, with targets, narrowing)."""
        if isinstance(target, tree.Name):
            scope = self.frame.serial
            if target.id in self.frame.globals:
                scope = self.namespace(self.frame.home)
            old = self.get(scope, target.id)
            self.name_thing(value, target.id)
            if not quiet:
                self.told(target, old, value, source)
            self.set(scope, target.id, value)
        elif isinstance(target, tree.Attribute):
            base = self.eval(target.value)
            if target.attr in ("grad", "_grad", "requires_grad"):
                self.whichever(base, target, lambda thing: self.assign_to(target, thing, value, source, quiet))
                if target.attr == "requires_grad" and only(base) is None:
                    for thing in things(base, "tensor"):
                        tensors.now_requires_grad(thing, None)
            else:
                for thing in things(base):
                    self.assign_to(target, thing, value, source, quiet)
            for option in options(base):
                self.patch(option, target.attr, value, target)
        elif isinstance(target, tree.Subscript):
            base = self.eval(target.value)
            index = self.eval(target.index)
            self.set_item(target, base, index, value, quiet)
        elif isinstance(target, (tree.Display,)):
            self.unpack(target.items, value, source, quiet)
        elif isinstance(target, tree.Starred):
            self.assign(target.value, merged([value]), None, quiet=True)

    def assign_to(
        self, target: tree.Attribute, thing: Thing, value: Value, source: tree.Expression | None, quiet: bool
    ) -> None:
        """Assign an attribute of one object."""
        old = self.get(thing.serial, target.attr)
        self.name_thing(value, target.attr)
        if not quiet:
            if old is None and thing.role != "instance":
                old = self.attribute(thing, target.attr, target)
            self.told(target, old, value, source)
            self.set_attribute(target, thing, target.attr, value, old, source)
        self.set(thing.serial, target.attr, value)
        parts.noted(thing, target.attr)
        parts.owned(value, thing, target.attr)
        access.write(self, thing, target.attr, value, target)

    def whichever(self, value: Value, node: tree.Node, do: Callable[[Thing], None]) -> None:
        """Do something to a thing; to one of several on each path, where it depends on the path which of them it is."""
        found = list(things(value))

        def arm(thing: Thing) -> Callable[[], bool]:
            def go() -> bool:
                do(thing)
                return False

            return go

        if len(found) < 2:
            for thing in found:
                do(thing)
            return
        sequences, _ = self.arms([arm(thing) for thing in found], node)
        if any(s.steps for s in sequences):
            self.sequence.steps.append(tl.Branch(None, sequences, self.place(node)))

    def patch(self, owner: Value, attr: str, value: Value, node: tree.Node) -> None:
        """An attribute of a module or class is assigned, which all code sees."""
        if isinstance(owner, ModuleValue):
            self.set(self.namespace(owner.module), attr, value)
        elif isinstance(owner, ClassValue):
            old = owner.members.get(attr)
            owner.members[attr] = value if old is None else join(old, value)
        elif isinstance(owner, FunctionValue):
            self.set(id(owner.function), attr, value)
        elif isinstance(owner, External) and owner.name.startswith("torch.") and not isinstance(value, Constant):
            self.replaced.add(attr)
        if isinstance(owner, External) and any(turns(self, f, node) for f in callables(value)):
            self.patched = True

    def unpack(self, targets: list[tree.Expression], value: Value, source: tree.Expression | None, quiet: bool) -> None:
        parts: list[Value] | None = None
        starred = any(isinstance(t, tree.Starred) for t in targets)
        if isinstance(value, Items) and value.complete and len(value.items) == len(targets) and not starred:
            parts = value.items
        sources: list[tree.Expression | None] = [None] * len(targets)
        if isinstance(source, tree.Display) and len(source.items) == len(targets) and not starred:
            sources = list(source.items)
        for index, target in enumerate(targets):
            if parts is not None:
                part = parts[index]
            else:
                part = self.element(value, target)
                if isinstance(value, Items) and len(targets) > 1:
                    part = self.some(part, target)
                for thing in things(part):
                    thing.summary = False
            self.assign(target, part, sources[index], quiet)

    def some(self, value: Value, target: tree.Node) -> Value:
        """One of the objects that a value stands for; asked again, it is another one."""
        found = list(things(value))
        if not found:
            return value
        thing = only(value)
        role = thing.role if thing is not None and thing.role in _HELD - {"parameters"} else "opaque"
        return Thing(role, "", self.place(target), deps=depends(value), certain=False)

    def name_thing(self, value: Value, name: str) -> None:
        """Call things by the first name that the code gives them."""
        for thing in things(value):
            if thing.role == "opaque" and not thing.summary:
                if not thing.label or thing.parent is None:
                    thing.label = name
                self.guess(thing)
            elif not thing.label or (thing.place is not None and not thing.detail.get("bound")):
                thing.label = name
                thing.detail["bound"] = True

    def guess(self, thing: Thing) -> None:
        """Take the role of an opaque thing from its name."""
        if thing.role != "opaque" or not thing.label:
            return
        if frameworks.keeps_the_cycle(thing.root.detail.get("origin", "")):
            return
        if torch_api.SCALER_NAME.search(thing.label):
            thing.role, thing.certain = "scaler", False
        elif torch_api.SCHEDULER_NAME.search(thing.label):
            thing.role, thing.certain = "scheduler", False
        elif torch_api.OPTIMIZER_NAME.search(thing.label):
            thing.role, thing.certain = "optimizer", False

    def told(self, target: tree.Expression, old: Value | None, value: Value, source: tree.Expression | None) -> None:
        if old is not None and old is not value:
            held = [t for t in things(old) if t.role in _HELD]
            if held and not any(value is t for t in held):
                self.emit(target, ev.Rebind(old, value=value, target=target, source=source))
        self.emit(target, ev.Assign(target=target, value=value, expression=source, old=old))

    def set_attribute(
        self,
        target: tree.Expression,
        thing: Thing,
        attr: str,
        value: Value,
        old: Value | None,
        source: tree.Expression | None,
    ) -> None:
        if attr in ("grad", "_grad"):
            if _is_none(value):
                self.zero_tensor(thing, target, "grad = None")
            else:
                self.emit(target, ev.GradWrite(owner_of(thing), value=value))
        elif attr.endswith("_grad") and attr != "requires_grad" and thing.role == "tensor":
            self.emit(target, ev.GradWrite(owner_of(thing), value=value))  # `main_grad`: kept beside it, for a step
        elif attr == "requires_grad":
            flag = bool(value.value) if isinstance(value, Constant) and value.value is not ... else None
            owner = owner_of(thing)
            held = parts.parts_in(self, owner)
            self.emit(target, ev.Freeze(owner, value=flag, how="attribute", thing=thing, parts=held))
            if thing.role == "tensor":
                tensors.now_requires_grad(thing, flag)
        elif attr == "data" and thing.role == "grad":
            self.overwrite_grad(thing, target, value)
        elif attr == "data":
            self.emit(target, ev.SetData(thing, value=value, source=source))
        elif attr == "param_groups":
            regroup(thing)
        self.emit(target, ev.SetAttribute(thing, attr=attr, value=value, old=old, source=source))

    def set_item(self, target: tree.Subscript, base: Value, index: Value, value: Value, quiet: bool) -> None:
        if not quiet:
            self.emit(target, ev.SetItem(base, index=index, value=value))
        for thing in things(base):
            if thing.role == "state-dict":
                thing.detail["rewritten"] = True
            elif thing.role == "tensor":
                thing.detail["written"] = True
            owner = parts.holder(thing)
            if owner is not None:
                parts.noted(owner, None)
                parts.owned(value, owner, "")
            named = index.value if isinstance(index, Constant) else ...
            if (
                thing.role == "groups"
                or (thing.role == "group" and named in ("params", ...))
                or (thing.role == "group-params")
            ):
                regroup(thing)
        if isinstance(base, External):
            self.spotted.lent(value)
        if isinstance(base, Table):
            if isinstance(index, Constant) and index.value is not ...:
                base.entries[index.value] = value
                if self.depth > base.depth:
                    base.maybe.add(index.value)
            else:
                base.entries[id(target)] = value
                base.complete = False
        elif isinstance(base, Items):
            base.complete = False
        elif isinstance(base, Thing) and base.role == "grad":
            if _whole(target.index):
                self.overwrite_grad(base, target, value)
            else:
                self.change_grad(base, target)
        elif isinstance(base, Thing) and isinstance(index, Constant) and index.value is not ...:
            self.name_thing(value, str(index.value))
            self.set(base.serial, f"[{index.value}]", value)

    def zero_grad_of(self, grad: Thing, node: tree.Node, how: str) -> None:
        """The gradient `grad` is cleared in place."""
        if grad.parent is not None:
            self.zero_tensor(grad.parent[0], node, how)

    def change_grad(self, grad: Thing, node: tree.Node) -> None:
        """The gradient `grad` is changed in place, or by code that cannot be seen."""
        self.emit(node, ev.GradChange(owner_of(grad)))

    def overwrite_grad(self, grad: Thing, node: tree.Node, value: Value | None) -> None:
        """The gradient `grad` gets other values in place, and nothing of those that it had is left."""
        if value is not None and _is_zero(value):
            self.zero_grad_of(grad, node, "grad.zero_()")
        else:
            self.emit(node, ev.GradWrite(owner_of(grad), value=value))

    def zero_tensor(self, thing: Thing, node: tree.Node, how: str) -> None:
        while thing.role in ("grad", "data") and thing.parent is not None:
            thing = thing.parent[0]
        self.emit(node, ev.Zero(owner_of(thing), how=how))

    # ------------------------------------------------------------ expressions

    def eval(self, node: tree.Expression) -> Value:
        meter.spent += 1
        meter.left -= 1
        if meter.left < 0:
            raise Stop
        return _EXPRESSIONS[type(node)](self, node)

    def eval_name(self, node: tree.Name) -> Value:
        return self.lookup(node.id, node)

    def lookup(self, name: str, node: tree.Node) -> Value:
        scope: int | None = self.frame.serial
        if name in self.frame.globals:
            scope = self.namespace(self.frame.home)
        while scope is not None:
            value = self.store.get((scope, name))
            if value is not None:
                if isinstance(value, Lazy):
                    value = value.force()
                    self.store[(scope, name)] = value
                if isinstance(value, (FunctionValue, ClassValue)):
                    self.spotted.note(value)
                return value
            scope = self.parents.get(scope)
        if name in _BUILTINS:
            return External(f"builtins.{name}")
        star = self.stars.get(self.frame.home.path)
        if star is not None:
            return External(torch_api.canonical(f"{star}.{name}"))
        thing = Thing("opaque", name, self.place(node), certain=False)
        self.guess(thing)
        self.set(self.frame.serial, name, thing)
        return thing

    def eval_attribute(self, node: tree.Attribute) -> Value:
        base = self.eval(node.value)
        found = [self.attribute(option, node.attr, node) for option in options(base)]
        self.spelling(node, base)
        result = found[0]
        for value in found[1:]:
            result = join(result, value)
        return result

    def spelling(self, node: tree.Attribute, base: Value, called: bool = False) -> None:
        """Tell of a name that is nearly `requires_grad`, and that nothing known has given to the object."""
        if node.attr.startswith("re") and gradflag.misspelt(node.attr):
            if not any((t.serial, node.attr) in self.store for t in things(base)):
                self.emit(node, ev.Misspelt(base, attr=node.attr, called=called))

    def attribute(self, base: Value, attr: str, node: tree.Node) -> Value:
        """What `base.attr` is (a method that is not known gives an opaque thing)."""
        if isinstance(base, ModuleValue):
            value = self.get(self.namespace(base.module), attr)
            if isinstance(value, Lazy):
                value = value.force()
            if value is None:
                sub = self.project.resolve(base.module, attr, 1)
                full = self.project.name_outside(base.module, attr, 1)
                full = f"?.{base.module.name}.{attr}" if full.startswith("?") else full
                value = ModuleValue(sub) if sub else External(torch_api.canonical(full))
            self.spotted.note(value)
            return value
        if isinstance(base, External):
            return External(torch_api.canonical(f"{base.name}.{attr}"))
        if isinstance(base, ClassValue):
            found = base.member(attr)
            self.spotted.note(found)
            if isinstance(found, FunctionValue) and _kind(found.function) == "class":
                return found.bind(base)
            return found if found is not None else Thing("opaque", attr, self.place(node), certain=False)
        if isinstance(base, Thing):
            return self.thing_attribute(base, attr, node)
        if isinstance(base, FunctionValue):
            kept = self.store.get((id(base.function), attr))
            if kept is not None:
                return kept
        if isinstance(base, (Items, Table, Constant, FunctionValue, Partial)):
            return Thing("opaque", attr, self.place(node), deps=depends(base), certain=False)
        return Thing("opaque", attr, self.place(node), certain=False)

    def thing_attribute(self, base: Thing, attr: str, node: tree.Node) -> Value:
        if base.role == "super":
            found = self.super_member(base, attr)
            if found is not None:
                return found
            base = base.detail["self"]
            return Thing("opaque", attr, self.place(node), deps=frozenset({base}), certain=False)
        value = self.store.get((base.serial, attr))
        if value is not None and not _is_none(value):
            return value
        if isinstance(base.cls, ClassValue):
            if not base.ready:
                self.prepare(base, node)
                value = self.store.get((base.serial, attr))
                if value is not None and not _is_none(value):
                    return value
            found = base.cls.member(attr)
            if isinstance(found, FunctionValue):
                kind = _kind(found.function)
                self.spotted.note(found)
                if kind == "property":
                    return self.follow(found.bind(base), Arguments([], {}), node)
                return found if kind == "static" else found.bind(base)
            if found is not None and not _is_none(found):
                read = access.read(self, base, found, node)
                return found if read is None else read
        if attr in ("grad", "_grad") and base.role in ("tensor", "opaque", "parameters"):
            return self.child(base, attr, "grad", node)
        if attr in ("param_groups", "defaults") and base.role == "optimizer":
            base.detail["opened"] = True  # its options may be read and written
        if attr == "param_groups" and base.role in ("optimizer", "opaque"):
            return self.child(base, attr, "groups", node)
        if attr in ("T", "mT", "H") and base.role == "tensor":
            return tensors.derived(self, base, node, attr)
        if attr == "data" and base.role in ("tensor", "grad"):
            return self.child(base, attr, "grad" if base.role == "grad" else "data", node)
        if attr == "module" and base.role == "module" and "wraps" in base.detail:
            wrapped = base.detail["wraps"]
            assert isinstance(wrapped, Thing)
            return wrapped
        return self.child(base, attr, "opaque", node)

    def child(self, base: Thing, attr: str, role: str, node: tree.Node) -> Thing:
        """The part of a thing that is read by an attribute or index: the same one each time."""
        key = (base.serial, f".{attr}")
        found = self.store.get(key)
        if isinstance(found, Thing):
            return found
        deps = depends(base)
        if attr in _NO_GRAPH:
            deps = cut_off(deps)
        thing = Thing(
            role,
            attr.strip("[]'\""),
            self.place(node),
            deps=deps,
            parent=(base, attr),
            summary=base.summary,
            certain=False,
        )
        if role == "opaque":
            self.guess(thing)
        self.store[key] = thing  # not undone: the identity is the same on every path
        if thing.role in KEPT:
            self.keepers.add(base.serial)
        self.names_of.setdefault(base.serial, {})[key[1]] = None
        return thing

    def super_member(self, base: Thing, attr: str) -> Value | None:
        owner = base.detail["owner"]
        receiver = base.detail["self"]
        if isinstance(owner, ClassValue):
            for value in list(owner.lineage())[1:]:
                if isinstance(value, ClassValue) and attr in value.members:
                    found = value.members[attr]
                    return found.bind(receiver) if isinstance(found, FunctionValue) else found
        return None

    def eval_constant(self, node: tree.Constant) -> Value:
        return Constant(node.value)

    def eval_display(self, node: tree.Display) -> Value:
        items: list[Value] = []
        complete = True
        mixed = False
        values: list[Value] = []
        for item in node.items:
            if isinstance(item, tree.Starred):
                inner = self.eval(item.value)
                self.consume(inner, item.value, "*")
                values.append(inner)
                mixed = mixed or (isinstance(inner, Thing) and inner.role == "parameters") or unordered(inner)
                if isinstance(inner, Items):
                    more, whole = limited(inner.items)
                    spend(len(more) // 8)
                    items += more
                    complete = complete and inner.complete and whole
                else:
                    items.append(inner)
                    complete = False
            else:
                items.append(self.eval(item))
                values.append(items[-1])
        if mixed:
            parts = [
                value if isinstance(item, tree.Starred) else Items("list", [value], True, self.place(item))
                for item, value in zip(node.items, values, strict=True)
            ]
            return self.joined(node.kind, parts, node)
        return Items(node.kind, items, complete, self.place(node))

    def joined(self, kind: str, parts: list[Value], node: tree.Node) -> Thing:
        """The elements of several iterables of parameters, one after the other."""
        return Thing(
            "parameters", "", self.place(node), deps=depends(*parts),
            detail={
                "parts": parts, "kind": kind, "how": "joined",
                "unordered": kind == "set" or any(unordered(part) for part in parts),
            },
        )  # fmt: skip

    def eval_dict(self, node: tree.Dict) -> Value:
        entries: dict[object, Value] = {}
        complete = True
        for key, value in node.pairs:
            evaluated = self.eval(value)
            if key is None:
                if isinstance(evaluated, Table):
                    complete = take(entries, evaluated.entries) and complete and evaluated.complete
                else:
                    complete = False
                continue
            known = self.eval(key)
            if isinstance(known, Constant) and known.value is not ...:
                entries[known.value] = evaluated
            else:
                entries[id(value)] = evaluated
                complete = False
        return self.table(entries, complete, node)

    def table(self, entries: dict[object, Value], complete: bool, node: tree.Node) -> Table:
        made = Table(entries, complete, self.place(node))
        made.depth = self.depth
        return made

    def eval_comprehension(self, node: tree.Comprehension) -> Value:
        saved = self.sequence
        self.sequence = tl.Sequence()
        body = self.sequence
        start = new_serial()
        conditions = False
        sources: list[Value] = []
        for target, iterable, tests in node.clauses:
            if not sources:
                self.sequence = saved  # the first iterable is looked at once, before the first round
            value = self.eval(iterable)
            self.iterate(value, iterable)
            self.consume(value, iterable, "comprehension")
            sources.append(value)
            self.sequence = body
            self.assign(target, self.element(value, target), None, quiet=True)
            for test in tests:
                conditions = True
                self.eval(test)
        element = self.eval(node.element)
        mapped = self.eval(node.value) if node.value is not None else None
        self.sequence = saved
        only_one = len(sources) == 1 and isinstance(sources[0], Items) and sources[0].complete
        once = only_one and isinstance(sources[0], Items) and len(sources[0].items) == 1
        loop = tl.Loop(body, node, self.place(node), start=start, once=once) if body.steps else None
        lazy = (
            loop is not None
            and node.kind == "generator"
            and any(isinstance(e, ev.Turning) for e, _ in tl.located(loop))
        )
        if loop is not None and not lazy:
            self.sequence.steps.append(loop)
        found = only(element)
        random = node.kind == "set" or any(unordered(source) for source in sources)
        if found is not None and found.role == "tensor" and node.value is None and "element_of" in found.detail:
            made = Thing(
                "parameters", "", self.place(node), deps=depends(found),
                detail={
                    "of": found.detail["element_of"], "filtered": conditions, "kind": node.kind, "how": node.kind,
                    "unordered": random, "trainable": _asks_for_grad(node),
                },
            )  # fmt: skip
            return self.iterator(made, node)
        if mapped is not None:
            items = only(sources[0])
            state = items.detail.get("items_of") if items is not None else None
            if isinstance(state, Thing) and len(sources) == 1 and _passes_on(node.clauses[0][0], node.value):
                return self.same_state(state, node)
            return Table({id(node): self.each(mapped)}, False, self.place(node))
        for one in things(element, "parameters"):
            one.detail["several"] = True  # another iterator in each round
        made_items = Items(node.kind, [element], False, self.place(node), unordered=random)
        made_items.lazy = loop if lazy else None
        return made_items

    def same_state(self, state: Thing, node: tree.Expression) -> Thing:
        """Another dict of the tensors that a state dict holds."""
        return Thing("state-dict", "", self.place(node), detail=dict(state.detail), certain=state.certain)

    def eval_subscript(self, node: tree.Subscript) -> Value:
        base = self.eval(node.value)
        index = self.eval(node.index)
        key = index.value if isinstance(index, Constant) else ...
        if isinstance(base, Table) and key is not ...:
            found = base.entries.get(key)
            if found is not None:
                return found
        if isinstance(base, Table) and base.entries and any(callables(v) for v in base.entries.values()):
            return Choice(tuple(base.entries.values())[:REPEATS]) if len(base.entries) > 1 else found_one(base)
        if isinstance(base, Items):
            if isinstance(key, int) and base.complete and -len(base.items) <= key < len(base.items):
                return base.items[key]
            element = self.element(base, node)
            if isinstance(key, int):  # one of several that the code tells apart and we do not
                for one in things(element):
                    one.summary = one.summary or one.role == "optimizer"
            return element
        thing = only(base)
        if thing is None:
            if isinstance(base, External) and base.name.startswith("typing"):
                return base
            several = key is ... and isinstance(base, Table)
            deps = depends(base, index)
            return Thing("opaque", tree.last_name(node), self.place(node), deps=deps, summary=several, certain=False)
        if thing.role == "tensor" and thing.detail.get("grad"):
            return tensors.derived(self, thing, node, "[]")
        role = {"groups": "group", "group": "group-params" if key == "params" else "opaque"}.get(thing.role, "opaque")
        if thing.role == "group-params":
            return self.element(thing, node)
        if key is ... or isinstance(node.index, tree.Other):
            part = Thing(
                role, thing.label if thing.role == "opaque" else "", self.place(node),
                deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False,
            )  # fmt: skip
            if role == "opaque":
                self.guess(part)
            return part
        stored = self.store.get((thing.serial, f"[{key}]"))
        if stored is not None:
            return stored
        part = self.child(thing, f"[{key!r}]", role, node)
        if role == "opaque" and isinstance(key, int):
            part.label = thing.label
        return part

    def eval_operation(self, node: tree.Operation) -> Value:
        if node.op in ("and", "or"):
            values = self.in_turn(node)
        else:
            values = [self.eval(o) for o in node.operands]
        if node.op == "%" and isinstance(values[-1], Constant) and type(values[-1].value) is int:
            self.sizes[id(node.operands[-1])] = values[-1].value
        if node.op in ("and", "or", "not", "==", "!=", "is", "is not", "in", "not in", "<", ">", "<=", ">="):
            return self.logic(node.op, values)
        if node.op == "+" and isinstance(values[0], Items) and isinstance(values[-1], Items):
            return self.added(values[0], values[-1], node)
        if node.op == "+" and all(_listed(v) for v in values):
            return self.joined("list", values, node)
        if node.op in ("-", "|", "&", "^") and all(_kind_of(v) == "set" for v in values):
            if all(isinstance(v, Items) for v in values):
                items = [i for v in values for i in (v.items[: limits.ITEMS] if isinstance(v, Items) else [])]
                return Items("set", items, False, self.place(node))
            result = self.joined("set", values, node)
            result.detail["filtered"] = True
            return result
        if all(isinstance(v, Constant) for v in values):
            return Constant(...)
        return self.computed(node, values)

    def in_turn(self, node: tree.Operation) -> list[Value]:
        """The operands of `and` and `or`: the second is looked at on some paths only, if the first does not tell."""
        first = self.eval(node.operands[0])
        told = isinstance(first, Constant) and first.value is not ... and not self.trying
        if told and isinstance(first, Constant) and bool(first.value) == (node.op == "or"):
            return [first, NONE]
        found: list[Value] = []

        def second() -> bool:
            found.append(self.eval(node.operands[1]))
            return False

        if told:
            second()
            return [first, *found]
        sequences, _ = self.arms([second, lambda: False], node)
        if sequences[0].steps:
            self.sequence.steps.append(tl.Branch(None, sequences, self.place(node)))
        return [first, *found]

    def computed(self, node: tree.Node, values: list[Value]) -> Value:
        """The result of arithmetic: not a leaf if a trained tensor takes part, scaled if a scaled loss does."""
        for value in values:
            scaled = only(value, "loss-scaled")
            if scaled is not None:
                return Thing(
                    "loss-scaled", "", self.place(node), deps=depends(*values), detail=scaled.detail, certain=False
                )
            for thing in things(value, "tensor"):
                if thing.detail.get("grad"):
                    result = tensors.derived(self, thing, node, "computed")
                    result.label, result.deps = "", depends(*values)
                    result.detail["leaves"] = _leaves_of_all(values)
                    return result
        return Thing("opaque", "", self.place(node), deps=depends(*values), certain=False)

    def logic(self, op: str, values: list[Value]) -> Value:
        first = values[0]
        if op == "not":
            if isinstance(first, Constant) and first.value is not ...:
                return Constant(not first.value)
            return Constant(False) if _truthy(first) else Constant(...)
        if op in ("and", "or"):
            if isinstance(first, Constant) and first.value is not ...:
                return values[1] if bool(first.value) == (op == "and") else first
            second = values[1]
            if isinstance(second, Constant) and second.value is not ... and bool(second.value) != (op == "and"):
                if isinstance(second.value, bool):
                    return second if op == "and" else Constant(...)
            if _truthy(first):
                return second if op == "and" else first
            if op == "or":
                return join(first, second)
            return Thing("opaque", "", deps=depends(*values), certain=False)
        if len(values) == 2:
            a, b = values
            if op in ("is", "is not", "==", "!="):
                if _is_none(b) and _truthy(a):
                    return Constant(op in ("is not", "!="))
                if isinstance(a, Constant) and isinstance(b, Constant) and ... not in (a.value, b.value):
                    return Constant((a.value == b.value) == (op in ("is", "==")))
            if op in ("in", "not in") and isinstance(a, Constant) and isinstance(b, Items) and b.complete:
                if a.value is not ... and all(isinstance(i, Constant) and i.value is not ... for i in b.items):
                    inside = any(isinstance(i, Constant) and i.value == a.value for i in b.items)
                    return Constant(inside == (op == "in"))
        return Thing("opaque", "", deps=frozenset(), certain=False)

    def eval_conditional(self, node: tree.Conditional) -> Value:
        known = self.truth(node.test, self.eval(node.test))
        if known is not None:
            return self.eval(node.body if known else node.orelse)
        found: list[Value] = []

        def arm(expression: tree.Expression) -> Callable[[], bool]:
            def run() -> bool:
                found.append(self.eval(expression))
                return False

            return run

        sequences, _ = self.arms([arm(node.body), arm(node.orelse)], node, node.test)
        if any(s.steps for s in sequences):
            self.sequence.steps.append(tl.Branch(node.test, sequences, self.place(node)))
        result = join(found[0], found[1])
        if isinstance(result, Thing) and result.place is None:
            result.place = self.place(node)
        return result

    def eval_lambda(self, node: tree.Lambda) -> Value:
        return self.function_value(node.function)

    def eval_starred(self, node: tree.Starred) -> Value:
        return self.eval(node.value)

    def eval_named(self, node: tree.Named) -> Value:
        value = self.eval(node.value)
        self.assign(node.target, value, node.value)
        return value

    def eval_other(self, node: tree.Other) -> Value:
        values = [self.eval(part) for part in node.parts]
        if node.kind in ("Yield", "YieldFrom"):
            yields.at_yield(self, node, values)
            return Thing("opaque", "", certain=False)  # what is sent to it
        return Thing("opaque", "", deps=depends(*values), certain=False)

    # ------------------------------------------------------------ iteration

    def element(self, value: Value, node: tree.Node) -> Value:
        """What a loop over the value binds."""
        if isinstance(value, Items) and value.items:
            spend(len(value.items))
            result = value.items[0]
            for item in value.items[1:]:
                result = join(result, item)
            return self.each(result)
        several = [thing for thing in things(value) if thing.role in ("parameters", "groups", "group-params")]
        if len(several) > 1:  # `for group in (first if … else second).param_groups`
            result = self.element(several[0], node)
            for thing in several[1:]:
                result = join(result, self.element(thing, node))
            return result
        for thing in things(value):
            if thing.role == "parameters":
                if thing.detail.get("named"):
                    return Items("tuple", [Constant(...), self.parameter_of(thing, node)])
                return self.parameter_of(thing, node)
            if thing.role == "groups":
                return Thing("group", "", self.place(node), deps=thing.deps, parent=(thing, "[]"), summary=True)
            if thing.role == "group-params":
                return self.parameter_of(thing, node)
            return Thing(
                "opaque", "", self.place(node), deps=depends(thing), parent=(thing, "[]"), summary=True, certain=False
            )
        return Thing("opaque", "", self.place(node), deps=depends(value), summary=True, certain=False)

    def each(self, value: Value) -> Value:
        """One of several values: which runs of modules it comes from is another matter for each."""
        if isinstance(value, Items) and any(passes(item) for item in value.items):
            return Items(value.kind, [self.each(item) for item in value.items], value.complete, value.place)
        if isinstance(value, Thing) and value.role == "opaque" and passes(value):
            return Thing("opaque", value.label, value.place, deps=cut_off(value.deps), summary=True, certain=False)
        return value

    def iterate(self, value: Value, node: tree.Expression) -> None:
        """Tell what a loop goes over where it is looked up there, not made by a call."""
        if isinstance(node, tree.Attribute):
            self.emit(node, ev.Iterate(value=value, expression=node))

    def parameter_of(self, source: Thing, node: tree.Node) -> Thing:
        return Thing(
            "tensor", "", self.place(node), deps=depends(source), summary=True,
            detail={"element_of": source, "leaf": True, "grad": True},
        )  # fmt: skip

    def consume(self, value: Value, node: tree.Node, by: str) -> None:
        """Tell that an iterator is used up; with several values to choose from, that it may be."""
        sure = sum(1 for option in options(value) if not _is_none(option)) == 1
        for option in options(value):
            if isinstance(option, Items) and option.lazy is not None:
                self.sequence.steps.append(option.lazy)
                option.lazy = None
        generator = yields.running(value)
        if generator is not None and by != "for, left early" and by != "for":
            if turns(self, generator.target, node, generator.args):
                unknown(self, node, held(self, generator.target, *generator.args.all()).subject, by)
        for thing in things(value, "parameters"):
            if thing.detail.get("kind") == "generator":
                self.emit(node, ev.Consume(thing, by=by if sure and not thing.detail.get("several") else "?"))

    def iterator(self, thing: Thing, node: tree.Node) -> Thing:
        """Tell of a new iterator over parameters, which can be used up."""
        if thing.detail.get("kind") == "generator":
            self.emit(node, ev.NewIterator(thing))
        return thing

    def escape(self, values: Iterable[Value]) -> None:
        """Code that cannot be seen gets hold of values: it may fill lists, and do anything to what has an identity."""
        todo = list(values)
        while todo:
            for option in options(todo.pop()):
                spend(1)
                if isinstance(option, (Items, Table)):
                    if not (isinstance(option, Items) and option.kind == "tuple"):
                        option.complete = False
                    inner = option.items if isinstance(option, Items) else option.entries.values()
                    fresh = len(inner) - option.escaped
                    option.escaped = len(inner)
                    if fresh > 0:  # what was in it before is out already
                        todo += [value for value, _ in zip(reversed(inner), range(fresh), strict=False)]
                elif isinstance(option, Thing) and option.role in _ESCAPING:
                    option.root.detail.setdefault("escaped", new_serial())  # since when

    # ------------------------------------------------------------ calls

    def eval_call(self, node: tree.Call) -> Value:
        self.steps += 1
        if self.steps > self.budget:
            raise Stop
        return self.caller(self, node)

    def arguments(self, node: tree.Call) -> Arguments:
        positional: list[Value] = []
        keywords: dict[str, Value] = {}
        open, sure = False, None
        for argument in node.args:
            value = self.eval(argument.value)
            if argument.star == "*":
                if isinstance(value, Items) and value.complete:
                    more, whole = limited(value.items)
                    positional += more
                    open = open or not whole
                else:
                    sure = len(positional) if sure is None else sure
                    positional.append(merged([value]))
                    open = True
            elif argument.star == "**":
                if isinstance(value, Table):
                    known = {str(k): v for k, v in value.entries.items() if k not in value.maybe}
                    open = not take(keywords, known) or open or not value.complete or bool(value.maybe)
                else:
                    open = True
                    keywords.setdefault("**", value)
            elif argument.keyword is not None:
                keywords[argument.keyword] = value
            else:
                positional.append(value)
        return Arguments(positional, keywords, open, sure)

    def follow(
        self,
        target: FunctionValue,
        args: Arguments | None,
        node: tree.Node | None,
        *,
        forced: bool = False,
        yielding: yields.Yielding | None = None,
    ) -> Value:
        """Run a function of the project in place; args None stands for unknown ones."""
        function = target.function
        matters, sight, found = True, None, None
        if args is not None:
            active = sum(f.function is function for f in self.frames) > (2 if _counts(args) else 0)
            times = self.followed.get(id(function), 0)
            self.followed[id(function)] = times + 1
            plain = target.receiver is None and all(_plain(a) for a in args.all())
            if plain and id(function) in self.idle and not held(self, target):
                return Thing("opaque", function.name, self.place(node) if node is not None else None, certain=False)
            far = active or times >= REPEATS or self.steps > self.budget // 2 or len(self.frames) > DEPTH
            heavy = self.costs.get(id(function), 0) > HEAVY
            if heavy or not (far or forced or yielding is not None):
                matters, sight, found = self.matters(target, args)
            if heavy and matters:
                far = True
                if self.timeline is not None:
                    self.timeline.cut = self.timeline.skipped = True
            if far or (yielding is None and not forced and not matters):
                result = Thing("opaque", function.name, self.place(node) if node is not None else None, certain=False)
                result.deps = cut_off(depends(target.receiver, *args.all()))
                result.detail.update(made_of(args.all()))
                self.escape(args.all())
                if node is not None:
                    for value in args.all():
                        self.consume(value, node, "?")
                if node is not None and far:
                    self.out_of_sight(target, args, node)
                if node is not None and self.trains and function.name not in ("forward", "__call__"):
                    found = handed(self, target, args.all()) if found is None else found
                    parts.may_grow(self, node, found, [target.receiver, *args.all()], function)
                return result
        spend(10)
        self.reached.add(id(function))
        body = function.body
        home = target.home
        frame = Frame(home, home.chunks.get(id(function)) or self.chunk_of[id(function)], function, target.scope)
        frame.owner, frame.self = target.owner, target.receiver
        frame.yielding = yielding
        self.parents[frame.serial] = target.scope
        self.homes[frame.serial] = home
        if self.frames:
            frame.context = self.frame.context - {"try"}
        saved = self.sequence
        self.sequence = tl.Sequence()
        inner = self.sequence
        before, turned_before = self.steps, self.turned
        self.frames.append(frame)
        try:
            self.bind(function, target, args)
            for decorator in function.decorators:
                name = tree.last_name(decorator)
                if name in ("no_grad", "inference_mode"):
                    frame.context |= {name}
            ended = self.block(body)
        except Stop:
            inside = node is not None and len(self.frames) > 1
            place = Place(self.frames[-2].chunk, node) if inside and node is not None else Place(frame.chunk, function)
            self.cut_short(saved, tl.Call(inner, function, place))
            raise
        finally:
            self.frames.pop()
            self.sequence = saved
            self.costs[id(function)] = self.costs.get(id(function), 0) + self.steps - before
        turned = self.turned - turned_before
        if turned > len(frame.again):
            self.turning.add(id(function))
            if id(function) not in self.clearing and any(isinstance(event, ev.Zero) for event in tl.inside(inner)):
                self.clearing.add(id(function))
        else:
            for sequence, event in frame.again:
                sequence.steps.remove(event)  # it calls itself, and turns nothing
        returns: list[Value] = frame.returns or [NONE]
        if sight is not None and not turned and not any(tracked(r) for r in returns):
            self.quiet.add(sight)
        if not any(not isinstance(s, tl.Jump) for s in inner.steps):
            if args is not None and target.receiver is None and all(_plain(a) for a in args.all()):
                self.idle.add(id(function))
        elif inner.steps:
            place = Place(self.frame.chunk, node) if node is not None and self.frames else Place(frame.chunk, function)
            if yielding is not None and yielding.around:
                saved.steps.append(inner)  # a jump in the body of a `with` leaves more than the context manager
            else:
                saved.steps.append(tl.Call(inner, function, place))
        if not ended and frame.returns:
            returns = [*frame.returns, NONE]
        result_value = returns[0]
        for value in returns[1:]:
            result_value = join(result_value, value)
        return result_value

    def matters(self, target: FunctionValue, args: Arguments) -> tuple[bool, Hashable, Holdings | None]:
        """Whether a call can matter: by the function's text, or by what it is handed or holds.

        With it, where its text says nothing, what its events and the identity of its result can depend on, and what it
        is handed or holds.
        """
        if self.trying or self.relevant(target.function):
            return True, None, None
        if not self.trains:
            return False, None, None
        found = handed(self, target, args.all())
        if not found:
            return False, None, found
        sight = id(target.function), found.key, tuple(args.keywords)
        return found.anything or sight not in self.quiet, sight, found

    def out_of_sight(self, target: FunctionValue, args: Arguments, node: tree.Node) -> None:
        """A call that is not followed any more may turn the cycle, unless it was seen not to."""
        function = target.function
        found = handed(self, target, args.all())
        if not found and not self.relevant(function):
            return
        module = target.receiver if isinstance(target.receiver, Thing) and target.receiver.role == "module" else None
        if module is not None and function.name == "forward" and not self.may_turn(function):
            if not any(t.role == "optimizer" for t in found.things.values()):
                return  # a forward pass computes, unless something speaks for more
        for frame in self.frames:
            # whether it turns anything shows when the call under way is over
            if frame.function is function and not _counts(args):
                frame.again.append((self.sequence, unknown(self, node, found.subject, function.name)))
                return
        tried = id(function) in self.reached and not any(callables(value) for value in args.all())
        if tried and id(function) not in self.turning and not any(t.role == "optimizer" for t in found.things.values()):
            return
        event = unknown(self, node, found.subject, function.name)
        event.clears = id(function) in self.clearing

    def bind(self, function: tree.Function, target: FunctionValue, args: Arguments | None) -> None:
        scope = self.frame.serial
        parameters = list(function.parameters)
        positional = list(args.positional) if args is not None else []
        surely = args.sure if args is not None else 0
        spend(len(parameters) + len(positional))
        if target.receiver is not None and parameters and _kind(function) != "static":
            first = parameters.pop(0)
            self.set(scope, first.name, target.receiver)
        for parameter in parameters:
            if parameter.star == "*":
                self.set(scope, parameter.name, Items("tuple", positional, args is not None and not args.open))
                positional = []
                continue
            if parameter.star == "**":
                entries: dict[object, Value] = {}
                if args is not None:
                    known = {p.name for p in parameters}
                    entries = {k: v for k, v in args.keywords.items() if k not in known}
                self.set(scope, parameter.name, Table(entries, args is not None and not args.open))
                continue
            value: Value | None = None
            if args is not None:
                if positional and surely > 0:
                    value = positional.pop(0)
                    surely -= 1
                elif parameter.name in args.keywords:
                    value = args.keywords[parameter.name]
                elif parameter.default is not None and not args.open:
                    value = self.eval(parameter.default)
            if value is None:
                value = self.unknown_parameter(parameter)
                if args is not None and args.open:
                    value.detail.update(made_of(args.all()))
            else:
                value = _as_annotated(value, parameter)
                self.name_thing(value, parameter.name)
            self.set(scope, parameter.name, value)

    def unknown_parameter(self, parameter: tree.Parameter) -> Thing:
        thing = Thing("opaque", parameter.name, certain=False)
        thing.detail["parameter"] = True
        hint = tree.last_name(parameter.annotation)
        if hint in torch_api.FOREIGN_OPTIMIZERS or hint == "Optimizer":
            thing.role = "optimizer"
        elif hint == "Module":
            thing.role = "module"
        elif hint == "GradScaler":
            thing.role = "scaler"
        else:
            self.guess(thing)
        return thing

    def new_instance(self, cls: ClassValue, place: Place | None) -> Thing:
        role = "instance"
        if cls.derives("torch.optim.Optimizer", "Optimizer") or any(
            isinstance(b, External) and torch_api.role_of_class(b.name) == "optimizer" for b in cls.lineage()
        ):
            role = "optimizer"
        elif cls.derives("torch.nn.Module", "LightningModule") or any(
            isinstance(b, External) and torch_api.role_of_class(b.name) == "module" for b in cls.lineage()
        ):
            role = "module"
        elif any(isinstance(b, External) and torch_api.role_of_class(b.name) == "scheduler" for b in cls.lineage()):
            role = "scheduler"
        return Thing(role, "", place, cls=cls)

    def prepare(self, thing: Thing, node: tree.Node | None, args: Arguments | None = None) -> None:
        """Interpret the `__init__` of an instance, once, when something of it is asked for."""
        if thing.ready or not isinstance(thing.cls, ClassValue):
            return
        thing.ready = True
        init = thing.cls.member("__init__")
        if isinstance(init, FunctionValue):
            if sum(1 for f in self.frames if f.function is init.function) or len(self.frames) > DEPTH:
                return
            saved = self.sequence
            if args is None and self.frames:
                self.sequence = tl.Sequence()  # asked for long after it was made: these events are past
            if args is None:
                args = thing.detail.get("args")
            self.run_init(init.bind(thing), args, node)
            self.sequence = saved

    def run_init(self, init: FunctionValue, args: Arguments | None, node: tree.Node | None) -> None:
        receiver, making = init.receiver, self.making
        if making is None and isinstance(receiver, Thing) and receiver.role == "module":
            self.making = receiver.serial
        try:
            self.follow(init, args, node)
        finally:
            self.making = making


def _as_annotated(value: Value, parameter: tree.Parameter) -> Value:
    """What a parameter is bound to: `parameters()` of an unknown object is a list where the function asks for one."""
    if tree.last_name(parameter.annotation).lower() not in ("sequence", "list", "tuple", "collection"):
        return value
    thing = only(value, "parameters")
    of = thing.detail.get("of") if thing is not None and thing.detail.get("how") == "parameters" else None
    if thing is None or not isinstance(of, Thing) or of.core.certain:
        return value
    detail = {**thing.detail, "kind": "list"}
    return Thing("parameters", thing.label, thing.place, deps=thing.deps, detail=detail, certain=False)


def found_one(table: Table) -> Value:
    """The only value of a dict."""
    return next(iter(table.entries.values()))


def take(entries: dict[Any, Value], more: dict[Any, Value]) -> bool:
    """Put entries into a table that is made of others; False if these are too many to take all."""
    spend(min(len(more), limits.ITEMS) // 8)
    if len(entries) + len(more) <= limits.ITEMS:
        entries.update(more)
        return True
    for key, value in more.items():
        if len(entries) < limits.ITEMS or key in entries:
            entries[key] = value
    return False


def owner_of(thing: Thing) -> Thing:
    """Whose gradient it is: the module or optimizer whose parameters are looped over, or the tensor itself."""
    source = thing
    for _ in range(12):
        inner = source.detail.get("element_of") or (source.detail.get("of") if source.role == "parameters" else None)
        if isinstance(inner, Thing):
            source = inner
        elif source.role in ("group-params", "group", "groups", "grad", "data") and source.parent is not None:
            source = source.parent[0]
        else:
            break
    return source


_NO_GRAPH = frozenset({"data", "shape", "dtype", "device", "grad", "ndim", "is_leaf", "requires_grad"})
_ESCAPING = frozenset({"optimizer", "module", "tensor", "state-dict", "instance"})
_HELD = frozenset({"optimizer", "module", "scaler", "scheduler", "tensor", "parameters"})


def _kind(function: tree.Function) -> str:
    for decorator in function.decorators:
        name = tree.last_name(decorator)
        if name in ("property", "cached_property"):
            return "property"
        if name == "staticmethod":
            return "static"
        if name == "classmethod":
            return "class"
        if name in ("setter", "deleter"):
            return "setter"
    return "plain"


def _plain(value: Value) -> bool:
    """Nothing whose identity matters."""
    return isinstance(value, Constant) or (isinstance(value, Thing) and value.role == "opaque" and not value.deps)


def _flat(body: Iterable[tree.Statement]) -> Iterable[tree.Statement]:
    """The statements of a class body, those in branches, loops and `try` among them."""
    for statement in body:
        if isinstance(statement, (tree.If, tree.For, tree.While)):
            yield from _flat([*statement.body, *statement.orelse])
        elif isinstance(statement, tree.With):
            yield from _flat(statement.body)
        elif isinstance(statement, tree.Try):
            handlers = [inner for handler in statement.handlers for inner in handler]
            yield from _flat([*statement.body, *handlers, *statement.orelse, *statement.final])
        else:
            yield statement


def _counts(args: Arguments) -> bool:
    """Whether a call that calls itself counts something down, so that it does not do the same each time."""
    return any(isinstance(value, Constant) for value in args.all())


def _none(node: tree.Expression) -> bool:
    return isinstance(node, tree.Constant) and node.value is None


def _is_none(value: Value) -> bool:
    return isinstance(value, Constant) and value.value is None


def _is_zero(value: Value) -> bool:
    return isinstance(value, Constant) and value.value == 0 and not isinstance(value.value, bool)


def _whole(index: tree.Expression) -> bool:
    """Whether an index is that of all elements: `[:]` or `[...]`."""
    if isinstance(index, tree.Constant):
        return index.value is ...
    return isinstance(index, tree.Other) and index.kind == "Slice" and not index.parts


def _truthy(value: Value) -> bool:
    """Whether the value is an object that is never None or false."""
    if isinstance(value, Thing):
        return value.role in ("optimizer", "module", "scaler", "scheduler") and value.certain
    return isinstance(value, (FunctionValue, ClassValue, ModuleValue))


def _alike(a: Value, b: Value) -> bool:
    """Two choices of the same options."""
    return len(options(a)) == len(options(b)) and all(any(x is y for y in options(b)) for x in options(a))


def _carries(value: Value) -> bool:
    """Something computed, which takes its graph from one round of a loop into the next."""
    return isinstance(value, Thing) and value.role == "opaque" and bool(passes(value))


def _passive(value: Value) -> bool:
    """A start value that nothing is lost by forgetting."""
    if isinstance(value, Thing):
        return value.role == "opaque" or (value.role == "tensor" and not value.detail.get("grad"))
    return isinstance(value, (Constant, Items))


def _sites(value: Value) -> set[int]:
    """The calls of modules that the graph of a value goes through."""
    return {id(t.place.node) for t in passes(value) if t.place is not None}


def _range_of_one(node: tree.Call) -> bool:
    return (
        isinstance(node.func, tree.Name)
        and node.func.id == "range"
        and len(node.args) == 1
        and isinstance(node.args[0].value, tree.Constant)
        and node.args[0].value.value == 1
    )


def _kind_of(value: Value) -> str:
    """list, tuple, set or generator; "" for what is none of them."""
    if isinstance(value, Items):
        return value.kind
    return str(value.detail.get("kind", "")) if isinstance(value, Thing) and value.role == "parameters" else ""


def _listed(value: Value) -> bool:
    return _kind_of(value) in ("list", "tuple")


def _asks_for_grad(node: tree.Comprehension) -> bool:
    """Whether the conditions pick the parameters that require grad, and do nothing else."""
    tests = [test for _, _, tests in node.clauses for test in tests]
    return len(tests) == 1 and isinstance(tests[0], tree.Attribute) and tests[0].attr == "requires_grad"


def _leaves(body: tree.Block) -> bool:
    """Whether a loop may be left before its iterator is used up."""
    return any(
        isinstance(n, tree.Return) or (isinstance(n, tree.Jump) and n.kind == "break") for n in tree.walk_block(body)
    )


def _breaks(body: tree.Block) -> bool:
    for statement in body:
        if isinstance(statement, tree.Jump) and statement.kind == "break":
            return True
        if isinstance(statement, tree.If) and (_breaks(statement.body) or _breaks(statement.orelse)):
            return True
        if isinstance(statement, tree.With) and _breaks(statement.body):
            return True
        if isinstance(statement, tree.Try) and (
            _breaks(statement.body) or any(_breaks(h) for h in statement.handlers) or _breaks(statement.orelse)
        ):
            return True
        if isinstance(statement, tree.Match) and any(_breaks(a) for a in statement.arms):
            return True
    return False


def _assigned(body: tree.Block) -> dict[str, None]:
    """The plain names that statements assign, in the order of the code."""
    names: dict[str, None] = {}
    for node in tree.walk_block(body):
        if isinstance(node, tree.Assign):
            for target in node.targets:
                names.update((name.id, None) for name in _names_in(target))
        elif isinstance(node, (tree.Augment, tree.Named, tree.For)):
            names.update((name.id, None) for name in _names_in(node.target))
    return names


def _names_in(target: tree.Expression) -> Iterator[tree.Name]:
    """The plain names that a target binds."""
    if isinstance(target, tree.Name):
        yield target
    elif isinstance(target, tree.Display):
        for item in target.items:
            yield from _names_in(item)


def _passes_on(target: tree.Expression, value: tree.Expression | None) -> bool:
    """Whether `{…: value for target in state.items()}` keeps the tensors: only `.data`, `.detach()`, `.cpu()`."""
    if not isinstance(target, tree.Display) or len(target.items) != 2:
        return False
    while True:
        if isinstance(value, tree.Attribute) and value.attr == "data":
            value = value.value
        elif isinstance(value, tree.Call) and isinstance(value.func, tree.Attribute) and not value.args:
            if value.func.attr not in ("detach", "cpu"):
                return False
            value = value.func.value
        else:
            return isinstance(value, tree.Name) and value.id == tree.dotted(target.items[1])


def _leaves_of_all(values: Iterable[Value]) -> frozenset[Thing] | None:
    """The tensors that values were computed from, if the code shows all of them."""
    found = [frozenset[Thing]() if isinstance(value, Constant) else leaves_of(value) for value in values]
    known = [leaves for leaves in found if leaves is not None]
    return united(*known) if len(known) == len(found) else None


def _is_package(module: Module) -> bool:
    return str(module.file.real).endswith("__init__.py")


_BUILTINS = frozenset(dir(builtins))

_STATEMENTS: dict[type, Callable[[Interpreter, Any], bool]] = {
    tree.Evaluate: Interpreter.do_evaluate,
    tree.Assign: Interpreter.do_assign,
    tree.Augment: Interpreter.do_augment,
    tree.Return: Interpreter.do_return,
    tree.Raise: Interpreter.do_raise,
    tree.Jump: Interpreter.do_jump,
    tree.Delete: Interpreter.do_delete,
    tree.Assert: Interpreter.do_assert,
    tree.Import: Interpreter.do_import,
    tree.Scope: Interpreter.do_scope,
    tree.If: Interpreter.do_if,
    tree.For: Interpreter.do_for,
    tree.While: Interpreter.do_while,
    tree.Try: Interpreter.do_try,
    tree.With: Interpreter.do_with,
    tree.Match: Interpreter.do_match,
    tree.Function: Interpreter.do_function,
    tree.Class: Interpreter.do_class,
}

_EXPRESSIONS: dict[type, Callable[[Interpreter, Any], Value]] = {
    tree.Name: Interpreter.eval_name,
    tree.Attribute: Interpreter.eval_attribute,
    tree.Constant: Interpreter.eval_constant,
    tree.Display: Interpreter.eval_display,
    tree.Dict: Interpreter.eval_dict,
    tree.Comprehension: Interpreter.eval_comprehension,
    tree.Subscript: Interpreter.eval_subscript,
    tree.Operation: Interpreter.eval_operation,
    tree.Conditional: Interpreter.eval_conditional,
    tree.Lambda: Interpreter.eval_lambda,
    tree.Starred: Interpreter.eval_starred,
    tree.Named: Interpreter.eval_named,
    tree.Other: Interpreter.eval_other,
    tree.Call: Interpreter.eval_call,
}
