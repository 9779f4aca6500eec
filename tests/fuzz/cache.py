"""Random edits of a small project: a run with a warm cache says what a cold one says, byte for byte.

    python -m tests.fuzz.cache --edits 1000 --seed 1

After each edit some of the project's files are linted, from some folder, once with the cache that all edits share and
once without any. Files come into being, vanish, change, swap names, become packages and links, or stop being Python.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from gradcheck_lint.config import Settings
from gradcheck_lint.finding import Confidence
from gradcheck_lint.report import json as json_report
from gradcheck_lint.source.lint import Rules, check, collect, rules_of

FOLDERS = ("", "src", "pkg", "pkg/deep", "steps")
STEMS = ("train", "steps", "tools", "__init__")
NAMES = tuple(f"{folder}/{stem}.py".lstrip("/") for folder in FOLDERS for stem in STEMS)
MODULES = ("steps", "tools", "pkg.steps", "pkg", "pkg.deep.tools", "steps.tools")
DOTS = (".", "..")

BODIES = (
    "    optimizer.zero_grad()\n",
    "    return optimizer\n",
    "    print(optimizer)\n",
    "    for group in optimizer.param_groups:\n        group['lr'] = 0.1\n",
    "    optimizer.step()\n",
)
HELPER = "import torch\n{imports}\ndef forget(optimizer):\n{one}\ndef advance(optimizer):\n{two}"
TRAIN = """import torch
{imports}
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for batch in range(9):
    {call}(optimizer)
    model(torch.ones(2)).sum().backward()
    optimizer.step()
"""
ODD = ("def f(:\n", "", "x = '\\ud800'\n", "import torch  # gradlint: ignore[GL101]\n")
FUNCTIONS = ("forget", "advance")


@dataclass
class Project:
    """A folder that is edited at random."""

    folder: Path
    chance: random.Random
    kinds: Counter[str] = field(default_factory=Counter)

    def edit(self) -> str:
        """Do something; what it was."""
        does: list[Callable[[], str]] = [self.write] * 6 + [
            self.delete, self.rename, self.make_package, self.make_module, self.add_init, self.link, self.link_folder,
            self.drop_folder, self.shadow, self.touch,
        ]  # fmt: skip
        with contextlib.suppress(OSError):
            told = self.chance.choice(does)()
            self.kinds[told.split(" ")[0]] += 1
            return told
        return "nothing"

    def write(self) -> str:
        name = self.chance.choice(NAMES)
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text(path.stem), encoding="utf-8", errors="surrogatepass")
        return f"write {name}"

    def text(self, stem: str) -> str:
        pick = self.chance.choice
        if self.chance.random() < 0.07:
            return pick(ODD)
        module = pick(MODULES)
        line, call = pick(
            (
                (f"from {module} import {pick(FUNCTIONS)}", pick(FUNCTIONS)),
                (f"import {module}", f"{module}.{pick(FUNCTIONS)}"),
                (f"from {pick(DOTS)}{pick(('', module))} import {pick(FUNCTIONS)}", pick(FUNCTIONS)),
                (f"from {pick(DOTS)} import {pick(('steps', 'tools'))} as m", f"m.{pick(FUNCTIONS)}"),
                (f"from {module} import *", pick(FUNCTIONS)),
            )
        )
        if stem == "train":
            return TRAIN.format(imports=line, call=call)
        passed_on = f"    {call}(optimizer)\n"
        return HELPER.format(imports=line, one=pick((*BODIES, passed_on)), two=pick((*BODIES, passed_on)))

    def some(self, kind: Callable[[Path], bool] = Path.is_file) -> Path:
        found = sorted(path for path in self.folder.rglob("*") if kind(path) and not self.hidden(path))
        if not found:
            raise FileNotFoundError
        return self.chance.choice(found)

    def hidden(self, path: Path) -> bool:
        return ".cache" in path.parts

    def delete(self) -> str:
        path = self.some()
        path.unlink()
        return f"delete {path.name}"

    def rename(self) -> str:
        path, other = self.some(), self.folder / self.chance.choice(NAMES)
        other.parent.mkdir(parents=True, exist_ok=True)
        path.replace(other)
        return f"rename {path.name}"

    def make_package(self) -> str:
        path = self.some()
        package = path.with_suffix("")
        package.mkdir(exist_ok=True)
        path.replace(package / "__init__.py")
        return f"package {path.name}"

    def make_module(self) -> str:
        path = self.some(lambda path: path.name == "__init__.py" and path.parent != self.folder)
        path.replace(path.parent.with_name(path.parent.name + ".py"))
        return f"module {path.parent.name}"

    def add_init(self) -> str:
        folder = self.some(Path.is_dir)
        (folder / "__init__.py").write_text(self.chance.choice(("", self.text("__init__"))), encoding="utf-8")
        return f"init {folder.name}"

    def link(self) -> str:
        path, other = self.folder / self.chance.choice(NAMES), self.some()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(other if self.chance.random() < 0.9 else "nowhere")
        return f"link {path.name}"

    def link_folder(self) -> str:
        path = self.folder / self.chance.choice(("steps", "tools", "pkg", "src/steps"))
        if path.exists() or path.is_symlink():
            raise FileExistsError
        path.symlink_to(self.some(Path.is_dir), target_is_directory=True)
        return f"link-folder {path.name}"

    def drop_folder(self) -> str:
        folder = self.some(Path.is_dir)
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
        return f"drop {folder.name}"

    def shadow(self) -> str:
        """A folder where a module could be."""
        path = self.folder / self.chance.choice(NAMES).removesuffix(".py")
        path.mkdir(parents=True)
        return f"shadow {path.name}"

    def touch(self) -> str:
        path = self.some()
        os.utime(path)
        return f"touch {path.name}"


def edits(count: int, seed: int, folder: Path, kinds: Counter[str] | None = None) -> Iterator[str]:
    """Edit and lint `count` times; yields what went wrong, which is nothing."""
    chance = random.Random(seed)
    project = Project(folder / "project", chance, Counter() if kinds is None else kinds)
    project.folder.mkdir(parents=True)
    settings = Settings(
        root=project.folder, min_confidence=Confidence.LOW, cache_dir=folder / "cache", respect_gitignore=False
    )
    rules = rules_of(settings)
    history: list[str] = []
    paths: list[str] = []
    for _ in range(15):
        history.append(project.write())
    for number in range(count):
        history.append(project.edit())
        with inside(chance.choice([project.folder, project.folder, chance_folder(project)])):
            paths = [path for path in paths if os.path.exists(path)] if chance.random() < 0.6 else []
            paths = paths or chosen(project)
            warm, cold = (told(paths, rules, replace(settings, cache=cache)) for cache in (True, False))
        if warm != cold:
            yield f"seed {seed}, edit {number}: {history[-3:]}, {paths}\n--- warm\n{warm}\n--- cold\n{cold}"


def chance_folder(project: Project) -> Path:
    try:
        return project.some(Path.is_dir)
    except FileNotFoundError:
        return project.folder


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def chosen(project: Project) -> list[str]:
    """What is linted: all, a folder, or some files, as pre-commit does."""
    whole = sorted(str(path) for path in project.folder.rglob("*.py") if path.is_file())
    if not whole or project.chance.random() < 0.2:
        return [str(project.folder)]
    programs = [path for path in whole if path.endswith("train.py")]
    if programs and project.chance.random() < 0.6:
        return programs
    return project.chance.sample(whole, min(len(whole), project.chance.randint(1, 4)))


def told(paths: list[str], rules: Rules, settings: Settings) -> str:
    result = check(collect(paths, settings), rules, settings, jobs=1)
    problems = "".join(f"{problem.path}: {problem.message}\n" for problem in result.problems)
    return problems + json_report.render(replace(result, seconds=0.0))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--project-edits", type=int, default=200, help="after so many a new project is begun")
    options = parser.parse_args()
    start, failed, done, kinds = time.monotonic(), 0, 0, Counter[str]()
    seed = options.seed
    while done < options.edits:
        count = min(options.project_edits, options.edits - done)
        with tempfile.TemporaryDirectory() as folder:
            for wrong in edits(count, seed, Path(folder).resolve(), kinds):
                failed += 1
                print(wrong)
        done += count
        seed += 1
    print(f"{done} edits, {failed} runs differed, {time.monotonic() - start:.0f} s; {dict(sorted(kinds.items()))}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
