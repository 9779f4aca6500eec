"""Mounting folders of rules, loading packs, and choosing which rules are on."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gradcheck_lint import registry
from gradcheck_lint.config import Selection, Settings
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.registry import RegistryError
from gradcheck_lint.rule import Rule

RULE = """
    from gradcheck_lint.rule import Rule

    class {name}(Rule):
        code = "{code}"
        slug = "{slug}"
"""


def write_rule(folder: Path, stem: str, code: str = "XX101", slug: str = "some-mistake") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{stem}.py"
    path.write_text(textwrap.dedent(RULE.format(name="Mine", code=code, slug=slug)), encoding="utf-8")
    return path


def rule(code: str, slug: str, *, default: bool = True) -> Rule:
    return type("Made", (Rule,), {"code": code, "slug": slug, "default": default})()


RULES = [
    rule("GL001", "syntax-error"),
    rule("GL003", "unreadable-file"),
    rule("GL101", "missing-zero-grad"),
    rule("GL102", "zero-grad-once-per-epoch"),
    rule("GL201", "parameter-rebound"),
    rule("GL901", "costly", default=False),
]


def on(*selections: Selection) -> list[str]:
    return [rule.code for rule in registry.select(RULES, Settings(selections=selections))]


# Loading


def test_own_rules_are_sorted_and_have_pages_beside_them() -> None:
    rules = registry.load(packs=False)
    codes = [rule.code for rule in rules]
    assert codes == sorted(codes)
    assert {"GL001", "GL002", "GL003"} <= set(codes)
    page = registry.page_path(registry.find(rules, "GL001"))
    assert page == registry.home() / "syntax_error.md"
    assert type(rules[0]).__module__ == "gradcheck_lint.rules.syntax_error"


def test_folder_of_a_user(tmp_path: Path) -> None:
    write_rule(tmp_path / "checks", "mine")
    (tmp_path / "checks" / "_helper.py").write_text("word = 'XX102'", encoding="utf-8")
    (tmp_path / "checks" / "other.py").write_text(
        textwrap.dedent("""
            from gradcheck_lint.rule import Rule
            from ._helper import word

            class Base(Rule):
                "Has no code, and so is no rule."

            class Other(Base):
                code = word
                slug = "other-mistake"
        """),
        encoding="utf-8",
    )
    rules = registry.load([tmp_path / "checks"], packs=False)
    assert {rule.code for rule in rules} >= {"GL001", "XX101", "XX102"}
    assert registry.page_path(registry.find(rules, "XX101")) is None


def test_two_folders_of_one_name(tmp_path: Path) -> None:
    write_rule(tmp_path / "a" / "checks", "mine", "XA101", "mistake-a")
    write_rule(tmp_path / "b" / "checks", "mine", "XB101", "mistake-b")
    rules = registry.load([tmp_path / "a" / "checks", tmp_path / "b" / "checks"], packs=False)
    assert {"XA101", "XB101"} <= {rule.code for rule in rules}


@pytest.mark.parametrize(
    ("code", "slug", "expected"),
    [
        ("GL001", "other", '"GL001" names two rules: '),
        ("XX101", "syntax-error", '"syntax-error" names two rules: '),
        ("xx", "other", "has the code 'xx'"),
        ("XX101", "Not A Slug", "has the slug 'Not A Slug'"),
    ],
)
def test_names_have_to_be_sound(tmp_path: Path, code: str, slug: str, expected: str) -> None:
    write_rule(tmp_path, "mine", code, slug)
    with pytest.raises(RegistryError) as caught:
        registry.load([tmp_path], packs=False)
    assert expected in str(caught.value)
    assert "mine.py" in str(caught.value)


def test_what_a_rule_watches_are_classes(tmp_path: Path) -> None:
    file = write_rule(tmp_path, "mine", "XX101", "other")
    with file.open("a", encoding="utf-8") as text:
        text.write("    watches = frozenset({'stale-step'})\n")
    with pytest.raises(RegistryError, match=r"mine\.py watches frozenset\(\{'stale-step'\}\); it has to be a tuple"):
        registry.load([tmp_path], packs=False)


@pytest.mark.parametrize("text", ["class (:", "import nothing_of_that_name", "1 / 0", "raise SystemExit(0)"])
def test_file_that_breaks_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    with pytest.raises(
        RegistryError, match=r"^the rule .*broken\.py cannot be loaded: (\w+Error|SystemExit): "
    ) as caught:
        registry.load([tmp_path], packs=False)
    assert "\n" not in str(caught.value)


def test_folder_has_to_exist(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="does not exist"):
        registry.load([tmp_path / "nowhere"])


def make_pack(site: Path, value: str) -> None:
    info = site / "pack-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pack\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[gradcheck_lint.rules]\npack = {value}\n", encoding="utf-8")


def test_installed_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    make_pack(site, "gradlint_pack_for_test")
    write_rule(site / "gradlint_pack_for_test", "mine")
    assert "XX101" not in {rule.code for rule in registry.load()}
    monkeypatch.syspath_prepend(site)
    assert "XX101" in {rule.code for rule in registry.load()}
    assert "XX101" not in {rule.code for rule in registry.load(packs=False)}


def test_what_lies_in_the_working_directory_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be on the path, by `python -m` or `PYTHONPATH=.`, and hold the code that is linted."""
    make_pack(tmp_path, "gradlint_stray_for_test")
    write_rule(tmp_path, "gradlint_stray_for_test", "XS101")
    monkeypatch.chdir(tmp_path)
    for entry in (str(tmp_path), "", ".", str(tmp_path / "x" / "..")):
        monkeypatch.setattr(sys, "path", [entry, *sys.path])
        assert "XS101" not in {rule.code for rule in registry.load()}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "XS101" in {rule.code for rule in registry.load()}


def test_pack_that_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(tmp_path, "gradlint_module_for_test")
    write_rule(tmp_path, "gradlint_module_for_test", "XM101")
    monkeypatch.syspath_prepend(tmp_path)
    assert "XM101" in {rule.code for rule in registry.load()}


def test_pack_that_breaks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pack(tmp_path, "no_such_module_for_gradlint")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RegistryError, match=r'^the rule pack "pack" cannot be loaded: ModuleNotFoundError: '):
        registry.load()


def test_loading_needs_neither_torch_nor_libcst() -> None:
    script = """
        import sys
        from gradcheck_lint import registry
        assert registry.load()
        heavy = {"torch", "libcst", "importlib.metadata", "pathspec"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, cwd=registry.home().parent)


# Selecting


def test_all_but_the_optional_ones_are_on() -> None:
    assert on() == ["GL001", "GL003", "GL101", "GL102", "GL201"]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        pytest.param(Selection(select=("GL101",)), ["GL101"], id="code"),
        pytest.param(Selection(select=("GL10",)), ["GL101", "GL102"], id="beginning of codes"),
        pytest.param(Selection(select=("parameter-rebound",)), ["GL201"], id="slug"),
        pytest.param(Selection(select=("ALL",)), ["GL101", "GL102", "GL201", "GL901"], id="all, also the optional"),
        pytest.param(Selection(select=()), [], id="none"),
        pytest.param(Selection(extend_select=("GL9",)), ["GL101", "GL102", "GL201", "GL901"], id="more"),
        pytest.param(Selection(ignore=("GL1",)), ["GL201"], id="fewer"),
        pytest.param(Selection(select=("GL1",), ignore=("GL101",)), ["GL102"], id="the longer word wins"),
        pytest.param(Selection(select=("GL101",), ignore=("GL1",)), ["GL101"], id="also the other way"),
        pytest.param(Selection(select=("GL101",), ignore=("missing-zero-grad",)), [], id="ignore wins a draw"),
        pytest.param(Selection(select=("ALL",), ignore=("GL",)), [], id="all is shorter than any beginning"),
    ],
)
def test_one_selection(selection: Selection, expected: list[str]) -> None:
    assert [code for code in on(selection) if not code.startswith("GL00")] == expected


def test_later_selections_build_on_earlier_ones() -> None:
    config = Selection(select=("GL1", "GL2"), ignore=("GL101",))
    assert on(config, Selection(extend_select=("GL101",)))[2:] == ["GL101", "GL102", "GL201"]
    assert on(config, Selection(ignore=("GL2",)))[2:] == ["GL102"]
    assert on(config, Selection(select=("GL101",)))[2:] == ["GL101"]


def test_unchecked_files_are_told_whatever_is_selected() -> None:
    assert on(Selection(select=("GL101",)))[:2] == ["GL001", "GL003"]
    assert on(Selection(select=("GL101",), ignore=("GL001",)))[:2] == ["GL003", "GL101"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("gl101", 'unknown rule "gl101" in here; did you mean "GL101"?'),
        ("missing-zero-gard", 'unknown rule "missing-zero-gard" in here; did you mean "missing-zero-grad"?'),
        ("", 'unknown rule "" in here; see `gradlint rules`'),
        ("zzz", 'unknown rule "zzz" in here; see `gradlint rules`'),
        ("GL1O1", 'unknown rule "GL1O1" in here; did you mean "GL101"?'),
        ("LG101", 'unknown rule "LG101" in here; did you mean "GL101"?'),
        ("GL1101", 'unknown rule "GL1101" in here; did you mean "GL101"?'),
        ("GL999", 'unknown rule "GL999" in here; see `gradlint rules`'),
        ("E501", 'unknown rule "E501" in here; the codes of gradlint\'s rules begin with GL'),
    ],
)
def test_unknown_words(word: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        on(Selection(ignore=(word,), origin="here"))
    assert str(caught.value) == expected


def test_find_takes_codes_and_slugs_in_any_case() -> None:
    for word in ("GL101", "gl101", "missing-zero-grad", "Missing-Zero-Grad"):
        assert registry.find(RULES, word).code == "GL101"
    with pytest.raises(ConfigError, match='there is no rule "GL1O1"; did you mean "GL101"'):
        registry.find(RULES, "GL1O1")
