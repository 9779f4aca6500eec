"""The same findings, to the byte, whatever luck has a hand in: addresses, hash seeds, processes, orders, the cache.

Programs with many places that clear, go backward and step, so that a finding has to name one of several; the pages'
wrong examples; and `examples/`.

    python -m tests.fuzz.order --runs 20 --programs 300
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from gradcheck_lint import registry
from gradcheck_lint.config import Settings
from gradcheck_lint.finding import Confidence
from gradcheck_lint.page import Page
from gradcheck_lint.report import json, sarif
from gradcheck_lint.source.lint import Rules, check, collect

ROOT = Path(__file__).parent.parent.parent


@cache
def rules() -> Rules:
    known = tuple(registry.load(packs=False))
    return Rules(known, known)


# ---------------------------------------------------------------- programs


def program(rng: random.Random) -> str:
    """A program that does what training does, here and there."""
    lines = ["import torch", "from torch import nn"]
    for number in range(rng.choice([1, 1, 2, 3])):
        lines += [f"m{number} = nn.Linear(2, 2)", f"o{number} = torch.optim.Adam(m{number}.parameters(), lr=0.1)"]
        if rng.random() < 0.4:
            lines.append(f"s{number} = torch.optim.lr_scheduler.StepLR(o{number}, 1)")
    names = [line.split()[0] for line in lines if " = " in line]
    if rng.random() < 0.3:
        lines.append("scaler = torch.amp.GradScaler()")
        names.append("scaler")
    arguments = ", ".join([*names, "data"])
    if rng.random() < 0.4:
        lines += [f"def train({arguments}):", *_block(rng, names, 1, 0)]
        lines += ["data = [torch.ones(2)] * 8", f"train({arguments})"]
    elif rng.random() < 0.4:
        parameters = ", ".join(names)
        lines += ["class Trainer:", f"    def __init__(self, {parameters}):"]
        lines += [f"        self.{name} = {name}" for name in names]
        own = [f"self.{name}" for name in names]
        for method in ("epoch", "clear", "finish"):
            lines += [f"    def {method}(self, data=()):", *_block(rng, own, 2, 0)]
    else:
        lines += ["data = load()", *_block(rng, names, 0, 0)]
    return "\n".join(lines) + "\n"


def _block(rng: random.Random, names: Sequence[str], depth: int, loops: int) -> list[str]:
    return [line for _ in range(rng.randrange(2, 6)) for line in _statement(rng, names, depth, loops)]


def _statement(rng: random.Random, names: Sequence[str], depth: int, loops: int) -> list[str]:
    space = "    " * depth
    kind = rng.random()
    if depth < 5 and kind < 0.2:
        return [f"{space}for x in data:", *_block(rng, names, depth + 1, loops + 1)]
    if depth < 5 and kind < 0.32:
        test = rng.choice(["x.sum() > 1", "not torch.isfinite(x).all()", "step % 4 == 0", "flag", "isnan(loss)"])
        lines = [f"{space}if {test}:", *_block(rng, names, depth + 1, loops)]
        return [*lines, f"{space}else:", *_block(rng, names, depth + 1, loops)] if rng.random() < 0.4 else lines
    if depth < 5 and kind < 0.36:
        return [f"{space}try:", *_block(rng, names, depth + 1, loops), f"{space}except ValueError:",
                *_block(rng, names, depth + 1, loops)]  # fmt: skip
    if loops and kind < 0.4:
        return [space + rng.choice(["continue", "break"])]
    models = [name for name in names if name.rpartition(".")[2].startswith("m")]
    optimizers = [name for name in names if name.rpartition(".")[2].startswith("o")]
    schedules = [name for name in names if name.rpartition(".")[2].startswith("s") and name[-1].isdigit()]
    scaler = next((name for name in names if name.endswith("scaler")), "")
    m, n, o = rng.choice(models), rng.choice(models), rng.choice(optimizers)
    choices = [
        f"{o}.zero_grad()", f"{o}.zero_grad()", f"{m}.zero_grad()", f"{o}.step()", f"{o}.step()",
        f"loss = {m}(x).sum()", f"loss = {n}({m}(x)).sum()", "loss.backward()", f"{m}(x).sum().backward()",
        f"{n}({m}(x)).sum().backward(retain_graph=True)", f"nn.utils.clip_grad_norm_({m}.parameters(), 1.0)",
        f"h = {m}(h)", f"{m}.requires_grad_(False)", f"{m}.eval()", f"{m}.train()", f"{m} = {m}.double()",
        f"log({o})", f"best = {m}.state_dict()", "total = total + loss",
    ]  # fmt: skip
    choices += [f"{s}.step()" for s in schedules]
    if scaler:
        choices += [f"{scaler}.scale(loss).backward()", f"{scaler}.step({o})", f"{scaler}.update()",
                    f"{scaler}.unscale_({o})"]  # fmt: skip
    return [space + rng.choice(choices)]


TWO_PLACES = """\
import torch
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.Adam(model.parameters())
optimizer.zero_grad()
for epoch in range(3):
    for x in [torch.ones(2)] * int(input()):
        model(x).sum().backward()
        optimizer.step()
    optimizer.zero_grad()
"""
"""Either clearing may be named, and an unsafe fix deletes the one that is."""


def written() -> list[str]:
    """The pages' wrong examples, and the programs in `examples/`."""
    pages = [Page.read(path) for path in sorted((ROOT / "rules").glob("*.md"))]
    texts = [example.code for page in pages for example in page.examples if example.kind == "wrong"]
    return [TWO_PLACES, *texts, *(path.read_text("utf-8") for path in sorted((ROOT / "examples").glob("*/*.py")))]


def programs(number: int, seed: int) -> list[str]:
    return [*written(), *(program(random.Random(f"{seed}/{n}")) for n in range(number))]


def write(folder: Path, texts: Sequence[str]) -> list[str]:
    """Write each text to a file, every fifth beside one that imports it; gives the names of the files."""
    for number, text in enumerate(texts):
        (folder / f"p{number}.py").write_text(text, encoding="utf-8")
        if number % 5 == 0:
            user = f"import torch\nfrom p{number} import *\nfor x in data:\n    o0.step()\n    loss.backward()\n"
            (folder / f"u{number}.py").write_text(user, encoding="utf-8")
    return sorted(path.name for path in folder.glob("*.py"))


# ---------------------------------------------------------------- what is told of them


def told(paths: Sequence[str], *, jobs: int = 1, cache: bool = False) -> dict[str, str]:
    """JSON and SARIF of all files in the working directory, as the command writes them, but for the time it took."""
    settings = Settings(min_confidence=Confidence.LOW, cache=cache, root=Path.cwd())
    result = replace(check(collect(paths, settings), rules(), settings, jobs=jobs), seconds=0.0)
    return {"json": json.render(result), "sarif": sarif.render(result, sources=result.sources)}


def elsewhere(rng: random.Random) -> list[object]:
    """Things that lie about in memory, so that what is made next has other addresses."""
    kept: list[object] = [[object() for _ in range(rng.randrange(50))] for _ in range(rng.randrange(200, 3000))]
    rng.shuffle(kept)
    del kept[: len(kept) // 2]
    if rng.random() < 0.5:
        gc.collect()
    return kept


def differences(names: Sequence[str], runs: int, seed: int, jobs: Sequence[int] = (1,)) -> Iterator[str]:
    """What is told otherwise than the first time, in words."""
    rng = random.Random(seed)
    first = told(names)
    for run in range(runs):
        lying = elsewhere(rng)
        if rng.random() < 0.5:
            told(rng.sample(names, min(3, len(names))))  # what was analysed before has nothing to say
        order = [*names]
        rng.shuffle(order)
        given = rng.choice([order, ["."], [*order[: len(order) // 2], "."]])
        many = rng.choice(jobs)
        if told(given, jobs=many) != first:
            yield f"run {run}, {many} processes, {given[:3]}"
        del lying
    for state in ("cold", "warm", "warm again"):
        if told(names, jobs=jobs[-1], cache=True) != first:
            yield f"the cache is {state}"


def digest(names: Sequence[str]) -> str:
    found = told(names)
    return hashlib.sha256("".join(found[key] for key in sorted(found)).encode()).hexdigest()


def digests(folder: Path, seeds: Sequence[str]) -> dict[str, str]:
    """The digest of what a new process tells of the files, for some values of PYTHONHASHSEED."""
    found = {}
    for seed in seeds:
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.fuzz.order", "--digest"]
        found[seed] = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=True).stdout
    return found


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--digest", action="store_true", help="print the digest of what is told of this folder")
    options = parser.parse_args(words)
    if options.digest:
        print(digest(sorted(path.name for path in Path().glob("*.py"))))
        return 0
    start, failed, before = time.perf_counter(), 0, Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = write(folder, programs(options.programs, options.seed))
        os.chdir(folder)
        try:
            for difference in differences(names, options.runs, options.seed, (1, 2, 4)):
                failed += 1
                print(difference, flush=True)
            seeds = [str(seed) for seed in range(max(2, options.runs // 4))] + ["random"]
            here = digest(names)
            for seed, found in digests(folder, seeds).items():
                if found.strip() != here:
                    failed += 1
                    print(f"PYTHONHASHSEED={seed}", flush=True)
        finally:
            os.chdir(before)
    seconds = time.perf_counter() - start
    print(f"{len(names)} files, {options.runs} runs, {len(seeds)} hash seeds: {failed} differences, in {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
