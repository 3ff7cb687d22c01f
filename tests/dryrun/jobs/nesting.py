"""Asks a real kernel, through /dev/iommu and VFIO, what the simulated one answers too; writes /out/answers.json.

Runs as root in the emulated host. The NVMe at 0000:14:00.0 makes the DMA: its controller fetches a command from an address that the
guest's stage 1 does not map.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import glob
import json
import mmap
import os
import struct
import subprocess
import time
from collections.abc import Callable
from typing import Any

from wizard.arch.command import Op
from wizard.arch.ste import STE
from wizard.nesting.invalidate import encode
from wizard.smmu.tables import Allocator, ContextTable, PageTable, context_descriptor

PCI = "/sys/bus/pci/devices/"
NVME, VF, NIC = "0000:14:00.0", "0000:11:10.0", "0000:41:00.0"
TWINS = ("0000:81:00.0", "0000:81:00.1")
RAM, RAM_SIZE, VSID = 0x4000_0000, 1 << 20, 0x900
UNMAPPED = 0x1234_5000
PATIENCE = 120  # seconds


def io(number: int) -> int:
    return 0x3B << 8 | number


class Refused(Exception):
    """An ioctl failed: the name of its errno, and what it wrote back."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(name)
        self.name, self.data = name, data


def call(descriptor: int, number: int, layout: str, *values: int) -> tuple[int, ...]:
    size = struct.calcsize(layout)
    # Above 1,024 bytes Python hands its own buffer to the kernel, which writes to it even when it refuses.
    data = bytearray(struct.pack(layout, *values).ljust(2048, b"\0"))
    try:
        fcntl.ioctl(descriptor, io(number), data)
    except OSError as error:
        raise Refused(errno.errorcode.get(error.errno or 0, str(error.errno)), bytes(data[:size])) from error
    return struct.unpack(layout, data[:size])


def answer(action: Callable[[], object]) -> str:
    try:
        action()
    except Refused as refused:
        return refused.name
    return "ok"


class Function:
    """A function on vfio-pci, its cdev open."""

    def __init__(self, address: str) -> None:
        self.address = address
        with open(PCI + address + "/driver_override", "w") as file:
            file.write("vfio-pci")
        if os.path.exists(PCI + address + "/driver"):
            with open(PCI + address + "/driver/unbind", "w") as file:
                file.write(address)
        with open("/sys/bus/pci/drivers_probe", "w") as file:
            file.write(address)
        self.cdev = -1
        for _ in range(200):
            found = glob.glob(PCI + address + "/vfio-dev/vfio*")
            path = "/dev/vfio/devices/" + os.path.basename(found[0]) if found else ""
            if path and os.path.exists(path):
                self.cdev = os.open(path, os.O_RDWR)
                break
            time.sleep(0.05)
        self.id = 0

    def bind(self, iommu: int) -> None:
        self.id = call(self.cdev, 118, "IIiI", 16, 0, iommu, 0)[3]

    def attach(self, page_table: int) -> None:
        call(self.cdev, 119, "III", 12, 0, page_table)

    def region(self, index: int) -> tuple[int, int]:
        values = call(self.cdev, 108, "IIIIQQ", 32, 0, index, 0, 0, 0)
        return values[4], values[5]


class Context:
    """One /dev/iommu with an IOAS and some memory in it."""

    def __init__(self, *, at: int = RAM) -> None:
        self.fd = os.open("/dev/iommu", os.O_RDWR)
        self.ioas = call(self.fd, 0x81, "III", 12, 0, 0)[2]
        self.memory = mmap.mmap(-1, RAM_SIZE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.mapped = answer(lambda: call(self.fd, 0x85, "IIIIQQQ", 40, 7, self.ioas, 0, self.address, RAM_SIZE, at))

    def parent(self, function: Function, flags: int = 1) -> int:
        return call(self.fd, 0x89, "IIIIIIIIQII", 48, flags, function.id, self.ioas, 0, 0, 0, 0, 0, 0, 0)[4]

    def viommu(self, function: Function, parent: int, kind: int = 1) -> int:
        return call(self.fd, 0x90, "IIIIIIIIQ", 40, 0, kind, function.id, parent, 0, 0, 0, 0)[5]

    def nested(self, function: Function, viommu: int, words: tuple[int, int]) -> int:
        data = ctypes.create_string_buffer(struct.pack("<QQ", *words))
        return call(self.fd, 0x89, "IIIIIIIIQII", 48, 0, function.id, viommu, 0, 0, 2, 16, ctypes.addressof(data), 0, 0)[4]

    def vdevice(self, viommu: int, function: Function, vsid: int) -> int:
        return call(self.fd, 0x91, "IIIIQ", 24, viommu, function.id, 0, vsid)[3]

    def veventq(self, viommu: int, depth: int) -> tuple[int, int]:
        """Its object's number and its file descriptor."""
        values = call(self.fd, 0x93, "IIIIIIII", 32, 0, viommu, 1, depth, 0, 0, 0)
        return values[5], values[6]

    def destroy(self, number: int) -> None:
        call(self.fd, 0x80, "II", 8, number)

    def invalidate(self, viommu: int, commands: list[tuple[int, int]]) -> tuple[str, int]:
        """The errno's name or ok, and entry_num as the kernel left it."""
        data = ctypes.create_string_buffer(b"".join(struct.pack("<QQ", *words) for words in commands))
        layout = "IIQIIII"
        try:
            values = call(self.fd, 0x8D, layout, 32, viommu, ctypes.addressof(data), 1, 16, len(commands), 0)
        except Refused as refused:
            return refused.name, struct.unpack(layout, refused.data)[5]
        return "ok", values[5]


class Ram:
    """The context's memory by guest physical address, for the table builders."""

    def __init__(self, memory: mmap.mmap) -> None:
        self.memory = memory

    def read(self, address: int) -> int | None:
        word: int = struct.unpack_from("<Q", self.memory, address - RAM)[0]
        return word

    def write(self, address: int, word: int) -> None:
        struct.pack_into("<Q", self.memory, address - RAM, word)

    def zero(self, address: int, size: int) -> None:
        self.memory[address - RAM : address - RAM + size] = bytes(size)


def entries(context: Context, function: Function, viommu: int) -> list[dict[str, Any]]:
    """Every Config, every EATS, and every single bit of words 0 and 1."""
    base = STE.build(V=1, Config=5, S1ContextPtr=RAM).words[:2]
    cases = [STE.build(V=v, Config=config, S1ContextPtr=RAM).words[:2] for v in (0, 1) for config in range(8)]
    cases += [STE.build(V=1, Config=config, EATS=eats).words[:2] for config in (0, 4, 5) for eats in range(4)]
    cases += [(base[0] | 1 << bit, base[1]) for bit in range(4, 64)] + [(base[0], base[1] | 1 << bit) for bit in range(64)]
    found = []
    for low, high in cases:
        try:
            context.destroy(context.nested(function, viommu, (low, high)))
            said = "ok"
        except Refused as refused:
            said = refused.name
        found.append({"words": [low, high], "answer": said})
    return found


def commands(context: Context, viommu: int) -> list[dict[str, Any]]:
    good = encode(Op.TLBI_NH_ASID, ASID=1)
    found = []
    for opcode in range(256):
        if opcode == Op.ATC_INV:
            continue  # the emulated SMMU has no ATS: what its hardware makes of the command is not the question
        word = (opcode | VSID << 32, 0) if opcode in (Op.CFGI_CD, Op.CFGI_CD_ALL) else (opcode, 0)
        batch = [good, word, good]
        said, done = context.invalidate(viommu, batch)
        found.append({"batch": batch, "answer": said, "done": done})
    for batch in ([good, encode(Op.CFGI_CD, StreamID=VSID + 1)], [good] * 70 + [encode(Op.TLBI_EL2_ALL)], [good] * 130):
        said, done = context.invalidate(viommu, list(batch))
        found.append({"batch": list(batch), "answer": said, "done": done})
    return found


PASS = (Op.TLBI_NH_ALL, Op.TLBI_NSNH_ALL, Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.TLBI_NH_VAA, Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV)


def fields(context: Context, viommu: int) -> list[dict[str, Any]]:
    """The opcodes that may pass, with every single bit beside the opcode and the vSID; and the range fields in every combination of 0 and not.

    Each goes alone: what a kernel lets through, the emulated hardware meets.
    """
    cases: list[tuple[int, int]] = []
    for op in PASS:
        named = op in (Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV)
        base = op | (VSID << 32 if named else 0)
        cases += [(base | 1 << bit, 0) for bit in range(8, 32 if named else 64)] + [(base, 1 << bit) for bit in range(64)]
    for op in (Op.TLBI_NH_VA, Op.TLBI_NH_VAA):
        for tg in range(4):
            for ttl in range(4):
                for num, scale in ((0, 0), (3, 0), (0, 3), (31, 31)):
                    cases.append(encode(op, TG=tg, TTL=ttl, NUM=num, SCALE=scale, Address=0x10_0000))
    cases += [encode(Op.ATC_INV, StreamID=VSID, Size=size) for size in (0, 52, 53, 63)]
    found = []
    for words in cases:
        said, done = context.invalidate(viommu, [words])
        found.append({"words": list(words), "answer": said, "done": done})
    return found


def depths(context: Context, viommu: int) -> list[tuple[int, str]]:
    """How deep a vEVENTQ may be."""
    found = []
    for depth in (0, 1, 1 << 18, 1 << 19, (1 << 19) + 1, 1 << 20, (1 << 32) - 1):
        try:
            number, queue = context.veventq(viommu, depth)
        except Refused as refused:
            found.append((depth, refused.name))
            continue
        os.close(queue)
        context.destroy(number)
        found.append((depth, "ok"))
    return found


def lengths(context: Context, viommu: int) -> list[tuple[int, str, int]]:
    """How long an array of commands may be: the first one is refused, so that none is executed."""
    found = []
    for count in (0, 1, 1 << 18, 1 << 19, (1 << 19) + 1, 1 << 20):
        said, done = context.invalidate(viommu, [(Op.TLBI_EL2_ALL, 0)] * count)
        found.append((count, said, done))
    return found


def dma(function: Function) -> None:
    """The NVMe controller is told of queues at UNMAPPED, and rung."""
    _, config = function.region(7)
    (command,) = struct.unpack("<H", os.pread(function.cdev, 2, config + 4))
    os.pwrite(function.cdev, struct.pack("<H", command | 6), config + 4)
    _, bar = function.region(0)

    def write(offset: int, value: int, size: str = "<I") -> None:
        os.pwrite(function.cdev, struct.pack(size, value), bar + offset)

    def read(offset: int) -> int:
        value: int = struct.unpack("<I", os.pread(function.cdev, 4, bar + offset))[0]
        return value

    write(0x14, 0)
    until(lambda: not read(0x1C) & 1, "the NVMe to stop")
    write(0x24, 1 << 16 | 1)
    for offset, value in ((0x28, UNMAPPED), (0x2C, 0), (0x30, UNMAPPED + 0x1000), (0x34, 0)):
        write(offset, value)
    write(0x14, 4 << 20 | 6 << 16 | 1)
    until(lambda: bool(read(0x1C) & 1), "the NVMe to get ready")
    write(0x1000, 1)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for the device: an emulated host on a busy machine takes its time."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE} s for {what}")
        time.sleep(0.05)


def events(context: Context, function: Function, viommu: int) -> dict[str, Any]:
    """The event of an access that stage 1 does not map, as userspace reads it."""
    ram, space = Ram(context.memory), Allocator(RAM, RAM + RAM_SIZE)
    contexts = ContextTable(ram, space)
    table = PageTable(ram, space, stage=1)
    contexts.set(0, context_descriptor(table, asid=1, output_bits=44))
    _, queue = context.veventq(viommu, 8)
    second = answer(lambda: context.veventq(viommu, 8))
    os.set_blocking(queue, False)
    words = STE.build(V=1, Config=5, S1DSS=2, S1CIR=1, S1COR=1, S1CSH=3, **contexts.fields).words[:2]
    function.attach(context.nested(function, viommu, (words[0], words[1])))
    dma(function)
    data = b""

    def came() -> bool:
        nonlocal data
        try:
            data = os.read(queue, 4096)
        except BlockingIOError:
            return False
        return bool(data)  # the kernel answers with nothing while there is none (iommufd_veventq_fops_read)

    until(came, "the event of an unmapped access")
    return {"second_queue": second, "record": data.hex(), "address": UNMAPPED}


def nested(found: dict[str, Any], functions: dict[str, Function]) -> None:
    nvme, vf, nic = functions[NVME], functions[VF], functions[NIC]
    context = Context()
    for function in (nvme, vf, nic):
        function.bind(context.fd)
    parent = context.parent(nvme)
    nvme.attach(parent)
    viommu = context.viommu(nvme, parent)
    translate = context.nested(nvme, viommu, STE.build(V=1, Config=5, S1ContextPtr=RAM).words[:2])  # type: ignore[arg-type]
    bypass = context.nested(nvme, viommu, (0b1001, 0))
    found["attach_bypass_without_vdevice"] = answer(lambda: nvme.attach(bypass))
    found["attach_stage1_without_vdevice"] = answer(lambda: nvme.attach(translate))
    found["attach_other_smmu"] = answer(lambda: nic.attach(bypass))
    found["viommu_other_smmu"] = answer(lambda: context.viommu(nic, parent))
    found["viommu_plain_parent"] = answer(lambda: context.viommu(nvme, context.parent(nvme, 0)))
    found["viommu_default_type"] = answer(lambda: context.viommu(nvme, parent, 0))
    found["viommu_cmdqv"] = answer(lambda: context.viommu(nvme, parent, 2))
    found["vdevice"] = answer(lambda: context.vdevice(viommu, nvme, VSID))
    found["vdevice_again"] = answer(lambda: context.vdevice(viommu, nvme, VSID + 1))
    found["vdevice_same_vsid"] = answer(lambda: context.vdevice(viommu, vf, VSID))
    found["vdevice_other_smmu"] = answer(lambda: context.vdevice(viommu, nic, VSID + 2))
    found["veventq_no_depth"] = answer(lambda: context.veventq(viommu, 0))
    found["depths"] = depths(context, viommu)
    found["lengths"] = lengths(context, viommu)
    found["entries"] = entries(context, nvme, viommu)
    found["attach_stage1_with_vdevice"] = answer(lambda: nvme.attach(translate))
    found["commands"] = commands(context, viommu)
    found["fields"] = fields(context, viommu)
    found["event"] = events(context, nvme, viommu)


def layouts(found: dict[str, Any], function: Function) -> None:
    """Memory in the SW MSI window, and above the SMMU's 44 bits."""
    for name, place in (("window", 0x800_0000), ("aperture", 1 << 44)):
        context = Context(at=place)
        function.bind(context.fd)
        try:
            parent = context.parent(function)
            found[f"{name}_parent"] = "ok"
            found[f"{name}_attach"] = answer(lambda parent=parent: function.attach(parent))  # type: ignore[misc]
        except Refused as refused:
            found[f"{name}_parent"] = refused.name
        os.close(function.cdev)
        os.close(context.fd)
        function.__init__(function.address)  # type: ignore[misc]


def twins(found: dict[str, Any], first: Function, second: Function) -> None:
    """Problem 31: two functions of one group, as QEMU attaches them."""
    context = Context()
    first.bind(context.fd)
    second.bind(context.fd)
    parent = context.parent(first)
    first.attach(parent)
    viommu = context.viommu(first, parent)
    first.attach(context.nested(first, viommu, (0b1001, 0)))
    found["second_of_a_group"] = answer(lambda: second.attach(parent))
    context.vdevice(viommu, first, VSID)
    words = STE.build(V=1, Config=5, S1ContextPtr=RAM).words[:2]
    translate = context.nested(first, viommu, (words[0], words[1]))
    found["one_of_a_group"] = answer(lambda: first.attach(translate))


def main() -> None:
    subprocess.run(["modprobe", "-a", "vfio-pci", "iommufd"], check=False)
    found: dict[str, Any] = {"release": os.uname().release}
    functions = {address: Function(address) for address in (NVME, VF, NIC, *TWINS)}
    probe = Context()
    functions[NVME].bind(probe.fd)
    parent = probe.parent(functions[NVME])
    found["viommu"] = answer(lambda: probe.viommu(functions[NVME], parent))
    os.close(functions[NVME].cdev)
    os.close(probe.fd)
    functions[NVME] = Function(NVME)
    if found["viommu"] == "ok":
        layouts(found, functions[NVME])
        twins(found, functions[TWINS[0]], functions[TWINS[1]])
        nested(found, functions)
    with open("/out/answers.json", "w") as file:
        json.dump(found, file)


main()
