"""Linting a stranger's repository: nothing of it is run, nothing beside it is touched, nothing of it waits for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradcheck_lint import trust
from gradcheck_lint.cli import main

ROOT = Path(__file__).resolve().parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="links and pipes with names are a matter of POSIX")

MISTAKE = """import torch
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters())
for _ in range(3):
    model(torch.ones(1)).sum().backward()
    optimizer.step()
"""
RULE = "from gradcheck_lint.rule import Rule\nclass R(Rule):\n    code, slug = 'XR901', 'rule-of-a-stranger'\n"


def before_us(folder: Path) -> set[str]:
    """What `python -m` itself has imported when it comes to a module: what stands in its way there, we cannot help."""
    folder.mkdir()
    (folder / "probe.py").write_text("import sys\nprint(*{name.partition('.')[0] for name in sys.modules})\n")
    command = [sys.executable, "-m", "probe"]
    return set(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split())


class Hostile:
    """A repository in which everything that can be run leaves a trace when it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self.traces = folder / "traces"
        self.home = folder / "home"
        self.traces.mkdir()
        self.write("train.py", self.trap("train") + MISTAKE)
        self.write("pyproject.toml", "[tool.gradlint]\nrule-folders = ['checks']\nselect = ['XR901', 'GL1']\n")
        self.write("checks/stranger.py", self.trap("rule") + RULE)
        self.write("evil-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        self.write("evil-1.0.dist-info/entry_points.txt", "[gradcheck_lint.rules]\nevil = evilpack\n")
        self.write("old.egg-info/entry_points.txt", "[gradcheck_lint.rules]\nevil = evilpack\n")
        self.write("old.egg-info/PKG-INFO", "Metadata-Version: 2.1\nName: old\nVersion: 1.0\n")
        self.write("evilpack.py", self.trap("pack") + RULE)
        names = ["conftest", "sitecustomize", "usercustomize", "setup", "gradlint", "__main__", "__init__", "rules"]
        names += ["click", "torch", "libcst", "pathspec", "platformdirs", "numpy", "tomli", "lightning", "pytest"]
        for name in [*names, *sorted(sys.stdlib_module_names)]:
            self.write(f"{name}.py", self.trap(name))

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def trap(self, name: str) -> str:
        return f"open({str(self.traces / name)!r}, 'w').close()\n"

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        known = ("PATH", "SYSTEMROOT", "LANG", "TEMP", "TMP")
        environment = {name: os.environ[name] for name in known if name in os.environ}
        home = {"HOME": str(self.home), "USERPROFILE": str(self.home), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env={**environment, **home, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ran(self) -> list[str]:
        return sorted(path.name for path in self.traces.iterdir())


@pytest.fixture
def hostile(tmp_path: Path) -> Hostile:
    return Hostile(tmp_path)


COMMANDS = [
    ["--select", "GL1", "train.py"],
    ["--output-format", "sarif", "-v"],
    ["--fix", "--diff", "-q"],
    ["rules"],
    ["explain", "GL101"],
    ["cache", "clean"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_command_runs_nothing_of_a_hostile_repository(command: list[str], hostile: Hostile, tmp_path: Path) -> None:
    script = tmp_path / "gradlint"
    script.write_text("from gradcheck_lint.__main__ import run\nif __name__ == '__main__':\n    run()\n")
    done = hostile.run(str(script), *command)
    assert hostile.ran() == [], done.stderr
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    if command[0] != "cache":
        assert done.stderr.count("warning: the rules in checks were left out") == 1


@pytest.mark.parametrize("command", COMMANDS[:4], ids=" ".join)
def test_python_m_runs_nothing_of_a_hostile_repository(command: list[str], hostile: Hostile, tmp_path: Path) -> None:
    for name in before_us(tmp_path / "probe"):
        (hostile.folder / f"{name}.py").unlink(missing_ok=True)
    done = hostile.run("-m", "gradcheck_lint", *command)
    assert hostile.ran() == [], done.stderr
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is new in Python 3.11")
def test_python_with_a_safe_path_runs_nothing_at_all(hostile: Hostile) -> None:
    assert hostile.run("-P", "-m", "gradcheck_lint", "--select", "GL1", "train.py").returncode == 1
    assert hostile.ran() == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="before, no processes are started there")
def test_processes_that_are_not_forked_run_nothing_either(hostile: Hostile, tmp_path: Path) -> None:
    script = tmp_path / "gradlint"
    script.write_text(
        "if __name__ == '__main__':\n"
        "    import multiprocessing\n"
        "    multiprocessing.set_start_method('spawn')\n"
        "    from gradcheck_lint.cli import main\n"
        "    main(['--isolated', '--no-cache', '-j', '2', 'train.py', 'conftest.py', 'setup.py'])\n"
    )
    done = hostile.run(str(script))
    assert "GL101" in done.stdout
    assert hostile.ran() == [], done.stderr


@posix
def test_the_old_cache_of_a_repository_is_neither_read_nor_followed(hostile: Hostile, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for name in ("data.json", "x.tmp"):
        (victim / name).write_text("precious")
        os.utime(victim / name, (0, 0))
    (hostile.folder / ".gradlint_cache").symlink_to(victim)
    (hostile.folder / ".gitignore").symlink_to(tmp_path / "nowhere")
    script = tmp_path / "gradlint"
    script.write_text("from gradcheck_lint.__main__ import run\nrun()\n")
    assert hostile.run(str(script), "--isolated", "--no-respect-gitignore", "--select", "GL1", ".").returncode == 1
    assert sorted(path.name for path in victim.iterdir()) == ["data.json", "x.tmp"]
    assert not (tmp_path / "nowhere").exists()


# Rules that the settings name


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a rule of its own, and a user who has vouched for nothing."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(trust.VARIABLE, raising=False)
    project = tmp_path / "project"
    (project / "checks").mkdir(parents=True)
    (project / "checks" / "stranger.py").write_text(RULE)
    (project / "deep" / "er").mkdir(parents=True)
    (project / "deep" / "er" / "x.py").write_text("x = 1\n")
    (project / "gradlint.toml").write_text("rule-folders = ['checks']\nexclude = ['checks']\n")
    monkeypatch.chdir(project)
    return project


def run(*args: str) -> Result:
    return CliRunner().invoke(main, [*args], catch_exceptions=False)


def known(*args: str) -> bool:
    result = run("rules", *args)
    assert result.exit_code == 0
    assert ("XR901" in result.stdout) is ("left out" not in result.stderr)
    return "XR901" in run("rules", *args).stdout or "XR901" in result.stdout


WORDS = [["."], ["deep/er/x.py"], ["--config", "gradlint.toml", "deep"], ["--show-files"], ["rules"]]


@pytest.mark.parametrize("words", [*WORDS, ["explain", "GL101"], ["-", "--stdin-filename", "deep/x.py"]], ids=" ".join)
def test_rules_of_a_project_are_left_out_with_one_line(words: list[str], here: Path) -> None:
    (here / "checks" / "stranger.py").write_text("raise SystemExit('it was run')\n")
    result = run(*words)
    assert result.exit_code == 0
    (line,) = [line for line in result.stderr.splitlines() if "left out" in line]
    assert line == (
        "warning: the rules in checks were left out, because what a project names runs only if you allow it:"
        f" --allow-rule-folders, or GRADLINT_ALLOW_RULE_FOLDERS=1, or the line {here / 'checks'} in {trust.user_list()}"
    )


def test_a_watched_run_leaves_them_out_too(here: Path) -> None:
    (here / "train.py").write_text("print('it ran')\n")
    (here / "checks" / "stranger.py").write_text("raise SystemExit('the rule was run')\n")
    command = [sys.executable, "-m", "gradcheck_lint", "run", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def ended(*words: str) -> tuple[int, str, int]:
        done = subprocess.run(
            [*command, *words, "train.py"], env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr.count("the rules in checks were left out")

    assert ended() == (0, "it ran\n", 1)
    assert ended("--allow-rule-folders")[1:] == ("", 0)
    assert ended("--isolated") == (0, "it ran\n", 0)


def test_the_user_allows_it_by_an_option(here: Path) -> None:
    assert "left out" not in run("--select", "XR901", "--allow-rule-folders", ".").stderr
    assert run("explain", "XR901", "--allow-rule-folders").stderr == "error: XR901 (rule-of-a-stranger) has no page\n"
    assert run("explain", "XR901").exit_code == 2


def test_the_user_allows_it_by_a_variable(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for word, allowed in {"1": True, "true": True, "0": False, "": False}.items():
        monkeypatch.setenv(trust.VARIABLE, word)
        assert ("left out" in run(".").stderr) is not allowed
    monkeypatch.setenv(trust.VARIABLE, "perhaps")
    assert run(".").stderr == 'error: GRADLINT_ALLOW_RULE_FOLDERS is "perhaps"; it has to be 1 or 0\n'


@pytest.mark.parametrize(
    ("lines", "allowed"),
    [
        ("{project}/checks", True),
        ("# mine\n\n  {project}  ", True),
        ("{project}/check", False),
        ("{project}/checks/deeper", False),
        ("checks", False),
        (".", False),
        ("#{project}", False),
    ],
)
def test_the_user_allows_it_by_a_list(lines: str, allowed: bool, here: Path) -> None:
    trust.user_list().parent.mkdir(parents=True)
    trust.user_list().write_text(lines.format(project=here))
    assert ("left out" in run(".").stderr) is not allowed


@posix
def test_a_link_to_a_trusted_name_is_not_trusted(here: Path, tmp_path: Path) -> None:
    trust.user_list().parent.mkdir(parents=True)
    trust.user_list().write_text(str(here / "checks"))
    (here / "checks").rename(tmp_path / "elsewhere")
    (here / "checks").symlink_to(tmp_path / "elsewhere")
    assert "left out" not in run(".").stderr  # the user's word is about where it leads
    trust.user_list().write_text(str(here))
    assert "left out" in run(".").stderr


def test_a_project_whose_rules_are_left_out_is_linted_all_the_same(here: Path) -> None:
    """What it says about its own rules is passed over: codes in the settings, and in comments."""
    (here / "gradlint.toml").write_text(
        "rule-folders = ['checks']\nexclude = ['checks']\nextend-select = ['XR901']\nignore = ['rule-of-a-stranger']\n"
        "[per-file-ignores]\n'deep/**' = ['XR901']\n"
    )
    (here / "train.py").write_text(MISTAKE + "x = 1  # gradlint: ignore[XR901]\ny = 1  # gradlint: ignore\n")
    result = run("--output-format", "concise")
    assert [line.split(" ")[1] for line in result.stdout.splitlines()] == ["GL101"]
    assert (
        run("--select", "XR901").stderr.splitlines()[-1].startswith('error: unknown rule "XR901" in the command line')
    )
    result = run("--isolated", "--output-format", "concise", "train.py")
    assert [line.split(" ")[1] for line in result.stdout.splitlines()] == ["GL101", "GL002", "GL002"]


# Pipes, devices, links


@posix
def test_a_report_is_not_written_through_a_link(here: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    for target in ("precious", "nowhere"):
        (here / "out.json").unlink(missing_ok=True)
        (here / "out.json").symlink_to(tmp_path / target)
        result = run("--isolated", "--output-format", "json", "-o", "out.json", "deep")
        assert result.exit_code == 2
        assert result.stderr == (
            "error: out.json cannot be written: it is a symbolic link; name the file that it leads to, or delete it\n"
        )
    assert (tmp_path / "precious").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()
    assert run("--isolated", "-o", "/dev/null", "deep").exit_code == 0


@posix
def test_a_pipe_that_nobody_reads_or_writes_does_not_hang(here: Path) -> None:
    os.mkfifo(here / "pipe")
    result = run("--isolated", "-o", "pipe", "deep")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: pipe cannot be written: ")
    for name in ("pipe", "/dev/zero"):
        told = f"error: {name} cannot be read: {name} is no regular file; name the JSON file of a run\n"
        assert run("report", name).stderr == told
    result = run("--isolated", "--output-format", "concise", "pipe")
    assert result.stdout == "pipe:1:1: GL003 this file cannot be read: not a regular file\n"


@posix
def test_an_import_that_leads_to_a_device_is_not_followed(here: Path) -> None:
    (here / "train.py").write_text("import helpers\n" + MISTAKE)
    (here / "helpers.py").symlink_to("/dev/zero")
    result = run("--isolated", "--output-format", "json", "train.py")
    assert [finding["code"] for finding in json.loads(result.stdout)["findings"]] == ["GL101"]
