"""The properties of a vSMMU, resolved: written out, or auto with what QEMU will make of it on this host.

QEMU compares each value with the raw ID registers of the host's SMMU (smmuv3_accel_check_hw_compatible()); with ``auto`` it
copies them, once, from the SMMU of the first cold-plugged function. Without a word from the administrator the richest
explicit value is taken that both the registers and this kernel are known to supply; what is unknown or assumed is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from wizard.arch.cmdqv import CmdqvParam
from wizard.arch.cmdqv import cmdqv_param as decode
from wizard.host.known import UNKNOWN, Known, Source
from wizard.host.model import Host, Smmu
from wizard.host.vmm import Vmm
from wizard.plan.properties import AUTO, NAMES, Properties, Property, declared
from wizard.plan.target import Target

CMDQV_VERSION = 1  # QEMU 11.1's CMDQV_VER and least sizes (tegra241_cmdqv_probe)
CMDQV_LOG2VCMDQS = 1
CMDQV_LOG2VSIDS = 4
CMDQV_VINTFS = 63
"""For VMs, of 64 in NVIDIA's Tegra241: VINTF 0 is the kernel's; how many a host has is not in what iommufd tells."""


@dataclass(frozen=True)
class Supply:
    """What one SMMU supplies: the kernel's use of it, and the raw word that QEMU compares."""

    used: Known
    raw: Known

    def value(self, *, assumed: bool) -> int | None:
        """The richest value that is known; assumptions count only when the administrator takes them."""
        known = [k for k in (self.used, self.raw) if k.known and (assumed or k.source is not Source.ASSUMED)]
        if not known or (not assumed and any(k.source is Source.ASSUMED for k in (self.used, self.raw))):
            return None
        return min(_number(k) for k in known)

    @property
    def compared(self) -> Known:
        """What QEMU will compare with: the raw word, else what the log lets one infer."""
        return self.raw if self.raw.known else self.used


def _number(known: Known) -> int:
    return known.value if isinstance(known.value, int) else 0


def supply(smmu: Smmu | None, name: str) -> Supply:
    """What an SMMU supplies of one property."""
    if smmu is None:
        return Supply(UNKNOWN, UNKNOWN)
    raw = smmu.hardware.get(name, UNKNOWN)
    return Supply(smmu.known(name), raw)


def cmdqv_param(host: Host, smmu: Smmu | None) -> CmdqvParam | None:
    """The CMDQV of an SMMU as iommufd describes it; None where nobody asked."""
    if smmu is None:
        return None
    for info in host.facts.hw_info:
        if info.address in smmu.functions and (found := decode(info.cmdqv)):
            return found
    return None


def cmdqv_functions(host: Host, smmu: Smmu | None) -> int:
    """How many functions the CMDQV of an SMMU matches for one VM: SID_MATCH registers of a VINTF, 16 where nobody asked."""
    param = cmdqv_param(host, smmu)
    return 1 << (param.log2vsids if param else CMDQV_LOG2VSIDS)


def cmdqv_fits(param: CmdqvParam) -> bool:
    """Whether QEMU 11.1 can use it."""
    return param.version == CMDQV_VERSION and param.log2vcmdqs >= CMDQV_LOG2VCMDQS and param.log2vsids >= CMDQV_LOG2VSIDS


def resolve(
    host: Host,
    smmu: Smmu | None,
    wishes: Sequence[Properties],
    target: Target,
    first_device: str | None,
    *,
    assumed: bool,
    left_out: Collection[str] = (),
) -> dict[str, Property]:
    """Each property by name. ``wishes`` in order of weight: the vSMMU's own, then the VM's.

    ``left_out``: what this VM can't use of the host unless it is asked for: ats where another of its vSMMUs can't have it (IORT has
    one bit for all of them), cmdqv where more functions are behind the vSMMU than it matches, or other vSMMUs have all that there are.
    """
    return {
        name: _resolve(host, smmu, name, _wish(wishes, name), target, first_device, assumed=assumed, allowed=name not in left_out) for name in NAMES
    }


def _wish(wishes: Sequence[Properties], name: str) -> str | int | None:
    return next((value for wish in wishes if (value := wish.of(name)) is not None), None)


def _resolve(
    host: Host, smmu: Smmu | None, name: str, wish: str | int | None, target: Target, first: str | None, *, assumed: bool, allowed: bool
) -> Property:
    supplied, property_ = supply(smmu, name), declared(name)
    if target.vmm is Vmm.OPENVMM and name not in target.properties:
        return Property(written=None, resolved=property_.least, origin="request" if wish is not None else "default")
    if wish == AUTO:
        return Property(written=AUTO, resolved=automatic(host, smmu, name), origin="auto", source=str(supplied.compared.source), decided_by=first)
    if wish == property_.plain(property_.unset) and target.accel and name not in target.properties:
        return Property(written=None, resolved=property_.unset, origin="request")  # such a QEMU can do nothing else, and has no word for it
    if wish is not None:
        return Property(written=str(wish), resolved=property_.number(str(wish)), origin="request", source=str(supplied.compared.source))
    if not target.accel or name not in target.properties:
        return Property(written=None, resolved=property_.unset, origin="default")
    if target.vmm is Vmm.OPENVMM and supplied.value(assumed=assumed) is None:
        # Its least value leaves no room for a guest's memory, and auto waits for no function
        return Property(written=AUTO, resolved=automatic(host, smmu, name), origin="auto", source=str(supplied.compared.source), decided_by=first)
    value = richest(host, smmu, name, assumed=assumed, vmm=target.vmm) if allowed else property_.least
    return Property(written=property_.spell(value), resolved=value, origin="host", source=str(supplied.compared.source))


def richest(host: Host, smmu: Smmu | None, name: str, *, assumed: bool, vmm: Vmm = Vmm.QEMU) -> int:
    """The richest value that the host is known to supply; the least one where nothing is known (every host passes it)."""
    value = supply(smmu, name).value(assumed=assumed) or 0
    if name == "cmdqv":
        param = cmdqv_param(host, smmu)
        return int(bool(value) and param is not None and cmdqv_fits(param))
    return declared(name).reach(value, vmm)


def automatic(host: Host, smmu: Smmu | None, name: str) -> int | None:
    """What QEMU's auto comes to: the raw field, as it is; CMDQV when the host's can be used."""
    if name == "cmdqv":
        value, param = supply(smmu, name).used, cmdqv_param(host, smmu)
        return None if not value.known else int(value.is_true and (param is None or cmdqv_fits(param)))
    compared = supply(smmu, name).compared
    return _number(compared) if compared.known else None


def ats_for_all(host: Host, smmus: Iterable[Smmu | None], *, assumed: bool) -> bool:
    """Whether every SMMU of a VM supplies ATS: IORT tells the guest one bit for the whole root complex."""
    return all(richest(host, smmu, "ats", assumed=assumed) for smmu in smmus)
