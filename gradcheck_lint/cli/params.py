"""What the command line is made of: groups and options that show, complete and read themselves as ours do."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gradcheck_lint.console import forgiving, tell, unwritable
from gradcheck_lint.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # not generic in older versions of click

_F = TypeVar("_F", bound="Callable[..., Any]")


_SAME = {"check": "lint"}  # what users of other linters say


class Words(click.Group):
    """A group whose first word may be left out: `gradlint src` is `gradlint lint src`, as is `gradlint check src`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] in _SAME:
            args = [_SAME[args[0]], *args[1:]]
        elif not (args and args[0] in self.commands) and not (ctx.resilient_parsing and not args):
            args = ["lint", *args]
        return super().parse_args(ctx, args)

    def words(self) -> list[str]:
        """The words that stand for a command."""
        return [*self.commands, *_SAME]

    def named(self, word: str) -> click.Command | None:
        """The command that a first word stands for."""
        return self.commands.get(_SAME.get(word, word))

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
            _fail(f"internal error: {type(error).__name__}: {error} (please report it; -v shows the traceback)")
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
            with formatter.section("Commands"):
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
    envvar_list_splitter = ","

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


def joined(ctx: click.Context, param: click.Parameter, value: Any) -> tuple[str, ...] | None:
    """The words of all repetitions of an option, or None if it was not given."""
    return tuple(word for words in value for word in words) if value else None


def completion(ctx: click.Context, param: click.Parameter, shell: str | None) -> None:
    if not shell or ctx.resilient_parsing:
        return
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    click.echo(kind(root.command, {}, "gradlint", "_GRADLINT_COMPLETE").source())
    ctx.exit(0)


def option(section: str, *names: str, env: bool = True, **extra: Any) -> Callable[[_F], _F]:
    """An option in a section of the help; with `env`, `GRADLINT_` and its name gives it too."""
    variable = f"GRADLINT_{names[-1].lstrip('-').replace('-', '_').upper()}" if env else None
    return click.option(*names, cls=Option, section=section, envvar=variable, **extra)


def together(*decorators: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Options that several commands take, in the order of the help."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def words(section: str, name: str, metavar: str, help: str) -> Callable[[_F], _F]:
    """An option that takes words and may be repeated."""
    kind = WordList(rules=metavar == "RULES")
    return option(section, name, type=kind, multiple=True, callback=joined, metavar=metavar, help=help)


def flag(section: str, *names: str, help: str, env: bool = True) -> Callable[[_F], _F]:
    return option(section, *names, env=env, is_flag=True, help=help)


def _sentence(error: click.ClickException) -> str:
    """A message of click in our words: no capital, no full stop, one line."""
    message = error.format_message().strip().rstrip(".")
    advice = "" if message.endswith("?") else "; see `gradlint --help`"
    return f"{message[:1].lower()}{message[1:]}{_from_variable(error)}{advice}"


def _from_variable(error: click.ClickException) -> str:
    """Which variable of the environment gave a wrong value, if one did."""
    param = getattr(error, "param", None)
    ctx = getattr(error, "ctx", None)
    if param is None or ctx is None or not isinstance(param.envvar, str) or not os.environ.get(param.envvar):
        return ""
    given = {word.partition("=")[0] for word in sys.argv[1:]}
    return "" if given & set(param.opts) else f" (from {param.envvar})"


def _fail(message: str) -> NoReturn:
    tell("error", message)
    sys.exit(2)
