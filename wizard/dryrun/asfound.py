"""What the hardware reads, from its registers on, held against the claim: registers, structures, streams, tags, caches.

Each function answers the first thing that is wrong as a clause with its address, or None, and appends what it read to ``said``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations

from wizard.arch.registers import GBPA, StrtabBaseCfg
from wizard.arch.ste import STE, StreamConfig
from wizard.base.text import plural, size
from wizard.dryrun.claim import Claim, parents_of
from wizard.dryrun.tables import Walked, check_tables
from wizard.dryrun.writable import beyond_host
from wizard.nesting import Parent
from wizard.smmu.context import Space, Stage1, stage1_of, stage2_of
from wizard.smmu.inventory import MESSAGE_BYTES, StreamEntry, Structure, lets_through
from wizard.smmu.regime import Regime
from wizard.smmu.stale import stale
from wizard.smmu.validity import cd_illegal, stage2_on, ste_illegal, world

_CONFIGS = {StreamConfig.BYPASS: "bypass: every address of the host", StreamConfig.STAGE1: "stage 1 alone", StreamConfig.STAGE2: "stage 2",
            StreamConfig.NESTED: "both stages"}  # fmt: skip


# -- registers and structures -----------------------------------------------------------------------------------------


def registers(claim: Claim, said: list[str]) -> str | None:
    """SMMUEN, GBPA, CMDQEN, and that the stream table is the one that the kernel writes."""
    found, host, name = claim.found, claim.host, claim.host.name
    if not found.cr0.SMMUEN and not GBPA(value := host.smmu.read("GBPA")).ABORT:
        return f"SMMUEN of {name} is 0 and its GBPA {value:#x} does not abort: every function behind it reaches every address of the host"
    if not found.cr0.CMDQEN:
        return f"CMDQEN of {name} is 0: no invalidation is carried out, and what the caches hold outlives the tables"
    if found.commands_wait and host.smmu.active("CMDQ_ERR"):
        return (
            f"the command queue of {name} stands at an error (GERROR {host.smmu.read('GERROR'):#x}, CMDQ_CONS {host.smmu.read('CMDQ_CONS'):#x}): "
            "no invalidation behind it is carried out"
        )
    own, now = StrtabBaseCfg(host.streams.config), found.config
    wrong = [field for field in ("LOG2SIZE", "FMT", *(["SPLIT"] if found.two_level else [])) if own.fields()[field] != now.fields()[field]]
    if host.streams.base != found.base.ADDR:
        return f"STRTAB_BASE of {name} is {found.base.ADDR:#x}, a stream table that its kernel does not write: that one is at {host.streams.base:#x}"
    if wrong:
        values = ", ".join(f"{field} {now.fields()[field]}, not {own.fields()[field]}" for field in wrong)
        return f"STRTAB_BASE_CFG of {name} is {now.value:#x}, another stream table than its kernel writes: {values}"
    shape = f"two levels, 2^{found.split} StreamIDs in each of the second" if found.two_level else "linear"
    places = ", ".join(f"{queue.what} at {queue.start:#x}" for queue in found.queues()) or "no queue has a place in memory"
    said.append(
        f"registers: SMMUEN {found.cr0.SMMUEN}, ATSCHK {found.cr0.ATSCHK}, "
        f"stream table of 2^{found.size} StreamIDs at {found.base.ADDR:#x} ({shape}); {places}"
    )
    return None


def structures(claim: Claim, said: list[str]) -> str | None:
    """No stream table, queue or message of the SMMU's own lies in memory that a guest can write; stream tables are in the host's own."""
    for structure in claim.found.queues():
        if (whose := claim.guests_have(structure.start, structure.size)) is not None:
            return f"{structure.what} of {claim.host.name} at {structure.start:#x} lies in {whose}"
    for one, other in combinations(claim.found.queues(), 2):
        # Messages go to one doorbell and differ by their data.
        if _overlap(one, other) and max(one.size, other.size) > MESSAGE_BYTES:
            return f"{one.what} of {claim.host.name} at {one.start:#x} and {other.what} at {other.start:#x} share memory"
    for structure in claim.found.structures:
        if (why := _not_the_hosts(claim, structure)) is not None:
            return f"{structure.what} of {claim.host.name} {why}"
    live = sum(1 for _ in claim.found.live())
    tables = plural(len(claim.found.structures), "table")
    said.append(f"stream table: {plural(len(claim.found.entries), 'entry', 'entries')} in {tables}, of which {live} let traffic through")
    return None


def _not_the_hosts(claim: Claim, structure: Structure) -> str | None:
    """Why a structure is not where only the host writes, or None."""
    start, length, tables = structure.start, structure.size, claim.grant.tables
    if (whose := claim.guests_have(start, length)) is not None:
        return f"at {start:#x} lies in {whose}"
    if tables is None or start < tables.start or start + length > tables.end:
        return f"at {start:#x} lies outside of the host's own tables"
    for queue in claim.found.queues():
        if _overlap(structure, queue):
            return f"at {start:#x} shares memory with {queue.what} at {queue.start:#x}, where the SMMU writes what a guest's faults say"
    return None


def _overlap(one: Structure, other: Structure) -> bool:
    return one.start < other.start + other.size and other.start < one.start + one.size


def strangers(claim: Claim) -> str | None:
    """Nothing is let through for a StreamID that is no VM's."""
    for entry in claim.strangers():
        function = claim.streams.get(entry.sid)
        whose = f"{function.address}, which no VM has" if function is not None else "which is nobody's"
        config = StreamConfig(entry.ste.Config)
        return f"the entry of StreamID {entry.sid:#x} ({whose}) at {entry.where:#x} has Config {config}, {_CONFIGS[config]}"
    return None


def viommus(claim: Claim) -> str | None:
    """Each vIOMMU of the VM is on a stage 2 of its own."""
    for vsmmu, viommu in claim.viommus(claim.vm):
        if viommu.parent not in claim.parents:
            owner = next((vm.layout.name for vm in claim.world.vms.values() if viommu.parent in vm.iommufd.parents), None)
            whose = f"VM {owner}'s" if owner is not None else "no VM's"
            return f"the vIOMMU of {vsmmu} is on stage 2 at {viommu.parent.entry.S2TTB:#x} with VMID {viommu.vmid}, which is {whose}"
    return None


# -- streams ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Reached:
    """Tables that were looked at, each once, with what they lead to."""

    walked: Walked = field(default_factory=Walked)
    of: dict[tuple[Regime, bool], tuple[int, int]] = field(default_factory=dict)


def tables(claim: Claim, reached: Reached, ste: STE) -> str | None:
    """Every table that an entry of the host's making leads the hardware to: each leaf is granted, each table is the host's own."""
    if (why := ste_illegal(ste, claim.found.features)) is not None:
        return f"the entry that the host makes is ILLEGAL: {why}"
    for where, why in _illegal(claim, ste):
        return f"the context descriptor at {where:#x} is ILLEGAL: {why}"
    for stage, regime, upper in _tables_of(claim, ste):
        if (regime, upper) in reached.of:
            continue
        leaves, length = reached.walked.leaves, reached.walked.bytes
        stray = check_tables(claim.world.memory, regime, claim.grant, reached.walked, upper=upper, tagged=stage == 1)
        if stray is not None:
            return f"stage {stage} maps {stray.ipa:#x} to {stray.pa:#x}, {claim.world.owner_of(stray.pa)}: {stray.why}"
        reached.of[regime, upper] = reached.walked.leaves - leaves, reached.walked.bytes - length
    return None


def _tables_of(claim: Claim, ste: STE) -> Iterator[tuple[int, Regime, bool]]:
    """Stage, table and whether it is the upper half's, of the stages that the host controls."""
    if stage2_on(ste):
        yield 2, stage2_of(ste, claim.found.features).regime, False
        return
    for _, stage1 in _contexts(claim, ste):
        for half in (stage1.lower, stage1.upper):
            if half is not None and half.regime is not None:
                yield 1, half.regime, half.upper


def _illegal(claim: Claim, ste: STE) -> Iterator[tuple[int, str]]:
    """Context descriptors with V 1 of an entry with stage 1 alone that the SMMU does not take, and why."""
    stream_world = world(ste, claim.found.features, bool(claim.found.cr2.E2H))
    for descriptor in claim.found.descriptors(ste)[1]:
        if (why := cd_illegal(descriptor.cd, ste, claim.found.features, stream_world)) is not None:
            yield descriptor.where, why


def _contexts(claim: Claim, ste: STE) -> Iterator[tuple[int, Stage1]]:
    """The legal context descriptors of an entry with stage 1 alone: where each is, and its stage 1."""
    features, stream_world = claim.found.features, world(ste, claim.found.features, bool(claim.found.cr2.E2H))
    for descriptor in claim.found.descriptors(ste)[1]:
        if cd_illegal(descriptor.cd, ste, features, stream_world) is None:
            yield descriptor.where, stage1_of(descriptor.cd, ste, stream_world, features)


def streams(claim: Claim, reached: Reached, may_use_ats: dict[str, bool], said: list[str]) -> str | None:
    """The entries of the VM's functions, as the driver has them and as the hardware reads them, and all that they lead to."""
    for sid, function in claim.own:
        where = f"the entry of {function.address} (StreamID {sid:#x}"
        ats = may_use_ats.get(function.address, False)
        device = claim.world.devices.get(function.address)
        if device is not None and (why := _not_the_parents(claim, device.installed, ats=ats)) is not None:
            return f"{where}, as the kernel has it) {why}"
        entry = claim.found.entries.get(sid)
        if entry is None:
            said.append(f"StreamID {sid:#x} ({function.address}): no entry, aborted")
            continue
        where = f"{where} at {entry.where:#x})"
        if (why := _not_the_parents(claim, entry.ste, ats=ats)) is not None:
            return f"{where} {why}"
        if not lets_through(entry.ste, claim.host.smmu):
            said.append(f"StreamID {sid:#x} ({function.address}): aborted")
            continue
        if (why := _stage1_alone(claim, entry)) is not None or (why := tables(claim, reached, entry.ste)) is not None:
            return f"{where}: {why}"
        said.append(f"StreamID {sid:#x} ({function.address}): {_leads_to(claim, reached, entry.ste)}")
    return None


def _not_the_parents(claim: Claim, ste: STE, *, ats: bool) -> str | None:
    if not ste.V or ste.Config < StreamConfig.BYPASS:
        return None
    reasons = [beyond_host(ste, parent, ats=ats) for parent in claim.parents]
    if not reasons:
        return f"lets traffic through (Config {ste.Config}), and the VM has no tables on this SMMU"
    return reasons[0] if all(reasons) else None


def _stage1_alone(claim: Claim, entry: StreamEntry) -> str | None:
    """What an entry without stage 2 rests on: context descriptors that only the host writes, and no way past stage 1."""
    if entry.ste.Config == StreamConfig.STAGE1 and claim.found.skips_stage1(entry.ste):
        return "S1DSS 1 lets transactions without a PASID pass by stage 1, and there is no stage 2: every address of the host"
    for structure in claim.found.descriptors(entry.ste)[0]:
        if (why := _not_the_hosts(claim, structure)) is not None:
            return f"{structure.what} {why}"
    return None


def _leads_to(claim: Claim, reached: Reached, ste: STE) -> str:
    parts = []
    for stage, regime, upper in _tables_of(claim, ste):
        leaves, length = reached.of[regime, upper]
        order = ", big-endian" if regime.swap else ""
        parts.append(f"stage {stage} at {regime.base:#x} ({regime.output_bits} bits{order}) with {plural(leaves, 'leaf', 'leaves')}, {size(length)}")
    return " and ".join(parts) or "nothing: no context descriptor is valid"


# -- tags -------------------------------------------------------------------------------------------------------------


def tags(claim: Claim) -> str | None:
    """What tags the VM's translations in the TLB tags nobody else's: its VMIDs, or the ASIDs of the host's own stage 1."""
    features, name = claim.found.features, claim.vm.layout.name
    mask = 0xFFFF if features.vmid16 else 0xFF
    wildcard = claim.found.cr0.VMW if features.vmw and claim.found.cr0.VMW <= 4 else 0
    commanded = {parent.vmid for parent in claim.parents if parent.contexts is None}
    for parent in claim.parents:
        if parent.contexts is None and parent.vmid != parent.entry.S2VMID:
            return f"commands of VM {name} carry VMID {parent.vmid}, and its entries have VMID {parent.entry.S2VMID}"
    for other in claim.world.vms.values():
        if other is claim.vm:
            continue
        theirs = [*parents_of(other, claim.host), *(viommu.parent for _, viommu in claim.viommus(other))]
        for parent in theirs:
            if parent.contexts is None and any((parent.vmid ^ vmid) & mask == 0 for vmid in commanded):
                return f"VM {other.layout.name} has VMID {parent.vmid} of {claim.host.name} too"
            if parent.contexts is None and any((parent.vmid ^ vmid) & mask < 1 << wildcard for vmid in commanded):
                return f"CR0.VMW is {wildcard}: commands with a VMID of VM {name} work on VMID {parent.vmid} of VM {other.layout.name} too"
            if parent.contexts is not None and any(_same_asid(parent, own) for own in claim.parents):
                return f"VM {other.layout.name} has ASID {parent.asid} of {claim.host.name} too"
    return _tags_of_entries(claim)


def _same_asid(parent: Parent, other: Parent) -> bool:
    mask = 0xFFFF if parent.smmu.smmu.features.asid16 else 0xFF
    return other.contexts is not None and not (parent.asid ^ other.asid) & mask


def _tags_of_entries(claim: Claim) -> str | None:
    """The same of the entries and context descriptors that the hardware reads."""
    name = claim.vm.layout.name
    own: list[StreamEntry] = []
    others: list[StreamEntry] = []
    for entry in claim.found.live():
        if entry.ste.Config != StreamConfig.BYPASS:
            (own if name in claim.vms_of(entry.sid) else others).append(entry)
    mine = {(entry.ste.S2VMID, _stage2_of(claim, entry)) for entry in own}
    spaces = {space: where for _, where, space in _spaces(claim, own)}
    for entry in others:
        theirs, who = _stage2_of(claim, entry), ", ".join(f"VM {vm}" for vm in sorted(claim.vms_of(entry.sid))) or "nobody"
        for vmid, stage2 in mine:
            # The same table under the same tag makes the same entries; without stage 2 ASIDs are what tells them apart.
            if vmid == entry.ste.S2VMID and stage2 != theirs:
                return f"the entry of StreamID {entry.sid:#x} ({who}) at {entry.where:#x} has VMID {vmid} of VM {name} too, with other tables"
        for sid, where, space in _spaces(claim, [entry]):
            if space in spaces:
                tag = f"VMID {space[1]}, ASID {space[2]} as VM {name}'s at {spaces[space]:#x}"
                return f"the context descriptor of StreamID {sid:#x} ({who}) at {where:#x} has {tag}"
    return None


def _stage2_of(claim: Claim, entry: StreamEntry) -> Regime | None:
    return stage2_of(entry.ste, claim.found.features).regime if stage2_on(entry.ste) else None


def _spaces(claim: Claim, entries: list[StreamEntry]) -> Iterator[tuple[int, int, Space]]:
    for entry in entries:
        for where, stage1 in _contexts(claim, entry.ste):
            yield entry.sid, where, stage1.space


# -- caches -----------------------------------------------------------------------------------------------------------


def caches(claim: Claim) -> str | None:
    """Nothing is cached of the VM's streams and VMIDs, or of nobody's, that memory does not say; and no ATC holds what is not the VM's."""
    name, tagged = claim.vm.layout.name, _vmids(claim)
    expected = [parent.entry for vm in claim.world.vms.values() for parent in parents_of(vm, claim.host)]
    for cached in stale(claim.found, expected):
        whose = claim.vms_of(cached.sid) if cached.sid is not None else tagged.get(cached.vmid or 0, frozenset())
        if not whose or name in whose:
            return cached.text
    for (sid, _), held in claim.host.smmu.endpoints.held.items():
        if (whose := claim.vms_of(sid)) and name not in whose:
            continue
        for start, response in held:
            if not claim.granted(response.address, 1 << response.size):
                return (
                    f"the ATC behind StreamID {sid:#x} holds {response.address:#x} for {start:#x}, {claim.world.owner_of(response.address)}, "
                    f"which is not VM {name}'s"
                )
    return None


def _vmids(claim: Claim) -> dict[int, frozenset[str]]:
    """Which VMs have a VMID, by the entries that the hardware reads and by those that may be installed again."""
    found: dict[int, frozenset[str]] = {}
    for entry in claim.found.live():
        found[entry.ste.S2VMID] = found.get(entry.ste.S2VMID, frozenset()) | claim.vms_of(entry.sid)
    for vm in claim.world.vms.values():
        for parent in parents_of(vm, claim.host):
            found[parent.entry.S2VMID] = found.get(parent.entry.S2VMID, frozenset()) | {vm.layout.name}
    return found
