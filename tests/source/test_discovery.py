"""Which files are found, in which order, under which name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gradcheck_lint.config import Settings
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.result import Skipped
from gradcheck_lint.source.discovery import discover, excluded, survey
from gradcheck_lint.source.lint import collect

posix = pytest.mark.skipif(sys.platform == "win32", reason="needs links, pipes and permissions as POSIX has them")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def make(here: Path, *names: str) -> None:
    for name in names:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")


def found(*paths: str, **changes: Any) -> list[str]:
    settings = Settings(root=Path.cwd(), **changes)
    return [entry.path for entry in discover(paths, settings)]


def test_folder_gives_its_python_files_sorted(here: Path) -> None:
    make(here, "b.py", "a/z.py", "a/b/c.py", "a.py", "notes.txt", "types.pyi", "noext", "c.pyc", ".#b.py", "x.py.bak")
    assert found() == ["a.py", "a/b/c.py", "a/z.py", "b.py"]
    assert found(".") == found()
    assert found("a") == ["a/b/c.py", "a/z.py"]


def test_named_file_is_taken_whatever_it_is_called(here: Path) -> None:
    make(here, "script", "types.pyi", "venv/x.py")
    assert found("script", "types.pyi", "venv/x.py") == ["script", "types.pyi", "venv/x.py"]


def test_nothing_twice(here: Path) -> None:
    make(here, "a/x.py", "a/y.py")
    assert found("a/x.py", "./a/x.py", "a/../a/x.py", "a", ".", str(here / "a")) == ["a/x.py", "a/y.py"]


def test_folder_without_python(here: Path) -> None:
    (here / "empty").mkdir()
    assert found("empty") == []


def test_names_as_they_are_shown(here: Path) -> None:
    make(here.parent, "other/x.py")
    make(here, "x.py")
    assert found(str(here / "x.py")) == ["x.py"]
    assert found("../other") == ["../other/x.py"]
    assert found(str(here.parent / "other")) == [(here.parent / "other" / "x.py").as_posix()]
    assert found("..") == ["../other/x.py", "x.py"]


@pytest.mark.parametrize("path", ["nowhere", "nowhere.py", "x.py/y.py"])
def test_path_that_does_not_exist(here: Path, path: str) -> None:
    make(here, "x.py")
    with pytest.raises(ConfigError, match="does not exist"):
        found("x.py", path)


def test_paths_that_are_none() -> None:
    with pytest.raises(ConfigError, match="is no path"):
        found("")
    with pytest.raises(ConfigError, match="NUL"):
        found("a\0b")


# Excludes


def test_usual_places_are_left_out(here: Path) -> None:
    make(here, "x.py", ".git/x.py", "venv/x.py", "a/node_modules/b/x.py", "a/__pycache__/x.py", "a/build/x.py")
    assert found() == ["x.py"]
    assert found(exclude=()) == [
        ".git/x.py",
        "a/__pycache__/x.py",
        "a/build/x.py",
        "a/node_modules/b/x.py",
        "venv/x.py",
        "x.py",
    ]


def test_usual_place_that_is_named_is_entered(here: Path) -> None:
    make(here, "build/x.py", "build/a/x.py", "build/venv/x.py")
    assert found("build") == ["build/a/x.py", "build/x.py"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("gen", ["a/x.py", "a/x_test.py", "x.py"]),
        ("*_test.py", ["a/gen/y.py", "a/x.py", "x.py"]),
        ("a/*.py", ["a/gen/y.py", "x.py"]),
        ("/x.py", ["a/gen/y.py", "a/x.py", "a/x_test.py"]),
        ("x.py", ["a/gen/y.py", "a/x_test.py"]),
        ("a/", ["x.py"]),
        ("**/gen/**", ["a/x.py", "a/x_test.py", "x.py"]),
    ],
)
def test_patterns(here: Path, pattern: str, expected: list[str]) -> None:
    make(here, "x.py", "a/x.py", "a/x_test.py", "a/gen/y.py")
    assert found(extend_exclude=(pattern,)) == expected


def test_exclude_that_is_no_pattern() -> None:
    with pytest.raises(ConfigError, match='"!" in exclude or extend-exclude is no pattern'):
        found(extend_exclude=("!",))


def test_named_and_excluded(here: Path) -> None:
    make(here, "a/x.py", "venv/x.py", "a/y.py")
    assert found("a/x.py", "venv", extend_exclude=("a/*.py",)) == ["a/x.py", "venv/x.py"]
    assert found("a/x.py", "venv", "a/y.py", extend_exclude=("a/x.py",), force_exclude=True) == ["a/y.py"]


def test_excluded_counts_from_the_root(here: Path) -> None:
    settings = Settings(root=here, extend_exclude=("a/x.py",))
    assert excluded(here / "a" / "x.py", settings)
    assert excluded(here / "b" / "venv" / "x.py", settings)
    assert not excluded(here / "b" / "a" / "x.py", settings)


# .gitignore


def test_gitignore(here: Path) -> None:
    make(here, "x.py", "gen/x.py", "a/x_pb2.py", "a/keep_pb2.py", "a/x.py", "a/b/local.py", "local.py")
    (here / ".gitignore").write_text("# generated\n/gen/\n*_pb2.py\n!keep_pb2.py\n", encoding="utf-8")
    (here / "a" / "b" / ".gitignore").write_text("local.py\r\n", encoding="utf-8")
    assert found() == ["a/keep_pb2.py", "a/x.py", "local.py", "x.py"]
    assert len(found(respect_gitignore=False)) == 7


def test_nearer_gitignore_wins(here: Path) -> None:
    make(here, "a/x.py", "a/y.py", "x.py")
    (here / ".gitignore").write_text("x.py\n", encoding="utf-8")
    (here / "a" / ".gitignore").write_text("!x.py\ny.py\n", encoding="utf-8")
    assert found() == ["a/x.py"]


def test_gitignore_above_counts_up_to_the_repository(here: Path) -> None:
    make(here, "a/x.py", "a/y.py", "a/z.py")
    (here.parent / ".gitignore").write_text("z.py\n", encoding="utf-8")
    (here / ".gitignore").write_text("y.py\n", encoding="utf-8")
    assert found("a") == ["a/x.py", "a/y.py", "a/z.py"]  # no repository at all
    (here / ".git").mkdir()
    assert found("a") == ["a/x.py", "a/z.py"]


def test_ignored_folder_that_is_named_is_entered(here: Path) -> None:
    make(here, ".git/HEAD", "gen/x.py", "gen/a/x.py", "gen/a/y.py")
    (here / ".gitignore").write_text("gen/\n", encoding="utf-8")
    (here / "gen" / ".gitignore").write_text("y.py\n", encoding="utf-8")
    assert found() == []
    assert found("gen") == ["gen/a/x.py", "gen/x.py"]
    assert found("gen/a") == ["gen/a/x.py"]


def test_line_that_is_no_pattern_is_passed_by(here: Path) -> None:
    make(here, "x.py", "y.py")
    (here / ".gitignore").write_bytes(b"\xef\xbb\xbfx.py\n!\n\xff\n\\\n")
    assert found() == ["y.py"]


# What cannot be read


@posix
def test_link_to_itself_is_told_and_the_others_are_found(here: Path) -> None:
    make(here, "x.py")
    (here / "loop.py").symlink_to("loop.py")
    (here / "gone.py").symlink_to("nowhere.py")
    reasons = {entry.path: entry.reason for entry in discover(["."], Settings(root=here))}
    assert reasons["x.py"] == ""
    assert "symbolic links" in reasons["loop.py"]
    assert "gone.py" not in reasons
    assert survey(["."], Settings(root=here))[1] == Skipped(links=1)
    [named] = discover(["loop.py"], Settings(root=here))
    assert named.reason
    with pytest.raises(ConfigError, match="does not exist"):
        discover(["gone.py"], Settings(root=here))


@posix
def test_a_link_that_leads_out_is_skipped_unless_it_was_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(here, "repo/a.py", "repo/src/b.py", "outside.py")
    (here / "repo" / ".git").mkdir()
    (here / "repo" / "src" / "inner.py").symlink_to("../a.py")
    (here / "repo" / "src" / "out.py").symlink_to("../../outside.py")
    root = here / "repo" / "src"
    monkeypatch.chdir(root)
    entries, skipped = survey(["."], Settings(root=root))
    assert [entry.path for entry in entries] == ["b.py", "inner.py"]
    assert skipped == Skipped(links=1)
    assert [entry.path for entry in discover(["out.py"], Settings(root=root))] == ["out.py"]
    monkeypatch.chdir(here)  # the file is no longer outside of everything that is at hand
    assert survey(["repo/src"], Settings(root=here))[1] == Skipped()


def test_notebooks_are_skipped_in_folders_and_refused_by_name(here: Path) -> None:
    make(here, "x.py", "a/y.ipynb", "a/z.ipynb", "ignored/w.ipynb", ".ipynb_checkpoints/z.ipynb")
    (here / ".gitignore").write_text("/ignored\n")
    (here / ".git").mkdir()
    found, skipped = survey([".", "a"], Settings(root=here))
    assert [entry.path for entry in found] == ["x.py"]
    assert skipped == Skipped(notebooks=2)
    with pytest.raises(ConfigError, match="cells are not read yet"):
        discover(["a/y.ipynb"], Settings(root=here))
    assert discover(["a/y.ipynb"], Settings(root=here, exclude=("a",), force_exclude=True)) == []


@posix
def test_links_to_folders_are_not_followed(here: Path) -> None:
    make(here, "a/x.py")
    (here / "a" / "up").symlink_to("..", target_is_directory=True)
    (here / "b").symlink_to("a", target_is_directory=True)
    assert found() == ["a/x.py"]
    assert found("b") == ["b/x.py"]


@posix
def test_link_and_its_file_are_one(here: Path) -> None:
    make(here, "z.py")
    (here / "a.py").symlink_to("z.py")
    assert found() == ["z.py"]
    assert found("a.py") == ["a.py"]


@posix
def test_folder_called_like_a_file(here: Path) -> None:
    make(here, "odd.py/x.py")
    assert found() == ["odd.py/x.py"]


@posix
def test_pipes_and_devices_are_not_read(here: Path) -> None:
    os.mkfifo(here / "pipe.py")
    assert found() == []
    [pipe] = discover(["pipe.py"], Settings(root=here))
    assert pipe.reason == "not a regular file"
    (here / "endless.py").symlink_to("/dev/zero")
    assert found() == []
    [endless] = discover(["endless.py"], Settings(root=here))
    assert endless.reason == "not a regular file"
    os.mkfifo(here / "pipe")
    (here / "to_pipe.py").symlink_to("pipe")
    [inside] = discover(["."], Settings(root=here))
    assert (inside.path, inside.reason) == ("to_pipe.py", "not a regular file")
    [device] = discover(["/dev/null"], Settings(root=here))
    assert device.reason == "not a regular file"


@posix
def test_pipe_of_the_shell_is_read(here: Path) -> None:
    """`gradlint <(git show HEAD:train.py)`"""
    reading, writing = os.pipe()
    try:
        [pipe] = discover([f"/dev/fd/{reading}"], Settings(root=here))
        assert pipe.reason == ""
        os.write(writing, b"x = 1\n")
        os.close(writing)
        assert [file.data for file in collect([f"/dev/fd/{reading}"], Settings(root=here)).files] == [b"x = 1\n"]
    finally:
        os.close(reading)


def test_a_pattern_with_many_stars_does_not_hang(here: Path) -> None:
    make(here, "a" * 200 + ".py", "b.py")
    (here / ".gitignore").write_text("*a" * 12 + "*b\n**/b*\n" + "/".join(["**/x"] * 30) + "/*\n")
    assert found() == ["a" * 200 + ".py"]
    with pytest.raises(ConfigError, match="with at most 4 stars"):
        discover(["."], Settings(root=here, extend_exclude=("*a" * 12,)))


@posix
@pytest.mark.parametrize("kind", ["a pipe", "a link to a device", "too large"])
def test_gitignore_that_is_no_file_is_refused(kind: str, here: Path) -> None:
    make(here, "x.py")
    path = here / ".gitignore"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a link to a device":
        path.symlink_to("/dev/zero")
    else:
        path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match=r"^\.gitignore cannot be read: .*--no-respect-gitignore$"):
        found()
    assert [file.path for file in discover(["."], Settings(root=here, respect_gitignore=False))] == ["x.py"]


def test_folder_that_cannot_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(here, "x.py", "secret/x.py")
    real = os.scandir

    def guarded(path: str) -> object:
        if os.path.basename(path) == "secret":
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", guarded)
    entries = discover(["."], Settings(root=here))
    assert [(entry.path, entry.reason) for entry in entries] == [("secret", "permission denied"), ("x.py", "")]
