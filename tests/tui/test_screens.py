"""Screens as text, held against golden files that a person has read.

To renew them after a change that is meant: tests/tools/golden.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tools import golden
from tests.tui.conftest import NVME, VF, app, cursor_to, press, settle, shown, shows, until
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.screens.host import HostScreen

# The sentences of findings are other rooms' words: of them only the mark is held.
_SENTENCE = re.compile(r"^([✘▲·]|[.!x](?= 0000:)|fix) .*")
GOLDEN = Path(__file__).parent / "golden"


def check(name: str, text: str) -> None:
    """Equal to the golden file, byte for byte."""
    text = "\n".join(_SENTENCE.sub(r"\1 (a finding)", row).rstrip() for row in text.split("\n"))
    golden.same(GOLDEN / f"{name}.txt", text)


def made(name: str, *, ascii: bool = False) -> WizardApp:
    """The wizard over a recorded host."""
    return app(name, config=Config(ascii=ascii))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (20, 5)])
async def test_host(size: tuple[int, int]) -> None:
    wizard = made("arm64-virt-canwbs")
    async with wizard.run_test(size=size) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "escape")
        text = shown(pilot)
        if size[0] >= 110:  # at the right are sentences of the verdict
            assert "Acceleration: ✔ yes" in text
            text = "\n".join(row[:68].rstrip() for row in text.split("\n"))
        check(f"host-{size[0]}x{size[1]}", text)


async def test_host_in_ascii() -> None:
    wizard = made("arm64-virt-canwbs", ascii=True)
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "escape")
        assert shown(pilot).isascii()
        check("host-ascii", shown(pilot))


async def test_host_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR: the same text, and no colour but greys."""
    monkeypatch.setenv("NO_COLOR", "1")
    wizard = made("arm64-virt-canwbs")
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "escape")
        check("host-80x24", shown(pilot))
        for strip in wizard.screen._compositor.render_strips(wizard.size):
            for segment in strip.apply_filter(wizard._filters[0], wizard.screen.background_colors[1]) if wizard._filters else strip:
                color = segment.style.color if segment.style else None
                if color and color.triplet:
                    assert max(color.triplet) - min(color.triplet) <= 2


async def test_every_screen_of_two_vms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wizard = made("arm64-virt-canwbs")
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "escape")
        await cursor_to(pilot, VF)
        await press(pilot, "a")
        check("assign", shown(pilot))
        await press(pilot, "enter", "escape")
        wizard.clear_notifications()
        for key, name in (("2", "vms"), ("4", "export"), ("5", "topology")):
            await press(pilot, key)
            await pilot.pause(0.3)
            await settle(pilot)
            check(name, shown(pilot))
        await press(pilot, "6")
        assert "IOMMU group 11" in shown(pilot)
        await press(pilot, "7")
        text = await shows(pilot, "passed")
        assert "0 failed" in text
        assert "[✔]" in text
        await press(pilot, "down", "down", "enter")  # before the guest programs anything
        await shows(pilot, "follows", "Copy")
        assert "@0x80004000 stream table entry of StreamID 0x1400" in shown(pilot)
        await press(pilot, "escape", "t", "enter")
        await until(pilot, lambda: "write of" in shown(pilot) or "read of" in shown(pilot))
        assert "@0x40000000" in shown(pilot)
        await press(pilot, "escape", "v")
        assert "isolated" in shown(pilot)
        await press(pilot, "v")
        assert "the guest's memory" in shown(pilot)
        await press(pilot, "v", "end")
        assert "TLBI_NH_ASID" in shown(pilot)
        await press(pilot, "v")
        assert "Memory of tables" in shown(pilot)


async def test_hosts_of_other_kinds() -> None:
    """No SMMU that matters (x86), many VFs (Kunpeng), unknown verdicts (Grace)."""
    for name in ("x86-intel", "kunpeng-920", "grace-1s"):
        wizard = made(name)
        async with wizard.run_test(size=(80, 24)) as pilot:
            await settle(pilot)
            await press(pilot, "down", "down", "down")
            check(f"host-{name}", shown(pilot))


async def test_what_was_to_be_made_behind_the_first_screen_is_left_when_the_wizard_ends_at_once() -> None:
    """Textual mounts nothing on an app that is on its way out: the timer of the filter's box was an internal error (exit 70) then."""
    async with app().run_test(size=(120, 40)) as pilot:
        screen = pilot.app.screen
        assert isinstance(screen, HostScreen)
        for box in screen.query("#filterbox"):
            await box.remove()
        pilot.app.exit(0)
        screen._filter_box_early()
        assert not screen.query("#filterbox")
    assert pilot.app.return_code == 0
