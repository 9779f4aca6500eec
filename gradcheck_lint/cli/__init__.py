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
    together,
    words,
)
from gradcheck_lint.config import Selection, nearest, on_top, read
from gradcheck_lint.console import colourful, counted, is_terminal
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.report import FORMATS
from gradcheck_lint.report.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Callable

_config = option(
    "Files",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file to use instead of the nearest pyproject.toml or gradlint.toml.",
)
_isolated = flag("Files", "--isolated", help="Ignore all configuration files.")
_allow = flag("Files", "--allow-rule-folders", help="Load the rule folders that the configuration names.", env=False)
_SELECT = "Comma-separated rules to enable: codes (GL101), prefixes (GL1), names (missing-zero-grad) or ALL."
_LEVELS = [str(level) for level in Confidence]
_SHELLS = ["bash", "zsh", "fish"]
_choosing = together(
    words("Rules", "--select", "RULES", _SELECT),
    words("Rules", "--extend-select", "RULES", "Rules to enable on top of the selected ones."),
    words("Rules", "--ignore", "RULES", "Rules to disable."),
    option(
        "Rules",
        "--min-confidence",
        type=click.Choice(_LEVELS),
        help="Minimum confidence.  [default: high]",
    ),
    option(
        "Rules",
        "--baseline",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Hide the findings recorded in FILE by `gradlint baseline write`.",
    ),
)
_excluding = together(
    words(
        "Files",
        "--exclude",
        "PATTERNS",
        "Patterns to exclude, as in .gitignore, instead of venv, build, ...",
    ),
    words("Files", "--extend-exclude", "PATTERNS", "Patterns to exclude on top of the defaults."),
    flag("Files", "--force-exclude", help="Apply the exclusions to files named in PATHS too."),
    flag("Files", "--no-respect-gitignore", help="Include files that .gitignore excludes."),
)
_working = together(
    option(
        "Running",
        "-j",
        "--jobs",
        type=click.IntRange(min=1),
        metavar="N",
        help="Number of processes.  [default: depends on the number of files]",
    ),
    flag("Running", "--no-cache", help="Do not use the cache."),
    option(
        "Running",
        "--cache-dir",
        env=False,
        type=click.Path(path_type=Path),
        metavar="FOLDER",
        help="Folder of the cache.  [default: your user cache folder]",
    ),
)


@click.group(
    cls=Words,
    add_help_option=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)
def main() -> None:
    """Find gradient, optimizer and autograd mistakes in PyTorch training code."""


@main.command(cls=Sectioned)
@click.argument("paths", nargs=-1, type=click.Path(allow_dash=True))
@_choosing
@option(
    "Rules",
    "--since",
    env=False,
    metavar="REVISION",
    help="Hide the findings that exist at this git revision.",
)
@flag("Fixes", "--fix", help="Apply safe fixes.", env=False)
@flag("Fixes", "--unsafe-fixes", help="Apply all fixes, including those that need a review.", env=False)
@flag("Fixes", "--add-noqa", help="Add a suppression comment for each finding.", env=False)
@flag("Fixes", "--diff", help="Print the fixes as a diff, and change no file.", env=False)
@option(
    "Output",
    "--output-format",
    type=click.Choice(FORMATS),
    metavar="FORMAT",
    help=f"Output format: {', '.join(FORMATS)}.  [default: the one FILE is named for, or text]",
)
@option(
    "Output",
    "-o",
    "--output-file",
    env=False,
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the findings (with --diff, the patch) to FILE.",
)
@flag("Output", "--statistics", help="Show the number of findings per rule.")
@flag("Output", "-q", "--quiet", help="Print the findings only.")
@flag("Output", "-v", "--verbose", help="Print details, and tracebacks of internal errors.")
@flag("Output", "--exit-zero", help="Exit with 0 even if there are findings.")
@flag("Output", "--exit-non-zero-on-fix", help="Exit with 1 if anything was fixed, even if nothing is left.")
@option(
    "Output",
    "--fail-level",
    type=click.Choice([str(level) for level in Severity]),
    help="Lowest severity that makes the exit code 1.  [default: warning]",
)
@_excluding
@option(
    "Files",
    "--stdin-filename",
    env=False,
    type=click.Path(),
    metavar="FILE",
    help="File name to report for stdin.",
)
@flag("Files", "--show-files", help="List the files that would be checked, and exit.", env=False)
@_config
@_isolated
@_allow
@_working
@option(
    "Running",
    "--show-completion",
    env=False,
    type=click.Choice(_SHELLS),
    is_eager=True,
    expose_value=False,
    callback=completion,
    help="Print the completion script for this shell.",
)
@click.version_option(__version__, "-V", "--version", cls=Option, section="Running", message="gradlint %(version)s")
@click.pass_obj
def lint(alone: bool | None, /, paths: tuple[str, ...], **options: Any) -> int:
    """Find gradient, optimizer and autograd mistakes in PyTorch training code.

    PATHS are files and folders (default: the current directory); `-` reads stdin. `gradlint rules` is a command;
    use `./rules` for a folder of that name.
    """
    from gradcheck_lint.cli.linting import Linting

    if alone:
        _collect_no_garbage()
    return Linting(paths, main.commands, **options).exit_code()


@main.command("baseline", short_help="Record the current findings, so that only new ones are reported.")
@click.argument("what", type=click.Choice(["write", "check"]), metavar="write|check")
@click.argument("paths", nargs=-1, type=click.Path())
@click.option("--add-new", is_flag=True, help="Let `write` add new findings to an existing baseline.")
@_choosing
@_excluding
@_config
@_isolated
@_allow
@_working
def put_off(what: str, paths: tuple[str, ...], add_new: bool, **given: Any) -> int:
    """Record the current findings in a file, the baseline, or check that it is up to date.

    Findings in the baseline are hidden by `gradlint --baseline FILE`, or if the configuration names it. A baseline only
    shrinks: `write` removes what has been fixed, and adds new findings only with --add-new.
    """
    from gradcheck_lint import baseline
    from gradcheck_lint.cli import adopting
    from gradcheck_lint.cli.linting import Linting

    if "-" in paths:
        raise ConfigError("a baseline records findings in files, not in stdin")
    unsaid: dict[str, Any] = {param.name: None for param in lint.params if param.name and param.name != "paths"}
    linting = Linting(paths, (), **{**unsaid, **given})
    settings = linting.settings
    file = settings.baseline or settings.root / baseline.NAME
    batch, rules = linting.prepared()
    result = linting.checked(batch, rules)
    if result.problems:
        linting.tell_problems(result)
        return 2
    found = adopting.Found(paths, batch, rules, result, settings)
    return adopting.write(file, found, add_new=add_new) if what == "write" else adopting.check(file, found)


@main.command(short_help="Explain a rule or a finding.")
@click.argument("rules", type=RuleWord(), metavar="RULE...", nargs=-1, required=True)
@click.option("--all", "whole", is_flag=True, help="Show the whole page, with all examples.")
@click.option("--output-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@_config
@_isolated
@_allow
def explain(rules: tuple[str, ...], whole: bool, output_format: str, **where: Any) -> int:
    """Explain rules: what the mistake is, why it matters, wrong and right code.

    RULE is a code (GL101), a name (missing-zero-grad) or a prefix (GL1).

    `gradlint explain FILE:LINE` explains a finding: the events that led to it, and what each object was taken for.
    Only FILE and the modules it imports are read.
    """
    from gradcheck_lint.cli.explaining import explained

    colour = colourful(sys.stdout) and output_format == "text"
    how: dict[str, Any] = {"whole": whole, "output_format": output_format}
    text = explained(rules, columns=min(columns(), WIDEST), colour=colour, **how, **where)
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
    """List all rules, including those that are off."""
    from gradcheck_lint import registry
    from gradcheck_lint.report import rules_table

    if paths:
        raise ConfigError("`gradlint rules` takes no paths; use ./rules to lint a folder of that name")
    known = registry.load(warned(read([], **where)).rule_folders)
    pages = [page for rule in known if (page := page_of(rule)) is not None]
    if output_format == "json":
        click.echo(rules_table.render_json(pages), nl=False)
    else:
        colour = colourful(sys.stdout)
        click.echo(rules_table.render(pages, columns=columns(), colour=colour), nl=False, color=colour)
        off = [rule.code for rule in known if not getattr(rule, "default", True)]
        if off:
            click.echo(f"Off by default: {', '.join(off)}.")
    return 0


_RUN_FORMATS = ["text", "json", "html"]
_run_format = click.option(
    "--output-format",
    type=click.Choice(_RUN_FORMATS),
    help="Output format.  [default: the one FILE is named for, or text]",
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
@click.option("--fail-on-findings", is_flag=True, help="Exit with 1 if there are findings and the program succeeded.")
@click.option(
    "--on-finding",
    type=click.Choice(["warn", "raise", "log", "ignore"]),
    default="warn",
    show_default=True,
    help="What to do on a finding.",
)
@click.option(
    "--level",
    type=click.Choice(["light", "default", "deep"]),
    default="default",
    show_default=True,
    help="How much to check; `deep` costs more.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Check every Nth step after the first 20.",
)
@click.option("--select", type=WordList(rules=True), multiple=True, callback=joined, metavar="RULES", help=_SELECT)
@click.option(
    "--ignore", type=WordList(rules=True), multiple=True, callback=joined, metavar="RULES", help="Rules to disable."
)
@click.option(
    "--min-confidence",
    type=click.Choice(_LEVELS),
    help="Minimum confidence.  [default: high]",
)
@click.option(
    "--expect-frozen",
    type=WordList(),
    multiple=True,
    callback=joined,
    metavar="NAMES",
    help="Names (or prefixes) of parameters that must not change.",
)
@click.option(
    "--expect-trained",
    type=WordList(),
    multiple=True,
    callback=joined,
    metavar="NAMES",
    help="Names (or prefixes) of parameters that must be trained.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print no summary at the end.")
@_config
@_isolated
@_allow
@click.option("-m", "module", is_flag=True, help="Treat PROGRAM as a module name, as in python -m.")
@click.argument("program")
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def run(program: str, args: tuple[str, ...], module: bool, **options: Any) -> Callable[[], int]:
    """Run a program as Python would, and watch every optimizer that it builds.

    Exits with the exit code of the program. Findings are reported as they happen, and again in a summary at the end.
    """
    from gradcheck_lint.runtime.launch import Launch

    words = ("select", "ignore", "expect_frozen", "expect_trained")
    lists: dict[str, Any] = {name: options.pop(name) or () for name in words}
    return Launch(program, args, module=module, **lists, **options)


@main.command(short_help="Show a saved run.")
@click.argument("run", type=click.Path(), metavar="RUN.JSON")
@_run_format
@_run_file
def report(run: str, output_format: str | None, output_file: str | None) -> int:
    """Show a run that was saved with `gradlint run -o run.json` or `run.save("run.json")`."""
    from gradcheck_lint.report import run_formats, run_json

    form = run_formats.choose(output_format, output_file, stdout=True)
    record = run_json.load(run)
    if output_file is not None:
        run_formats.write(record, form, output_file)
    else:
        colour = colourful(sys.stdout)
        click.echo(run_formats.render(record, form, colour=colour), nl=False, color=colour)
    return 0


@main.command(short_help="Print the path of the cache, or clear it.")
@click.argument("what", type=click.Choice(["dir", "clean"]), metavar="dir|clean")
@click.option("--cache-dir", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder of the cache.")
@_config
@_isolated
def cache(what: str, cache_dir: Path | None, **where: Any) -> int:
    """Print the path of the cache (dir), or clear it (clean).

    Use `gradlint ./cache` to lint a folder of that name.
    """
    from gradcheck_lint.source.store import open_for

    folder = cache_dir and cache_dir.absolute()
    settings = on_top(read([], **where), Selection(), cache_dir=folder, cache_origin="--cache-dir" if folder else None)
    try:
        store = open_for(settings)
    except ConfigError as error:
        raise ConfigError(str(error).partition(";")[0]) from None  # the rest is advice for linting
    if store is None:
        raise ConfigError("there is no cache folder; set one with --cache-dir")
    if what == "dir":
        click.echo(store.folder)
    else:
        click.echo(f"Deleted {counted(store.clean(), 'remembered result')} in {clean(str(store.folder))}.")
    return 0


@main.command("help", short_help="Show the help of a command.")
@click.argument("command", required=False)
@click.pass_context
def show_help(ctx: click.Context, command: str | None) -> int:
    """Show the help of a command, or of gradlint."""
    asked = main.named(command or "lint")
    if asked is None:
        raise ConfigError(f'"{command}" is not a command{nearest(command or "", main.words())}')
    with click.Context(asked, parent=ctx.parent, info_name=asked.name) as inner:
        click.echo(asked.get_help(inner))
    return 0


def _collect_no_garbage() -> None:
    """Let Python not look for garbage by itself: an analysis does, where much was left by others before it."""
    import gc

    gc.disable()
