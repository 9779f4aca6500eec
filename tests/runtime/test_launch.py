"""`gradlint run`: the program is run as Python runs it, and what it does is watched.

What has nothing to do with torch is shown by programs that do not import it, for that costs seconds.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from importlib import util
from pathlib import Path

import pytest
from click.testing import CliRunner

from gradcheck_lint.cli import main
from gradcheck_lint.report import run_formats
from gradcheck_lint.runtime.launch import Launch

ROOT = Path(__file__).resolve().parents[2]
US = [sys.executable, "-m", "gradcheck_lint", "run"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def call(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, encoding="utf-8", check=False
    )


def both(folder: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """The program run by Python, and by us without the summary."""
    return call(folder, sys.executable, *words), call(folder, *US, "-q", *words)


# As Python would

ABOUT = """\
    import sys, os, pickle
    class Thing: pass
    def told():
        print(__name__, __file__, __spec__ and __spec__.name, __package__, type(__loader__).__name__)
        print(sys.argv, sys.path[0], sys.stdout.errors)
        print(pickle.dumps(Thing)[:40], sys.modules["__main__"].told is told)
        print(__builtins__.__name__, __doc__, __cached__ is None)
    told()
    print(beside.__name__ if "beside" in globals() else "")
    """


def test_a_file_is_run_as_python_runs_it(tmp_path: Path) -> None:
    write(tmp_path, "sub/beside.py", "")
    write(tmp_path, "sub/train.py", "import beside\n" + textwrap.dedent(ABOUT))
    theirs, ours = both(tmp_path, "sub/train.py", "--lr", "3", "-q", "--", "-m", "--help")
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    assert ours.stdout == theirs.stdout
    assert "beside" in ours.stdout


@pytest.mark.parametrize("name", ["pack.train", "pack", "single"])
def test_a_module_is_run_as_python_runs_it(name: str, tmp_path: Path) -> None:
    write(tmp_path, "pack/__init__.py", "print('the package')\n")
    for file in ("pack/train.py", "pack/__main__.py", "single.py"):
        write(tmp_path, file, ABOUT)
    theirs, ours = both(tmp_path, "-m", name, "--lr", "3", "-q")
    assert ours.returncode == theirs.returncode == 0, ours.stderr
    assert ours.stdout == theirs.stdout


ENDINGS = {
    "well": "",
    "exit": "import sys; sys.exit()",
    "code": "raise SystemExit(7)",
    "words": "raise SystemExit('that went wrong')",
    "error": "def deep():\n    {}['key']\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    deep()",
    "syntax": "def broken(:\n    pass",
    "hook": "import sys\nsys.excepthook = lambda kind, value, trace: print('hook', kind, trace.tb_lineno)\nx",
    "atexit": "import atexit; atexit.register(print, 'goodbye'); raise ValueError('x')",
}


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_a_program_ends_as_it_would_without_us(ending: str, tmp_path: Path) -> None:
    write(tmp_path, "train.py", ENDINGS[ending])
    theirs, ours = both(tmp_path, "train.py")
    assert ours.returncode == theirs.returncode
    assert (ours.stdout, ours.stderr) == (theirs.stdout, theirs.stderr)


def test_processes_that_are_spawned_find_the_program(tmp_path: Path) -> None:
    program = """\
        import multiprocessing, sys
        def double(number): return 2 * number, sys.argv
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(double, [21]))
        """
    write(tmp_path, "train.py", program)
    theirs, ours = both(tmp_path, "train.py", "x")
    assert ours.stdout == theirs.stdout
    assert "42" in ours.stdout, ours.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_writes_no_report(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "import os, sys\nif os.fork():\n    os.wait()\nelse:\n    sys.exit(0)\n")
    done = call(tmp_path, *US, "train.py")
    assert done.stderr.count("Nothing to watch") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_control_c_ends_the_program_as_it_would_and_the_report_is_written(tmp_path: Path) -> None:
    program = "import time\nprint('ready', flush=True)\nwhile True:\n    time.sleep(0.01)\n"
    write(tmp_path, "train.py", program)
    ends = []
    for command in ([sys.executable], [*US, "-o", "run.json"]):
        process = subprocess.Popen(
            [*command, "train.py"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # of a job in the background it would inherit to be deaf to SIGINT
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        ends.append((process.returncode, stderr))
    theirs, ours = ends
    assert ours[0] == theirs[0] == -signal.SIGINT
    assert ours[1].endswith("KeyboardInterrupt\n")
    assert "launch.py" not in ours[1]
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["ended"] == "interrupted"


# What cannot be


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nowhere.py",), "nowhere.py does not exist"),
        (("folder",), "folder is a folder; name the file to run in it, or a module by -m"),
        (("-o", "nowhere/run.json", "train.py"), "nowhere/run.json cannot be written: there is no folder nowhere"),
        (("--output-format", "html", "train.py"), "say where to put the html: --output-file run.html"),
        (("--every", "0", "train.py"), "invalid value for '--every'"),
        (("--select", "GL9999", "train.py"), "GL9999"),
        ((), "missing argument 'PROGRAM'"),
    ],
)
def test_what_cannot_be_run_is_told_in_a_line(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "train.py").write_bytes(b"raise AssertionError('was run')")
    done = CliRunner().invoke(main, ["run", *words])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_torch_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name, package=None: None)
    done = CliRunner().invoke(main, ["run", str(write(tmp_path, "train.py", ""))])
    assert done.exit_code == 2
    assert done.stderr == "error: there is no torch to watch in this Python; `pip install torch`\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "there is no module nowhere"),
        ("pack.nowhere", "there is no module pack.nowhere"),
        ("pack", "pack is a package without a module __main__, so it cannot be run"),
    ],
)
def test_a_module_that_is_not_there_is_told_in_a_line(name: str, said: str, tmp_path: Path) -> None:
    write(tmp_path, "pack/__init__.py", "")
    done = call(tmp_path, *US, "-m", name)
    assert (done.returncode, done.stderr) == (2, f"error: {said}\n")


def test_a_program_without_torch_has_nothing_to_watch(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "import sys\nprint('torch' in sys.modules)\n")
    done = call(tmp_path, *US, "--fail-on-findings", "train.py")
    assert done.stdout == "False\n"
    assert done.returncode == 0
    assert done.stderr == "Nothing to watch: no optimizer was built in the run of train.py.\n"


@pytest.mark.parametrize("left", ["sys.stderr.close()", "sys.stderr = None", "sys.stderr = object()"])
def test_a_program_that_leaves_no_stderr_behind_ends_as_ever_and_is_reported(tmp_path: Path, left: str) -> None:
    write(tmp_path, "train.py", f"import sys\n{left}\n")
    theirs, ours = call(tmp_path, sys.executable, "train.py"), call(tmp_path, *US, "-o", "run.json", "train.py")
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr)
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["kind"] == "gradlint run"


# Watching

TRAINING = """\
    import os, sys
    os.environ["OMP_NUM_THREADS"] = "2"  # counts only if torch is not there yet
    import importlib.util
    print(importlib.util.find_spec("torch") is not None, "torch" in sys.modules)  # as many a library asks
    import torch
    print(torch.get_num_threads())
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(5):
        loss = net(torch.ones(4, 3)).pow(2).mean()
        loss.backward()
        optimizer.step()
    print(torch.rand(1).item(), net.weight.sum().item())
    sys.exit(int(sys.argv[1]))
    """


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run with a mistake in it, saved."""
    folder = tmp_path_factory.mktemp("trained")
    write(folder, "train.py", TRAINING)
    return folder, call(folder, *US, "--fail-on-findings", "-o", "run.json", "train.py", "0")


Trained = tuple[Path, "subprocess.CompletedProcess[str]"]


def test_what_is_found_is_told_with_the_line(trained: Trained) -> None:
    _, done = trained
    assert done.returncode == 1
    assert re.search(r"^train\.py:12: GradlintWarning: GL101 ", done.stderr, re.MULTILINE)
    assert "error[missing-zero-grad] GL101" in done.stderr
    assert "12 |     loss.backward()" in done.stderr
    assert "Found 1 mistake in the run of train.py (5 steps of optimizer" in done.stderr


def test_torch_is_imported_when_the_program_does_and_the_numbers_are_its_own(trained: Trained) -> None:
    folder, done = trained
    alone = call(folder, sys.executable, "train.py", "0")
    assert done.stdout == alone.stdout
    assert done.stdout.startswith("True False\n")


def test_a_saved_run_is_shown_again(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = trained
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NO_COLOR", "1")
    document = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert document["program"] == "train.py 0"
    assert [finding["code"] for finding in document["findings"]] == ["GL101"]
    assert document["problems"] == []
    text = CliRunner().invoke(main, ["report", "run.json"])
    assert text.exit_code == 0
    assert "12 |     loss.backward()" in text.stdout
    page = CliRunner().invoke(main, ["report", "run.json", "--output-format", "html", "-o", "run.html"])
    assert (page.exit_code, page.stdout) == (0, "")
    assert (folder / "run.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    again = CliRunner().invoke(main, ["report", "run.json", "--output-format", "json"])
    assert json.loads(again.stdout) == document


def test_a_comment_or_the_settings_silence_a_finding(trained: Trained) -> None:
    folder, _ = trained
    line = "loss.backward()"
    commented = textwrap.dedent(TRAINING).replace(line, f"{line}  # gradlint: ignore[GL101]")
    (folder / "commented.py").write_text(commented, encoding="utf-8")
    done = call(folder, *US, "--fail-on-findings", "commented.py", "0")
    assert done.returncode == 0
    assert "All clear in the run of commented.py" in done.stderr
    write(folder, "project/pyproject.toml", '[tool.gradlint]\nignore = ["missing-zero-grad"]\n')
    write(folder, "project/train.py", TRAINING)
    done = call(folder, *US, "--fail-on-findings", "project/train.py", "0")
    assert done.returncode == 0, done.stderr
    assert "All clear" in done.stderr


def test_rules_are_off_in_some_files(tmp_path: Path) -> None:
    write(tmp_path, "project/gradlint.toml", "per-file-ignores = {'old/**' = ['GL101']}\n")
    write(tmp_path, "project/old/train.py", TRAINING)
    write(tmp_path, "project/new.py", "import os\nos.chdir('/')\nimport old.train\n")
    done = call(tmp_path, *US, "--fail-on-findings", "project/new.py", "0")
    assert done.returncode == 0, done.stderr
    assert "All clear" in done.stderr
    write(tmp_path, "project/gradlint.toml", "per-file-ignores = {'old/**' = ['GL102'], 'new.py' = ['GL101']}\n")
    done = call(tmp_path, *US, "--fail-on-findings", "project/new.py", "0")
    assert done.returncode == 1
    assert "12 |     loss.backward()" in done.stderr
    write(tmp_path, "project/gradlint.toml", "per-file-ignores = {'old/**' = ['GL999']}\n")
    done = call(tmp_path, *US, "project/new.py", "0")
    assert done.returncode == 2
    assert 'unknown rule "GL999" in per-file-ignores' in done.stderr


def test_a_program_that_failed_keeps_its_code(trained: Trained) -> None:
    folder, _ = trained
    done = call(folder, *US, "--fail-on-findings", "--on-finding", "ignore", "train.py", "5")
    assert done.returncode == 5
    assert "GradlintWarning" not in done.stderr
    assert "it was ended by exit(5)" in done.stderr


def test_a_report_of_something_else(tmp_path: Path) -> None:
    path = write(tmp_path, "run.json", "{}")
    done = CliRunner().invoke(main, ["report", str(path)])
    assert done.exit_code == 2
    assert "is not a saved run" in done.stderr
    gone = CliRunner().invoke(main, ["report", str(tmp_path / "gone.json")])
    assert gone.stderr == f"error: {tmp_path / 'gone.json'} cannot be read: No such file or directory\n"


def test_a_report_that_cannot_be_written_is_told_and_the_program_keeps_its_code(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path, "train.py", "import os, sys\nos.rmdir('out')\nos.chdir('..')\nsys.exit(4)\n")
    done = call(tmp_path, *US, "-o", "out/run.json", "train.py")
    assert done.returncode == 4
    path = tmp_path / "out" / "run.json"
    assert done.stderr.endswith(f"\nerror: {path} cannot be written: No such file or directory\n")
    assert "Nothing to watch" in done.stderr


def test_a_mistake_of_ours_does_not_reach_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> str:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(run_formats, "render", fail)
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    path = write(tmp_path, "train.py", "import sys\nsys.argv.append('was run')\n")
    code = Launch(str(path), on_finding="ignore")()
    assert code == 0
    assert sys.argv == [str(path), "was run"]
