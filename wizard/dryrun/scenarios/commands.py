"""Commands of a guest: what passes, what is substituted, and what stops the batch. Linux 7.2 and 7.3 arm-smmu-v3-iommufd.c, tegra241-cmdqv.c."""

from __future__ import annotations

from wizard.arch import command
from wizard.arch.command import Op, StreamCommand, Tlbi
from wizard.dryrun.bench import Bench, Failed, NotApplicable, rests_on, scenario
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import Fact
from wizard.nesting import Vintf, Viommu
from wizard.nesting.invalidate import ALLOWED, BATCH, Words, convert, encode

GROUP = "commands"
KERNEL, QEMU, HARDWARE = Stopper.KERNEL, Stopper.QEMU, Stopper.HARDWARE


def _viommu(bench: Bench) -> Viommu:
    viommu = bench.vsmmu.viommu
    if viommu is None:
        raise Failed("QEMU made no vIOMMU")
    return viommu


@scenario("forbidden-commands", GROUP, "commands that a guest may not pass", "arm_vsmmu_convert_user_cmd()", stops=KERNEL)
def forbidden(bench: Bench) -> str:
    """Each one is EIO in the middle of a batch, with the count of those before it."""
    stream, viommu = bench.stream, _viommu(bench)
    good = encode(Op.TLBI_NH_ASID, ASID=stream.domain.asid)
    kept = {op.value for op in ALLOWED}
    for opcode in [opcode for opcode in range(256) if opcode not in kept]:
        batch = [good, (opcode, 0), good]
        error = bench.refused(lambda batch=batch: bench.vm.iommufd.invalidate(viommu, batch), "EIO", f"opcode {opcode:#x}")  # type: ignore[misc]
        if error.done != 1:
            raise Failed(f"opcode {opcode:#x}: entry_num is {error.done} instead of 1")
    return f"EIO for {256 - len(kept)} opcodes, entry_num 1 of 3 each time"


@scenario("batch", GROUP, "an error behind a full batch", "arm_vsmmu_cache_invalidate()", "CMDQ_BATCH_ENTRIES", stops=KERNEL)
def batch(bench: Bench) -> str:
    """63 go to the hardware, the open batch does not, and the count speaks of both."""
    stream, viommu = bench.stream, _viommu(bench)
    good: Words = encode(Op.TLBI_NH_ASID, ASID=stream.domain.asid)
    commands, syncs = bench.host.commands, bench.host.syncs
    many = [*[good] * (BATCH + 7), encode(Op.TLBI_EL2_ALL)]
    error = bench.refused(lambda: bench.vm.iommufd.invalidate(viommu, many), "EIO", "CMD_TLBI_EL2_ALL")
    issued = bench.host.commands - commands
    if (error.done, issued, bench.host.syncs - syncs) != (BATCH + 7, BATCH, 1):
        raise Failed(f"entry_num {error.done}, {issued} commands issued")
    return f"{BATCH} commands issued with one CMD_SYNC; entry_num says {error.done}, as the kernel counts what it converted"


@scenario("unknown-vsid", GROUP, "a command for a vSID that nobody has", "arm_vsmmu_vsid_to_sid()", "smmuv3_accel_issue_inv_cmd()", stops=QEMU)
def unknown_vsid(bench: Bench) -> str:
    """QEMU drops it; from another VMM the kernel refuses it."""
    viommu = _viommu(bench)
    _ = bench.stream
    free = next(vsid for vsid in range(1, 1 << 16) if vsid not in bench.vsmmu.behind)
    for op in (Op.CFGI_CD, Op.CFGI_CD_ALL, Op.ATC_INV):
        words = encode(op, StreamID=free)
        bench.refused(lambda words=words: bench.vm.iommufd.invalidate(viommu, [words]), "EIO", f"CMD_{op.name} of vSID {free:#x}")  # type: ignore[misc]
    before = bench.vsmmu.forwarded
    consumed = bench.send([encode(Op.CFGI_CD, StreamID=free), encode(Op.CFGI_STE, StreamID=free)])
    if consumed.count != 3 or bench.vsmmu.forwarded != before:
        raise Failed("QEMU passes a command for a vSID that it does not have")
    bench.stopped_by = QEMU
    return "QEMU ignores it; the kernel says EIO"


def _malformed(bench: Bench) -> dict[str, Words]:
    """Commands that a guest may send by their opcode, each with a field that IHI 0070 4.3 and 4.4 reserves or that a guest has no say in."""
    built = {
        "CMD_TLBI_NH_VA with TG alone": command.build(Op.TLBI_NH_VA, TG=1, Address=0x1000),
        "CMD_TLBI_NH_VA with TTL and no TG": command.build(Op.TLBI_NH_VA, TTL=3, Address=0x1000),
        "CMD_TLBI_NH_ALL with an ASID": command.build(Op.TLBI_NH_ALL, ASID=1),
        "CMD_TLBI_NH_ASID with an address": Tlbi(command.build(Op.TLBI_NH_ASID, ASID=1).value | 1 << 127),
        "CMD_TLBI_NSNH_ALL with a VMID": command.build(Op.TLBI_NSNH_ALL, VMID=1),
        "CMD_CFGI_CD with SSec": command.build(Op.CFGI_CD, StreamID=bench.vsid, SSec=1),
        "CMD_CFGI_CD_ALL with Leaf": command.build(Op.CFGI_CD_ALL, StreamID=bench.vsid, Leaf=1),
        "CMD_ATC_INV of Size 53": command.build(Op.ATC_INV, StreamID=bench.vsid, Size=53),
    }
    return {name: (record.words[0], record.words[1]) for name, record in built.items()}


@scenario(
    "malformed-commands", GROUP, "malformed commands, where the kernel looks at their fields", "arm_vsmmu_validate_user_cmd()",
    "arm_vsmmu_validate_range()", stops=KERNEL,
)  # fmt: skip
@rests_on(Fact.RELEASE)
def malformed(bench: Bench) -> str:
    """Linux 7.3: they never reach the queue that every function of the SMMU shares."""
    if bench.host.check is None:
        raise NotApplicable("this kernel looks at the opcode, VMID and vSID alone (before Linux 7.3, or its release is not known)")
    viommu = _viommu(bench)
    _ = bench.stream
    before = bench.host.commands, len(bench.host.skipped)
    cases = _malformed(bench)
    for name, words in cases.items():
        error = bench.refused(lambda words=words: bench.vm.iommufd.invalidate(viommu, [words]), "EIO", name)  # type: ignore[misc]
        if error.done:
            raise Failed(f"{name}: entry_num is {error.done} instead of 0")
    if (bench.host.commands, len(bench.host.skipped)) != before:
        raise Failed("one of them reached the SMMU's queue")
    return f"EIO for each of {len(cases)}; the SMMU's own queue sees none of them"


@scenario(
    "malformed-passed", GROUP, "malformed commands, where the kernel looks at the opcode alone", "arm_vsmmu_convert_user_cmd()",
    "arm_smmu_cmdq_build_cmd()", "IHI 0070 4.1.3, 7.1 (CERROR_ILL)", stops=HARDWARE,
)  # fmt: skip
@rests_on(Fact.RELEASE)
def malformed_passed(bench: Bench) -> str:
    """Linux 7.2 and older: the hardware meets them in the queue that all functions share, and stops it where it finds one ILLEGAL."""
    if bench.host.check is not None:
        raise NotApplicable("this kernel looks at every field (Linux 7.3)")
    viommu = _viommu(bench)
    stream = bench.stream
    before = len(bench.host.skipped)
    cases = _malformed(bench)
    for words in cases.values():
        bench.vm.iommufd.invalidate(viommu, [words])
    stopped = len(bench.host.skipped) - before
    if not stopped:
        raise Failed("the hardware finds none of them ILLEGAL")
    buffer = bench.guest().map(stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="a buffer after them")
    bench.stopped_by = HARDWARE
    return (
        f"{stopped} of {len(cases)} stop the queue of {bench.function.smmu}, which all of its functions share, until the kernel has skipped them "
        "('CMDQ error … Illegal command'): a tenant can slow down the others, and reaches nothing of theirs"
    )


@scenario("vmid", GROUP, "a command with another VM's VMID or StreamID", "arm_vsmmu_convert_user_cmd()", stops=KERNEL)
def vmid(bench: Bench) -> str:
    """VMID and StreamID are forced, whatever the guest writes."""
    viommu = _viommu(bench)
    _ = bench.stream
    own = {vdevice.device.sid for vdevice in viommu.vdevices.values()}
    for op in sorted(ALLOWED):
        layout = command.FORMATS[op].layout
        fields = {name: f.mask << f.shift for name, f in layout.items() if name not in ("Opcode", "StreamID", "SSec")}
        if "StreamID" in layout:
            fields["StreamID"] = bench.vsid
        # Without the check of Linux 7.3, which lets less pass.
        record = command.decode(*convert(encode(op, **fields), viommu.vmid, viommu.stream_of))
        if isinstance(record, Tlbi) and viommu.vmid != record.VMID:
            raise Failed(f"CMD_{op.name} goes out with VMID {record.VMID}")
        if isinstance(record, StreamCommand) and record.StreamID not in own:
            raise Failed(f"CMD_{op.name} goes out with StreamID {record.StreamID:#x}")
    bench.stopped_by = KERNEL
    neighbour = next(
        (v.viommu for other in bench.world.vms.values() if other is not bench.vm for v in other.vsmmus.values()
         if v.viommu is not None and v.viommu.smmu is viommu.smmu), None,
    )  # fmt: skip
    if neighbour is not None and neighbour.vmid == viommu.vmid:
        raise Failed(f"another VM has VMID {viommu.vmid} of {viommu.smmu.name} too")
    return f"every command goes out with VMID {viommu.vmid} or one of the VM's own StreamIDs"


@scenario("cmdqv", GROUP, "a command outside CMDQV's three", "tegra241-cmdqv.c (guest VCMDQ)", "LVCMDQ_ERR_MAP", stops=HARDWARE)
@rests_on(Fact.CMDQV)
def cmdqv(bench: Bench) -> str:
    """TLBI_NH_ASID, TLBI_NH_VA and ATC_INV run without an exit; anything else stops the queue."""
    viommu = _viommu(bench)
    if not bench.properties.cmdqv:
        raise NotApplicable("the vSMMU has no CMDQV")
    stream = bench.stream
    vintf = Vintf(viommu)
    ioctls = bench.vm.iommufd.ioctls
    own = [encode(Op.TLBI_NH_ASID, ASID=stream.domain.asid), encode(Op.TLBI_NH_VA, ASID=stream.domain.asid, Address=0x1000), encode(Op.SYNC)]
    if stream.ats:
        own.insert(2, encode(Op.ATC_INV, StreamID=stream.vsid, Address=0x1000))
    if vintf.submit(own).count != len(own):
        raise Failed("one of its own commands is refused")
    stranger = encode(Op.ATC_INV, StreamID=next(vsid for vsid in range(1, 1 << 16) if vsid not in bench.vsmmu.behind))
    if vintf.submit([stranger]).count:
        raise Failed("an ATC_INV of a vSID that nobody has passes")
    for op in (Op.TLBI_NH_ALL, Op.TLBI_NSNH_ALL, Op.CFGI_CD, Op.CFGI_STE, Op.TLBI_S12_VMALL):
        result = vintf.submit([own[0], encode(op)])
        if (result.count, result.error.name) != (1, "CERROR_ILL"):
            raise Failed(f"CMD_{op.name} passes")
    if bench.vm.iommufd.ioctls != ioctls:
        raise Failed("a command of the VCMDQ exits")
    bench.stopped_by = HARDWARE
    return "three commands without an exit, CERROR_ILL for the others"
