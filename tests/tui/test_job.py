"""The whole job with keys alone, counted: two VMs, memory and CPUs set, one finding fixed, reviewed, rehearsed, exported."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from textual import events
from textual.pilot import Pilot

from tests.tui.conftest import NVME, VF, app, press, settle, shown, shows, until
from wizard.tui.app import WizardApp
from wizard.tui.job import State

MOST = 55  # keys; it took 98 before
KEYS = {"⏎": "enter", "/": "slash", ".": "full_stop", ":": "colon", "+": "plus", "-": "minus", " ": "space"}


class Counted:
    """Keys as a person presses them, and how many they were."""

    def __init__(self, pilot: Pilot[int]) -> None:
        self.pilot = pilot
        self.pressed = 0

    async def __call__(self, keys: str) -> None:
        for key in keys:
            self.pressed += 1
            await press(self.pilot, KEYS.get(key, key))


@pytest.fixture
def qemu_on_path(qemu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The QEMU of the tests is that of this machine; files are written to a directory of their own."""
    found = tmp_path / "bin" / "qemu-system-aarch64"
    found.parent.mkdir()
    found.write_text(f'#!/bin/sh\nexec "{qemu}" "$@"\n')
    found.chmod(0o755)
    monkeypatch.setenv("PATH", f"{found.parent}:{os.environ['PATH']}")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    return tmp_path / "out"


async def test_the_job_takes_few_keys(qemu_on_path: Path) -> None:
    wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        keys = Counted(pilot)
        await keys("2n⏎a/nvme⏎⏎")
        await keys("m1G⏎c1⏎")
        await keys("n⏎a/:10.0⏎⏎")
        await keys("m4G⏎c1⏎")
        assert "f memory" in shown(pilot)
        await keys("f")
        assert wizard.plan is not None
        assert wizard.plan.ok
        assert "findings ▲" in shown(pilot)
        await keys(".")
        await shows(pilot, "3 Review", "version = 1")
        await keys(".")
        await shows(pilot, "isolated ✔")
        await keys(".")
        await shows(pilot, "Not rehearsed yet")
        await keys(".")
        await shows(pilot, "as planned", "rehearsed 1/2")
        await keys(".")
        await shows(pilot, "as planned", "rehearsed ✔")
        await keys(".")
        await shows(pilot, "vm1.toml", "vm2.prepare.sh")
        await keys(".")
        await until(pilot, lambda: "exported ✔" in shown(pilot))
        assert all(step.state in (State.DONE, State.WARN) for step in wizard.job_steps())
        assert keys.pressed <= MOST, keys.pressed
    first, second = (tomllib.loads((qemu_on_path / f"{name}.toml").read_text()) for name in ("vm1", "vm2"))
    assert [one["host"] for one in first["function"]] == [NVME]
    assert [one["host"] for one in second["function"]] == [VF]
    assert first["memory"]["size"] == "1G"
    assert [one["cpus"]["count"] for one in (first, second)] == [1, 1]
    assert second["memory"]["size"] == "1536M"  # the largest step beside the first VM in what the recorded host had free


async def test_a_burst_through_dialogs_sets_what_was_typed() -> None:
    """As a fast typist or tmux brings it: no key waits for the one before, and none is lost."""
    wizard: WizardApp = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        for key in "2n⏎a/nvme⏎⏎m512M⏎c1⏎n⏎a/:10.0⏎⏎m++⏎c+⏎.":
            wizard.post_message(events.Key(KEYS.get(key, key), key if key not in KEYS or key in "/.:+- " else None))
        await shows(pilot, "3 Review", "version = 1")
        found = [(vm.memory >> 20, vm.cpus, [one.host for one in vm.functions]) for vm in wizard.session.vms]
        assert found == [(512, 1, [NVME]), (2048, 3, [VF])]


async def test_a_fix_is_one_step_and_the_steps_of_memory_are_sensible() -> None:
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        keys = Counted(pilot)
        await keys("2n⏎a/81:00.0⏎⏎")
        # It can't be given as things are: the question says what comes along and what stands against it.
        assert "comes along" in shown(pilot)
        await keys("⏎+")
        vm = wizard.session.vms[0]
        assert vm.memory == 3 << 29
        assert len(vm.functions) == 2
        before = wizard.session
        await keys("f")
        assert wizard.plan is not None
        assert "group-shared-accelerated" not in {one.code for one in wizard.plan.findings}
        assert [str(one.mode) for one in wizard.session.vms[0].functions] == ["none", "none"]
        await keys("u")
        assert wizard.session == before
        await keys("Z")
        assert "Findings" not in shown(pilot)
        await keys("Z")
        assert "Findings" in shown(pilot)
