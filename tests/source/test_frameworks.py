"""The source of a framework is followed from inside of it, and from nowhere else."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from textwrap import dedent

import pytest

from gradcheck_lint import registry
from gradcheck_lint.finding import Confidence
from gradcheck_lint.source import frameworks
from gradcheck_lint.source.engine import analyse
from gradcheck_lint.source.file import SourceFile

RULES = [r for r in registry.load(()) if r.code == "GL101"]

# What would be said of `fit` if the helper were followed: it clears.
HELPER = """
def fresh(optimizer):
    optimizer.zero_grad()
"""
FIT = """
import torch
from {package} import fresh

def fit(net, data):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for x in data:
        fresh(optimizer)
        net(x).sum().backward()
        optimizer.step()
"""


def found(folder: Path, files: dict[str, str]) -> list[tuple[str, str]]:
    sources = []
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
        if name.endswith(".py"):
            sources.append(SourceFile(name, path, path.read_bytes()))
    findings = analyse(sources, RULES)
    return [(Path(f.span.path).name, f.code) for f in findings if f.confidence is Confidence.HIGH]


def package(name: str, where: str = "") -> dict[str, str]:
    """The files of a package that has the layout of a framework."""
    root = f"{where}{name}"
    return {f"{root}/__init__.py": HELPER} | {f"{root}/{mark}": "" for mark in frameworks.LAYOUT[name]}


@pytest.mark.parametrize("name", sorted(set(frameworks.LAYOUT) - {"torch"}))
@pytest.mark.parametrize("where", ["", "src/", "third_party/"])
def test_it_is_known_by_its_layout_wherever_it_lies(tmp_path: Path, name: str, where: str) -> None:
    dotted = where.replace("/", ".") if where.startswith("third") else ""
    files = {**package(name, where), "train.py": FIT.format(package=dotted + name)}
    assert found(tmp_path, files) == [("train.py", "GL101")]
    framework = frameworks.of(str(tmp_path / f"{where}{name}" / "__init__.py"))
    assert framework is not None
    assert framework.name == name


def test_a_module_of_ones_own_that_is_called_so_is_followed(tmp_path: Path) -> None:
    assert found(tmp_path, {"ignite.py": HELPER, "train.py": FIT.format(package="ignite")}) == []


def test_inside_of_it_all_is_followed(tmp_path: Path) -> None:
    files = {**package("accelerate"), "accelerate/train.py": FIT.format(package=".")}
    assert found(tmp_path, files) == []


def test_the_name_of_an_inner_module() -> None:
    def there(path: str) -> bool:
        return True

    known = frameworks.of("/home/me/project/vendor/lightning/pytorch/callbacks/__init__.py", there)
    assert known == frameworks.Framework("/home/me/project/vendor/lightning", "lightning.pytorch.callbacks")
    assert frameworks.of("/home/me/lightning/train.py", lambda path: False) is None


@pytest.mark.parametrize("name", sorted(frameworks.LAYOUT))
def test_the_layout_is_that_of_the_installed_package(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{name} is not installed")
    folder = Path(next(iter(spec.submodule_search_locations)))
    assert [mark for mark in frameworks.LAYOUT[name] if not (folder / mark).is_file()] == []


def test_what_keeps_the_cycle_by_itself_is_not_judged(tmp_path: Path) -> None:
    train = """
    import deepspeed

    def fit(net, data):
        engine, optimizer, _, _ = deepspeed.initialize(model=net, model_parameters=net.parameters())
        for x in data:
            net(x).sum().backward()
            optimizer.step()
    """
    assert found(tmp_path, {"train.py": train}) == []
    assert found(tmp_path, {"train.py": train.replace("deepspeed", "elsewhere")}) == [("train.py", "GL101")]
