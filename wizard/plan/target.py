"""The QEMU (or OpenVMM) that a plan is made for, and what it can do.

Abilities are read from the properties that the installed binary names (domain: QEMU 10.2 has ``smmu_per_bus``, 11.0 ``accel``,
11.1 ``cmdqv``, an ``ats`` default of ``auto`` and vfio-pci's ``ats``); ``--target qemu=VERSION`` names another by its version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from msgspec.structs import replace

from wizard.facts.model import Facts, Program
from wizard.host.vmm import Vmm
from wizard.plan.properties import AUTO, DECLARED, NAMES
from wizard.plan.request import VmRequest

NEWEST = (11, 1)  # the newest QEMU whose rules this program knows
EMULATOR = "qemu-system-aarch64"  # as a shell finds it
# A snapshot may come from a stranger, and exports are run as root: it does not choose which program that is. These directories belong to the system
# and to packages; /opt and home directories are anybody's choice.
_PLACES = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/libexec", "/usr/lib/qemu")
_NAMES = (EMULATOR, "qemu-kvm")
_VERSION = re.compile(r"(?:qemu=)?([0-9]{1,3})\.([0-9]{1,3})(?:\.[0-9]{1,9})*")


@dataclass(frozen=True)
class Target:
    """What the QEMU of a plan can do."""

    version: tuple[int, int]
    pluggable: bool  # -device arm-smmuv3, several of them (10.2)
    accel: bool  # 11.0
    properties: frozenset[str]  # those of an accelerated vSMMU that it has, by name
    auto: bool  # auto is resolved from the host, and is the default (11.1)
    vfio_ats: bool  # vfio-pci,ats= (11.1)
    installed: bool  # whether the host has it
    path: str = EMULATOR
    elsewhere: str | None = None  # where the facts have it, when that is no place of the system's
    vmm: Vmm = Vmm.QEMU

    @property
    def name(self) -> str:
        """``11.1``."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def machine(self) -> str:
        """The versioned machine type: the same guest platform wherever it is started. OpenVMM has one machine, without a name."""
        return f"virt-{self.name}" if self.vmm is Vmm.QEMU else "virt"


def emulator_of(path: str) -> tuple[str, str | None]:
    """What an export starts for the QEMU that a host is said to have: its path, or the plain name and where it is said to be."""
    if path == EMULATOR or path in {f"{place}/{name}" for place in _PLACES for name in _NAMES}:
        return path, None
    return EMULATOR, path


def by_version(version: tuple[int, int], *, path: str = EMULATOR, installed: bool = False) -> Target:
    """What a released version can do."""
    path, elsewhere = emulator_of(path)
    return Target(
        elsewhere=elsewhere,
        version=version,
        pluggable=version >= (10, 2),
        accel=version >= (11, 0),
        properties=frozenset(one.name for one in DECLARED if one.since <= version),
        auto=version >= (11, 1),
        vfio_ats=version >= (11, 1),
        installed=installed,
        path=path,
    )


def of_program(program: Program) -> Target | None:
    """What an installed QEMU can do by its own word; None when it could not be asked."""
    version = parse_version(program.version or "")
    if version is None:
        return None
    smmu = program.properties.get("arm-smmuv3")
    if not smmu:
        return by_version(version, path=program.path, installed=True)
    path, elsewhere = emulator_of(program.path)
    return Target(
        elsewhere=elsewhere,
        version=version,
        pluggable="smmu_per_bus" in smmu,
        accel="accel" in smmu,
        properties=frozenset(NAMES) & smmu.keys(),
        auto=smmu.get("ats") == AUTO,
        vfio_ats="ats" in program.properties.get("vfio-pci", {}),
        installed=True,
        path=path,
    )


def parse_version(text: str) -> tuple[int, int] | None:
    """``(11, 1)`` from ``11.1``, ``11.1.2`` or ``qemu=11.1``; None for anything else."""
    match = _VERSION.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def installed(facts: Facts) -> Target | None:
    """The QEMU that the host has, None when there is none."""
    return next((target for program in facts.programs if program.name == "qemu" and (target := of_program(program))), None)


OPENVMM = Target(
    version=NEWEST,  # of the rules that are not its own
    pluggable=True,
    accel=True,
    properties=frozenset(one.name for one in DECLARED if one.openvmm),
    auto=True,
    vfio_ats=False,
    installed=False,
    path=Vmm.OPENVMM.value,
    vmm=Vmm.OPENVMM,
)
"""OpenVMM has no stable command line and no releases by features: what is known is its source of August 2026 (sources: vmms-openvmm)."""


def vmm_of(asked: str | None) -> Vmm:
    """The VMM that a target names; a word that names none is a QEMU's, and a rule says so."""
    return Vmm.OPENVMM if asked == Vmm.OPENVMM else Vmm.QEMU


def for_vmm(request: VmRequest, vmm: Vmm) -> VmRequest:
    """The request as one for that VMM."""
    if vmm_of(request.target) is vmm:
        return request
    return replace(request, target=None if vmm is Vmm.QEMU else vmm.value)


def vmm_of_format(form: str) -> Vmm | None:
    """The VMM that an export is for; None: whichever the VM is planned for."""
    return None if form in ("toml", "prepare") else Vmm.OPENVMM if form == Vmm.OPENVMM else Vmm.QEMU


def target_of(facts: Facts, asked: str | None) -> Target:
    """The one asked for, else the one found, else the newest known; an ``asked`` that can't be read is a rule's to name."""
    if vmm_of(asked) is Vmm.OPENVMM:
        return OPENVMM
    found = installed(facts)
    version = parse_version(asked) if asked else None
    if version is None:
        return found or by_version(NEWEST)
    if found and found.version == version:
        return found
    return by_version(version, path=(found.elsewhere or found.path) if found else EMULATOR)
