"""Which definitions can matter, by their own text and by who calls whom, so that the others need not be run."""

from __future__ import annotations

from collections.abc import Sequence

from gradcheck_lint.source import tree
from gradcheck_lint.source.outline import Definition
from gradcheck_lint.source.project import Broken, Module, Project


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
