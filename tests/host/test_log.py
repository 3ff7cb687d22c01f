"""The kernel log, against a recorded one and against lines that were published of real machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.host import iort_tables
from wizard.facts.keptlog import split
from wizard.host.iort import decode_iort
from wizard.host.log.parse import Alias, Complaint, Duplicate, KernelLog, message, parse_log, smmu_bases

DATA = Path(__file__).parent / "data"
DMESG = (DATA / "arm64-virt.dmesg").read_text().splitlines()

GRACE = """\
ACPI: IORT 0x0000004042AF5018 00072B (v06 NVIDIA A M I    00000001 ARMH 00010000)
ACPI: IORT: SMMU-v3[11000000] Mapped to Proximity domain 0
ACPI: IORT: SMMU-v3[12000000] Mapped to Proximity domain 0
arm-smmu-v3 arm-smmu-v3.5.auto: option mask 0x0
arm-smmu-v3 arm-smmu-v3.5.auto: ias 48-bit, oas 48-bit (features 0x001e1fbf)
arm-smmu-v3 arm-smmu-v3.5.auto: allocated 524288 entries for cmdq
arm-smmu-v3 arm-smmu-v3.5.auto: allocated 524288 entries for evtq
arm-smmu-v3 arm-smmu-v3.5.auto: allocated 524288 entries for priq
arm-smmu-v3 arm-smmu-v3.5.auto: msi_domain absent - falling back to wired irqs
arm-smmu-v3 arm-smmu-v3.5.auto: no priq irq - PRI will be broken
platform NVDA2006:00: Adding to iommu group 0
arm-smmu-v3 arm-smmu-v3.6.auto: option mask 0x0
pci 0002:00:00.0: Adding to iommu group 3
"""

GRACE_CMDQV = """\
[    2.709269] arm-smmu-v3 arm-smmu-v3.10.auto: found companion CMDQV device: NVDA200C:00
[    2.709273] arm-smmu-v3 arm-smmu-v3.10.auto: option mask 0x10
[    2.709618] arm-smmu-v3 arm-smmu-v3.10.auto: ias 48-bit, oas 48-bit (features 0x001e1fbf)
[    2.736051] arm-smmu-v3 arm-smmu-v3.10.auto: allocated 524288 entries for vcmdq0
[    2.742553] arm-smmu-v3 arm-smmu-v3.10.auto: allocated 524288 entries for vcmdq1
arm-smmu-v3 arm-smmu-v3.9.auto: found companion CMDQV device: NVDA200C:04
pci 0008:00:00.0: Adding to iommu group 10
pci 0008:07:00.0: stream 67328 already in tree
arm-smmu-v3 arm-smmu-v3.9.auto: Failed to register iommu
arm-smmu-v3 arm-smmu-v3.9.auto: probe with driver arm-smmu-v3 failed with error -22
"""


def parse(text: str) -> KernelLog:
    return parse_log(text.splitlines())


@pytest.fixture(scope="module")
def recorded() -> KernelLog:
    return parse_log(DMESG)


def test_recorded_smmus(recorded: KernelLog) -> None:
    assert recorded.release == "7.2.13-armhost"
    assert recorded.command_line == "initrd=initrd console=ttyAMA0 quiet armhost.job=capture.sh armhost.vfs=2"
    assert list(recorded.smmus) == [f"arm-smmu-v3.{n}.auto" for n in range(3)]
    for smmu in recorded.smmus.values():
        assert (smmu.options, smmu.ias, smmu.oas, smmu.features) == (0, None, 44, 0x01088705)
        assert dict(smmu.queues) == {"cmdq": 65536, "evtq": 32768}
        assert (smmu.failed, smmu.errors, smmu.cmdqv) == (None, (), None)
    assert (recorded.default_domain, recorded.tlb_policy, recorded.its, recorded.gicv2m) == ("Translated", "strict", True, False)
    assert recorded.complaints == ()


def test_recorded_groups_are_those_of_sysfs(recorded: KernelLog) -> None:
    """iommu-groups.txt of the same boot; bus 0 and 83:02.0 have none."""
    assert set(recorded.groups) == {
        a for a in json.loads((DATA / "arm64-virt-boot.pci.json").read_text()) if not a.startswith("0000:00:") and a != "0000:83:02.0"
    }
    assert (recorded.groups["0000:81:00.0"], recorded.groups["0000:81:00.1"], recorded.groups["0000:11:10.2"]) == (11, 11, 14)


def test_recorded_alias(recorded: KernelLog) -> None:
    assert recorded.refused == (Alias("0000:83:02.0", 0x8300, "0000:83:01.0"),)
    assert recorded.aliases == {"0000:83:02.0": "0000:83:01.0"}


def test_recorded_events(recorded: KernelLog) -> None:
    """The kernel decodes its events in the line behind the words: ``sid: 0x8300 ssid: 0x0 iova: 0xfd8ab002``, ``unpriv data read s1``."""
    shown = [line for line in DMESG if "event: F_TRANSLATION client:" in line]
    assert len(recorded.events) == len(shown) == 6
    for event, line in zip(recorded.events, shown, strict=True):
        assert event.record is not None
        assert event.name == "F_TRANSLATION"
        assert event.client == "0000:83:01.0"
        assert f"sid: {event.stream_id:#x} ssid: {event.record.SubstreamID:#x} iova: {event.record.fields()['InputAddr']:#x} " in line
    kinds = [line.split("auto: ")[1] for line in DMESG if "unpriv data" in line]
    for event, kind in zip(recorded.events, kinds, strict=True):
        assert event.record is not None
        fields = event.record.fields()
        assert ("read" in kind) == bool(fields["RnW"])
        assert (fields["PnU"], fields["InD"], fields["S2"]) == (0, 0, 0)
    assert recorded.event_counts == {("arm-smmu-v3.2.auto", 0x10, 0x8300): 6}


def test_everything_that_is_understood_is_also_recorded() -> None:
    """``record`` keeps the lines that matter: dropping the others must lose nothing."""
    for text in ("\n".join(DMESG), GRACE, GRACE_CMDQV, PUBLISHED):
        boot, moment = split(text.splitlines())
        whole, kept = parse(text), parse_log((*boot, *moment))
        assert kept == whole


def test_bases_by_sysfs_links_iort_order_and_name(recorded: KernelLog) -> None:
    table = decode_iort((DATA / "arm64-virt.IORT.bin").read_bytes())
    bases = [smmu.base for smmu in table.smmus]
    by_order = smmu_bases(recorded, iort_bases=bases)
    assert by_order == {"arm-smmu-v3.0.auto": 0xC000000, "arm-smmu-v3.1.auto": 0xC020000, "arm-smmu-v3.2.auto": 0xC040000}
    assert smmu_bases(recorded, links=by_order, iort_bases=bases[::-1]) == by_order
    assert smmu_bases(recorded, iort_bases=bases[:2]) == {}  # as many of one as of the other, or nothing
    altra = [smmu.base for smmu in decode_iort(iort_tables.altra()).smmus]
    log = parse("\n".join(f"arm-smmu-v3 arm-smmu-v3.{n}.auto: option mask 0x0" for n in (0, 5, 3, 1, 2, 4)))
    # /proc/iomem of that Altra: 33ffe0000000-33ffe001ffff : arm-smmu-v3.0.auto ... 5=2fffe
    assert smmu_bases(log, iort_bases=altra)["arm-smmu-v3.5.auto"] == 0x2FFFE0000000
    assert smmu_bases(log, iort_bases=altra)["arm-smmu-v3.0.auto"] == 0x33FFE0000000
    assert smmu_bases(parse("arm-smmu-v3 fc900000.iommu: oas 48-bit (features 0x001c1eaf)")) == {"fc900000.iommu": 0xFC900000}
    assert smmu_bases(parse(GRACE)) == {"arm-smmu-v3.5.auto": 0x11000000, "arm-smmu-v3.6.auto": 0x12000000}


def test_grace() -> None:
    log = parse(GRACE)
    smmu = log.smmus["arm-smmu-v3.5.auto"]
    assert (smmu.options, smmu.ias, smmu.oas, smmu.features) == (0, 48, 48, 0x001E1FBF)
    assert smmu.queues == {"cmdq": 524288, "evtq": 524288, "priq": 524288}
    assert smmu.msi_domain_absent
    assert smmu.priq_irq_missing
    assert log.groups == {"NVDA2006:00": 0, "0002:00:00.0": 3}
    assert log.proximity == {0x11000000: 0, 0x12000000: 0}
    assert log.iort_table == "00072B (v06 NVIDIA A M I    00000001 ARMH 00010000)"
    assert log.iort_bugs == ()


def test_grace_with_cmdqv_and_a_failed_probe() -> None:
    log = parse(GRACE_CMDQV)
    smmu = log.smmus["arm-smmu-v3.10.auto"]
    assert (smmu.cmdqv, smmu.cmdqv_fallback, smmu.options) == ("NVDA200C:00", False, 0x10)
    assert [name for name in smmu.queues if name.startswith("vcmdq")] == ["vcmdq0", "vcmdq1"]
    assert log.duplicates == (Duplicate("0008:07:00.0", 67328),)
    assert log.smmus["arm-smmu-v3.9.auto"].failed == "Failed to register iommu; probe with driver arm-smmu-v3 failed with error -22"


PUBLISHED = """\
Linux version 6.16.0-rc3-next-20250627 (builder@host) (gcc) #1 SMP
arm-smmu-v3 arm-smmu-v3.16.auto: option mask 0x0
arm-smmu-v3 arm-smmu-v3.16.auto: IDR0.HTTU features(0x600000) overridden by FW configuration (0x0)
arm-smmu-v3 arm-smmu-v3.16.auto: ias 48-bit, oas 48-bit (features 0x0094dfef)
arm-smmu-v3 arm-smmu-v3.1.auto: IDR0.COHACC overridden by FW configuration (false)
arm-smmu-v3 arm-smmu-v3.1.auto: 2-level strtab only covers 25/32 bits of SID
arm-smmu-v3 2b400000.iommu: ias 48-bit, oas 48-bit (features 0x00001fef)
arm-smmu-v3 arm-smmu-v3.7.auto: found companion CMDQV device: NVDA200C:00
arm-smmu-v3 arm-smmu-v3.7.auto: failed to allocate queue (0x8000 bytes) for vcmdq0
acpi NVDA200C:00: tegra241_cmdqv: Falling back to standard SMMU CMDQ
arm-smmu-v3 arm-smmu-v3.3.auto: CMDQ error (cons 0x01000013): Illegal command
arm-smmu-v3 arm-smmu-v3.3.auto: CMD_SYNC timeout at 0x00000008 [hwprod 0x00000009, hwcons 0x00000008]
ACPI: IORT: [Firmware Bug]: [map 000000004d6c1e85] conflicting mapping for input ID 0x7c00
ACPI: IORT: [Firmware Bug]: applying workaround.
hisi_zip 0000:75:00.0: Adding to iommu group 40
iommu: Default domain type: Passthrough (set via kernel command line)
iommu: DMA domain TLB invalidation policy: lazy mode
vfio-pci 000f:01:00.0: Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping. Contact your platform vendor.
vfio-pci 0000:83:02.0: probe with driver vfio-pci failed with error -22
vfio_iommu_type1_attach_group: No interrupt remapping support. Use the module param "allow_unsafe_interrupts" to enable VFIO IOMMU support on this platform
pci 0009:01:00.0: SMMU doesn't support ATS to be always on
GICv2m: range[mem 0xf1280000-0xf1280fff], SPI[416:447]
"""  # noqa: E501


def test_published_lines() -> None:
    log = parse(PUBLISHED)
    assert log.release == "6.16.0-rc3-next-20250627"
    mitchell = log.smmus["arm-smmu-v3.16.auto"]
    assert (mitchell.features, mitchell.httu_override) == (0x0094DFEF, (0x600000, 0))
    assert log.smmus["arm-smmu-v3.1.auto"].cohacc_override is False
    assert log.smmus["arm-smmu-v3.1.auto"].strtab_covers == (25, 32)
    assert log.smmus["2b400000.iommu"].features == 0x1FEF
    fallback = log.smmus["arm-smmu-v3.7.auto"]
    assert (fallback.cmdqv, fallback.cmdqv_fallback) == ("NVDA200C:00", True)
    assert fallback.errors == ("failed to allocate queue (0x8000 bytes) for vcmdq0",)
    assert [error.split(" ")[0] for error in log.smmus["arm-smmu-v3.3.auto"].errors] == ["CMDQ", "CMD_SYNC"]
    assert log.iort_bugs == ("[Firmware Bug]: [map 000000004d6c1e85] conflicting mapping for input ID 0x7c00", "[Firmware Bug]: applying workaround.")
    assert log.groups == {"0000:75:00.0": 40}
    assert (log.default_domain, log.tlb_policy) == ("Passthrough", "lazy")
    assert log.one_to_one == ("000f:01:00.0",)
    assert log.complaints[0] == Complaint("0000:83:02.0", "probe with driver vfio-pci failed with error -22")
    assert log.complaints[1].device is None
    assert "allow_unsafe_interrupts" in log.complaints[1].text
    assert log.gicv2m
    assert log.ats_refused == ("0009:01:00.0",)


LINE = "arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x2"


@pytest.mark.parametrize(
    "prefix",
    [
        "", "[    1.446914] ", "[Fri Nov 21 02:31:00 2026] ", "<6>[    1.446914] ", "kern  :info  : [    1.446914] ", "[    1.446914][    T1] ",
        "Nov 21 02:31:00 host kernel: ", "Nov  1 02:31:00 host kernel: [    1.446914] ", "2026-11-21T02:31:00+0000 host kernel: ",
        "6,812,1446914,-;", "2026-11-21T02:31:00.123456+00:00 host.example kernel: [    1.4] ",
        # journalctl -k -o short-precise, -full, -unix, -monotonic, and --no-hostname
        "Nov 21 02:31:00.123456 host kernel: ", "Fri 2026-11-21 02:31:00 UTC host kernel: ", "1764226561.123456 host kernel: ",
        "[    1.446914] host kernel: ", "Nov 21 02:31:00 kernel: ", "Nov 21 02:31:00 host kernel[0]: ",
        # dmesg --time-format iso, -e and -d
        "2026-11-21T02:31:00,123456+00:00 ", "[Nov21 02:31] ", "[  +0.000012] ",
        "<6>1 2026-11-21T02:31:00Z host kernel - - - ",  # RFC 5424
    ],
)  # fmt: skip
def test_prefixes_of_dmesg_journal_and_syslog(prefix: str) -> None:
    assert message(prefix + LINE) == LINE
    assert parse_log([prefix + LINE]).smmus["arm-smmu-v3.0.auto"].options == 2


def test_a_wrapped_ring_buffer_begins_anywhere() -> None:
    """The first line is the tail of one; what came before it is unknown, not absent."""
    log = parse_log(["(features 0x001e1fbf)", "[    2.7] arm-smmu-v3 arm-smmu-v3.5.auto: allocated 524288 entries for evtq"])
    assert log.smmus["arm-smmu-v3.5.auto"].features is None
    assert log.smmus["arm-smmu-v3.5.auto"].options is None
    assert log.smmus["arm-smmu-v3.5.auto"].queues == {"evtq": 524288}


def test_events_of_two_smmus_that_are_mixed_up_and_cut_short() -> None:
    """A log shared by all CPUs: words belong to the SMMU of their own line; an event whose words were lost is still counted."""
    a, b = "arm-smmu-v3 arm-smmu-v3.0.auto: ", "arm-smmu-v3 arm-smmu-v3.1.auto: "
    lines = [a + "event 0x10 received:", b + "event 0x02 received:", a + "\t0x0000310200000010", b + "\t0x0000040000000002",
             b + "\t0x0000000000000000",
             a + "\t0x0000020000000000", b + "\t0x0000000000000000", a + "\t0x00000000fd8ab002", a + "\t0x0000000000000000",
             b + "event 0x7e received:"]  # fmt: skip
    log = parse_log(lines)
    assert [(event.smmu[-6], event.name, event.stream_id) for event in log.events] == [
        ("0", "F_TRANSLATION", 0x3102), ("1", "C_BAD_STREAMID", None), ("1", "event 0x7e", None),
    ]  # fmt: skip


def test_a_flood_of_events_is_counted_not_kept() -> None:
    event = ["arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:"] + [
        f"arm-smmu-v3 arm-smmu-v3.0.auto: \t0x{word:016x}" for word in (0x310200000010, 0x20000000000, 0, 0)
    ]
    log = parse_log(event * 3000)
    assert len(log.events) == 1000
    assert log.event_counts == {("arm-smmu-v3.0.auto", 0x10, 0x3102): 3000}


def test_an_empty_log_says_nothing() -> None:
    assert parse_log([]) == KernelLog()


SCRAPS = st.sampled_from([*(line for line in (GRACE + GRACE_CMDQV + PUBLISHED).splitlines()), *DMESG[640:740]])


@given(st.lists(st.one_of(st.text(max_size=200), SCRAPS, SCRAPS.map(lambda line: line[: len(line) // 2]), SCRAPS.map(lambda line: line * 3))))
def test_any_lines(lines: list[str]) -> None:
    log = parse_log(lines)
    smmu_bases(log, iort_bases=[1, 2, 3])
    assert all(event.name for event in log.events)


@pytest.mark.parametrize("line", ["a" * 10**6, "[" * 10**5, "vfio " * 10**5, LINE + "0" * 10**6, "<6>" + " " * 10**6 + "kernel: ", "[ " * 10**5])
def test_long_lines_are_cut(line: str) -> None:
    assert len(message(line)) <= 2048
    parse_log([line])
