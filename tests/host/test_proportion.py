"""Firmware flaws in proportion: what touches no PCI function, and what the kernel works around, is a note; ranges are joined."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from fixtures.builders.iort import Its, Map, Nc, Rc, SmmuV3, Spec, build
from wizard.base.finding import Finding, Severity
from wizard.facts.model import Facts
from wizard.host.build import host_of
from wizard.host.doctor import diagnose
from wizard.host.firmware import Firmware
from wizard.host.model import Host
from wizard.plan import rules

Hosts = Callable[[str], Host]
DATA = Path(__file__).parent / "data"


def of(**nodes: Spec) -> tuple[Finding, ...]:
    smmus: dict[str, Spec] = {"its": Its(0), "smmu": SmmuV3(base=0x1000000, maps=[Map(0, 0x10000, 0, "its")]), "other": SmmuV3(base=0x2000000)}
    return Firmware(build({**smmus, **nodes}).hex()).findings


def test_two_components_that_share_their_streams_are_one_note() -> None:
    """The table of a laptop: two named components have 16 StreamIDs of an SMMUv2 in common, one mapping each."""
    [note] = Firmware((DATA / "named-components.IORT.bin").read_bytes().hex()).findings
    assert (note.code, note.severity) == ("iort-flaw-elsewhere", Severity.INFO)
    assert "StreamIDs 0xc01 to 0xc10 belong to named component at 0x254 and to named component at 0xec" in note.what


def test_many_pairs_are_a_note_each_and_one_row_of_none_is_lost() -> None:
    maps = [Map(0, 1, stream, "other") for stream in (*range(0x10, 0x18), 0x20, *range(0x30, 0x32))]
    found = of(a=Nc(path="\\\\_SB.A", maps=maps), b=Nc(path="\\\\_SB.B", maps=maps))
    assert [finding.severity for finding in found] == [Severity.INFO] * len(found)
    [shared] = [finding for finding in found if "belong to" in finding.what]
    assert "StreamIDs 0x10 to 0x17, 0x20, 0x30 to 0x31 belong to" in shared.what


def test_what_touches_a_root_complex_is_a_warning_with_its_ranges_joined() -> None:
    found = of(rc=Rc(segment=0, maps=[Map(0, 0x100, 0, "smmu")]), a=Nc(path="\\\\_SB.A", maps=[Map(n, 1, n, "smmu") for n in range(8, 24)]))
    [shared] = [finding for finding in found if "belong to" in finding.what]
    assert (shared.code, shared.severity) == ("iort-defect", Severity.WARNING)
    assert "StreamIDs 0x8 to 0x17 belong to" in shared.what


def test_what_the_kernel_works_around_is_a_note() -> None:
    """apply_id_count_workaround() takes the count that was meant."""
    found = of(rc=Rc(segment=0, maps=[Map(0, 0x101, 0, "smmu"), Map(0x100, 0x100, 0x100, "smmu")]))
    assert {(finding.code, finding.severity) for finding in found} == {("iort-worked-around", Severity.INFO)}


def test_the_kernel_comes_first_where_the_firmware_has_the_smmus(host: Hosts) -> None:
    """No /sys/class/iommu: with nodes in IORT it is the kernel's driver that is missing, without them the firmware's setting."""
    facts = host("arm64-virt-canwbs").facts
    functions = tuple(msgspec.structs.replace(f, iommu=None, iommu_group=None) for f in facts.functions)
    bare = msgspec.structs.replace(facts, iommus=(), groups=(), functions=functions, hw_info=(), log=(), moment=Facts().moment)

    def off(table: bytes) -> Finding:
        made = host_of(msgspec.structs.replace(bare, acpi={"IORT": table.hex()}))
        return next(reason for reason in made.verdict("0000:14:00.0").reasons if reason.code == "smmu-off")

    with_nodes = off(bytes.fromhex(facts.acpi["IORT"]))
    assert "3 SMMUv3 nodes" in with_nodes.why
    assert with_nodes.fix.startswith("Look for CONFIG_ARM_SMMU_V3 in the kernel")
    without = off(build({"its": Its(0), "rc": Rc(segment=0, maps=[Map(0, 0x10000, 0, "its")])}))
    assert without.fix.startswith("Switch the SMMU (IOMMU) on in the firmware's setup")


def test_doctor_has_errors_first_in_every_place_and_between_them(host: Hosts) -> None:
    facts = host("arm64-virt-canwbs").facts
    lines = (
        "arm-smmu-v3 arm-smmu-v3.0.auto: no priq irq - PRI will be broken",
        "arm-smmu-v3 arm-smmu-v3.0.auto: device has entered Service Failure Mode!",
    )
    shown = diagnose(host_of(msgspec.structs.replace(facts, log=(*facts.log, *lines))))
    rank = {severity: place for place, severity in enumerate(Severity)}
    for area in shown.areas:
        severities = [rank[item.finding.severity] for item in area.findings]
        assert severities == sorted(severities)
    worst = [rank[area.findings[0].finding.severity] for area in shown.areas]
    assert worst == sorted(worst)


def test_rules_of_a_plan_are_asked_in_the_order_that_is_declared() -> None:
    """Not by the names of their modules, in which a linter sorts the imports."""
    rooms = [room.__name__ for room in rules.ROOMS]
    asked = list(dict.fromkeys(check.__module__ for check in rules.ASKED))
    assert asked == [name for name in rooms if name in asked]
    assert asked != sorted(asked)
