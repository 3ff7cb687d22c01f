"""Devices that need more than their own configuration space says, by vendor and device ID."""

from __future__ import annotations

from wizard.host.model import Function

NVIDIA = 0x10DE
GRACE_GPUS: dict[int, str] = {
    0x2342: "GH200 120GB",
    0x2345: "GH200 480GB",
    0x2348: "GH200 144GB",
    0x2941: "GB200",
    0x31C2: "GB300",
    0x31C3: "GB300",
}
"""GPUs whose memory is cache-coherent with a Grace CPU (nvgrace_gpu_vfio_pci_table of Linux 7.2, drivers/vfio/pci/nvgrace-gpu/main.c;
31c3 from the vendor's list of ids)."""


def grace_gpu(function: Function) -> str | None:
    """The name of a Grace GPU; None for anything else."""
    if int(function.facts.vendor, 16) != NVIDIA:
        return None
    return GRACE_GPUS.get(int(function.facts.device, 16))


NEEDS_ATS = frozenset({0x2E12, 0x2E2A, 0x2E2B})
"""NVIDIA GPUs without CXL that need ATS all the same ("PCI: Allow ATS to be always on for pre-CXL devices", Linux 7.2 drivers/pci/quirks.c)."""


def needs_ats(function: Function) -> bool:
    """pci_dev_specific_ats_required(): by vendor and device ID."""
    return int(function.facts.vendor, 16) == NVIDIA and int(function.facts.device, 16) in NEEDS_ATS
