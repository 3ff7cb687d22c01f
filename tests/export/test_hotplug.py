"""Hot-plug as exported, with a Linux guest that answers: it finds the function where the plan predicts it, and lets it go.

Stand-ins take the functions' places (no KVM, no VFIO here); ports, reserves, bus numbers and the QMP commands are the plan's own.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import QMPClient

from tests.armhost.initrd import entry
from tests.tools.cache import cache, skip_loudly
from tests.tools.hosts import E1000E, NVME, PAIR, VF0, planned
from tests.tools.processes import wait_until_async
from tests.tools.qemu import require_firmware
from wizard.export import qmp_hotplug
from wizard.plan.model import VmPlan
from wizard.plan.request import HotplugRequest, Mode
from wizard.rehearsal.process import running
from wizard.rehearsal.standin import stand_ins

INIT = """#!/bin/sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
while :; do echo "SEEN $($b ls /sys/bus/pci/devices | $b tr '\\n' ' ')"; $b usleep 500000; done
"""
LIMIT = 600  # seconds, of an emulated guest on a busy machine


def guest(scratch: Path) -> list[str | Path]:
    """A Linux that says over and over which functions it sees."""
    kernel, image = (cache() / "armhost" / name for name in ("vmlinuz", "inner.img"))
    if not (kernel.exists() and image.exists()):
        skip_loudly("no Linux guest", "scripts/armhost build makes one in two minutes")
    # A later archive's files take the place of an earlier one's.
    init = entry(1, "init", 0o100755, INIT.encode()) + entry(2, "TRAILER!!!", 0)
    initrd = scratch / "initrd"
    initrd.write_bytes(image.read_bytes() + gzip.compress(init))
    return ["-kernel", kernel, "-initrd", initrd, "-append", "console=ttyAMA0 quiet", "-serial", f"file:{scratch}/console"]


def seen(console: Path) -> set[str]:
    """What the guest said last."""
    lines = console.read_text(errors="replace").splitlines()[:-1] if console.exists() else []
    return next((set(line.split()[1:]) for line in reversed(lines) if line.startswith("SEEN ")), set())


async def until_seen(console: Path, address: str, there: bool = True) -> None:
    what = f"the guest to {'see' if there else 'miss'} {address}"
    await wait_until_async(lambda: bool(seen(console)) and (address in seen(console)) is there, what, LIMIT)


async def play(client: QMPClient, made: VmPlan, told: dict[str, Any], console: Path) -> None:
    ports = {port.id: f"0000:{port.secondary:02x}:00.0" for port in made.ports}
    first = made.devices[0].guest
    await client.execute("cont")
    await until_seen(console, str(first))
    for item in told["plug"]:
        assert ports[item["port"]] not in seen(console)
        for command in item["commands"]:
            kept = {key: value for key, value in command["arguments"].items() if key not in ("host", "iommufd")}
            await client.execute(command["execute"], {**kept, "driver": "virtio-net-pci", "romfile": ""})
        await until_seen(console, ports[item["port"]])
    gone = {item["id"]: ports[item["port"]] for item in told["plug"]} | {device.id: str(device.guest) for device in made.devices}
    ids = {device.host: device.id for device in made.devices}
    left = {item["id"] for item in told["unplug"]}
    with client.listener(("DEVICE_DELETED",)) as events:
        for item in told["unplug"]:
            if item["id"] not in left:
                continue  # it went with another one
            for command in item["commands"]:
                await client.execute(command["execute"], command["arguments"])
            going = {item["id"], *(ids[function] for function in item["also"])}
            left -= going
            async with asyncio.timeout(LIMIT):
                while going:
                    event: Any = await events.get()
                    going -= {event["data"].get("device")}
            await until_seen(console, gone[item["id"]], there=False)


@pytest.mark.qemu
@pytest.mark.parametrize("companions", [False, True])
def test_a_guest_takes_and_releases_what_is_plugged(companions: bool, qemu: Path, tmp_path: Path) -> None:
    if companions:
        made = planned(*PAIR, mode=Mode.NONE)
    else:
        made = planned(NVME, hotplug=(HotplugRequest(functions=(VF0,)), HotplugRequest(functions=(E1000E,))))
    told = json.loads(qmp_hotplug(made))
    assert [item["also"] for item in told["unplug"]] == ([[PAIR[1]], [PAIR[0]]] if companions else [[], [], []])
    code, variables = require_firmware()
    shutil.copy(variables, tmp_path / "vars.fd")
    words = [*stand_ins(made, firmware=(code, tmp_path / "vars.fd")).words, *map(str, guest(tmp_path))]

    async def go() -> None:
        async with running(str(qemu), words, str(tmp_path)) as client:
            await play(client, made, told, tmp_path / "console")

    asyncio.run(go())
