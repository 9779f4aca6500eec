"""Random programs of the ordinary kind, right ones and wrong ones, linted, mended and run.

`made` puts a right program together (its truth is known, because it was built from it) and may then put one mistake
into it. `mutants` takes a wrong example from the page of a rule that has a fix, renames what is in it and puts other
code around it. What has to hold:

- nothing breaks inside gradlint, and linting twice finds the same;
- in a right program nothing is found, and mending leaves it as it is;
- what the safe fixes make of a wrong one has no finding that was not there before, is left alone by a second mending,
  and runs where the wrong one ran. Where one mistake was put into a right program and its finding is gone, the mended
  program computes what the right one computes.

    python -m tests.fuzz.programs --programs N --seed S
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING

from gradcheck_lint.finding import Confidence, Safety
from gradcheck_lint.source.file import SourceFile
from gradcheck_lint.source.lint import Batch, check
from gradcheck_lint.source.mend import mend
from tests.fuzz.mutants import mutated, parses
from tests.fuzz.trial import run_many, settings, usual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gradcheck_lint.finding import Finding
    from tests.fuzz.trial import Outcome

AT_ONCE = 60  # programs that are linted together, and run in one process
BATCHES = 6  # of data; both windows of accumulation, 2 and 3, fit into it


@dataclass(frozen=True, slots=True)
class Program:
    """One program, and what is known of it."""

    number: int
    name: str
    text: str
    twin: str = ""  # the right program that a mistake was put into
    right: bool = False


@dataclass
class Line:
    """A statement, what it is for, and what is in it."""

    role: str
    text: str
    body: list[Line] = field(default_factory=list)

    def written(self) -> str:
        inner = indent("".join(line.written() for line in self.body), "    ")
        return f"{self.text}\n{inner}"


@dataclass(frozen=True)
class Unit:
    """A model and its optimizer."""

    model: str
    opt: str
    scaler: str
    window: int
    clip: str
    zero_at: str
    zero: str
    plan: str  # the schedule: "", batch or epoch
    skip: bool
    helper: str  # which part is a function of its own: "", loss, turn


CLIPS = {
    "norm": "torch.nn.utils.clip_grad_norm_({model}.parameters(), 0.5)",
    "value": "torch.nn.utils.clip_grad_value_({model}.parameters(), 0.1)",
    "list": "torch.nn.utils.clip_grad_norm_([p for p in {model}.parameters() if p.grad is not None], max_norm=0.5)",
}
ZEROS = (
    "{opt}.zero_grad()",
    "{opt}.zero_grad(set_to_none=True)",
    "{opt}.zero_grad(set_to_none=False)",
    "{model}.zero_grad()",
    "for p in {model}.parameters():\n    p.grad = None",
)
OPTIMIZERS = (
    "torch.optim.SGD({model}.parameters(), lr=0.1)",
    "torch.optim.SGD({model}.parameters(), lr=0.05, momentum=0.9)",
    "torch.optim.Adam({model}.parameters(), lr=1e-2)",
    "torch.optim.AdamW([{{'params': {model}.parameters()}}], lr=1e-2)",
    "torch.optim.RMSprop(list({model}.parameters()), lr=1e-2)",
)
NETS = (
    "torch.nn.Linear(3, 2)",
    "torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))",
    "torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2, bias=False))",
    "Net()",
)
NOISE = (
    "seen += 1",
    "if seen % 3 == 0:\n    print('seen', seen)",
    "with torch.no_grad():\n    total += float(x.mean())",
    "try:\n    seen = int(seen)\nexcept ValueError:\n    seen = 0",
    "notes.append({{'seen': seen}})",
    "best = min(best, seen)",
    "if seen > 1000:\n    break",
    "for other in notes[-2:]:\n    seen += len(other) - 1",
    "assert x.shape[-1] == 3",
    "lr = {opt}.param_groups[0]['lr']",
    "norm = sum(p.grad.norm().item() for p in {model}.parameters() if p.grad is not None)",
    "# a remark\nseen = seen",
    "notes = [*notes, {{'lr': {opt}.param_groups[-1]['lr']}}][-5:]",
    "weights = {{name: p.detach().clone() for name, p in {model}.named_parameters()}}",
)
NAMES = (("model", "optimizer"), ("net", "opt"), ("student", "student_opt"), ("G", "opt_g"), ("policy", "adam"))


class Maker:
    """Makes one program of the random numbers that it is given."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.style = rng.choice(("script", "script", "function", "class", "main"))
        self.looping = rng.choice(("epochs", "epochs", "flat", "while", "enumerate"))
        count = rng.choice((1, 1, 1, 2, 2, 3))
        own = "self." if self.style == "class" else ""
        self.units = [self.unit(*names, own) for names in rng.sample(NAMES, count)]
        self.chosen = (
            rng.choice(("all", "all", "turns")) if count > 1 and all(u.window == 1 for u in self.units) else "all"
        )
        self.defs: list[str] = []

    def unit(self, model: str, opt: str, own: str) -> Unit:
        rng = self.rng
        scaled = rng.random() < 0.2
        window = rng.choice((1, 1, 1, 2, 3))
        zero_at = "end" if window > 1 else rng.choice(("start", "start", "backward", "end"))
        return Unit(
            model=own + model,
            opt=own + opt,
            scaler=f"{own}scaler_{opt}" if scaled else "",
            window=window,
            clip=rng.choice(("", "", *CLIPS)),
            zero_at=zero_at,
            zero=rng.choice(ZEROS[:1] * 4 + ZEROS),
            plan=rng.choice(("", "", "", "batch", "epoch")) if not scaled and window == 1 else "",
            skip=rng.random() < 0.15,
            helper=rng.choice(("", "", "", "loss", "turn")),
        )

    def filled(self, text: str, unit: Unit) -> str:
        return text.format(model=unit.model, opt=unit.opt)

    def turn(self, unit: Unit, index: str) -> list[Line]:
        """What is done with one batch."""
        rng = self.rng
        loss = f"torch.nn.functional.mse_loss({unit.model}(x), y)"
        if unit.helper == "loss":
            name = f"loss_of_{len(self.defs)}"
            self.defs.append(f"def {name}(m, x, y):\n    out = m(x)\n    return torch.nn.functional.mse_loss(out, y)\n")
            loss = f"{name}({unit.model}, x, y)"
        zero = Line("zero", self.filled(unit.zero, unit))
        lines = [zero] if unit.zero_at == "start" else []
        lines.append(Line("loss", f"loss = {loss}"))
        if unit.skip and self.looping != "while":
            lines.append(Line("skip", "if not torch.isfinite(loss):\n    continue"))
        if unit.window > 1:
            lines.append(Line("mean", rng.choice(("loss = loss / {n}", "loss /= {n}")).format(n=unit.window)))
        if unit.zero_at == "backward":
            lines.append(zero)
        made = f"{unit.scaler}.scale(loss).backward()" if unit.scaler else "loss.backward()"
        lines.append(Line("backward", made))
        tail: list[Line] = []
        if unit.clip:
            if unit.scaler:
                tail.append(Line("unscale", f"{unit.scaler}.unscale_({unit.opt})"))
            tail.append(Line("clip", self.filled(CLIPS[unit.clip], unit)))
        tail.append(Line("step", f"{unit.scaler}.step({unit.opt})" if unit.scaler else f"{unit.opt}.step()"))
        if unit.scaler:
            tail.append(Line("update", f"{unit.scaler}.update()"))
        if unit.zero_at == "end":
            tail.append(zero)
        if unit.plan == "batch":
            tail.append(Line("plan", f"{_plan(unit)}.step()"))
        if unit.window > 1:
            test = rng.choice(("({k} + 1) % {n} == 0", "{k} % {n} == {n} - 1")).format(k=index, n=unit.window)
            tail = [Line("window", f"if {test}:", tail)]
        return lines + tail

    def noisy(self, lines: list[Line], unit: Unit) -> list[Line]:
        """`lines` with other statements between them."""
        result = []
        for line in lines:
            while self.rng.random() < 0.12:
                result.append(Line("noise", self.filled(self.rng.choice(NOISE), unit)))
            if line.body:
                line = replace(line, body=self.noisy(line.body, unit))
            result.append(line)
        return result

    def tree(self) -> list[Line]:
        """The loops, and all that is in them."""
        flat = self.looping in ("flat", "while")
        index = "k" if flat else "i"
        turns = []
        for unit in self.units:
            lines = self.noisy(self.turn(unit, index), unit)
            turns.append(lines)
        if self.chosen == "turns":
            body = [
                Line("which", f"{'if' if not n else 'elif'} {index} % {len(turns)} == {n}:", lines)
                for n, lines in enumerate(turns)
            ]
        else:
            body = [line for lines in turns for line in lines]
        epochs = [Line("plan", f"{_plan(unit)}.step()") for unit in self.units if unit.plan == "epoch"]
        if self.looping == "flat":
            head = Line("loop", f"for k in range({BATCHES}):", [Line("data", "x, y = X[k], Y[k]"), *body])
            return [head, *epochs]
        if self.looping == "while":
            data = Line("data", "x, y = X[k], Y[k]")
            return [
                Line("data", "k = 0"),
                Line("loop", f"while k < {BATCHES}:", [data, *body, Line("data", "k += 1")]),
                *epochs,
            ]
        source = self.rng.choice(("enumerate(zip(X, Y))", "enumerate(batches())"))
        if "batches" in source:
            self.defs.append(f"def batches():\n    for k in range({BATCHES}):\n        yield X[k], Y[k]\n")
        inner = Line("loop", f"for i, (x, y) in {source}:", body)
        if self.looping == "enumerate":
            return [inner, *epochs]
        return [Line("loop", "for epoch in range(2):", [inner, *epochs])]

    def write(self, tree: Sequence[Line]) -> str:
        """The whole program."""
        setup, bare = [], []
        for number, unit in enumerate(self.units):
            model, opt = unit.model.removeprefix("self."), unit.opt.removeprefix("self.")
            bare += [model, opt]
            setup.append(f"{model} = {NETS[(number + len(model) + unit.window) % len(NETS)]}")
            setup.append(f"{opt} = {OPTIMIZERS[(number + len(opt)) % len(OPTIMIZERS)].format(model=model)}")
            if unit.scaler:
                setup.append(f"{unit.scaler.removeprefix('self.')} = torch.amp.GradScaler('cpu', init_scale=8.0)")
                bare.append(unit.scaler.removeprefix("self."))
            if unit.plan:
                name = _plan(unit).removeprefix("self.")
                setup.append(f"{name} = torch.optim.lr_scheduler.StepLR({opt}, 2, gamma=0.5)")
                bare.append(name)
        loops = "seen, total, best, notes = 0, 0.0, 100, []\n" + "".join(line.written() for line in tree)
        net = _NET if any("Net()" in line for line in setup) else ""
        data = f"X, Y = torch.randn({BATCHES}, 4, 3), torch.randn({BATCHES}, 4, 2)\n"
        head = f"import torch\n\n{net}torch.manual_seed(0)\n{data}"
        built, defs = "".join(f"{line}\n" for line in setup), "".join(self.defs)
        given = ", ".join(bare)
        if self.style == "function":
            function = f"def train({given}):\n{indent(loops, '    ')}"
            return f"{head}{built}{defs}\n\n{function}\n\ntrain({given})\n"
        if self.style == "main":
            models = ", ".join(unit.model for unit in self.units)
            function = f"def main():\n{indent(f'{built}{loops}return [{models}]', '    ')}"
            call = "if __name__ == '__main__':\n    models = torch.nn.ModuleList(main())"
            return f"{head}{defs}\n\n{function}\n\n\n{call}\n"
        if self.style == "class":
            init = f"def __init__(self, {given}):\n" + "".join(f"    self.{name} = {name}\n" for name in bare)
            methods = indent(f"{init}\ndef fit(self):\n{indent(loops, '    ')}", "    ")
            return f"{head}{built}{defs}\n\nclass Trainer:\n{methods}\n\ntrainer = Trainer({given})\ntrainer.fit()\n"
        return f"{head}{built}{defs}{loops}"


def _plan(unit: Unit) -> str:
    return f"{unit.opt}_plan"


_NET = """\
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(3, 4)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.body(x)))


"""


def _blocks(lines: list[Line]) -> Iterator[list[Line]]:
    yield lines
    for line in lines:
        if line.body:
            yield from _blocks(line.body)


def _find(lines: list[Line], role: str) -> tuple[list[Line], int] | None:
    """The first line of that role: its block, and where it is in it."""
    for block in _blocks(lines):
        for index, line in enumerate(block):
            if line.role == role:
                return block, index
    return None


def _beside(lines: list[Line], *roles: str) -> tuple[list[Line], list[int]] | None:
    """The first lines of these roles in one block."""
    for block in _blocks(lines):
        places = [next((i for i, line in enumerate(block) if line.role == role), -1) for role in roles]
        if min(places) >= 0:
            return block, places
    return None


def _drop(role: str) -> Callable[[list[Line], random.Random], bool]:
    def change(lines: list[Line], rng: random.Random) -> bool:
        found = _find(lines, role)
        if found:
            block, index = found
            block[index] = Line("noise", "seen += 0")
        return bool(found)

    return change


def _move(role: str, other: str, *, behind: bool) -> Callable[[list[Line], random.Random], bool]:
    def change(lines: list[Line], rng: random.Random) -> bool:
        found = _beside(lines, role, other)
        if not found:
            return False
        block, (index, _) = found
        line = block.pop(index)
        there = next(i for i, entry in enumerate(block) if entry.role == other)
        block.insert(there + behind, line)
        return True

    return change


def _text(role: str, old: str, new: str) -> Callable[[list[Line], random.Random], bool]:
    def change(lines: list[Line], rng: random.Random) -> bool:
        found = _find(lines, role)
        if not found or not re.search(old, found[0][found[1]].text):
            return False
        line = found[0][found[1]]
        line.text = re.sub(old, new, line.text, count=1)
        return True

    return change


def _zero_between(lines: list[Line], rng: random.Random) -> bool:
    found = _beside(lines, "zero", "backward", "step")
    if not found:
        return False
    block, (zero, backward, _) = found
    line = block.pop(zero)
    block.insert(next(i for i, entry in enumerate(block) if entry.role == "backward") + 1, line)
    return backward >= 0


def _skip_behind(lines: list[Line], rng: random.Random) -> bool:
    found = _beside(lines, "backward", "step", "zero")
    if not found or found[1][2] < found[1][1]:
        return False
    block, (backward, _, _) = found
    block.insert(backward + 1, Line("skip", "if seen % 4 == 1 and loss.item() > 0.5:", [Line("jump", "continue")]))
    return True


def _twice(role: str) -> Callable[[list[Line], random.Random], bool]:
    def change(lines: list[Line], rng: random.Random) -> bool:
        found = _find(lines, role)
        if found:
            block, index = found
            block.insert(index + 1, replace(block[index]))
        return bool(found)

    return change


MISTAKES: dict[str, Callable[[list[Line], random.Random], bool]] = {
    "zero left out": _drop("zero"),
    "backward left out": _drop("backward"),
    "step left out": _drop("step"),
    "unscale left out": _drop("unscale"),
    "update left out": _drop("update"),
    "zero between": _zero_between,
    "step before backward": _move("step", "backward", behind=False),
    "clip behind the step": _move("clip", "step", behind=True),
    "clip before the backward": _move("clip", "backward", behind=False),
    "plan before the step": _move("plan", "step", behind=False),
    "step not called": _text("step", r"\.step\(\)", ".step"),
    "zero not called": _text("zero", r"\.zero_grad\(\)", ".zero_grad"),
    "step past the scaler": _text("step", r"\S+\.step\((\S+)\)", r"\1.step()"),
    "loss not scaled": _text("backward", r"\S+\.scale\(loss\)", "loss"),
    "skipped behind backward": _skip_behind,
    "step twice": _twice("step"),
    "mean left out": _drop("mean"),
}


def made(seed: int, *, right: bool) -> Program:
    """The program of a number, as it should be or with a mistake."""
    rng = random.Random(seed)
    maker = Maker(rng)
    tree = maker.tree()
    twin = maker.write(tree)
    kinds = list(MISTAKES)
    rng.shuffle(kinds)
    if right:
        return Program(seed, f"{seed} right", twin, twin, right=True)
    for kind in kinds:
        if MISTAKES[kind](tree, rng):
            return Program(seed, f"{seed} {kind}", maker.write(tree), twin)
    return Program(seed, f"{seed} right", twin, twin, right=True)


@dataclass
class Counts:
    """What came of many programs."""

    seen: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    fixes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Counts) -> None:
        self.seen += other.seen
        self.codes += other.codes
        self.fixes += other.fixes
        self.failures += other.failures

    def fail(self, program: Program, why: str) -> None:
        self.failures.append((program.name, why))


def _mutant(seed: int) -> Program:
    name, text = mutated(seed)
    return Program(seed, f"{seed} {name}", text)


def program(seed: int) -> Program:
    """The program of a number: most are right, because linting the others takes much longer."""
    return _mutant(seed) if seed % 8 == 0 else made(seed, right=seed % 8 > 2)


def trials(programs: Sequence[Program], counts: Counts) -> None:
    """Lint, mend and run a few programs."""
    root = Path(__file__).parent / "nowhere"  # programs of one file, which find nothing beside them
    files = {f"p{n}.py": SourceFile(f"p{n}.py", root / f"p{n}.py", p.text.encode()) for n, p in enumerate(programs)}
    by_path = dict(zip(files, programs, strict=True))
    chosen = settings(root, Confidence.HIGH)
    first = check(Batch(tuple(files.values())), usual(), chosen, jobs=1)
    if programs[0].number % (10 * AT_ONCE) == 0:
        again = check(Batch(tuple(reversed(files.values()))), usual(), chosen, jobs=1)
        for here, there in zip(first.findings, again.findings, strict=False):
            if here != there:
                counts.fail(by_path[here.span.path], f"in another order it is {_told([there])}, not {_told([here])}")
    for problem in first.problems:
        counts.fail(by_path[problem.path], problem.message)
    found: dict[str, list[Finding]] = {path: [] for path in files}
    for finding in first.findings:
        found[finding.span.path].append(finding)
        counts.codes[finding.code] += 1
    for path, one in by_path.items():
        counts.seen["programs"] += 1
        counts.seen["right"] += one.right
        counts.seen["with findings"] += bool(found[path])
        if one.right and found[path]:
            counts.fail(one, f"right, but found: {_told(found[path])}")
    fixable = [path for path in files if any(f.fix and f.fix.safety is Safety.SAFE for f in found[path])]
    if not fixable:
        return
    batch = Batch(tuple(files[path] for path in fixable))
    mended = mend(batch, usual(), chosen, unsafe=False, jobs=1)
    second = mend(mended.batch, usual(), chosen, unsafe=False, jobs=1)
    after = {file.path: file.data.decode() for file in mended.batch.files}
    left: dict[str, list[Finding]] = {path: [] for path in files}
    for finding in mended.result.findings:
        left[finding.span.path].append(finding)
    for problem in mended.result.problems:
        counts.fail(by_path[problem.path], f"mending: {problem.message}")
    for path in second.plan.changes:
        counts.fail(by_path[path], "a second mending changes it again")
    for fixed in mended.plan.applied:
        counts.fixes[fixed.code] += 1
    changed = [path for path in fixable if after[path] != by_path[path].text]
    texts = [text for path in changed for text in (by_path[path].text, after[path], by_path[path].twin or "pass\n")]
    outcomes = run_many(texts)
    for number, path in enumerate(changed):
        _judge(by_path[path], found[path], left[path], outcomes[3 * number : 3 * number + 3], after[path], counts)


def _judge(
    one: Program, found: list[Finding], left: list[Finding], ran: Sequence[Outcome], text: str, counts: Counts
) -> None:
    """What has to hold of a program that was mended."""
    before, after, twin = ran
    counts.seen["mended"] += 1
    if not parses(text):
        counts.fail(one, "does not parse after mending")
    if after.error and not before.error:
        counts.fail(one, f"raises after mending: {after.error}")
    new = Counter(f.code for f in left) - Counter(f.code for f in found)
    if new:
        counts.fail(one, f"mending brings {', '.join(sorted(new))}")
    if one.right and before != after:
        counts.fail(one, "right, and changed by mending")
    if one.twin and not left and not after.error:
        counts.seen["repaired"] += after.weights == twin.weights
        if after.weights != twin.weights:
            counts.seen["mended to something else"] += 1
            counts.fail(one, "mended, but does not compute what the right program computes")


def _told(found: Sequence[Finding]) -> str:
    return "; ".join(f"{f.code} on line {f.span.line}: {f.message}" for f in found)


def try_many(seeds: range, *, jobs: int = 1, tell: bool = False) -> Counts:
    """The programs of these numbers, in so many processes."""
    counts = Counts()
    start = time.perf_counter()
    blocks = [seeds[at : at + AT_ONCE] for at in range(0, len(seeds), AT_ONCE)]
    with ProcessPoolExecutor(jobs) if jobs > 1 else nullcontext() as pool:
        for number, done in enumerate(pool.map(_block, blocks) if pool else map(_block, blocks), 1):
            counts.add(done)
            if tell and number % 50 == 0:
                said = f"{counts.seen['programs']} programs, {counts.fixes.total()} fixes"
                print(f"{said}, {len(counts.failures)} failures, {time.perf_counter() - start:.0f} s", flush=True)
    return counts


def _block(seeds: range) -> Counts:
    counts = Counts()
    trials([program(seed) for seed in seeds], counts)
    return counts


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.programs", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--programs", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the number of the first program")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="show a program, what is found and what is left")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="in so many processes")
    given = parser.parse_args(words)
    if given.show is not None:
        return _show(program(given.show))
    start = time.perf_counter()
    counts = try_many(range(given.seed, given.seed + given.programs), jobs=given.jobs, tell=True)
    seconds = time.perf_counter() - start
    for name, why in counts.failures:
        print(f"{name}: {why}")
    print("found:", ", ".join(f"{code} {number}" for code, number in sorted(counts.codes.items())))
    print("fixes executed:", ", ".join(f"{code} {number}" for code, number in sorted(counts.fixes.items())))
    print(", ".join(f"{number} {word}" for word, number in counts.seen.items()))
    print(
        f"{counts.seen['programs']} programs, {counts.codes.total()} findings, {counts.fixes.total()} fixes executed,"
        f" {len(counts.failures)} failures, {seconds:.0f} s, {counts.seen['programs'] / seconds:.0f} programs/s"
    )
    return int(bool(counts.failures))


def _show(one: Program) -> int:
    import difflib

    print(f"# {one.name}\n{one.text}")
    counts = Counts()
    root = Path(__file__).parent / "nowhere"
    batch = Batch((SourceFile("p0.py", root / "p0.py", one.text.encode()),))
    mended = mend(batch, usual(), settings(root, Confidence.HIGH), unsafe=False, jobs=1)
    print("found:", _told(check(batch, usual(), settings(root, Confidence.HIGH), jobs=1).findings))
    after = mended.batch.files[0].data.decode()
    print("".join(difflib.unified_diff(one.text.splitlines(True), after.splitlines(True), "wrong", "mended")))
    if one.twin and one.twin != one.text:
        print("".join(difflib.unified_diff(one.twin.splitlines(True), one.text.splitlines(True), "right", "wrong")))
    print("left:", _told(mended.result.findings))
    trials([one], counts)
    print(*counts.failures, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
