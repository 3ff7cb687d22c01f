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
