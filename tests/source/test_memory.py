"""The cache: the same findings again, without reading a tree, until something changes."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from gradcheck_lint import registry
from gradcheck_lint.config import Settings
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence, Edit, Finding, Fix, Related, Safety, Severity, Span
from gradcheck_lint.result import Extent
from gradcheck_lint.source import engine, limits
from gradcheck_lint.source.entry import SpoiltError, parse, text_of
from gradcheck_lint.source.file import PackedFile, SourceFile
from gradcheck_lint.source.memory import Memory
from gradcheck_lint.source.outcome import Basis, Island, Outcome
from gradcheck_lint.source.project import Finder
from gradcheck_lint.source.store import DAYS, VARIABLE, Store, open_for

SPAN = Span("a.py", 1, 2, 3, 4)
FINDING = Finding(
    "GL101", "missing-zero-grad", Severity.ERROR, Confidence.MEDIUM, "message", SPAN, "label", "why", "help", "note",
    (Related("ü", replace(SPAN, path="b.py")),), Fix("title", Safety.UNSAFE, (Edit(SPAN, "text\n"),)),
)  # fmt: skip
FOUND = Outcome((FINDING,), (), cut=(("a.py", "train"), ("a.py", "")), training=("a.py",))
NAME = "0123456789" * 4

MAIN = """
import torch
from steps import forget

model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters())
for batch in range(9):
    forget(optimizer)
    model(torch.ones(2)).sum().backward()
    optimizer.step()
"""
CLEARS = "import torch\ndef forget(optimizer):\n    optimizer.zero_grad()\n"
DOES_NOTHING = "import torch\ndef forget(optimizer):\n    return optimizer\n"

posix = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache", tmp_path / "key")


def entries(store: Store) -> list[Path]:
    return sorted(store.folder.glob("gradlint-*.json"))


# What is remembered


def test_findings_come_back_as_they_were(tmp_path: Path, store: Store) -> None:
    file = SourceFile("a.py", tmp_path / "a.py", b"x = 1\n")
    memory = Memory(store, [], Finder([]))
    assert memory.recall(Island((file,))) is None
    memory.keep(Island((file,)), FOUND)
    assert Memory(store, [], Finder([])).recall(Island((file,))) == FOUND
    assert memory.recall(Island((replace(file, data=b"x = 2\n"),))) is None
    assert (store.folder / ".gitignore").read_text() == "*\n"


def test_bytes_are_unpacked_once_for_all_parts_that_they_lie_beside(tmp_path: Path, store: Store) -> None:
    unpacked: list[str] = []

    class Counted(PackedFile):
        @property
        def data(self) -> bytes:
            unpacked.append(self.path)
            return super().data

    plain = [SourceFile(name, tmp_path / name, b"x = 1\n") for name in ("a.py", "b.py")]
    one, other = [Counted(f.path, f.real, PackedFile.of(f)._packed, f.size) for f in plain]
    memory = Memory(store, [], Finder([]))
    assert memory.name(Island((one,), (other,))) != memory.name(Island((other,), (one,)))
    assert unpacked == ["a.py", "b.py"]


def test_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    memory = Memory(Store(tmp_path / "file" / "cache", tmp_path / "file" / "key"), [], Finder([]))
    memory.keep(Island((SourceFile("a.py", tmp_path / "a.py", b""),)), FOUND)
    assert memory.recall(Island((SourceFile("a.py", tmp_path / "a.py", b""),))) is None


class Linted:
    """`train.py` alone is linted, with a cache; `calls` counts the islands that had to be analysed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = MAIN) -> None:
        monkeypatch.chdir(folder)
        (folder / "train.py").write_text(text)
        self.file = SourceFile("train.py", folder / "train.py", text.encode())
        self.rules = [rule for rule in registry.load(()) if rule.code == "GL101"]
        self.store = Store(folder / ".cache", folder / ".key")
        self.calls = 0
        real = engine.analyse_island

        def counted(work: Any, island: Any) -> Any:
            self.calls += 1
            return real(work, island)

        monkeypatch.setattr(engine, "analyse_island", counted)

    def __call__(self) -> tuple[int, int]:
        """How many findings, and how many islands were analysed for them."""
        before = self.calls
        found = engine.analyse([self.file], self.rules, cache=self.store)
        return len(found), self.calls - before


@pytest.fixture
def linted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Linted:
    return Linted(tmp_path, monkeypatch)


def test_a_warm_run_says_the_same_of_what_was_cut(monkeypatch: pytest.MonkeyPatch, linted: Linted) -> None:
    monkeypatch.setattr(limits, "ENTRY_WORK", 20)
    monkeypatch.setattr(limits, "ENTRY_LINE", 0)
    told = []
    for _ in range(2):
        extent = Extent()
        engine.analyse([linted.file], linted.rules, cache=linted.store, extent=extent)
        told.append(extent)
    assert linted.calls == 1
    assert told[0] == told[1]
    assert told[0].cut == [("train.py", "")]


def test_imported_files_count(tmp_path: Path, linted: Linted) -> None:
    (tmp_path / "steps.py").write_text(CLEARS)
    assert linted() == (0, 1)
    assert linted() == (0, 0)
    (tmp_path / "steps.py").write_text(DOES_NOTHING)
    assert linted() == (1, 1)
    assert linted() == (1, 0)


def test_a_file_that_is_too_large_to_be_imported_is_so_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linted: Linted
) -> None:
    monkeypatch.setattr(limits, "LARGEST_IMPORTED", len(CLEARS) - 1)
    (tmp_path / "steps.py").write_text(CLEARS)
    assert [linted()[1] for _ in range(2)] == [1, 0]
    (tmp_path / "steps.py").write_text(DOES_NOTHING[: len(CLEARS) - 1])
    assert linted()[1] == 1


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


STRONGER: dict[str, Callable[[Path], None]] = {
    "a file that was looked for": lambda here: write(here, "steps.py", DOES_NOTHING),
    "a package that was looked for": lambda here: write(here, "steps/__init__.py", DOES_NOTHING),
    "one in src": lambda here: write(here, "src/steps.py", DOES_NOTHING),
}


@pytest.mark.parametrize("name", STRONGER)
def test_a_file_that_comes_into_being_counts(name: str, tmp_path: Path, linted: Linted) -> None:
    first = linted()
    assert first[1] == 1
    STRONGER[name](tmp_path)
    assert linted() == (1, 1)
    assert linted() == (1, 0)


def test_a_file_that_wins_over_the_one_that_was_found_counts(tmp_path: Path, linted: Linted) -> None:
    write(tmp_path, "src/steps.py", CLEARS)
    assert linted() == (0, 1)
    write(tmp_path, "steps/__init__.py", DOES_NOTHING)
    assert linted() == (1, 1)
    write(tmp_path, "steps.py", CLEARS)
    assert linted() == (0, 1)
    (tmp_path / "steps.py").unlink()
    assert linted()[0] == 1


def test_a_file_that_could_not_be_read_counts_when_it_can(tmp_path: Path, linted: Linted) -> None:
    write(tmp_path, "steps.py", "def forget(:\n")
    assert linted()[1] == 1
    write(tmp_path, "steps.py", DOES_NOTHING)
    assert linted() == (1, 1)


def test_what_a_rule_shares_with_its_neighbours_counts(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "rules"
    rule = "from gradcheck_lint.rule import Rule\nclass R(Rule):\n    code, slug = 'XR901', 'shares-something'\n"
    write(folder, "shares_something.py", rule)
    write(folder, "_shared.py", "LIMIT = 1\n")
    rules = [rule for rule in registry.load([folder]) if rule.code == "XR901"]
    file = SourceFile("a.py", tmp_path / "a.py", b"")
    before = Memory(store, rules, Finder([])).name(Island((file,)))
    assert Memory(store, rules, Finder([])).name(Island((file,))) == before
    write(folder, "_shared.py", "LIMIT = 100\n")
    assert Memory(store, rules, Finder([])).name(Island((file,))) != before


# What is believed


def test_an_entry_is_read_as_it_was_written() -> None:
    basis = Basis((("/x/b.py", "12"), ("/x/c.py", None)), ((("/x", "b", 0), "/x/b.py"), (("/x", "c.d", 2), None)))
    outcome = FOUND._replace(basis=basis)
    assert parse(text_of(outcome), {"a.py"}) == outcome


def spoilt() -> list[str]:
    """Entries that are valid JSON with the right keys, and not what was written."""
    whole = json.loads(text_of(FOUND._replace(basis=Basis((("/x", "1"),), ((("/x", "b", 0), None),)))))
    texts = ["", "null", "[]", "{}", "[" * 100_000, '{"a":' * 100_000, "1e999", '"\\ud800"']

    def spoil(value: Any, put: Callable[[Any], None]) -> None:
        for wrong in (None, True, 5, -1, 0, 1.5, "1", "", [], {}, [[]], ["x"]):
            if wrong != value or type(wrong) is not type(value):
                put(wrong)
                texts.append(json.dumps(whole))
        put(value)
        if isinstance(value, dict):
            for key, inner in list(value.items()):
                spoil(inner, lambda new, key=key, value=value: value.__setitem__(key, new))  # type: ignore[misc]
                del value[key]
                texts.append(json.dumps(whole))
                value[key] = inner
            value["more"] = 1
            texts.append(json.dumps(whole))
            del value["more"]
        if isinstance(value, list):
            for index, inner in enumerate(value):
                spoil(inner, lambda new, index=index, value=value: value.__setitem__(index, new))  # type: ignore[misc]

    for key in list(whole):
        spoil(whole[key], lambda new, key=key: whole.__setitem__(key, new))  # type: ignore[misc]
    return texts


def test_entries_of_other_types_are_no_entries() -> None:
    texts = spoilt()
    assert len(texts) > 300
    for text in texts:
        try:
            outcome = parse(text, {"a.py"})
        except SpoiltError:
            continue
        # what is let through has the types that belong there: another text, another number, an empty list
        assert parse(text_of(outcome), {"a.py"}) == outcome, text
        assert {path for path, _ in outcome.cut} | set(outcome.training) <= {"a.py"}
        for finding in outcome.findings:
            assert all(isinstance(word, str) for word in (finding.code, finding.message, finding.note))
            assert all(type(number) is int and number > 0 for number in (finding.span.line, finding.span.end_column))


def test_a_finding_points_into_its_island() -> None:
    with pytest.raises(SpoiltError):
        parse(text_of(FOUND), {"b.py"})
    assert FINDING.fix is not None
    elsewhere = replace(FINDING, fix=Fix("title", Safety.SAFE, (Edit(replace(SPAN, path="b.py"), ""),)))
    with pytest.raises(SpoiltError):
        parse(text_of(FOUND._replace(findings=(elsewhere,))), {"a.py"})


@pytest.mark.parametrize("end", [b"", b" ", b"\n", b"x" * 100])
def test_a_changed_entry_is_not_believed(end: bytes, store: Store) -> None:
    store.write(NAME, b"[]")
    assert store.read(NAME) == b"[]"
    (entry,) = entries(store)
    whole = entry.read_bytes()
    entry.write_bytes(whole[:64] + b"\n" + b"{}" + end)
    assert store.read(NAME) is None
    entry.write_bytes(whole)
    assert store.read(NAME) == b"[]"


def test_an_entry_of_somebody_else_is_not_believed(tmp_path: Path, store: Store) -> None:
    """One that was committed, or made by another user: it has another key, or another name."""
    store.write(NAME, b"[]")
    assert Store(store.folder, tmp_path / "key").read(NAME) == b"[]"
    assert Store(store.folder, tmp_path / "other key").read(NAME) is None
    other = NAME[::-1]
    (entry,) = entries(store)
    entry.rename(entry.with_name(f"gradlint-{other}.json"))
    assert store.read(other) is None


@posix
def test_a_key_that_others_can_read_is_no_key(tmp_path: Path, store: Store) -> None:
    store.write(NAME, b"[]")
    (tmp_path / "key" / "gradlint.key").chmod(0o644)
    assert Store(store.folder, tmp_path / "key").read(NAME) is None


def test_two_runs_at_once(tmp_path: Path) -> None:
    """What is read is what some run has written, whole."""
    names = [f"{number:040x}" for number in range(5)]
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            for turn in range(40):
                store = Store(tmp_path / "cache", tmp_path / "key")
                for name in names:
                    store.write(name, f"{name} {number} {turn}".encode() * 100)
                    body = store.read(name)
                    if body is not None and (not body.startswith(name.encode()) or len(body) % 100):
                        wrong.append(body)
                if turn % 10 == 9:
                    store.clean()
        except BaseException as error:
            wrong.append(error)

    threads = [Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not list((tmp_path / "cache").glob("*.tmp"))


# Where it is, and what is left alone


def test_it_lies_in_the_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    mine = open_for(Settings(root=tmp_path))
    assert mine is not None
    assert not mine.folder.is_relative_to(tmp_path)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "of the variable"))
    assert open_for(Settings(root=tmp_path)).folder == tmp_path / "of the variable"  # type: ignore[union-attr]
    named = Settings(root=tmp_path, cache_dir=tmp_path / "named")
    assert open_for(named).folder == tmp_path / "named"  # type: ignore[union-attr]


@posix
def test_only_the_user_can_look_into_it(store: Store) -> None:
    store.write(NAME, b"[]")
    assert store.folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in store.folder.iterdir())


def refused(root: Path, folder: Path) -> str:
    with pytest.raises(ConfigError) as error:
        open_for(Settings(root=root, cache_dir=folder))
    return str(error.value)


@posix
def test_links_are_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    repository = tmp_path / "repository"
    repository.mkdir()
    (repository / "cache").symlink_to(victim)
    assert "is behind a symbolic link" in refused(repository, repository / "cache")
    assert "is behind a symbolic link" in refused(repository, repository / "cache" / "deeper" / "still")
    (repository / "dangling").symlink_to(tmp_path / "nowhere")
    assert "is behind a symbolic link" in refused(repository, repository / "dangling")
    assert list(victim.iterdir()) == []


def test_a_folder_with_other_things_in_it_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("")
    assert "holds things that are not gradlint's" in refused(tmp_path, tmp_path / "src")
    (tmp_path / "src" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert "holds things that are not gradlint's" in refused(tmp_path, tmp_path / "src")
    (tmp_path / "file").write_text("")
    assert "cannot be used" in refused(tmp_path, tmp_path / "file")


def test_only_what_is_certainly_ours_is_deleted(tmp_path: Path, store: Store) -> None:
    store.write(NAME, b"[]")
    old = time.time() - (DAYS + 1) * 86_400
    keep = ["train.json", "gradlint.json", "x.tmp", f"gradlint-{NAME}.json.bak", f"gradlint-{NAME[1:]}.json", "a.py"]
    for name in keep:
        (store.folder / name).write_text("")
        os.utime(store.folder / name, (old, old))
    folder = store.folder / f"gradlint-{NAME[::-1]}.json"
    folder.mkdir()
    gone = [f"gradlint-{'ab' * 20}.json", f"gradlint-{'ab' * 16}.tmp"]
    for name in gone:
        (store.folder / name).write_text("")
        os.utime(store.folder / name, (old, old))
    os.utime(store.folder / "gradlint.pruned", (old, old))
    Store(store.folder, tmp_path / "key").write(NAME, b"[]")
    assert not any((store.folder / name).exists() for name in gone)
    assert all((store.folder / name).exists() for name in keep)
    assert store.clean() == 1
    assert all((store.folder / name).exists() for name in keep)
    assert folder.is_dir()


@posix
def test_links_inside_are_neither_read_nor_written_through(tmp_path: Path, store: Store) -> None:
    store.write(NAME, b"[]")
    (entry,) = entries(store)
    victim = tmp_path / "victim"
    victim.write_bytes(entry.read_bytes())
    entry.unlink()
    entry.symlink_to(victim)
    assert store.read(NAME) is None
    assert store.clean() == 0
    store.write(NAME, b"{}")
    assert store.read(NAME) == b"{}"
    assert victim.read_bytes().endswith(b"[]")
    for name in (".gitignore", "CACHEDIR.TAG", "gradlint.pruned"):
        (store.folder / name).unlink()
        (store.folder / name).symlink_to(tmp_path / "nowhere")
    Store(store.folder, tmp_path / "key").write(NAME, b"[]")
    assert not (tmp_path / "nowhere").exists()


@posix
def test_a_pipe_as_an_entry_does_not_hang(store: Store) -> None:
    store.write(NAME, b"[]")
    (entry,) = entries(store)
    entry.unlink()
    os.mkfifo(entry)
    assert store.read(NAME) is None
