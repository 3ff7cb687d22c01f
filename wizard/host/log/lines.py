"""The lines of the kernel's log that mean trouble: one table of what they look like and of the finding that each leads to.

Wording: drivers/iommu/arm/arm-smmu-v3/{arm-smmu-v3,tegra241-cmdqv}.c, drivers/vfio, drivers/pci, drivers/iommu, drivers/acpi/arm64/iort.c and
drivers/of of Linux 7.3, with older wordings where they are known. Which lines are kept in a snapshot says ``wizard.facts.keptlog``.

    match("arm-smmu-v3 arm-smmu-v3.0.auto: EVTQ overflow detected -- events lost").kind.leads_to.code -> "smmu-events-lost"
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from enum import StrEnum
from functools import cache, cached_property

import msgspec

from wizard.base.finding import Definition, Severity
from wizard.base.pattern import later
from wizard.facts.logtext import TAB
from wizard.host.log import codes


class About(StrEnum):
    """Whom a line speaks of, and so how it begins."""

    SMMU = "smmu"  # arm-smmu-v3 <device>: …
    FUNCTION = "function"  # <driver> DDDD:BB:DD.F: …, of whatever driver
    VFIO = "vfio"  # the same, of a VFIO driver alone
    HOST = "host"  # anything else; looked for anywhere in the line


class LineKind(msgspec.Struct, frozen=True, dict=True):
    """One kind of line. Named groups of ``pattern`` are words of the finding's sentences; ``device`` names its subject."""

    about: About
    pattern: str
    leads_to: Definition
    example: str  # as a kernel wrote it

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        """The pattern, by itself."""
        return re.compile(self.pattern, re.IGNORECASE)


class Match(msgspec.Struct, frozen=True):
    """A line that is of a kind: whom it speaks of, what it says, and the words that stand in its places."""

    place: int  # of the kind in ``LINES``
    device: str | None
    driver: str
    text: str
    words: Mapping[str, str]

    @property
    def kind(self) -> LineKind:
        """What it is."""
        return LINES[self.place]


S, F, V, H = About.SMMU, About.FUNCTION, About.VFIO, About.HOST
_SMMU, _PCI = "arm-smmu-v3 arm-smmu-v3.0.auto: ", "0000:01:00.0: "
# What the driver could not do when it set an SMMU up (arm_smmu_device_probe() and below), or stopped it.
_SETUP = (
    r"can't request region|MMIO region too small|Failed to register iommu|failed to (?:clear cr0|disable irqs|setup irqs|reset impl|set DMA mask"
    r"|enable (?:SMMU|command|event|PRI|irqs|ATS check|evtq|gerror|priq|combined)|allocate (?:queue \(\S+ bytes\) for (?:cmdq|evtq|priq)|l1|linear))"
    r"|GBPA not responding|unknown/unsupported TT endianness|no translation support|AArch64 table format not supported"
    r"|(?:command|event|PRI) queue size <=|embedded implementation not supported|(?:missing|invalid) #iommu-cells"
)
# Whatever else speaks of a failure. Not: what another line says too, and what goes on in another way.
_COMPLAINT = (
    r"(?!failed to allocate MSIs|unexpected PRI request received|retrying command fetch|skipping command)"
    r".*(?:\bfail|unsupported|not supported|unknown|error|timeout|timed out|abort|overflow|can't|cannot|could not|unable|invalid|broken"
    r"|no \w+ found|lost\b|refus|not responding)"
)

LINES: tuple[LineKind, ...] = (
    LineKind(S, r"device has entered Service Failure Mode", codes.SERVICE_FAILURE, _SMMU + "device has entered Service Failure Mode!"),
    LineKind(S, r"CMD_SYNC timeout|CMDQ timeout", codes.COMMANDS_STUCK,
             _SMMU + "CMD_SYNC timeout at 0x00017d73 [hwprod 0x00017d74, hwcons 0x00017d73]"),
    LineKind(S, r"CMDQ error \(cons 0x[0-9a-f]+\): ATC invalidate timeout", codes.ATC_TIMEOUT,
             _SMMU + "CMDQ error (cons 0x0300b1b7): ATC invalidate timeout"),
    LineKind(S, r"CMDQ error \(cons 0x[0-9a-f]+\): Abort on command fetch", codes.COMMAND_ABORT,
             _SMMU + "CMDQ error (cons 0x02000013): Abort on command fetch"),
    LineKind(S, r"CMDQ error \(cons 0x[0-9a-f]+\)", codes.COMMAND_ILLEGAL, _SMMU + "CMDQ error (cons 0x01000013): Illegal command"),
    LineKind(S, r"unexpected global error reported \((?P<gerror>0x[0-9a-f]{1,8})\)", codes.GLOBAL_ERROR,
             _SMMU + "unexpected global error reported (0x00000001), this could be serious"),
    LineKind(S, r"EVTQ overflow|EVTQ write aborted", codes.EVENTS_LOST, _SMMU + "EVTQ overflow detected -- events lost"),
    LineKind(S, r"PRIQ overflow|PRIQ write aborted", codes.REQUESTS_LOST, _SMMU + "PRIQ overflow detected -- requests lost"),
    LineKind(S, r"sid 0x[0-9a-f]{8}\.0x[0-9a-f]{5}: \[\d+", codes.REQUEST_UNEXPECTED,
             _SMMU + "\tsid 0x00000100.0x00000: [3L] unprivileged R access at iova 0x0000000012340000"),
    LineKind(S, r"(?:GERROR|PRIQ|EVTQ|CMDQ) MSI write aborted", codes.MSI_ABORTED, _SMMU + "EVTQ MSI write aborted"),
    LineKind(S, r"no (?:evtq|gerr) irq - \w+ will not be reported", codes.UNREPORTED, _SMMU + "no evtq irq - events will not be reported!"),
    LineKind(S, r"no priq irq", codes.NO_PRI, _SMMU + "no priq irq - PRI will be broken"),
    LineKind(S, r"2-level strtab only covers|unknown output address size|IDR0\.HTTU features\(\S+\) overridden|(?:AArch64 )?SVA devices ignore",
             codes.LIMITED, _SMMU + "2-level strtab only covers 25/32 bits of SID"),
    LineKind(S, r"SMMU currently enabled", codes.WAS_ENABLED, _SMMU + "SMMU currently enabled! Resetting..."),
    LineKind(S, r"probe with driver arm-smmu-v3 failed with error (?P<errno>-\d+)", codes.SETUP_FAILED,
             "arm-smmu-v3: probe of arm-smmu-v3.0.auto failed with error -16"),
    LineKind(S, _SETUP, codes.SETUP_FAILED, _SMMU + "can't request region for resource [mem 0x0c020000-0x0c03ffff]"),
    LineKind(S, r".*Falling back to standard SMMU CMDQ|failed to allocate queue \(\S+ bytes\) for vcmdq", codes.CMDQV_UNUSED,
             _SMMU + "failed to allocate queue (0x8000 bytes) for vcmdq0"),
    LineKind(S, r"(?:tegra241_cmdqv: )?(?:unexpected error reported\. vintf_map|VINTF.*(?:failed to|uncleared error|GERRORN=))", codes.CMDQV_ERROR,
             _SMMU + "unexpected error reported. vintf_map: 0000000000000001, vcmdq_map 00000001:00000000:00000000:00000000"),
    LineKind(S, _COMPLAINT, codes.SMMU_COMPLAINT, _SMMU + "RMR SID(0x100) bypass failed"),

    LineKind(V, r"probe with driver \S+ failed with error (?P<errno>-\d+)", codes.PROBE_FAILED,
             "vfio-pci: probe of 0000:01:00.0 failed with error -22"),
    LineKind(V, r".*Relaying device request to user|No device request channel registered", codes.RELEASE_AWAITED,
             "vfio-pci " + _PCI + "Relaying device request to user (#0)"),
    LineKind(V, r".*reset recovery - restoring BARs", codes.BARS_RESTORED, "vfio-pci " + _PCI + "vfio_bar_restore: reset recovery - restoring BARs"),
    LineKind(F, r"Unable to change power state|(?:can't|Refused to) change power state|.*device inaccessible|.*config space inaccessible",
             codes.INACCESSIBLE, "vfio-pci " + _PCI + "Unable to change power state from D3cold to D0, device inaccessible"),
    LineKind(F, r"not ready \d+ms after .*giving up", codes.NOT_READY, "vfio-pci " + _PCI + "not ready 65535ms after bus reset; giving up"),
    LineKind(F, r"BAR \d+\b.*can't reserve", codes.BAR_HELD, "vfio-pci " + _PCI + "BAR 0: can't reserve [mem 0x10400000-0x10403fff]"),
    LineKind(F, r"cannot attach to (?:incompatible domain|SMMU)", codes.DOMAIN_REFUSED,
             "nvme " + _PCI + "cannot attach to incompatible domain (0 SSID bits != 20)"),
    LineKind(F, r"Failed to add to iommu group \d+: (?P<errno>-\d+)", codes.GROUP_REFUSED, "nvme " + _PCI + "Failed to add to iommu group 1: -22"),
    LineKind(F, r"DPC: (?:containment event|ERR_\w+ detected|Data Link Layer Link Active not set)", codes.DPC,
             "pcieport 0000:00:01.0: DPC: containment event, status:0x1f01 source:0x0000"),
    LineKind(F, r"AER: (?:Multiple )?(?:Uncorrected|Uncorrectable) \(|AER: .*recovery failed", codes.BUS_ERROR,
             "pcieport 0000:00:01.0: AER: Uncorrected (Fatal) error received: 0000:01:00.0"),
    LineKind(F, r"pciehp: Slot\(\S+\): (?:Link Down|Card not present)", codes.LINK_DOWN, "pcieport 0000:00:01.0: pciehp: Slot(1): Link Down"),
    LineKind(F, r"Invalid PCI ROM (?:header signature|data signature)", codes.ROM_UNREADABLE,
             "vfio-pci " + _PCI + "Invalid PCI ROM header signature: expecting 0xaa55, got 0xffff"),
    # Verdicts of their own read what the two before leave out: 1:1 mappings, StreamIDs that are taken.
    LineKind(V, r"(?!Firmware has requested this device have a 1:1|not ready \d+ms after .*waiting)"
             r".*(?:fail|error|unsafe|\bnot |denied|refus|invalid|cannot|can't|unable|timeout|timed out)", codes.VFIO_COMPLAINT,
             "vfio-pci " + _PCI + "Couldn't store 0000:01:00.0 saved state: not supported"),

    LineKind(H, r"Failed to set up IOMMU for device (?P<device>\S+?); retaining platform DMA ops", codes.IOMMU_SETUP,
             "Failed to set up IOMMU for device 0000:14:00.0; retaining platform DMA ops"),
    LineKind(H, r"OF: \S+ no iommu-map translation for id (?P<rid>0x[0-9a-f]{1,8})", codes.MAP_HOLE,
             "OF: /pcie@10000000: no iommu-map translation for id 0x600 on (null)"),
    LineKind(H, r"RLIMIT_MEMLOCK \(\d+\) exceeded", codes.MEMLOCK, "vfio_pin_pages_remote: RLIMIT_MEMLOCK (8388608) exceeded"),
    LineKind(H, r"No interrupt remapping support|MSI interrupts are not secure", codes.MSI_UNSAFE,
             'vfio_iommu_type1_attach_group: No interrupt remapping support.  Use the module param "allow_unsafe_interrupts" to enable VFIO IOMMU '
             "support on this platform"),
    LineKind(H, r"ACPI: IORT: (?:\[Firmware Bug\]: )?(?P<said>\[map \S+\] conflicting mapping for input ID \S+)", codes.IORT_WORKED_AROUND,
             "ACPI: IORT: [Firmware Bug]: [map 000000004d6c1e85] conflicting mapping for input ID 0x7c00"),
    LineKind(H, r"ACPI: IORT: (?!SMMU-v3\[\S+\] Mapped to Proximity|(?:\[Firmware Bug\]: )?applying workaround)(?P<said>.*)", codes.IORT_COMPLAINT,
             "ACPI: IORT: [Firmware Bug]: Invalid MSI mapping"),
    LineKind(H, r"(?P<device>NVDA200C:\w+): tegra241_cmdqv: (?P<said>.*(?:Falling back|bypass|disabl).*)", codes.CMDQV_UNUSED,
             "acpi NVDA200C:00: tegra241_cmdqv: Falling back to standard SMMU CMDQ"),
    LineKind(H, r"(?P<device>NVDA200C:\w+): tegra241_cmdqv: (?P<said>.*(?:error|fail).*)", codes.CMDQV_ERROR,
             "acpi NVDA200C:00: tegra241_cmdqv: VINTF0: VCMDQ0/LVCMDQ0: uncleared error detected, resetting"),
    LineKind(H, r"^(?=.*(?:vfio|iommufd))(?!.*(?:Firmware has requested this device|not ready \d+ms after .*waiting|module verification failed))"
             r".*(?:fail|error|unsafe|\bnot |denied|refus|invalid|cannot|can't|time out)", codes.VFIO_COMPLAINT,
             "iommufd: Time out waiting for iommufd object to become free: error"),
)  # fmt: skip
"""In the order in which they are asked: the first that fits is it."""
COMPLAINTS = frozenset({codes.SMMU_COMPLAINT.code, codes.VFIO_COMPLAINT.code})
"""Findings of lines that speak of a failure and that nobody has an explanation for."""

_SPOKEN = later(r"([\w.+-]{1,64}) ([\w:.+-]{1,128}): " + TAB + r"(.*)", re.DOTALL)
# Until about 6.10; since then "DRIVER DEVICE: probe with driver DRIVER failed with error -16".
_PROBE_OLD = later(r"([\w.+-]{1,64}): probe of (\S{1,128}) failed with error (-?\d+)")
_ADDRESS = later(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_GROUPS = later(r"\(\?P<\w+>")
DRIVER = "arm-smmu-v3"


class Spoken(msgspec.Struct, frozen=True):
    """A message of a device: its driver, its name, what was said of it."""

    driver: str
    device: str
    text: str


def spoken(text: str) -> Spoken | None:
    """A message as of a device, both wordings of a failed probe alike; None for one of no device."""
    if old := _PROBE_OLD.match(text):
        return Spoken(old[1], old[2], f"probe with driver {old[1]} failed with error {old[3]}")
    match = _SPOKEN.match(text)
    return Spoken(match[1], match[2], match[3].rstrip()) if match else None


@cache
def _joined(*abouts: About, but: frozenset[str] = frozenset()) -> re.Pattern[str]:
    """One pattern of many, whose group that matched last names the place of the kind."""
    chosen = (
        (place, kind, ".*?" if kind.about is H else "") for place, kind in enumerate(LINES) if kind.about in abouts and kind.leads_to.code not in but
    )
    parts = (f"(?P<k{place}>{before}(?:{_GROUPS.sub('(?:', kind.pattern)}))" for place, kind, before in chosen)
    return re.compile("|".join(parts), re.IGNORECASE | re.DOTALL)


# A word of each line of the host: most lines have none of them, and are not looked at further.
_HOST_WORDS = later(r"to set up IOMMU|iommu-map|RLIMIT_MEMLOCK|interrupt remapping|MSI interrupts|ACPI: IORT: |tegra241_cmdqv|vfio|iommufd")


def match(text: str, told: Spoken | None = None) -> Match | None:
    """The kind of a message (as ``wizard.facts.logtext.message`` gives it), None where it is of none. ``told``: what ``spoken`` said."""
    told = told or spoken(text)
    if told is not None:
        if told.driver == DRIVER:
            return _made(_joined(S).match(told.text), told.text, told)
        if _ADDRESS.fullmatch(told.device):
            abouts = (F, V) if "vfio" in told.driver else (F,)
            of_function = _made(_joined(*abouts, but=COMPLAINTS).match(told.text), told.text, told)
            if of_function is None and not _HOST_WORDS.search(told.text):
                of_function = _made(_joined(*abouts).match(told.text), told.text, told)
            if of_function is not None:
                return of_function
            # What a function's driver says of the host ("MSI interrupts are not secure", drivers/iommu/iommufd/device.c) is no mere complaint.
            of_host = _made(_joined(H, but=COMPLAINTS).match(text), text, None) if _HOST_WORDS.search(text) else None
            return of_host or _made(_joined(*abouts).match(told.text), told.text, told)
    return _made(_joined(H).match(text), text, None) if _HOST_WORDS.search(text) else None


def match_quoted(text: str) -> Match | None:
    """The kind of a line that somebody quotes without the driver and device that spoke it: of whatever kind it begins like."""
    found = _joined(S, F, V, H, but=COMPLAINTS).match(text)
    if found is None or found.lastgroup is None:
        return None
    place = int(found.lastgroup[1:])
    own = LINES[place].compiled.match(text) or LINES[place].compiled.search(text)
    words = {name: value for name, value in own.groupdict().items() if value is not None} if own else {}
    return Match(place, words.pop("device", None), "", words.pop("said", text), words)


def _made(found: re.Match[str] | None, text: str, told: Spoken | None) -> Match | None:
    if found is None or found.lastgroup is None:
        return None
    place = int(found.lastgroup[1:])
    own = LINES[place].compiled.search(text)
    words = {name: value for name, value in own.groupdict().items() if value is not None} if own else {}
    device = words.pop("device", None) or (told.device if told else None)
    return Match(place, device, told.driver if told else "", words.pop("said", text), words)


def words_of(found: Match) -> dict[str, str]:
    """The words of a line with what their numbers mean: ``because`` of an errno, ``bits`` of GERROR."""
    words = {"driver": found.driver, "because": "", "bits": "", "rid": "", **found.words}
    if number := found.words.get("errno"):
        name = errno.errorcode.get(-int(number), "")
        words["because"] = f" ({name})" if name else ""
    if gerror := found.words.get("gerror"):
        from wizard.arch.registers import GERROR  # forty registers, for a line that hardly any log has

        # Bits that are not declared stay in the number, which is in the line.
        bits = [field.doc for field in GERROR.layout.values() if field.get(int(gerror, 16))]
        words["bits"] = f": {', '.join(bits)}" if bits else ""
    return words


def is_error(kind: LineKind) -> bool:
    """Whether a line of this kind says that something went wrong, not only how something is."""
    return kind.leads_to.severity is not Severity.INFO
