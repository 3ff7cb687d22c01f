"""A live host that is followed: its devices, and what its kernel logs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec

from tests.tools.hosts import FIXTURES, host
from tests.tui.conftest import NVME, VF, shown, shows, until
from wizard.facts.model import Moment
from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.host.doctor import diagnose
from wizard.tui.app import WizardApp
from wizard.tui.config import Config
from wizard.tui.live import Sources


async def test_devices_that_come_and_go_are_marked_and_the_cursor_stays() -> None:
    """The recorded host without the VFs, with the NVMe on vfio-pci, then whole again."""
    facts = load(str(FIXTURES / "arm64-virt-canwbs.json"))
    less = tuple(msgspec.structs.replace(f, driver="vfio-pci") if f.address == NVME else f for f in facts.functions if f.physfn is None)
    other = host_of(msgspec.structs.replace(facts, functions=less))
    events: list[str] = []
    go = threading.Event()

    def changes(stop: threading.Event) -> Iterator[str]:
        while not stop.wait(0.05):
            if go.is_set():
                go.clear()
                events.append(VF)
                yield VF

    wizard = WizardApp(host(), live=Sources(lambda: other, changes, lambda: Moment(memory_available=5 << 30)), config=Config(ascii=False))
    async with wizard.run_test(size=(120, 40)) as pilot:
        await shows(pilot, NVME)
        await pilot.press("slash", *"14", "colon", *"00", "enter", "escape")
        await until(pilot, lambda: wizard.screen.query_one("#table").cursor == NVME)  # type: ignore[attr-defined]
        assert wizard.screen.query_one("#table").cursor == NVME  # type: ignore[attr-defined]
        go.set()
        await until(pilot, lambda: VF not in wizard.host.functions and VF not in shown(pilot) and len(wizard._notifications) >= 2)
        assert events == [VF]
        assert wizard.screen.query_one("#table").cursor == NVME  # type: ignore[attr-defined]
        assert VF not in shown(pilot)
        assert "vfio-pci" in shown(pilot)
        messages = "\n".join(one.message for one in wizard._notifications)
        assert f"{VF} is gone" in messages
        assert f"{NVME} is on driver vfio-pci now" in messages
        assert wizard.changes == {VF: "gone", "0000:11:10.2": "gone", NVME: "driver"}
        wizard.exit(0)


async def test_what_the_kernel_logs_while_the_wizard_is_open_is_told() -> None:
    """A function that does not come back, an SMMU that stops; what the recording had said is no news."""
    facts = load(str(FIXTURES / "arm64-virt-canwbs.json"))
    said = [*facts.moment.log, f"[  900.1] vfio-pci {NVME}: not ready 65535ms after FLR; giving up",
            "[  900.2] arm-smmu-v3 arm-smmu-v3.0.auto: device has entered Service Failure Mode!"]  # fmt: skip
    told = [said, [], [], []]

    def log() -> list[str]:
        return told.pop(0) if told else []

    live = Sources(lambda: host(), lambda stop: iter(()), lambda: Moment(memory_available=5 << 30), log)
    wizard = WizardApp(host(), live=live, config=Config(ascii=False))
    async with wizard.run_test(size=(120, 40)) as pilot:
        await shows(pilot, NVME)
        await until(pilot, lambda: len(wizard._notifications) >= 2)
        messages = "\n".join(one.message for one in wizard._notifications)
        assert f"{NVME} did not come back from a reset" in messages
        assert "smmu3.0x000000000c000000 has entered Service Failure Mode" in messages
        assert "F_TRANSLATION" not in messages
        assert wizard.host.digest == host().digest
        codes = {item.finding.code for area in diagnose(wizard.host).areas for item in area.findings}
        assert {"function-reset-failed", "smmu-service-failure", "smmu-events"} <= codes
        wizard.exit(0)
