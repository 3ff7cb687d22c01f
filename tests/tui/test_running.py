"""The Running screen over a real QEMU that runs on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tools.hosts import NVME, host, planned
from tests.tools.qemu import require_qemu
from tests.tools.vms import started
from tests.tui.conftest import app, press, shown, shows
from wizard.running.watch.records import Record
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.running_lines import spark, whole_lines


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


def test_a_spark_is_as_high_as_its_highest() -> None:
    assert spark([0, 1, 8, 4], ascii=False) == " ▁█▄"
    assert spark([0, 0], ascii=True) == "  "


def test_an_event_opens_with_what_it_means() -> None:
    one = Record(at="2026-11-30T06:00:00.000Z", source="kernel", kind="F_TRANSLATION", text="it faulted", vm="web", place="2M beyond the end")
    text = "\n".join(found.text for found in whole_lines(one, 80))
    assert "place: 2M beyond the end" in text
    assert "translation" in text.partition("place")[2].lower(), "its explanation follows"
