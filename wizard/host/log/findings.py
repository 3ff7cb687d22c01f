"""What the kernel's log of a host says, as findings: lines that mean trouble, event records, overrides by the firmware.

Which line leads to which finding is declared in ``lines``, what an event means in ``explain``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from wizard.arch.event import EventType
from wizard.base.address import Address
from wizard.base.finding import Area, Definition, Finding, Kind, OnTree, Severity, define
from wizard.base.text import plural
from wizard.facts.vfio import is_vfio_driver
from wizard.host.iort import RootComplex, ranges
from wizard.host.log import codes
from wizard.host.log import explain as meaning
from wizard.host.log.lines import LINES
from wizard.host.log.model import Event, Trouble
from wizard.host.log.parse import smmu_bases
from wizard.host.model import Function, Host, Smmu

_SHOWN = 3  # different wordings that one finding quotes


Key = tuple[str, ...]
"""What makes two findings of logs the same one: code, subject, for events also number and StreamID. How often and when they were said does not."""


def told(host: Host) -> dict[Key, Finding]:
    """Every finding of the log by its key: lines in the order of ``lines``, then what the firmware overrides, then the events."""
    names = smmu_names(host)
    plain = (*_troubles(host, names), *_passthrough(host), *_coherency(host, names))
    return {(finding.code, finding.subject): finding for finding in plain} | dict(_events(host, names))


def log_findings(host: Host) -> tuple[Finding, ...]:
    """Every finding of the log."""
    return tuple(host.told.values())


def findings_about(host: Host, subjects: Sequence[str]) -> tuple[Finding, ...]:
    """Those about one function, or one SMMU: what ``show`` says."""
    return tuple(finding for finding in log_findings(host) if finding.subject in subjects or any(subject in finding.what for subject in subjects))


def smmu_names(host: Host) -> dict[str, str]:
    """Device of the log -> the SMMU's name: by sysfs, else by the order of IORT; a device that nothing tells the place of keeps its own name."""
    links = {smmu.device: smmu for smmu in host.smmus.values() if smmu.device}
    bases = {device: smmu.base for device, smmu in links.items() if smmu.base is not None}
    # Those that failed have no link, and are found by the order of IORT when it is whole.
    ordered = smmu_bases(host.log, {}, [smmu.base for smmu in host.iort.smmus] if host.iort else [])
    found = {device: f"smmu3.{base:#018x}" for device, base in (ordered | smmu_bases(host.log, bases)).items()}
    # The CMDQV of an SMMU speaks under a name of its own.
    found |= {device: smmu.name for device, smmu in links.items()}
    return found | {log.cmdqv: found.get(log.device, log.device) for log in host.log.smmus.values() if log.cmdqv}


def _troubles(host: Host, names: Mapping[str, str]) -> Iterator[Finding]:
    joined: dict[tuple[str, str], list[Trouble]] = {}
    by_rid: dict[str, str] = {}
    if any(LINES[trouble.place].leads_to is codes.MAP_HOLE for trouble in host.log.troubles):
        for function in host.functions.values():
            by_rid.setdefault(f"{function.address.rid:#x}", str(function))
    for trouble in host.log.troubles:
        definition, device = LINES[trouble.place].leads_to, trouble.device
        subject = "host" if device is None else names.get(device, device)
        if definition is codes.MAP_HOLE:
            subject = by_rid.get(trouble.words["rid"], subject)
        if (definition.code, subject) in joined or not _said_elsewhere(host, definition, subject):
            joined.setdefault((definition.code, subject), []).append(trouble)
    for (_, subject), troubles in joined.items():
        kind = LINES[troubles[0].place]
        texts = list(dict.fromkeys(text for trouble in troubles for text in trouble.texts))
        more = f" (and {len(texts) - _SHOWN} more)" if len(texts) > _SHOWN else ""
        count = sum(trouble.count for trouble in troubles)
        because = next((trouble.words["because"] for trouble in troubles if trouble.words["because"]), "")
        words: dict[str, object] = {**troubles[0].words, "because": because, "said": "; ".join(text.rstrip(".!") for text in texts[:_SHOWN]) + more}
        words["times"] = f" ({count} times)" if count > len(texts) else ""
        yield kind.leads_to.at(subject, tree=host.by_tree, **words)  # type: ignore[arg-type]


def _said_elsewhere(host: Host, definition: Definition, subject: str) -> bool:
    """Whether a verdict or another rule says the same already."""
    if definition is codes.SETUP_FAILED:
        # Each function below an SMMU that was given up says so: `smmu-failed`.
        return any(function.iort_smmu == subject and function.smmu is None for function in host.functions.values())
    if definition is codes.IORT_WORKED_AROUND:
        return any(finding.code == codes.IORT_WORKED_AROUND.code for finding in host.iort_findings)
    return False


PASSTHROUGH = define(
    "iommu-passthrough-default", Severity.WARNING, Kind.TODO, Area.CMDLINE,
    what='The kernel leaves devices of the host untranslated: its log says "Default domain type: Passthrough".',
    why="VMs do not need it: it leaves the host open to the DMA of its own devices, and harms Grace GPUs.",
    fix="Boot with iommu.passthrough=0, or remove what set it (iommu.passthrough=1, CONFIG_IOMMU_DEFAULT_PASSTHROUGH).",
)  # fmt: skip


def _passthrough(host: Host) -> Iterator[Finding]:
    """Where the command line that set it was not recorded, or the kernel was built so (sources: problem-19)."""
    if host.log.default_domain == "Passthrough" and "iommu.passthrough" not in (host.facts.kernel.cmdline or host.log.command_line or ""):
        yield PASSTHROUGH.at("host")


COHACC = define(
    "coherency-overridden", Severity.WARNING, Kind.VERDICT, Area.FIRMWARE,
    what="The firmware overrides the coherency of {subject}: {value}.",
    why="IORT's COHACC flag says something else than IDR0; without coherent walks VFIO refuses devices (IOMMU_CAP_CACHE_COHERENCY).",
    fix="Update the firmware, or ask the vendor whether the SMMU's walks are coherent.",
    on_tree=OnTree(
        why="dma-coherent (or dma-noncoherent) of its node in the device tree, or of a node above it, says something else than IDR0; without "
        "coherent walks VFIO refuses devices (IOMMU_CAP_CACHE_COHERENCY).",
        fix="Update the device tree of the board, or ask the vendor whether the SMMU's walks are coherent.",
    ),
)  # fmt: skip


def _coherency(host: Host, names: Mapping[str, str]) -> Iterator[Finding]:
    """IDR0.COHACC overridden by FW configuration."""
    for device, told in host.log.smmus.items():
        if told.cohacc_override is not None:
            yield COHACC.at(names.get(device, device), value="coherent" if told.cohacc_override else "not coherent", tree=host.by_tree)


EVENTS = define(
    "smmu-events", Severity.WARNING, Kind.VERDICT, Area.DRIVERS,
    what="{subject} reported {count} for StreamID {stream} ({device}){seen}.",
    why="{why}",
    fix="{fix}",
)  # fmt: skip


def _events(host: Host, names: Mapping[str, str]) -> Iterator[tuple[Key, Finding]]:
    """Event records by SMMU, kind and StreamID (sources: problem-26)."""
    owners_of: dict[tuple[str, int], list[Function]] = {}
    if host.log.event_counts:
        for function in host.functions.values():
            for above, known in itertools.product({function.smmu, function.iort_smmu} - {None}, function.stream_ids):
                owners_of.setdefault((above or "", known), []).append(function)
    all_read = bool(host.log.event_counts) and _streams_read(host)
    nobody = "no known function" if all_read else "whose it is was not read"
    records: dict[tuple[str, int, int | None], list[Event]] = {}
    for event in host.log.events:
        records.setdefault((event.smmu, event.number, event.stream_id), []).append(event)
    for key, count in sorted(host.log.event_counts.items(), key=lambda item: (item[0][0], item[0][1], -1 if item[0][2] is None else item[0][2])):
        device, number, stream = key
        kept = records.get(key, [])
        owners = owners_of.get((names.get(device, device), -1 if stream is None else stream), [])
        # The kernel's word first: where several functions have one StreamID, it knows which it was set up for.
        named = [*(event.client for event in kept if event.client), *map(str, owners)]
        who = next(iter(named), None)
        others = [str(function) for function in owners if str(function) != who]
        explained = meaning.explain(number)
        requester = _requester(host, names.get(device, device), stream)
        if number == EventType.C_BAD_STREAMID and who is None and stream is not None:
            explained = meaning.NOBODY if all_read else meaning.UNTOLD
        explained = explained.on_tree() if host.by_tree else explained
        words = {"device": who or "the device", "whose": _whose([f for f in owners if str(f) == who] or owners), "requester": requester}
        why = [meaning.HARMLESS] if meaning.harmless(kept) else [explained.why.format(**words), *meaning.further(kept)]
        name = next((event.name for event in kept), f"event {number:#04x}")
        shown = meaning.fields(kept)
        yield (
            (EVENTS.code, names.get(device, device), name, str(stream)),
            EVENTS.at(
                names.get(device, device),
                severity=Severity.INFO if number == EventType.E_PAGE_REQUEST else None,
                count=plural(count, f"event {number:#04x}", f"events {number:#04x}") + (f" {name}" if not name.startswith("event") else ""),
                stream="unknown" if stream is None else f"{stream:#x}",
                device=(who or f"{nobody}{requester}") + (f"; {', '.join(others)} has it too" if others else ""),
                seen=f": {shown}" if shown else "",
                why=" ".join(text[0].upper() + text[1:] for text in why),
                fix=explained.fix.format(**words),
            ),
        )


def _streams_read(host: Host) -> bool:
    """Whether a StreamID that no function has is nobody's: the firmware's table was read, and tells all of each function (a note: but an alias)."""
    return (host.iort is not None or host.by_tree) and all(
        function.stream_ids and not function.stream_source.note for function in host.functions.values() if function.smmu or function.iort_smmu
    )


def _whose(owners: Sequence[Function]) -> str:
    """Who maps memory for the function: the guest that has it, or a driver of the host."""
    if not owners:
        return "its driver"
    if is_vfio_driver(owners[0].facts.driver):
        return f"the guest that has it (it is on {owners[0].facts.driver})"
    return f"its driver {owners[0].facts.driver}" if owners[0].facts.driver else "the driver that it had (it has none now)"


def _requester(host: Host, smmu: str, stream: int | None) -> str:
    """Which requester ID the firmware's IORT gives this StreamID, in words; empty where it gives it to none."""
    above: Smmu | None = host.smmus.get(smmu)
    if host.by_tree and stream is not None:
        node = host.device_tree.named(smmu, above.device if above else None)
        for row in host.device_tree.ranges(node) if node else ():
            if row.stream <= stream <= row.stream_last:
                return f" (the device tree gives it to requester ID {row.first + stream - row.stream:#06x} below {row.subject})"
    if host.iort is None or stream is None:
        return ""
    for one in ranges(host.iort):
        base = one.mapping.output_base
        here = f"smmu3.{one.smmu.base:#018x}" == smmu or (above is not None and above.base == one.smmu.base)
        if here and base <= stream <= one.mapping.output_last and isinstance(one.node, RootComplex):
            rid = one.mapping.input_base + stream - base
            return f" (IORT gives it to {Address.of_rid(one.node.segment, rid)})" if rid <= 0xFFFF else ""
    return ""
