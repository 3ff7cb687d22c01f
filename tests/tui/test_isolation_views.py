"""The dry run's pictures: addresses, what a guest may write, walks, and the cost of another workload."""

from __future__ import annotations

import pytest

from tests.tools.hosts import NVME
from tests.tui.conftest import app, cursor_to, press, settle, shown, shows, until
from wizard.dryrun import Workload, dry_run
from wizard.tui.screens.dryrun import DryRunScreen
from wizard.tui.screens.walk import WalkScreen
from wizard.tui.widgets.picture import PictureView


async def test_the_pictures_of_a_dry_run() -> None:
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "7")
        await shows(pilot, "0 failed")
        screen = wizard.screen
        assert isinstance(screen, DryRunScreen)
        picture = screen.query_one("#picture", PictureView)
        await press(pilot, "v", "v")
        text = await shows(pilot, "the guest's memory")
        assert "A vm1" in text
        assert picture.go_to(("part", "vm1", 0x800_0000))
        await press(pilot, "enter")
        await shows(pilot, "isolated by DeviceID")
        await press(pilot, "escape", "v")
        assert picture.go_to(("command", 0x30))  # CMD_TLBI_NSNH_ALL
        await press(pilot)
        await shows(pilot, "goes out as CMD_TLBI_NH_ALL")
        await press(pilot, "enter")
        await shows(pilot, "arm_vsmmu_convert_user_cmd()")
        await press(pilot, "escape", "v")

        # Cost: a figure of the workload changes, and the counts with it as the command line counts them.
        await shows(pilot, "VM exits for one unmap")
        assert wizard.plan is not None
        await press(pilot, "right", "right")
        assert screen.workload == Workload(buffer=Workload().buffer * 4)
        counted = dry_run(wizard.plan, wizard.host, workload=screen.workload).costs
        await until(pilot, lambda: screen._costs == counted)
        assert "256K" in shown(pilot)
        await press(pilot, "left", "left", "down", "left")
        assert screen.workload == Workload()  # fewer than one function share no table


@pytest.mark.parametrize("size", [(120, 40), (80, 24)])
async def test_an_address_is_walked_step_by_step_to_its_fault(size: tuple[int, int]) -> None:
    wizard = app()
    async with wizard.run_test(size=size) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "7")
        await shows(pilot, "0 failed")
        await press(pilot, "t", "ctrl+a", "ctrl+k", *"0x123000", "enter")
        await until(pilot, lambda: isinstance(wizard.screen, WalkScreen))
        await settle(pilot)
        await press(pilot, "down", "down")
        text = await shows(pilot, "stream table entry of StreamID")
        assert "stage 2 (stream configuration)" in text  # before the guest programs anything: STE.Config 6
        await press(pilot, "n")
        text = await shows(pilot, "the record that came of this walk")
        assert "F_TRANSLATION" in text
        assert "0x123000" in text
        await press(pilot, "n")
        assert await shows(pilot, "the record that came of this walk")
        await press(pilot, "escape")
        assert isinstance(wizard.screen, DryRunScreen)
