"""What the documentation says of settings, and where its links lead, is so."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from gradcheck_lint import config

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
WATCHING = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
KEYS = dict(re.findall(r"^### `([\w-]+)`\n(.*?)(?=^### |\Z)", CONFIGURATION, re.MULTILINE | re.DOTALL))
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("rules/*.md")])

each_key = pytest.mark.parametrize("key", list(config._KEYS))


def settings(text: str, folder: Path) -> config.Settings:
    path = folder / "project" / "pyproject.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    (folder / "gradlint.toml").write_text("ignore = ['GL1']\n", encoding="utf-8")  # what `extend` names
    return config.load(path)


def test_every_key_is_told_and_no_other() -> None:
    assert sorted(KEYS) == sorted(config._KEYS)


@each_key
def test_the_example_of_a_key_sets_it(key: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", KEYS[key], re.MULTILINE | re.DOTALL)
    assert key in example
    assert settings(example, tmp_path) != settings("[tool.gradlint]\n", tmp_path)


@each_key
def test_the_default_of_a_key_is_the_default(key: str, tmp_path: Path) -> None:
    (default,) = re.findall(r"^Default: (.+)$", KEYS[key], re.MULTILINE)
    value = re.fullmatch(r"`(.+)`", default)
    if value is None:
        assert key in (
            "extend",
            "select",
            "exclude",
            "cache-dir",
            "baseline",
        )  # not set at all, a list too long to print, the user's own
        return
    told = settings(f"[tool.gradlint]\n{key} = {value[1]}\n", tmp_path)
    assert told == settings("[tool.gradlint]\n", tmp_path)


def test_every_option_of_a_watched_run_is_told() -> None:
    from gradcheck_lint.cli import main

    said = set(re.findall(r"`(--?[a-z-]+)", WATCHING))
    options = {name for param in main.commands["run"].params for name in param.opts if name.startswith("-")}
    assert options - said == set()
    assert {name for name in said if name.startswith("--")} <= options


def test_every_argument_of_watch_is_told() -> None:
    from gradcheck_lint import watch

    names = set(inspect.signature(watch).parameters) - {"optimizers"}
    assert {name for name in names if f"`{name}`" not in WATCHING} == set()
    shown = set(re.findall(r"run\.(\w+)(?:\(| )", WATCHING)) - {"json", "html"}
    assert {name for name in shown if not hasattr(watch, name)} == set()
    assert {"findings", "summary", "save", "to_html", "plot"} <= shown


def test_every_key_of_a_saved_run_is_told() -> None:
    schema = json.loads((ROOT / "docs" / "run.schema.json").read_text(encoding="utf-8"))
    told = WATCHING[WATCHING.index("## The saved run") :]
    assert {key for key in schema["properties"] if f"`{key}`" not in told} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in links if not (page.parent / link.partition("#")[0]).exists()] == []
