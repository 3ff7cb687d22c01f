"""First contact with a host whose verdicts are unknown: which functions to probe, and the steps. No Textual here."""

from __future__ import annotations

from wizard.base.text import plural
from wizard.host.model import Host


def unasked(host: Host) -> list[str]:
    """SMMUv3s whose ID registers nobody has asked for, that have an endpoint to ask by."""
    return [
        smmu.name
        for smmu in host.smmus.values()
        if smmu.kind == "smmuv3" and smmu.registers is None and any(not host.functions[one].is_bridge for one in smmu.functions)
    ]


def candidates(host: Host) -> list[str]:
    """One function for each SMMU and segment to probe by: not used by the host, alone in its group if possible, with the least to lose."""
    used = {use.address for use in host.facts.in_use}
    found: dict[tuple[str, int], tuple[tuple[int, int, int], str]] = {}
    wanted = set(unasked(host))
    for address, function in host.functions.items():
        if function.smmu not in wanted or function.is_bridge or address in used or function.group is None:
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
        return "no SMMUv3: acceleration is an SMMUv3 matter"
    missing = unasked(host)
    return f"{plural(len(missing), 'SMMU')} not asked yet: p" if missing else ""
