"""The kernel log: what it says of SMMUs, IORT, groups and VFIO, as facts.

Lines may come from ``dmesg``, the journal or syslog, with their time stamps or without. Sources of the messages, unless named:
drivers/iommu/arm/arm-smmu-v3/arm-smmu-v3.c. The number N of ``arm-smmu-v3.N.auto`` changes from boot to boot; ``smmu_bases`` leads to
the MMIO base, by which an SMMU is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from wizard.arch import event as arch
from wizard.host.klog_features import KNOWN_SINCE, NOT_BY_SILICON_ALONE, Feature, Option, feature, feature_names, knows, release_of, unnamed
from wizard.host.klog_model import Alias, Complaint, Duplicate, Event, KernelLog, SmmuLog

__all__ = [
    "KNOWN_SINCE", "NOT_BY_SILICON_ALONE", "Alias", "Complaint", "Duplicate", "Event", "Feature", "KernelLog", "Option", "SmmuLog", "feature",
    "feature_names", "knows", "message", "parse_log", "release_of", "smmu_bases", "unnamed",
]  # fmt: skip

_LINE = 2048  # characters of a line that are looked at: the kernel writes 1024 bytes at most
_EVENTS = 1000  # event records that are kept one by one; beyond, they are only counted
_COMPLAINTS = 200


_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DAY = r"[A-Z][a-z]{2} [ \d]\d"
# What stands before the message: by dmesg (-x, -T, -e, -d, --time-format iso, the raw records of /dev/kmsg), journalctl (-o short, with
# its -iso, -precise, -full, -unix and -monotonic), syslog (RFC 3164 and 5424); and [T123] and [C0] of CONFIG_PRINTK_CALLER.
_PREFIX = re.compile(
    "(?:" + "|".join((
        r"<\d{1,3}>(?:1 )?",
        r"\d{1,4},\d{1,20},\d{1,20},[^;]{0,40};",
        r"\w{1,8} *:\w{1,8} *: ",
        rf"\[ *(?:\+?\d+\.\d+|[TC]\d+|[A-Z][a-z]{{2}} {_DAY} {_CLOCK} \d{{4}}|[A-Z][a-z]{{2}} ?\d\d? \d\d:\d\d)\] ?",
        rf"{_DAY} {_CLOCK} ",
        rf"[A-Z][a-z]{{2}} \d{{4}}-\d\d-\d\d {_CLOCK} \S{{1,40}} ",
        rf"\d{{4}}-\d\d-\d\dT{_CLOCK}\S{{0,10}} ",
        r"\d{9,11}\.\d{1,9} ",
        r"(?:\S{1,255} )?kernel(?:\[\d{1,10}\])?(?:: | - - - )",
    )) + ")*"
)  # fmt: skip
_DRIVER = re.compile(r"arm-smmu-v3 (\S+): (?:#011)?\s*(.*)", re.DOTALL)


def message(line: str) -> str:
    """The line as the kernel wrote it: without what dmesg, journal or syslog put before."""
    match = _PREFIX.match(line[:_LINE])
    return line[match.end() if match else 0 : _LINE].rstrip()


def parse_log(lines: Iterable[str]) -> KernelLog:
    """Facts out of log lines, in order; lines that say nothing of them are passed over. Never raises for odd lines."""
    reader = _Reader()
    for line in lines:
        reader.read(message(line))
    return reader.result()


def smmu_bases(log: KernelLog, links: Mapping[str, int] | None = None, iort_bases: Sequence[int] = ()) -> dict[str, int]:
    """MMIO base of each SMMU that the log names.

    ``links`` (from sysfs: device -> base) decides. Else a device tree name carries the address, and under ACPI the numbers of
    ``arm-smmu-v3.N.auto`` rise in the order of the IORT (``iort_bases``, else the order of the log's proximity lines); that is used only
    where there are as many of one as of the other.
    """
    found = {device: base for device, base in (links or {}).items() if device in log.smmus}
    for device in log.smmus:
        match = re.fullmatch(r"([0-9a-f]{1,16})\.(?:iommu|smmuv3|smmu)", device)
        if match:
            found.setdefault(device, int(match[1], 16))
    numbered = sorted((smmu.number, smmu.device) for smmu in log.smmus.values() if smmu.number is not None)
    order = list(iort_bases) or list(log.proximity)
    if len(numbered) == len(order) and not any(device in found for _, device in numbered):
        found |= {device: base for (_, device), base in zip(numbered, order, strict=True)}
    return found


class _Reader:
    """What has been understood so far; only while a log is read."""

    def __init__(self) -> None:
        self.log = KernelLog()
        self.smmus: dict[str, SmmuLog] = {}
        self.queues: dict[str, dict[str, int]] = {}
        self.errors: dict[str, list[str]] = {}
        self.fallbacks: set[str] = set()
        self.groups: dict[str, int] = {}
        self.refused: list[Alias] = []
        self.duplicates: list[Duplicate] = []
        self.ats_refused: dict[str, None] = {}
        self.one_to_one: dict[str, None] = {}
        self.proximity: dict[int, int] = {}
        self.iort_bugs: list[str] = []
        self.complaints: list[Complaint] = []
        self.events: list[Event] = []
        self.counts: dict[tuple[str, int, int | None], int] = {}
        self.open: dict[str, tuple[int, list[int]]] = {}  # SMMU -> event number and the words printed so far
        self.last: dict[str, int] = {}  # SMMU -> index of its last complete event, which a "client" line speaks of

    def read(self, text: str) -> None:
        match = _DRIVER.match(text)
        if match:
            self._smmu(match[1], match[2])
            return
        for marker, pattern, act in _GENERAL:
            if marker in text:
                found = pattern.search(text)
                if found:
                    act(self, found)
                    return

    def _smmu(self, device: str, text: str) -> None:
        for pattern, act in _OF_SMMU:
            match = pattern.match(text)
            if match:
                act(self, device, match)
                return

    def change(self, device: str, **values: object) -> None:
        self.smmus[device] = msgspec.structs.replace(self.smmus.get(device) or SmmuLog(device), **values)

    def error(self, device: str, text: str) -> None:
        self.change(device)
        kept = self.errors.setdefault(device, [])
        if len(kept) < _COMPLAINTS:
            kept.append(text)

    def complain(self, device: str | None, text: str) -> None:
        if len(self.complaints) < _COMPLAINTS:
            self.complaints.append(Complaint(device, text))

    def close(self, device: str) -> None:
        """The event that is being printed is over: with all its words, or cut short."""
        opened = self.open.pop(device, None)
        if opened is None:
            return
        number, words = opened
        record = arch.decode(arch.Event.of_words(words).value) if len(words) == 4 else None
        event = Event(device, number, record, None)
        key = (device, number, event.stream_id)
        self.counts[key] = self.counts.get(key, 0) + 1
        self.last.pop(device, None)
        if len(self.events) < _EVENTS:
            self.last[device] = len(self.events)
            self.events.append(event)

    def result(self) -> KernelLog:
        for device in list(self.open):
            self.close(device)
        for device, smmu in self.smmus.items():
            self.smmus[device] = msgspec.structs.replace(
                smmu,
                queues=MappingProxyType(self.queues.get(device, {})),
                errors=tuple(self.errors.get(device, ())),
                cmdqv_fallback=smmu.cmdqv_fallback or smmu.cmdqv in self.fallbacks,
            )
        return msgspec.structs.replace(
            self.log,
            smmus=MappingProxyType(self.smmus),
            groups=MappingProxyType(self.groups),
            refused=tuple(self.refused),
            duplicates=tuple(self.duplicates),
            ats_refused=tuple(self.ats_refused),
            one_to_one=tuple(self.one_to_one),
            proximity=MappingProxyType(self.proximity),
            iort_bugs=tuple(self.iort_bugs),
            complaints=tuple(self.complaints),
            events=tuple(self.events),
            event_counts=MappingProxyType(self.counts),
        )


def _sizes(reader: _Reader, device: str, match: re.Match[str]) -> None:
    reader.change(device, ias=int(match[1]) if match[1] else None, oas=int(match[2]), features=int(match[3], 16))


def _queue(reader: _Reader, device: str, match: re.Match[str]) -> None:
    reader.change(device)
    queues = reader.queues.setdefault(device, {})
    if len(queues) < 256:  # two VCMDQs for each of 64 VINTFs, and the three of the SMMU
        queues[match[2]] = int(match[1])


def _event(reader: _Reader, device: str, match: re.Match[str]) -> None:
    reader.close(device)
    reader.change(device)
    reader.open[device] = (int(match[1], 16), [])


def _word(reader: _Reader, device: str, match: re.Match[str]) -> None:
    opened = reader.open.get(device)
    if opened is not None:
        opened[1].append(int(match[1], 16))
        if len(opened[1]) == 4:
            reader.close(device)


def _client(reader: _Reader, device: str, match: re.Match[str]) -> None:
    index = reader.last.pop(device, None)
    if index is not None and match[1] != "(unassigned":
        reader.events[index] = msgspec.structs.replace(reader.events[index], client=match[1])


def _set(**values: object) -> Callable[[_Reader, str, re.Match[str]], None]:
    return lambda reader, device, _: reader.change(device, **values)


# Messages of one SMMU, after "arm-smmu-v3 <device>: "; the most frequent first.
_OF_SMMU: tuple[tuple[re.Pattern[str], Callable[[_Reader, str, re.Match[str]], None]], ...] = (
    (re.compile(r"(0x[0-9a-f]{16})$"), _word),
    (re.compile(r"event (0x[0-9a-f]{1,8}) received:"), _event),
    (re.compile(r"event: \S+ client: (\S+)"), _client),
    (re.compile(r"(?:ias (\d{1,3})-bit, )?oas (\d{1,3})-bit \(features (0x[0-9a-f]{1,8})\)"), _sizes),
    (re.compile(r"option mask (0x[0-9a-f]{1,8})"), lambda r, d, m: r.change(d, options=int(m[1], 16))),
    (re.compile(r"allocated (\d{1,10}) entries for (\w{1,16})"), _queue),
    (re.compile(r"msi_domain absent"), _set(msi_domain_absent=True)),
    (re.compile(r"no priq irq"), _set(priq_irq_missing=True)),
    (re.compile(r"IDR0\.COHACC overridden by FW configuration \((true|false)\)"),
     lambda r, d, m: r.change(d, cohacc_override=m[1] == "true")),
    (re.compile(r"IDR0\.HTTU features\((0x[0-9a-f]{1,8})\) overridden by FW configuration \((0x[0-9a-f]{1,8})\)"),
     lambda r, d, m: r.change(d, httu_override=(int(m[1], 16), int(m[2], 16)))),
    (re.compile(r"2-level strtab only covers (\d{1,3})/(\d{1,3}) bits of SID"), lambda r, d, m: r.change(d, strtab_covers=(int(m[1]), int(m[2])))),
    (re.compile(r"found companion CMDQV device: (\S{1,64})"), lambda r, d, m: r.change(d, cmdqv=m[1])),
    (re.compile(r".*Falling back to standard SMMU CMDQ"), _set(cmdqv_fallback=True)),
    (re.compile(r"(Failed to register iommu|probe with driver arm-smmu-v3 failed with error -?\d+|probe failed with error -?\d+)"),
     lambda r, d, m: r.change(d, failed="; ".join(filter(None, ((r.smmus.get(d) or SmmuLog(d)).failed, m[1]))))),
    (re.compile(r"(CMDQ error .*|.*CMD_SYNC timeout.*|unexpected global error .*|.*(?:queue|EVTQ|PRIQ).* overflow.*"
                r"|device has entered Service.*|failed to allocate queue .*"
                r"|.*(?:failed|unsupported|not supported|unknown|no .* found).*)", re.IGNORECASE),
     lambda r, d, m: r.error(d, m[1])),
)  # fmt: skip


def _general(**names: str) -> Callable[[_Reader, re.Match[str]], None]:
    """Put the match's first group into one field of the log."""
    [name] = names.values()

    def act(reader: _Reader, match: re.Match[str]) -> None:
        reader.log = msgspec.structs.replace(reader.log, **{name: match[1]})

    return act


def _flag(name: str) -> Callable[[_Reader, re.Match[str]], None]:
    def act(reader: _Reader, match: re.Match[str]) -> None:
        reader.log = msgspec.structs.replace(reader.log, **{name: True})

    return act


_ACCUSED = re.compile(r"\b(?:vfio-pci|nvgrace-gpu-vfio-pci|mlx5_vfio_pci|\w*vfio\w*) ([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]): (.*)")


def _complaint(reader: _Reader, match: re.Match[str]) -> None:
    accused = _ACCUSED.search(match.string)
    reader.complain(accused[1] if accused else None, accused[2] if accused else match.string)


# Everything else: a word that is always in the line, the pattern, and what to do with it.
_GENERAL: tuple[tuple[str, re.Pattern[str], Callable[[_Reader, re.Match[str]], None]], ...] = (
    ("Adding to iommu group", re.compile(r"^\S{1,32} (\S{1,128}): Adding to iommu group (\d{1,9})$"),
     lambda r, m: r.groups.__setitem__(m[1], int(m[2]))),
    ("Aliasing StreamID", re.compile(r"^\S+ (\S{1,128}): Aliasing StreamID (0x[0-9a-f]{1,8}) \(from (\S{1,128})\)"),
     lambda r, m: r.refused.append(Alias(m[1], int(m[2], 16), m[3]))),
    ("already in tree", re.compile(r"^\S+ (\S{1,128}): stream (\d{1,10}) already in tree"),
     lambda r, m: r.duplicates.append(Duplicate(m[1], int(m[2])))),
    ("1:1 IOMMU mapping", re.compile(r"^\S+ (\S{1,128}): Firmware has requested this device have a 1:1 IOMMU mapping"),
     lambda r, m: r.one_to_one.setdefault(m[1])),
    ("SMMU doesn't support ATS", re.compile(r"^\S+ (\S{1,128}): SMMU doesn't support ATS"), lambda r, m: r.ats_refused.setdefault(m[1])),
    ("ACPI: IORT:", re.compile(r"SMMU-v3\[([0-9a-f]{1,16})\] Mapped to Proximity domain (\d{1,9})"),
     lambda r, m: r.proximity.__setitem__(int(m[1], 16), int(m[2]))),
    ("ACPI: IORT:", re.compile(r"ACPI: IORT: (.*)"), lambda r, m: r.iort_bugs.append(m[1]) if len(r.iort_bugs) < _COMPLAINTS else None),
    ("ACPI: IORT 0x", re.compile(r"ACPI: IORT 0x[0-9A-Fa-f]+ ([0-9A-Fa-f]{6} \(v\d+.*\))"), _general(name="iort_table")),
    ("Linux version", re.compile(r"Linux version (\S{1,128})"), _general(name="release")),
    ("Kernel command line:", re.compile(r"Kernel command line: (.*)"), _general(name="command_line")),
    ("Default domain type", re.compile(r"Default domain type: (\w+)"), _general(name="default_domain")),
    ("invalidation policy", re.compile(r"TLB invalidation policy: (\w+)"), _general(name="tlb_policy")),
    ("ITS", re.compile(r"^ITS(?:@0x| \[mem)"), _flag("its")),
    ("GICv2m", re.compile(r"^GICv2m: "), _flag("gicv2m")),
    ("tegra241_cmdqv", re.compile(r"(NVDA200C:\w+): tegra241_cmdqv: .*(?:Falling back|bypass|disabl)"), lambda r, m: r.fallbacks.add(m[1])),
    ("vfio", re.compile(r"fail|error|unsafe|not |denied|refus|invalid|cannot|can't", re.IGNORECASE), _complaint),
    ("iommufd", re.compile(r"fail|error|unsafe|not |denied|refus|invalid|cannot|can't", re.IGNORECASE), _complaint),
)  # fmt: skip
