"""The verdict on a recorded arm64 host, against what its kernel really did.

`hw_info` of the recording holds what iommufd answered there: a vIOMMU could be made with CANWBS set, and was refused
without. The three odd devices are explained in the recording's own README.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

import msgspec
import pytest

from wizard.base.finding import Kind
from wizard.facts.model import Facts, HwInfo, Policy
from wizard.host.build import host_of
from wizard.host.model import Accel, Host

Hosts = Callable[[str], Host]

ALONE = ["0000:11:00.0", "0000:11:10.0", "0000:11:10.2", "0000:14:00.0", "0000:41:00.0", "0000:42:00.0"]


def codes(host: Host, address: str) -> set[str]:
    return {finding.code for finding in host.verdict(address).reasons}


@pytest.mark.parametrize("address", ALONE)
def test_functions_alone_in_their_group_are_accelerated_where_the_kernel_made_a_viommu(host: Hosts, address: str) -> None:
    assert host("arm64-virt-canwbs").verdict(address).accel is Accel.YES


@pytest.mark.parametrize("address", ALONE)
def test_the_same_host_without_canwbs_is_refused_with_the_kernels_own_reason(host: Hosts, address: str) -> None:
    verdict = host("arm64-virt").verdict(address)
    assert verdict.accel is Accel.NO
    assert [finding.code for finding in verdict.reasons] == ["no-canwbs"]
    assert "Operation not supported" in verdict.reasons[0].why  # what QEMU prints there
    assert "--mode none" in verdict.reasons[0].fix


@pytest.mark.parametrize(
    ("address", "code"),
    [("0000:83:02.0", "stream-id-taken"), ("0000:83:01.0", "stream-id-shared"), ("0000:00:01.0", "no-smmu")],
)
def test_three_odd_devices_have_three_explanations(host: Hosts, address: str, code: str) -> None:
    for name in ("arm64-virt", "arm64-virt-canwbs"):
        assert host(name).verdict(address).accel is Accel.NO
        assert code in codes(host(name), address)


def test_two_functions_of_one_group_are_not_accelerated(host: Hosts) -> None:
    for address in ("0000:81:00.0", "0000:81:00.1"):
        assert "group-shared" in codes(host("arm64-virt-canwbs"), address)


def test_smmus_by_link_and_by_iort_are_the_same(host: Hosts) -> None:
    functions = host("arm64-virt").functions
    linked = {a: f.smmu for a, f in functions.items() if f.smmu}
    assert len(linked) == 17  # lspci: everything on buses 10, 40 and 80, without 83:02.0
    assert {a: functions[a].iort_smmu for a in linked} == linked
    assert functions["0000:83:02.0"].smmu is None
    assert functions["0000:83:02.0"].iort_smmu == "smmu3.0x000000000c040000"


def test_stream_ids_are_requester_ids_on_qemu_virt_and_bridges_add_theirs(host: Hosts) -> None:
    functions = host("arm64-virt").functions
    assert functions["0000:14:00.0"].stream_ids == (0x1400,)
    # The kernel's log: "Aliasing StreamID 0x8300 (from 0000:83:01.0) unsupported"
    assert functions["0000:83:01.0"].stream_ids == (0x8308, 0x8300)


def test_registers_as_the_emulated_smmu_has_them(host: Hosts) -> None:
    smmu = host("arm64-virt").smmus["smmu3.0x000000000c000000"]
    assert smmu.registers is not None
    assert smmu.registers.words == (0x0D44101B, 0x02730010, 0, 0x1414, 0, 0x74)
    assert smmu.registers.aidr == 1
    shown = {name: smmu.known(name).value for name in ("nesting", "s2fwb", "oas", "ssidsize", "ril", "ats")}
    assert shown == {"nesting": True, "s2fwb": False, "oas": 44, "ssidsize": 0, "ril": True, "ats": False}


def strip(host: Host, **changes: object) -> Host:
    return host_of(msgspec.structs.replace(host.facts, **changes))


def test_without_a_probe_the_verdict_is_unknown_and_says_how_to_learn_it(host: Hosts) -> None:
    unprobed = strip(host("arm64-virt-canwbs"), hw_info=())
    verdict = unprobed.verdict("0000:14:00.0")
    assert verdict.accel is Accel.UNKNOWN
    assert [finding.code for finding in verdict.reasons] == ["id-registers-unknown"]
    assert "record --probe" in verdict.reasons[0].fix


def test_without_root_the_verdict_is_unknown_not_no(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    user = strip(host("arm64-virt-canwbs"), hw_info=(), acpi={}, log=(), kernel=msgspec.structs.replace(facts.kernel, config=None))
    verdict = user.verdict("0000:14:00.0")
    assert verdict.accel is Accel.UNKNOWN
    assert {"nesting-unknown", "canwbs-unknown", "stream-ids-unknown", "kernel-config-unknown"} <= codes(user, "0000:14:00.0")


def test_a_probe_of_one_function_speaks_for_its_smmu_and_segment_only(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    one = strip(host("arm64-virt-canwbs"), hw_info=tuple(info for info in facts.hw_info if info.address == "0000:14:00.0"))
    assert one.verdict("0000:11:10.0").accel is Accel.YES  # same SMMU, never probed itself
    assert one.verdict("0000:41:00.0").accel is Accel.UNKNOWN  # another SMMU


def test_an_assumed_probe_never_makes_a_yes(host: Hosts) -> None:
    from wizard.facts.model import Assumption

    assumed = strip(host("arm64-virt-canwbs"), assumptions=(Assumption(path="hw_info", why="made up for this test"),))
    assert assumed.verdict("0000:14:00.0").accel is not Accel.YES


def test_a_direct_region_forbids_assignment_and_a_relaxable_one_does_not(host: Hosts) -> None:
    def with_region(kind: str) -> Host:
        facts = host("arm64-virt-canwbs").facts
        lines = f"0x00000000a1600000 0x00000000b97fffff {kind}"
        groups = tuple(msgspec.structs.replace(g, reserved_regions=lines) if "0000:14:00.0" in g.devices else g for g in facts.groups)
        return strip(host("arm64-virt-canwbs"), groups=groups)

    assert codes(with_region("direct"), "0000:14:00.0") == {"direct-region"}
    assert with_region("direct-relaxable").verdict("0000:14:00.0").accel is Accel.YES


def test_policy_overrules_and_shows_its_reason(host: Hosts) -> None:
    for subject in ("0000:14:00.0", "smmu3.0x000000000c000000"):
        ruled = strip(host("arm64-virt-canwbs"), policy=(Policy(subject=subject, accel="off", reason="firmware 1.2 hangs"),))
        verdict = ruled.verdict("0000:14:00.0")
        assert verdict.accel is Accel.NO
        assert "firmware 1.2 hangs" in verdict.reasons[0].why


def test_kernel_without_the_opt_in_is_refused_unless_a_vdevice_proves_it(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    config = {**(facts.kernel.config or {}), "CONFIG_ARM_SMMU_V3_IOMMUFD": "n"}
    kernel = msgspec.structs.replace(facts.kernel, config=config)
    refused = tuple(msgspec.structs.replace(info, viommu="EOPNOTSUPP" if info.viommu else None) for info in facts.hw_info)
    assert "kernel-lacks" in codes(strip(host("arm64-virt-canwbs"), kernel=kernel, hw_info=refused), "0000:14:00.0")
    assert strip(host("arm64-virt-canwbs"), kernel=kernel).verdict("0000:14:00.0").accel is Accel.YES


def registers(idr0: int = 0x0D44101B, idr1: int = 0x02730010, idr5: int = 0x74, iidr: int = 0) -> str:
    words = (0, 0, idr0, idr1, 0, 0x1414, 0, idr5, iidr, 1)
    return b"".join(word.to_bytes(4, "little") for word in words).hex()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (registers(idr0=0x0D44101B & ~(3 << 27)), "STLEVEL=0, QEMU STLEVEL=1"),
        (registers(idr1=0x02730008), "SIDSIZE 8, QEMU needs 16"),
        (registers(idr5=0x54), "no 16K translation granule"),
    ],
)
def test_qemus_own_comparison_is_made_before_qemu_makes_it(host: Hosts, data: str, message: str) -> None:
    facts = host("arm64-virt-canwbs").facts
    infos = tuple(msgspec.structs.replace(info, data=data if info.data else None) for info in facts.hw_info)
    verdict = strip(host("arm64-virt-canwbs"), hw_info=infos).verdict("0000:14:00.0")
    assert verdict.accel is Accel.NO
    assert message in verdict.reasons[0].what


def test_errata_by_iidr_take_nesting_away(host: Hosts) -> None:
    """MMU-700 r1p0 (variant < 1 or revision < 1; sources: kernel-features), where no probe and no log say otherwise."""
    facts = host("arm64-virt-canwbs").facts
    iidr = 0x487 << 20 | 1 << 16 | 0 << 12 | 0x43B
    info = HwInfo(address="0000:14:00.0", data_type=2, data=registers(iidr=iidr))
    broken = host_of(msgspec.structs.replace(facts, hw_info=(info,), log=()))
    assert {"no-nesting", "cmdq-force-sync"} <= codes(broken, "0000:14:00.0")


def test_todo_never_decides(host: Hosts) -> None:
    for address in ALONE:
        verdict = host("arm64-virt-canwbs").verdict(address)
        assert all(finding.code for finding in verdict.todo)
        assert verdict.reasons == ()
    pf = host("arm64-virt-canwbs").verdict("0000:11:00.0")
    assert "pf-has-vfs" in {finding.code for finding in pf.todo}


def test_bound_functions_have_nothing_left_to_do(host: Hosts) -> None:
    assert host("vfio-arm64-virt-canwbs").verdict("0000:14:00.0").todo == ()


def test_every_finding_of_a_verdict_is_of_that_kind(host: Hosts) -> None:
    from wizard.base.finding import REGISTRY

    for name in ("arm64-virt", "arm64-virt-canwbs", "vfio-arm64-virt"):
        for address in host(name).functions:
            for finding in host(name).verdict(address).reasons:
                assert REGISTRY[finding.code].kind is Kind.VERDICT


def test_facts_that_make_no_sense_do_not_raise() -> None:
    assert host_of(Facts()).functions == {}


def test_a_host_that_nobody_holds_leaves_memory(host: Hosts) -> None:
    """Ten thousand snapshots are read one after the other; a wizard builds a host at every hot-plug."""
    facts = host("arm64-virt").facts

    def alive() -> int:
        gc.collect()
        return sum(1 for thing in gc.get_objects() if type(thing).__name__ == "_Builder")

    before = alive()
    for _ in range(3):
        assert host_of(facts).verdict("0000:14:00.0").accel is Accel.NO
    assert alive() == before
