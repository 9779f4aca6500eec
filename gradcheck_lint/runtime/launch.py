"""`gradlint run`: runs a program as Python would, watches every optimizer that it builds, and tells at the end.

The program is `__main__`, with its own `sys.argv` and `sys.path`; its exit code, its errors and Ctrl-C are what they
would be without us. torch is imported when the program imports it, for what a program sets before that has to count.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from gradcheck_lint import start, trust
from gradcheck_lint.config import read
from gradcheck_lint.console import colourful, say, tell
from gradcheck_lint.errors import ConfigError
from gradcheck_lint.report import run_formats
from gradcheck_lint.runtime import termination
from gradcheck_lint.runtime.record import RunRecord, Terminated, ending
from gradcheck_lint.runtime.sites import claim, ours

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from types import CodeType, TracebackType

    from gradcheck_lint.runtime.watch import watch


class LaunchError(ConfigError):
    """The program cannot be run; the message is one line that says why."""


class Launch:
    """A program that is to be run under watch; raises ConfigError for what can be known to fail before it is run.

    A call runs it. That returns the exit code where the program went well, and raises what the program raised where
    it did not.
    """

    def __init__(
        self,
        target: str,  # a file, or the name of a module
        args: Sequence[str] = (),
        *,
        module: bool = False,
        output_format: str | None = None,
        output_file: str | None = None,
        fail_on_findings: bool = False,
        quiet: bool = False,
        config: Path | None = None,
        isolated: bool = False,
        allow_rule_folders: bool = False,
        min_confidence: str | None = None,  # what the settings say
        **options: Any,  # of `watch`
    ) -> None:
        self._target = target
        self._args = args
        self._module = module
        self._format = run_formats.choose(output_format, output_file, stdout=False)
        self._file = output_file if output_file in (None, "-") else os.path.abspath(output_file)
        self._fail_on_findings = fail_on_findings
        self._quiet = quiet
        if not module:
            _refuse(Path(target))
        if importlib.util.find_spec("torch") is None:
            raise LaunchError("there is no torch to watch in this Python; `pip install torch`")
        from gradcheck_lint.runtime.watch import watch

        settings = read(
            [] if module else [target], config=config, isolated=isolated, allow_rule_folders=allow_rule_folders
        )
        for folder in settings.left_out:
            tell("warning", trust.told(folder))
        least = min_confidence or str(settings.min_confidence)
        self._run = watch(quiet=True, min_confidence=least, **options).ready(settings)

    def __call__(self) -> int:
        process = os.getpid()
        start = _Start(self._run)
        error: BaseException | None = None

        def terminated() -> None:
            record = start.stop(Terminated())
            if record.rank == 0:
                self._tell(record)

        termination.expect(terminated)
        try:
            with start:
                self._execute()
        except LaunchError as refused:
            tell("error", str(refused))
            return 2
        except BaseException as raised:
            error = raised
        finally:
            termination.expect_no_more(terminated)
        well = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        found = 0
        if os.getpid() == process:  # not in a child that the program forked
            found = self._end(start, error)
        fail = well and found > 0 and self._fail_on_findings
        if error is not None and not fail:
            _pass_on(error)
        return int(fail)

    # Running

    def _execute(self) -> None:
        if self._module:
            sys.argv = ["-m", *self._args]
            _begin_path_with(os.getcwd())
            spec, code = _found(self._target)
            sys.argv[0] = spec.origin or self._target
            claim(_package(spec.origin or "", self._target))
            main = _main(spec.origin or self._target, spec, spec.loader)
        else:
            path = os.path.abspath(self._target)
            sys.argv = [self._target, *self._args]
            _begin_path_with(os.path.dirname(os.path.realpath(path)))
            main = _main(path, None, importlib.machinery.SourceFileLoader("__main__", path))
            code = compile(Path(path).read_bytes(), path, "exec", dont_inherit=True)
        sys.modules["__main__"] = main
        exec(code, main.__dict__)

    # Telling

    def _end(self, start: _Start, error: BaseException | None) -> int:
        """Stop watching and write the report; the number of findings. Nothing that goes wrong here is the program's."""
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except (OSError, ValueError):  # closed, or a pipe that nobody reads any more
            pass
        found = 0
        try:
            record = start.stop(error)
            found = len(record.findings)
            if record.rank == 0:  # the others have handed over what they found
                self._tell(record)
        except ConfigError as failure:
            tell("error", str(failure))
        except Exception as failure:
            tell("error", f"the report could not be written: {type(failure).__name__}: {failure}")
        return found

    def _tell(self, record: RunRecord) -> None:
        if not self._quiet and (self._file is None or self._format != "text"):
            text = run_formats.render(record, "text", colour=colourful(sys.stderr), brief=True)
            say(f"\n{text}" if text.count("\n") > 2 else text)
        if self._file is not None:
            run_formats.write(record, self._format, self._file)


def _refuse(path: Path) -> None:
    if path.is_dir():
        raise LaunchError(f"{path} is a folder; name the file to run in it, or a module by -m")
    if not path.is_file():
        raise LaunchError(f"{path} {'is not a regular file' if path.exists() else 'does not exist'}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}") from None


def _begin_path_with(folder: str) -> None:
    """Make `folder` the first place for imports, as Python does when it starts a program."""
    if getattr(sys.flags, "safe_path", False) or sys.flags.isolated:
        return
    first = sys.path[0] if sys.path else None
    started_from = {"", os.getcwd(), *(os.path.dirname(os.path.realpath(word)) for word in sys.orig_argv[:2])}
    if first in started_from and not start.cleared:
        sys.path[0] = folder
    else:
        sys.path.insert(0, folder)


def _main(path: str, spec: importlib.machinery.ModuleSpec | None, loader: Loader | None) -> ModuleType:
    """A module `__main__`, as Python makes it."""
    main = ModuleType("__main__")
    main.__file__ = path
    main.__loader__ = loader
    main.__spec__ = spec
    main.__package__ = spec.parent if spec is not None else None
    main.__dict__["__cached__"] = spec.cached if spec is not None else None
    main.__dict__["__builtins__"] = sys.modules["builtins"]
    return main


def _found(name: str) -> tuple[importlib.machinery.ModuleSpec, CodeType]:
    """The module to run for `-m name`, and its code. Importing the packages around it is a part of the program."""
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _spec(f"{name}.__main__")
        if spec is None:
            raise LaunchError(f"{name} is a package without a module __main__, so it cannot be run")
    if spec is None:
        raise LaunchError(f"there is no module {name}")
    code = getattr(spec.loader, "get_code", lambda name: None)(spec.name)
    if code is None:
        raise LaunchError(f"the module {name} is not written in Python, so it cannot be run")
    return spec, code


def _package(file: str, name: str) -> str:
    """The folder of the outermost package of the module that is run, or its file if it is in none."""
    top = sys.modules.get(name.partition(".")[0])
    folders = list(getattr(top, "__path__", ()))
    return os.path.join(folders[0], "") if folders else file


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise
    except ValueError:  # a name like ".x", or one of a module without a spec
        return None


# Passing on what the program raised


def _pass_on(error: BaseException) -> NoReturn:
    """Raise it again, such that a traceback of it shows no frame of ours."""
    told = sys.excepthook
    trace = _own(error.__traceback__)

    def without_us(kind: type[BaseException], value: BaseException, whole: TracebackType | None) -> None:
        told(kind, value.with_traceback(trace) if value is error else value, trace if value is error else whole)

    sys.excepthook = without_us
    raise error


def _own(trace: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that begins with the program."""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not ours(file) and not file.startswith("<frozen "):
            break
        trace = trace.tb_next
    return trace


# Starting to watch when torch has been imported


class _Start:
    """Starts the watching when torch is imported; a context that looks out for that."""

    def __init__(self, run: watch) -> None:
        self._run = run
        self._failed = ""
        self._begun = False
        self._asking = False

    def __enter__(self) -> None:
        if "torch" in sys.modules:
            self._begin()
        else:
            sys.meta_path.insert(0, self)

    def __exit__(self, *details: object) -> None:
        self._leave()

    def _leave(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Called by the import system, or by a program that only asks whether there is a torch.

        Where torch is found, its loader begins the watching when it is done.
        """
        if name != "torch" or self._asking:
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._listen_to(spec.loader)
        return spec

    def _listen_to(self, loader: Any) -> None:
        load: Callable[[ModuleType], None] = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            vars(loader).pop("exec_module", None)
            load(module)
            self._leave()
            self._begin()

        loader.exec_module = exec_module

    def _begin(self) -> None:
        if self._begun or self._failed:
            return
        try:
            self._run.__enter__()
            self._begun = True
        except Exception as error:  # a mistake of ours must not reach the program
            self._failed = f"the watching could not begin: {type(error).__name__}: {error}"

    def stop(self, error: BaseException | None) -> RunRecord:
        """End the watching; what is known of the run."""
        if self._begun:
            self._run.__exit__(type(error) if error is not None else None, error, None)
            return self._run.record
        record = RunRecord(program=" ".join(sys.argv), python=sys.version.split()[0], ended=ending(error))
        record.problems = [self._failed] if self._failed else []
        return record
