"""What lets a project with old mistakes begin: a baseline of those that are known, and a revision to compare with."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import click

from gradcheck_lint import baseline
from gradcheck_lint.config import Settings
from gradcheck_lint.console import counted, tell
from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.files import is_source, lies_in
from gradcheck_lint.report.terminal import clean
from gradcheck_lint.result import UNCHECKED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gradcheck_lint.baseline import Baseline, Place
    from gradcheck_lint.result import Result
    from gradcheck_lint.source.lint import Batch, Rules


def known(
    settings: Settings, paths: Sequence[str], rules: Rules, *, since: str | None, jobs: int | None
) -> Baseline | None:
    """What is known already and need not be told: by the baseline or by a revision, each finding once."""
    written = None if settings.baseline is None else baseline.read(settings.baseline)
    if since is None:
        return written
    old = _at(since, paths, settings, rules, jobs)
    return old if written is None else written.with_all(old.seen_from(written.root))


def _at(name: str, paths: Sequence[str], settings: Settings, rules: Rules, jobs: int | None) -> Baseline:
    """What these rules find in what the paths were at a revision.

    The patterns of the settings are left aside, as they are those of today; what is found too much is not missed.
    """
    from gradcheck_lint.source import revision
    from gradcheck_lint.source.lint import check, collect

    root = revision.top(Path.cwd())
    files = list(revision.sources(root, revision.commit(root, name)))
    with TemporaryDirectory(prefix="gradlint-") as temporary:
        folder = os.path.realpath(temporary)
        revision.unpack(files, Path(folder))
        then = [os.path.join(folder, baseline.relative(os.path.realpath(path), root)) for path in paths or (".",)]
        there = [path for path in then if os.path.lexists(path) and lies_in(os.path.realpath(path), [folder])]
        plain = Settings(settings.selections, settings.min_confidence, (), respect_gitignore=False, root=Path(folder))
        plain = replace(plain, source=settings.source, cache=False)
        result = check(collect(there, plain), rules, plain, jobs=jobs) if there else None
        old = baseline.of(result, Path(folder)) if result is not None else baseline.Baseline(root, {})
    return replace(old, root=root)


class Found(NamedTuple):
    """A run of the linter for a baseline."""

    paths: Sequence[str]
    batch: Batch
    rules: Rules
    result: Result
    settings: Settings


def write(file: Path, found: Found, *, add_new: bool) -> int:
    """Write what is found as the baseline; one that is there already loses what is gone, and gets no more."""
    if is_source(str(file)):
        raise ConfigError(f"{shown(file)} looks like source code, which the baseline would overwrite")
    now = baseline.of(found.result, file.absolute().parent)
    if not file.exists():
        baseline.write(now, file)
        click.echo(f"Wrote {clean(shown(file))}: {counted(len(now), 'finding')}.")
        if found.settings.baseline is None:
            name = baseline.relative(str(file), found.settings.root)
            tell("note", f'to use it, add baseline = "{name}" to the configuration, or pass --baseline {name}')
        return 0
    old = baseline.read(file)
    gone = _gone(old, now, found)
    left = old.without(gone)
    new = sum(now.beyond(old).values())
    if add_new:
        left = left.with_all(now)
    if left.known != old.known:
        baseline.write(left, file)
    news = f", {new} new" if add_new and new else ""
    click.echo(f"{clean(shown(file))}: {counted(len(left), 'finding')} ({sum(gone.values())} gone{news}).")
    if new and not add_new:
        tell("note", f"{counted(new, 'new finding')} not added; use --add-new to add them")
    return int(bool(new and not add_new))


def check(file: Path, found: Found) -> int:
    """Say whether the baseline is what is found: nothing new, and nothing in it that is gone."""
    old, now = baseline.read(file), baseline.of(found.result, file.absolute().parent)
    gone = _gone(old, now, found)
    for (path, code, text), count in sorted(gone.items()):
        times = f" ({count} times)" if count > 1 else ""
        click.echo(f"{clean(path)}: {code} is gone{times}: {clean(text)}")
    if gone:
        lost = counted(sum(gone.values()), "finding")
        tell("note", f"{lost} no longer found; `gradlint baseline write` removes them")
    new = now.beyond(old)
    for path, code, text in sorted(new):
        click.echo(f"{clean(path)}: {code} is new: {clean(text)}")
    if not gone and not new:
        click.echo(f"{clean(shown(file))} is up to date: {counted(len(old), 'finding')}.")
    return int(bool(gone or new))


def _read(batch: Batch, result: Result, root: Path) -> set[str]:
    """The files that were checked, as a baseline names them."""
    unread = {finding.span.path for finding in (*batch.unread, *result.findings) if finding.code in UNCHECKED}
    return {baseline.relative(path, root) for path, _ in batch.places() if path not in unread}


def _gone(old: Baseline, now: Baseline, found: Found) -> dict[Place, int]:
    """What of a baseline is gone, among what was looked for in this run, and in files that are deleted there."""
    read = _read(found.batch, found.result, old.root)
    codes = {rule.code for rule in found.rules.on}
    checked = [baseline.relative(path, old.root) for path in found.paths or (".",)]

    def looked_for(place: Place) -> bool:
        path, code, _ = place
        if not (old.root / path).exists():
            return any(folder in (".", path) or path.startswith(f"{folder}/") for folder in checked)
        return path in read and code in codes and old.known[place].confidence >= found.settings.min_confidence

    return {place: count for place, count in old.beyond(now).items() if looked_for(place)}
