"""The command `gradlint`: it lints, unless its first word is one of its others (`explain`, `run`, ...).

Only this package, `console` and the renderers' callers here print. Exit codes: 0 clean, 1 findings, 2 wrong usage or
something that broke inside gradlint, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck_lint import __version__
from gradcheck_lint.cli.common import WIDEST, columns, lines, page_of, warned
from gradcheck_lint.cli.params import (
    Option,
    Program,
    RuleWord,
    Sectioned,
    WordList,
    Words,
    completion,
    flag,
    joined,
    option,
    words,
)
from gradcheck_lint.config import Selection, on_top, read
from gradcheck_lint.console import colourful, counted, is_terminal
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence
from gradcheck_lint.report import FORMATS
from gradcheck_lint.report.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Callable

_config = option(
    "Files",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the settings from FILE, not from the nearest pyproject.toml or gradlint.toml.",
)
_isolated = flag("Files", "--isolated", help="Read no settings at all.")
_allow = flag("Files", "--allow-rule-folders", help="Run the rules in the folders that the settings name.")
_SELECT = "Only these rules: codes (GL101), beginnings of codes (GL1), names (missing-zero-grad) or ALL, after commas."
_LEVELS = [str(level) for level in Confidence]
_SHELLS = ["bash", "zsh", "fish"]


@click.group(
    cls=Words,
    add_help_option=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)
def main() -> None:
    """Find gradient, optimizer and autograd mistakes in PyTorch training code."""


@main.command(cls=Sectioned)
@click.argument("paths", nargs=-1, type=click.Path(allow_dash=True))
@words("Rules", "--select", "RULES", _SELECT)
@words("Rules", "--extend-select", "RULES", "These rules too.")
@words("Rules", "--ignore", "RULES", "Not these rules.")
@option(
    "Rules",
    "--min-confidence",
    type=click.Choice(_LEVELS),
    help="Show what is at least this certain.  [default: high]",
)
@flag("Fixes", "--fix", help="Apply the fixes that are always safe.")
@flag("Fixes", "--unsafe-fixes", help="Apply all fixes, also those that a person should look at.")
@flag("Fixes", "--diff", help="Show what the fixes would change, and write nothing.")
@option(
    "Output",
    "--output-format",
    type=click.Choice(FORMATS),
    help="How to tell it.  [default: what the name of FILE says, or text]",
)
@option(
    "Output",
    "-o",
    "--output-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write what was found to FILE, or with --diff the patch.",
)
@flag("Output", "--statistics", help="Count the findings of each rule, as text or json.")
@flag("Output", "-q", "--quiet", help="Say nothing but what was found.")
@flag("Output", "-v", "--verbose", help="Say what is done, and where gradlint itself broke.")
@flag("Output", "--exit-zero", help="Exit with 0 also if something was found.")
@words("Files", "--exclude", "PATTERNS", "Leave these out, as .gitignore would, and not the usual (venv, build, ...).")
@words("Files", "--extend-exclude", "PATTERNS", "Leave these out too.")
@flag("Files", "--force-exclude", help="Leave them out even if they are named in PATHS.")
@flag("Files", "--no-respect-gitignore", help="Check what .gitignore leaves out too.")
@option("Files", "--stdin-filename", type=click.Path(), metavar="FILE", help="What the text that `-` reads is called.")
@flag("Files", "--show-files", help="List the files, and check none.")
@_config
@_isolated
@_allow
@option(
    "Running",
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use N processes.  [default: as many as are worth it]",
)
@flag("Running", "--no-cache", help="Check every file anew.")
@option(
    "Running",
    "--cache-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Remember there what was found, not in your own folder for caches.",
)
@option(
    "Running",
    "--show-completion",
    type=click.Choice(_SHELLS),
    is_eager=True,
    expose_value=False,
    callback=completion,
    help="Print the script with which this shell completes the words of gradlint.",
)
@click.version_option(__version__, "-V", "--version", cls=Option, section="Running", message="gradlint %(version)s")
@click.pass_obj
def lint(alone: bool | None, /, paths: tuple[str, ...], **options: Any) -> int:
    """Find gradient, optimizer and autograd mistakes in PyTorch training code.

    PATHS are files and folders, the working directory if there are none; `-` reads stdin. A first word that is one
    of the words below is that word: `gradlint rules` lists the rules, `gradlint ./rules` checks the folder.
    """
    from gradcheck_lint.cli.linting import Linting

    if alone:
        _collect_no_garbage()
    return Linting(paths, main.commands, **options).exit_code()


@main.command(short_help="Show the page of a rule, or how a finding was come to.")
@click.argument("rule", type=RuleWord(), metavar="CODE_OR_NAME")
@_config
@_isolated
@_allow
def explain(rule: str, **where: Any) -> int:
    """Show the page of a rule: what the mistake is, why it hurts, wrong and right code.

    `gradlint explain FILE:LINE` shows how gradlint came to what it finds at a line: what the code does on the way, and
    what each object is taken for. Only FILE and what it imports are read.
    """
    from gradcheck_lint.cli.explaining import explained

    text = explained(rule, columns=min(columns(), WIDEST), colour=colourful(sys.stdout), **where)
    if is_terminal(sys.stdout) and text.count("\n") >= lines():
        os.environ.setdefault("NoDefaultCurrentDirectoryInExePath", "1")  # else Windows would take a pager from here
        click.echo_via_pager(text)
    else:
        click.echo(text, nl=False, color=colourful(sys.stdout))
    return 0


@main.command(short_help="List the rules.")
@click.option("--output-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_config
@_isolated
@_allow
@click.argument("paths", nargs=-1, metavar="")
def rules(paths: tuple[str, ...], output_format: str, **where: Any) -> int:
    """List the rules: all that there are, also those that are off."""
    from gradcheck_lint import registry
    from gradcheck_lint.report import rules_table

    if paths:
        raise ConfigError("`gradlint rules` lists the rules and takes no paths; to check a folder `rules`, say ./rules")
    known = registry.load(warned(read([], **where)).rule_folders)
    pages = [page for rule in known if (page := page_of(rule)) is not None]
    if output_format == "json":
        click.echo(rules_table.render_json(pages), nl=False)
    else:
        colour = colourful(sys.stdout)
        click.echo(rules_table.render(pages, columns=columns(), colour=colour), nl=False, color=colour)
        off = [rule.code for rule in known if not getattr(rule, "default", True)]
        if off:
            click.echo(f"Off unless they are selected: {', '.join(off)}.")
    return 0


_RUN_FORMATS = ["text", "json", "html"]
_run_format = click.option(
    "--output-format",
    type=click.Choice(_RUN_FORMATS),
    help="How to tell it.  [default: what the name of FILE says, or text]",
)
_run_file = click.option(
    "-o",
    "--output-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the report to FILE.",
)


@main.command(
    cls=Program,
    short_help="Run a program and watch how it trains.",
    context_settings={"allow_interspersed_args": False},
)
@_run_format
@_run_file
@click.option("--fail-on-findings", is_flag=True, help="Exit with 1 if something was found and the program went well.")
@click.option(
    "--on-finding",
    type=click.Choice(["warn", "raise", "log", "ignore"]),
    default="warn",
    show_default=True,
    help="What to do when something is found.",
)
@click.option(
    "--level",
    type=click.Choice(["light", "default", "deep"]),
    default="default",
    show_default=True,
    help="How closely to look; the last costs more.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="After the first 20 steps, check each Nth.",
)
@click.option("--select", type=WordList(rules=True), multiple=True, callback=joined, metavar="RULES", help=_SELECT)
@click.option(
    "--ignore", type=WordList(rules=True), multiple=True, callback=joined, metavar="RULES", help="Not these rules."
)
@click.option(
    "--min-confidence",
    type=click.Choice(_LEVELS),
    help="Tell what is at least this certain.  [default: high]",
)
@click.option(
    "--expect-frozen",
    type=WordList(),
    multiple=True,
    callback=joined,
    metavar="NAMES",
    help="Parameters, or beginnings of their names, that must not move.",
)
@click.option(
    "--expect-trained",
    type=WordList(),
    multiple=True,
    callback=joined,
    metavar="NAMES",
    help="Parameters, or beginnings of their names, that must be trained.",
)
@click.option("-q", "--quiet", is_flag=True, help="No summary on stderr at the end.")
@_config
@_isolated
@_allow
@click.option("-m", "module", is_flag=True, help="PROGRAM is the name of a module, as for python -m.")
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(program: str, args: tuple[str, ...], module: bool, **options: Any) -> Callable[[], int]:
    """Run a program as Python would, and watch every optimizer that it builds.

    Exits as the program does. What is found is told when it happens, and again in a summary at the end.
    """
    from gradcheck_lint.runtime.launch import Launch

    words = ("select", "ignore", "expect_frozen", "expect_trained")
    lists: dict[str, Any] = {name: options.pop(name) or () for name in words}
    return Launch(program, args, module=module, **lists, **options)


@main.command(short_help="Show a saved run again.")
@click.argument("run", type=click.Path(), metavar="RUN.JSON")
@_run_format
@_run_file
def report(run: str, output_format: str | None, output_file: str | None) -> int:
    """Show a run again that was saved by `gradlint run -o run.json` or by `run.save("run.json")`."""
    from gradcheck_lint.report import run_formats, run_json

    form = run_formats.choose(output_format, output_file, stdout=True)
    record = run_json.load(run)
    if output_file is not None:
        run_formats.write(record, form, output_file)
    else:
        colour = colourful(sys.stdout)
        click.echo(run_formats.render(record, form, colour=colour), nl=False, color=colour)
    return 0


@main.command(short_help="Print or empty the folder that remembers what was found.")
@click.argument("what", type=click.Choice(["dir", "clean"]), metavar="dir|clean")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="FOLDER", help="This folder, and no other.")
@_config
@_isolated
def cache(what: str, cache_dir: Path | None, **where: Any) -> int:
    """Print which folder remembers what was found (dir), or delete what gradlint has put into it (clean).

    To check a folder that is called cache, say `gradlint ./cache`.
    """
    from gradcheck_lint.source.store import open_for

    folder = cache_dir and cache_dir.absolute()
    settings = on_top(read([], **where), Selection(), cache_dir=folder, cache_origin="--cache-dir" if folder else None)
    try:
        store = open_for(settings)
    except ConfigError as error:
        raise ConfigError(str(error).partition(";")[0]) from None  # the rest is advice for linting
    if store is None:
        raise ConfigError("there is no folder for caches here; name one with --cache-dir")
    if what == "dir":
        click.echo(store.folder)
    else:
        click.echo(f"Deleted {counted(store.clean(), 'remembered result')} in {clean(str(store.folder))}.")
    return 0


def _collect_no_garbage() -> None:
    """Let Python not look for garbage by itself: an analysis does, where much was left by others before it."""
    import gc

    gc.disable()
