"""Mends of what goes wrong before there is a plan: words that libvirt drops and QEMU refuses, limits, an SMMU without its bus.

Each takes a guest and gives the text back mended; ``Beyond`` where it can't. Like the others they are tried and planned again.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from wizard.base.text import visible
from wizard.existing.guest import ROOT_BUS, Bridge, Fate, Function, Guest, Vsmmu
from wizard.mend.edits import Beyond, Edit
from wizard.mend.writers import DomainWriter, writer_of
from wizard.plan.model import VmPlan, climb
from wizard.plan.resolve import richest
from wizard.plan.rules.base import Scene

GuestMend = Callable[[str, Guest, Scene], str]
GUEST_MENDS: dict[str, tuple[str, GuestMend]] = {}
OVERHEAD = 1 << 30  # what libvirt itself adds to a guest's memory for locking (qemuDomainGetMemLockLimitBytes), and QEMU's own with it


def mends(*codes: str, does: str) -> Callable[[GuestMend], GuestMend]:
    """Register a mend."""

    def register(mend: GuestMend) -> GuestMend:
        for code in codes:
            GUEST_MENDS[code] = does, mend
        return mend

    return register


@mends("import-unknown-word", does="writes the word that is meant")
def words(text: str, guest: Guest, scene: Scene) -> str:
    """A misspelt name gets the nearest that exists; pasid= of the first cover letters is ssidsize= with the host's bits."""
    writer = writer_of(text, guest)
    for left in guest.left:
        if left.fate is not Fate.UNKNOWN:
            continue
        old = left.name.rpartition("@")[2].rpartition(" ")[2]
        if old == "pasid" and left.text.partition("=")[2] in ("on", "off", "true", "false"):
            writer.rename(left.where, old, "ssidsize")
            on = left.text.partition("=")[2] in ("on", "true")
            writer.replace(left.where, str(_pasid_bits(scene) if on else 0))
        elif left.meant is not None:
            writer.rename(left.where, old, left.meant)
    return writer.result()


def _pasid_bits(scene: Scene) -> int:
    """The most that the SMMUs of all vSMMUs supply."""
    found = [richest(scene.host, smmu, "ssidsize", assumed=True) for vsmmu in scene.vm.vsmmus if (smmu := scene.smmu(vsmmu.smmu)) is not None]
    if not found:
        raise Beyond("how wide the host's PASIDs are is not known")
    return min(found)


@mends("import-accel-dropped", does="gives each expander with functions its vSMMU")
def dropped(text: str, guest: Guest, scene: Scene) -> str:
    """The SMMU without pciBus is that of the first expander with functions, and once more of each further one."""
    writer = writer_of(text, guest)
    loose = [one for one in guest.of(Vsmmu) if isinstance(one, Vsmmu) and one.bus is None and one.accel]
    if not isinstance(writer, DomainWriter) or len(loose) != 1:
        raise Beyond("which bus is meant is not to be seen")
    held = {one.bus for one in guest.of(Vsmmu) if isinstance(one, Vsmmu)}
    free = [bus for bus in _with_functions(guest) if bus.id not in held]
    if not free:
        raise Beyond("no function is behind an expander")
    element = writer.element(loose[0].where)
    copies = []
    for expander in free[1:]:
        copy = writer.text[element.start : element.end]
        driver = element.one("driver")
        assert driver is not None
        at = driver.start - element.start + len("<driver")
        copies.append(f"{copy[:at]} pciBus='{writer.index(expander.id or '')}'{copy[at:]}")
    line = writer.text.rfind("\n", 0, element.start)
    before = writer.text[max(line, 0) : element.start]
    indent = before if line >= 0 and not before.strip() else ""
    driver = element.one("driver")
    if driver is None:
        raise Beyond("it has no <driver>")
    at = driver.start + len("<driver")
    writer.edits.append(Edit(at, at, f" pciBus='{writer.index(free[0].id or '')}'"))
    if copies:
        writer.edits.append(Edit(element.end, element.end, "".join(f"{indent}{copy}" for copy in copies)))
    return writer.result()


def _with_functions(guest: Guest) -> list[Bridge]:
    """Expanders with an assigned function somewhere below, in their order."""
    above = {one.id: one.bus for one in guest.of(Bridge) if isinstance(one, Bridge) and one.kind != "expander" and one.id and one.bus}
    roots = {climb(above, one.bus) for one in guest.of(Function) if one.bus is not None}
    return [one for one in guest.of(Bridge) if isinstance(one, Bridge) and one.kind == "expander" and one.id in roots]


@mends("memlock-hard-limit", does="raises hard_limit to what is pinned and what QEMU needs beside it")
def hard_limit(text: str, guest: Guest, scene: Scene) -> str:
    """In the unit that is written."""
    writer = writer_of(text, guest)
    if not isinstance(writer, DomainWriter):
        raise Beyond("it is no domain")
    start, end = writer.at(guest.memory.places.get("hard_limit"))
    head = writer.text[max(0, start - 200) : start].rpartition("<")[2]
    unit = re.search(r"unit\s*=\s*[\"'](\w+)[\"']", head)
    size = {"b": 1, "bytes": 1, "KB": 1000, "k": 1 << 10, "KiB": 1 << 10, "MB": 10**6, "M": 1 << 20, "MiB": 1 << 20, "GB": 10**9, "G": 1 << 30,
            "GiB": 1 << 30, "TiB": 1 << 40}.get(unit[1] if unit else "KiB")  # fmt: skip
    if size is None:
        raise Beyond("its unit is not known")
    writer.edits.append(Edit(start, end, str(-(-_pinned(scene.vm) // size))))
    return writer.result()


def _pinned(vm: VmPlan) -> int:
    return max(vm.memory.memlock, vm.memory.size) + OVERHEAD


@mends("smmus-joined", does="moves the function to a free root port behind the vSMMU of its own SMMU")
def joined(text: str, guest: Guest, scene: Scene) -> str:
    """Only to a port that is there: a new one would be another topology."""
    writer, vm = writer_of(text, guest), scene.vm
    devices = {device.host: device for device in guest.of(Function) if isinstance(device, Function)}
    held = {device.bus for device in guest.devices if device.pci}
    home = {vsmmu.id: vsmmu.smmu for vsmmu in vm.vsmmus if vm.devices_of(vsmmu)}
    for vsmmu in vm.vsmmus:
        for device in vm.devices_of(vsmmu):
            if not vsmmu.accel or device.smmu == vsmmu.smmu:
                continue
            fits = [one for one in vm.vsmmus if one.accel and home.setdefault(one.id, device.smmu) == device.smmu]
            port = next((port for one in fits for port in _free_ports(guest, one.bus, held)), None)
            if port is None or port.id is None:
                raise Beyond("there is no free root port behind a vSMMU of its SMMU")
            held.add(port.id)
            writer.put(devices[device.host], "bus", port.id)
            if "slot" in devices[device.host].places:
                writer.put(devices[device.host], "slot", "0")
    return writer.result()


def _free_ports(guest: Guest, bus: str, held: set[str | None]) -> list[Bridge]:
    return [one for one in guest.of(Bridge) if isinstance(one, Bridge) and one.kind == "port" and one.bus == bus and one.id not in held]


@mends("two-vsmmus-on-one-bus", "import-bus-missing", does="gives the vSMMU the expander with functions that has none")
def homeless(text: str, guest: Guest, scene: Scene) -> str:
    """Of two on one bus the first stays; the other, or one whose bus is none, has its place where one expander with functions is left over."""
    writer = writer_of(text, guest)
    expanders = {one.id for one in guest.of(Bridge) if isinstance(one, Bridge) and one.kind == "expander"} | {ROOT_BUS}
    held: set[str] = set()
    lost = []
    for one in guest.of(Vsmmu):
        if one.bus is not None and one.bus in expanders and one.bus not in held:
            held.add(one.bus)
        elif one.bus is not None:
            lost.append(one)
    free = [bus for bus in _with_functions(guest) if bus.id not in held]
    if len(free) != len(lost) or len(lost) != 1:
        raise Beyond("which expander is meant is not to be seen")
    writer.put(lost[0], "bus", free[0].id or "")
    return writer.result()


@mends("id-twice", "id-reserved", "id-grammar", does="gives the device another id, and what is on it follows")
def ids(text: str, guest: Guest, scene: Scene) -> str:
    """Of a port and a device with one id the port is renamed: that what is on it names it by bus= is written beside it."""
    writer = writer_of(text, guest)
    taken = {device.id for device in guest.devices}
    refused = [finding.what for finding in scene.vm.findings if finding.code in ("id-reserved", "id-grammar")]
    for id_ in sorted({device.id for device in guest.devices if device.id is not None and "id" not in device.implied}):
        same = [device for device in guest.devices if device.id == id_]
        wrong = any(f": {visible(id_)} can't be " in what for what in refused)
        if len(same) < 2 and not wrong:
            continue
        bridges = [device for device in same if isinstance(device, Bridge)]
        if len(bridges) > 1:
            raise Beyond(f"two buses are called {id_}, and which of them is meant is not to be seen")
        for device in same if wrong else bridges or same[1:]:
            new = next(name for name in (f"{_stem(id_)}.{number}" for number in range(2, 10_000)) if name not in taken)
            taken.add(new)
            if isinstance(device, Function) and device.nodes:
                raise Beyond(f"other options name {id_} too")
            writer.put(device, "id", new)
            for below in guest.devices if isinstance(device, Bridge) else ():
                if below.bus == id_:
                    writer.put(below, "bus", new)
    return writer.result()


def _stem(id_: str) -> str:
    """What an id becomes part of: letters first, and only what an id may have."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "", id_)[:48]
    return kept if kept[:1].isalpha() else f"id{kept}"
