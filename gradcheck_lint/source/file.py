"""A file as it was read, and its bytes as text.

Python's own rules say how the bytes of a source file become text: a byte order mark, else a `coding` comment on
one of the first two lines (PEP 263), else UTF-8. Nothing else is changed: line endings stay as they are, so that
a place in the text is a place in the file and an edit keeps every byte outside itself.
"""

from __future__ import annotations

import codecs
import tokenize
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


LARGEST = 5_000_000
"""Bytes; a larger file is generated, and reading it would take longer than all others together."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file: `path` as it is shown to people, `real` where it lies, `data` the bytes that were read."""

    path: str  # relative to the working directory where possible, forward slashes
    real: Path
    data: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


class PackedFile(SourceFile):
    """One of very many files: their bytes would take more memory than what is made of those that are looked at."""

    __slots__ = ("_packed", "_size")
    _packed: bytes
    _size: int

    def __init__(self, path: str, real: Path, packed: bytes, size: int) -> None:
        for name, value in (("path", path), ("real", real), ("_packed", packed), ("_size", size)):
            object.__setattr__(self, name, value)

    @staticmethod
    def of(file: SourceFile) -> PackedFile:
        return PackedFile(file.path, file.real, zlib.compress(file.data, 1), file.size)

    @property
    def data(self) -> bytes:
        return zlib.decompress(self._packed)

    @property
    def size(self) -> int:
        return self._size

    def __reduce__(self) -> tuple[type[PackedFile], tuple[str, Path, bytes, int]]:
        return PackedFile, (self.path, self.real, self._packed, self._size)


class DecodeError(ValueError):
    """The bytes are no text. The message says why; `line` is where, `cure` an imperative."""

    def __init__(self, message: str, cure: str, line: int = 1) -> None:
        super().__init__(message)
        self.cure = cure
        self.line = line


_OF_NAMES = frozenset({"punycode", "idna"})
"""Codecs for names of hosts. Python takes the first for source too, in time that grows with the square of the text."""

_NAME_IT = "save it as UTF-8, or name its encoding in a `# coding:` comment on the first line"


def encoding_of(data: bytes) -> tuple[str, bytes]:
    """The codec of a source file and its byte order mark (empty where it has none)."""
    bom = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else b""
    second = data.find(b"\n", data.find(b"\n") + 1)
    head = data if second < 0 else data[:second]
    if b"coding" not in head:
        return "utf-8", bom
    lines = iter([line + b"\n" for line in head.splitlines()[:2]])
    try:
        codec, _ = tokenize.detect_encoding(lambda: next(lines, b""))
    except SyntaxError as error:
        line = 1 + (b"coding" not in head.split(b"\n")[0])
        if "unknown encoding" in str(error.msg):
            raise DecodeError(f"its coding comment names an {error.msg}", _NAME_IT, line) from None
        if bom:
            message = "it starts with the mark of UTF-8, but its coding comment names another encoding"
            raise DecodeError(message, "delete the coding comment", line) from None
        codec = "utf-8"  # the first line is no UTF-8, which `decode` says better
    return ("utf-8" if bom else codec), bom


def decode(data: bytes) -> str:
    """The text of a source file, without its byte order mark; raises DecodeError where it has none."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DecodeError("it is UTF-16, which Python does not read as source", "save it as UTF-8")
    codec, bom = encoding_of(data)
    body = data[len(bom) :]
    try:
        if codec.lower().replace("_", "-") in _OF_NAMES:
            raise LookupError
        return body.decode(codec)
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise DecodeError(f"byte 0x{body[error.start]:02x} is not {codec}", _NAME_IT, line) from None
    except (LookupError, ValueError):
        raise DecodeError(f"its coding comment names {codec}, which is no encoding of text", _NAME_IT) from None


def digest(data: bytes) -> str:
    """What tells these bytes from all others."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def encode(text: str, like: bytes) -> bytes:
    """`text` as the bytes of a file whose earlier content was `like`: the same codec, the same byte order mark."""
    codec, bom = encoding_of(like)
    return bom + text.encode(codec)
