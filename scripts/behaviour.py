"""What gradlint says, as data: to show that a change of the code changes nothing of it, or what it changes.

    python scripts/behaviour.py write FILE [FOLDER…] [--checkout PATH] [--programs N] [--jobs N] [--no-runs]
    python scripts/behaviour.py compare OLD NEW

`write` lints `examples/`, every example of the pages in `rules/`, N generated programs and the folders, each of which
is a project by itself, and runs the examples of both kinds under the watcher. FILE gets a line of JSON for each
finding, related places and fixes included, and for each record of a run. `--checkout` is the gradlint that is asked,
this one if it is left out; what is linted is that of this checkout in any case. Code in the FOLDERs is read, not run.
`compare` prints what only one of them says and exits with 1 if there is such a thing.

Needs `os.fork`: a run is a fork of a process that has torch.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
TIMES = frozenset({"seconds", "watching", "version", "python", "torch", "program", "numbers read"})
"""Keys of a record that differ between two runs of the same program, or say where it was run."""
LONGEST = 120  # seconds for a run


def write(target: Path, folders: list[Path], checkout: Path, programs: int, jobs: int, *, runs: bool) -> int:
    """Write all that gradlint says; how many lines that were."""
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="behaviour") as place:
        made = Path(place).resolve()
        shutil.copytree(HERE / "examples", made / "examples")
        pages(made / "pages")
        generated(made / "programs", programs)
        for folder in (made / "examples", made / "pages", made / "programs", *folders):
            if folder.is_dir():
                lines += (line(folder.name, said) for said in linted(folder, checkout, jobs))
        if runs:
            for folder in (made / "examples", made / "pages"):
                lines += (line(folder.name, said) for said in watched(folder, checkout))
    target.write_text("".join(f"{text}\n" for text in sorted(lines)), encoding="utf-8")
    return len(lines)


def line(name: str, said: dict[str, Any]) -> str:
    return json.dumps({"in": name, **said}, sort_keys=True, ensure_ascii=False)


def pages(folder: Path) -> None:
    """A file for each example of the pages."""
    from gradcheck_lint import registry
    from gradcheck_lint.page import Page

    folder.mkdir()
    for file in sorted(registry.home().glob("*.md")):
        page = Page.read(file)
        for example in page.examples:
            apart = "_norun" if example.norun or example.kind == "harm" else ""
            name = f"{page.code}_{example.kind}_{example.number}{apart}.py"
            (folder / name).write_text(example.code, encoding="utf-8")


def generated(folder: Path, count: int) -> None:
    sys.path.insert(0, str(HERE))
    from tests.fuzz import programs

    folder.mkdir()
    for seed in range(count):
        made = programs.program(seed)
        (folder / f"p{seed:06}.py").write_text(made.text, encoding="utf-8")


def linted(folder: Path, checkout: Path, jobs: int) -> Iterator[dict[str, Any]]:
    """The findings in a folder."""
    command = [sys.executable, "-m", "gradcheck_lint", ".", "--isolated", "--no-cache", "--min-confidence", "low"]
    command += ["--output-format", "json", "-j", str(jobs)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"gradlint ended with {done.returncode} in {folder}: {done.stderr[-2000:]}")
    said = json.loads(done.stdout)
    yield from said["findings"]
    yield from ({"problem": problem} for problem in said.get("problems", ()))
    yield {"summary": {key: value for key, value in said["summary"].items() if key not in TIMES}}


def watched(folder: Path, checkout: Path) -> Iterator[dict[str, Any]]:
    """The records of the programs in a folder, each run under the watcher."""
    files = [file for file in sorted(folder.rglob("*.py")) if not file.stem.endswith("_norun")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), str(HERE)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "run", str(folder), *map(str, files)]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            yield json.loads(text)
    if process.returncode:
        raise SystemExit(f"the runs of {folder} ended with {process.returncode}")


def run_all(folder: Path, files: list[str]) -> None:
    """Run programs, each in a fork, and print their records."""
    import torch

    import gradcheck_lint.runtime.session  # noqa: F401
    from gradcheck_lint import registry

    torch.manual_seed(0)  # the numbers of two runs are to be compared
    random.seed(0)
    torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)  # the first one imports a large part of torch
    registry.load(packs=False)
    for file in files:
        record = Path(tempfile.mkdtemp(prefix="behaviour")) / "record.json"
        if not (child := os.fork()):
            run_one(file, record)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        name = str(Path(file).relative_to(folder))
        try:
            said = cleaned(json.loads(record.read_text(encoding="utf-8")), str(folder) + os.sep)
        except (OSError, ValueError):
            said = None
        shutil.rmtree(record.parent)
        print(json.dumps({"run": name, "code": code, "record": said}), flush=True)


def run_one(file: str, record: Path) -> None:
    """Run a program under the watcher in this process, which ends with it."""
    import signal

    signal.alarm(LONGEST)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    code: Any = 1
    try:
        words = ["--isolated", "-q", "--min-confidence", "low", "--output-format", "json", "-o", str(record)]
        sys.argv = ["gradlint", "run", *words, file]
        runpy.run_module("gradcheck_lint", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    finally:
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def cleaned(value: Any, place: str) -> Any:
    """A record without what differs between two runs of the same program."""
    if isinstance(value, dict):
        return {key.replace(place, ""): cleaned(part, place) for key, part in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [cleaned(part, place) for part in value]
    return value.replace(place, "") if isinstance(value, str) else value


def compare(old: Path, new: Path) -> int:
    """Print the lines that only one of them has; how many these are."""
    before, after = (file.read_text(encoding="utf-8").splitlines() for file in (old, new))
    differ = 0
    for text in difflib.unified_diff(before, after, str(old), str(new), lineterm="", n=0):
        if text[:1] in "+-" and text[:3] not in ("+++", "---"):
            differ += 1
            print(text[:1000])
    print(f"{len(before)} and {len(after)} lines, {differ} of them only in one of the two")
    return differ


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(dest="word", required=True)
    writing = words.add_parser("write")
    writing.add_argument("file", type=Path)
    writing.add_argument("folders", type=Path, nargs="*")
    writing.add_argument("--checkout", type=Path, default=HERE)
    writing.add_argument("--programs", type=int, default=5000)
    writing.add_argument("--jobs", type=int, default=1)
    writing.add_argument("--no-runs", action="store_true")
    comparing = words.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    running = words.add_parser("run")  # for itself
    running.add_argument("folder", type=Path)
    running.add_argument("files", nargs="*")
    options = parser.parse_args()
    if options.word == "compare":
        return int(compare(options.old, options.new) > 0)
    if options.word == "run":
        run_all(options.folder, options.files)
        return 0
    if not options.no_runs and not hasattr(os, "fork"):
        parser.error("this system has no fork; say --no-runs")
    folders, checkout = [each.resolve() for each in options.folders], options.checkout.resolve()
    count = write(options.file, folders, checkout, options.programs, options.jobs, runs=not options.no_runs)
    print(f"{count} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
