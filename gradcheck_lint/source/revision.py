"""The source files of a project as they were at a revision, by way of git.

git is asked for its objects alone, and told to leave aside all that a repository can have it run: filters, hooks,
monitors of files, fetches.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from gradcheck_lint.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ASKED = ("-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}", "--no-pager", "--literal-pathspecs")
_AROUND = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",  # for a git that is too old to know the line above
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
"""Variables that lead git to another repository than the one of the files, as its hooks set them."""
_SUFFIXES = (b".py", b".pyi", b".pyw")
_BLOBS = (b"100644", b"100755")  # no links, no submodules


def top(folder: Path) -> Path:
    """The folder of the repository in which a folder lies; raises ConfigError where there is none."""
    return Path(os.fsdecode(_git(folder, "rev-parse", "--show-toplevel").rstrip(b"\r\n")))


def commit(folder: Path, revision: str) -> str:
    """The name of the commit that a revision stands for; raises ConfigError where there is none."""
    if revision.startswith("-"):
        raise ConfigError(f'"{revision}" is no revision')
    try:
        return _git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").decode("ascii").strip()
    except ConfigError:
        raise ConfigError(f'git knows no commit "{revision}"; fetch it, or name another') from None


def sources(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """The Python files of a commit: the path of each from the top of the repository, and its bytes.

    Raises ConfigError where some are not there, as in a partial clone: what was in them would be told as new.
    """
    listed = _git(folder, "ls-tree", "-r", "-z", "--full-tree", name)
    blobs: list[tuple[bytes, str]] = []
    for line in listed.split(b"\0"):
        about, tab, path = line.partition(b"\t")
        if tab and path.endswith(_SUFFIXES) and about.split(b" ")[0] in _BLOBS:
            blobs.append((about.split(b" ")[2], os.fsdecode(path)))
    answer = _git(folder, "cat-file", "--batch", given=b"".join(blob + b"\n" for blob, _ in blobs))
    at = missing = 0
    for _, name_of in blobs:
        end = answer.index(b"\n", at)
        head = answer[at:end].split(b" ")
        at = end + 1
        if len(head) != 3:
            missing += 1
            continue
        size = int(head[2])
        yield name_of, answer[at : at + size]
        at += size + 1
    if missing:
        raise ConfigError(f"{missing} files of {name[:12]} are not in this partial clone; fetch them for --since")


def unpack(files: Sequence[tuple[str, bytes]], folder: Path) -> None:
    """Write files below a folder that is empty."""
    root = os.path.realpath(folder)
    for path, data in files:
        target = os.path.join(root, *path.split("/"))
        if os.path.commonpath((root, os.path.normpath(target))) != root or "\\" in path or ":" in path:
            continue  # no file that git itself would write
        with contextlib.suppress(OSError):  # a name that this system does not take: no such file is checked either
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(data)


def _git(folder: Path, *words: str, given: bytes = b"") -> bytes:
    try:
        ran = subprocess.run(
            [_program(), *_ASKED, *words],
            cwd=folder,
            input=given,
            capture_output=True,
            check=False,
            env={**{key: value for key, value in os.environ.items() if key not in _ELSEWHERE}, **_AROUND},
        )
    except OSError as error:
        raise ConfigError(f"git cannot be run, and --since needs it: {error.strerror}") from None
    if ran.returncode:
        said = ran.stderr.decode("utf-8", "replace").strip().partition("\n")[0].removeprefix("fatal: ")
        raise ConfigError(f"git cannot tell what --since asks for: {said or 'it failed'}")
    return ran.stdout


def _program() -> str:
    """Where git is, by the user's PATH alone: Windows would look in the working directory first."""
    names = ("git.exe", "git.cmd") if os.name == "nt" else ("git",)
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isabs(path) and os.path.isfile(path) and os.access(path, os.X_OK):
                return path
    raise ConfigError("git was not found, and --since needs it")
