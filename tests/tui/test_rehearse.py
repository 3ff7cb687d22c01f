"""The rehearsal in the wizard: a real QEMU from a key press to its checks on the screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tools.processes import command_lines, wait_until_async
from tests.tui.conftest import NVME, app, cursor_to, press, said, settle, shown, shows, type_text


@pytest.fixture(autouse=True)
def _in_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def one_vm(pilot: Pilot[int]) -> None:
    """A VM with the NVMe, and the screen of its rehearsal."""
    await settle(pilot)
    await cursor_to(pilot, NVME)
    await press(pilot, "a", "enter", "enter", "8")
    assert "Not rehearsed yet" in shown(pilot)


async def name_qemu(pilot: Pilot[int], path: Path) -> None:
    await press(pilot, "p", "ctrl+a", "ctrl+k")
    await type_text(pilot, str(path))
    await press(pilot, "enter")


async def test_a_vm_is_rehearsed_and_its_checks_read(qemu: Path) -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        await one_vm(pilot)
        await name_qemu(pilot, qemu)
        await pilot.press("s")
        await shows(pilot, "as planned")
        text = shown(pilot)
        assert "✔ root buses: [0, 8]" in text
        assert "✔ smmuv3.1 bus: pcie.1" in text
        assert "rehearse vm1.toml" in text
        await press(pilot, "enter")
        assert "expected  [0, 8]" in shown(pilot)
        await press(pilot, "escape", "G")
        assert "• " in shown(pilot), shown(pilot)
        # What was rehearsed is another plan by now.
        await press(pilot, "2", "D")
        await press(pilot, "8")
        assert "Nothing is planned yet" in shown(pilot)
        await press(pilot, "u")
        assert "as planned" in shown(pilot)


async def test_it_can_be_stopped_and_no_qemu_stays(qemu: Path, tmp_path: Path) -> None:
    """The QEMU here never answers: it is ended when the person says so, and not a minute later."""
    mute = tmp_path / "qemu-mute"
    # What it is asked of itself it answers; the machine of the rehearsal it does not start.
    mute.write_text(f'#!/bin/sh\ncase "$*" in *"-machine none"*) exec "{qemu}" "$@" ;; esac\nexec sleep 7321\n')
    mute.chmod(0o755)
    async with app().run_test(size=(80, 24)) as pilot:
        await one_vm(pilot)
        await name_qemu(pilot, mute)
        await pilot.press("s")
        await shows(pilot, "asked for by QMP …")
        await pilot.press("s")
        await shows(pilot, "Not rehearsed yet")
        await wait_until_async(lambda: not any("7321" in words for words in command_lines()), "the QEMU that was stopped to be gone")


async def test_without_a_qemu_it_says_what_to_do(tmp_path: Path) -> None:
    async with app().run_test(size=(80, 24)) as pilot:
        await one_vm(pilot)
        await name_qemu(pilot, tmp_path / "absent")
        await press(pilot, "s")
        await shows(pilot, "There is no program")
        assert "p names another QEMU" in shown(pilot)


async def test_a_plan_with_errors_is_not_rehearsed() -> None:
    wizard = app("arm64-virt")
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "8")
        assert "accel-refused" in shown(pilot)
        await press(pilot, "s")
        assert "is not rehearsed" in await said(pilot)


async def test_what_qemu_refuses_is_explained_beneath_its_words(qemu: Path, tmp_path: Path) -> None:
    """A QEMU that is started with one device more, whose bus nobody declared: the words are the real one's."""
    more = tmp_path / "qemu-more"
    more.write_text(f'#!/bin/sh\ncase "$*" in *"-machine none"*) exec "{qemu}" "$@" ;; esac\nexec "{qemu}" "$@" -device e1000e,bus=pcie.77\n')
    more.chmod(0o755)
    async with app().run_test(size=(80, 40)) as pilot:
        await one_vm(pilot)
        await name_qemu(pilot, more)
        await pilot.press("s")
        await shows(pilot, "What QEMU's words mean")
        text = shown(pilot)
        assert "Bus 'pcie.77' not found" in text
        assert "fix     Write pxb-pcie before arm-smmuv3" in text
