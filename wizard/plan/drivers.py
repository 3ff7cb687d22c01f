"""Which vfio driver a function is given to: a variant driver where the host has one for it, else vfio-pci.

The kernel says which variant is meant by the ``vfio_pci:`` modalias of the module (MODULE_ALIAS of drivers/vfio/pci/*); the table
here names the devices of the variants in Linux 7.2, and a variant is taken only when the kernel is known to have it.
"""

from __future__ import annotations

from wizard.facts.vfio import is_vfio_driver
from wizard.plan.candidate import Candidate
from wizard.plan.regions import GRACE_GPU_MEMORY

VFIO = "vfio-pci"

# vendor -> (device IDs, driver as it is bound, only VFs)
VARIANTS: tuple[tuple[int, frozenset[int], str, bool], ...] = (
    (0x10DE, frozenset(GRACE_GPU_MEMORY), "nvgrace_gpu_vfio_pci", False),
    (0x15B3, frozenset({0x101E}), "mlx5_vfio_pci", True),
    (0x19E5, frozenset({0xA251, 0xA256, 0xA259}), "hisi_acc_vfio_pci", True),
    (0x1DD8, frozenset({0x1003}), "pds_vfio_pci", True),
)


def variant(candidate: Candidate) -> str | None:
    """The variant driver made for this function, whether the host has it or not."""
    ids = candidate.ids
    if ids is None:
        return None
    vendor, device = (int(part, 16) for part in ids.split(":"))
    return next((name for v, devices, name, vf in VARIANTS if v == vendor and device in devices and (candidate.is_vf or not vf)), None)


def vfio_driver(candidate: Candidate) -> str:
    """The driver that the preparation script binds."""
    facts = candidate.function.facts
    if not candidate.to_make and facts.driver and is_vfio_driver(facts.driver):
        return facts.driver
    wanted = variant(candidate)
    kernel = candidate.host.facts.kernel
    if wanted is None or not _has(wanted, kernel.modules, kernel.drivers, kernel.config):
        return VFIO if wanted != "nvgrace_gpu_vfio_pci" else wanted
    return wanted


def _has(driver: str, modules: tuple[str, ...], drivers: tuple[str, ...], config: dict[str, str] | None) -> bool:
    name = driver.replace("-", "_")
    if any(name == loaded.replace("-", "_") for loaded in (*modules, *drivers)):
        return True
    option = {"mlx5_vfio_pci": "MLX5_VFIO_PCI", "hisi_acc_vfio_pci": "HISI_ACC_VFIO_PCI", "pds_vfio_pci": "PDS_VFIO_PCI"}.get(
        name, "NVGRACE_GPU_VFIO_PCI"
    )
    return (config or {}).get(f"CONFIG_{option}") in ("y", "m")
