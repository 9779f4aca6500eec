"""From bytes to text and back, by Python's rules."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from gradcheck_lint.config import Settings
from gradcheck_lint.source import limits
from gradcheck_lint.source.file import DecodeError, PackedFile, SourceFile, decode, encode, encoding_of
from gradcheck_lint.source.lint import collect, lint

BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        pytest.param(b"", "", id="empty"),
        pytest.param("x = 'é'\n".encode(), "x = 'é'\n", id="utf-8"),
        pytest.param(BOM + b"x = 1\r\n", "x = 1\r\n", id="byte order mark, line endings kept"),
        pytest.param(b"# coding: latin-1\nx = '\xe9'", "# coding: latin-1\nx = 'é'", id="cookie"),
        pytest.param(b"#!/bin/python\n# -*- coding: koi8-r -*-\n'\xc1'", None, id="cookie on the second line"),
        pytest.param(BOM + b"# coding: utf-8\n", "# coding: utf-8\n", id="mark and cookie agree"),
        pytest.param(b"x = 1\ny = 2\n# coding: latin-1\n", "x = 1\ny = 2\n# coding: latin-1\n", id="too late"),
        pytest.param(b"# coding: latin-1\rx = '\xe9'\r", "# coding: latin-1\rx = 'é'\r", id="old line endings"),
    ],
)
def test_there_and_back(data: bytes, text: str | None) -> None:
    decoded = decode(data)
    assert text is None or decoded == text
    assert encode(decoded, data) == data


def test_encoding_is_what_python_takes() -> None:
    assert encoding_of(b"# coding: latin-1\n") == ("iso-8859-1", b"")
    assert encoding_of(BOM) == ("utf-8", BOM)
    assert encoding_of(b"'coding'\n") == ("utf-8", b"")


@pytest.mark.parametrize(
    ("data", "line", "expected"),
    [
        (b"x = 1\ny = '\xe9'\n", 2, "byte 0xe9 is not utf-8"),
        (b"# the coding of \xe9\n", 1, "byte 0xe9 is not utf-8"),
        (b"#\n# coding: utf-9\n", 2, "its coding comment names an unknown encoding: utf-9"),
        (b"# coding: hex\n", 1, "its coding comment names hex, which is no encoding of text"),
        (
            b"# coding: punycode\nx-" + b"a" * 400_000,
            1,
            "its coding comment names punycode, which is no encoding of text",
        ),
        (BOM + b"# coding: latin-1\n", 1, "its coding comment names another encoding"),
        ("x = 1\n".encode("utf-16"), 1, "it is UTF-16"),
    ],
)
def test_what_is_no_text(data: bytes, line: int, expected: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert expected in str(caught.value)
    assert caught.value.line == line
    assert caught.value.cure


def test_many_files_are_kept_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import torch\nm = torch.nn.Linear(2, 2)\no = torch.optim.SGD({p for p in m.parameters()}, lr=0.1)\n"
    for name in "abcd":
        (tmp_path / f"{name}.py").write_text(text)
    settings = Settings(root=tmp_path, cache=False)
    plain, found = collect([str(tmp_path)], settings), lint([str(tmp_path)], settings)
    monkeypatch.setattr(limits, "UNPACKED", 2 * len(text))
    packed = collect([str(tmp_path)], settings).files
    assert [type(file) for file in packed] == [SourceFile, SourceFile, PackedFile, PackedFile]
    assert [(f.path, f.real, f.data, f.size) for f in packed] == [(f.path, f.real, f.data, f.size) for f in plain.files]
    assert [f.data for f in pickle.loads(pickle.dumps(packed))] == [f.data for f in packed]
    assert lint([str(tmp_path)], settings).findings == found.findings
    assert len(found.findings) == 4
