"""A kind of device: vendor:device, a class, or any."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from wizard.fleet.summary import HostSummary, Pool

_IDS = re.compile(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}")
_CLASS = re.compile(r"(?:0x)?([0-9a-fA-F]{2}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6})")


class DeviceKind(msgspec.Struct, frozen=True):
    """``ids`` like ``8086:10ca``; ``class_`` two, four or six hex digits (base class, with sub-class, with interface). None: any."""

    ids: str | None = None
    class_: str | None = msgspec.field(name="class", default=None)

    def matches(self, pool: Pool) -> bool:
        """Whether the functions of a pool are of this kind."""
        if self.ids is not None and pool.ids != self.ids:
            return False
        return self.class_ is None or pool.class_code >> (24 - 4 * len(self.class_)) == int(self.class_, 16)

    def pools(self, summary: HostSummary) -> Iterator[Pool]:
        """The pools of a host that are of this kind."""
        return (pool for pool in summary.pools if self.matches(pool))

    def __str__(self) -> str:
        words = [self.ids or "", f"class {self.class_}" if self.class_ else ""]
        return ", ".join(filter(None, words)) or "any device"


def kind_of(ids: str | None, class_: str | None) -> DeviceKind:
    """A kind from text; ``ValueError`` names what is wrong."""
    if ids is not None and not _IDS.fullmatch(ids):
        raise ValueError(f"{ids!r} is no vendor:device (like 8086:10ca)")
    match = _CLASS.fullmatch(class_) if class_ is not None else None
    if class_ is not None and match is None:
        raise ValueError(f"{class_!r} is no class (like 02, 0302 or 010802)")
    return DeviceKind(ids.lower() if ids else None, match[1].lower() if match else None)
