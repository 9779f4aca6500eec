"""What is installed is what pyproject.toml says, and loading it stays light."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import gradcheck_lint

ROOT = Path(__file__).resolve().parents[1]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python on this checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    document: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return document


def test_version_is_the_same_everywhere(project: dict[str, Any]) -> None:
    assert project["project"]["version"] == gradcheck_lint.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{gradcheck_lint.__version__}]" in changes


def test_command_exists(project: dict[str, Any]) -> None:
    (target,) = project["project"]["scripts"].values()
    module, _, name = target.partition(":")
    assert callable(getattr(import_module(module), name))


def test_types_and_rules_are_shipped(project: dict[str, Any]) -> None:
    assert (ROOT / "gradcheck_lint" / "py.typed").is_file()
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["gradcheck_lint"]
    assert wheel["force-include"] == {"rules": "gradcheck_lint/rules"}


def test_installing_it_needs_no_torch(project: dict[str, Any]) -> None:
    assert not [need for need in project["project"]["dependencies"] if need.startswith(("torch", "numpy"))]
    (pinned,) = [need for need in project["project"]["optional-dependencies"]["dev"] if need.startswith("torch")]
    assert pinned.startswith("torch==")  # an open range would bring the CUDA build on a machine that has none


@pytest.mark.parametrize("module", ["gradcheck_lint", "gradcheck_lint.cli"])
def test_import_is_light(module: str) -> None:
    program = f"import sys, {module}; print(sorted({{'torch', 'libcst', 'numpy', 'pathspec'}} & set(sys.modules)))"
    done = python("-c", program)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_loading_every_rule_needs_neither_torch_nor_libcst() -> None:
    program = (
        "import sys; from gradcheck_lint import registry; rules = registry.load(packs=False)\n"
        "print(len(rules) > 3, sorted({'torch', 'libcst'} & set(sys.modules)))"
    )
    done = python("-c", program)
    assert done.stdout.strip() == "True []", done.stdout + done.stderr


def test_every_public_name_can_be_had() -> None:
    program = "import gradcheck_lint as g; print([n for n in g.__all__ if getattr(g, n, None) is None])"
    assert python("-c", program).stdout.strip() == "[]"


def test_module_is_the_command() -> None:
    done = python("-m", "gradcheck_lint", "--version")
    assert done.returncode == 0, done.stderr
    assert gradcheck_lint.__version__ in done.stdout
