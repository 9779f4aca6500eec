"""What `scripts/new_library.py` writes is found, well formed, and fails its test until the entry says something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("gradcheck_lint", "rules", "scripts/new_library.py", "tests/source/test_libraries.py", "pyproject.toml")
BLANK = "return None  # nothing is known of it yet: say what the call gives, and tell with `machine.emit` what it does"
CLEARS = 'machine.emit(node, ev.Zero(base, how="warm_up"))\n    return NONE'


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of what the script writes into."""
    for part in PARTS:
        new = tmp_path / part
        new.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, new, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, new)
    return tmp_path


def python(house: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(house)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=house, env=environment, capture_output=True, encoding="utf-8", check=False
    )


def new_library(house: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return python(house, "scripts/new_library.py", *arguments)


def passes(house: Path, name: str) -> bool:
    done = python(house, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/source/test_libraries.py", "-k", name)
    assert done.returncode in (0, 1), done.stdout  # 1: a test has failed; more than that: it could not be run
    return done.returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "module", "says"),
    [
        ("einops.rearrange", (), "einops", 'return args.get(0, "tensor")'),
        ("heapq.merge", (), "python", 'return args.get(0, "tensor")'),
        ("torch.nn.utils.skip_init", (), "torch_module", 'return args.get(0, "tensor")'),
        (".warm_up", ("--module", "torch_optim"), "torch_optim", CLEARS),
    ],
)
def test_the_pair_fails_until_it_is_filled_in(
    house: Path, name: str, options: tuple[str, ...], module: str, says: str
) -> None:
    done = new_library(house, name, *options)
    assert done.returncode == 0, done.stderr
    path = house / "gradcheck_lint" / "source" / "libraries" / f"{module}.py"
    code = path.read_text(encoding="utf-8")
    assert code.count(BLANK) == 1
    name = name.removeprefix(".")
    assert not passes(house, name)
    for command in (("check",), ("format", "--check")):
        ruff = python(house, "-m", "ruff", *command, str(path), "tests/source/test_libraries.py")
        assert ruff.returncode == 0, ruff.stdout
    path.write_text(code.replace(BLANK, says), encoding="utf-8")
    assert passes(house, name)


def test_names_that_are_taken_or_unfit_are_refused(house: Path) -> None:
    refusals = {
        ("functools.partial",): "functools.partial has an entry already",
        (".zero_grad", "--module", "torch_optim"): "zero_grad has an entry already",
        (".warm_up",): "say with --module",
        ("rearrange",): '"rearrange" should be a full name',
        ("einops.pack it",): '"einops.pack it" should be a full name',
        ("einops.pack", "--module", "outside"): "the module outside has no entries",
        ("einops.pack", "--module", "../x"): 'the module "../x" should be a name',
    }
    files = {path: path.read_bytes() for path in house.rglob("*.py")}
    for arguments, message in refusals.items():
        done = new_library(house, *arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in house.rglob("*.py")} == files
