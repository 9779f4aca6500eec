"""Start what gradlint is to know of a function or method of a library: write the entry and its test.

    python scripts/new_library.py einops.rearrange
    python scripts/new_library.py .warm_up --module torch_optim

A name that begins with a dot is a method. The pair is honest: the test fails until the entry says what the call gives.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.source import torch_api
from gradcheck_lint.source.libraries.found import library

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ROOT / "gradcheck_lint" / "source" / "libraries"
TEST = ROOT / "tests" / "source" / "test_libraries.py"
ENTERING = "from gradcheck_lint.source.run.library import "

MODULE = '''\
"""What functions and methods of {head} do."""

from __future__ import annotations

from gradcheck_lint.source import tree
from gradcheck_lint.source.run.arguments import Arguments
from gradcheck_lint.source.run.library import {kind}
from gradcheck_lint.source.run.machine import Machine
from gradcheck_lint.source.values import Value
'''

ENTRY = """

@{kind}("{name}")
def {handler}({parameters}) -> Value | None:
    return None  # nothing is known of it yet: say what the call gives, and tell with `machine.emit` what it does
"""


class Entry(NamedTuple):
    """What is to be written: the name of a function in full, or of a method, and the module that it goes to."""

    kind: str  # "function" or "method", as the decorators are called
    name: str
    module: str

    @property
    def row(self) -> str:
        """The row of the test: how a program clears gradients through the call."""
        if self.kind == "method":
            return f'    "method {self.name}": ("", "OPT.{self.name}()", ""),\n'
        head = self.name.partition(".")[0]
        name, before = (self.name.partition(".")[2], "") if head == "builtins" else (self.name, f"import {head}\\n")
        return f'    "{self.name}": ("{before}one = {name}(OPT)", "one.zero_grad()", ""),\n'

    def code(self, text: str) -> str:
        """The text of the module with the entry at its end; raises ConfigError for one that has no entries."""
        if not text:
            text = MODULE.format(head=self.module, kind=self.kind)
        found = re.search(f"^{ENTERING}(.+)$", text, re.MULTILINE)
        if found is None:
            raise ConfigError(f"the module {self.module} has no entries; choose another with --module")
        names = sorted({*found[1].split(", "), self.kind})
        text = text.replace(found[0], ENTERING + ", ".join(names))
        last = self.name.rpartition(".")[2]
        handler = next(
            h for h in (f"_{last}", f"_{self.name.replace('.', '_')}", f"_of_{last}") if f"def {h}(" not in text
        )
        parameters = "machine: Machine, args: Arguments, node: tree.Call"
        if self.kind == "method":
            parameters = parameters.replace("args", "base: Value, args")
        return text + ENTRY.format(kind=self.kind, name=self.name, handler=handler, parameters=parameters)


def entry(name: str, module: str) -> Entry:
    """What to write for a name; raises ConfigError where it is unfit or taken, or its module is not clear."""
    known = library()
    kind = "method" if name.startswith(".") else "function"
    name = name.removeprefix(".")
    if not all(part.isidentifier() for part in name.split(".")) or ("." in name) != (kind == "function"):
        raise ConfigError(f'"{name}" should be a full name, as functools.partial, or a method, as .zero_grad')
    head, _, last = name.rpartition(".")
    if head.rpartition(".")[2][:1].isupper() and not last[:1].isupper():
        raise ConfigError(f"{name} is a method; write .{last} --module {name.partition('.')[0]}")
    if (name in known.methods) if kind == "method" else (torch_api.canonical(name) in known.functions):
        raise ConfigError(f"{name} has an entry already")
    if not module and kind == "method":
        raise ConfigError("say with --module where a method belongs: torch_optim, torch_module, a library of its own")
    if module and not module.isidentifier():
        raise ConfigError(f'the module "{module}" should be a name')
    return Entry(kind, name, module or _home(name))


def _home(name: str) -> str:
    """The module that knows the nearest of kin; else one for the library itself."""
    head = name.partition(".")[0]
    kin = {other: handler.__module__.rpartition(".")[2] for other, handler in library().functions.items()}
    near = {other: _shared(name, other) for other in kin if _shared(name, other)}
    if near:
        return kin[max(near, key=near.__getitem__)]
    return "python" if head in sys.stdlib_module_names else head


def _shared(one: str, other: str) -> int:
    """How many parts of two full names are the same from the first one on."""
    count = 0
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            break
        count += 1
    return count


def write_pair(new: Entry) -> tuple[Path, Path]:
    """Write the entry and its row in the test."""
    path = LIBRARIES / f"{new.module}.py"
    code = new.code(path.read_text(encoding="utf-8") if path.exists() else "")
    before, start, rest = TEST.read_text(encoding="utf-8").partition("KNOWN = {")
    rows, end, after = rest.partition("\n}\n")
    path.write_text(code, encoding="utf-8")
    TEST.write_text(f"{before}{start}{rows}\n{new.row}{end[1:]}{after}", encoding="utf-8")
    return path, TEST


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the entry of a function or method of a library, and its test.")
    parser.add_argument("name", metavar="NAME", help="a full name, as functools.partial, or a method, as .zero_grad")
    parser.add_argument("--module", default="", help="the module of gradcheck_lint/source/libraries that it belongs in")
    options = parser.parse_args()
    try:
        new = entry(options.name, options.module)
        written = write_pair(new)
    except (ConfigError, OSError) as error:
        print(f"new_library: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(shown, written)) + "\n\nUntil both are filled in, this fails:\n")
    print(f"  pytest tests/source/test_libraries.py -k '{new.name}'")
    return 0


if __name__ == "__main__":
    sys.exit(main())
