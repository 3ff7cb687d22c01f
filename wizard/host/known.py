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
        """Whether it is known to be true (a number above zero counts)."""
        return bool(self.value)

    @property
    def known(self) -> bool:
        """Whether anything is known, be it no."""
        return self.value is not None

    @property
    def measured(self) -> bool:
        """Known, and not by assumption: only such a value may carry a yes."""
        return self.value is not None and self.source not in (Source.NONE, Source.ASSUMED)

    def show(self) -> str:
        """For people: yes, no, unknown, or the value."""
        if self.value is None:
            return "unknown"
        if isinstance(self.value, bool):
            return "yes" if self.value else "no"
        return str(self.value)


UNKNOWN = Known(None)


def first(*candidates: Known) -> Known:
    """The first that is known, in order of trust; UNKNOWN with the first note when none is."""
    for candidate in candidates:
        if candidate.known:
            return candidate
    return next((candidate for candidate in candidates if candidate.note), UNKNOWN)
