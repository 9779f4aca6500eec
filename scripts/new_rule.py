"""Start a new rule: write its pair of files.

    python scripts/new_rule.py GL199 name-of-the-defect

The pair is honest: its tests fail until the page tells of the mistake and the rule finds it.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from gradcheck_lint import __version__, registry
from gradcheck_lint.errors import ConfigError, shown

RULE = '''\
"""{code}: {words}."""

from gradcheck_lint.finding import Severity
from gradcheck_lint.rule import Rule


class {name}(Rule):
    code = "{code}"
    slug = "{slug}"
    severity = Severity.ERROR
'''

PAGE = """\
---
code: {code}
slug: {slug}
severity: error
found-by: [source]
fix: none
since: {version}
---
the mistake, as a fact in one sentence

## What it is

## Why it hurts

## Wrong

```python wrong
raise NotImplementedError("a program that makes the mistake")  # <- {code}
```

```python harm
raise NotImplementedError("assertions that hold after the program above and fail after its right twin")
```

## Right

```python right
raise NotImplementedError("the same program without the mistake")
```

Why the next program is right although it looks wrong.

```python quiet
raise NotImplementedError("a correct program that a careless rule would flag")
```

## When to ignore it

## Fix safety
"""


def write_pair(code: str, slug: str, folder: Path) -> tuple[Path, Path]:
    """Write the rule and its page into `folder`; raises ConfigError where a name is unfit or taken."""
    if not re.fullmatch(r"GL[0-9]{3}", code):
        raise ConfigError(f'the code "{code}" should be GL and three digits, as GL101')
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", slug):
        raise ConfigError(f'the slug "{slug}" should be two or more lower-case words joined by hyphens')
    stem = slug.replace("-", "_")
    rule, page = folder / f"{stem}.py", folder / f"{stem}.md"
    for path in (rule, page):
        if path.exists():
            raise ConfigError(f"{shown(path)} is there already")
    for other in registry.load(packs=False):
        if code == other.code or slug == other.slug:
            raise ConfigError(f"{code} {slug} would clash with {other.code} {other.slug}; choose another")
    name = "".join(word.capitalize() for word in slug.split("-"))
    words = slug.replace("-", " ")
    rule.write_text(RULE.format(code=code, slug=slug, name=name, words=words), encoding="utf-8")
    page.write_text(PAGE.format(code=code, slug=slug, version=__version__), encoding="utf-8")
    return rule, page


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the pair of files of a new rule.")
    parser.add_argument("code", metavar="CODE", help="GL and three digits; a code never changes its meaning")
    parser.add_argument("slug", metavar="SLUG", help="names the defect, not the cure: missing-zero-grad")
    parser.add_argument("--folder", type=Path, default=registry.home(), help="where to write (default: rules/)")
    options = parser.parse_args()
    try:
        rule, page = write_pair(options.code, options.slug, options.folder)
    except (ConfigError, OSError) as error:
        print(f"new_rule: {error}", file=sys.stderr)
        return 2
    print(f"{shown(rule)}\n{shown(page)}\n\nUntil both are filled in, this fails:\n")
    print(f"  pytest tests/test_pages.py tests/test_catalogue.py -k {options.code}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
