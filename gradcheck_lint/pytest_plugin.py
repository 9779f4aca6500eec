"""`pytest --gradlint`: watches the optimizers that tests build, and fails a test whose training is wrong.

pytest loads this module in every project of an environment that has gradlint, so it imports nothing before a test is to
be watched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from gradcheck_lint.runtime.watch import watch

_MARK = "gradlint"
_RUN = pytest.StashKey["watch"]()
_HELP = """\
gradlint(on=True, **options): watch the optimizers that this test builds, or with on=False do not; the options are \
select, ignore, min_confidence, level, every, expect_frozen and expect_trained, as of gradcheck_lint.watch."""
_OPTIONS = frozenset({"select", "ignore", "min_confidence", "level", "every", "expect_frozen", "expect_trained"})


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradlint")
    group.addoption(
        "--gradlint", action="store_true", help="Watch the optimizers that tests build; a finding fails the test."
    )
    parser.addini("gradlint", "As --gradlint: true or false.", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _HELP)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """What fixtures build is watched as well."""
    options = _options(item)
    if options is not None:
        item.stash[_RUN] = _started(item, options)
    yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    run = item.stash.get(_RUN, None)
    if run is None:
        return
    _stop(item)
    if outcome.excinfo is None and run.findings:
        outcome.force_exception(pytest.fail.Exception(run.summary(), pytrace=False))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    _stop(item)  # a test that was skipped, or whose fixtures failed, was not called
    yield


@pytest.fixture
def gradlint(request: pytest.FixtureRequest) -> Iterator[watch]:
    """A running `watch()`, for a test that looks at `gradlint.findings` itself: a finding does not fail it."""
    from gradcheck_lint import watch

    _stop(request.node)
    with watch(on_finding="ignore", quiet=True, **(_options(request.node) or {})) as run:
        yield run


def _stop(item: pytest.Item) -> None:
    run = item.stash.get(_RUN, None)
    if run is not None:
        del item.stash[_RUN]
        run.__exit__(None, None, None)


def _started(item: pytest.Item, options: dict[str, Any]) -> watch:
    from gradcheck_lint import watch
    from gradcheck_lint.errors import ConfigError

    try:
        return watch(on_finding="ignore", quiet=True, **options).__enter__()
    except (ConfigError, TypeError) as error:
        raise pytest.UsageError(f"gradlint: {error}") from None


def _options(item: pytest.Item) -> dict[str, Any] | None:
    """How a test is to be watched: the nearest mark tells more than those around it. None: it is not."""
    on = bool(item.config.getoption("--gradlint") or item.config.getini("gradlint"))
    options: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(_MARK))):
        unknown = set(mark.kwargs) - _OPTIONS - {"on"}
        if unknown or len(mark.args) > 1:
            what = ", ".join(sorted(unknown)) or f"{len(mark.args)} arguments"
            raise pytest.UsageError(f"{item.nodeid}: the mark gradlint takes {', '.join(sorted(_OPTIONS))}, not {what}")
        on = bool(mark.kwargs.get("on", mark.args[0] if mark.args else True))
        options |= {name: value for name, value in mark.kwargs.items() if name != "on"}
    return options if on else None
