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

from wizard.base.pattern import later
from wizard.facts.logtext import message, unstamped, whole
from wizard.host.log import codes
from wizard.host.log import lines as log_lines
from wizard.host.log.events import EventReader
from wizard.host.log.features import KNOWN_SINCE, NOT_BY_SILICON_ALONE, Feature, Option, feature, feature_names, knows, release_of, unnamed
from wizard.host.log.model import Alias, Complaint, Duplicate, Event, KernelLog, SmmuLog, Trouble

__all__ = [
    "KNOWN_SINCE", "NOT_BY_SILICON_ALONE", "Alias", "Complaint", "Duplicate", "Event", "Feature", "KernelLog", "Option", "SmmuLog", "feature",
    "feature_names", "knows", "message", "parse_log", "release_of", "smmu_bases", "unnamed",
]  # fmt: skip

_DIFFERENT = 200  # kinds of trouble, by device, that are told apart
_TEXTS = 4  # different wordings of one kind that are kept
_COMPLAINTS = 200


def parse_log(lines: Iterable[str]) -> KernelLog:
    """Facts out of log lines, in order; lines that say nothing of them are passed over. Never raises for odd lines."""
    reader = _Reader()
    for line in whole(lines):
        reader.read(unstamped(line))
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
        self.setup: dict[str, list[str]] = {}
        self.fallbacks: set[str] = set()
        self.groups: dict[str, int] = {}
        self.refused: list[Alias] = []
        self.duplicates: list[Duplicate] = []
        self.ats_refused: dict[str, None] = {}
        self.one_to_one: dict[str, None] = {}
        self.proximity: dict[int, int] = {}
        self.iort_bugs: list[str] = []
        self.complaints: list[Complaint] = []
        self.events = EventReader()
        self.troubles: dict[tuple[int, str | None], Trouble] = {}

    def read(self, text: str) -> None:
        if text.startswith(log_lines.DRIVER) and (told := log_lines.spoken(text)) is not None and told.driver == log_lines.DRIVER:
            self._smmu(told, text)
            return
        for marker, pattern, act in _GENERAL:
            if marker in text:
                found = pattern.search(text)
                if found:
                    act(self, found)
                    if marker in _ALSO_TROUBLE:
                        break
                    return
        if not self.events.bare(text):
            self._trouble(log_lines.match(text))

    def _smmu(self, told: log_lines.Spoken, text: str) -> None:
        if self.events.read(told.device, told.text):
            self.change(told.device)
            return
        for pattern, act in _OF_SMMU:
            match = pattern.match(told.text)
            if match:
                act(self, told.device, match)
                break
        found = log_lines.match(text, told)
        if found is None:
            return
        self.change(told.device)
        self._trouble(found)
        kept = self.errors.setdefault(told.device, [])
        if _GIVEN_UP.match(told.text):
            # What could not be set up before it is why.
            before = self.smmus[told.device].failed or "; ".join(self.setup.get(told.device, ())[-3:])
            self.change(told.device, failed="; ".join(filter(None, (before, told.text))))
        elif log_lines.is_error(found.kind) and len(kept) < _COMPLAINTS:
            kept.append(told.text)
            if found.kind.leads_to is codes.SETUP_FAILED:
                self.setup.setdefault(told.device, []).append(told.text)

    def _trouble(self, found: log_lines.Match | None) -> None:
        """One more line of a kind; a flood of them is counted, not kept."""
        if found is None:
            return
        key = found.place, found.device
        known = self.troubles.get(key)
        if known is None:
            if len(self.troubles) < _DIFFERENT:
                self.troubles[key] = Trouble(*key, (found.text,), MappingProxyType(log_lines.words_of(found)), 1)
        else:
            self.troubles[key] = _once_more(known, found.text)
        of_vfio = found.kind.about in (log_lines.About.VFIO, log_lines.About.HOST) and _OF_VFIO.search(found.text + found.driver)
        if of_vfio and len(self.complaints) < _COMPLAINTS:
            self.complaints.append(Complaint(found.device, found.text))

    def _refused_commands(self) -> None:
        """The command that was refused is printed behind the error."""
        for device, command in self.events.commands:
            for key, known in self.troubles.items():
                if key[1] == device and log_lines.LINES[known.place].leads_to is codes.COMMAND_ILLEGAL:
                    self.troubles[key] = msgspec.structs.replace(_once_more(known, f"the command was {command}"), count=known.count)

    def change(self, device: str, **values: object) -> None:
        self.smmus[device] = msgspec.structs.replace(self.smmus.get(device) or SmmuLog(device), **values)

    def result(self) -> KernelLog:
        self.events.finish()
        self._refused_commands()
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
            troubles=tuple(self.troubles[key] for key in sorted(self.troubles, key=lambda key: (key[0], key[1] or ""))),
            events=tuple(self.events.events),
            event_counts=MappingProxyType(self.events.counts),
        )


def _sizes(reader: _Reader, device: str, match: re.Match[str]) -> None:
    reader.change(device, ias=int(match[1]) if match[1] else None, oas=int(match[2]), features=int(match[3], 16))


def _queue(reader: _Reader, device: str, match: re.Match[str]) -> None:
    reader.change(device)
    queues = reader.queues.setdefault(device, {})
    if len(queues) < 256:  # two VCMDQs for each of 64 VINTFs, and the three of the SMMU
        queues[match[2]] = int(match[1])


def _set(**values: object) -> Callable[[_Reader, str, re.Match[str]], None]:
    return lambda reader, device, _: reader.change(device, **values)


# Messages of one SMMU, after "arm-smmu-v3 <device>: "; the most frequent first.
_OF_SMMU: tuple[tuple[re.Pattern[str], Callable[[_Reader, str, re.Match[str]], None]], ...] = (
    (later(r"(?:ias (\d{1,3})-bit, )?oas (\d{1,3})-bit \(features (0x[0-9a-f]{1,8})\)"), _sizes),
    (later(r"option mask (0x[0-9a-f]{1,8})"), lambda r, d, m: r.change(d, options=int(m[1], 16))),
    (later(r"allocated (\d{1,10}) entries for (\w{1,16})"), _queue),
    (later(r"msi_domain absent"), _set(msi_domain_absent=True)),
    (later(r"no priq irq"), _set(priq_irq_missing=True)),
    (later(r"IDR0\.COHACC overridden by FW configuration \((true|false)\)"),
     lambda r, d, m: r.change(d, cohacc_override=m[1] == "true")),
    (later(r"IDR0\.HTTU features\((0x[0-9a-f]{1,8})\) overridden by FW configuration \((0x[0-9a-f]{1,8})\)"),
     lambda r, d, m: r.change(d, httu_override=(int(m[1], 16), int(m[2], 16)))),
    (later(r"2-level strtab only covers (\d{1,3})/(\d{1,3}) bits of SID"), lambda r, d, m: r.change(d, strtab_covers=(int(m[1]), int(m[2])))),
    (later(r"found companion CMDQV device: (\S{1,64})"), lambda r, d, m: r.change(d, cmdqv=m[1])),
    (later(r".*Falling back to standard SMMU CMDQ"), _set(cmdqv_fallback=True)),
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


_OF_VFIO = later(r"vfio|iommufd")
_GIVEN_UP = later(r"Failed to register iommu|probe with driver \S+ failed with error")
_ALSO_TROUBLE = ("ACPI: IORT:", "tegra241_cmdqv")  # markers of lines that are facts and trouble


def _once_more(known: Trouble, text: str) -> Trouble:
    texts = known.texts if text in known.texts or len(known.texts) == _TEXTS else (*known.texts, text)
    return msgspec.structs.replace(known, texts=texts, count=known.count + 1)


# Everything else: a word that is always in the line, the pattern, and what to do with it.
_GENERAL: tuple[tuple[str, re.Pattern[str], Callable[[_Reader, re.Match[str]], None]], ...] = (
    ("Adding to iommu group", later(r"^\S{1,32} (\S{1,128}): Adding to iommu group (\d{1,9})$"),
     lambda r, m: r.groups.__setitem__(m[1], int(m[2]))),
    ("Aliasing StreamID", later(r"^\S+ (\S{1,128}): Aliasing StreamID (0x[0-9a-f]{1,8}) \(from (\S{1,128})\)"),
     lambda r, m: r.refused.append(Alias(m[1], int(m[2], 16), m[3]))),
    ("already in tree", later(r"^\S+ (\S{1,128}): stream (\d{1,10}) already in tree"),
     lambda r, m: r.duplicates.append(Duplicate(m[1], int(m[2])))),
    ("1:1 IOMMU mapping", later(r"^\S+ (\S{1,128}): Firmware has requested this device have a 1:1 IOMMU mapping"),
     lambda r, m: r.one_to_one.setdefault(m[1])),
    ("SMMU doesn't support ATS", later(r"^\S+ (\S{1,128}): SMMU doesn't support ATS"), lambda r, m: r.ats_refused.setdefault(m[1])),
    ("ACPI: IORT:", later(r"SMMU-v3\[([0-9a-f]{1,16})\] Mapped to Proximity domain (\d{1,9})"),
     lambda r, m: r.proximity.__setitem__(int(m[1], 16), int(m[2]))),
    ("ACPI: IORT:", later(r"ACPI: IORT: (.*)"), lambda r, m: r.iort_bugs.append(m[1]) if len(r.iort_bugs) < _COMPLAINTS else None),
    ("ACPI: IORT 0x", later(r"ACPI: IORT 0x[0-9A-Fa-f]+ ([0-9A-Fa-f]{6} \(v\d+.*\))"), _general(name="iort_table")),
    ("Linux version", later(r"Linux version (\S{1,128})"), _general(name="release")),
    ("Kernel command line:", later(r"Kernel command line: (.*)"), _general(name="command_line")),
    ("Default domain type", later(r"Default domain type: (\w+)"), _general(name="default_domain")),
    ("invalidation policy", later(r"TLB invalidation policy: (\w+)"), _general(name="tlb_policy")),
    ("ITS", later(r"^ITS(?:@0x| \[mem)"), _flag("its")),
    ("GICv2m", later(r"^GICv2m: "), _flag("gicv2m")),
    ("tegra241_cmdqv", later(r"(NVDA200C:\w+): tegra241_cmdqv: .*(?:Falling back|bypass|disabl)"), lambda r, m: r.fallbacks.add(m[1])),
)  # fmt: skip
