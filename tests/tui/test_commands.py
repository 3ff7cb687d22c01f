"""The command that a screen names makes the same plan."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.hosts import host
from tests.tools.processes import LIMIT
from tests.tui.conftest import NVME, VF, app, cursor_to, press, settle, shown
from wizard.cli.parser import parse
from wizard.cli.planoptions import request_of
from wizard.export import bind_script
from wizard.facts.source import Source, SourceKind
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import DiskRequest, Layout, NetworkRequest
from wizard.tui import state
from wizard.tui.app import WizardApp
from wizard.tui.commands import plan_words
from wizard.tui.config import Config
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.contact import ContactScreen
from wizard.tui.state import Session


def test_the_command_of_two_vms_makes_their_plan() -> None:
    session = state.assign(state.add_vm(state.assign(state.add_vm(Session(), "my storage"), "my storage", [NVME]), "web"), "web", [VF])
    shared = {"layout": Layout.PER_FUNCTION, "properties": Properties(ril="off", oas=44), "fall_back": True}
    session = state.change_vm(session, "my storage", lambda vm: replace(vm, memory=2 << 30, disks=(DiskRequest(path="/srv/a b.img"),), **shared))
    session = state.change_vm(session, "web", lambda vm: replace(vm, cpus=1, networks=(NetworkRequest(kind="tap", source="tap0"),), **shared))
    arguments = parse(shlex.split(plan_words(session.vms)))
    assert make_plan(host(), request_of(arguments)) == make_plan(host(), session.request())


def test_without_a_vm_it_says_what_to_write() -> None:
    assert plan_words(()) == "plan --vm NAME=FUNCTION,..."


@pytest.mark.parametrize("named", [(), ("web",), ("my storage", "web")])
async def test_every_screen_names_a_command_that_is_taken(named: tuple[str, ...]) -> None:
    session = Session()
    for name, address in zip(named, (NVME, VF), strict=False):
        session = state.assign(state.add_vm(session, name), name, [address])
    wizard = WizardApp(host(), source=Source(SourceKind.REPLAY, "host.json"), config=Config(ascii=False), session=session)
    async with wizard.run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        for key in "12345678":
            await press(pilot, key)
            screen = wizard.screen
            assert isinstance(screen, WizardScreen)
            assert parse(shlex.split(wizard.command_words(screen.command()))[1:]).run is not None


async def test_first_contact_tells_what_can_be_typed(tmp_path: Path) -> None:
    """Its steps are typed one after the other: what the program takes, and what the script that it wrote takes."""
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "space", "p")
        screen = wizard.screen
        assert isinstance(screen, ContactScreen)
        first, run, probe, undo = screen._commands()
        for command in (run, probe, undo):
            assert command in shown(pilot)
        script = bind_script(wizard.host, screen.functions)
    for command in (first, probe):
        assert parse(shlex.split(command.removeprefix("sudo "))[1:]).command in ("prepare", "record")
    path = tmp_path / shlex.split(run)[-1].removeprefix("./")
    path.write_text(script, encoding="utf-8")
    for command in (run, undo):
        words = shlex.split(command.removeprefix("sudo "))
        assert words[0] == f"./{path.name}"
        # With --dry-run nothing is changed, whoever runs it; status 2 is what it says of words that it does not take.
        done = subprocess.run(["bash", str(path), *words[1:], "--dry-run"], capture_output=True, text=True, check=False, timeout=LIMIT)
        assert done.returncode != 2, done.stderr
