"""What iommufd says of a Tegra241 CMDQV: ``struct iommu_hw_info_tegra241_cmdqv`` (include/uapi/linux/iommufd.h, Linux 7.2)."""

from __future__ import annotations

from wizard.arch.bits import Record, field


class CmdqvParam(Record, bits=64):
    """The struct as one little-endian word."""

    flags = field(31, 0)
    version = field(39, 32, "version of the CMDQV's programming interface")
    log2vcmdqs = field(47, 40, "log2 of the VCMDQs that one VM gets")
    log2vsids = field(55, 48, "log2 of the StreamIDs that one VM can use")


def cmdqv_param(data: str | None) -> CmdqvParam | None:
    """The answer out of its hex digits; None where there is none, or it is cut short."""
    try:
        raw = bytes.fromhex(data or "")
    except ValueError:
        return None
    return CmdqvParam(int.from_bytes(raw[:8], "little")) if len(raw) >= 8 else None
