"""Fixtures for tests of drivers: pytest loads this module by itself where the program is installed (entry point ``pytest11``). docs/smmu-protocol.md.

    def test_driver(smmu_server):
        subprocess.run(["./driver"], check=True, timeout=60)      # it finds the server by $SMMU_WIZARD_SOCKET

It costs a session that does not use it next to nothing: nothing of the program is imported before a fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wizard.smmu.client import Client
    from wizard.smmu.client.served import Served

_MARK = "smmu_server(*words, allow=()): words of smmu-wizard smmu-server, and what may be left at the end: events, gerror, lost, stalled"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line("markers", _MARK)


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option."""
    text = "say at the end which behaviours of the SMMU's specification the tests with smmu_server exercised, and which not"
    parser.getgroup("smmu-wizard").addoption("--smmu-coverage", action="store_true", help=text)


_EXERCISED = pytest.StashKey[set[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What was exercised, where it was asked for. Of workers of pytest-xdist it is not known."""
    if not config.getoption("--smmu-coverage"):
        return
    from wizard.smmu.coverage import Coverage

    coverage = Coverage()
    exercised: set[str] = config.stash.setdefault(_EXERCISED, set())
    coverage.add(exercised)
    terminalreporter.section("coverage of the SMMU's specification")
    for line in coverage.lines():
        terminalreporter.write_line(line)


@pytest.fixture
def smmu_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server of the simulated SMMU for one test, named by $SMMU_WIZARD_SOCKET in the environment of what the test starts.

    At the end the test fails where the event queue holds records that nobody read, records were lost, a global error is active or an access is
    stalled, unless the mark ``smmu_server(allow=…)`` or ``smmu_server.allow(…)`` says that it may; and where the server itself failed.
    """
    from wizard.smmu.client.served import started

    words: list[str] = []
    allowed: set[str] = set()
    for mark in request.node.iter_markers("smmu_server"):
        words += map(str, mark.args)
        given = mark.kwargs.get("allow", ())
        allowed |= {given} if isinstance(given, str) else set(given)
    noting = request.config.getoption("--smmu-coverage")
    with started([*words, "--coverage"] if noting else words) as served:
        served.allow(*allowed)
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served
        if noting:
            request.config.stash.setdefault(_EXERCISED, set()).update(served.exercised())
        if wrong := served.end():
            pytest.fail("\n".join(wrong), pytrace=False)


@pytest.fixture
def smmu(smmu_server: Served) -> Client:
    """The test's own conversation with its server."""
    return smmu_server.client
