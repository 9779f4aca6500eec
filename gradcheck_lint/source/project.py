"""The files of a project as modules that can import one another, read no further than needed."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from gradcheck_lint.files import lies_in, read_regular
from gradcheck_lint.source import frameworks, limits, tree
from gradcheck_lint.source.file import DecodeError, SourceFile, decode, digest
from gradcheck_lint.source.outline import CALLED, Definition, Outline
from gradcheck_lint.source.place import Chunk
from gradcheck_lint.source.replaced import Replaced, replaced
from gradcheck_lint.source.triggers import Triggers

TURNING_WORDS = (
    r"zero_grad|backward\(|\boptim\b|ptimi[sz]er|_opt\b|\.step\(|param_groups|GradScaler|\.grad\b|clip_grad"
    r"|lr_scheduler"
)
"""Text that may turn the gradient cycle: who calls such code is read as well."""

PLAINLY_TURNING_WORDS = r"zero_grad|backward\(|GradScaler|\.grad\b|clip_grad"
"""The part of it that is about gradients in any module; `.step(` may as well be a game's."""

CYCLE_WORDS = TURNING_WORDS + r"|backward|\.step\b|require\w*_?grad|\.parameters\b|\.named_parameters\b|load_state_dict"
"""Text that takes part in the gradient cycle, whatever rules are on."""


class Module:
    """One file: its outline, its skeleton as a tree, and its functions, each parsed when first asked for."""

    def __init__(self, project: Project, file: SourceFile, text: str) -> None:
        self.project, self.file, self.text = project, file, text
        self.path = file.path
        self.folder = os.path.dirname(os.path.abspath(file.real))
        self.name = os.path.splitext(os.path.basename(file.real))[0]
        self.near = False  # imported by a module that speaks of torch
        self.listed = False  # given on the command line: findings in it are reported
        self.beside = False  # another part of the project starts from it: nobody may ask for more than its text
        self.chunks: dict[int, Chunk] = {}  # id of a lowered function → the chunk of its body

    @cached_property
    def outline(self) -> Outline:
        """Raises what `Outline` raises, if nobody did before it came into the project; else nothing is known of it."""
        try:
            return Outline(self.text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            if not self.beside:
                raise
            return Outline("")

    @cached_property
    def triggered(self) -> Callable[[str], bool]:
        """What tells whether a part of the text takes part in training."""
        return self.project.triggers.within(self.text)

    @cached_property
    def relevant(self) -> list[Definition]:
        """The definitions whose own text takes part in training."""
        return [d for d in self.outline.definitions if self.triggered(d.text)]

    @cached_property
    def turning(self) -> list[Definition]:
        """The definitions whose own text may turn the gradient cycle."""
        turns = (_TURNING if self.torchy or self.near else _PLAINLY_TURNING).within(self.text)
        return [d for d in self.relevant if turns(d.text)]

    @cached_property
    def trains(self) -> bool:
        """Whether anything in the module may turn the gradient cycle, by its text."""
        return _TURNING.search(self.text)

    @cached_property
    def goes_backward(self) -> bool:
        """Whether something in the module may run backward, or give a framework the loss to do so, by its text."""
        return "backward(" in self.text or "def training_step(" in self.text

    @cached_property
    def torchy(self) -> bool:
        """Whether the module speaks of torch, or of a framework around it."""
        return _TORCHY.search(self.text) is not None

    @cached_property
    def replaced(self) -> Replaced:
        """What it puts in place of something of torch."""
        return replaced(self.text)

    @cached_property
    def skeleton_relevant(self) -> bool:
        return self.triggered(self.outline.skeleton)

    @cached_property
    def skeleton_calls(self) -> frozenset[str]:
        return frozenset(CALLED.findall(self.outline.skeleton))

    @cached_property
    def imports(self) -> list[Module]:
        """The project's modules that this one imports, as far as plain import lines tell."""
        read = self.project.read
        found = [read(path) for path in self.project.finder.imported(self.folder, self.text)]
        return [module for module in found if module is not None and module is not self]

    @cached_property
    def chunk(self) -> Chunk:
        """The skeleton: the module without the bodies of its functions."""
        return Chunk(self.path, self.outline.skeleton, 0, self.outline.shifts)

    @cached_property
    def body(self) -> tree.Block:
        """The module's own statements; functions load their bodies when these are asked for."""
        from gradcheck_lint.source.lower import lower_block

        lowered = lower_block(ast.parse(self.chunk.text).body, self.chunk)
        self._attach(lowered)
        return lowered

    def _attach(self, block: tree.Block) -> None:
        """Give each function of the skeleton the loader of its own body; both come in source order."""
        for (function, owner), definition in zip(_functions(block, ""), self.outline.definitions, strict=True):
            assert (definition.name, definition.owner) == (function.name, owner)
            self.project.definition_of[id(function)] = (self, definition)
            function.load = _Loader(self, definition, function)

    def chunk_of(self, function: tree.Function) -> Chunk:
        """The chunk that the body of one of this module's own functions belongs to."""
        function.body  # noqa: B018 - loads it
        return self.chunks.get(id(function), self.chunk)

    def parse(self, definition: Definition) -> tuple[Chunk, ast.stmt]:
        """The tree of a definition, and the chunk that it is in."""
        if definition.column:
            chunk = Chunk(self.path, f"if 1:\n{definition.text}", definition.first - 2, self.outline.shifts)
            outer = ast.parse(chunk.text).body[0]
            assert isinstance(outer, ast.If)
            return chunk, outer.body[0]
        chunk = Chunk(self.path, definition.text, definition.first - 1, self.outline.shifts)
        return chunk, ast.parse(chunk.text).body[0]


Broken = Callable[[str, Exception], None]
"""Is told the path of a file that could not be looked at for a mistake of ours, and the error."""

_TURNING = Triggers([TURNING_WORDS])
_PLAINLY_TURNING = Triggers([PLAINLY_TURNING_WORDS])
_TORCHY = re.compile(r"torch|lightning|accelerat|deepspeed|transformers|fabric|optim")
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\.*)([\w.]*)[ \t]+import|import)[ \t]+\(?([^#\n]*)", re.MULTILINE)


class _Loader:
    """Parses and lowers the body of one function when it is first asked for."""

    def __init__(self, module: Module, definition: Definition, function: tree.Function) -> None:
        self.module, self.definition, self.function = module, definition, function

    def __call__(self) -> tree.Block:
        from gradcheck_lint.source.lower import lower_block

        chunk, node = self.module.parse(self.definition)
        self.module.chunks[id(self.function)] = chunk
        chunk.function = self.function
        lowered = lower_block([node], chunk)[0]
        assert isinstance(lowered, tree.Function)
        # parameters and decorators now belong to the same chunk as the body
        self.function.at = lowered.at
        self.function.parameters = lowered.parameters
        self.function.decorators = lowered.decorators
        return lowered.body


def _functions(block: tree.Block, owner: str) -> Iterable[tuple[tree.Function, str]]:
    for statement in block:
        if isinstance(statement, tree.Function):
            yield statement, owner
        elif isinstance(statement, tree.Class):
            yield from _functions(statement.body, f"{owner}.{statement.name}" if owner else statement.name)
        elif isinstance(statement, (tree.If, tree.For, tree.While)):
            yield from _functions(statement.body, owner)
            yield from _functions(statement.orelse, owner)
        elif isinstance(statement, tree.With):
            yield from _functions(statement.body, owner)
        elif isinstance(statement, tree.Try):
            yield from _functions(statement.body, owner)
            for handler in statement.handlers:
                yield from _functions(handler, owner)
            yield from _functions(statement.orelse, owner)
            yield from _functions(statement.final, owner)


Question = tuple[str, str, int]
"""Which file `import name` means: the folder that it stands in, the name, and the level (2 for `from ..name`)."""


class Finder:
    """Finds the file that an import means, in the project only.

    A plain import looks at nothing outside `roots` (folders), one with dots where its dots lead, and neither follows a
    link that leads out of the roots. The source of a framework is no part of the project for whoever is outside of it.
    It notes what it is asked and what it answers, also that there is no such file. Whoever remembers what follows
    from the answers can ask again later: they are the same exactly if all the same files win.
    """

    def __init__(self, roots: Iterable[str]) -> None:
        self.roots = [os.path.abspath(r) for r in roots]
        self.asked: dict[Question, str | None] = {}  # since somebody emptied it
        self._found: dict[Question, str | None] = {}
        self.outside: dict[Question, str] = {}  # what leads into a framework → the full name of that module
        self._known_folders: dict[str, bool] = {}
        self._imported: dict[tuple[str, int, int], dict[Question, str | None]] = {}

    def find(self, folder: str, name: str, level: int) -> str | None:
        """The file of `import name` (or `from ..name import`, level 2) in a file of `folder`."""
        if not level and (not name or name.partition(".")[0] in _OUTSIDE):
            return None
        question = (folder, name, level)
        if question not in self._found:
            path = self._up(folder, name, level) if level else self._search(folder, name)
            framework = frameworks.of(path) if path is not None else None
            if framework is not None and not framework.holds(folder):
                self.outside[question], path = framework.name, None
            self._found[question] = path
        self.asked[question] = self._found[question]
        return self._found[question]

    def imported(self, folder: str, text: str) -> list[str]:
        """The files that the import lines of a text mean."""
        key = folder, len(text), hash(text)  # not the text: this outlives all files
        if key not in self._imported:
            self._imported[key] = {
                (folder, head, level): self.find(folder, head, level) for head, level in self._heads(text)
            }
        answers = self._imported[key]
        self.asked |= answers
        return list(dict.fromkeys(path for path in answers.values() if path is not None))

    @staticmethod
    def _heads(text: str) -> Iterator[tuple[str, int]]:
        """The names in the import lines of a text, each with its level."""
        for dots, name, rest in _IMPORT.findall(text):
            heads = [name] if name or dots else []
            for part in rest.split(","):
                word = part.strip().split(" ")[0].strip("()")
                if word.replace(".", "").isidentifier():
                    heads.append(f"{name}.{word}" if name else word)
            for head in heads:
                yield head, len(dots)

    def _search(self, folder: str, name: str) -> str | None:
        head = name.partition(".")[0]
        for _ in range(8):
            if not self._inside(folder):
                break
            for place in (folder, os.path.join(folder, "src")):
                path = self._file(place, name) if self._file(place, head, package=True) else None
                if path:
                    return path
            folder = os.path.dirname(folder)
        return None

    def _inside(self, folder: str) -> bool:
        if folder not in self._known_folders:
            self._known_folders[folder] = any(folder == root or folder.startswith(root + os.sep) for root in self.roots)
        return self._known_folders[folder]

    def _up(self, folder: str, name: str, level: int) -> str | None:
        for _ in range(level - 1):
            folder = os.path.dirname(folder)
        return self._file(folder, name)

    def _file(self, base: str, name: str, package: bool = False) -> str | None:
        path = os.path.join(base, *name.split(".")) if name else base
        if os.path.isfile(path + ".py") and name:
            return path + ".py" if self._leads_in(path + ".py", base) else None
        init = os.path.join(path, "__init__.py")
        if os.path.isfile(init):
            return init if self._leads_in(init, base) else None
        return path if package and os.path.isdir(path) else None

    def _leads_in(self, path: str, base: str) -> bool:
        """Whether no link below the folder `base` leads from there out of the roots."""
        real = os.path.realpath(path)
        return real == os.path.realpath(base) + path[len(base) :] or lies_in(real, map(os.path.realpath, self.roots))


class Project:
    """All modules of a run.

    `triggers` tell which text matters. A module that was not listed is read when a listed
    one imports it.
    """

    def __init__(self, triggers: Triggers, finder: Finder, broken: Broken) -> None:
        self.triggers, self.finder, self.broken = triggers, finder, broken
        self.modules: dict[str, Module | None] = {}  # by real path
        self.others: dict[str, str | None] = {}  # the files that were not listed, with their digests
        self.definition_of: dict[int, tuple[Module, Definition]] = {}  # by id of a lowered function

    def add(self, file: SourceFile) -> Module:
        """A listed file. Raises what `Outline` raises."""
        path = os.path.abspath(file.real)
        self.modules[path] = None  # if that breaks, it is not to break once more for who imports it
        module = Module(self, file, decode(file.data))
        module.outline  # noqa: B018 - raises here, if it does
        module.listed = True
        self.modules[path] = module
        return module

    def add_beside(self, file: SourceFile) -> None:
        """A listed file that another part of the project starts from: its outline is made if it is called from here."""
        path = os.path.abspath(file.real)
        try:
            self.modules[path] = module = Module(self, file, decode(file.data))
            module.listed = module.beside = True
        except DecodeError:
            self.modules[path] = None

    def read(self, path: str) -> Module | None:
        """The module of a file that another one imports, or None if it cannot be read."""
        if path not in self.modules:
            self.modules[path] = None
            self.others[path] = None
            try:
                data = read_regular(path, limits.LARGEST_IMPORTED)  # of a larger one nothing is known
                file = SourceFile(path=path, real=path, data=data)  # type: ignore[arg-type]
                self.others[path] = digest(file.data)
                module = Module(self, file, decode(file.data))
                module.outline  # noqa: B018 - raises here, if it does
                self.modules[path] = module
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
                pass
            except Exception as error:
                self.broken(path, error)
        return self.modules[path]

    def resolve(self, module: Module, name: str, level: int) -> Module | None:
        """The project's module that `import name` (or `from ..name import`, level 2) means in `module`."""
        path = self.finder.find(module.folder, name, level)
        return self.read(path) if path else None

    def around(self, home: Module) -> list[Module]:
        """The modules that may meet what a module makes: those that import it, at any depth, and all they import."""
        known = [module for module in self.modules.values() if module is not None]
        if any("importlib" in module.text or "__import__" in module.text for module in known):
            return known
        users: dict[str, list[Module]] = {}
        for module in known:
            for other in module.imports:
                users.setdefault(other.path, []).append(module)
        above = _reached([home], lambda module: users.get(module.path, []))
        return _reached(above, lambda module: module.imports)

    def name_outside(self, module: Module, name: str, level: int) -> str:
        """The full name of a module that `resolve` does not find; "?" stands for a package that is not known."""
        known = self.finder.outside.get((module.folder, name, level))
        return known if known is not None else f"?.{name}" if level else name


def _reached(start: Iterable[Module], following: Callable[[Module], list[Module]]) -> list[Module]:
    """All that some modules lead to, themselves among it."""
    found = {module.path: module for module in start}
    todo = list(found.values())
    while todo:
        for module in following(todo.pop()):
            if module.path not in found:
                found[module.path] = module
                todo.append(module)
    return list(found.values())


_OUTSIDE = frozenset(
    "torch numpy np os sys re math time random json copy typing collections functools itertools logging argparse"
    " pathlib dataclasses abc enum warnings torchvision matplotlib sklearn scipy pandas tqdm".split()
)
