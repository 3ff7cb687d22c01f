"""What every test gets: directories of its own for settings and state, and a list at the end of what could not be asked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.tools.bound import bounded, keep_stderr, seconds_of
from tests.tools.cache import LEFT_OUT, LOUD, cache
from tests.tools.processes import start_children_attentive
from tests.tools.qemu import require_iasl, require_qemu

_private: list[str] = []

# No test asserts a time, and a busy machine is no fault of the code: examples have no deadline of their own.
settings.register_profile("smmu-wizard", deadline=None)
settings.load_profile("smmu-wizard")


def pytest_configure() -> None:
    """Keep the tests away from the settings, sessions and crash reports of whoever runs them, and from how they were started."""
    keep_stderr()
    start_children_attentive()
    os.environ["SMMU_WIZARD_CACHE"] = str(cache())
    _private.append(tempfile.mkdtemp(prefix="smmu-wizard-tests-"))
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        os.environ[name] = os.path.join(_private[0], name.lower())


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    while _private:
        shutil.rmtree(_private.pop(), ignore_errors=True)


# Files that take minutes on one processor. They begin first: the last of them, alone at the end, would leave every other processor idle.
# (pytest-xdist's own order of files is by their number of tests: these have few. scripts/test turns it off.)
LONG = (
    *("test_other_pythons.py", "export/test_armhost.py", "dryrun/test_armhost.py", "armhost/", "export/test_prepare_runs.py"),
    *("facts/test_armhost_probe.py", "fuzz/test_bounds.py", "fuzz/test_command_line.py", "tui/test_robust.py", "tui/test_flow.py"),
    *(
        "export/test_qemu.py",
        "mutants/",
        "export/test_hotplug.py",
        "tui/test_fresh_clone.py",
        "packaging/test_install.py",
        "packaging/test_distributions.py",
    ),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, the others as they were."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(here).as_posix() if item.path.is_relative_to(here) else ""
        return next((place for place, name in enumerate(LONG) if path.startswith(name)), len(LONG))

    items.sort(key=rank)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """No preparation waits for ever."""
    with bounded(seconds_of(item), f"what {item.nodeid} needs"):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """No test waits for ever."""
    with bounded(seconds_of(item), item.nodeid):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """No clearing up waits for ever."""
    with bounded(seconds_of(item), f"what follows {item.nodeid}"):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say once more, where it is read, which real counterparts were not there."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple) and LOUD in (reason := str(report.longrepr[2])):
            reason = reason.partition(LOUD)[2]
            reasons[reason] = reasons.get(reason, 0) + 1
    left_out = [
        str(what)
        for report in terminalreporter.stats.get("passed", [])
        if report.when == "call"
        for name, what in report.user_properties
        if name == LEFT_OUT
    ]
    if left_out:
        terminalreporter.section("LEFT OUT", sep="!", red=True, bold=True)
        for what in left_out:
            terminalreporter.line(what, red=True)
    if reasons:
        terminalreporter.section("NOT RUN ON THIS MACHINE", sep="!", red=True, bold=True)
        for reason, count in sorted(reasons.items()):
            terminalreporter.line(f"{count} test{'s' if count > 1 else ''}: {reason}", red=True)


@pytest.fixture(scope="session")
def qemu() -> Path:
    """A real ``qemu-system-aarch64``, 10.2 or later."""
    return require_qemu()


@pytest.fixture(scope="session")
def iasl() -> Path:
    """ACPICA's ``iasl``."""
    return require_iasl()
