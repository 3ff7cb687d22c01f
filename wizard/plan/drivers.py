"""Which vfio driver a function is given to: a variant driver where the host has one for it, else vfio-pci.

The kernel says which variant is meant by the ``vfio_pci:`` modalias of the module (MODULE_ALIAS of drivers/vfio/pci/*);
``wizard/knowledge/devices.toml`` names the devices of the variants, and a variant is taken only when the kernel is known to have it.
"""

from __future__ import annotations

from wizard.facts.vfio import is_vfio_driver
from wizard.knowledge import tables
from wizard.plan.candidate import Candidate

VFIO = "vfio-pci"
GRACE = "nvgrace_gpu_vfio_pci"
_GRACE_OPTION = "CONFIG_NVGRACE_GPU_VFIO_PCI"


def variant(candidate: Candidate) -> str | None:
    """The variant driver made for this function, whether the host has it or not."""
    return (_variant(candidate) or (None,))[0]


def _variant(candidate: Candidate) -> tuple[str, str] | None:
    """Its name as it is bound, and the option of the kernel's configuration that builds it."""
    if candidate.gpu is not None or (candidate.unknown_gpu is not None and not candidate.is_vf):
        return GRACE, _GRACE_OPTION
    ids = candidate.ids
    if ids is None:
        return None
    vendor, device = (int(part, 16) for part in ids.split(":"))
    made = (one for one in tables.devices().vfio_driver if one.vendor == vendor and device in one.ids and (candidate.is_vf or not one.vf))
    return next(((one.driver, one.option) for one in made), None)


def vfio_driver(candidate: Candidate) -> str:
    """The driver that the preparation script binds."""
    facts = candidate.function.facts
    if not candidate.to_make and facts.driver and is_vfio_driver(facts.driver):
        return facts.driver
    wanted = _variant(candidate)
    kernel = candidate.host.facts.kernel
    if wanted is None or (wanted[0] != GRACE and not _has(*wanted, kernel.modules, kernel.drivers, kernel.config)):
        return VFIO
    return wanted[0]


def _has(driver: str, option: str, modules: tuple[str, ...], drivers: tuple[str, ...], config: dict[str, str] | None) -> bool:
    if any(driver == loaded.replace("-", "_") for loaded in (*modules, *drivers)):
        return True
    return (config or {}).get(option) in ("y", "m")
