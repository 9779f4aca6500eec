"""A watched run is, bit for bit, the run that it would have been; and nothing is left behind when it is over."""

from __future__ import annotations

import random
import signal
import warnings
from collections.abc import Callable
from typing import Any

import programs
import pytest
import torch
from torch import nn

from gradcheck_lint import FindingError, GradlintWarning, registry, watch
from gradcheck_lint.finding import Confidence
from gradcheck_lint.runtime import patches, sampling
from gradcheck_lint.runtime.call import Call
from gradcheck_lint.runtime.check import Check
from gradcheck_lint.runtime.checks.listed import CHECKS
from gradcheck_lint.runtime.session import Options, Session

RULES = registry.load(packs=False)


def run(program: Callable[[], list[Any]]) -> list[Any]:
    """What a program makes from a known start, and the state of the random numbers after it."""
    torch.manual_seed(0)
    random.seed(0)
    torch._dynamo.reset()
    made = programs.tensors(program())
    return [*made, torch.get_rng_state(), random.getstate()]


def same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(first, second, strict=True)
    )


def watched(program: Callable[[], list[Any]], **options: Any) -> tuple[list[Any], Session]:
    session = Session(RULES, Options(everything=True, least=Confidence.LOW, **options), lambda finding: None)
    session.start()
    try:
        return run(program), session
    finally:
        session.stop()


@pytest.mark.parametrize("program", programs.PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("level", ["default", "deep"])
def test_bit_for_bit(program: Callable[[], list[Any]], level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps after the first are asleep, checked, and a sample; see `sampling`."""
    monkeypatch.setattr(sampling, "APART", 4)
    plain = run(program)
    made, session = watched(program, level=level, every=2)
    assert session.record.problems == []
    assert sum(optimizer.steps for optimizer in session.record.optimizers) > 0
    assert [finding for finding in session.record.findings if finding.confidence is Confidence.HIGH] == []
    assert same(plain, made)


def test_comparison_can_fail() -> None:
    assert not same(run(programs.momentum), run(programs.accumulation))
    first = run(programs.momentum)
    assert same(first, run(programs.momentum))
    first[1] = first[1] + 1e-7
    assert not same(first, run(programs.momentum))


# Nothing left behind


def surface() -> dict[str, Any]:
    """Everything of torch that the watcher may lay a hand on."""
    import torch.nn.modules.module as modules
    from torch.optim import lr_scheduler
    from torch.optim import optimizer as optimizers

    owners = [
        torch.autograd,
        torch.autograd.Function,
        torch.nn.utils,
        torch.nn.utils.clip_grad,
        torch.Tensor,
        torch.optim.Optimizer,
        nn.Module,
        lr_scheduler.LRScheduler,
        lr_scheduler.ReduceLROnPlateau,
        torch.amp.grad_scaler.GradScaler,
    ]
    names = {f"{owner.__name__}.{name}": value for owner in owners for name, value in vars(owner).items()}
    hooks = {
        name: dict(value)
        for name, value in vars(modules).items()
        if name.startswith("_global") and isinstance(value, dict)
    }
    hooks |= {name: dict(value) for name, value in vars(optimizers).items() if name.startswith("_global")}
    return {**names, **hooks, "filters": list(warnings.filters)}


def attributes(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Any]:
    found: list[Any] = [sorted(vars(optimizer)), sorted(vars(model))]
    found += [dict(value) for name, value in vars(optimizer).items() if "hooks" in name]
    found += [
        (sorted(vars(p)), dict(p._post_accumulate_grad_hooks or {}), p._backward_hooks) for p in model.parameters()
    ]
    return found


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("level", ["light", "default", "deep"])
def test_nothing_is_left_behind(level: str) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    before, own = surface(), attributes(model, optimizer)
    with watch(optimizer, model=model, level=level, every=4, on_finding="ignore"):
        assert surface() != before
        train(model, optimizer, steps=30)
    assert surface() == before
    assert attributes(model, optimizer) == own
    assert not patches.ACTIVE
    assert not patches.LOUD
    assert not patches.GLANCING


def test_models_and_optimizers_are_not_kept_alive() -> None:
    import gc
    import weakref

    with watch(on_finding="ignore", quiet=True):
        model = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters())
        train(model, optimizer, steps=30)
        refs = [weakref.ref(model), weakref.ref(optimizer), weakref.ref(model.weight)]
        del model, optimizer
        gc.collect()
        assert [ref() for ref in refs] == [None, None, None]


# Errors


def failing(name: str) -> type[Check]:
    def fail(self: Check, *args: Any) -> None:
        raise RuntimeError(f"{name} is broken")

    return type("Broken", (Check,), {name: fail, "hears": frozenset({Call.ZERO_GRAD})})


@pytest.mark.parametrize("name", [name for name, hook in vars(Check).items() if callable(hook) and name[0] != "_"])
def test_a_check_that_fails_is_noted_and_goes_no_further(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(programs.adam_with_schedule_and_clipping)
    listed = [*CHECKS, failing(name)]
    monkeypatch.setattr("gradcheck_lint.runtime.session.CHECKS", listed)
    made, session = watched(programs.adam_with_schedule_and_clipping, every=2)
    assert same(plain, made)
    if name not in ("optimizer_refused", "backward_failed"):
        assert any(f"{name} is broken" in problem for problem in session.record.problems)


def test_what_a_handler_of_a_signal_raises_is_the_programs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit of time, say, which may be over while the watcher is at work."""
    came: list[int] = []

    def late(number: int, frame: object) -> None:
        came.append(number)
        raise TimeoutError

    class Alarm(Check):
        def before_update(self, observer: object, mark: object) -> None:
            if not came:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("gradcheck_lint.runtime.session.CHECKS", [Alarm, *CHECKS])
    before = signal.signal(signal.SIGTERM, late)
    try:
        model, optimizer = parts()
        with watch(optimizer, quiet=True) as run:
            with pytest.raises(TimeoutError):
                train(model, optimizer)
            train(model, optimizer, steps=30)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert run.record.problems == []
    assert run.findings == []
    assert run.record.optimizers[0].backwards == 20  # heard as before


def test_lazy_parameters_that_never_got_a_shape() -> None:
    optimizer = torch.optim.Adam(nn.LazyLinear(4).parameters())
    with watch(optimizer, quiet=True) as run:
        pass
    assert run.record.problems == []
    assert [parameter.shape for parameter in run.record.optimizers[0].parameters] == [(), ()]


def test_a_rule_that_fails_is_noted_and_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradcheck_lint.runtime import engine

    def broken(self: object, *args: object, **extra: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(engine._Report, "__call__", broken)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(optimizer, on_finding="raise", quiet=True) as run:
        for _ in range(3):
            model(torch.randn(4, 3)).square().mean().backward()
            optimizer.step()
    assert any("broken" in problem for problem in run.record.problems)


def test_a_summary_that_fails_goes_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **extra: object) -> str:
        raise RuntimeError("broken")

    monkeypatch.setattr("gradcheck_lint.report.run_text.render", broken)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(optimizer):
        train(model, optimizer)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_the_program_raises_passes_through(error: type[BaseException]) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before, raised = surface(), error("mine")

    def fails() -> None:
        train(model, optimizer)
        raise raised

    running = watch(optimizer, quiet=True)
    with pytest.raises(error) as caught:
        running(fails)()
    assert caught.value is raised
    assert surface() == before
    assert running.record.optimizers[0].steps == 5
    assert running.record.ended != "ended"


# Telling


def never_zeroed(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    for _ in range(4):
        model(torch.randn(4, 3)).square().mean().backward()
        optimizer.step()


def parts() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_warns_once_on_the_users_line() -> None:
    model, optimizer = parts()
    with pytest.warns(GradlintWarning) as told, watch(optimizer, quiet=True):
        never_zeroed(optimizer, model)
    assert [warning.filename.endswith("test_unchanged.py") for warning in told] == [True]
    assert "GL101" in str(told[0].message)


def test_raises_when_it_is_told_to() -> None:
    model, optimizer = parts()
    before = surface()
    with pytest.raises(FindingError, match="GL101") as caught, watch(optimizer, on_finding="raise", quiet=True):
        never_zeroed(optimizer, model)
    assert caught.value.finding.step == 2
    assert surface() == before


def test_hands_findings_to_a_callable() -> None:
    model, optimizer = parts()
    told: list[Any] = []
    with watch(optimizer, on_finding=told.append, quiet=True):
        never_zeroed(optimizer, model)
    assert [finding.code for finding in told] == ["GL101"]


def test_warnings_that_are_errors_do_not_end_the_program() -> None:
    model, optimizer = parts()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with watch(optimizer, quiet=True) as run:
            never_zeroed(optimizer, model)
    assert [finding.code for finding in run.findings] == ["GL101"]


def test_start_and_stop_and_decorator() -> None:
    model, optimizer = parts()
    running = watch.start(optimizer, on_finding="ignore")
    never_zeroed(optimizer, model)
    assert watch.stop() is running
    assert watch.stop() is None
    assert [finding.code for finding in running.findings] == ["GL101"]

    guard = watch(optimizer, on_finding="ignore", ignore=["GL101"])
    guard(never_zeroed)(optimizer, model)
    assert guard.findings == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"on_finding": "shout"}, "on_finding"),
        ({"level": "9"}, "level"),
        ({"every": 0}, "every"),
        ({"min_confidence": "some"}, "min_confidence"),
        ({"select": ["GL999"]}, "GL999"),
    ],
)
def test_nonsense_is_refused(options: dict[str, Any], words: str) -> None:
    _, optimizer = parts()
    before = surface()
    with pytest.raises(ValueError, match=words), watch(optimizer, **options):
        pass
    assert surface() == before


@pytest.mark.parametrize("installed", ["2.3.1+cu121", "1.13", "2.10.0a0+git1234567", "2.4.0", "unknown"])
def test_old_torch_is_refused(installed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", installed)
    _, optimizer = parts()
    if installed[:3] in ("2.3", "1.1"):
        with (
            pytest.raises(ValueError, match=f"needs torch 2.4 .*, and this is {installed[:3]}"),
            watch(optimizer),
        ):
            pass
    else:
        with watch(optimizer, quiet=True):
            pass
    assert not patches.ACTIVE


def test_a_model_is_no_optimizer() -> None:
    with pytest.raises(TypeError, match="model="):
        watch(nn.Linear(1, 1))  # type: ignore[arg-type]


def test_what_the_program_got_from_locals_stays_as_it_is() -> None:
    width = 3
    options = locals()
    model = nn.Linear(width, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(optimizer, quiet=True):
        train(model, optimizer)
    assert options == {"width": 3}
