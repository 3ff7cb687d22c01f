"""A VM that exists as a request, every number written, and what is found on the way. The planner's rules judge the rest."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Any

from wizard.base.finding import Finding, Severity
from wizard.base.text import plural, size, visible
from wizard.existing import findings as say
from wizard.existing.guest import ROOT_BUS, Disk, Fate, Function, Guest, Left, Network, Origin, VirtioIommu, Vsmmu, Where
from wizard.existing.numbers import integer
from wizard.existing.refused import refusals
from wizard.existing.tree import Tree
from wizard.plan.memory import cpu_text
from wizard.plan.numbers import Names
from wizard.plan.properties import AUTO, DECLARED, Declaration, Properties
from wizard.plan.regions import DEFAULT_HIGH_MMIO
from wizard.plan.request import (
    DEFAULT_CPUS,
    DiskRequest,
    FirmwareRequest,
    FunctionRequest,
    HotplugRequest,
    KeptLibvirt,
    KeptQemu,
    MachineRequest,
    Mode,
    NetworkRequest,
    NodeRequest,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.rules.guest import name_fault

_PROGRAMS = {Origin.QEMU: "QEMU", Origin.LIBVIRT: "libvirt"}
_QEMU_MEMORY = 128 << 20  # without -m
_LISTED = 200  # parts in one finding
_SHORT = 80  # characters of an option
_SLASHES = re.compile(r"/{2,}")
_GICS = ("2", "3", "4", "max", "host")


def request_of(guest: Guest) -> tuple[VmRequest, list[Finding]]:
    """The request of a VM whose places are filled in (``placement.complete``), and what was found; never raises."""
    return _Maker(guest).make()


class _Maker:
    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.subject = visible(guest.source)
        self.findings: list[Finding] = []
        self.tree = Tree(guest)
        self.names = Names(device.id for device in guest.devices)

    def find(self, code: Any, where: Where | None, *, severity: Severity | None = None, **values: Any) -> None:
        """A finding at a place of the input."""
        shown = self.at(where)
        self.findings.append(code.at(self.subject, severity=severity, where=shown, **{name: _shown(value) for name, value in values.items()}))

    def at(self, where: Where | None) -> str:
        """A place without the file's name, which is the subject."""
        if where is None:
            return "the whole"
        text = where.show().removeprefix(where.source).removeprefix(", ")
        return visible(text) or "the whole"

    def make(self) -> tuple[VmRequest, list[Finding]]:
        guest = self.guest
        self.left()
        for where, word, said in refusals(guest):
            self.find(say.REFUSED, where, word=word, said=said)
        self.machine()
        vsmmus = tuple(self.vsmmu(device) for device in guest.of(Vsmmu) if isinstance(device, Vsmmu) and device.bus is not None)
        virtio = any(guest.of(VirtioIommu))
        mode = Mode.VIRTIO_IOMMU if virtio else Mode.ACCEL if vsmmus else Mode.NONE
        functions = tuple(made for device in guest.of(Function) if isinstance(device, Function) and (made := self.function(device, mode)))
        hotplug, others = self.rest()
        memory = guest.memory.size if guest.memory.size is not None else _QEMU_MEMORY
        request = VmRequest(
            name=guest.name or self.name_of_file(),
            functions=functions,
            memory=memory,
            hugepages=guest.memory.hugepages,
            cpus=guest.cpus if guest.cpus is not None else 1 if guest.origin is Origin.QEMU else DEFAULT_CPUS,
            numa=self.nodes(),
            firmware=self.firmware(),
            machine=self.machine_request(),
            disks=tuple(self.disk(device) for device in guest.of(Disk) if isinstance(device, Disk)),
            networks=tuple(self.network(device) for device in guest.of(Network) if isinstance(device, Network)),
            mode=mode,
            vsmmus=vsmmus,
            hotplug=hotplug,
            others=others,
            mmio_window=guest.machine.mmio_window if guest.machine.mmio_window is not None else DEFAULT_HIGH_MMIO,
            user=guest.user or "root",
            qmp=guest.qmp if guest.qmp and guest.qmp.startswith("/") else None,
            assume_accel=guest.running is not None and any(vsmmu.accel for vsmmu in vsmmus),
            uuid=guest.uuid,
            notes=guest.notes,
            kept_qemu=self.kept_qemu(),
            kept_libvirt=self.kept_libvirt(),
        )
        self.limits(request)
        self.implied()
        return request, self.findings

    def name_of_file(self) -> str:
        """A VM without a name is called as its file is, as far as a VM can be."""
        stem = posixpath.basename(self.guest.source).partition(".")[0]
        return stem if stem and name_fault(stem) is None else "vm"

    def left(self) -> None:
        """What is not in the model."""
        told = [left for left in self.guest.left if left.fate in (Fate.UNKNOWN, Fate.UNRESOLVED, Fate.LOST)]
        if len(told) > _LISTED:
            more = f"{len(told) - _LISTED} more parts of it"
            self.find(
                say.UNKNOWN_WORD, told[_LISTED].where, word=more, meant="", why="Only the first are told one by one.", fix="Correct those first."
            )
        for left in told[:_LISTED]:
            word = f"{left.name}{f' of {left.of}' if left.of else ''}"
            match left.fate:
                case Fate.UNKNOWN:
                    wrong = left.meant is not None or self.guest.origin is Origin.QEMU
                    self.find(
                        say.UNKNOWN_WORD,
                        left.where,
                        severity=Severity.ERROR if wrong else Severity.WARNING,
                        word=word,
                        meant=f" (is {visible(left.meant)} meant?)" if left.meant else "",
                        why=f"{left.said[:1].upper()}{left.said[1:]}." if left.said else "What it does to the VM was not checked.",
                        fix=f"Write {visible(left.meant)}." if left.meant else "Correct it, or take it out.",
                    )
                case Fate.UNRESOLVED:
                    self.find(say.UNRESOLVED, left.where, word=left.text or word, said=f": {left.said}" if left.said else "")
                case Fate.LOST:
                    self.find(say.NOT_CARRIED, left.where, word=word, said=left.said or "a profile has no word for it")
        kept = [left for left in self.guest.left if left.fate is Fate.KEPT]
        if kept:
            parts = [f"{visible(_told(left))} ({_line(left.where)})" for left in kept[:_LISTED]]
            more = f" and {len(kept) - _LISTED} more" if len(kept) > _LISTED else ""
            self.findings.append(
                say.KEPT.at(
                    self.subject, count=plural(len(kept), "part"), are="it is" if len(kept) == 1 else "they are", parts=", ".join(parts) + more
                )
            )

    def machine(self) -> None:
        """The machine as a whole."""
        machine = self.guest.machine
        if machine.arch not in (None, "aarch64"):
            self.find(say.NOT_ARM, machine.place("arch"), arch=machine.arch)
        accelerated = [device for device in self.guest.of(Vsmmu) if isinstance(device, Vsmmu) and device.accel]
        if not machine.kvm and machine.arch in (None, "aarch64"):
            severity = Severity.ERROR if any(device.bus is not None for device in accelerated) else Severity.WARNING
            self.find(say.NO_KVM, machine.where or self.guest.where, severity=severity)
        for device in accelerated:
            if device.bus is None and self.guest.origin is Origin.LIBVIRT:
                self.find(say.ACCEL_DROPPED, device.place("accel"))

    def machine_request(self) -> MachineRequest:
        machine = self.guest.machine
        gic = machine.gic or "3"
        if gic not in _GICS:
            self.find(say.BAD_VALUE, machine.place("gic"), name="the GIC version", value=gic, allowed="2, 3, 4, max or host")
            gic = "3"
        iommu = machine.iommu if machine.iommu == "smmuv3" else None
        return MachineRequest(
            type=machine.type,
            gic=gic,  # type: ignore[arg-type]  # one of them, by the lines above
            its=machine.its,
            acpi=machine.acpi,
            uefi=self.guest.firmware is not None,
            iommu=iommu,  # type: ignore[arg-type]  # the same
        )

    def vsmmu(self, device: Vsmmu) -> VsmmuRequest:
        """Of a vSMMU on a bus."""
        id_ = device.id or self.names.give("smmuv3.", 1)
        expander = self.tree.expander(device.bus)
        if device.bus != ROOT_BUS and expander is None:
            there = self.guest.device(device.bus) is not None
            self.find(
                say.NO_BUS, device.place("bus"), id=id_, bus=device.bus,
                because="which is no root complex" if there else "and there is none",
                why="QEMU: 'SMMU should be attached to …'." if there else "libvirt: 'Could not find a suitable controller for smmuv3'.",
                wanted="a pxb-pcie, or of pcie.0",
            )  # fmt: skip
        elif expander is not None and (expander.bus != ROOT_BUS or expander.function):
            self.find(
                say.NO_BUS, expander.place("bus"), id=expander.id, bus=expander.bus, because="and not in a slot of its own on pcie.0",
                why="QEMU takes an expander on pcie.0 only.", wanted="pcie.0",
            )  # fmt: skip
        return VsmmuRequest(
            id=id_,
            bus=device.bus,
            bus_nr=expander.bus_nr if expander else None,
            slot=expander.slot if expander else None,
            numa_node=expander.numa_node if expander else None,
            accel=device.accel,
            properties=self.properties(device),
        )

    def properties(self, device: Vsmmu) -> Properties:
        """Written ones as they are; what is left out is QEMU's auto, and without accel what an emulated SMMU has."""
        values: dict[str, Any] = {}
        for one in DECLARED:
            text = device.properties.get(one.name)
            if text is None:
                values[one.name] = AUTO if device.accel else one.plain(one.unset)
                continue
            values[one.name] = self._property(device, one, text)
        return Properties(**values)

    def _property(self, device: Vsmmu, one: Declaration, text: str) -> str | int | None:
        words = {"true": "on", "yes": "on", "y": "on", "false": "off", "no": "off", "n": "off"}
        word = words.get(text.lower(), text) if one.switch else text
        number = integer(word)
        if word == AUTO or (one.switch and word in ("on", "off")):
            return word
        if not one.switch and number is not None:
            return number
        self.find(say.BAD_VALUE, device.place(one.name), name=one.name, value=text, allowed=one.allowed)
        return None

    def function(self, device: Function, mode: Mode) -> FunctionRequest | None:
        """Of an assigned function; None where nobody says which."""
        id_ = device.id or self.names.give("dev", 0)
        if device.host is None:
            said = f": only the descriptor {device.descriptor} is there" if device.descriptor else ""
            self.find(say.NO_FUNCTION, device.place("host"), id=id_, said=said)
            return None
        bridge = self.tree.bridge(device.bus)
        if bridge is None and device.bus != ROOT_BUS:
            self.find(
                say.NO_BUS, device.place("bus"), id=id_, bus=device.bus or "a bus", because="and there is no such bridge",
                why="QEMU: 'Bus … not found'; libvirt makes controllers that are missing, wherever there is room.", wanted="a root port",
            )  # fmt: skip
        vsmmu = self.tree.vsmmu_above(device.bus)
        simple = bridge is not None and self.tree.simple(bridge)
        return FunctionRequest(
            host=device.host,
            id=id_,
            mode=Mode.NONE if mode is Mode.ACCEL and vsmmu is None else None,
            vsmmu=vsmmu.id if vsmmu else None,
            port=device.bus if device.bus else None,
            slot=device.slot if device.slot and not simple else None,
            port_slot=bridge.slot if bridge is not None and simple else None,
            chassis=bridge.chassis if bridge is not None and simple else None,
            function=device.function,
            driver=device.vfio_driver,
            ats=device.ats if device.ats in ("on", "off", "auto") else None,  # type: ignore[arg-type]  # by its own words
            iommufd=device.iommufd is not None,
            rom=device.rom,
        )

    def rest(self) -> tuple[tuple[HotplugRequest, ...], tuple[Any, ...]]:
        """Ports that are left free, and everything else on the buses."""
        for device in self.tree.without_place():
            self.find(say.PLACE_UNKNOWN, device.where, program=_PROGRAMS[self.guest.origin], id=device.id or device.driver)
        return self.tree.hotplug(), self.tree.others(self.names)

    def nodes(self) -> tuple[NodeRequest, ...]:
        guest = self.guest
        initiators: dict[int, list[str]] = {}
        for device in guest.of(Function):
            for number in device.nodes if isinstance(device, Function) else ():
                initiators.setdefault(number, []).append(device.id or "")
        made = []
        for place, node in enumerate(guest.nodes or ()):
            if node.id != place:
                self.find(say.BAD_VALUE, node.where, name="the id of a NUMA node", value=node.id, allowed=f"{place}: a profile counts them from 0")
            owners = initiators.get(node.id, [])
            if len(owners) > 1:
                self.findings.append(
                    say.NOT_CARRIED.at(
                        self.subject, where=self.at(node.where), word=f"that node {node.id} belongs to {visible(' and '.join(owners))}",
                        said="a profile has one function for each node",
                    )
                )  # fmt: skip
            made.append(NodeRequest(memory=node.memory, cpus=cpu_text(node.cpus), host_node=node.host_node, initiator=owners[0] if owners else None))
        for number, owners in initiators.items():
            if number >= len(made):
                self.findings.append(
                    say.NOT_CARRIED.at(self.subject, where="the whole", word=f"node {number} of {visible(owners[0])}", said="the VM has no such node")
                )
        return tuple(made)

    def firmware(self) -> FirmwareRequest | None:
        firmware = self.guest.firmware
        if firmware is None or firmware.auto:
            return None
        forms = []
        for name, form in (("code_format", firmware.code_format), ("vars_format", firmware.vars_format)):
            if form not in ("raw", "qcow2"):
                self.find(say.BAD_VALUE, firmware.place(name), name="the format of the firmware", value=form, allowed="raw or qcow2")
            forms.append("qcow2" if form == "qcow2" else "raw")
        return FirmwareRequest(
            code=self.path(firmware.code, firmware.place("code")),
            code_format=forms[0],  # type: ignore[arg-type]  # by the line above
            vars_template=self.path(firmware.vars_template, firmware.place("vars_template")) if firmware.vars_template else None,
            vars=self.path(firmware.vars, firmware.place("vars")) if firmware.vars else None,
            vars_format=forms[1],  # type: ignore[arg-type]
        )

    def disk(self, device: Disk) -> DiskRequest:
        return DiskRequest(
            path=self.path(device.path, device.place("path")),
            format="qcow2" if device.format == "qcow2" else "raw",
            readonly=device.readonly,
            id=device.id,
            slot=device.slot,
            bus=device.bus,
        )

    def network(self, device: Network) -> NetworkRequest:
        return NetworkRequest(kind=device.kind, source=device.source, mac=device.mac, id=device.id, slot=device.slot, bus=device.bus)

    def path(self, text: str, where: Where | None) -> str:
        """A path as a profile has it: absolute, and with one slash where several stand, which lead to the same file."""
        if text.startswith("/") or not text:
            return _SLASHES.sub("/", text)
        base = posixpath.dirname(self.guest.source) if posixpath.isabs(self.guest.source) else "/"
        taken = posixpath.normpath(posixpath.join(base, text))
        self.find(say.RELATIVE, where, path=text, taken=taken)
        return taken

    def limits(self, request: VmRequest) -> None:
        """What the process may lock, where it is written."""
        memory = self.guest.memory
        if not request.functions:
            return
        if memory.hard_limit is not None and memory.hard_limit <= request.memory:
            self.find(say.HARD_LIMIT, memory.place("hard_limit"), limit=size(memory.hard_limit), memory=size(request.memory))
        if memory.memlock is not None and 0 <= memory.memlock <= request.memory and request.user != "root":
            self.find(say.MEMLOCK_LIMIT, memory.place("memlock"), limit=size(memory.memlock), memory=size(request.memory))

    def implied(self) -> None:
        """What was filled in."""
        parts = []
        for device in self.guest.devices:
            names = [name for name in ("bus", "slot", "bus_nr", "chassis") if name in device.implied and getattr(device, name, None) is not None]
            if names:
                parts.append(f"{device.id or device.driver} " + " ".join(f"{name}={getattr(device, name)}" for name in names))
        if self.guest.memory.size is None:
            parts.append("memory=128M")
        if parts:
            self.findings.append(say.IMPLIED.at(self.subject, program=_PROGRAMS[self.guest.origin], parts=visible("; ".join(parts[:_LISTED]))))

    def kept_qemu(self) -> KeptQemu | None:
        kept = [left for left in self._kept() if self.guest.origin is Origin.QEMU]
        if not kept:
            return None
        return KeptQemu(
            options=tuple(left.text for left in kept if left.of is None),
            properties=tuple(f"{left.of}.{left.text}" for left in kept if left.of is not None),
        )

    def kept_libvirt(self) -> KeptLibvirt | None:
        kept = [left for left in self._kept() if self.guest.origin is Origin.LIBVIRT]
        if not kept:
            return None
        return KeptLibvirt(
            domain=tuple(left.text for left in kept if not left.under),
            devices=tuple(left.text for left in kept if left.under == "devices"),
            inside=tuple(f"{left.under}: {left.text}" for left in kept if left.under not in ("", "devices")),
        )

    def _kept(self) -> Iterable[Left]:
        return (left for left in self.guest.left if left.fate is Fate.KEPT)


def _shown(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value


def _told(left: Left) -> str:
    """What a part is called: an option with its value, where that is short."""
    named = f"{left.of}: {left.text}" if left.of else left.text
    return named if left.name.startswith("-") and len(named) <= _SHORT else left.name


def _line(where: Where) -> str:
    return f"line {where.line}" if where.line is not None else f"word {where.word}"
