"""The place to paste: from a bracketed paste to the first cause on this host, with thousands of lines and with none that is known."""

from __future__ import annotations

from pathlib import Path

from textual import events
from textual.pilot import Pilot

from tests.tui.conftest import NVME, app, cursor_to, press, settle, shown, shows, type_text

REFUSED = "qemu-system-aarch64: -device vfio-pci,host=0000:14:00.0: vfio 0000:14:00.0: IOMMU_VIOMMU_ALLOC failed: Operation not supported"


async def paste(pilot: Pilot[int], text: str) -> None:
    """As the terminal's driver hands it over (ESC[200~ … ESC[201~)."""
    pilot.app.post_message(events.Paste(text))
    await settle(pilot)


async def test_a_paste_is_explained_on_this_host() -> None:
    async with app("arm64-virt").run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "9")
        assert "Nothing to explain yet" in shown(pilot)
        await paste(pilot, f"$ ./web.sh\n{REFUSED}\n")
        await shows(pilot, "First cause")
        text = shown(pilot)
        assert "holds here [no-canwbs]" in text
        assert "1 not recognised" in text
        await press(pilot, "enter")
        assert "the kernel makes no vIOMMU" in shown(pilot).replace("\n", " ").replace("The", "the")
        await press(pilot, "escape", "1", "9")
        assert "First cause" in shown(pilot)  # it is still there


async def test_thousands_of_lines_and_escapes_are_taken_whole() -> None:
    noise = "Nov 29 22:01:11 host app[1]: \x1b[31mnothing\x1b[0m of interest \x07\u202e\n"
    async with app().run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await press(pilot, "9")
        await paste(pilot, noise * 5000 + REFUSED + "\n" + noise * 5000)
        await shows(pilot, "First cause")
        assert "10000 not recognised" in shown(pilot)
        await paste(pilot, noise * 3)
        await shows(pilot, "nothing is guessed")


async def test_a_message_is_typed_and_a_log_opened(tmp_path: Path) -> None:
    log = tmp_path / "web.log"
    log.write_text(f"2026-11-29T22:01:11Z {REFUSED}\n")
    async with app().run_test(size=(100, 30)) as pilot:
        await settle(pilot)
        await press(pilot, "9", "t")
        await type_text(pilot, "group 12 is not viable")
        await press(pilot, "enter")
        await shows(pilot, "[group-not-viable]")
        await press(pilot, "o")
        await type_text(pilot, str(log))
        await press(pilot, "enter")
        await shows(pilot, "IOMMU_VIOMMU_ALLOC failed")
        assert "ruled out [no-canwbs]" in shown(pilot)


async def test_the_plan_is_asked_too() -> None:
    async with app().run_test(size=(100, 40)) as pilot:
        await settle(pilot)
        await cursor_to(pilot, NVME)
        await press(pilot, "a", "enter", "enter", "9")
        await paste(pilot, "Host SMMUv3 SSIDSIZE not compatible (host=16, QEMU=20)")
        await shows(pilot, "ruled out [property-exceeds-host]")
