"""What Linux, up to 7.3, and QEMU 11.1 do not offer to a guest, whatever the hardware has."""

from __future__ import annotations

from wizard.dryrun.bench import Bench, Needs, NotApplicable, scenario

GROUP = "cannot be offered on Linux 7.2, 7.3 and QEMU 11.1"


@scenario("pri", GROUP, "page requests (PRI)", "arm_smmu_handle_event()", "smmuv3_cmdq_consume() (CMD_PRI_RESP unhandled)", needs=Needs.LAYOUT)
def pri(bench: Bench) -> str:
    """Neither IDR0.PRI of the vSMMU nor CMD_PRI_RESP through iommufd."""
    raise NotApplicable("QEMU's IDR0.PRI is 0, and CMD_PRI_RESP is not among the commands that a guest may pass")


@scenario("stall", GROUP, "stalled transactions", "IDR0.STALL_MODEL", "arm_smmu_handle_event() (iommu_report_device_fault())", needs=Needs.LAYOUT)
def stall(bench: Bench) -> str:
    """A stalled event is a page request of the host's, and CMD_RESUME does not pass."""
    raise NotApplicable("QEMU's STALL_MODEL is 0b01, stalled events are never reported to a guest, and CMD_RESUME does not pass")


@scenario("httu", GROUP, "hardware update of access flag and dirty state", "IDR0.HTTU", "include/uapi/linux/iommufd.h", needs=Needs.LAYOUT)
def httu(bench: Bench) -> str:
    """Not among the fields that the kernel's ABI lets a VMM use."""
    raise NotApplicable("the kernel's ABI leaves HTTU out for nesting, and QEMU's IDR0.HTTU is 0")
