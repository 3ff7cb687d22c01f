"""The tables as they are written down: one struct for each kind of entry, one function for each file, read once.

Every entry says where it is from (``source``) and when that was looked at (``date``); every file which versions it was read from.
"""

from __future__ import annotations

import os
import re
from datetime import date
from functools import cache
from typing import TypeVar

import msgspec

from wizard.base.release import release_of


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing known."""

    source: str
    date: date


class Read(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a table was read from, and when."""

    what: str
    version: str
    date: date


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file."""

    about: str
    read: tuple[Read, ...]

    def entries(self) -> tuple[Entry, ...]:
        """Every entry of every kind, in the order of the file."""
        lists = [getattr(self, name) for name in self.__struct_fields__ if name != "read"]
        return tuple(entry for found in lists if isinstance(found, tuple) for entry in found if isinstance(entry, Entry))


class CoherentGpu(Entry, frozen=True, kw_only=True):
    """A GPU whose memory is no BAR of it. ``memory`` in MiB, ``regions`` in bytes; the file says what each field means."""

    id: int
    name: str
    nodes: int
    in_linux: bool
    memory: int | None = None
    regions: tuple[int, ...] = ()
    reserved: bool = False
    linux: str | None = None
    maybe_vf: bool = False


class GpuFamily(Entry, frozen=True, kw_only=True):
    """How a member of the family looks whose id nobody has written down. ``largest_bar`` in bytes."""

    name: str
    vendor: int
    class_: int = msgspec.field(name="class")
    root_port_vendor: int
    largest_bar: int
    driver: str
    nodes: int


class NeedsAts(Entry, frozen=True, kw_only=True):
    """Functions that the kernel wants ATS for, whatever their configuration space says."""

    vendor: int
    ids: frozenset[int]


class VfioDriver(Entry, frozen=True, kw_only=True):
    """A variant of vfio-pci, and what it is made for; ``vf``: VFs alone."""

    driver: str
    option: str
    vendor: int
    ids: frozenset[int]
    vf: bool


class Devices(Table, frozen=True, kw_only=True):
    """``devices.toml``."""

    coherent_gpu: tuple[CoherentGpu, ...]
    gpu_family: tuple[GpuFamily, ...]
    needs_ats: tuple[NeedsAts, ...]
    vfio_driver: tuple[VfioDriver, ...]


class KernelChange(Entry, frozen=True, kw_only=True):
    """What a release changed, and for which hosts (``concerns``)."""

    id: str
    since: str
    concerns: str
    what: str
    needs: str = ""

    @property
    def release(self) -> tuple[int, int]:
        """``since`` as numbers."""
        return release_of(self.since) or (0, 0)


class Kernels(Table, frozen=True, kw_only=True):
    """``kernels.toml``; ``newest`` is the last release that was looked at."""

    newest: str
    change: tuple[KernelChange, ...]


class DistributionKernel(Entry, frozen=True, kw_only=True):
    """How one distribution configures its kernels; ``release`` is a pattern for the end of ``uname -r``."""

    name: str
    release: str
    versions: str
    options: dict[str, str]
    note: str = ""


class Distributions(Table, frozen=True, kw_only=True):
    """``distributions.toml``."""

    kernel: tuple[DistributionKernel, ...]


class SmmuErratum(Entry, frozen=True, kw_only=True):
    """What Linux takes away by IIDR."""

    name: str
    implementer: int
    product: int
    variant_below: int = 0
    revision_below: int = 0
    no_nesting: bool = False
    cmdq_force_sync: bool = False


class RepeatErratum(Entry, frozen=True, kw_only=True):
    """An SMMU whose invalidations have to be issued twice; ``flag`` is a bit of iommu_hw_info_arm_smmuv3.flags."""

    name: str
    compatible: str
    flag: int


class Errata(Table, frozen=True, kw_only=True):
    """``errata.toml``."""

    smmu: tuple[SmmuErratum, ...]
    repeat: tuple[RepeatErratum, ...]


class KubevirtGpu(Entry, frozen=True, kw_only=True):
    """A GPU by NVIDIA that KubeVirt knows."""

    id: int
    since: str


class Kubevirt(Table, frozen=True, kw_only=True):
    """``kubevirt.toml``; the file says what each field means."""

    gate: str
    gates: tuple[str, ...]
    libvirt_needed: str
    libvirt_shipped: str
    qemu_shipped: str
    vsmmu: dict[str, int]  # properties of every vSMMU, by their names
    nodes: int
    window_floor: int
    window_margin: int
    plugin_driver: str
    gpu: tuple[KubevirtGpu, ...]


_T = TypeVar("_T", bound=Table)


def _load(name: str, kind: type[_T]) -> _T:
    import tomllib  # only for who looks something up

    with open(os.path.join(os.path.dirname(__file__), f"{name}.toml"), "rb") as file:
        return msgspec.convert(tomllib.load(file), kind)


@cache
def devices() -> Devices:
    """PCI functions that need more than their configuration space says."""
    return _load("devices", Devices)


@cache
def kernels() -> Kernels:
    """What releases of Linux changed."""
    return _load("kernels", Kernels)


@cache
def distributions() -> Distributions:
    """How distributions configure their kernels."""
    return _load("distributions", Distributions)


@cache
def errata() -> Errata:
    """Errata of SMMUs."""
    return _load("errata", Errata)


@cache
def kubevirt() -> Kubevirt:
    """What KubeVirt knows."""
    return _load("kubevirt", Kubevirt)


TABLES = {"devices": devices, "kernels": kernels, "distributions": distributions, "errata": errata, "kubevirt": kubevirt}
"""Every table, by the name of its file."""


def distribution(release: str) -> DistributionKernel | None:
    """Whose kernel this is, by its release; None for one that no table has."""
    return next((kernel for kernel in distributions().kernel if re.search(kernel.release, release)), None)


def kernel_changes(after: tuple[int, int], until: tuple[int, int]) -> tuple[KernelChange, ...]:
    """What came later than release ``after``, up to ``until``, oldest first."""
    return tuple(sorted((change for change in kernels().change if after < change.release <= until), key=lambda change: change.release))
