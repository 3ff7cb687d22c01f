"""The life of a stream table entry: from power-on to reboot. IHI 0070 5.2, 6.3.14; QEMU's smmuv3-accel.c; Linux's arm-smmu-v3-iommufd.c."""

from __future__ import annotations

from wizard.arch.command import CommandError, Op
from wizard.arch.event import EventType
from wizard.arch.registers import GBPA
from wizard.arch.ste import STE, StreamConfig
from wizard.dryrun.bench import Bench, Failed, Needs, NotApplicable, rests_on, scenario
from wizard.dryrun.guest import PAGE
from wizard.dryrun.layout import GUEST_RAM
from wizard.dryrun.model import Stopper
from wizard.dryrun.rests import NESTED, Fact
from wizard.nesting import Parent
from wizard.nesting.invalidate import encode
from wizard.nesting.vste import ADDRESS_BITS, ALLOWED, VMM_MASKS
from wizard.plan.request import Mode
from wizard.smmu.tables import ContextTable

GROUP = "stream table entry"
HARDWARE, KERNEL, QEMU, NOBODY = Stopper.HARDWARE, Stopper.KERNEL, Stopper.QEMU, Stopper.NOBODY


@scenario(
    "bring-up", GROUP, "QEMU starts: bind, stage 2, vIOMMU, first HWPT", "smmuv3_accel_set_iommu_device()", "arm_smmu_get_viommu_size()",
    "iommufd_device_bind()", needs=Needs.LAYOUT,
)  # fmt: skip
@rests_on(*NESTED)
def bring_up(bench: Bench) -> str:
    """Everything between exec and the guest's first instruction."""
    for key in ("", bench.function.address):
        if (trouble := bench.vm.trouble.get(key)) is not None:
            bench.say("kernel" if trouble.kernel else "qemu", str(trouble))
            bench.stopped_by = KERNEL if trouble.kernel else QEMU
            raise Failed(str(trouble))
    if bench.function.vsmmu is None:
        hwpt = bench.device.group.hwpt
        if isinstance(hwpt, Parent) and hwpt.contexts is None:
            return f"attached to the VM's stage 2, VMID {hwpt.vmid}; no vIOMMU"
        if bench.vm.layout.mode is Mode.VIRTIO_IOMMU:
            return "attached to a stage 1 of the host's: all of the VM's memory, until the guest's virtio-iommu driver has QEMU map less"
        return "attached to a stage 1 of the host's that maps the VM's memory; no vIOMMU"
    viommu = bench.vsmmu.viommu
    if viommu is None:
        raise Failed("QEMU made no vIOMMU")
    bench.say("kernel", f"vIOMMU on {viommu.smmu.name}", vmid=viommu.vmid)
    return f"attached; VMID {viommu.vmid} of {bench.function.smmu}"


@scenario(
    "stream-id", GROUP, "one StreamID, one function, one vSID", "iommufd_vdevice_alloc_ioctl()", "arm_smmu_insert_master()", needs=Needs.LAYOUT,
)  # fmt: skip
@rests_on(Fact.STREAM)
def stream_id(bench: Bench) -> str:
    """The table that substitutes vSIDs by StreamIDs is one to one."""
    function = bench.function
    if len(function.streams) != 1 and function.vsmmu is not None:
        raise Failed(f"it has {len(function.streams)} StreamIDs, and a vDEVICE takes exactly one (EOPNOTSUPP)")
    for other in bench.world.layout.functions:
        if other.address == function.address or other.smmu != function.smmu:
            continue
        if shared := set(function.streams) & set(other.streams):
            raise Failed(f"StreamID {min(shared):#x} is also {other.address}'s: stream {min(shared)} already in tree (arm_smmu_insert_master())")
        if function.hotplug and other.hotplug:
            continue  # one or the other: both are meant for a free port
        if other.vm == function.vm and other.vsmmu == function.vsmmu and function.vsid is not None and other.vsid == function.vsid:
            raise Failed(f"vSID {function.vsid:#x} is also {other.address}'s (EEXIST)")
    streams = ", ".join(f"{sid:#x}" for sid in function.streams)
    return f"StreamID {streams}" + (f" is vSID {function.vsid:#x}" if function.vsid is not None else "")


@scenario(
    "before-boot", GROUP, "before the guest programs anything: its memory and nothing else", "IHI 0070 6.3.14 (SMMU_GBPA)",
    "smmuv3_accel_gbpa_hwpt()", stops=HARDWARE, needs=Needs.FUNCTION,
)  # fmt: skip
def before_boot(bench: Bench) -> str:
    """GBPA.ABORT is 0 out of reset: stage 1 is bypassed, stage 2 is not."""
    top = bench.vm.layout.top
    bench.reaches(GUEST_RAM, bench.pa(GUEST_RAM), what="the first page of RAM")
    bench.reaches(top - PAGE, bench.pa(top - PAGE), what="the last page of RAM")
    # Without a vSMMU, where no stage 2 is needed, Linux takes a stage 1 of its own.
    stage2 = bench.device.installed.Config != StreamConfig.STAGE1
    bench.stopped(top, EventType.F_TRANSLATION, stage2=stage2, what="the page above RAM")
    bench.stopped(0, EventType.F_TRANSLATION, stage2=stage2, what="address 0")
    return "all of the VM's memory by guest physical address, nothing beyond it"


@scenario("gbpa-abort", GROUP, "the guest sets GBPA.ABORT", "IHI 0070 6.3.14", "smmuv3_accel_attach_gbpa_hwpt()", stops=HARDWARE, needs=Needs.VSMMU)
def gbpa_abort(bench: Bench) -> str:
    """The hardware's entry becomes an abort, and comes back."""
    bench.vsmmu.write_gbpa(GBPA.build(ABORT=1, Update=1).value)
    bench.stopped(GUEST_RAM, None, what="an access while GBPA.ABORT is 1")
    bench.vsmmu.write_gbpa(GBPA.build(SHCFG=1, Update=1).value)
    bench.reaches(GUEST_RAM, bench.pa(GUEST_RAM), what="an access after it")
    return "silent abort while it is set"


@scenario(
    "crash-kernel", GROUP, "a kernel that finds SMMUEN set, as a crash kernel does", "arm_smmu_device_reset()", "smmuv3_accel_attach_gbpa_hwpt()",
    stops=HARDWARE,
)  # fmt: skip
def crash_kernel(bench: Bench) -> str:
    """Linux sets GBPA.ABORT first. QEMU acts on it while SMMUEN is still 1, where IHI 0070 6.3.14 would wait: it is the safe way round here."""
    buffer = bench.guest().map(bench.stream)
    bench.reaches(buffer.iova, bench.pa(buffer.ipa))
    bench.vsmmu.write_gbpa(GBPA.build(ABORT=1, Update=1).value)
    bench.say("guest", "SMMU currently enabled! Resetting...: GBPA.ABORT")
    bench.stopped(buffer.iova, None, what="the old kernel's buffer after GBPA.ABORT")
    guest = bench.boot(bench.function.vsmmu or "", bench.properties, part=1)
    bench.stopped(buffer.iova, None, what="the old kernel's buffer while the new one boots")
    again = guest.map(guest.probe(bench.function))
    bench.reaches(again.iova, bench.pa(again.ipa), what="the new kernel's buffer")
    return "silent abort from GBPA.ABORT on, until the new kernel's CFGI_STE"


@scenario(
    "smmu-off", GROUP, "the guest clears SMMUEN without a reset, as kexec does", "IHI 0070 6.3.9, 6.3.14", "arm_smmu_device_shutdown()",
    "smmuv3_accel_attach_gbpa_hwpt()", stops=NOBODY,
)  # fmt: skip
def smmu_off(bench: Bench) -> str:
    """GBPA should count from there on. QEMU attaches nothing anew (smmu_writel()): the old stage 1 stays until the next kernel's CFGI_STE."""
    stream = bench.stream
    old = bench.guest().map(stream)
    bench.reaches(old.iova, bench.pa(old.ipa))
    bench.vsmmu.write_cr0(0)
    bench.say("guest", "arm_smmu_device_disable(): CR0 is 0")
    bench.reaches(old.iova, bench.pa(old.ipa), what="the old kernel's buffer after SMMUEN became 0")
    bench.stopped(GUEST_RAM, EventType.F_TRANSLATION, stage2=False, what="memory that the old kernel did not map, which GBPA's bypass would reach")
    guest = bench.boot(bench.function.vsmmu or "", bench.properties, part=1)
    bench.reaches(old.iova, bench.pa(old.ipa), what="the old kernel's buffer while the new one boots, in memory of its own")
    again = guest.probe(bench.function)
    new = guest.map(again)
    if (again.domain.asid, new.iova) != (stream.domain.asid, old.iova):
        raise AssertionError("the second kernel was to use the same ASID and IOVA")
    if bench.dma(new.iova).pa != bench.pa(old.ipa):
        raise Failed("what the function was told while the new kernel booted is not in the TLB under its ASID")
    bench.send([encode(Op.TLBI_NH_ASID, ASID=again.domain.asid)], guest)
    bench.reaches(new.iova, bench.pa(new.ipa), what="the new kernel's buffer after an invalidation")
    bench.stopped_by = NOBODY
    return (
        "the old kernel's stage 1 stays in force, also while the next one boots, and what a function that was not stopped reads through it then "
        "is in the TLB under an ASID that the new kernel uses too: it goes on writing to the old buffers, never beyond the VM's memory"
    )


@scenario("ste-bypass", GROUP, "an entry that bypasses stage 1", "IHI 0070 5.2 (STE.Config)", "arm_smmu_make_nested_domain_ste()", stops=HARDWARE)
def ste_bypass(bench: Bench) -> str:
    """The kernel installs stage 2 alone."""
    buffer = bench.guest().map(bench.stream)
    bench.install(bench.guest().bypass())
    bench.reaches(buffer.ipa, bench.pa(buffer.ipa), what="guest physical memory")
    bench.stopped(bench.vm.layout.top, EventType.F_TRANSLATION, stage2=True, what="the page above RAM")
    bench.no_event("a stage 2 fault")
    return "guest physical addresses, behind stage 2"


@scenario("ste-stage-1", GROUP, "an entry with stage 1", "IHI 0070 5.2", "arm_smmu_make_nested_cd_table_ste()", stops=HARDWARE)
def ste_stage1(bench: Bench) -> str:
    """Only what the guest mapped is reached, through both stages."""
    stream = bench.stream
    buffer = bench.guest().map(stream)
    if bench.device.installed.Config != StreamConfig.NESTED:
        raise Failed(f"the kernel installed Config {bench.device.installed.Config} instead of both stages")
    bench.reaches(buffer.iova, bench.pa(buffer.ipa), what="a mapped buffer")
    bench.stopped(buffer.ipa, EventType.F_TRANSLATION, stage2=False, what="guest physical memory that is not mapped")
    return "stage 1 of the guest, stage 2 of the host"


@scenario("ste-other-table", GROUP, "another context descriptor table", "IHI 0070 4.3.1 (CMD_CFGI_STE)", "smmuv3_accel_install_ste()")
def ste_other_table(bench: Bench) -> str:
    """A new S1ContextPtr counts from CFGI_STE on, not before."""
    guest, stream = bench.guest(), bench.stream
    first = guest.map(stream)
    bench.reaches(first.iova, bench.pa(first.ipa))
    domain = guest.new_domain()
    contexts = ContextTable(guest.memory, guest.space)
    contexts.set(0, guest.descriptor(domain))
    second = guest.map(stream, domain=domain)
    entry = guest.entry(stream, **contexts.fields)
    guest.set(stream.vsid, entry)
    bench.reaches(first.iova, bench.pa(first.ipa), what="the old buffer before CFGI_STE")
    bench.install(entry)
    bench.reaches(second.iova, bench.pa(second.ipa), what="the new buffer after CFGI_STE")
    return "counts from CFGI_STE on"


@scenario("ste-abort", GROUP, "an entry that aborts", "IHI 0070 5.2 (Config 0b000)", "smmuv3_accel_install_ste()", stops=HARDWARE)
def ste_abort(bench: Bench) -> str:
    """No access, no event."""
    buffer = bench.guest().map(bench.stream)
    bench.install(bench.guest().abort())
    bench.stopped(buffer.iova, None)
    bench.no_event("an aborting entry")
    return "silent abort"


@scenario(
    "ste-invalid", GROUP, "an entry with V 0 is a silent abort", "arm_smmu_validate_vste()", "IHI 0070 7.3.5 (C_BAD_STE on bare hardware)",
    stops=HARDWARE,
)  # fmt: skip
def ste_invalid(bench: Bench) -> str:
    """Bare hardware would record C_BAD_STE; a nested guest hears nothing."""
    buffer = bench.guest().map(bench.stream)
    bench.install(STE.build(V=0, Config=StreamConfig.STAGE1))
    bench.stopped(buffer.iova, None)
    bench.no_event("V 0")
    if bench.host_log():
        raise Failed("the host's log has an event")
    return "silent for the guest, where bare hardware records C_BAD_STE"


@scenario("reboot", GROUP, "reboot with tables left behind", "smmuv3_accel_reset()", "arm_smmu_device_reset()", stops=HARDWARE)
def reboot(bench: Bench) -> str:
    """Old tables and TLB entries serve nobody after a reset."""
    stream = bench.stream
    old = bench.guest().map(stream)
    bench.reaches(old.iova, bench.pa(old.ipa))
    bench.vsmmu.reset()
    if bench.device.installed.Config not in (StreamConfig.STAGE2, StreamConfig.NESTED):
        raise Failed("a reset leaves an entry without stage 2")
    bench.say("guest", "reset; a new kernel boots")
    guest = bench.boot(bench.function.vsmmu or "", bench.properties)
    again = guest.probe(bench.function)
    new = guest.map(again, ipa=old.ipa + PAGE)
    if (again.domain.asid, new.iova) != (stream.domain.asid, old.iova):
        raise AssertionError("the second boot was to use the same ASID and IOVA")
    bench.reaches(new.iova, bench.pa(new.ipa), what="the new kernel's buffer, same ASID and IOVA as before")
    return "CMD_TLBI_NSNH_ALL at boot becomes NH_ALL with the VM's VMID, and nothing old is used"


@scenario(
    "ste-forbidden-bits", GROUP, "bits of an entry that are not a guest's to set", "STRTAB_STE_0_NESTING_ALLOWED, STRTAB_STE_1_NESTING_ALLOWED",
    "arm_smmu_validate_vste()", "smmuv3_accel_dev_alloc_translate()", stops=KERNEL,
)  # fmt: skip
def ste_forbidden_bits(bench: Bench) -> str:
    """QEMU masks them out; the kernel refuses them from a VMM that does not."""
    guest, stream = bench.guest(), bench.stream
    entry = guest.entry(stream)
    viommu, iommufd = bench.vsmmu.viommu, bench.vm.iommufd
    if viommu is None:
        raise Failed("QEMU made no vIOMMU")
    forbidden = [[bit for bit in range(64) if not allowed >> bit & 1] for allowed in ALLOWED]
    for number, bits in enumerate(forbidden):
        for bit in bits:
            words = [word & allowed for word, allowed in zip(entry.words, ALLOWED, strict=False)]
            words[number] |= 1 << bit
            pair = words[0], words[1]
            bench.refused(lambda pair=pair: iommufd.alloc_nested(viommu, pair), "EIO", f"an entry with bit {bit} of word {number}")  # type: ignore[misc]
    before = bench.device.installed
    low, high = (word | sum(1 << bit for bit in bits) & ~mask for word, bits, mask in zip(entry.words, forbidden, VMM_MASKS, strict=False))
    bench.install(STE.of_words((low, high, *entry.words[2:])))
    if bench.device.installed != before:
        raise Failed("QEMU passes bits that are not a guest's")
    consumed = bench.install(entry.replace(S1ContextPtr=entry.S1ContextPtr | 1 << ADDRESS_BITS))
    if consumed.error is not CommandError.CERROR_ILL or bench.device.installed != before:
        raise Failed(f"an S1ContextPtr of more than {ADDRESS_BITS} bits is installed")
    count = sum(map(len, forbidden))
    return f"the kernel refuses each of {count} bits with EIO; QEMU masks them, but for S1ContextPtr's above 51, which end in CERROR_ILL"


@scenario("ste-stage-2", GROUP, "a guest's entry that asks for stage 2", "smmuv3_accel_install_ste()", "arm_smmu_validate_vste()", stops=QEMU)
def ste_stage2(bench: Bench) -> str:
    """Stage 2 is the host's: QEMU answers CERROR_ILL, the kernel EIO."""
    guest, stream = bench.guest(), bench.stream
    viommu = bench.vsmmu.viommu
    if viommu is None:
        raise Failed("QEMU made no vIOMMU")
    before = bench.device.installed
    for config in (StreamConfig.STAGE2, StreamConfig.NESTED):
        words = STE.build(V=1, Config=config, **stream.contexts.fields).words
        pair = words[0] & ALLOWED[0], words[1] & ALLOWED[1]
        bench.refused(lambda pair=pair: bench.vm.iommufd.alloc_nested(viommu, pair), "EIO", f"Config {config.value}")  # type: ignore[misc]
        consumed = bench.install(guest.entry(stream, Config=config))
        if consumed.error.name != "CERROR_ILL":
            raise Failed(f"QEMU accepts an entry with Config {config.value}")
    if bench.device.installed != before:
        raise Failed("the hardware's entry changed")
    bench.stopped_by = QEMU
    return "CERROR_ILL at CFGI_STE; the hardware's entry stays as it was"


@scenario(
    "group", GROUP, "the IOMMU group is attached whole", "iommufd_hw_pagetable_attach()", "arm_smmu_attach_prepare_vmaster()", stops=KERNEL,
    needs=Needs.LAYOUT,
)  # fmt: skip
@rests_on(Fact.GROUP)
def group(bench: Bench) -> str:
    """A stage 1 is attached to every member of the group; each one needs a vDEVICE (domain problem 31)."""
    members = [other for other in bench.world.layout.functions if other.group == bench.function.group and other.address != bench.function.address]
    if bench.function.vsmmu is None:
        raise NotApplicable("no stage 1 of the guest's without a vSMMU")
    if not members:
        return f"the only function of group {bench.function.group}"
    names = ", ".join(member.address for member in members)
    bench.stopped_by = KERNEL
    if any(member.vm == bench.function.vm and member.vsmmu is not None for member in members):
        raise Failed(f"{names} of the same group is behind a vSMMU too: the second one's attach ends in EINVAL (iommufd_hw_pagetable_attach())")
    raise Failed(f"its group holds {names} too, without a vDEVICE: the guest's CFGI_STE ends in CERROR_ILL (arm_smmu_attach_prepare_vmaster())")
