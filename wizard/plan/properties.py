"""The properties of an accelerated vSMMU, each declared once: ``ats``, ``ril``, ``ssidsize``, ``oas``, ``cmdqv``.

What QEMU takes, what it does when nothing is written, its own words when it refuses, how profile, command line, wizard, libvirt and
fleet spell it: all of it follows from a ``Declaration``. A new property of QEMU's ``arm-smmuv3`` is one entry of ``DECLARED`` and
one line each in ``Properties`` and ``Resolved``, all of them here (and a rule of its own where it has one).
Sources: hw/arm/smmuv3.c and smmuv3-accel.c of QEMU 11.1 (sources: qemu-properties, qemu-host-registers).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wizard.base.text import is_number
from wizard.host.vmm import Vmm

Switch = Literal["on", "off", "auto"]
Width = int | Literal["auto"]
AUTO = "auto"


class Declaration(msgspec.Struct, frozen=True):
    """One property. Values are numbers everywhere inside: 0 and 1 for a switch, bits for a width."""

    name: str  # as QEMU, libvirt, the profile, the command line and every --json spell it
    doc: str  # what it is, for the profile's reference
    about: str  # what it is, for somebody who chooses it
    choices: tuple[int, ...]  # what QEMU takes, from poor to rich
    unset: int  # what a QEMU does that has no auto, or no such property
    emulated: tuple[int, ...]  # what a vSMMU without accel may have written
    needs_accel: str  # QEMU's words for any other there
    exceeds: str  # QEMU's words where the host has less; {host} and {value} are filled in
    rank: int  # where hosts can't all supply everything: what guests miss most comes first
    switch: bool = True
    since: tuple[int, int] = (11, 0)  # the QEMU that it came with
    least_passes: bool = True  # every host passes the least value, so that nothing need be known of the host
    decided_cold: bool = True  # its auto is decided by a cold-plugged function, without which QEMU ends
    others: tuple[int, ...] = ()  # what QEMU knows and does not take
    others_refused: str = ""  # its words for those
    field: tuple[int, int] | None = None  # what a profile may hold of a width: a later QEMU may take what this one does not
    openvmm: tuple[int, ...] = ()  # what OpenVMM takes, by the same name as an option of its --smmu; empty: its vSMMU has no such thing
    openvmm_exceeds: str = ""  # its words where the host has less

    @property
    def least(self) -> int:
        """The poorest value."""
        return self.choices[0]

    @property
    def words(self) -> tuple[str, ...]:
        """What can be chosen from, ``auto`` first; empty where it is any width in a range."""
        if self.switch:
            return (AUTO, "on", "off")
        return (AUTO, *map(str, self.choices)) if len(self.choices) <= 4 else ()

    @property
    def allowed(self) -> str:
        """What QEMU takes, after "write"."""
        if self.switch:
            return "on, off or auto"
        if self.words:
            return f"{', '.join(map(str, self.choices))} or auto"
        return f"{self.choices[0]} to {self.choices[-1]} or auto"

    def spell(self, value: int) -> str:
        """A value as QEMU takes it."""
        return ("on" if value else "off") if self.switch else str(value)

    def plain(self, value: int) -> str | int:
        """A value as a profile has it: a width is a number there."""
        return self.spell(value) if self.switch else value

    def number(self, text: str) -> int | None:
        """The value that a text stands for; None for ``auto`` and for what is no value at all."""
        if self.switch:
            return {"on": 1, "off": 0}.get(text)
        return int(text) if is_number(text.removeprefix("-")) else None

    def takes(self, text: str, vmm: Vmm = Vmm.QEMU) -> bool:
        """Whether a VMM takes it."""
        return text == AUTO or self.number(text) in (self.choices if vmm is Vmm.QEMU else self.openvmm)

    def refusal(self, text: str) -> str:
        """QEMU's words for a value that it does not take."""
        return self.others_refused if self.number(text) in self.others else f"Parameter '{self.name}' does not accept value '{text}'"

    def reach(self, value: int, vmm: Vmm = Vmm.QEMU) -> int:
        """The richest choice that is no more than ``value``, nor than what QEMU has; the least where none is."""
        choices = self.openvmm if vmm is Vmm.OPENVMM else self.choices
        return max((choice for choice in choices if choice <= min(value, self.choices[-1])), default=choices[0])


DECLARED: tuple[Declaration, ...] = (
    Declaration(
        "ats",
        doc="ATS: the guest's functions may cache translations",
        about="address translation services: the function is then trusted with host physical addresses",
        choices=(0, 1),
        unset=0,
        emulated=(0,),
        needs_accel="ats can only be enabled if accel=on",
        exceeds="Host SMMUv3 doesn't support Address Translation Services",
        rank=2,
    ),
    Declaration(
        "ril",
        doc="range invalidation commands",
        about="range invalidation",
        choices=(0, 1),
        unset=1,
        emulated=(1,),
        needs_accel="ril can only be disabled if accel=on",
        exceeds="Host SMMUv3 doesn't support Range Invalidation",
        rank=4,
    ),
    Declaration(
        "ssidsize",
        doc="bits of a SubstreamID (PASID); 0 for none",
        about="bits of PASID, 0 to 20, or auto",
        choices=tuple(range(21)),
        unset=0,
        emulated=(0,),
        needs_accel="ssidsize can only be greater than 0 bits if accel=on",
        exceeds="Host SMMUv3 SSIDSIZE not compatible",
        rank=3,
        switch=False,
        field=(0, 20),
    ),
    Declaration(
        "oas",
        doc="bits of an output address: QEMU has 44 and 48",
        about="output address size in bits",
        choices=(44, 48),
        unset=44,
        emulated=(44,),
        needs_accel="oas must be 44 bits when accel=off",
        exceeds="Host SMMUv3 supports only {host}-bit IPA, but the vSMMU OAS implies {value}-bit IPA",
        rank=1,
        switch=False,
        least_passes=False,
        others=(32, 36, 40, 42, 52, 56),
        others_refused="QEMU SMMUv3 model only implements auto, 44 bit, or 48 bit OAS",
        field=(32, 56),
        openvmm=(32, 36, 40, 42, 44, 48, 52),
        openvmm_exceeds="configured SMMU oas={value} exceeds host SMMU OAS {host}",
    ),
    Declaration(
        "cmdqv",
        doc="the guest's own command queues (NVIDIA Grace)",
        about="the guest's own invalidation queue",
        choices=(0, 1),
        unset=0,
        emulated=(0,),
        needs_accel="cmdqv can only be enabled if accel=on",
        exceeds="CMDQV requested but not supported",
        rank=5,
        since=(11, 1),
        decided_cold=False,
    ),
)
NAMES = tuple(one.name for one in DECLARED)
"""Their names, in the order in which they are written."""

_BY_NAME = {one.name: one for one in DECLARED}


def declared(name: str) -> Declaration:
    """The declaration of a name; ``KeyError`` for any other."""
    return _BY_NAME[name]


class Properties(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a vSMMU. None: the richest explicit value that the host supplies."""

    ats: Switch | None = None
    ril: Switch | None = None
    ssidsize: Width | None = None  # bits
    oas: Width | None = None  # bits
    cmdqv: Switch | None = None

    def asked(self) -> tuple[tuple[str, str | int], ...]:
        """Name and wish of each that is asked for."""
        return tuple((name, wish) for name in NAMES if (wish := self.of(name)) is not None)

    def of(self, name: str) -> str | int | None:
        """What is asked of one, by its name."""
        wish: str | int | None = getattr(self, name)
        return wish


class Property(msgspec.Struct, frozen=True, kw_only=True):
    """What one comes to: what is written on the command line, the value, and where that is from.

    ``written`` is None where the target QEMU has no such property. ``resolved`` is None where it can't be known. With
    ``auto`` the function ``decided_by`` decides, and ``resolved`` is what QEMU will make of it on this host.
    """

    written: str | None
    resolved: int | None  # 0 or 1 for switches, bits for widths
    origin: str  # request, host, auto, default
    source: str = "none"  # where the host's value is known from (Known.source)
    decided_by: str | None = None

    @property
    def auto(self) -> bool:
        """Whether QEMU decides it when it starts."""
        return self.written == AUTO

    def show(self) -> str:
        """For people: ``on``, ``48``, ``auto (will be 48)``."""
        if self.written is None:
            return "not offered"
        if not self.auto:
            return self.written
        return f"auto (will be {self.resolved})" if self.resolved is not None else "auto (unknown)"


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A vSMMU's properties as they come to be."""

    ats: Property
    ril: Property
    ssidsize: Property
    oas: Property
    cmdqv: Property

    def of(self, name: str) -> Property:
        """One of them, by its name."""
        found: Property = getattr(self, name)
        return found

    def properties(self) -> tuple[tuple[str, Property], ...]:
        """Name and property, in the order in which they are written."""
        return tuple((name, self.of(name)) for name in NAMES)
