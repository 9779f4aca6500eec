"""How much a run of gradlint costs, beside TorchFix and beside merely parsing the same files.

    python benchmarks/lint.py FOLDER…

Everything is a fresh process whose start-up counts, and the CPU time (user and system, of the process and of all
that it waited for) is what the kernel says of it. The contestants take turns, one round after another, so that a
machine that gets slower does so for all of them; what is printed are medians, ratios within a round, and how far
the rounds lay apart. gradlint runs twice in each round: the ratio of its two runs is the noise of the others.

gradlint is that of this checkout, run by the Python that runs this script, with `--no-cache --jobs 1`. TorchFix is
installed from the package index into an environment of its own, outside the checkout; `--torchfix PATH` takes one
that is there already. "Cold" means that no finding is kept between runs; the files themselves have been read before,
and all packages are compiled to bytecode, ours as well as those that pip has compiled when it installed them.
Works on Linux and macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
SMALL = CHECKOUT / "examples" / "wrong" / "linear_module.py"
TORCHFIX = "TorchFix==0.7.0"

OURS = "gradlint"
AGAIN = "gradlint, once more"
PEER = "TorchFix"
AST = "ast.parse of every file"
CST = "libcst.parse_module of every file"
IMPORT = 'python -c "import libcst"'
BARE = "python -c pass"

UNPARSED = 3  # the exit code of a process that could not parse all files
PARSE = """
import sys
from {module} import {function} as parse
bad = 0
for name in open(sys.argv[1], encoding="utf-8").read().splitlines():
    data = open(name, "rb").read()
    try:
        parse(data)
    except Exception:
        bad += 1
if bad:
    print(bad, "files cannot be parsed", file=sys.stderr)
    sys.exit({unparsed})
"""


class BenchmarkError(Exception):
    """Something that would make the figures worthless; told in one line."""


@dataclass(frozen=True)
class Sample:
    """One process: what it cost, how it ended, what it printed."""

    cpu: float
    wall: float
    code: int
    output: str
    errors: str


@dataclass
class Contestant:
    """One command of a comparison and its samples, one for each round."""

    name: str
    command: Sequence[str]
    accepts: frozenset[int] = frozenset({0})  # the exit codes of a run that did its work
    samples: list[Sample] = field(default_factory=list)

    @property
    def cpu(self) -> list[float]:
        return [sample.cpu for sample in self.samples]

    @property
    def wall(self) -> list[float]:
        return [sample.wall for sample in self.samples]

    def run(self) -> Sample:
        """Run the command once; raises BenchmarkError where it did not do its work."""
        sample = measure(self.command)
        if sample.code not in self.accepts:
            last = (sample.errors or sample.output).strip().rpartition("\n")[2]
            raise BenchmarkError(f"{self.name} ended with code {sample.code}: {last or 'it printed nothing'}")
        return sample


def measure(command: Sequence[str]) -> Sample:
    """Run `command` to its end in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "NO_COLOR": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # it would make Python compile the checkout anew in every run
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment, cwd=tempfile.gettempdir()
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    return Sample(usage.ru_utime + usage.ru_stime, wall, process.returncode, *texts)


def compare(contestants: Sequence[Contestant], rounds: int) -> None:
    """Run every contestant once in each round; the one that goes first changes from round to round."""
    watched = sys.stderr.isatty()
    for number in range(rounds):
        turn = number % len(contestants)
        for contestant in (*contestants[turn:], *contestants[:turn]):
            if watched:
                print(f"\r\033[Kround {number + 1} of {rounds}: {contestant.name}", end="", file=sys.stderr, flush=True)
            contestant.samples.append(contestant.run())
    if watched:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def ratios(above: Contestant, below: Contestant) -> list[float]:
    """CPU time of the one over that of the other, round by round."""
    return [a / b for a, b in zip(above.cpu, below.cpu, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The lowest and the highest value."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"


def table(contestants: Sequence[Contestant], base: Contestant) -> str:
    """The medians in Markdown; `base` is the contestant that the ratios are taken against."""
    rows = [
        f"| command | CPU s | lowest to highest | wall s | CPU ÷ {base.name}'s | lowest to highest |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for each in contestants:
        ratio = ratios(each, base)
        rows.append(
            f"| {each.name} | {statistics.median(each.cpu):.2f} | {spread(each.cpu)}"
            f" | {statistics.median(each.wall):.2f} | {statistics.median(ratio):.2f} | {spread(ratio)} |"
        )
    return "\n".join(rows)


def bar(claim: str, ratio: Sequence[float], limit: float, *, least: bool) -> str:
    """One line that says whether the median of `ratio` keeps to its limit."""
    median = statistics.median(ratio)
    met = median >= limit if least else median <= limit
    wanted = f"at {'least' if least else 'most'} {limit:g}"
    return f"- {claim}: {median:.2f} ({spread(ratio)}), wanted {wanted}: {'met' if met else '**not met**'}"


def gradlint(path: Path, *more: str, name: str = OURS) -> Contestant:
    """gradlint of this checkout over `path`, cold and in one process."""
    command = [sys.executable, "-m", "gradcheck_lint", "--isolated", "--no-cache", "--jobs", "1", *more, str(path)]
    return Contestant(name, command, frozenset({0, 1}))


def parsing(name: str, module: str, function: str, listing: Path) -> Contestant:
    """A process that does nothing but parse the files named in `listing`."""
    program = PARSE.format(module=module, function=function, unparsed=UNPARSED)
    return Contestant(name, [sys.executable, "-c", program, str(listing)], frozenset({0, UNPARSED}))


def folder_report(folder: Path, torchfix: Path, rounds: int) -> str:
    """Measure one folder; a section in Markdown."""
    files = sorted(path for path in folder.rglob("*.py") if path.is_file())
    if not files:
        raise BenchmarkError(f"{folder} holds no Python files")
    with tempfile.TemporaryDirectory() as scratch:
        listing = Path(scratch) / "files.txt"
        listing.write_text("\n".join(map(str, files)), encoding="utf-8")
        ours = gradlint(folder)
        # TorchFix's exit code is 1 where it broke on a file, which is told below and does not end the comparison.
        peer = Contestant(
            PEER, [str(torchfix), "--select", "ALL", "--jobs", "1", "--show-stderr", str(folder)], frozenset({0, 1})
        )
        contestants = [
            ours,
            gradlint(folder, name=AGAIN),
            peer,
            parsing(AST, "ast", "parse", listing),
            parsing(CST, "libcst", "parse_module", listing),
        ]
        summary = warm_up(folder, len(files))
        compare(contestants, rounds)
    by_name = {each.name: each for each in contestants}
    lines = sum(path.read_bytes().count(b"\n") for path in files)
    parts = [
        f"### {folder.name}: {len(files)} files, {lines:,} lines",
        table(contestants, ours),
        "\n".join(
            [
                bar("TorchFix's CPU over gradlint's", ratios(peer, ours), 20, least=True),
                bar("gradlint's CPU over one parse by libcst", ratios(ours, by_name[CST]), 1, least=False),
                f"- noise, gradlint over itself: {spread(ratios(by_name[AGAIN], ours))}",
            ]
        ),
        f"gradlint: {summary}. {told_by_torchfix(peer.samples[-1])}",
        *(f"{each.name}: {each.samples[-1].errors.strip()}." for each in contestants[3:] if each.samples[-1].code),
    ]
    return "\n\n".join(parts)


def warm_up(folder: Path, files: int) -> str:
    """Run gradlint once without measuring it, so that its modules are compiled, and check what it did."""
    summary = json.loads(gradlint(folder, "--output-format", "json").run().output)["summary"]
    if summary["files"] != files:
        raise BenchmarkError(f"gradlint linted {summary['files']} files of {folder}, but it holds {files}")
    return f"{summary['files']} files, {summary['findings']} findings, {summary['errors']} files not checked"


def told_by_torchfix(sample: Sample) -> str:
    """What TorchFix says that it did, and the files on which it broke."""
    counted = re.search(r"Finished checking (\d+) files", sample.errors)
    broke = re.findall(r"^Failed to codemod (.+)$", sample.errors, re.MULTILINE)
    told = f"TorchFix: {counted[1]} files that mention torch" if counted else f"TorchFix ended with code {sample.code}"
    return f"{told}, broke on {len(broke)}{': ' if broke else ''}{', '.join(broke)}."


def small_report(file: Path, rounds: int) -> str:
    """Measure one small file against the import of the parser; a section in Markdown."""
    ours = gradlint(file)
    imports = Contestant(IMPORT, [sys.executable, "-c", "import libcst"])
    contestants = [ours, imports, Contestant(BARE, [sys.executable, "-c", "pass"])]
    for each in contestants:
        each.run()
    compare(contestants, rounds)
    lines = file.read_bytes().count(b"\n")
    return "\n\n".join(
        [
            f"### One small file: {file.name}, {lines} lines",
            table(contestants, imports),
            bar("gradlint's CPU over the import of libcst", ratios(ours, imports), 2, least=False),
        ]
    )


def installed_torchfix(cache: Path) -> Path:
    """The command torchfix in an environment of its own under `cache`, made from the package index if need be."""
    home = cache / TORCHFIX.replace("==", "-")
    command = home / "bin" / "torchfix"
    if not command.exists():
        print(f"installing {TORCHFIX} into {home}", file=sys.stderr)
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([home / "bin" / "pip", "install", "--quiet", TORCHFIX], check=True, stdin=subprocess.DEVNULL)
    return command


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gradlint-benchmarks"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Compare gradlint with TorchFix, ast and libcst over the same files, in CPU seconds."
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a folder of Python files")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything runs over a folder (default 5)")
    parser.add_argument("--small", type=Path, default=SMALL, metavar="FILE", help="the small file")
    parser.add_argument("--small-rounds", type=int, default=21, help="how often the small file is linted (default 21)")
    parser.add_argument("--torchfix", type=Path, metavar="PATH", help="a torchfix command that is installed already")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where TorchFix is installed otherwise")
    options = parser.parse_args()
    if not hasattr(os, "wait4"):
        print("this benchmark needs os.wait4, which only Linux and macOS have", file=sys.stderr)
        return 2
    try:
        torchfix = options.torchfix.resolve() if options.torchfix else installed_torchfix(options.cache)
        peer = measure([str(torchfix), "--version"]).output.strip()
        print(
            f"Python {platform.python_version()}, libcst {version('libcst')}, TorchFix {peer}, {os.cpu_count()} cores"
        )
        for folder in options.folders:
            print(f"\n{folder_report(folder.resolve(), torchfix, options.rounds)}", flush=True)
        print(f"\n{small_report(options.small.resolve(), options.small_rounds)}")
    except (BenchmarkError, OSError, subprocess.CalledProcessError) as error:
        print(f"benchmark stopped: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
