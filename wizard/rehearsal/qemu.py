"""Start the plan's topology in a real QEMU, paused, and ask it by QMP whether everything is where the plan says.

Without firmware QEMU knows buses, slots and which bus an SMMU serves; with firmware UEFI also numbers the buses, and the
guest addresses (and so the vSIDs) are compared with the plan's predictions.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from qemu.qmp import ConnectError, ExecuteError, QMPClient

from wizard.arch.bits import Record, field
from wizard.arch.bits import address as address_field
from wizard.base.errors import ProgramError
from wizard.base.finding import Area, Finding, Kind, Severity, define
from wizard.base.text import visible
from wizard.plan.model import VmPlan
from wizard.rehearsal.standin import stand_ins, stands_for_bars

START_SECONDS = 60
FIRMWARE_SECONDS = 180  # UEFI needs 18 s on a fast machine under tcg

DIFFERS = define(
    "rehearsal-differs", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: {what_for} is {found} in QEMU, and {expected} in the plan.",
    why="The guest would see another topology than the one that was planned and checked.",
    fix="Report this with the profile: the planner's rule for it is wrong, or this QEMU differs from those that it knows.",
)  # fmt: skip
REFUSED = define(
    "rehearsal-refused", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: QEMU does not take the command line: {message}",
    why="The VM would not start either; accel and assigned functions were not even tried (stand-ins took their places).",
    fix="Correct what the message names, or use the QEMU that the plan is for.",
)  # fmt: skip
DEAD_PORT = define(
    "rehearsal-dead-port", Severity.ERROR, Kind.PLAN, Area.REQUEST,
    what="VM {subject}: UEFI gave root port {port} no bus.",
    why="What is behind it does not exist for the guest: its root complex has no bus number left.",
    fix="Move the bus numbers apart, or leave bus_nr out.",
)  # fmt: skip


class Check(msgspec.Struct, frozen=True):
    """One thing that was asked of QEMU."""

    subject: str
    expected: str
    found: str

    @property
    def ok(self) -> bool:
        """Whether they agree."""
        return self.expected == self.found


class Report(msgspec.Struct, frozen=True):
    """What a rehearsal found. ``notes`` say what stood in for what."""

    vm: str
    qemu: str
    firmware: bool
    checks: tuple[Check, ...]
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is where the plan says."""
        return not self.findings


class Refused(Exception):
    """QEMU ended before it answered; the text is what it wrote."""


def rehearse(vm: VmPlan, qemu: str, *, firmware: tuple[Path, Path] | None = None) -> Report:
    """Rehearse one planned VM. ``firmware``: UEFI's code and its variables (which are copied); without it only QEMU is asked.

    Raises ``ProgramError`` when QEMU can't be started at all.
    """
    if shutil.which(qemu) is None:
        raise ProgramError(f"There is no program {visible(qemu)}.", "Install qemu-system-arm, or name another with --qemu PATH.")
    with tempfile.TemporaryDirectory(prefix="smmu-wizard-") as scratch:
        files = None
        if firmware:
            files = (firmware[0], Path(scratch) / "vars.fd")
            shutil.copyfile(firmware[1], files[1])
        acted = stand_ins(vm, firmware=files)
        try:
            checks = asyncio.run(_ask(vm, qemu, acted.words, scratch, booted=files is not None))
        except Refused as refused:
            finding = REFUSED.at(vm.name, message=visible(str(refused)))
            return Report(vm.name, qemu, files is not None, (), acted.notes, (finding,))
        return Report(vm.name, qemu, files is not None, tuple(checks), acted.notes, tuple(_findings(vm, checks)))


def _findings(vm: VmPlan, checks: Sequence[Check]) -> Iterator[Finding]:
    for check in checks:
        if check.ok:
            continue
        if check.subject.endswith(" bus range") and check.found == "0..0":
            yield DEAD_PORT.at(vm.name, port=check.subject.split()[-3])
        else:
            yield DIFFERS.at(vm.name, what_for=check.subject, found=visible(check.found), expected=check.expected)


@asynccontextmanager
async def running(qemu: str, words: Sequence[str], scratch: str) -> AsyncIterator[QMPClient]:
    """A paused QEMU and a client on its monitor; ``Refused`` with QEMU's own words when it ends before it answers."""
    socket = os.path.join(scratch, "qmp")
    process = await asyncio.create_subprocess_exec(
        qemu, *words, "-S", "-qmp", f"unix:{socket.replace(',', ',,')},server=on,wait=off",
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    ended = asyncio.ensure_future(process.communicate())
    client = QMPClient("rehearsal")
    try:
        async with asyncio.timeout(START_SECONDS):
            await _connect(client, socket, ended)
            if ended.done():
                said = ended.result()[1].decode(errors="replace").strip()
                raise Refused(said or f"it ended with status {process.returncode}")
        yield client
    except TimeoutError as error:
        raise Refused(f"no answer in {START_SECONDS} seconds") from error
    finally:
        if client.runstate.name != "IDLE":
            with suppress(OSError):
                await client.disconnect()
        if process.returncode is None:
            process.kill()
        await ended


async def _connect(client: QMPClient, socket: str, ended: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Until it is connected or QEMU has ended. The socket's name is there before QEMU listens on it, and QEMU listens before it
    makes its devices: it drops the connection when one of them is refused.
    """
    while not ended.done():
        if os.path.exists(socket):
            with suppress(ConnectError):
                await client.connect(socket)
                return
        await asyncio.sleep(0.01)


async def _ask(vm: VmPlan, qemu: str, words: Sequence[str], scratch: str, *, booted: bool) -> list[Check]:
    async with running(qemu, words, scratch) as client:
        if booted:
            await _boot(client)
        return [check async for check in _checks(vm, client, booted=booted)]


async def _boot(client: QMPClient) -> None:
    """Let UEFI number the buses: over when a bus number stands and none has changed for two seconds."""
    await client.execute("cont")
    last: dict[str, tuple[int, int]] = {}
    still = 0
    for _ in range(FIRMWARE_SECONDS * 2):
        await asyncio.sleep(0.5)
        ranges = {id: (bridge["bus"]["secondary"], bridge["bus"]["subordinate"]) for id, bridge in bridges(await client.execute("query-pci")).items()}
        still = still + 1 if ranges == last and any(secondary for secondary, _ in ranges.values()) else 0
        last = ranges
        if still >= 4:
            return
    raise Refused(f"UEFI numbered no bus in {FIRMWARE_SECONDS} seconds")


def bridges(answer: Any) -> dict[str, dict[str, Any]]:
    """The bridges of ``query-pci`` by their id, wherever they are."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [device for bus in answer for device in bus["devices"]]
    while waiting:
        device = waiting.pop()
        if bridge := device.get("pci_bridge"):
            found[device["qdev_id"]] = bridge
            waiting += bridge.get("devices", [])
    return found


def places(answer: Any) -> dict[str, tuple[int, int, int]]:
    """(bus, slot, function) of everything in ``query-pci``, by its id."""
    found = {}
    waiting = [device for bus in answer for device in bus["devices"]]
    while waiting:
        device = waiting.pop()
        found[device["qdev_id"]] = (device["bus"], device["slot"], device["function"])
        waiting += device.get("pci_bridge", {}).get("devices", [])
    return found


ECAM = 0x40_1000_0000  # VIRT_HIGH_PCIE_ECAM of hw/arm/virt.c, where guest memory ends below 256 GiB


class EcamAddress(Record, bits=64):
    """Where a function's configuration space lies (PCI Express 6.0, 7.2.2)."""

    base = address_field(63, 28)
    bus = field(27, 20)
    device = field(19, 15)
    function = field(14, 12)
    offset = field(11, 0)


async def _bar_placed(client: QMPClient, place: tuple[int, int, int]) -> bool:
    """Whether UEFI gave BAR 2 and 3 of a stand-in an address. query-pci shows it only once a driver has switched the function on."""
    bus, slot, number = place
    at = EcamAddress.build(base=ECAM, bus=bus, device=slot, function=number, offset=0x18).value
    said = await client.execute("human-monitor-command", {"command-line": f"xp /2wx {at:#x}"})
    low, high = (int(word, 16) for word in str(said).partition(":")[2].split()[:2])
    return high not in (0, 0xFFFF_FFFF) and low != 0xFFFF_FFFF and high < 0xFFFF_0000


async def _checks(vm: VmPlan, client: QMPClient, *, booted: bool) -> AsyncIterator[Check]:
    async def get(id: str, name: str) -> str:
        try:
            value = await client.execute("qom-get", {"path": f"/machine/peripheral/{id}", "property": name})
        except ExecuteError as error:
            return str(error)
        if name == "addr" and isinstance(value, int):
            slot, number = divmod(value, 8)  # a devfn
            return f"{slot:02x}.{number}"
        return str(value).rpartition("/")[2] if name in ("parent_bus", "primary-bus") else str(value)

    answer: Any = await client.execute("query-pci")
    at, ranges = places(answer), bridges(answer)
    roots = sorted(bus["bus"] for bus in answer)
    yield Check("root buses", str(sorted([0, *(bus.bus_nr for bus in vm.buses)])), str(roots))
    for bus in vm.buses:
        yield Check(f"{bus.id} parent bus", "pcie.0", await get(bus.id, "parent_bus"))
        yield Check(f"{bus.id} bus_nr", str(bus.bus_nr), await get(bus.id, "bus_nr"))
        yield Check(f"{bus.id} slot", f"{bus.slot:02x}.0", await get(bus.id, "addr"))
        if bus.numa_node is not None:
            yield Check(f"{bus.id} numa_node", str(bus.numa_node), await get(bus.id, "numa_node"))
    for vsmmu in vm.vsmmus:
        yield Check(f"{vsmmu.id} bus", vsmmu.bus, await get(vsmmu.id, "primary-bus"))
    for port in vm.ports:
        root = next((bus.bus_nr for bus in vm.buses if bus.id == port.bus), 0)
        yield Check(f"{port.id} parent bus", port.bus, await get(port.id, "parent_bus"))
        yield Check(f"{port.id} place", str((root, port.slot, 0)), str(at.get(port.id)))
        yield Check(f"{port.id} chassis", str(port.chassis), await get(port.id, "chassis"))
        if booted:
            numbers = ranges[port.id]["bus"]
            yield Check(f"{port.id} bus range", f"{port.secondary}..{port.subordinate}", f"{numbers['secondary']}..{numbers['subordinate']}")
    for assigned in vm.devices:
        yield Check(f"{assigned.id} parent bus", assigned.port, await get(assigned.id, "parent_bus"))
        yield Check(f"{assigned.id} function", f"00.{assigned.function}", await get(assigned.id, "addr"))
        if booted:
            yield Check(f"{assigned.id} guest address", str((assigned.bus, 0, assigned.function)), str(at.get(assigned.id)))
            if stands_for_bars(assigned) and vm.memory.size < 255 << 30 and assigned.id in at:
                placed = await _bar_placed(client, at[assigned.id])
                yield Check(f"{assigned.id} 64-bit BAR", "placed", "placed" if placed else "without an address")
    emulated = [(disk.id, disk.bus, disk.slot) for disk in vm.disks] + [(network.id, network.bus, network.slot) for network in vm.networks]
    for id, bus_id, slot in emulated:
        yield Check(f"{id} parent bus", bus_id, await get(id, "parent_bus"))
        yield Check(f"{id} slot", f"{slot:02x}.0", await get(id, "addr"))
