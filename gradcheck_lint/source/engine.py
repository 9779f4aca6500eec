"""From files to findings: reads a project, interprets its entry points, and asks the rules.

1. `ast` outlines every file; a regular expression tells which definitions can matter, and names tell who calls them.
2. Modules and functions that nothing known calls are interpreted, calls followed, giving timelines of events.
3. The protocol's machine goes along every timeline for each optimizer; rules hear of events, breaches and classes.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial

from gradcheck_lint.facts.classes import class_facts
from gradcheck_lint.facts.definitions import DefinitionFacts, Known, definition_facts
from gradcheck_lint.finding import Confidence, Finding, Fix, Safety, Severity, Span
from gradcheck_lint.result import AnalysisError, Extent, Problem
from gradcheck_lint.rule import Rule
from gradcheck_lint.source import follow, limits, tree
from gradcheck_lint.source.breach import Breach
from gradcheck_lint.source.effort import Purse, Stop
from gradcheck_lint.source.events import Backward, Build, Clip, Event, Schedule, Step, Unscale, Zero
from gradcheck_lint.source.file import DecodeError, SourceFile
from gradcheck_lint.source.islands import islands, run
from gradcheck_lint.source.libraries.found import library
from gradcheck_lint.source.natures import Optimizer
from gradcheck_lint.source.outcome import Basis, Island, Outcome, Work
from gradcheck_lint.source.outline import Definition
from gradcheck_lint.source.place import Place, UnplacedError
from gradcheck_lint.source.project import CYCLE_WORDS, Broken, Finder, Module, Project
from gradcheck_lint.source.replaced import doubtful
from gradcheck_lint.source.run import program
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.run.recall import Recall
from gradcheck_lint.source.store import Store
from gradcheck_lint.source.timeline import Timeline
from gradcheck_lint.source.triggers import Triggers
from gradcheck_lint.source.values import ClassValue, FunctionValue, Thing, options, own_serials

TRAINING = (Zero, Backward, Step, Unscale, Clip)
"""The kinds of events that make code training code, besides the building of an optimizer."""


RECURSION = 8000  # frames; deep expressions need several for each level


def analyse(
    files: Sequence[SourceFile],
    rules: Sequence[Rule],
    *,
    known: Sequence[Rule] = (),
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
    cache: Store | None = None,
    extent: Extent | None = None,
) -> list[Finding]:
    """All that the rules find in the files, sorted.

    Files that import one another are analysed together, others apart, so that the findings do not depend on `jobs`,
    the number of processes. `known` are all rules, those that are off too: what these look for is followed all the
    same, so that nothing that a rule finds depends on which others are on. `cache` is the store that remembers what was
    found in files that have not changed.
    `extent` is told what was followed or judged in part only, and which files have training code.
    Raises AnalysisError, with what was found all the same, if something of gradlint's own broke.
    """
    work = work_of(files, rules, known)
    groups = islands(files, work.finder)
    findings, problems = run(work, groups, analyse_island, jobs=jobs, progress=progress, cache=cache, extent=extent)
    findings.sort(key=lambda f: f.order)
    if problems:
        once = {(p.path, p.message): p for p in problems}  # what breaks does so for one rule after another
        raise AnalysisError(findings, [once[key] for key in sorted(once)])
    return findings


def work_of(files: Sequence[SourceFile], rules: Sequence[Rule], known: Sequence[Rule]) -> Work:
    """What each island of the files is analysed with."""
    roots = {os.path.dirname(os.path.abspath(f.real)) for f in files}
    cwd = os.getcwd()
    if any(r == cwd or r.startswith(cwd.rstrip(os.sep) + os.sep) for r in roots):
        roots.add(cwd)
    triggers = dict.fromkeys(r.triggers for r in (*known, *rules) if r.triggers and not _about_classes(r))
    return Work(tuple(rules), Finder(sorted(roots)), tuple(triggers))


def analyse_island(work: Work, island: Island) -> Outcome:
    """All that is found in files that belong together, and the other files that were read for it."""
    with analysing(work):
        return _analysed(work, island)


@contextmanager
def analysing(work: Work) -> Iterator[None]:
    """An analysis may be run: with room for deep code, and nothing left from the one before."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, RECURSION))
    collecting = gc.isenabled()
    work.finder.asked.clear()
    gc.disable()  # trees are big and live to the end: looking through them for garbage takes a third of the time
    if gc.get_count()[0] > limits.GARBAGE:
        gc.collect(0)  # all of it is young, as nothing was looked through, and dead, as nothing holds it any more
    try:
        with own_serials():
            yield
    finally:
        sys.setrecursionlimit(limit)
        if collecting:
            gc.collect(0)
            gc.enable()


def _analysed(work: Work, island: Island) -> Outcome:
    analysis = Analysis(island, work)
    analysis.run()
    cut = tuple((path, name) for path, name in analysis.cut if path in analysis.listed)
    training = tuple(path for path in analysis.listed if path in analysis.training)
    found, problems = tuple(analysis.findings.values()), tuple(analysis.problems)
    basis = Basis(tuple(analysis.project.others.items()), tuple(work.finder.asked.items()))
    return Outcome(found, problems, basis, cut, training)


class Analysis:
    """The analysis of an island: `run` it, and its `findings` are there."""

    def __init__(self, island: Island, work: Work) -> None:
        self.files, self.beside, self.rules = island.files, island.beside, work.rules
        self.findings: dict[tuple[str, Span], Finding] = {}
        self.found_in: dict[tuple[str, Span], Timeline] = {}  # what was judged when they were found
        self.judged: Timeline | None = None
        self.problems: list[Problem] = []
        self.project = Project(_triggers((CYCLE_WORDS, *work.triggers)), work.finder, self.failed)
        self.relevance = Relevance(self.project, self.failed)
        self.machine = Machine(
            self.project, self.relevance, self.relevance.turns, self.failed, program.LANGUAGE, library()
        )
        self.readers = [(r, _triggers((r.triggers,))) for r in self.rules if _about_definitions(r)]
        self.cut: dict[tuple[str, str], None] = {}  # path and name of what was followed or judged in part only
        self.training: set[str] = set()  # paths of the files in which an optimizer or a backward was seen
        self.openings: set[int] = set()  # ids of what the methods judged so far begin with
        self.hearing: dict[frozenset[type[Event]], list[Rule]] = {}  # kinds of events → the rules that ask for some
        self.purses: dict[str, Purse] = {}  # code of a rule → what it may take
        self.size = 0

    def run(self) -> None:
        """Each step is guarded by itself: a mistake of ours costs what it was made on, and nothing else."""
        for file in self.files:
            self.guarded(file.path, partial(self.read, file))
        modules = [module for module in self.project.modules.values() if module is not None]
        for file in self.beside:
            self.guarded(file.path, partial(self.project.add_beside, file))
        self.size = sum(len(module.text) for module in modules)
        self.machine.purse = Purse(limits.ENTRY_WORK, self.size)
        self.machine.lengthy_calls = max(limits.AT_LEAST, self.size // limits.EVERY)
        self.events = limits.JUDGED * max(limits.AT_LEAST, self.size // limits.EVERY)
        self.following = Purse(limits.FOLLOW_WORK, self.size)
        self.relevance.spread(modules)
        read_closely = [module for module in modules if self.read_closely(module.text)]
        recall = Recall(self.read_closely)
        if read_closely:
            self.machine.language = recall.listening(self.machine.language)
        chosen: list[Module] = []
        for module in modules:
            self.guarded(module.path, partial(self.choose, module, chosen))
        for module in chosen:
            self.guarded(module.path, partial(self.interpret, module))
            module.outline.let_go()
        for timeline in self.machine.timelines:
            timeline.loose = timeline.loose or self.machine.patched
            self.judged = timeline
            self.guarded(timeline.home.path, partial(self.judge, timeline))
            timeline.judged()
            if timeline.cut:
                self.cut[timeline.home.path, timeline.name] = None
        self.judged = None
        known = Known(recall, self.machine.timelines if read_closely else ())
        for module in read_closely:
            if module.torchy or recall.went_over(module.path):
                self.guarded(module.path, partial(self.definitions, module, known))
        for module in modules:
            self.guarded(module.path, partial(self.classes, module))

    def read(self, file: SourceFile) -> None:
        try:
            self.project.add(file)
        except DecodeError:
            return  # reported as unreadable before we come here
        except SyntaxError as error:
            self.syntax_error(file, error.lineno or 1, error.offset or 1, error.msg or "invalid syntax")
        except (RecursionError, MemoryError):
            self.too_deep(file.path)
        except ValueError as error:
            self.syntax_error(file, 1, 1, str(error))

    def syntax_error(self, file: SourceFile, line: int, column: int, message: str) -> None:
        if not any(r.code == "GL001" for r in self.rules):
            return
        message = message[:1].lower() + message[1:].rstrip(".")
        old = "print" in message and "parenthes" in message
        line, column = max(1, line), max(1, column)
        span = Span(file.path, line, column, line, column + 1)
        version = ".".join(map(str, sys.version_info[:2]))
        self.findings["GL001", span] = Finding(
            code="GL001",
            slug="syntax-error",
            severity=Severity.ERROR,
            confidence=Confidence.HIGH,
            message=f"this file is not valid Python {version}",
            span=span,
            label=message,
            why="a file that does not parse is not checked",
            help="port it to Python 3, or exclude it" if old else "mend the syntax, or exclude the file",
        )

    def too_deep(self, path: str) -> None:
        span = Span(path, 1, 1, 1, 1)
        self.findings["GL003", span] = Finding(
            code="GL003",
            slug="unreadable-file",
            severity=Severity.ERROR,
            confidence=Confidence.HIGH,
            message="this file cannot be analysed: it is nested too deeply",
            span=span,
            label="not checked to its end",
            why="mistakes in it may have been missed",
            help="split its deepest expression or chain of branches, or exclude it",
        )

    def guarded(self, path: str, work: Callable[[], None], rule: Rule | None = None) -> None:
        """Do some work, that of a rule if it is one's; if something breaks, remember it and go on."""
        try:
            work()
        except Stop:
            raise
        except (Exception, SystemExit) as error:  # a rule may try to end the program
            if rule is not None and not _ours(rule) and isinstance(error, RecursionError):
                self.problems.append(Problem.of(path, error))  # more likely it goes on for ever than the file is deep
            else:
                self.failed(path, error)

    def failed(self, path: str, error: BaseException) -> None:
        """Something broke while a file was looked at, for whomever that was."""
        if isinstance(error, RecursionError):
            if any(file.path == path for file in self.files):
                self.too_deep(path)
        else:
            self.problems.append(Problem.of(path, error))

    def choose(self, module: Module, chosen: list[Module]) -> None:
        if self.relevance.matters(module):
            chosen.append(module)

    def interpret(self, module: Module) -> None:
        machine = self.machine
        scope = machine.namespace(module)
        entries = [
            (d, f)
            for d in module.outline.definitions
            if self.relevance.relevant(d)
            for f in self.value(module, scope, d)
        ]
        words: dict[str, int] = {}
        for definition, _ in entries:
            for word in definition.calls:
                words[word] = words.get(word, 0) + 1
        entries.sort(key=lambda e: words.get(e[0].name, 0) > 1)  # callers first, so that callees are met with arguments
        for _, function in entries:
            if id(function.function) not in machine.reached:
                self.guarded(module.path, partial(program.run_function, machine, function))

    def value(self, module: Module, scope: int, definition: Definition) -> Iterator[FunctionValue]:
        """The function that a definition of a module binds, if it is still reachable by name."""
        machine = self.machine
        parts = definition.qualname.split(".")
        value = machine.get(scope, parts[0])
        for part in parts[1:]:
            value = value.members.get(part) if isinstance(value, ClassValue) else None
        if isinstance(value, FunctionValue):
            owner, known = self.project.definition_of.get(id(value.function), (None, None))
            if owner is module and known is definition:
                yield value

    def judge(self, timeline: Timeline) -> None:
        """Ask the rules about what an entry point causes; each has a limit of its own, so that none costs another."""
        home, name = timeline.home.path, timeline.name
        size = timeline.size
        for event in timeline.own(*TRAINING, Build, apart=self.openings):
            path = event.place.chunk.path
            if path not in self.training and (isinstance(event, TRAINING) or _builds_optimizer(event)):
                self.training.add(path)
        self.events -= size
        if self.events < 0 and size > limits.SMALL:
            self.cut[home, name] = None
            return
        breaches: list[Breach] = []
        more = limits.FOLLOW_EVENT * size
        self.bounded(home, name, self.following, partial(self.follow, timeline, breaches), more)
        for rule in self.concerned(timeline, breaches):
            self.bounded(home, name, self.purse(rule), partial(self.ask, rule, timeline, breaches))

    def concerned(self, timeline: Timeline, breaches: Sequence[Breach]) -> Sequence[Rule]:
        """The rules for which there is something in a timeline that they want to hear of."""
        kinds = frozenset(timeline.kinds)
        found = self.hearing.get(kinds)
        if found is None:  # timelines are many, and what they are made of is mostly the same
            found = self.hearing[kinds] = [
                rule
                for rule in self.rules
                if _asks(rule, timeline) or (bool(rule.listens) and timeline.has(*rule.listens))
            ]
        if not breaches:
            return found
        broken = {breach.kind for breach in breaches}
        return [rule for rule in self.rules if rule in found or not broken.isdisjoint(rule.breaches)]

    def bounded(self, path: str, name: str, purse: Purse, work: Callable[[], None], more: int = 0) -> None:
        """Do some work for an entry point or a class; if it is too much, remember that and go on."""
        with purse.allowance(more) as allowance:
            try:
                work()
            except Stop:
                self.cut[path, name] = None
        purse.pay(allowance.used)

    def purse(self, rule: Rule) -> Purse:
        if rule.code not in self.purses:
            self.purses[rule.code] = Purse(limits.RULE_WORK, self.size)
        return self.purses[rule.code]

    def follow(self, timeline: Timeline, found: list[Breach]) -> None:
        """Collect the places where the protocol is broken for one of the optimizers."""
        if not any(r.breaches for r in self.rules):
            return
        used = {id(o) for e in timeline.events(Step, Schedule, Zero) for o in options(e.subject)}
        for optimizer in timeline.optimizers():
            if not optimizer.summary and id(optimizer) in used:
                self.guarded(timeline.home.path, partial(self.breaches, timeline, optimizer, found))

    def breaches(self, timeline: Timeline, optimizer: Thing, found: list[Breach]) -> None:
        some, all_paths = follow.breaches(timeline, optimizer, self.machine.timelines)
        found += some
        if not all_paths:
            raise Stop

    def ask(self, rule: Rule, timeline: Timeline, breaches: Sequence[Breach]) -> None:
        report = self.reporter(rule)
        if rule.listens:
            for event in timeline.events(*rule.listens):
                self.guarded(event.place.chunk.path, partial(rule.on_event, event, report), rule)
        for breach in breaches:
            if breach.kind in rule.breaches:
                self.guarded(timeline.home.path, partial(rule.on_breach, breach, report), rule)
        if _asks(rule, timeline):
            self.guarded(timeline.home.path, partial(rule.on_timeline, timeline, report), rule)

    def read_closely(self, text: str) -> bool:
        """Whether some rule asks for the tree of libcst of some text."""
        return any(triggers.search(text) for _, triggers in self.readers)

    def definitions(self, module: Module, known: Known) -> None:
        """Ask the rules about the functions of a module that they read with libcst."""
        for definition in definition_facts(module, self.read_closely, known):
            for rule, triggers in self.readers:
                if triggers.search(definition.text):
                    ask = partial(self.guarded, module.path, partial(self.show, rule, definition), rule)
                    self.bounded(module.path, definition.qualname, self.purse(rule), ask)
            definition.chunk.let_go()

    def show(self, rule: Rule, definition: DefinitionFacts) -> None:
        try:
            definition.tree  # noqa: B018 - read now, for all rules
        except UnplacedError:
            raise Stop from None  # it is not looked at, and said so
        rule.on_definition(definition, self.reporter(rule))

    def classes(self, module: Module) -> None:
        """Ask the rules about the classes of a module: each hears of those whose text its triggers match."""
        rules = [(r, _triggers((r.triggers,))) for r in self.rules if _about_classes(r)]
        wanted = [(r, t) for r, t in rules if t.search(module.text)] if module.torchy else []
        for facts in class_facts(self.machine, module) if wanted else ():
            for rule, triggers in wanted:
                if triggers.search(facts.text):
                    ask = partial(self.guarded, module.path, partial(rule.on_class, facts, self.reporter(rule)), rule)
                    self.bounded(module.path, facts.qualname, self.purse(rule), ask)

    def reporter(self, rule: Rule) -> Callable[..., None]:
        def report(
            place: Place,
            message: str,
            *,
            label: str,
            why: str,
            help: str,
            note: str = "",
            related: Sequence[tuple[str, Place]] = (),
            fix: Fix | None = None,
            confidence: Confidence = Confidence.HIGH,
        ) -> None:
            from gradcheck_lint.finding import Related

            module = self.listed.get(place.chunk.path)
            if module is None:
                return
            if confidence is Confidence.HIGH and self.doubted(place, related):
                confidence = Confidence.MEDIUM
            if fix is not None and confidence < Confidence.HIGH and fix.safety is Safety.SAFE:
                fix = dataclasses.replace(fix, safety=Safety.UNSAFE)  # safe only where every path was followed
            finding = Finding(
                code=rule.code,
                slug=rule.slug,
                severity=rule.severity,
                confidence=confidence,
                message=message,
                span=place.span,
                label=label,
                why=why,
                help=help,
                note=note,
                related=tuple(Related(text, where.span) for text, where in related),
                fix=fix,
            )
            key = (rule.code, finding.span)
            before = self.findings.get(key)
            if before is None or before.confidence < confidence:
                self.findings[key] = finding
                if self.judged is not None:
                    self.found_in[key] = self.judged

        return report

    def doubted(self, place: Place, related: Sequence[tuple[str, Place]]) -> bool:
        """Whether the project puts something else in place of what a finding knows of torch."""
        files = {m.path: m for m in self.project.modules.values() if m is not None}
        places = [place, *(where for _, where in related)]
        here = {each.chunk.path: files[each.chunk.path] for each in places if each.chunk.path in files}
        names = frozenset[str]().union(
            *(m.replaced.for_good for m in files.values()),
            *(m.replaced.for_a_while for m in here.values()),
            self.machine.replaced,
        )
        if not names:
            return False
        told = [each.code for each in places]
        for each in places:
            if each.chunk.path in here:
                told += here[each.chunk.path].outline.lines[each.span.line - 1 : each.span.end_line]
        return doubtful(names, "\n".join(told))

    @cached_property
    def listed(self) -> dict[str, Module]:
        return {m.path: m for m in self.project.modules.values() if m is not None and m.listed}


def _asks(rule: Rule, timeline: Timeline) -> bool:
    """Whether a rule wants to see a timeline as a whole."""
    return type(rule).on_timeline is not Rule.on_timeline and (not rule.needs or timeline.has(*rule.needs))


def _builds_optimizer(event: Event) -> bool:
    return isinstance(event, Build) and any(
        isinstance(option, Thing) and isinstance(option.what, Optimizer) for option in options(event.subject)
    )


def _ours(rule: Rule) -> bool:
    return type(rule).__module__.startswith("gradcheck_lint.rules.")


_triggers = cache(Triggers)  # the same for every island


def _about_classes(rule: Rule) -> bool:
    """Whether a rule asks about classes; its triggers are then about the text of a class."""
    return type(rule).on_class is not Rule.on_class


def _about_definitions(rule: Rule) -> bool:
    """Whether a rule reads definitions with libcst."""
    return type(rule).on_definition is not Rule.on_definition


class Relevance:
    """Which definitions can matter: those whose own text does, and those that call one that matters."""

    def __init__(self, project: Project, broken: Broken) -> None:
        self.project, self.broken = project, broken
        self.definitions: set[int] = set()  # by id
        self.turners: set[int] = set()  # those of them that may turn the gradient cycle, or call one that may
        self.names: dict[str, set[str]] = {}  # path of a module → names of what matters in it
        self.seen: dict[str, Module] = {}

    def __call__(self, function: tree.Function) -> bool:
        found = self.project.definition_of.get(id(function))
        if found is None:
            return True  # nested in a function that matters
        module, definition = found
        if module.path not in self.seen:
            self.spread([module])
        return id(definition) in self.definitions

    def turns(self, function: tree.Function) -> bool:
        """Whether a function that matters may turn the gradient cycle, by its text or that of what it calls."""
        found = self.project.definition_of.get(id(function))
        return found is None or id(found[1]) in self.turners

    def relevant(self, definition: Definition) -> bool:
        return id(definition) in self.definitions

    def matters(self, module: Module) -> bool:
        if any(id(d) in self.definitions for d in module.outline.definitions):
            return True
        if not module.torchy:
            return False
        if module.skeleton_relevant:
            return True
        return any(self.names.get(other.path, _EMPTY) & module.skeleton_calls for other in self.imports(module))

    def imports(self, module: Module) -> list[Module]:
        return module.imports

    def spread(self, modules: Sequence[Module]) -> None:
        """Take in modules (and what they import) and find everything in them that matters."""
        todo = list(modules)
        for module in modules:
            for other in self.imports(module) if module.torchy else ():
                other.near = True
        depth = {m.path: 0 for m in modules}
        fresh: list[Module] = []
        while todo:
            module = todo.pop()
            if module.path in self.seen:
                continue
            self.seen[module.path] = module
            try:
                self.take(module)
            except Exception as error:
                self.broken(module.path, error)
                continue
            fresh.append(module)
            if depth.get(module.path, 0) < 3:
                for other in self.imports(module):
                    depth.setdefault(other.path, depth.get(module.path, 0) + 1)
                    todo.append(other)
        users: dict[str, list[Module]] = {}  # path of a module → the fresh ones that can use its names
        for module in fresh:
            for path in dict.fromkeys([module.path, *(other.path for other in self.imports(module))]):
                users.setdefault(path, []).append(module)
        callers: dict[str, dict[str, list[Definition]]] = {}
        names = [(path, name) for path in users for name in self.names.get(path, ())]
        while names:
            path, name = names.pop()
            for module in users.get(path, ()):
                if module.path not in callers:
                    callers[module.path] = _callers(module)
                for definition in callers[module.path].get(name, ()):
                    if id(definition) not in self.turners:
                        found = self.add(module, definition)
                        if found is not None:
                            names.append((module.path, found))
        for module in fresh:
            module.outline.let_go()

    def take(self, module: Module) -> None:
        """Find what matters in a module by its own text."""
        self.names[module.path] = set()
        if module.torchy:
            self.definitions.update(id(definition) for definition in module.relevant)
        for definition in module.turning:
            self.add(module, definition)

    def add(self, module: Module, definition: Definition) -> str | None:
        """Note that a definition matters; the name by which it is called, if that is new."""
        self.definitions.add(id(definition))
        self.turners.add(id(definition))
        name = definition.name
        if name == "__init__":
            name = definition.owner.rpartition(".")[2]
        elif name.startswith("__") or name == "forward":
            return None  # called by other names than their own
        if name in self.names[module.path]:
            return None
        self.names[module.path].add(name)
        return name


def _callers(module: Module) -> dict[str, list[Definition]]:
    """The definitions of a module by the names that they call, their own left out."""
    found: dict[str, list[Definition]] = {}
    for definition in module.outline.definitions:
        for name in definition.mentions:
            if name != definition.name:
                found.setdefault(name, []).append(definition)
    return found


_EMPTY: set[str] = set()
