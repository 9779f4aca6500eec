"""`gradlint PATHS`: read the settings, lint or mend, tell it."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradcheck_lint.cli import adopting
from gradcheck_lint.cli.common import page_of, warned
from gradcheck_lint.config import Selection, Settings, nearest, on_top, read
from gradcheck_lint.console import Progress, colourful, counted, is_terminal, tell
from gradcheck_lint.errors import ConfigError, shown
from gradcheck_lint.files import is_source, write_report
from gradcheck_lint.finding import Confidence, Severity
from gradcheck_lint.report import format_of
from gradcheck_lint.report.terminal import clean
from gradcheck_lint.result import Result

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gradcheck_lint.baseline import Baseline
    from gradcheck_lint.finding import Finding
    from gradcheck_lint.page import Page
    from gradcheck_lint.source.edit import Plan
    from gradcheck_lint.source.file import SourceFile
    from gradcheck_lint.source.lint import Batch, Rules
    from gradcheck_lint.source.mend import Mended

# the formats whose text tells of problems
_WITH_PROBLEMS = frozenset({"text", "concise", "grouped", "github", "azure", "junit"})
_WITH_CUTS = frozenset({"text", "github", "json", "sarif"})  # those that tell what was followed in part only


class Linting:
    """One call of `gradlint PATHS`."""

    def __init__(self, paths: tuple[str, ...], others: Iterable[str], **options: Any) -> None:
        self._options = options
        self._from_stdin = "-" in paths
        if self._from_stdin and len(paths) > 1:
            raise ConfigError("`-` cannot be combined with other paths")
        name = options["stdin_filename"]
        if name and not self._from_stdin:
            raise ConfigError("--stdin-filename needs `-` as the path")
        if options["add_noqa"] and (options["fix"] or options["unsafe_fixes"]):
            raise ConfigError("--add-noqa and --fix cannot be combined; fix first")
        if self._from_stdin and options["since"]:
            raise ConfigError("--since cannot be used with `-`")
        if options["output_file"] and is_source(options["output_file"]):
            name = options["output_file"]
            raise ConfigError(f"{name} looks like source code; choose another file for -o")
        self._paths = paths
        self._refuse_misspelt_words(others)
        self.settings = self._read_settings((name,) if name else paths)
        self._quiet: bool = options["quiet"]
        self._past: Baseline | None = None
        self._start = time.perf_counter()

    def exit_code(self) -> int:
        """Do it, tell it, and say how it went."""
        if self._options["show_files"]:
            return self._show_files()
        jobs = self._options["jobs"]
        batch, rules = self.prepared()
        self._past = adopting.known(self.settings, self._paths, rules, since=self._options["since"], jobs=jobs)
        fix, diff = self._options["fix"] or self._options["unsafe_fixes"], self._options["diff"]
        silence = self._options["add_noqa"]
        if not (fix or diff or silence):
            return self._tell(self.checked(batch, rules))
        from gradcheck_lint.source.mend import mend, write

        with Progress(on=not self._quiet) as progress:
            how: dict[str, Any] = {"unsafe": self.settings.unsafe_fixes, "jobs": jobs, "progress": progress}
            mended = mend(batch, rules, self.settings, fixes=self._silenced if silence else self._new, **how)
        if diff:
            return self._tell_diff(mended, "suppressed" if silence else "fixed")
        if self._from_stdin:
            self._tell_text(batch.files, mended.plan)
            result = mended.result
        else:
            result = write(mended, rules, self.settings, jobs=jobs)
        if silence:
            if not self._quiet:
                tell("note", f"{counted(result.fixed, 'finding')} suppressed")
            result = replace(result, fixed=0)
        return self._tell(result, to_stderr=self._from_stdin)

    def _new(self, findings: Sequence[Finding], files: Sequence[SourceFile]) -> Sequence[Finding]:
        """The findings that were not known before."""
        if self._past is None:
            return findings
        return self._past.unknown(Result(tuple(findings), 0, 0.0, read={file.path: file for file in files})).findings

    def _silenced(self, findings: Sequence[Finding], files: Sequence[SourceFile]) -> Sequence[Finding]:
        """The same, with comments in place of their fixes."""
        from gradcheck_lint.source.silence import silencing

        return silencing(self._new(findings, files), files)

    def prepared(self) -> tuple[Batch, Rules]:
        """The files that are to be checked, and the rules for them."""
        from gradcheck_lint import registry
        from gradcheck_lint.source.lint import collect, every_of, rules_of

        batch = collect(self._paths, self.settings, stdin=self._stdin() if self._from_stdin else None)
        self._refuse_to_replace(batch)
        rules = rules_of(self.settings, batch)
        every = every_of(self.settings, batch)
        for each in every:
            if each is not self.settings:
                warned(each)
            for word, origin in registry.passed_over(rules.of(each).known, each):
                what = f'"{word}" in {origin} is not a loaded rule'
                tell("warning", f"{what}; perhaps it is in a rule folder that was not loaded")
        if all(registry.nothing_to_find(rules.of(each).on, each) for each in every):
            raise ConfigError("no rule that reads code is enabled, so nothing would be checked; see `gradlint rules`")
        self._known = rules.known
        self._tell_start(every, len(rules.on), len(rules.known), len(batch))
        return batch, rules

    def checked(self, batch: Batch, rules: Rules) -> Result:
        """What is found, known or not."""
        from gradcheck_lint.source.lint import check

        with Progress(on=not self._quiet) as progress:
            return check(batch, rules, self.settings, jobs=self._options["jobs"], progress=progress)

    def _refuse_misspelt_words(self, others: Iterable[str]) -> None:
        """A first word that is no path may have been meant as `explain`, `rules` or another command."""
        first = self._paths[0] if self._paths else "."
        hint = "" if Path(first).exists() or first == "-" else nearest(first, others)
        if hint:
            raise ConfigError(f'"{first}" does not exist{hint}')

    def _refuse_to_replace(self, batch: Batch) -> None:
        """A report may not take the place of a file that is checked, whatever that is called."""
        target = self._options["output_file"]
        if target in (None, "-"):
            return
        real = os.path.realpath(target)
        if any(os.path.realpath(file.real) == real for file in batch.files):
            raise ConfigError(f"{target} is one of the linted files; choose another file for -o")

    def _read_settings(self, paths: Sequence[str]) -> Settings:
        options = self._options
        where = {name: options[name] for name in ("config", "isolated", "allow_rule_folders")}
        settings = warned(read(paths, **where))
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
            baseline=options["baseline"] and options["baseline"].absolute(),
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
            raise ConfigError("--show-files cannot be used with `-`")
        for found in discover(self._paths, self.settings):
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
            tell("note", f"{on} of {known} rules enabled, {counted(files, 'file')} to check")
        if not files and not self._quiet and not (self._from_stdin or self._in_words()):
            tell("warning", "no Python files found in " + ", ".join(self._paths or (".",)))

    def _in_words(self) -> bool:
        """Whether the result is told to a person who looks at it, with a line that sums up."""
        options = self._options
        return self.settings.output_format == "text" and not (options["statistics"] or options["output_file"])

    def _tell(self, result: Result, *, to_stderr: bool = False) -> int:
        """Tell what was found, and give back the exit code."""
        options = self._options
        if self._past is not None:
            result = self._past.unknown(result)
        told = self.settings.output_format in _WITH_CUTS and not (options["output_file"] or options["statistics"])
        self._tell_cut(result, told=told)
        result = replace(result, seconds=time.perf_counter() - self._start)
        target = self._options["output_file"]
        if target in (None, "-"):
            colour = colourful(sys.stderr if to_stderr else sys.stdout)
            click.echo(self._rendered(result, colour=colour), nl=False, err=to_stderr, color=colour)
        else:
            self._write(target, self._rendered(result, colour=False))
        unsaid = self._options["statistics"] or self._options["output_file"]
        self.tell_problems(result, told=not unsaid and self.settings.output_format in _WITH_PROBLEMS)
        if result.problems:
            return 2
        if options["exit_zero"]:
            return 0
        errors_only = options["fail_level"] == Severity.ERROR
        bad = any(finding.severity is Severity.ERROR or not errors_only for finding in result.findings)
        return int(bad or bool(result.fixed and options["exit_non_zero_on_fix"]))

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

        name = self.settings.output_format
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
        return {rule.code: page for rule in self._known if rule.code in codes and (page := page_of(rule)) is not None}

    def tell_problems(self, result: Result, *, told: bool = False) -> None:
        """What broke inside gradlint, if it has not been `told` with the findings, and with -v how."""
        for problem in result.problems:
            if not told:
                where = f"{problem.path}: " if problem.path else ""
                plea = " (a bug in gradlint; please report it; -v shows the traceback)" if problem.traceback else ""
                tell("problem", f"{where}{problem.message}{plea}")
            if problem.traceback and self._options["verbose"]:
                click.echo("\n".join(map(clean, problem.traceback.split("\n"))), err=True)

    def _tell_diff(self, mended: Mended, done: str) -> int:
        from gradcheck_lint.source import edit

        plan, result = mended.plan, mended.result
        self.tell_problems(result)
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
            would = f"{counted(result.fixed, 'finding')} would be {done} in {counted(changed, 'file')}"
            unread = f"; {counted(result.errors, 'file')} could not be checked" if result.errors else ""
            tell("note", (would if changed else f"nothing would be {done}") + unread)
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
