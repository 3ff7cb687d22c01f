"""A value and where it is known from."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Source(StrEnum):
    """Where a value is known from. What was probed beats what was told (sources: design-trust)."""

    PROBE = "probe"  # iommufd and VFIO were asked and did it, or refused
    HW_INFO = "hw_info"  # ID registers as iommufd hands them out
    LOG = "log"  # what the kernel said when it set the SMMU up
    IORT = "iort"  # what the firmware says
    MADT = "madt"  # what the firmware says of interrupts
    DEVICE_TREE = "device-tree"  # what the firmware says on a host without ACPI
    SYSFS = "sysfs"
    CONFIG = "config"  # configuration space, or the kernel's configuration
    ASSUMED = "assumed"  # nobody measured or published it
    NONE = "none"  # unknown


Value = bool | int | str | None


class Known(msgspec.Struct, frozen=True):
    """One value, its source, and what is worth saying about it. ``value`` None is unknown, and its source NONE."""

    value: Value
    source: Source = Source.NONE
    note: str = ""

    def __bool__(self) -> bool:
        """Refused: "not read" is no false. Ask ``is_true``, ``is_false`` or ``known``, or, for an answer, ``proved`` or ``refuted``."""
        raise TypeError("a Known is neither true nor false: ask is_true, is_false, known, proved or refuted")

    @property
    def is_true(self) -> bool:
        """Known to be true (a number above zero counts), be it by assumption."""
        return bool(self.value)

    @property
    def is_false(self) -> bool:
        """Known to be false (zero counts), be it by assumption; what was not read is not."""
        return self.value is not None and not self.value

    @property
    def known(self) -> bool:
        """Whether anything is known, be it no."""
        return self.value is not None

    @property
    def measured(self) -> bool:
        """Known, and not by assumption: only such a value may carry a yes."""
        return self.value is not None and self.source not in (Source.NONE, Source.ASSUMED)

    @property
    def proved(self) -> bool:
        """True by somebody's word: what a yes may rest on."""
        return self.measured and self.is_true

    @property
    def refuted(self) -> bool:
        """False by somebody's word: what a no may rest on."""
        return self.measured and self.is_false

    def show(self) -> str:
        """For people: yes, no, unknown, or the value."""
        if self.value is None:
            return "unknown"
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        return str(self.value)


UNKNOWN = Known(None)


def first(*candidates: Known) -> Known:
    """The first that somebody measured, in order of trust, else the first that is assumed; UNKNOWN with the first note when none is known."""
    for candidate in candidates:
        if candidate.measured:
            return candidate
    for candidate in candidates:
        if candidate.known:
            return candidate
    return next((candidate for candidate in candidates if candidate.note), UNKNOWN)
