"""First contact with a host whose verdicts are unknown: which functions to probe, and the steps. No Textual here."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.finding import Finding
from wizard.base.text import plural
from wizard.facts.held import Place, why_unread
from wizard.host.model import Host, Smmu


def unasked(host: Host) -> list[str]:
    """SMMUv3s whose ID registers nobody has asked for (what is assumed was asked of nobody), that have an endpoint to ask by."""
    return [smmu.name for smmu in _without_registers(host) if _endpoints(host, smmu)]


def out_of_reach(host: Host) -> list[str]:
    """SMMUv3s whose ID registers nobody has asked for, and no PCI function that is known to be below them could be asked by."""
    return [smmu.name for smmu in _without_registers(host) if not _endpoints(host, smmu)]


def _without_registers(host: Host) -> Iterator[Smmu]:
    return (smmu for smmu in host.smmus.values() if smmu.kind == "smmuv3" and (smmu.registers is None or smmu.registers.assumed))


def _endpoints(host: Host, smmu: Smmu) -> bool:
    return any(not host.functions[one].is_bridge for one in smmu.functions)


def refused(host: Host, address: str) -> Finding | None:
    """Why a function can't be given to a vfio driver at all; None where nothing is known to forbid it."""
    return next(iter(host.verdict(address).obstacles), None)


def state_words(host: Host) -> str:
    """What is known of the ID registers of the host's SMMUv3s, in one or two sentences."""
    if not any(smmu.kind == "smmuv3" for smmu in host.smmus.values()):
        looked = why_unread(host.facts, Place.IOMMUS) is None
        return "This host shows no SMMUv3: there is nothing to ask." if looked else "No SMMUv3 is known here: the list of IOMMUs was not read."
    missing, beyond = unasked(host), out_of_reach(host)
    said = []
    if missing:
        assumed = [name for name in missing if host.smmus[name].registers is not None]
        said.append(f"Nobody has asked {', '.join(missing)} for its ID registers, so verdicts below stay unknown.")
        if assumed:
            said.append(f"What stands here of {', '.join(assumed)} is only assumed.")
    if beyond:
        said.append(f"{', '.join(beyond)} can't be asked: no endpoint is known to be below it.")
    if not said and why_unread(host.facts, Place.IOMMUS) is not None:
        return "Every SMMUv3 that is known here has been asked; the list of IOMMUs was not read, so there may be others."
    return " ".join(said) or "Every SMMUv3 of this host has been asked: there is nothing to learn by a probe."


def candidates(host: Host) -> list[str]:
    """One function for each SMMU and segment to probe by: not used by the host, alone in its group if possible, with the least to lose."""
    used = host.uses
    found: dict[tuple[str, int], tuple[tuple[int, int, int], str]] = {}
    wanted = set(unasked(host))
    for address, function in host.functions.items():
        if (
            function.smmu not in wanted
            or function.is_bridge
            or address in used
            or function.group is None
            or refused(host, address)
            or function.config.dead
        ):
            continue
        group = host.groups.get(function.group)
        # A VF is the cheapest to take away; a PF with VFs the dearest.
        weight = (len(group.devices) if group else 99, len(function.facts.virtfns), 0 if function.is_vf else 1)
        key = (function.smmu or "", function.address.segment)
        if key not in found or (weight, address) < found[key]:
            found[key] = (weight, address)
    return [address for _, address in found.values()]


def probe_words(host: Host) -> str:
    """What is to be known first, for the first line of the host: that it has no SMMUv3, or that something is to be learned."""
    if not any(smmu.kind == "smmuv3" for smmu in host.smmus.values()):
        looked = why_unread(host.facts, Place.IOMMUS) is None
        return "no SMMUv3: acceleration is an SMMUv3 matter" if looked else "no SMMUv3 known: IOMMUs were not read"
    missing = unasked(host)
    return f"{plural(len(missing), 'SMMU')} not asked yet: p" if missing else ""
