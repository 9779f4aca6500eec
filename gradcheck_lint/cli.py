"""The command `gradlint`: it lints, unless its first word is one of its others (`explain`, `run`, ...).

Only this module, `console` and the renderers' callers here print. Exit codes: 0 clean, 1 findings, 2 wrong usage or
something that broke inside gradlint, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gradcheck_lint import __version__
from gradcheck_lint.config import Selection, Settings, nearest, on_top, read
from gradcheck_lint.console import Progress, colourful, counted, forgiving, is_terminal, tell, unwritable
from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.files import is_source, write_report
from gradcheck_lint.finding import Confidence
from gradcheck_lint.report import FORMATS, format_of
from gradcheck_lint.report.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from click.shell_completion import CompletionItem

    from gradcheck_lint.page import Page
    from gradcheck_lint.result import Result
    from gradcheck_lint.rule import Rule
    from gradcheck_lint.source.edit import Plan
    from gradcheck_lint.source.file import SourceFile
    from gradcheck_lint.source.lint import Batch
    from gradcheck_lint.source.mend import Mended

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic in older versions of click

_F = TypeVar("_F", bound="Callable[..., Any]")

_WIDEST = 100  # columns of running text, however wide the terminal is
_WITH_PROBLEMS = frozenset({"text", "concise", "github"})  # the formats whose text tells of problems


_WITH_CUTS = frozenset({"text", "github", "json", "sarif"})  # those that tell what was followed in part only


class Words(click.Group):
    """A group whose first word may be left out: `gradlint src` is `gradlint lint src`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not (args and args[0] in self.commands) and not (ctx.resilient_parsing and not args):
            args = ["lint", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        linting = self.commands["lint"].make_context("lint", [], parent=ctx, resilient_parsing=True)
        return [*super().shell_complete(ctx, incomplete), *linting.command.shell_complete(linting, incomplete)]

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run, and tell what a user has to mend in one line."""
        alone = extra.pop("standalone_mode", True)
        extra["standalone_mode"] = False
        if not alone:
            return super().main(*args, **extra)
        strictness = getattr(sys.stdout, "errors", None)
        forgiving(sys.stdout)
        forgiving(sys.stderr)
        try:
            code = super().main(*args, **extra)
        except ConfigError as error:
            _fail(str(error))
        except click.ClickException as error:
            _fail(_sentence(error))
        except (click.Abort, KeyboardInterrupt):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second Ctrl-C need not wait for Python
            sys.exit(130)
        except Exception as error:  # the last resort: nobody is to see a traceback who has not asked for one
            if isinstance(error, OSError) and unwritable(sys.stdout, error):
                _fail(f"the output cannot be written: {error.strerror}")
            said = extra.get("args") or (args[0] if args else None) or sys.argv[1:]
            if {"-v", "--verbose"} & set(said):
                traceback.print_exc()
            _fail(f"gradlint broke: {type(error).__name__}: {error} (please report it; -v shows where)")
        if callable(code):  # somebody's program, to be run as if we were not there
            if strictness is not None and hasattr(sys.stdout, "reconfigure"):
                sys.stdout.reconfigure(errors=strictness)
            code = code()
        sys.exit(code if isinstance(code, int) else 0)


class Sectioned(click.Command):
    """A command whose help lists its options in sections, and the other words of its group."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.find_root().command_path, "[OPTIONS] [PATHS]...")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", "Running"), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)
        parent = ctx.parent
        if parent is not None and isinstance(parent.command, click.Group):
            words = [(word, other.get_short_help_str(90)) for word, other in parent.command.commands.items()]
            with formatter.section("Words"):
                formatter.write_dl(words)


class Program(click.Command):
    """A command that runs a program, whose own words come last."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "[OPTIONS] train.py [ARGS]...")
        formatter.write_usage(ctx.command_path, "[OPTIONS] -m package.train [ARGS]...", prefix="       ")


class Option(click.Option):
    """An option that knows the section of the help in which it is listed."""

    def __init__(self, *args: Any, section: str, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.section = section


class WordList(_ParamType):
    """Words separated by commas; the option may be repeated as well."""

    name = "words"

    def __init__(self, *, rules: bool = False) -> None:
        self._rules = rules

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(word.strip() for word in value.split(",") if word.strip())

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        return _completed(last, before + comma) if self._rules else []


class RuleWord(_ParamType):
    """A code or a slug."""

    name = "rule"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completed(incomplete)


def _completed(word: str, before: str = "") -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from gradcheck_lint import registry

    found = []
    for rule in registry.load(packs=False):
        for name, other in ((rule.code, rule.slug), (rule.slug, rule.code)):
            if name.startswith(word) and (word or name == rule.code):
                found.append(CompletionItem(before + name, help=other))
    return found


def _joined(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...] | None:
    """The words of all repetitions of an option, or None if it was not given."""
    return tuple(word for words in value for word in words) if value else None


def _completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    if not shell or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "gradlint", "_GRADLINT_COMPLETE").source())
    ctx.exit(0)


def _option(section: str, *names: str, **extra: Any) -> Callable[[_F], _F]:
    return click.option(*names, cls=Option, section=section, **extra)


def _words(section: str, name: str, metavar: str, help: str) -> Callable[[_F], _F]:
    """An option that takes words and may be repeated."""
    kind = WordList(rules=metavar == "RULES")
    return _option(section, name, type=kind, multiple=True, callback=_joined, metavar=metavar, help=help)


def _flag(section: str, *names: str, help: str) -> Callable[[_F], _F]:
    return _option(section, *names, is_flag=True, help=help)


_config = _option(
    "Files",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Read the settings from FILE, not from the nearest pyproject.toml or gradlint.toml.",
)
_isolated = _flag("Files", "--isolated", help="Read no settings at all.")
_allow = _flag("Files", "--allow-rule-folders", help="Run the rules in the folders that the settings name.")
_SELECT = "Only these rules: codes (GL101), beginnings of codes (GL1), names (missing-zero-grad) or ALL, after commas."
_LEVELS = [str(level) for level in Confidence]
_SHELLS = ["bash", "zsh", "fish"]


@click.group(
    cls=Words,
    add_help_option=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _WIDEST},
)
def main() -> None:
    """Find gradient, optimizer and autograd mistakes in PyTorch training code."""


@main.command(cls=Sectioned)
@click.argument("paths", nargs=-1, type=click.Path(allow_dash=True))
@_words("Rules", "--select", "RULES", _SELECT)
@_words("Rules", "--extend-select", "RULES", "These rules too.")
@_words("Rules", "--ignore", "RULES", "Not these rules.")
@_option(
    "Rules",
    "--min-confidence",
    type=click.Choice(_LEVELS),
    help="Show what is at least this certain.  [default: high]",
)
@_flag("Fixes", "--fix", help="Apply the fixes that are always safe.")
@_flag("Fixes", "--unsafe-fixes", help="Apply all fixes, also those that a person should look at.")
@_flag("Fixes", "--diff", help="Show what the fixes would change, and write nothing.")
@_option(
    "Output",
    "--output-format",
    type=click.Choice(FORMATS),
    help="How to tell it.  [default: what the name of FILE says, or text]",
)
@_option(
    "Output",
    "-o",
    "--output-file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write what was found to FILE, or with --diff the patch.",
)
@_flag("Output", "--statistics", help="Count the findings of each rule, as text or json.")
@_flag("Output", "-q", "--quiet", help="Say nothing but what was found.")
@_flag("Output", "-v", "--verbose", help="Say what is done, and where gradlint itself broke.")
@_flag("Output", "--exit-zero", help="Exit with 0 also if something was found.")
@_words("Files", "--exclude", "PATTERNS", "Leave these out, as .gitignore would, and not the usual (venv, build, ...).")
@_words("Files", "--extend-exclude", "PATTERNS", "Leave these out too.")
@_flag("Files", "--force-exclude", help="Leave them out even if they are named in PATHS.")
@_flag("Files", "--no-respect-gitignore", help="Check what .gitignore leaves out too.")
@_option("Files", "--stdin-filename", type=click.Path(), metavar="FILE", help="What the text that `-` reads is called.")
@_flag("Files", "--show-files", help="List the files, and check none.")
@_config
@_isolated
@_allow
@_option(
    "Running",
    "-j",
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use N processes.  [default: as many as are worth it]",
)
@_flag("Running", "--no-cache", help="Check every file anew.")
@_option(
    "Running",
    "--cache-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Remember there what was found, not in your own folder for caches.",
)
@_option(
    "Running",
    "--show-completion",
    type=click.Choice(_SHELLS),
    is_eager=True,
    expose_value=False,
    callback=_completion,
    help="Print the script with which this shell completes the words of gradlint.",
)
@click.version_option(__version__, "-V", "--version", cls=Option, section="Running", message="gradlint %(version)s")
@click.pass_obj
def lint(alone: bool | None, /, paths: tuple[str, ...], **options: Any) -> int:
    """Find gradient, optimizer and autograd mistakes in PyTorch training code.

    PATHS are files and folders, the working directory if there are none; `-` reads stdin. A first word that is one
    of the words below is that word: `gradlint rules` lists the rules, `gradlint ./rules` checks the folder.
    """
    if alone:
        _collect_seldom()
    return _Run(paths, **options).exit_code()


@main.command(short_help="Show the page of a rule.")
@click.argument("rule", type=RuleWord(), metavar="CODE_OR_NAME")
@_config
@_isolated
@_allow
def explain(rule: str, **where: Any) -> int:
    """Show the page of a rule: what the mistake is, why it hurts, wrong and right code."""
    from gradcheck_lint import registry
    from gradcheck_lint.report.page_text import render

    known = registry.load(_told(read([], **where)).rule_folders)
    found = registry.find(known, rule)
    page = _page(found)
    if page is None:
        raise ConfigError(f"{found.code} ({found.slug}) has no page")
    colour = colourful(sys.stdout)
    text = render(page, columns=min(_columns(), _WIDEST), colour=colour)
    if is_terminal(sys.stdout) and text.count("\n") >= _lines():
        os.environ.setdefault("NoDefaultCurrentDirectoryInExePath", "1")  # else Windows would take a pager from here
        click.echo_via_pager(text)
    else:
        click.echo(text, nl=False, color=colour)
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
    known = registry.load(_told(read([], **where)).rule_folders)
    pages = [page for rule in known if (page := _page(rule)) is not None]
    if output_format == "json":
        click.echo(rules_table.render_json(pages), nl=False)
    else:
        colour = colourful(sys.stdout)
        click.echo(rules_table.render(pages, columns=_columns(), colour=colour), nl=False, color=colour)
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
@click.option("--select", type=WordList(rules=True), multiple=True, callback=_joined, metavar="RULES", help=_SELECT)
@click.option(
    "--ignore", type=WordList(rules=True), multiple=True, callback=_joined, metavar="RULES", help="Not these rules."
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
    callback=_joined,
    metavar="NAMES",
    help="Parameters, or beginnings of their names, that must not move.",
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

    lists: dict[str, Any] = {name: options.pop(name) or () for name in ("select", "ignore", "expect_frozen")}
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


class _Run:
    """One call of `gradlint PATHS`."""

    def __init__(self, paths: tuple[str, ...], **options: Any) -> None:
        self._options = options
        self._from_stdin = "-" in paths
        if self._from_stdin and len(paths) > 1:
            raise ConfigError("`-` stands for all that is checked; name no other paths beside it")
        name = options["stdin_filename"]
        if name and not self._from_stdin:
            raise ConfigError("--stdin-filename names what `-` reads; add `-`")
        if options["output_file"] and is_source(options["output_file"]):
            name = options["output_file"]
            raise ConfigError(f"{name} is a name for code, and the report would replace it; name another file for -o")
        self._paths = paths
        self._refuse_misspelt_words()
        self._settings = self._read_settings((name,) if name else paths)
        self._quiet: bool = options["quiet"]
        self._start = time.perf_counter()

    def exit_code(self) -> int:
        """Do it, tell it, and say how it went."""
        if self._options["show_files"]:
            return self._show_files()
        from gradcheck_lint import registry
        from gradcheck_lint.source.lint import check, collect, every_of, rules_of

        jobs = self._options["jobs"]
        batch = collect(self._paths, self._settings, stdin=self._stdin() if self._from_stdin else None)
        self._refuse_to_replace(batch)
        rules = rules_of(self._settings, batch)
        every = every_of(self._settings, batch)
        for each in every:
            if each is not self._settings:
                _told(each)
            for word, origin in registry.passed_over(rules.of(each).known, each):
                what = f'"{word}" in {origin} is no rule that is loaded'
                tell("warning", f"{what}; perhaps one of those that were left out")
        if all(registry.nothing_to_find(rules.of(each).on, each) for each in every):
            raise ConfigError("no rule is on that looks at code, so nothing would be checked; see `gradlint rules`")
        self._known = rules.known
        self._tell_start(every, len(rules.on), len(rules.known), len(batch))
        fix, diff = self._options["fix"] or self._options["unsafe_fixes"], self._options["diff"]
        if not (fix or diff):
            with Progress(on=not self._quiet) as progress:
                result = check(batch, rules, self._settings, jobs=jobs, progress=progress)
            return self._tell(result)
        from gradcheck_lint.source.mend import mend, write

        with Progress(on=not self._quiet) as progress:
            unsafe = self._settings.unsafe_fixes
            mended = mend(batch, rules, self._settings, unsafe=unsafe, jobs=jobs, progress=progress)
        if diff:
            return self._tell_diff(mended)
        if self._from_stdin:
            self._tell_text(batch.files, mended.plan)
            return self._tell(mended.result, to_stderr=True)
        return self._tell(write(mended, rules, self._settings, jobs=jobs))

    def _refuse_misspelt_words(self) -> None:
        """A first word that is no path may have been meant as `explain` or `rules`."""
        first = self._paths[0] if self._paths else "."
        hint = "" if Path(first).exists() or first == "-" else nearest(first, main.commands)
        if hint:
            raise ConfigError(f'"{first}" does not exist{hint}')

    def _refuse_to_replace(self, batch: Batch) -> None:
        """A report may not take the place of a file that is checked, whatever that is called."""
        target = self._options["output_file"]
        if target in (None, "-"):
            return
        real = os.path.realpath(target)
        if any(os.path.realpath(file.real) == real for file in batch.files):
            raise ConfigError(f"{target} is checked, and the report would replace it; name another file for -o")

    def _read_settings(self, paths: Sequence[str]) -> Settings:
        options = self._options
        where = {name: options[name] for name in ("config", "isolated", "allow_rule_folders")}
        settings = _told(read(paths, **where))
        selection = Selection(
            select=options["select"],
            extend_select=options["extend_select"] or (),
            ignore=options["ignore"] or (),
            origin="the command line",
        )
        confidence = options["min_confidence"]
        settings = on_top(
            settings,
            selection,
            min_confidence=Confidence.parse(confidence) if confidence else None,
            exclude=options["exclude"],
            extend_exclude=options["extend_exclude"],
            force_exclude=options["force_exclude"] or None,
            respect_gitignore=False if options["no_respect_gitignore"] else None,
            output_format=options["output_format"],
            unsafe_fixes=options["unsafe_fixes"] or None,
            cache=False if options["no_cache"] else None,
            cache_dir=options["cache_dir"] and options["cache_dir"].absolute(),
            cache_origin="--cache-dir" if options["cache_dir"] else None,
        )
        if options["output_file"] and not options["output_format"]:
            settings = on_top(
                settings, Selection(), output_format=format_of(options["output_file"], settings.output_format)
            )
        return settings

    def _stdin(self) -> SourceFile:
        from gradcheck_lint.source.discovery import refuse_notebook
        from gradcheck_lint.source.file import LARGEST, SourceFile

        name = self._options["stdin_filename"]
        refuse_notebook(name or "")
        data = sys.stdin.buffer.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise ConfigError(f"the text from stdin is too large to lint: {LARGEST / 1e6:.0f} MB is the limit")
        return SourceFile(shown(Path(name)) if name else "-", Path(name or "-").absolute(), data)

    def _show_files(self) -> int:
        from gradcheck_lint.source.discovery import discover

        if self._from_stdin:
            raise ConfigError("--show-files lists files, and `-` is none")
        for found in discover(self._paths, self._settings):
            if found.reason:
                tell("warning", f"{found.path} cannot be read: {found.reason}")
            else:
                click.echo(clean(found.path) if is_terminal(sys.stdout) else found.path)
        return 0

    def _tell_start(self, every: Sequence[Settings], on: int, known: int, files: int) -> None:
        if self._options["verbose"]:
            sources = [shown(each.source) for each in every if each.source]
            found = f"settings from {', '.join(sources)}" if sources else "no configuration found, default settings"
            tell("note", found)
            tell("note", f"{on} of {known} rules are on, {counted(files, 'file')} to check")
        if not files and not self._quiet and not (self._from_stdin or self._in_words()):
            tell("warning", "no Python files found in " + ", ".join(self._paths or (".",)))

    def _in_words(self) -> bool:
        """Whether the result is told to a person who looks at it, with a line that sums up."""
        options = self._options
        return self._settings.output_format == "text" and not (options["statistics"] or options["output_file"])

    def _tell(self, result: Result, *, to_stderr: bool = False) -> int:
        """Tell what was found, and give back the exit code."""
        options = self._options
        told = self._settings.output_format in _WITH_CUTS and not (options["output_file"] or options["statistics"])
        self._tell_cut(result, told=told)
        result = replace(result, seconds=time.perf_counter() - self._start)
        target = self._options["output_file"]
        if target in (None, "-"):
            colour = colourful(sys.stderr if to_stderr else sys.stdout)
            click.echo(self._rendered(result, colour=colour), nl=False, err=to_stderr, color=colour)
        else:
            self._write(target, self._rendered(result, colour=False))
        unsaid = self._options["statistics"] or self._options["output_file"]
        self._tell_problems(result, told=not unsaid and self._settings.output_format in _WITH_PROBLEMS)
        if result.problems:
            return 2
        return int(bool(result.findings) and not self._options["exit_zero"])

    @staticmethod
    def _write(target: str, report: str | bytes) -> None:
        try:
            write_report(target, report)
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}") from None

    def _tell_cut(self, result: Result, *, told: bool) -> None:
        """What was too much to follow: with -v all of it, else that there is some if it is not `told` otherwise."""
        from gradcheck_lint.report import text

        if self._options["verbose"]:
            for path, name in result.cut:
                tell("note", text.cut_off(path, name))
        elif result.cut and not (told or self._quiet):
            tell("warning", text.cut(result).removesuffix("."))

    def _rendered(self, result: Result, *, colour: bool) -> str:
        from gradcheck_lint.report import renderer

        name = self._settings.output_format
        if self._options["statistics"]:
            from gradcheck_lint.report import statistics

            return statistics.render_json(result) if name == "json" else statistics.render(result, colour=colour)
        if name == "sarif":
            from gradcheck_lint.report import sarif

            return sarif.render(result, colour=colour, sources=result.sources, pages=self._pages(result))
        text = renderer(name)(result, colour=colour, sources=result.sources)
        if name == "text" and self._quiet:
            from gradcheck_lint.report.text import summary

            return text.removesuffix(summary(result, colour=colour))
        return text

    def _pages(self, result: Result) -> dict[str, Page]:
        codes = {finding.code for finding in result.findings}
        return {rule.code: page for rule in self._known if rule.code in codes and (page := _page(rule)) is not None}

    def _tell_problems(self, result: Result, *, told: bool) -> None:
        """What broke inside gradlint, if it has not been `told` with the findings, and with -v how."""
        for problem in result.problems:
            if not told:
                where = f"{problem.path}: " if problem.path else ""
                plea = " (a mistake in gradlint; please report it; -v shows where)" if problem.detail else ""
                tell("problem", f"{where}{problem.message}{plea}")
            if problem.detail and self._options["verbose"]:
                click.echo("\n".join(map(clean, problem.detail.split("\n"))), err=True)

    def _tell_diff(self, mended: Mended) -> int:
        from gradcheck_lint.source import edit

        plan, result = mended.plan, mended.result
        self._tell_problems(result, told=False)
        self._tell_cut(result, told=False)
        colour = colourful(sys.stdout)
        target = self._options["output_file"]
        if target not in (None, "-"):
            self._write(target, edit.patch(plan))
        elif colour or is_terminal(sys.stdout):
            click.echo(edit.diff(plan, colour=colour), nl=False, color=colour)
        else:  # a file or a program, which is to get a patch that can be applied
            sys.stdout.flush()
            sys.stdout.buffer.write(edit.patch(plan))
            sys.stdout.buffer.flush()
        changed = sum(change.data != change.file.data for change in plan.changes.values())
        if not self._quiet:
            would = f"{counted(result.fixed, 'finding')} would be fixed in {counted(changed, 'file')}"
            unread = f"; {counted(result.errors, 'file')} could not be checked" if result.errors else ""
            tell("note", (would if changed else "nothing would be fixed") + unread)
        if result.problems:
            return 2
        return int(changed > 0 and not self._options["exit_zero"])

    def _tell_text(self, files: Sequence[SourceFile], plan: Plan) -> None:
        """What the text from stdin has become, byte for byte."""
        stdout = sys.stdout.buffer
        for file in files:
            change = plan.changes.get(file.path)
            stdout.write(change.data if change else file.data)
        stdout.flush()


def _collect_seldom() -> None:
    """Let Python look for garbage only where there may be much: what is read lives nearly to the end anyway."""
    import gc

    gc.set_threshold(2_000_000)


def _page(rule: Rule) -> Page | None:
    """The page of a rule; one that cannot be read is told and left out."""
    from gradcheck_lint import registry
    from gradcheck_lint.page import Page, PageError

    path = registry.page_path(rule)
    if path is None:
        return None
    try:
        return Page.read(path)
    except (OSError, PageError) as error:
        tell("warning", f"the page of {rule.code} cannot be read: {error}")
        return None


def _told(settings: Settings) -> Settings:
    """`settings`, when it has been told which rule folders they leave out."""
    if settings.left_out:
        from gradcheck_lint import trust

        for folder in settings.left_out:
            tell("warning", trust.told(folder))
    return settings


def _columns() -> int:
    import shutil

    return max(40, shutil.get_terminal_size((_WIDEST, 24)).columns)


def _lines() -> int:
    import shutil

    return shutil.get_terminal_size((_WIDEST, 24)).lines


def _sentence(error: click.ClickException) -> str:
    """A message of click in our words: no capital, no full stop, one line."""
    message = error.format_message().strip().rstrip(".")
    advice = "" if message.endswith("?") else "; see `gradlint --help`"
    return f"{message[:1].lower()}{message[1:]}{advice}"


def _fail(message: str) -> NoReturn:
    tell("error", message)
    sys.exit(2)
