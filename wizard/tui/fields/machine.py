"""Fields of a VM's size, of the machine itself, permissions and notes."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from wizard.base.text import size
from wizard.facts.model import Moment
from wizard.host.model import Host
from wizard.plan.model import Plan, VmPlan
from wizard.plan.request import FirmwareRequest, VmRequest
from wizard.plan.steps import next_cpus, next_memory
from wizard.tui.fields.model import YES_NO, Field, count, in_bytes, word, yes
from wizard.tui.fields.shares import cpu_shares, memory_shares


def amount_fields(host: Host, moment: Moment, vm: VmRequest, plan: Plan | None) -> Iterator[Field]:
    """Memory, CPUs and hugepages, against what the host has of them."""
    section = "Memory and CPUs"
    yield Field(
        "memory",
        "memory",
        size(vm.memory),
        lambda v, t: replace(v, memory=in_bytes(t)),
        text=size(vm.memory),
        section=section,
        note="" if host.facts.memory_total else "how much the host has was not read",
        about="for example 4G or 512M; + and - take the next step",
        shares=tuple(memory_shares(host, moment, plan, vm)),
        step=lambda text, step: size(next_memory(in_bytes(text), step)),
    )
    yield Field(
        "cpus",
        "CPUs",
        str(vm.cpus),
        lambda v, t: replace(v, cpus=count(t)),
        text=str(vm.cpus),
        section=section,
        note="" if host.facts.cpus else "how many the host has was not read",
        about="a number; + and - take the next step",
        shares=tuple(cpu_shares(host, plan, vm)),
        step=lambda text, step: str(next_cpus(count(text), step)),
    )
    pools = sorted({int(pages) * 1024 for node in host.facts.nodes for pages in node.hugepages})
    yield Field(
        "hugepages",
        "hugepages",
        size(vm.hugepages) if vm.hugepages else "none",
        lambda v, t: replace(v, hugepages=None if t == "none" else in_bytes(t)),
        ("none", *map(size, pools)) if pools else (),
        text=size(vm.hugepages) if vm.hugepages else "none",
        section=section,
        about="the page size of the VM's memory",
    )


def machine_fields(host: Host, vm: VmRequest, planned: VmPlan | None) -> Iterator[Field]:
    """Name, firmware, QEMU, user."""
    section = "Machine"
    yield Field("name", "name", vm.name, section=section, about="r names it anew")
    firmware = vm.firmware or (planned.firmware if planned else None)
    images = tuple(image.executable for image in host.facts.firmware)
    yield Field(
        "firmware",
        "firmware",
        vm.firmware.code if vm.firmware else "default",
        lambda v, t: replace(v, firmware=_firmware(v, t)),
        text=vm.firmware.code if vm.firmware else "",
        section=section,
        note="" if vm.firmware else firmware.code if firmware else "none found",
        about=f"a UEFI image{': ' + ', '.join(images) if images else ''}",
    )
    yield Field(
        "target",
        "QEMU",
        vm.target or "default",
        lambda v, t: replace(v, target=t.strip() or None),
        text=vm.target or "",
        section=section,
        note="" if vm.target else f"qemu={planned.qemu}" if planned and planned.qemu else "",
        about="qemu=VERSION, for example qemu=11.1",
    )
    yield Field(
        "user",
        "user",
        vm.user,
        lambda v, t: replace(v, user=word(t, "A user name.")),
        text=vm.user,
        section=section,
        about="the user that the VM runs as",
    )
    yield Field(
        "gic", "GIC", vm.machine.gic, lambda v, t: replace(v, machine=replace(v.machine, gic=t)), ("3", "4", "max", "host", "2"), section=section
    )
    yield Field(
        "mmio_window",
        "MMIO window",
        size(vm.mmio_window) if vm.mmio_window else "default",
        lambda v, t: replace(v, mmio_window=None if t.strip() in ("", "default") else in_bytes(t)),
        text=size(vm.mmio_window) if vm.mmio_window else "",
        section=section,
        note=f"{size(planned.memory.mmio_window)}, needed {size(planned.memory.mmio_needed)}" if planned and not vm.mmio_window else "",
        about="highmem-mmio-size, a power of two",
    )


def _firmware(vm: VmRequest, text: str) -> FirmwareRequest | None:
    if not text.strip():
        return None
    return replace(vm.firmware, code=text) if vm.firmware else FirmwareRequest(code=text)


def rest_fields(vm: VmRequest, planned: VmPlan | None) -> Iterator[Field]:
    """Permissions, the QMP socket, notes."""
    section = "Permissions and notes"
    yield Field(
        "assume_accel",
        "assume accel",
        yes(vm.assume_accel),
        lambda v, t: replace(v, assume_accel=t == "yes"),
        YES_NO,
        section=section,
        about="take an unknown verdict or an assumed value for a yes",
    )
    yield Field(
        "allow_in_use",
        "allow in use",
        ", ".join(vm.allow_in_use) or "nothing",
        lambda v, t: replace(v, allow_in_use=tuple(t.replace(",", " ").split())),
        text=" ".join(vm.allow_in_use),
        section=section,
        about="functions that the host uses and that may be taken all the same",
    )
    yield Field(
        "qmp",
        "QMP socket",
        vm.qmp or "default",
        lambda v, t: replace(v, qmp=t.strip() or None),
        text=vm.qmp or "",
        section=section,
        note="" if vm.qmp or not planned else planned.qmp or "none",
    )
    yield Field("notes", "notes", vm.notes or "", lambda v, t: replace(v, notes=t), text=vm.notes, section=section)
