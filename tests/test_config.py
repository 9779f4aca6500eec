"""Reading the configuration: where it is found, what it says, and what is said about a wrong one."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from gradcheck_lint.config import EXCLUDE, Selection, Settings, find, load, on_top, read
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_everything_that_can_be_said(here: Path) -> None:
    path = write(
        here / "pyproject.toml",
        """
        [tool.gradlint]
        select = ["GL1", "parameter-rebound"]
        extend-select = ["GL3"]
        ignore = ["GL101"]
        exclude = ["old"]
        extend-exclude = ["gen/*.py"]
        force-exclude = true
        respect-gitignore = false
        per-file-ignores = {"tests/**" = ["GL102"]}
        min-confidence = "medium"
        rule-folders = ["checks"]
        output-format = "json"
        cache-dir = "build/cache"
        unsafe-fixes = true
        """,
    )
    assert load(path, allow_rule_folders=True) == Settings(
        selections=(Selection(("GL1", "parameter-rebound"), ("GL3",), ("GL101",), "pyproject.toml", of_project=True),),
        min_confidence=Confidence.MEDIUM,
        exclude=("old",),
        extend_exclude=("gen/*.py",),
        force_exclude=True,
        respect_gitignore=False,
        per_file_ignores=(("tests/**", ("GL102",)),),
        rule_folders=(here / "checks",),
        output_format="json",
        cache_dir=here / "build" / "cache",
        cache_origin="cache-dir in pyproject.toml",
        unsafe_fixes=True,
        root=here,
        source=path,
    )


def test_nothing_said_leaves_the_defaults(here: Path) -> None:
    settings = load(write(here / "gradlint.toml", ""))
    assert settings.exclude == EXCLUDE
    assert settings.min_confidence is Confidence.HIGH
    assert settings.selections[0].select is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(["pyproject.toml", "gradlint.toml", ".gradlint.toml"], ".gradlint.toml", id="hidden first"),
        pytest.param(["pyproject.toml", "gradlint.toml"], "gradlint.toml", id="own file before pyproject"),
        pytest.param(["pyproject.toml", "a/gradlint.toml"], "a/gradlint.toml", id="nearest first"),
        pytest.param(["pyproject.toml"], "pyproject.toml", id="going up"),
        pytest.param([], None, id="none"),
    ],
)
def test_which_file_counts(here: Path, files: list[str], expected: str | None) -> None:
    for name in files:
        write(here / name, "[tool.gradlint]\n" if name == "pyproject.toml" else "")
    (here / "a" / "b").mkdir(parents=True, exist_ok=True)
    assert find(here / "a" / "b") == (here / expected if expected else None)


def test_pyproject_of_others_is_passed_by(here: Path) -> None:
    write(here / "gradlint.toml", "")
    write(here / "a" / "pyproject.toml", "[tool.ruff]\n[project]\nkeywords = ['gradlint']\n")
    write(here / "a" / "b" / "pyproject.toml", "this is = not TOML")
    assert find(here / "a" / "b") == here / "gradlint.toml"


@pytest.mark.parametrize("first", ["a", "a/x.py", "b/../a", "a/new.py"])
def test_search_starts_above_all_paths(here: Path, first: str) -> None:
    write(here / "a" / "gradlint.toml", "output-format = 'json'")
    write(here / "a" / "x.py", "")
    (here / "b").mkdir()
    assert read([first]).source == here / "a" / "gradlint.toml"
    assert read([first, "b"]).source is None
    assert read(["b", first]).source is None
    assert read([]).source is None
    assert read(["-"]).source is None


def test_each_folder_has_the_nearest_settings(here: Path) -> None:
    write(here / "gradlint.toml", "ignore = ['GL1']\n")
    write(here / "a" / "gradlint.toml", "ignore = ['GL2']\nmin-confidence = 'low'\n")
    write(here / "a" / "b" / "pyproject.toml", "[tool.other]\n")
    cli = Selection(ignore=("GL3",), origin="the command line")
    settings = on_top(read(["a", "c"]), cli, min_confidence=Confidence.MEDIUM)
    assert settings.at(here / "c") is settings
    for folder in ("a", "a/b", "a/b/nowhere"):
        nearest = settings.at(here / folder)
        assert nearest.source == here / "a" / "gradlint.toml"
        assert [selection.ignore for selection in nearest.selections] == [("GL2",), ("GL3",)]
        assert nearest.min_confidence is Confidence.MEDIUM
        assert read(["a"]).at(here / folder).min_confidence is Confidence.LOW
    for settings in (read(["a"], isolated=True), read(["a"], config=here / "gradlint.toml")):
        assert settings.at(here / "a") is settings


def test_extend(here: Path) -> None:
    text = """
        select = ["GL1"]
        ignore = ["GL101"]
        exclude = ["/gen"]
        extend-exclude = ["/old"]
        min-confidence = "low"
        output-format = "json"
        per-file-ignores = {"/a/x.py" = ["GL1"]}
    """
    write(here / "gradlint.toml", textwrap.dedent(text))
    write(here / "a" / "gradlint.toml", "extend = '../gradlint.toml'\nignore = ['GL102']\nmin-confidence = 'high'\n")
    settings = load(here / "a" / "gradlint.toml")
    assert [selection.ignore for selection in settings.selections] == [("GL101",), ("GL102",)]
    assert (settings.min_confidence, settings.output_format) == (Confidence.HIGH, "json")
    assert [(each.root, each.exclude, each.extend_exclude) for each in settings.lineage()] == [
        (here / "a", (), ()),
        (here, ("/gen",), ("/old",)),
    ]
    write(here / "b" / "gradlint.toml", "extend = '../a/gradlint.toml'\nexclude = ['x']\nper-file-ignores = {}\n")
    settings = load(here / "b" / "gradlint.toml")
    assert [(each.root.name, each.exclude, each.extend_exclude) for each in settings.lineage()][1:] == [
        ("a", (), ()),
        (here.name, (), ("/old",)),
    ]
    assert not any(each.per_file_ignores for each in settings.lineage())
    assert on_top(load(here / "a" / "gradlint.toml"), Selection(), exclude=("y",)).base.exclude == ()  # type: ignore[union-attr]


def test_what_cannot_be_extended(here: Path) -> None:
    write(here / "a.toml", "extend = 'b.toml'\n")
    write(here / "b.toml", "extend = 'a.toml'\n")
    with pytest.raises(ConfigError, match=r"^b.toml: extend leads back to a.toml$"):
        load(here / "a.toml")
    write(here / "c.toml", "extend = 'nowhere.toml'\n")
    with pytest.raises(ConfigError, match=r"^the configuration nowhere.toml, which c.toml extends, does not exist$"):
        load(here / "c.toml")
    write(here / "d.toml", "extend = 1\n")
    with pytest.raises(ConfigError, match=r"^d.toml: extend has to be the path of another configuration"):
        load(here / "d.toml")


def test_isolated_and_config(here: Path) -> None:
    other = write(here / "other.toml", "output-format = 'json'")
    write(here / "gradlint.toml", "output-format = 'sarif'")
    assert read([]).output_format == "sarif"
    assert read([], config=other).output_format == "json"
    assert read([], isolated=True).output_format == "text"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('ignores = ["GL101"]', 'unknown setting "ignores"; did you mean "ignore"?'),
        ('min_confidence = "low"', 'unknown setting "min_confidence"; did you mean "min-confidence"?'),
        ("xyz = 1", 'unknown setting "xyz"'),
        ('select = "GL101"', 'select has to be a list of strings, such as ["GL101"]'),
        ("ignore = [101]", "ignore has to be a list of strings"),
        ("respect-gitignore = 1", "respect-gitignore has to be true or false"),
        ('min-confidence = "hihg"', 'min-confidence has to be one of "low", "medium", "high"; did you mean "high"?'),
        ('output-format = "xml"', 'output-format has to be one of "text",'),
        ("per-file-ignores = []", "per-file-ignores has to be a table of patterns and rules"),
        ('per-file-ignores = {"a" = "GL101"}', 'per-file-ignores has to be a table of lists, but "a" has none'),
        ("select = [", "is not valid TOML"),
        ("select = " + "[" * 100_000, "gradlint.toml "),
        ("select = " + "1" * 100_000, "gradlint.toml "),
        *[
            (f"cache-dir = {value}", "cache-dir has to be a folder below that of the configuration")
            for value in ("1", "''", "'.'", "'./'", "'/tmp/x'", "'../x'", "'a/../../x'", "'C:/x'", "'..\\x'", "'\\x'")
        ],
    ],
)
def test_what_is_wrong_is_one_line(here: Path, text: str, expected: str) -> None:
    path = write(here / "gradlint.toml", text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith("gradlint.toml")
    assert expected in message
    assert "\n" not in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
@pytest.mark.parametrize("name", ["pyproject.toml", "gradlint.toml"])
def test_settings_that_are_no_file_are_refused_at_once(here: Path, name: str) -> None:
    os.mkfifo(here / name)
    with pytest.raises(ConfigError, match=f"^{name} cannot be read: not a regular file$"):
        read([])
    with pytest.raises(ConfigError, match=f"^the configuration {name} cannot be read: not a regular file$"):
        load(here / name)
    (here / name).unlink()
    (here / name).symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=f"^{name} cannot be read: not a regular file$"):
        read([])
    (here / name).unlink()
    (here / name).write_bytes(b"#" * 1_100_000)
    with pytest.raises(ConfigError, match=f"^{name} cannot be read: too large: 1.1 MB, and 1 MB is the limit$"):
        read([])


def test_tool_gradlint_is_a_table(here: Path) -> None:
    with pytest.raises(ConfigError, match="has to be a table"):
        load(write(here / "pyproject.toml", "[tool]\ngradlint = 1"))


def test_file_that_cannot_be_read(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the configuration no\.toml does not exist$"):
        load(Path("no.toml"))
    (here / "dir.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^the configuration dir\.toml cannot be read: "):
        load(Path("dir.toml"))
    (here / "bytes.toml").write_bytes(b"select = ['\xe9']")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(Path("bytes.toml"))


def test_command_line_is_laid_on_top() -> None:
    below = Settings(selections=(Selection(ignore=("GL1",)),), output_format="json", unsafe_fixes=True)
    same = on_top(below, Selection(origin="the command line"), output_format=None, min_confidence=None)
    assert same == below
    above = on_top(below, Selection(select=("GL2",)), output_format="text")
    assert above.selections == (Selection(ignore=("GL1",)), Selection(select=("GL2",)))
    assert above.output_format == "text"
    assert above.unsafe_fixes
