"""What a guest can write, and what the hardware gets of it: stream table entries and commands. Parts 1 and 3 of the isolation proof.

Both are decided bit by bit and opcode by opcode. That is all there is, since the kernel copies bits (arm_smmu_make_nested_cd_table_ste(),
arm_vsmmu_convert_user_cmd()). What may differ from the host's own entry, and what a command may look like, is listed here; all else is a
counterexample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache, reduce
from operator import or_

from wizard.arch import command
from wizard.arch.command import Command, Op, StreamCommand, Sync, Tlbi
from wizard.arch.ste import STE, StreamConfig
from wizard.dryrun.world import Vm, World
from wizard.nesting import KernelError, Parent, Viommu
from wizard.nesting.invalidate import convert
from wizard.nesting.vste import ALLOWED, ATS_FULL, ATS_REFUSED, Vste, physical, validate
from wizard.plan.request import Mode
from wizard.smmu.cmdqv import Vintf

GUESTS = frozenset({"V", "Config", "S1Fmt", "S1ContextPtr", "S1CDMax", "S1DSS", "S1CIR", "S1COR", "S1CSH", "S1STALLD", "EATS", "MEV"})
"""Fields of an installed entry that may differ from the host's, as IHI 0070 5.2 has them work on stage 1 alone; Config and EATS within bounds.

Deliberately not taken from ``wizard.nesting``, whose list is what is to be judged.
"""

_HOSTS = reduce(or_, (f.mask << f.lo for name, f in STE.layout.items() if name not in GUESTS))
"""The bits of all other fields."""

TLBI = frozenset({Op.TLBI_NH_ALL, Op.TLBI_NH_ASID, Op.TLBI_NH_VA, Op.TLBI_NH_VAA})
"""Stage 1 of one VMID (IHI 0070 4.4.2); CMD_TLBI_NSNH_ALL and those of stage 2 reach other VMs."""

STREAM = frozenset({Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV})
_NAME_A_STREAM = frozenset(op for op, layout in command.FORMATS.items() if "StreamID" in layout.layout)
_OPCODES = frozenset(Op)
_ONES = (1 << 64) - 1


# -- entries ----------------------------------------------------------------------------------------------------------


def entries(parents: Iterable[Parent], steps: list[str], *, ats: bool) -> str | None:
    """Every accepted entry keeps stage 2: with each Config and EATS, each bit alone and all of them. Answers the first that does not.

    ``ats`` says that the kernel may turn ATS on at one of the functions.
    """
    nesting = [parent for parent in parents if parent.nest_parent]
    if not nesting:
        steps.append("entries: none, the guest has no vSMMU to write any for")
        return None
    for parent in nesting:
        fine: set[tuple[int, bool]] = set()
        for low, high, vste in _accepted(validate, ALLOWED):
            for on in (False, True) if vste.ats and ats else (False,):
                installed = physical(vste, parent.entry, ats=on)
                if (installed.value, on) in fine:
                    continue
                if (why := beyond_host(installed, parent, ats=on)) is not None:
                    return f"an entry {low:#x} {high:#x} of the guest {why}"
                fine.add((installed.value, on))
    bits = sum(word.bit_count() for word in ALLOWED)
    steps.append(
        f"entries: {bits} bits that a guest may set, each alone and all together, with 8 values of Config and 4 of EATS: "
        "what is installed has stage 2 as the host made it, or aborts"
    )
    return None


def _written(bits: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Words 0 and 1 as a guest may try them."""
    for config in range(8):
        for eats in range(4):
            low, high = STE.build(V=1, Config=config, EATS=eats).words[:2]
            yield low, high
            yield low | bits[0] & ~STE.build(Config=7).words[0], high | bits[1] & ~STE.build(EATS=3).words[1]
            for bit in range(64):
                yield low | 1 << bit, high
                yield low, high | 1 << bit
    yield 0, 0
    yield _ONES ^ 1, _ONES


@lru_cache(maxsize=4)
def _accepted(judge: Callable[[tuple[int, int]], Vste], bits: tuple[int, ...]) -> tuple[tuple[int, int, Vste], ...]:
    """What the kernel takes of all that a guest may try, for every VM alike: by who judges, and the bits that a guest may set."""
    found = []
    for low, high in _written(bits):
        with suppress(KernelError):
            found.append((low, high, judge((low, high))))
    return tuple(found)


def beyond_host(installed: STE, parent: Parent, *, ats: bool) -> str | None:
    """In which way an installed entry lets a function past the host's tables, or None. ``ats`` says that ATS may be on."""
    host = parent.entry
    if not installed.V or installed.Config == StreamConfig.ABORT:
        return None
    allowed = {host.Config, StreamConfig.NESTED} if parent.nest_parent else {host.Config}
    if installed.Config not in allowed:
        return f"is installed with Config {installed.Config}, without the host's stage {parent.table.stage}"
    if (installed.value ^ host.value) & _HOSTS:
        changed = [name for name, f in STE.layout.items() if name not in GUESTS and f.get(installed.value) != f.get(host.value)]
        values = ", ".join(f"{name} {STE.layout[name].get(installed.value):#x}" for name in changed)
        return f"is installed with {values}, which the host set otherwise"
    if not parent.nest_parent and installed.replace(EATS=host.EATS) != host:
        values = ", ".join(
            f"{name} {content:#x}" for name, content in installed.fields().items() if content != host.fields()[name] and name != "EATS"
        )
        return f"is not the one that the host made: {values or 'undeclared bits'}"
    if installed.EATS not in ((ATS_REFUSED, ATS_FULL) if ats else (ATS_REFUSED,)):
        return f"is installed with EATS {installed.EATS}, which lets translated traffic pass by stage 2"
    return None


# -- commands ---------------------------------------------------------------------------------------------------------


def commands(world: World, vm: Vm, smmu: str, steps: list[str]) -> str | None:
    """Every opcode, with every other bit 0 and 1: refused, or with the VM's own VMID or StreamID.

    vDEVICEs come into being at the guest's first entry; those to come are taken as planned.
    """
    own = {sid for f in world.layout.functions_of(vm.layout.name) if f.smmu == smmu for sid in f.streams}
    foreign = {sid for f in world.layout.functions if f.smmu == smmu for sid in f.streams} - own
    ways = {"iommufd": 0, "CMDQV": 0}
    for vsmmu in vm.vsmmus.values():
        viommu = vsmmu.viommu
        if viommu is None or viommu.smmu.name != smmu:
            continue
        table = {behind.vsid: behind.device.sid for behind in vsmmu.behind.values()}
        table |= {vdevice.vsid: vdevice.device.sid for vdevice in viommu.vdevices.values()}
        for way, passes in _ways(viommu, table, cmdqv=vsmmu in _with_cmdqv(vm)):
            ways[way] += 1
            for low, high in _sent(table, foreign):
                passed = passes(low, high)
                if passed is not None and (why := _beyond_vm(passed, viommu.vmid, own, own_queue=way == "CMDQV")) is not None:
                    return f"a command {low:#x} {high:#x} of the guest goes out through {way} {why}"
    through = " and ".join(way for way, count in ways.items() if count)
    if through:
        steps.append(f"commands: 256 opcodes through {through}; what passes carries the VM's VMID or one of its own StreamIDs")
    elif vm.layout.mode is not Mode.ACCEL:
        steps.append("commands: none, the VM has no accelerated vSMMU")
    return None


def _with_cmdqv(vm: Vm) -> list[object]:
    return [vm.vsmmus[v.id] for v in vm.layout.vsmmus if v.cmdqv and v.id in vm.vsmmus]


def _ways(viommu: Viommu, table: dict[int, int], *, cmdqv: bool) -> Iterator[tuple[str, Callable[[int, int], Command | None]]]:
    """How a guest's commands get to the hardware, each with what becomes of two words."""

    def by_ioctl(low: int, high: int) -> Command | None:
        try:
            return command.decode(*convert((low, high), viommu.vmid, table.get))
        except KernelError:
            return None

    yield "iommufd", by_ioctl
    if cmdqv:
        yield "CMDQV", Vintf(viommu.smmu.smmu, viommu.vmid, table).rewritten


def _sent(table: dict[int, int], foreign: set[int]) -> Iterator[tuple[int, int]]:
    """Commands as a guest may try them: other VMs' StreamIDs and vSIDs that nobody has among them."""
    streams = (*table, *table.values(), *foreign)
    for opcode, low, high in _opcodes():
        yield low, high
        if opcode in _NAME_A_STREAM:
            for stream in dict.fromkeys(streams):
                yield low & 0xFFFF_FFFF | stream << 32, high


@cache
def _opcodes() -> tuple[tuple[int, int, int], ...]:
    """Every opcode with its two words, every other bit 0 and 1."""
    found = []
    for opcode in range(256):
        for rest in (0, _ONES):
            low, high = Command.of_words((rest, rest)).replace(Opcode=opcode).words
            found.append((opcode, low, high))
    return tuple(found)


def _beyond_vm(passed: Command, vmid: int, own: set[int], *, own_queue: bool) -> str | None:
    """Why a command that reaches the hardware is not the VM's to send, or None."""
    if passed.Opcode in TLBI and isinstance(passed, Tlbi):
        return f"with VMID {passed.VMID}, which is not the VM's {vmid}" if vmid != passed.VMID else None
    if passed.Opcode in STREAM and isinstance(passed, StreamCommand):
        return f"with StreamID {passed.StreamID:#x}, which is not the VM's" if passed.StreamID not in own else None
    if isinstance(passed, Sync) and own_queue:
        return f"as a CMD_SYNC that writes to {passed.MSIAddress:#x} of the host" if passed.MSIAddress else None
    name = f"CMD_{Op(passed.Opcode).name}" if passed.Opcode in _OPCODES else f"opcode {passed.Opcode:#x}"
    return f"as {name}, which is none that a guest may send"
