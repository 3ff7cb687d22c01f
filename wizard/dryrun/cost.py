"""What a VM's translations cost: memory of tables, loads of a TLB miss, commands of an unmap, and what another layout would cost.

Counted on the model's own tables and on the commands that Linux's driver sends; times are not guessed. The workload is the administrator's.
"""

from __future__ import annotations

from dataclasses import dataclass

from wizard.base.text import plural, size
from wizard.dryrun.guest import BATCH_ENTRIES, CTXDESC_LINEAR_CDMAX, PAGE, invalidation
from wizard.dryrun.layout import FunctionLayout, VmLayout, VsmmuLayout
from wizard.dryrun.model import CommandCost, Cost, LayoutCost, TableCost
from wizard.dryrun.world import Vm, World
from wizard.nesting.invalidate import BATCH
from wizard.plan.request import Mode
from wizard.smmu.regime import STRIDE

STAGE1_LEVELS = 4
"""Levels of a guest's stage 1: 48 bits in pages of 4 KiB."""

_TABLE_SPAN = PAGE << STRIDE[12]


@dataclass(frozen=True, slots=True)
class Workload:
    """What the guest does. ``shared`` is how many functions use one stage 1 (SVA, VFIO, DPDK); ``buffer`` is mapped and unmapped at once.

    ``mapped`` bytes are mapped for each address space at a time; ``touched`` pages of it are in use.
    """

    buffer: int = 64 << 10
    shared: int = 1
    mapped: int = 64 << 20
    touched: int = 1024

    def __post_init__(self) -> None:
        """``ValueError`` for a workload that does nothing."""
        if min(self.buffer, self.shared, self.mapped, self.touched) < 1:
            raise ValueError("every figure of a workload is at least 1")

    @property
    def text(self) -> str:
        """For people."""
        together = f"{self.shared} functions share a table" if self.shared > 1 else "every function has a table of its own"
        return f"buffers of {size(self.buffer)} unmapped at once, {size(self.mapped)} mapped, {self.touched} pages in use, {together}"


def costs_of(world: World, name: str, workload: Workload) -> list[Cost]:
    """The cost of one VM; nothing for a VM without stage 2."""
    vm = world.vms[name]
    functions = [f for f in world.layout.assigned(name) if f.vsmmu is not None]
    parents = [parent for parent in vm.iommufd.parents if parent.nest_parent and parent.smmu.name in {f.smmu for f in functions}]
    if not parents or vm.layout.mode is not Mode.ACCEL or not functions:
        return []
    table = parents[0].table
    stage2_levels = len(table.levels)
    # Each stage 1 descriptor is at an intermediate address of its own, which stage 2 translates first; then the output.
    nested = STAGE1_LEVELS * (stage2_levels + 1) + stage2_levels
    stage2 = sum(_bytes(parent.table.tables, parent.table.granule, parent.table.root, parent.table.levels[0].mask + 1) for parent in parents)
    return [
        Cost(
            vm=name,
            tables=_tables(functions, vm.layout, stage2, workload),
            loads_per_miss=nested,
            # With walk caches and stage 2 of the leaf table cached, a miss loads the leaf and stage 2's leaf.
            loads_best=2,
            unmap=tuple(_unmaps(vm.layout, functions, workload)),
            layouts=tuple(_layouts(vm, functions, workload)),
            workload=workload.text,
        )
    ]


def _bytes(tables: list[int], granule: int, root: int, words: int) -> int:
    return sum(8 * words if table == root else 1 << granule for table in tables)


def _tables(functions: list[FunctionLayout], vm: VmLayout, stage2: int, workload: Workload) -> TableCost:
    ssids = {v.id: v.ssidsize for v in vm.vsmmus}
    context = sum(64 << min(f.pasid, ssids.get(f.vsmmu or "", 0), CTXDESC_LINEAR_CDMAX) for f in functions)
    spaces = _domains(_planned(functions), workload)
    leaf_tables = -(-workload.mapped // _TABLE_SPAN)
    # Three levels above, of which one table each serves what is mapped.
    stage1 = spaces * (leaf_tables + STAGE1_LEVELS - 1) * PAGE
    streams = {(f.vsmmu, (f.vsid or 0) >> 8) for f in functions}
    return TableCost(stage2=stage2, stream_table=len(vm.vsmmus) * (1 << 8) * 8 + len(streams) * (64 << 8), context=context, stage1=stage1)


def _unmaps(vm: VmLayout, functions: list[FunctionLayout], workload: Workload) -> list[CommandCost]:
    """Three ways to the hardware of the commands of one unmap on the VM's first vSMMU."""
    vsmmu = next(v for v in vm.vsmmus if v.id == functions[0].vsmmu)
    behind = [f for f in functions if f.vsmmu == vsmmu.id]
    tlbi, atc = _commands(vsmmu, behind[: workload.shared], workload)
    total, rounds = tlbi + atc, 2 if atc else 1
    # ATC_INV waits for the CMD_SYNC behind the TLBIs (arm_smmu_invs_end_batch()). Each batch is a write of CMDQ_PROD, each wait a read of CMDQ_CONS.
    writes = [size for part in (tlbi, atc) for size in _batches(part)]
    exits = len(writes) + rounds
    ril = "with" if vsmmu.ril else "without"
    return [
        CommandCost(
            way="QEMU", commands=total, syncs=total, exits=exits, ioctls=total, hypothetical=False,
            text=f"today: one ioctl and one CMD_SYNC per command ({ril} range invalidation)",
        ),
        CommandCost(
            way="batched", commands=total, syncs=sum(-(-size // BATCH) for size in writes), exits=exits, ioctls=len(writes), hypothetical=True,
            text=f"one ioctl for each write of CMDQ_PROD, {BATCH} commands per CMD_SYNC; no QEMU does it yet",
        ),
        CommandCost(
            way="CMDQV", commands=total, syncs=rounds, exits=0, ioctls=0, hypothetical=not vsmmu.cmdqv,
            text="the guest's own queue: TLBI_NH_VA, TLBI_NH_ASID and ATC_INV without an exit" + ("" if vsmmu.cmdqv else "; this vSMMU has none"),
        ),
    ]  # fmt: skip


def _batches(commands: int) -> list[int]:
    """Commands of each write of CMDQ_PROD."""
    return [min(BATCH_ENTRIES, commands - first) for first in range(0, commands, BATCH_ENTRIES)]


def _commands(vsmmu: VsmmuLayout, users: list[FunctionLayout], workload: Workload) -> tuple[int, int]:
    """Commands of one unmap on one vSMMU: TLBIs of the range, and an ATC_INV for each function with ATS that uses the table."""
    atc = sum(1 for f in users if f.ats and f.ats_shown) if vsmmu.ats else 0
    return len(list(invalidation(1, 0, workload.buffer, ril=vsmmu.ril))), atc


def _layouts(vm: Vm, functions: list[FunctionLayout], workload: Workload) -> list[LayoutCost]:
    """The plan's layout, its functions split over a vSMMU each, and joined under one. Commands are those of one unmap."""
    by_id = {v.id: v for v in vm.layout.vsmmus}
    smmus = list(dict.fromkeys(f.smmu for f in functions))
    planned = _planned(functions)
    split = [[f] for f in functions]
    joined = [[f for f in functions if f.smmu == s] for s in smmus]
    stage2 = next(len(parent.table.levels) for parent in vm.iommufd.parents if parent.nest_parent)
    loads = STAGE1_LEVELS * (stage2 + 1) + stage2

    def cost(name: str, parts: list[list[FunctionLayout]], text: str, *, vsmmus: int | None = None, broadcast: bool = False) -> LayoutCost:
        commands = _per_unmap(parts, by_id, workload, broadcast=broadcast)
        entries = _domains(parts, workload) * workload.touched
        count = len(parts) if vsmmus is None else vsmmus
        return LayoutCost(layout=name, vsmmus=count, commands=commands, iotlb_entries=entries, loads=entries * loads, text=text)

    one = "one vSMMU for the SMMU: functions that share a table share its TLB entries"
    refused = (
        f"one vSMMU over {plural(len(smmus), 'SMMU')}: every invalidation goes to each of them, whoever uses the table; the plan refuses it, "
        f"since the kernel ties a vIOMMU to one SMMU (arm_smmu_attach_dev_nested())"
    )
    return [
        cost("as planned", planned, "what the profile says"),
        cost("split", split, "a vSMMU for each function: a shared table is a domain of its own on each, with its own TLB entries and invalidations"),
        cost("joined", joined, one if len(smmus) == 1 else refused, vsmmus=1, broadcast=len(smmus) > 1),
    ]


def _planned(functions: list[FunctionLayout]) -> list[list[FunctionLayout]]:
    """Functions by vSMMU."""
    return [[f for f in functions if f.vsmmu == v] for v in dict.fromkeys(f.vsmmu for f in functions)]


def _per_unmap(parts: list[list[FunctionLayout]], by_id: dict[str, VsmmuLayout], workload: Workload, *, broadcast: bool) -> int:
    """Commands of one unmap of a table that ``workload.shared`` functions use, the first ones of the layout."""
    left, commands = workload.shared, 0
    for part in parts:
        users = part[:left]
        left -= len(users)
        if users or broadcast:
            commands += sum(_commands(by_id[part[0].vsmmu or ""], users, workload))
    return commands


def _domains(parts: list[list[FunctionLayout]], workload: Workload) -> int:
    """Address spaces under ASIDs of their own: a shared table once for each part that uses it, and one for every other function."""
    left, domains = workload.shared, 0
    for part in parts:
        users = len(part[:left]) if workload.shared > 1 else 0
        left -= users
        domains += (1 if users else 0) + len(part) - users
    return domains
