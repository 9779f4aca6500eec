"""What README.md shows is what happens."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from gradcheck_lint import registry

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_screens_are_what_the_tool_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.delitem(sys.modules, "update_readme", raising=False)
    import update_readme as script

    screens = script.screens(README)
    assert len(screens) == README.count("<!-- screen:begin -->") == 2
    for words, output in screens:
        if words.startswith("run ") and sys.version_info < (3, 11):
            continue  # Python 3.10 does not know the columns of a call
        printed = script.printed(words)
        assert script.VARIES.sub("", output) == script.VARIES.sub("", printed), "run scripts/update_readme.py"
        assert "GL" in printed


@pytest.mark.parametrize("word", ["lint", "test"])
def test_there_is_one_command_for_each_purpose(word: str) -> None:
    """`.ci/run` runs them as they stand here."""
    assert len(re.findall(rf"^```sh {word}\n.+\n```$", README, re.MULTILINE)) == 1


def test_the_table_of_mistakes_tells_of_rules_that_exist() -> None:
    slugs = {rule.code: rule.slug for rule in registry.load(packs=False)}
    rows = re.findall(r"^\| \[(GL\d{3})\]\(rules/(\w+)\.md\) \|", README, re.MULTILINE)
    assert len(rows) >= 12
    for code, stem in rows:
        assert slugs[code].replace("-", "_") == stem
