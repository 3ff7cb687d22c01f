"""The Running screen over a real QEMU that runs on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tools.hosts import NVME, host, planned
from tests.tools.qemu import require_qemu
from tests.tools.vms import started
from tests.tui.conftest import app, press, shown, shows
from wizard.existing.load import open_text
from wizard.export.qemu import qemu_script
from wizard.running.process import Process
from wizard.running.watch.records import Record
from wizard.running.watch.states import Look, VmState
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.running_lines import spark, whole_lines
from wizard.tui.screens.running import RunningScreen


@pytest.mark.qemu
async def test_a_vm_that_runs_is_shown_with_what_happens_to_it(tmp_path: Path) -> None:
    plan = planned(NVME, name=f"shown-{os.getpid()}")
    with started(require_qemu(), tmp_path, plan) as vm:
        wizard = WizardApp(host(), config=Config(ascii=False))
        async with wizard.run_test(size=(120, 40)) as pilot:
            await pilot.press("0")
            await shows(pilot, f"{plan.name}  process {vm.process.pid}  runs")
            # t would take the sockets of every QEMU that other tests run at the same time: tests/running/test_watch.py hears one of its own
            vm.process.kill()
            await shows(pilot, f"ended {plan.name}")
            wizard.exit(0)


async def test_a_recorded_host_has_no_vms_of_this_machine() -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await press(pilot, "0")
        assert "This host was recorded" in shown(pilot)
        wizard.exit(0)


async def test_an_event_opens_with_the_same_access_on_the_simulated_smmu() -> None:
    """The VM's own tables are before the function's addresses: with them it is stage 1 that stops it, without them stage 2."""
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await press(pilot, "0")
        screen = wizard.screen
        assert isinstance(screen, RunningScreen)
        guest = open_text("web.sh", qemu_script(planned(NVME, name="web")))[0].guest
        what = {"name": "web", "pid": 7, "started": 1, "memory": 0, "qmp": None, "libvirt": False, "accelerated": 1}
        running = VmState(**what, functions=(NVME,), process=Process(pid=7, started=1), guest=guest)  # type: ignore[arg-type]
        one = Record(
            at="2026-11-30T06:00:00.000Z", source="kernel", kind="F_TRANSLATION", text="it faulted", vm="web", function=NVME, ipa="0x40dead0000"
        )
        screen._took(Look(vms={7: running}), [one], None)
        await pilot.press("tab", "enter")
        await shows(pilot, "The same access on the simulated SMMU")
        await shows(pilot, "before the guest programs anything, read: F_TRANSLATION, stage 2")
        await shows(pilot, "under the guest's stage 1, read: F_TRANSLATION, stage 1")
        wizard.exit(0)


def test_a_spark_is_as_high_as_its_highest() -> None:
    assert spark([0, 1, 8, 4], ascii=False) == " ▁█▄"
    assert spark([0, 0], ascii=True) == "  "


def test_an_event_opens_with_what_it_means() -> None:
    one = Record(at="2026-11-30T06:00:00.000Z", source="kernel", kind="F_TRANSLATION", text="it faulted", vm="web", place="2M beyond the end")
    text = "\n".join(found.text for found in whole_lines(one, 80))
    assert "place: 2M beyond the end" in text
    assert "translation" in text.partition("place")[2].lower(), "its explanation follows"
