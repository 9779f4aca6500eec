"""How many injected mistakes the linter tells, by kind of mistake.

    python benchmarks/inject.py FOLDER… [--only NAME] [--most N] [--misses]

FOLDER holds training code. Where a file shows a loop that runs a model, computes a loss, goes backward and steps, each
operator below puts one mistake into a copy of it, as somebody may make it; everything else stays as its author wrote
it. The copies and the originals are linted at confidence high, and a mistake counts as told where the copy has a
finding of a right code that the original does not have, within three lines of what was changed. A site is left out
where the file alone does not show that the result is wrong: the model has to be one whose parameters an optimizer in
the same file takes.

Nothing is executed, and nothing is written outside of a temporary folder. At most N sites of each operator are taken
in one folder (the first of each file in turn), so that no author stands for all.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
NEAR = 3  # lines between a finding and the change


@dataclass(frozen=True)
class Edit:
    """Lines `first` to `last` of a file, counted from 1, become `text`; where `last` is less, `text` is put before."""

    first: int
    last: int
    text: list[str]


@dataclass(frozen=True)
class Mutant:
    operator: str
    edits: tuple[Edit, ...]
    lines: tuple[int, ...]
    """Lines of the copy on which, or near which, a finding may stand."""


@dataclass
class Site:
    """A block of a loop: `out = model(…)`, then `loss = f(out, …)`, then `loss.backward()`."""

    file: File
    block: list[ast.stmt]
    loop: ast.For | ast.While
    model: str
    forward: ast.Assign
    out: str
    loss: ast.Assign
    name: str
    backward: ast.Expr


@dataclass
class File:
    """A file of training code, its tree and what it shows of models and losses."""

    path: Path
    lines: list[str]
    tree: ast.Module
    models: set[str] = field(default_factory=set)
    """What has its `.parameters()` handed to an optimizer: "model", "self.net"."""
    optimizers: dict[str, ast.Assign] = field(default_factory=dict)
    """The optimizers, by the names that they are given."""
    criteria: dict[str, str] = field(default_factory=dict)
    """The classes of torch that losses are made of, by the names that they are given."""

    def indent(self, statement: ast.stmt) -> str:
        return " " * statement.col_offset

    def put_before(self, statement: ast.stmt, *texts: str) -> Edit:
        return Edit(statement.lineno, statement.lineno - 1, [self.indent(statement) + text for text in texts])

    def put_after(self, statement: ast.stmt, *texts: str) -> Edit:
        last = statement.end_lineno or statement.lineno
        return Edit(last + 1, last, [self.indent(statement) + text for text in texts])

    def replace(self, statement: ast.stmt, *texts: str) -> Edit:
        return Edit(
            statement.lineno,
            statement.end_lineno or statement.lineno,
            [self.indent(statement) + text for text in texts],
        )

    def within(self, statement: ast.stmt, *heads: str) -> Edit:
        """The statement, under some heads of blocks; its own lines go in by as many levels."""
        last = statement.end_lineno or statement.lineno
        own = [" " * 4 * len(heads) + line for line in self.lines[statement.lineno - 1 : last]]
        return Edit(statement.lineno, last, [self.indent(statement) + heads[0], *own])


Operator = Callable[[Site], Iterator[tuple[list[Edit], list[ast.stmt]]]]
OPERATORS: dict[str, tuple[Operator, frozenset[str]]] = {}


def operator(name: str, *codes: str) -> Callable[[Operator], Operator]:
    def enter(function: Operator) -> Operator:
        OPERATORS[name] = function, frozenset(codes)
        return function

    return enter


def dotted(node: ast.AST | None) -> str:
    """`self.net` of an attribute of names; "" of anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def last_name(node: ast.AST | None) -> str:
    return dotted(node).rpartition(".")[2]


def assigned(statement: ast.stmt) -> str:
    """The one name that a statement assigns; "" if it is another statement."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        return dotted(statement.targets[0])
    return ""


OPTIMIZERS = frozenset("SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam".split())
LOSSES = re.compile(r"^(CrossEntropyLoss|BCEWithLogitsLoss|MSELoss|L1Loss|NLLLoss|BCELoss|SmoothL1Loss)$")


def read(path: Path) -> File | None:
    try:
        text = path.read_text(encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError):
        return None
    if "\t" in text or "\r" in text or ".backward(" not in text:
        return None
    file = File(path, text.split("\n"), tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        name, made = assigned(node), last_name(node.value.func)
        if not name:
            continue
        if made in OPTIMIZERS and node.value.args:
            given = node.value.args[0]
            if isinstance(given, ast.Call) and last_name(given.func) == "parameters":
                assert isinstance(given.func, ast.Attribute)
                file.models.add(dotted(given.func.value))
                file.optimizers[name] = node
        elif LOSSES.match(made):
            file.criteria[name] = made
    file.models.discard("")
    return file


def sites(file: File) -> Iterator[Site]:
    for loop in ast.walk(file.tree):
        if isinstance(loop, (ast.For, ast.While)):
            for block in blocks(loop):
                site = site_in(file, loop, block)
                if site is not None:
                    yield site


def blocks(loop: ast.For | ast.While) -> Iterator[list[ast.stmt]]:
    """The body of a loop, and of the `with` in it."""
    todo = [loop.body]
    while todo:
        block = todo.pop()
        yield block
        todo += [statement.body for statement in block if isinstance(statement, ast.With)]


def site_in(file: File, loop: ast.For | ast.While, block: list[ast.stmt]) -> Site | None:
    forward: dict[str, ast.Assign] = {}
    losses: dict[str, tuple[ast.Assign, str]] = {}
    for statement in block:
        name = assigned(statement)
        if name and isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call):
            call = statement.value
            plain = not call.keywords and all(isinstance(a, (ast.Name, ast.Attribute, ast.Constant)) for a in call.args)
            if dotted(call.func) in file.models:
                forward[name] = statement
            elif plain and call.args and (dotted(call.func) in file.criteria or "loss" in last_name(call.func).lower()):
                first = dotted(call.args[0])
                others = {dotted(a) for a in call.args[1:]}
                if first in forward and not others & set(forward) and name not in forward:
                    losses[name] = statement, first
        call_ = statement.value if isinstance(statement, ast.Expr) else None
        if (
            isinstance(statement, ast.Expr)
            and isinstance(call_, ast.Call)
            and isinstance(call_.func, ast.Attribute)
            and call_.func.attr == "backward"
            and dotted(call_.func.value) in losses
        ):
            name = dotted(call_.func.value)
            loss, out = losses[name]
            if len(forward) == 1 and "." not in name:
                run = forward[out].value
                assert isinstance(run, ast.Call)
                return Site(file, block, loop, dotted(run.func), forward[out], out, loss, name, statement)
    return None


def criterion(site: Site) -> str:
    """The class of torch that computes the loss of a site; "" if the file does not show it."""
    assert isinstance(site.loss.value, ast.Call)
    func = site.loss.value.func
    functional = {"cross_entropy": "CrossEntropyLoss", "binary_cross_entropy_with_logits": "BCEWithLogitsLoss"}
    return site.file.criteria.get(dotted(func)) or functional.get(last_name(func), "")


@operator("output-detached", "GL402")
def output_detached(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    yield [site.file.put_after(site.forward, f"{site.out} = {site.out}.detach()")], [site.forward, site.backward]


@operator("output-to-numpy-and-back", "GL402", "GL401")
def output_rebuilt(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    text = f"{site.out} = torch.tensor({site.out}.tolist())"
    yield [site.file.put_after(site.forward, text)], [site.forward, site.backward]


@operator("loss-made-anew", "GL401")
def loss_rebuilt(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    text = f"{site.name} = torch.tensor({site.name}.item(), requires_grad=True)"
    yield [site.file.put_after(site.loss, text)], [site.loss, site.backward]


@operator("predictions-instead-of-scores", "GL402", "GL403")
def argmax(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    text = f"{site.out} = {site.out}.argmax(dim=1).float()"
    yield [site.file.put_after(site.forward, text)], [site.forward, site.loss, site.backward]


@operator("forward-under-no-grad", "GL404")
def under_no_grad(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    yield [site.file.within(site.forward, "with torch.no_grad():")], [site.forward, site.backward]


@operator("gradients-switched-off", "GL404")
def switched_off(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    yield [site.file.put_before(site.loop, "torch.set_grad_enabled(False)")], [site.loop, site.forward, site.backward]


@operator("running-total-backward", "GL413", "GL112")
def running_total(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    edits = [
        site.file.put_before(site.loop, "running = 0"),
        site.file.replace(site.backward, f"running = running + {site.name}", "running.backward()"),
    ]
    yield edits, [site.backward]


@operator("losses-kept-with-their-graphs", "GL407")
def kept(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    edits = [
        site.file.put_before(site.loop, "kept_losses = []"),
        site.file.put_after(site.backward, f"kept_losses.append({site.name})"),
    ]
    yield edits, [site.backward]


@operator("softmax-before-cross-entropy", "GL701")
def softmax(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    made = {"CrossEntropyLoss": "softmax(dim=1)", "BCEWithLogitsLoss": "sigmoid()"}.get(criterion(site))
    if made is not None:
        text = f"{site.out} = {site.out}.{made}"
        yield [site.file.put_after(site.forward, text)], [site.forward, site.loss, site.backward]


@operator("softmax-ends-the-model", "GL701")
def softmax_in_model(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    last = _last_return(site)
    made = {"CrossEntropyLoss": "softmax(dim=1)", "BCEWithLogitsLoss": "sigmoid()"}.get(criterion(site))
    if last is not None and last.value is not None and made is not None:
        text = f"return ({ast.unparse(last.value)}).{made}"
        yield [site.file.replace(last, text)], [site.forward, site.loss, site.backward]


@operator("likelihood-of-scores", "GL702")
def scores(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    """The loss is exchanged; the model has to end in a linear layer that the file shows."""
    last = _last_return(site)
    call = last.value if last is not None else None
    if (
        not isinstance(call, ast.Call)
        or dotted(call.func) not in _linear(site)
        or criterion(site) != "CrossEntropyLoss"
        or "import torch" not in site.file.lines
    ):
        return
    assert isinstance(site.loss.value, ast.Call)
    given = ", ".join(ast.unparse(a) for a in site.loss.value.args[:2])
    text = f"{site.name} = torch.nn.functional.nll_loss({given})"
    yield [site.file.replace(site.loss, text)], [site.loss, site.backward]


@operator("loss-arguments-swapped", "GL705")
def swapped(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    call = site.loss.value
    assert isinstance(call, ast.Call)
    if criterion(site) in ("CrossEntropyLoss", "BCEWithLogitsLoss", "BCELoss", "NLLLoss") and len(call.args) == 2:
        target = dotted(call.args[1])
        if target in {dotted(name) for name in ast.walk(site.loop.target)} if isinstance(site.loop, ast.For) else ():
            text = f"{site.name} = {ast.unparse(call.func)}({target}, {site.out})"
            yield [site.file.replace(site.loss, text)], [site.loss, site.backward]


def _model_class(site: Site) -> ast.ClassDef | None:
    """The class of the model of a site, where the file has it and builds the model by its name."""
    built = {
        last_name(node.value.func)
        for node in ast.walk(site.file.tree)
        if isinstance(node, ast.Assign) and assigned(node) == site.model and isinstance(node.value, ast.Call)
    }
    classes = [c for c in ast.walk(site.file.tree) if isinstance(c, ast.ClassDef) and c.name in built]
    return classes[0] if len(classes) == 1 and len(built) == 1 else None


def _last_return(site: Site) -> ast.Return | None:
    """The only `return` of the model's forward pass."""
    cls = _model_class(site)
    for method in cls.body if cls is not None else ():
        if isinstance(method, ast.FunctionDef) and method.name == "forward":
            found = [node for node in ast.walk(method) if isinstance(node, ast.Return)]
            if len(found) == 1 and not isinstance(found[0].value, (ast.Tuple, ast.Dict)):
                return found[0]
    return None


def _linear(site: Site) -> set[str]:
    """What the model's class calls its linear layers: `self.fc`."""
    cls = _model_class(site)
    return {
        assigned(node)
        for node in (ast.walk(cls) if cls is not None else ())
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and last_name(node.value.func) == "Linear"
    }


@operator("copy-dropped", "GL503")
def dropped(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    yield [site.file.put_after(site.loss, f"{site.name}.clamp(max=10.0)")], [site.loss]


@operator("optimizer-in-the-loop", "GL114")
def rebuilt(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    for name, made in site.file.optimizers.items():
        value = ast.unparse(made.value)
        if f"{site.model}.parameters()" in value and made not in site.block and _stateful(made):
            yield [site.file.put_before(site.forward, f"{name} = {value}")], [site.forward]


def _stateful(made: ast.Assign) -> bool:
    assert isinstance(made.value, ast.Call)
    return last_name(made.value.func) != "SGD" or "momentum" in ast.unparse(made.value)


@operator("model-copied-after-optimizer", "GL202")
def replaced(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    for made in site.file.optimizers.values():
        if f"{site.model}.parameters()" in ast.unparse(made.value) and made.lineno < site.loop.lineno:
            texts = "import copy", f"{site.model} = copy.deepcopy({site.model})"
            yield [site.file.put_after(made, *texts)], [made]
            return


def _body_of(tree: ast.Module, statement: ast.stmt) -> list[ast.stmt]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and statement in body:
            return body
    return []


@operator("eval-never-left", "GL501")
def eval_left(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    """`model.train()` goes out of a loop over epochs whose body validates as well."""
    for epochs in ast.walk(site.file.tree):
        if not isinstance(epochs, (ast.For, ast.While)) or epochs is site.loop or site.loop not in epochs.body:
            continue
        calls = [s for s in ast.walk(epochs) if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
        switches = {"train": [], "eval": []}  # type: dict[str, list[ast.Expr]]
        for statement in calls:
            func = statement.value.func if isinstance(statement.value, ast.Call) else None
            if isinstance(func, ast.Attribute) and func.attr in switches and dotted(func.value) == site.model:
                switches[func.attr].append(statement)
        layers = re.search(r"Dropout|BatchNorm|models\.(resnet|vgg|densenet|mobilenet)", "\n".join(site.file.lines))
        if layers and len(switches["train"]) == 1 and switches["eval"]:
            edit = site.file.replace(switches["train"][0], "pass")
            yield [edit], [*switches["eval"], *switches["train"]]


@operator("dropout-always-on", "GL502")
def always_on(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    for statement in ast.walk(site.file.tree):
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            text = ast.unparse(statement)
            if "dropout(" in text and "training=self.training" in text:
                wrong = re.sub(r",? *training=self\.training", "", text)
                yield [site.file.replace(statement, wrong)], [statement]


@operator("one-layer-many-times", "GL211")
def many_times(site: Site) -> Iterator[tuple[list[Edit], list[ast.stmt]]]:
    for statement in ast.walk(site.file.tree):
        if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.Call):
            continue
        call = statement.value
        if last_name(call.func) != "ModuleList" or len(call.args) != 1 or not isinstance(call.args[0], ast.ListComp):
            continue
        listed = call.args[0]
        target = listed.generators[0].target
        names = {n.id for n in ast.walk(listed.elt) if isinstance(n, ast.Name)}
        source = listed.generators[0].iter
        if (
            len(listed.generators) == 1
            and isinstance(target, ast.Name)
            and target.id not in names
            and isinstance(listed.elt, ast.Call)
            and isinstance(source, ast.Call)
            and last_name(source.func) == "range"
            and len(source.args) == 1
        ):
            text = (
                f"{ast.unparse(statement.targets[0])} = {ast.unparse(call.func)}"
                f"([{ast.unparse(listed.elt)}] * {ast.unparse(source.args[0])})"
            )
            yield [site.file.replace(statement, text)], [statement]


def apply(file: File, edits: list[Edit]) -> tuple[list[str], Callable[[int], int]]:
    """The lines of the copy, and where a line of the original stands in it."""
    lines = list(file.lines)
    for edit in sorted(edits, key=lambda e: -e.first):
        lines[edit.first - 1 : max(edit.last, edit.first - 1)] = edit.text

    def moved(line: int) -> int:
        return line + sum(
            len(e.text) - (e.last - e.first + 1) for e in edits if e.first < line or (e.last < e.first <= line)
        )

    return lines, moved


def mutants(file: File, only: str) -> Iterator[tuple[Mutant, list[str]]]:
    found = list(sites(file))
    for name, (make, _) in OPERATORS.items():
        if only and only not in name:
            continue
        seen: set[tuple[int, ...]] = set()
        for site in found:
            for edits, marked in make(site):
                key = tuple(e.first for e in edits)
                if key in seen:
                    continue
                seen.add(key)
                lines, moved = apply(file, edits)
                try:
                    ast.parse("\n".join(lines))
                except SyntaxError:
                    continue
                spots = {moved(s.lineno) for s in marked} | {e.first for e in edits}
                yield Mutant(name, tuple(edits), tuple(sorted(spots))), lines


def lint(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """The findings of confidence high below a folder: for each file its codes and lines."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "gradcheck_lint", "--isolated", "--no-cache", "--output-format", "json", "."]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(f"gradlint ended with code {done.returncode}: {done.stderr.strip()[-300:]}")
    found: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for finding in json.loads(done.stdout)["findings"]:
        found[str(Path(finding["path"]))].append((finding["code"], finding["line"]))
    return found


def chosen(folder: Path, only: str, most: int) -> list[tuple[File, Mutant, list[str]]]:
    """At most so many mutants of each operator, the files taken in turn."""
    waiting: dict[str, list[list[tuple[File, Mutant, list[str]]]]] = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        file = read(path)
        if file is None:
            continue
        own: dict[str, list[tuple[File, Mutant, list[str]]]] = defaultdict(list)
        for mutant, lines in mutants(file, only):
            own[mutant.operator].append((file, mutant, lines))
        for name, made in own.items():
            waiting[name].append(made)
    taken = []
    for name in OPERATORS:
        queue, left = [list(made) for made in waiting[name]], most
        while queue and left:
            for made in queue[:left]:
                taken.append(made.pop(0))
                left -= 1
            queue = [made for made in queue if made]
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--only", default="", metavar="NAME", help="only operators with this in their name")
    parser.add_argument("--most", type=int, default=6, metavar="N", help="sites of an operator in a folder (6)")
    parser.add_argument("--misses", action="store_true", help="name the sites that are not told")
    args = parser.parse_args()
    told: dict[str, list[bool]] = {name: [] for name in OPERATORS}
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        all_made = [made for folder in args.folders for made in chosen(folder, args.only, args.most)]
        for number, (file, _, lines) in enumerate(all_made):
            for kind, text in (("copy", "\n".join(lines)), ("original", "\n".join(file.lines))):
                target = root / kind / f"m{number}" / file.path.name
                target.parent.mkdir(parents=True)
                target.write_text(text, encoding="utf-8")
        if not all_made:
            print("no site was found", file=sys.stderr)
            return 2
        copies, originals = lint(root / "copy"), lint(root / "original")
        for number, (file, mutant, _) in enumerate(all_made):
            name = str(Path(f"m{number}") / file.path.name)
            codes = OPERATORS[mutant.operator][1]
            before = sum(code in codes for code, _ in originals.get(name, []))
            near = [
                code
                for code, line in copies.get(name, [])
                if code in codes and any(abs(line - spot) <= NEAR for spot in mutant.lines)
            ]
            hit = bool(near) and sum(code in codes for code, _ in copies[name]) > before
            told[mutant.operator].append(hit)
            if not hit:
                others = sorted({code for code, _ in copies.get(name, [])})
                missed.append(f"{mutant.operator}: {file.path}:{mutant.edits[-1].first} {' '.join(others)}")
    print(f"{'operator':32} {'sites':>5} {'told':>5}")
    for name, hits in told.items():
        if hits:
            print(f"{name:32} {len(hits):5} {sum(hits):5}  {sum(hits) / len(hits):4.0%}")
    if args.misses:
        print("\n".join(["", "not told:", *missed]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
