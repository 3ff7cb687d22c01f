"""The original beside the mended VM, in the wizard."""

from __future__ import annotations

from msgspec.structs import replace

from tests.tui.conftest import NVME, app, cursor_to, press, settle, shown, shows
from wizard.plan.properties import Properties
from wizard.tui import state
from wizard.tui.app import WizardApp


def asked_oas(wizard: WizardApp) -> object:
    return wizard.session.vms[0].properties.oas


async def test_a_vm_is_mended_beside_its_original_and_taken_when_said_so() -> None:
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "3")
        wizard.do("ask for more", state.change_vm(wizard.session, "vm1", lambda vm: replace(vm, properties=Properties(oas=48))))
        await shows(pilot, "oas=48")
        await pilot.press("m")
        text = await shows(pilot, "takes the richest value that the host has")
        row = next(row for row in text.split("\n") if "oas = 48" in row)
        assert row.index("oas = 48") < row.index("oas = 44")
        # Nothing is taken unasked: enter on what is marked leaves the VM as it is.
        await press(pilot, "enter")
        assert asked_oas(wizard) == 48
        await pilot.press("m")
        await shows(pilot, "Take the mended vm1")
        await press(pilot, "up", "enter")
        assert asked_oas(wizard) == 44
        await press(pilot, "u")
        assert asked_oas(wizard) == 48


async def test_what_no_rule_mends_is_said() -> None:
    wizard = app()
    async with wizard.run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "3", "m")
        await shows(pilot, "nothing to mend")
        await press(pilot, "escape")
        wizard.do("ask for more", state.change_vm(wizard.session, "vm1", lambda vm: replace(vm, memory=1 << 50)))
        await pilot.press("m")
        await shows(pilot, "somebody has to decide")
        assert "Take the mended" not in shown(pilot)
