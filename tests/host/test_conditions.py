"""Snapshots made to mislead: each takes one fact of the recorded host away, or sets it against the others.

The recorded host can accelerate its NVMe function; what was changed here must never leave a yes that the real kernel would not keep,
nor a no without something known to fail.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from fixtures.builders.iort import Its, Map, Nc, Rc, SmmuV3, Spec, build, single
from wizard.facts.model import Assumption, Facts, HwInfo, PciFunction
from wizard.host.build import host_of
from wizard.host.doctor import diagnose
from wizard.host.model import Accel, Host, Verdict

Hosts = Callable[[str], Host]
NVME, PORT, SMMU = "0000:14:00.0", "0000:10:01.0", "smmu3.0x000000000c000000"
replace = msgspec.structs.replace


def judged(facts: Facts, address: str = NVME) -> tuple[Accel, set[str]]:
    verdict = host_of(facts).verdict(address)
    return verdict.accel, {finding.code for finding in verdict.reasons}


def reason(verdict: Verdict, code: str) -> str:
    return next(f"{finding.what} {finding.why} {finding.fix}" for finding in verdict.reasons if finding.code == code)


def function(facts: Facts, address: str, **changes: object) -> Facts:
    return replace(facts, functions=tuple(replace(f, **changes) if f.address == address else f for f in facts.functions))


def asked(facts: Facts, **changes: object) -> Facts:
    return replace(facts, hw_info=tuple(replace(info, **changes) if info.error is None else info for info in facts.hw_info))


def words(idr0: int = 0x0D44101B, idr1: int = 0x02730010, idr3: int = 0x1414, idr5: int = 0x74, iidr: int = 0) -> str:
    """struct iommu_hw_info_arm_smmuv3 with the recorded SMMU's registers but for those given."""
    return b"".join(word.to_bytes(4, "little") for word in (0, 0, idr0, idr1, 0, idr3, 0, idr5, iidr, 1)).hex()


FWB = 0x1414 | 1 << 8


def test_the_host_that_is_changed_here_says_yes(host: Hosts) -> None:
    assert judged(host("arm64-virt-canwbs").facts) == (Accel.YES, set())


# Reserved regions


@pytest.mark.parametrize("lines", [None, "0x0000000008000000 0x00000000080fffff msi\nsomething of a later kernel"])
def test_regions_that_nobody_read_are_not_no_regions(host: Hosts, lines: str | None) -> None:
    facts = host("arm64-virt-canwbs").facts
    unread = replace(facts, groups=tuple(replace(group, reserved_regions=lines) for group in facts.groups))
    assert judged(unread) == (Accel.UNKNOWN, {"reserved-regions-unknown"})


def test_a_direct_region_counts_beside_a_line_that_is_not_understood(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    lines = "nonsense\n0x00000000a1600000 0x00000000b97fffff direct"
    assert judged(replace(facts, groups=tuple(replace(group, reserved_regions=lines) for group in facts.groups))) == (Accel.NO, {"direct-region"})


def test_the_kernels_refusal_in_its_log_counts_where_sysfs_shows_no_region(host: Hosts) -> None:
    """iommu_group_claim_dma_owner() of Linux 7.2."""
    facts = host("arm64-virt-canwbs").facts
    line = f"[   12.0] vfio-pci {NVME}: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without one."
    assert judged(replace(facts, log=(*facts.log, line))) == (Accel.NO, {"one-to-one-requested"})
    assert judged(replace(facts, log=(*facts.log, line)), "0000:41:00.0")[0] is Accel.YES


# Groups


def test_a_function_that_says_it_is_in_the_group_is_in_it(host: Hosts) -> None:
    """The group's own list lacks it: links and list of a tree that was copied while something was plugged."""
    facts = host("arm64-virt-canwbs").facts
    group = next(f.iommu_group for f in facts.functions if f.address == NVME)
    assert judged(function(facts, "0000:41:00.0", iommu_group=group)) == (Accel.NO, {"group-shared"})


def test_without_the_groups_their_regions_are_unknown(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    assert judged(replace(facts, groups=())) == (Accel.UNKNOWN, {"reserved-regions-unknown", "group-members-unknown"})
    assert judged(replace(facts, groups=()), "0000:81:00.0")[1] >= {"group-shared"}


def test_a_bridge_in_the_group_is_a_device_too(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    group = next(f.iommu_group for f in facts.functions if f.address == NVME)
    assert judged(function(facts, PORT, iommu_group=group)) == (Accel.NO, {"group-shared"})


# StreamIDs


def test_a_bridge_that_could_not_be_read_may_add_a_stream_id(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    (port,) = (f for f in facts.functions if f.address == PORT)
    accel, codes = judged(function(facts, PORT, config=port.config[:128], config_length=64))
    assert (accel, codes) == (Accel.UNKNOWN, {"dma-aliases-unknown"})


def test_a_bridge_that_is_not_in_the_snapshot_may_add_one_too(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    alone = replace(facts, functions=tuple(f for f in facts.functions if f.address != PORT))
    assert judged(alone) == (Accel.UNKNOWN, {"dma-aliases-unknown"})
    odd = function(facts, NVME, path="pci0000:10/zz:zz.z/0000:14:00.0")
    assert judged(odd)[0] in Accel  # a path that only looks like one


def table(**extra: Spec) -> str:
    nodes: dict[str, Spec] = {
        "its": Its(0),
        "a": SmmuV3(base=0xC000000, maps=[Map(0, 0x10000, 0, "its")]),
        "b": SmmuV3(base=0xC020000, maps=[Map(0, 0x10000, 0, "its")]),
        "rc": Rc(segment=0, canwbs=True, maps=[Map(0x1000, 0x1000, 0x1000, "a"), Map(0x4000, 0x1000, 0x4000, "b")]),
    }
    return build(nodes | extra).hex()


def test_a_platform_device_with_the_same_stream_id_shares_it(host: Hosts) -> None:
    facts = replace(host("arm64-virt-canwbs").facts, acpi={"IORT": table(nc=Nc("\\_SB_.DMA0", maps=[single(0x1400, "a")]))})
    verdict = host_of(facts).verdict(NVME)
    assert verdict.accel is Accel.NO
    assert "\\_SB_.DMA0" in reason(verdict, "stream-id-shared")
    elsewhere = replace(facts, acpi={"IORT": table(nc=Nc("\\_SB_.DMA0", maps=[single(0x1400, "b")]))})
    assert judged(elsewhere) == (Accel.YES, set())  # the same number on another SMMU


def test_a_table_that_names_another_smmu_than_the_kernel_tells_no_stream_id(host: Hosts) -> None:
    wrong = Rc(segment=0, canwbs=True, maps=[Map(0, 0x10000, 0, "b")])
    verdict = host_of(replace(host("arm64-virt-canwbs").facts, acpi={"IORT": table(rc=wrong)})).verdict(NVME)
    assert verdict.accel is Accel.UNKNOWN
    assert "smmu3.0x000000000c020000" in reason(verdict, "stream-ids-unknown")


def test_a_table_that_leads_nowhere_tells_no_stream_id(host: Hosts) -> None:
    short = Rc(segment=0, canwbs=True, maps=[Map(0x4000, 0x1000, 0x4000, "b")])
    verdict = host_of(replace(host("arm64-virt-canwbs").facts, acpi={"IORT": table(rc=short)})).verdict(NVME)
    assert verdict.accel is Accel.UNKNOWN
    assert "leads nowhere" in reason(verdict, "stream-ids-unknown")


def test_without_the_table_nobody_claims_what_it_says(host: Hosts) -> None:
    """00:01.0 of the recording, as an ordinary user sees it: no link is known, why there is none is not."""
    user = replace(host("arm64-virt-canwbs").facts, acpi={}, log=())
    why = reason(host_of(user).verdict("0000:00:01.0"), "no-smmu")
    assert "names no SMMU" not in why
    assert "root would tell" in why


def test_what_shares_a_stream_id_outside_its_group_is_fit_for_no_vm(host: Hosts) -> None:
    for name in ("arm64-virt", "arm64-virt-canwbs", "vfio-arm64-virt-canwbs"):
        verdict = host(name).verdict("0000:83:01.0")
        told = reason(verdict, "stream-id-shared")
        assert "0000:83:02.0" in told
        assert "Give it to no VM" in told
        assert "Give the whole group" not in " ".join(finding.fix for finding in verdict.reasons)


# What the kernel did, and what it uses


def test_an_error_that_is_no_refusal_proves_nothing(host: Hosts) -> None:
    facts = asked(host("arm64-virt-canwbs").facts, viommu="EBUSY")
    verdict = host_of(facts).verdict(NVME)
    assert (verdict.accel, [finding.code for finding in verdict.reasons]) == (Accel.UNKNOWN, ["viommu-probe-failed"])
    assert "EBUSY" in verdict.reasons[0].what
    assert judged(asked(facts, nest_parent="ENOMEM", viommu=None)) == (Accel.YES, set())  # the log has FEAT_NESTING


NO_OPTION = "Of what was recorded it may be that the kernel was built without CONFIG_ARM_SMMU_V3_IOMMUFD"


@pytest.mark.parametrize(
    ("config", "acpi", "explanation"),
    [
        (True, True, "Nothing recorded here explains it."),
        (False, True, f"{NO_OPTION}."),
        (True, False, "Of what was recorded it may be that neither CANWBS nor S2FWB is in use."),
        (False, False, f"{NO_OPTION} or that neither CANWBS nor S2FWB is in use."),
    ],
)
def test_a_refusal_is_a_no_of_its_own_with_what_may_explain_it(host: Hosts, config: bool, acpi: bool, explanation: str) -> None:
    """What the kernel did is a no; what of its reasons was not read may be the one, and what was read and holds is none."""
    facts = host("arm64-virt-canwbs").facts
    less = replace(facts, acpi=facts.acpi if acpi else {}, kernel=facts.kernel if config else replace(facts.kernel, config=None))
    verdict = host_of(asked(less, viommu="EOPNOTSUPP")).verdict(NVME)
    assert verdict.accel is Accel.NO
    assert reason(verdict, "viommu-refused").partition("Operation not supported. ")[2].startswith(explanation)


def test_a_refusal_is_not_laid_at_canwbs_where_the_kernels_options_are_unknown(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    dark = asked(replace(facts, acpi={}, log=(), kernel=replace(facts.kernel, config=None)), viommu="EOPNOTSUPP")
    accel, codes = judged(dark)
    assert accel is Accel.NO
    # What decides whether it can be given away at all is said beside a no.
    assert codes == {"viommu-refused", "msi-isolation-unknown", "stream-ids-unknown"}
    why = reason(host_of(dark).verdict(NVME), "viommu-refused")
    assert "CONFIG_ARM_SMMU_V3_IOMMUFD" in why
    assert "CANWBS" in why


def no_canwbs(host: Hosts, release: str, *, log: tuple[str, ...] = (), idr3: int = FWB) -> Facts:
    """The recorded host without CANWBS whose SMMUs have S2FWB, asked for registers but for no vIOMMU."""
    facts = host("arm64-virt").facts
    its = tuple(line for line in facts.log if "ITS" in line)
    return asked(
        replace(facts, kernel=replace(facts.kernel, release=release), log=(*its, *log)), data=words(idr3=idr3), viommu=None, viommu_cmdqv=None
    )


@pytest.mark.parametrize(
    ("release", "accel"), [("6.14.3", "unknown"), ("6.15.0-rc2", "unknown"), ("6.15.0", "yes"), ("7.2.13", "yes"), ("", "unknown")]
)
def test_s2fwb_in_the_registers_counts_only_on_a_kernel_that_looks_for_it(host: Hosts, release: str, accel: str) -> None:
    """The bit existed before IDR3.FWB was read into it (sources: kernel-versions)."""
    verdict = host_of(no_canwbs(host, release)).verdict(NVME)
    assert verdict.accel == accel
    if accel == "unknown":
        assert "6.15" in reason(verdict, "canwbs-unknown")


@pytest.mark.parametrize(("release", "code"), [("6.14.3", "canwbs-unknown"), ("7.2.13", "no-canwbs")])
def test_a_clear_bit_beats_the_register(host: Hosts, release: str, code: str) -> None:
    """The recorded mask, 0x01088705, has NESTING and not S2FWB."""
    log = tuple(line for line in host("arm64-virt").facts.log if "arm-smmu-v3" in line)
    assert code in judged(no_canwbs(host, release, log=log))[1]


def test_a_kernel_that_hands_out_registers_knows_nesting_whatever_it_is_called(host: Hosts) -> None:
    """A distribution's 5.14 with the driver of 6.13: its clear NESTING bit is a no, not a lack of knowledge."""
    facts = host("arm64-virt-canwbs").facts
    log = tuple(line.replace("0x01088705", "0x01008705") for line in facts.log)
    old = asked(replace(facts, log=log, kernel=replace(facts.kernel, release="5.14.0-570.el9.aarch64+64k")), nest_parent=None, viommu=None)
    accel, codes = judged(old)
    assert accel is Accel.NO
    assert "no-nesting" in codes
    assert "no-nesting" not in judged(replace(old, hw_info=()))[1]


def test_walks_that_are_not_coherent_forbid_assignment_itself(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    dry = replace(facts, hw_info=(), log=tuple(line.replace("0x01088705", "0x01088605") for line in facts.log))
    assert judged(dry)[0] is Accel.NO
    assert "smmu-not-coherent" in judged(dry)[1]
    assert "smmu-not-coherent" not in judged(replace(facts, hw_info=()))[1]


# The kernel's configuration

OPTION = "CONFIG_ARM_SMMU_V3_IOMMUFD"


@pytest.mark.parametrize(
    ("value", "partial", "expected"),
    [
        ("y", False, Accel.YES), ("m", False, Accel.YES), ("n", False, Accel.NO), (None, False, Accel.NO),
        ("y", True, Accel.YES), ("n", True, Accel.NO), (None, True, Accel.UNKNOWN),
    ],
)  # fmt: skip
def test_an_option_is_set_off_silent_or_left_out(host: Hosts, value: str | None, *, partial: bool, expected: Accel) -> None:
    facts = asked(host("arm64-virt-canwbs").facts, viommu=None, viommu_cmdqv=None)
    config = {name: setting for name, setting in (facts.kernel.config or {}).items() if name != OPTION} | ({OPTION: value} if value else {})
    accel, codes = judged(replace(facts, kernel=replace(facts.kernel, config=config, config_partial=partial)))
    assert accel is expected
    assert codes == {Accel.YES: set(), Accel.NO: {"kernel-lacks"}, Accel.UNKNOWN: {"kernel-config-unknown"}}[expected]


@pytest.mark.parametrize("config", [None, {}])
def test_no_configuration_is_no_word_of_it(host: Hosts, config: dict[str, str] | None) -> None:
    facts = asked(host("arm64-virt-canwbs").facts, viommu=None, viommu_cmdqv=None)
    assert judged(replace(facts, kernel=replace(facts.kernel, config=config))) == (Accel.UNKNOWN, {"kernel-config-unknown"})


def test_an_old_kernel_is_not_told_to_probe_alone(host: Hosts) -> None:
    """Kunpeng's 5.11: iommufd came with 6.2, the cdev with 6.6, SMMUv3's side of nesting with 6.13."""
    old = host("kunpeng-920").verdict("0000:75:00.0")
    assert "install a newer kernel" in reason(old, "kernel-config-unknown")
    facts = asked(host("arm64-virt-canwbs").facts, viommu=None, viommu_cmdqv=None)
    new = host_of(replace(facts, kernel=replace(facts.kernel, config=None))).verdict(NVME)
    assert "newer kernel" not in reason(new, "kernel-config-unknown")


# Segments, functions and SMMUs that speak for each other


def two_segments(host: Hosts) -> Facts:
    """The recorded host with its NVMe moved to segment 1 of the same SMMU: CANWBS on segment 0 alone."""
    facts = host("arm64-virt-canwbs").facts
    moved = "0001:14:00.0"
    rc1 = Rc(segment=1, maps=[Map(0x1000, 0x1000, 0x3000, "a")])

    def renamed(one: PciFunction) -> PciFunction:
        return replace(one, address=moved, path=f"pci0001:14/{moved}") if one.address == NVME else one

    return replace(
        facts,
        acpi={"IORT": table(rc1=rc1)},
        functions=tuple(map(renamed, facts.functions)),
        groups=tuple(replace(group, devices=tuple(moved if d == NVME else d for d in group.devices)) for group in facts.groups),
        iommus=tuple(replace(iommu, members=tuple(moved if m == NVME else m for m in iommu.members)) for iommu in facts.iommus),
        hw_info=tuple(info for info in facts.hw_info if info.address == "0000:11:00.0"),
    )


def test_registers_speak_for_the_smmu_and_a_viommu_for_its_segment_alone(host: Hosts) -> None:
    facts = two_segments(host)
    assert judged(facts, "0000:11:10.0") == (Accel.YES, set())
    accel, codes = judged(facts, "0001:14:00.0")
    assert (accel, codes) == (Accel.NO, {"no-canwbs"})  # segment 1 lacks it, and the mask lacks S2FWB
    made = HwInfo(address="0001:14:00.0", data_type=2, data=words(), nest_parent="ok", viommu="ok")
    assert judged(replace(facts, hw_info=(made,)), "0001:14:00.0") == (Accel.YES, set())
    assert judged(replace(facts, hw_info=(made,)), "0000:11:10.0") == (Accel.YES, set())  # by its own segment's CANWBS and the configuration


# Assumptions decide nothing, neither way


@pytest.mark.parametrize("data", [words(idr1=0x02730008), words(idr5=0x54), words(iidr=0x487 << 20 | 0x43B)])
def test_assumed_registers_make_no_no_either(host: Hosts, data: str) -> None:
    facts = host("arm64-virt-canwbs").facts
    assumed = asked(replace(facts, assumptions=(Assumption(path="hw_info", why="made up for this test"),)), data=data)
    accel, codes = judged(assumed)
    assert (accel, codes) == (Accel.UNKNOWN, {"id-registers-unknown"})


def test_an_assumed_iort_without_canwbs_makes_no_no(host: Hosts) -> None:
    facts = asked(host("arm64-virt").facts, viommu=None, viommu_cmdqv=None)
    accel, codes = judged(replace(facts, assumptions=(Assumption(path="acpi.IORT", why="made up for this test"),)))
    assert accel is Accel.UNKNOWN
    assert {"canwbs-unknown", "assumed-facts"} <= codes


def test_an_assumed_mask_makes_no_no(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    log = tuple(line.replace("0x01088705", "0x01008705") for line in facts.log)
    masked = replace(facts, hw_info=(), log=log, assumptions=(Assumption(path="log", why="made up for this test"),))
    accel, codes = judged(masked)
    assert accel is Accel.UNKNOWN
    assert "nesting-unknown" in codes


# ATS where a device can't do without


def config(*extended: tuple[int, bytes]) -> dict[str, object]:
    """An endpoint with these extended capabilities (number, bytes behind the header)."""
    data = bytearray(4096)
    data[0x06], data[0x34] = 0x10, 0x40
    data[0x40:0x44] = bytes((0x10, 0, 0x02, 0))  # PCI Express, an endpoint
    offset = 0x100
    for index, (number, content) in enumerate(extended):
        size = (len(content) + 7) // 4 * 4
        following = offset + size if index + 1 < len(extended) else 0
        data[offset : offset + 4 + len(content)] = (number | 1 << 16 | following << 20).to_bytes(4, "little") + content
        offset += size
    return {"config": bytes(data).rstrip(b"\0").hex(), "config_length": 4096}


ATS = (0x0F, bytes(4))
CXL_CACHE = (0x23, bytes.fromhex("981e0004" + "0000" + "0100"))  # DVSEC of CXL, ID 0, Cache_Capable


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"vendor": "0x10de", "device": "0x2e12", **config(ATS)}, True),  # GB10's GPU, by its ID
        (config(ATS, CXL_CACHE), True),
        (config(CXL_CACHE), False),  # pci_ats_supported() comes first
        ({"vendor": "0x10de", "device": "0x2e12", **config()}, False),
        (config(ATS), False),
    ],
)
def test_devices_that_need_ats(host: Hosts, changes: dict[str, object], *, needs: bool) -> None:
    """pci_ats_required() of Linux 7.2; the recorded root complex has no ATS attribute."""
    accel, codes = judged(function(host("arm64-virt-canwbs").facts, NVME, **changes))
    assert ("ats-required" in codes) == needs
    assert accel is (Accel.NO if needs else Accel.YES)


def test_a_device_that_the_kernel_refused_for_ats_is_named(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    line = f"[    3.1] nvme {NVME}: SMMU doesn't support ATS"
    assert "ats-required" in judged(replace(facts, log=(*facts.log, line)))[1]


# Machines of other kinds


def test_an_x86_machine_without_iommu_is_not_told_to_look_for_an_smmu(host: Hosts) -> None:
    nic = PciFunction(address="0000:01:00.0", path="pci0000:00/0000:01:00.0", vendor="0x8086", device="0x1572", class_="0x020000")
    facts = Facts(functions=(nic,), kernel=replace(host("x86-intel").facts.kernel))
    verdict = host_of(facts).verdict("0000:01:00.0")
    assert verdict.accel is Accel.NO
    told = reason(verdict, "machine-not-arm64")
    assert "x86_64" in told
    assert "SMMUv3" in told
    assert "CONFIG_ARM_SMMU_V3" not in told


def test_one_cause_of_many_smmus_is_one_entry_of_doctor(host: Hosts) -> None:
    items = [item for area in diagnose(host("gb200")).areas for item in area.findings if item.finding.code == "nesting-unknown"]
    assert len(items) == 1
    assert len(items[0].subjects) == 8  # SMMUs with an endpoint below
    assert all(subject.startswith("smmu3.") for subject in items[0].subjects)
    assert SMMU in host("arm64-virt").smmus
