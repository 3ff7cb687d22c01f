"""A VM that exists, as its input says it: one neutral model, which readers of each kind of input fill in.

    text --reader (domain.py, argv.py)--> Guest --complete (placement.py)--> Guest --request_of (request.py)--> VmRequest + findings

A reader only says what is written. What the input leaves to QEMU or libvirt (a bus, a slot, a chassis, an id) it leaves ``None``;
``placement`` fills it in as that program does, and says so in ``implied``. Nothing is judged here and nothing raises: a value that no
attribute can hold is a ``Left``.

Each thing knows where it stands (``where``), and where each of its values stands (``places``, by the name of the attribute), down to
the characters, so that a finding can name the place and ``--fix`` can change that place and no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Literal

import msgspec

ROOT_BUS = "pcie.0"


class Origin(StrEnum):
    """Which program places what the input leaves out."""

    QEMU = "qemu"  # a QEMU command line, however it is written
    LIBVIRT = "libvirt"  # domain XML; QEMU comes after it


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the input. ``start`` and ``end`` are characters of the decoded text, and hold the value as it is written there.

    Without a text of its own (``/proc/PID/cmdline``) only ``word`` is known.
    """

    source: str  # as it is shown: the file's name, "-", "VM web of libvirt", "process 4711"
    line: int | None = None  # from 1
    word: int | None = None  # of the command line, from 1; 0 is the program
    path: str = ""  # what stands there: "devices/hostdev[2]/driver@iommufd", "-device vfio-pci,host="
    start: int | None = None
    end: int | None = None

    def show(self) -> str:
        """For a sentence: ``tern.xml, line 40, devices/iommu/driver@ssidSize``."""
        at = f", line {self.line}" if self.line is not None else f", word {self.word}" if self.word is not None else ""
        return f"{self.source}{at}{', ' + self.path if self.path else ''}"


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all that an input holds. ``places`` and ``implied`` go by the names of the attributes.

    An attribute that is in neither has its default, because the input says nothing of it.
    """

    where: Where | None = None
    places: Mapping[str, Where] = {}
    implied: frozenset[str] = frozenset()

    def place(self, name: str) -> Where | None:
        """Where the value of an attribute is written; where the thing itself is, if the value is written nowhere."""
        return self.places.get(name, self.where)


class Device(Item, frozen=True, kw_only=True):
    """A device of the guest, in the tree of its buses. ``bus`` is the id of the bridge above it, ``pcie.0`` for the root."""

    driver: str  # QEMU's class, as on its command line: "vfio-pci", "virtio-net-pci", "pcie-root-port"
    id: str | None = None  # QEMU's id; of libvirt the alias that it gives
    bus: str | None = None
    slot: int | None = None
    function: int | None = None
    multifunction: bool = False

    @property
    def pci(self) -> bool:
        """Whether it takes a slot of a PCI bus."""
        return True


class Bridge(Device, frozen=True, kw_only=True):
    """What makes a bus: expander (pxb-pcie), root port, the two halves of a switch, a bridge to plain PCI."""

    kind: Literal["expander", "port", "upstream", "downstream", "bridge"]
    index: int | None = None  # libvirt's number of the controller
    bus_nr: int | None = None  # first bus number of an expander
    numa_node: int | None = None  # guest node of an expander
    chassis: int | None = None
    port: int | None = None  # port number of a port
    bus_reserve: int | None = None
    mem_reserve: int | None = None  # bytes
    pref64_reserve: int | None = None  # bytes
    hotplug: bool = True  # whether devices can be plugged below it


class Function(Device, frozen=True, kw_only=True):
    """A function of the host: vfio-pci."""

    host: str | None = None  # DDDD:BB:DD.F; None: only a descriptor is known
    descriptor: str | None = None  # fd=, or the name of the descriptor
    iommufd: str | None = None  # id of the iommufd object; None: the legacy group interface
    vfio_driver: str | None = None  # hisi_acc_vfio_pci
    managed: bool | None = None  # libvirt's: it binds and unbinds by itself
    ats: str | None = None  # as written: on, off, auto
    rom: bool = True
    nodes: tuple[int, ...] = ()  # guest nodes whose initiator it is


class Vsmmu(Device, frozen=True, kw_only=True):
    """arm-smmuv3. ``bus`` is its primary bus; None: it is the machine's own (``-machine iommu=smmuv3``), whatever else is written."""

    accel: bool = False
    properties: Mapping[str, str] = {}  # ats, ril, ssidsize, oas, cmdqv as they are written; what is left out is QEMU's auto
    stage: str | None = None

    @property
    def pci(self) -> bool:
        """It sits on a bus and takes no slot of it."""
        return False


class VirtioIommu(Device, frozen=True, kw_only=True):
    """virtio-iommu-pci, or ``-machine iommu=virtio`` where QEMU has it."""

    granule: str | None = None
    aw_bits: int | None = None


class Disk(Device, frozen=True, kw_only=True):
    """A disk with an image or a device of the host behind it; any other goes as ``Emulated``. Drivers: virtio-blk-pci only."""

    path: str
    format: str = "raw"
    readonly: bool = False


class Network(Device, frozen=True, kw_only=True):
    """A network card (virtio-net-pci) with a backend that a profile can say."""

    kind: Literal["user", "tap", "bridge"]
    source: str | None = None  # of the tap or the bridge
    mac: str | None = None


class Emulated(Device, frozen=True, kw_only=True):
    """Any other device of a PCI bus: it has a place, and a ``Left`` of kind ``kept`` has its words."""


class Node(Item, frozen=True, kw_only=True):
    """A guest NUMA node."""

    id: int
    memory: int = 0  # bytes
    cpus: tuple[int, ...] = ()
    host_node: int | None = None


class Firmware(Item, frozen=True, kw_only=True):
    """UEFI. ``auto``: libvirt chooses by the host's descriptors (``<os firmware='efi'>``), and ``code`` is empty."""

    code: str = ""
    code_format: str = "raw"
    vars_template: str | None = None
    vars: str | None = None
    vars_format: str = "raw"
    auto: bool = False


class Machine(Item, frozen=True, kw_only=True):
    """``-machine``, or ``<os>`` and ``<features>``. None: nothing is written."""

    type: str | None = None  # virt-11.1
    arch: str | None = None  # aarch64
    gic: str | None = None
    its: bool = True
    acpi: bool = True
    kvm: bool | None = None  # whether it is accelerated by KVM
    iommu: str | None = None  # the machine-wide iommu=: smmuv3, none
    mmio_window: int | None = None  # highmem-mmio-size, bytes


class Memory(Item, frozen=True, kw_only=True):
    """Guest memory in bytes."""

    size: int | None = None
    hugepages: int | None = None  # page size in bytes
    path: str | None = None  # mem-path of a file backend whose page size the mount decides
    locked: bool = False
    hard_limit: int | None = None  # memtune's, bytes
    memlock: int | None = None  # LimitMEMLOCK of a unit, RLIMIT_MEMLOCK of a process; bytes, -1 unlimited


class Fate(StrEnum):
    """What becomes of a part of the input that is not in the model. A part that is in the model is carried."""

    KEPT = "kept"  # understood, no place in a profile: it goes into [passthrough.qemu] or [passthrough.libvirt], and exports give it back
    LOST = "lost"  # understood, and it can't be given back (a descriptor of a process that ran, a log's environment)
    PLAIN = "plain"  # understood, and says what a plan has anyway: needs no word
    UNKNOWN = "unknown"  # not understood
    UNRESOLVED = "unresolved"  # the value is not in the input: $EXTRA, %i, a descriptor


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the input that the model has no attribute for. Each part of an input is in the model or here: nothing is dropped.

    ``text`` is verbatim. Of QEMU the option with its value, in one shell-quoted text (``-rtc base=utc``), or with ``of`` one property of
    the device with that id (``bootindex=1``). Of libvirt the element as XML; ``under`` is the path of its parent below ``<domain>``
    (empty, ``devices``, ``os``), and ``of`` the alias of the device that it belongs to.
    """

    fate: Fate
    where: Where
    name: str  # what it is called: "-rtc", "bootindex", "cputune", "driver@ssidSize"
    text: str = ""
    under: str = ""
    of: str | None = None
    said: str = ""  # what is lost or not known, as a half sentence after "because": "a descriptor of the process that ran names no function"
    meant: str | None = None  # for an unknown word: the nearest that exists


class Guest(Item, frozen=True, kw_only=True):
    """A VM. ``devices`` are in the order in which QEMU makes them."""

    origin: Origin
    source: str  # as shown
    name: str | None = None
    uuid: str | None = None
    notes: str = ""
    emulator: str | None = None
    machine: Machine = Machine()
    memory: Memory = Memory()
    cpus: int | None = None
    nodes: tuple[Node, ...] | None = None  # None: nothing is written of NUMA
    firmware: Firmware | None = None  # None: none, the machine starts a kernel or nothing
    iommufds: tuple[str, ...] = ()  # ids of iommufd objects, the shared one first
    devices: tuple[Device, ...] = ()
    qmp: str | None = None
    user: str | None = None
    running: int | None = None  # the process that runs it
    left: tuple[Left, ...] = ()

    def of(self, *kinds: type[Device]) -> Iterator[Device]:
        """The devices of some kinds, in order."""
        return (device for device in self.devices if isinstance(device, kinds))

    def device(self, id: str | None) -> Device | None:
        """A device by its id."""
        return next((device for device in self.devices if device.id == id), None) if id is not None else None
