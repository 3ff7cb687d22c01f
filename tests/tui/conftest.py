"""The wizard over recorded hosts, headless."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

import wizard.tui
from tests.tools.hosts import host
from tests.tools.processes import LIMIT
from wizard.facts.source import Source, SourceKind
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.script import screen_text

# pytest parses the modules of a plugin that it has installed with ast, which in CPython 3.11 two threads can't do at once (SystemError: AST
# constructor recursion depth mismatch): what the wizard loads in a thread behind its first screen is loaded here.
for _module in pkgutil.walk_packages(wizard.tui.__path__, "wizard.tui."):
    importlib.import_module(_module.name)

NVME = "0000:14:00.0"
VF = "0000:11:10.0"


def app(name: str = "arm64-virt-canwbs", *, state: Path | None = None, config: Config | None = None) -> WizardApp:
    """The wizard over a recorded host."""
    return WizardApp(host(name), source=Source(SourceKind.REPLAY, f"{name}.json"), config=config or Config(ascii=False), state_directory=state)


async def settle(pilot: Pilot[int]) -> None:
    """Until nothing is left to do."""
    await pilot._wait_for_screen()
    await pilot.app.workers.wait_for_complete()
    await pilot._wait_for_screen()


async def press(pilot: Pilot[int], *keys: str) -> None:
    """Keys, one after the other, each done before the next."""
    await pilot.press(*keys)
    await settle(pilot)


async def said(pilot: Pilot[int]) -> str:
    """The messages that stand in the corner."""
    await settle(pilot)
    return "\n".join(one.message for one in pilot.app._notifications)


async def until(pilot: Pilot[int], what: Callable[[], bool]) -> None:
    """Until something is so that a worker or a timer brings about, however busy the machine, within the bound of every wait."""
    end = time.monotonic() + LIMIT
    while not what() and time.monotonic() < end:
        await pilot.pause(0.02)
    assert what(), shown(pilot)


async def shows(pilot: Pilot[int], *texts: str) -> str:
    """The screen, when it shows every text."""
    await until(pilot, lambda: all(text in shown(pilot) for text in texts))
    return shown(pilot)


async def told(pilot: Pilot[int], *texts: str) -> str:
    """The messages in the corner, when every text is among them."""
    await until(pilot, lambda: all(text in "\n".join(one.message for one in pilot.app._notifications) for text in texts))
    return await said(pilot)


def shown(pilot: Pilot[int]) -> str:
    """The screen as text."""
    return screen_text(pilot.app)


async def cursor_to(pilot: Pilot[int], address: str) -> None:
    """As a person does: filter for the address, then leave the filter."""
    await press(pilot, "slash")
    await type_text(pilot, address)
    await press(pilot, "enter")


async def type_text(pilot: Pilot[int], text: str) -> None:
    """Text key by key."""
    from wizard.tui.script import _KEYS

    await pilot.press(*(_KEYS.get(one, one) for one in text))
    await settle(pilot)


@pytest.fixture(autouse=True)
def _own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return
