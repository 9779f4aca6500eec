"""The state of a run: what names stand for, which frames are open, what has happened so far.

It knows no syntax. What a node means, how a function is followed and what is known of libraries it is given when it is
built (`Language`, `Library`): so the modules of a construct or a library import the machine, and it imports none of
them. Both arms of a branch are taken and the values joined after it (`arms`), so all writes go through an undo log.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from gradcheck_lint.source import events as ev
from gradcheck_lint.source import limits, tree
from gradcheck_lint.source import timeline as tl
from gradcheck_lint.source.effort import Purse, Stop, meter, spend
from gradcheck_lint.source.joins import join
from gradcheck_lint.source.place import Chunk, Place
from gradcheck_lint.source.project import Broken, Module, Project
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.holdings import KEPT
from gradcheck_lint.source.run.passing import Passing
from gradcheck_lint.source.run.spotted import Spotted
from gradcheck_lint.source.values import ClassValue, Constant, External, FunctionValue, Thing, Value, new_serial, things

if TYPE_CHECKING:
    from gradcheck_lint.source.amounts import Amount
    from gradcheck_lint.source.run.generators import Yielding


Function = Callable[["Machine", Arguments, tree.Call], Value | None]
"""What a function outside the project gives for some arguments; None if it does nothing that is known here."""

Method = Callable[["Machine", Value, Arguments, tree.Call], Value | None]
"""The same for a method, which is given its object first."""


class Follow(Protocol):
    """Runs a function of the project in place; `args` None stands for unknown ones."""

    def __call__(
        self,
        machine: Machine,
        target: FunctionValue,
        args: Arguments | None,
        node: tree.Node | None,
        *,
        forced: bool = False,
        yielding: Yielding | None = None,
    ) -> Value: ...


class Language(NamedTuple):
    """What code means: the handler of each type of node, and the verbs by which handlers call one another."""

    expressions: Mapping[type, Callable[[Machine, Any], Value]]
    statements: Mapping[type, Callable[[Machine, Any], bool]]  # True if the end is never reached
    call: Callable[[Machine, Value, Arguments, tree.Call], Value]
    follow: Follow
    prepare: Callable[[Machine, Thing, tree.Node | None, Arguments | None], None]
    namespace: Callable[[Machine, Module], int]


class Library(NamedTuple):
    """What is known of code outside the project: by full name, by the name of a method, and of all the rest."""

    functions: Mapping[str, Function]
    methods: Mapping[str, Method]
    outside: Callable[[Machine, External, Arguments, tree.Call], Value]  # calls a name that leads out of the project
    method: Callable[[Machine, Value, str, Arguments, tree.Call], Value]  # calls a method that is no code of it


MISSING = Constant(...)


Emitted = TypeVar("Emitted", bound=ev.Event)


class Frame:
    """A function being run."""

    __slots__ = (
        "again",
        "captured",
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
        self.yielding: Yielding | None = None  # what to do where it yields
        self.captured = False  # something was defined in it that can read its names later


class Machine:
    """All that a run of the code of a project knows; `timelines` collects what each entry point causes."""

    def __init__(
        self,
        project: Project,
        relevant: Callable[[tree.Function], bool],
        may_turn: Callable[[tree.Function], bool],
        broken: Broken,
        language: Language,
        library: Library,
    ) -> None:
        """`broken` is told of a module whose own code could not be followed to its end."""
        self.project, self.relevant, self.broken = project, relevant, broken
        self.language, self.library = language, library
        self.may_turn = may_turn
        self.store: dict[tuple[int, str], Value] = {}
        self.undo: list[dict[tuple[int, str], Value]] = []
        self.frames: list[Frame] = []
        self.parents: dict[int, int | None] = {}  # scope → enclosing scope
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
        self.instances: dict[int, tuple[Thing, tl.Opening]] = {}
        self.unmade: set[int] = set()  # classes whose instance was made in part only, as that was too much
        self.spent, self.budget = 0, limits.BUDGET
        self.steps = 0
        self.turned = 0  # events so far that turn the cycle, or may
        self.switched = 0  # events so far that switch a mode, or may
        self.acted = 0  # those of them that are no calls of code that was not seen
        self.timeline: tl.Timeline | None = None
        self.children: dict[int, list[ClassValue]] = {}  # class → classes derived from it
        self.places: dict[int, Place] = {}
        self.chunk_of: dict[int, Chunk] = {}  # nested function → the chunk that it was parsed in
        self.followed: dict[int, int] = {}  # function → times followed for this entry point
        self.spotted = Spotted()  # what this entry point had in its hands
        self.passing = Passing()  # what it has read from its own things
        self.costs: dict[int, int] = {}  # function → calls and statements run in it, for all entry points
        self.lengthy: dict[int, int] = {}  # function → how many calls of it were long ones,
        self.lengthy_calls = limits.AT_LEAST  # and as many may be
        self.quiet: set[Hashable] = set()  # calls that turned and switched nothing, and gave nothing with an identity
        self.idle: set[int] = set()  # functions that do nothing that matters when given plain values
        self.depth = 0  # branches around the statement being run
        self.turning: set[int] = set()  # functions that turned the gradient cycle when they were followed
        self.acting: set[int] = set()  # those of them that did so by more than calls of code that was not seen:
        # where one of the others is not followed, the call is told of as such a call itself, and nothing is missed
        self.switching: set[int] = set()  # functions that switched a mode when they were followed
        self.clearing: set[int] = set()  # those of them that cleared gradients
        self.sizes: dict[int, Amount] = {}  # what stands behind a `%` or a count, in a test or before it
        self.ending: dict[int, tree.While] = {}  # statement that sets the flag by which a loop ends → the loop
        self.ended: dict[int, dict[int, tl.Sequence]] = {}  # loop → the sequences in which its flag was set
        self.looping = 0  # loops around the statement being run
        self.unsettled = False  # a loop inside of the one being run would have to be run again
        self.unrolled = 1  # how often the statement being run is run for loops over known lists
        self.purse = Purse(limits.ENTRY_WORK, 0)
        self.assigned: dict[int, dict[str, None]] = {}  # body of a loop → the names that it assigns
        self.left_early: dict[int, bool] = {}  # loop → whether it may be left before its iterator is used up
        self.weights: dict[int, bool] = {}  # module class → whether layers with weights are made in it
        self.names_of: dict[int, dict[str, None]] = {}  # scope or thing → the names that were ever bound in it
        self.making: int | None = None  # serial of the module whose `__init__` runs: what is newer is in no optimizer
        self.births: dict[int, tuple[int, int]] = {}  # module → branches and loops around its constructor, if followed
        self.twins: dict[int, Thing | None] = {}  # module → another one, made as it was: see `members`
        self.partial: set[int] = set()  # modules some method of which was called and not followed
        self.optimizes = False  # an optimizer was built, which may have taken the parameters of a model
        self.putting: dict[int, bool] = {}  # function → whether it puts new parts into something, by its text
        self.loaded = False  # some state was loaded, which may be lost
        self.first_values: dict[int, frozenset[str]] = {}  # function → what it initialises of what it is given
        self.grown = 0  # when code that can reach all there is may last have put parts into modules; 0: never
        self.dims: dict[int, int] = {}  # what arithmetic gave in a constructor → how many dimensions it has
        self.replaced: set[str] = set()  # attributes of torch that the code gives another value
        self.patched = False  # something outside the project was replaced by what may turn the cycle
        self.generators: dict[int, bool] = {}  # function → whether it yields
        self.tried: dict[Hashable, bool] = {}  # functions that were run so, and what they hold → whether they turn it
        self.trains = True  # the module of the entry point speaks of training; else nothing in it can be judged
        self.graded = False  # somewhere, `.grad` of something was read
        self.looking = False  # a function is gone through for its result alone: nothing that happens in it is kept
        self.looks: dict[int, tuple[int, int]] = {}  # function → how often, and the work it took
        self.looked_at = 0  # how much work that was
        self.loading: dict[int, bool] = {}  # functions by their ids, and whether they make what training goes over
        self.unready: dict[Thing, bool] = {}  # what is prepared meanwhile, and whether it was before
        self.trying = False  # a function is run with unknown arguments, to see whether it turns the cycle
        self.names_in: dict[int, dict[str, int]] = {}  # function → the names that its text speaks of, numbered
        self.leaves: dict[int, bool] = {}  # function → whether it leaves the modules that it is given as they are

    def budget_of(self, lines: int) -> int:
        """How many calls and statements may be run for an entry point of so many lines."""
        return (limits.BUDGET if self.spent < limits.LONG else limits.BUDGET // 10) + 2 * lines

    def lines(self, function: tree.Function) -> int:
        """How many lines a function of a file has."""
        found = self.project.definition_of.get(id(function))
        return found[1].last - found[1].first + 1 if found is not None else 0

    # ------------------------------------------------------------ the store

    def get(self, owner: int, name: str) -> Value | None:
        return self.store.get((owner, name))

    def set(self, owner: int, name: str, value: Value) -> None:
        key = (owner, name)
        if self.undo:
            log = self.undo[-1]
            if key not in log:
                log[key] = self.store.get(key, MISSING)
        self.store[key] = value
        if owner not in self.keepers and not isinstance(value, Constant) and things(value, KEPT):
            self.keepers.add(owner)
        names = self.names_of.get(owner)
        if names is None:
            names = self.names_of[owner] = {}
        names[name] = None
        if owner in self.globals:
            self.globals[owner][name] = None

    def rollback(self, log: dict[tuple[int, str], Value]) -> dict[tuple[int, str], Value]:
        """Undo the writes of a log; gives what they had written."""
        written = {}
        for key, old in log.items():
            written[key] = self.store.get(key, MISSING)
            if old is MISSING:
                self.store.pop(key, None)
            else:
                self.store[key] = old
        return written

    def unwind(self, level: int) -> None:
        """Undo the writes of all logs above a level: of code that is done with, or was broken off in some branch."""
        while len(self.undo) > level:
            self.rollback(self.undo.pop())

    def put(self, key: tuple[int, str], value: Value) -> None:
        if value is MISSING:
            if self.undo and key not in self.undo[-1]:
                self.undo[-1][key] = self.store.get(key, MISSING)
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
        writers: dict[tuple[int, str], list[tuple[int, Value]]] = {}  # what each arm that writes it has left there
        for number, written in enumerate(left):
            for key, value in written.items():
                writers.setdefault(key, []).append((number, value))
        spend(len(writers) // 2)
        for key, values in writers.items():
            self.put(key, self.joined(values, self.store.get(key, MISSING), len(left)))
        return sequences, False

    @staticmethod
    def joined(values: Sequence[tuple[int, Value]], before: Value, arms: int) -> Value:
        """What so many arms leave, some of which have written values; in the others it is what it was before.

        Those are asked once where several stand side by side: what was written makes the work, not how many arms there
        are.
        """
        found: Value = MISSING
        expected = 0
        for number, value in (*values, (arms, MISSING)):
            for new in (before, value) if number > expected else (value,):
                if new is not MISSING:
                    found = new if found is MISSING else join(found, new)
            expected = number + 1
        return found

    def cut_short(self, outer: tl.Sequence, step: tl.Branch | tl.Loop | tl.Call) -> None:
        """The work is cut short inside of a step: keep what it has so far, and let no path lead on from there."""
        inner = step.arms[-1] if isinstance(step, tl.Branch) else step.body
        inner.steps.append(tl.Jump(tree.Exit.RAISE, step.place))
        if isinstance(step, tl.Loop):
            step.unfinished = True
        outer.steps += [step, tl.Jump(tree.Exit.RAISE, step.place)]
        self.sequence = outer

    def leave(self, frame: Frame) -> None:
        """A function has come to its end: let go of its names, unless something may still read them.

        They are many, and the paths that meet later need not be compared in them.
        """
        if frame.captured:
            return
        scope, log = frame.serial, self.undo[-1] if self.undo else {}
        for name in self.names_of.pop(scope, ()):
            self.store.pop((scope, name), None)
            log.pop((scope, name), None)  # before it began there was none
        self.keepers.discard(scope)
        del self.parents[scope]

    def forget(self) -> None:
        """An entry point is over: let go of the parts of things that only it has made."""
        for key in self.passing.over():
            self.store.pop(key, None)
            self.names_of.pop(key[0], None)
            self.keepers.discard(key[0])

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
        frame, places = self.frames[-1], self.places
        event.place = places.get(id(node)) or self.place(node)
        statement = frame.statement
        event.statement = (places.get(id(statement)) or self.place(statement)) if statement is not None else event.place
        event.context, event.function = frame.context, frame.function
        event.serial = new_serial()
        self.sequence.steps.append(event)
        if isinstance(event, ev.Turning):
            self.turned += 1
            if not isinstance(event, ev.Unknown):
                self.acted += 1
        elif isinstance(event, ev.Switching):
            self.switched += 1
        return event

    # ------------------------------------------------------------ running

    @contextmanager
    def scope(self, target: FunctionValue) -> Iterator[None]:
        """Evaluate expressions where a function was defined; what they cause belongs to no entry point."""
        frame = Frame(target.home, target.chunk or target.home.chunk, None, None)
        frame.serial = target.scope if target.scope is not None else frame.serial
        saved = (self.frames, self.sequence)
        self.frames, self.sequence = [frame], tl.Sequence()
        try:
            with self.passing.lasting():
                yield
        finally:
            self.frames, self.sequence = saved

    def run_frame(self, frame: Frame, body: tree.Block) -> None:
        self.frames.append(frame)
        try:
            self.run(body)
        finally:
            self.frames.pop()

    def run(self, body: Iterable[tree.Statement]) -> bool:
        """Run statements; True if the end is never reached (a jump on every path)."""
        frame = self.frames[-1]
        for statement in body:
            self.steps += 1
            meter.left -= 3
            meter.spent += 3
            if self.steps > self.budget:
                raise Stop
            frame.statement = statement
            if self.language.statements[type(statement)](self, statement):
                return True
        return False

    def eval(self, node: tree.Expression) -> Value:
        meter.spent += 1
        meter.left -= 1
        if meter.left < 0:
            raise Stop
        return self.language.expressions[type(node)](self, node)

    # ------------------------------------------------------------ verbs

    def call(self, target: Value, args: Arguments, node: tree.Call) -> Value:
        """Call a value."""
        return self.language.call(self, target, args, node)

    def follow(
        self,
        target: FunctionValue,
        args: Arguments | None,
        node: tree.Node | None,
        *,
        forced: bool = False,
        yielding: Yielding | None = None,
    ) -> Value:
        """Run a function of the project in place; `args` None stands for unknown ones."""
        return self.language.follow(self, target, args, node, forced=forced, yielding=yielding)

    def prepare(self, thing: Thing, node: tree.Node | None, args: Arguments | None = None) -> None:
        """Run the `__init__` of an instance, once, when something of it is asked for."""
        self.language.prepare(self, thing, node, args)

    def namespace(self, module: Module) -> int:
        """The scope of a module, its own code run first if it has not been."""
        return self.language.namespace(self, module)
