"""Isolation, proved: for every stage 1, stream table entry and command that a guest can write, not for one.

The proof starts from the hardware: registers, the stream table they name, every entry in it, context descriptors, and both stages' tables, as a
walk would read them (``asfound``). What the plan says of functions and memory is only the claim that they are held against (``claim``). What a
guest's functions reach is then decided by stage 2 alone, so that four things are left to show: (1) no accepted entry leaves stage 2 out or
changes it, (2) every leaf is the VM's own memory, (3) no accepted command works on another VMID or StreamID, (4) each StreamID, VMID and ASID
is one VM's. Parts 1 and 3 are in ``writable``; what it all rests on is in ``trust``.

It is a proof of the plan as modelled, not of the running kernel, and its assumptions are part of it. It says what this VM's guest can reach; that
nobody reaches this VM is the proof of all the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wizard.base.text import plural, size
from wizard.dryrun.model import Proof
from wizard.dryrun.trust import assumptions, may_use_ats
from wizard.dryrun.world import World
from wizard.dryrun.writable import commands, entries
from wizard.nesting import Parent
from wizard.smmu.inventory import Inventory

if TYPE_CHECKING:
    from wizard.dryrun.asfound import Reached
    from wizard.dryrun.claim import Claim


def prove(world: World, vm: str, smmu: str) -> Proof:
    """The proof of one VM on one SMMU of the simulated host; ``KeyError`` for names that there are not."""
    from wizard.dryrun import asfound  # numpy: only a proof walks whole tables
    from wizard.dryrun.claim import Claim

    host = world.smmus[smmu]
    claim = Claim(world, world.vms[vm], host, Inventory(host.smmu))
    may = {function.address: may_use_ats(world, function) for _, function in claim.own}
    steps: list[str] = []
    said: list[str] = []
    reached = asfound.Reached()
    broken = (
        world.shared
        or asfound.structures(claim, said)
        or asfound.registers(claim, said)
        or asfound.strangers(claim)
        or asfound.viommus(claim)
        or entries(claim.parents, steps, ats=any(may.values()))
        or _frames(claim, reached, steps)
        or commands(world, claim.vm, smmu, steps)
        or _identities(claim, steps)
        or asfound.streams(claim, reached, may, said)
        or asfound.tags(claim)
        or asfound.caches(claim)
    )
    return Proof(
        vm=vm, smmu=smmu, proved=broken is None, text=_text(claim, reached) if broken is None else broken, pages=reached.walked.leaves,
        table_bytes=reached.walked.table_bytes, steps=tuple(steps), hardware=tuple(said), assumptions=assumptions(world, vm, host),
        plugged=tuple(function.address for function in claim.plugged), counterexample=broken,
    )  # fmt: skip


def _text(claim: Claim, reached: Reached) -> str:
    if not claim.parents:
        return "no stage 2 was made: no function of the VM is attached, and each of its streams is aborted"
    also = "its functions' BARs and the ITS page" if claim.vm.layout.peer_to_peer else "and the ITS page"
    leaves = plural(reached.walked.leaves, "leaf", "leaves")
    return f"{leaves} of {_stages(claim.parents)} lead to {size(reached.walked.bytes)} of the VM's own memory, {also}"


# -- tables -----------------------------------------------------------------------------------------------------------


def _frames(claim: Claim, reached: Reached, steps: list[str]) -> str | None:
    """Every leaf of the tables that the VM's entries are made from is its own memory, its functions' BARs, or the ITS page."""
    from wizard.dryrun.asfound import tables

    for parent in claim.parents:
        if (why := tables(claim, reached, parent.entry)) is not None:
            return why
    walked = reached.walked
    if claim.parents:
        count, leaves = plural(walked.tables, "table"), plural(walked.leaves, "leaf", "leaves")
        steps.append(f"{_stages(claim.parents)}: {count} of {plural(walked.table_bytes, 'byte')} together, {leaves}, each looked at")
    return None


def _stages(parents: list[Parent]) -> str:
    return " and ".join(sorted({"stage 2" if parent.contexts is None else "the host's stage 1" for parent in parents}))


# -- identities -------------------------------------------------------------------------------------------------------


def _identities(claim: Claim, steps: list[str]) -> str | None:
    """A StreamID is one function's."""
    owners: dict[int, str] = {}
    for function in claim.world.layout.functions:
        for sid in function.streams if function.smmu == claim.host.name else ():
            if sid in owners:
                return f"StreamID {sid:#x} of {claim.host.name} belongs to {owners[sid]} and to {function.address}"
            owners[sid] = function.address
    vmids = sorted({parent.vmid for parent in claim.parents if parent.contexts is None})
    asids = sorted({parent.asid for parent in claim.parents if parent.contexts is not None})
    tags = [f"{name} {', '.join(map(str, values))}" for name, values in (("VMID", vmids), ("ASID", asids)) if values]
    own = f", {' and '.join(tags)} this VM's alone" if tags else ""
    steps.append(f"identities: {plural(len(owners), 'StreamID')} of {claim.host.name} with one owner each{own}")
    return None
