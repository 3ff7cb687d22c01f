"""A function or an SMMU in words, once: the rows that ``show``, ``show --json`` (``rows``) and the wizard's detail all draw.

A row's key is the ``--json`` field that holds the same, where there is one; labels and words are shown as they are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from wizard.base.text import size, visible
from wizard.facts.held import Place, whole, why_unread
from wizard.facts.model import UNPLACED
from wizard.host.between import Between, neighbours
from wizard.host.devices import vf_ids
from wizard.host.known import Known, Source
from wizard.host.model import KIND_NAMES, Function, Group, Host, Smmu
from wizard.host.uses import told

NOT_READ = "unknown: not read"
HEADLINE = ("nesting", "s2fwb", "oas", "ssidsize", "ats", "ril", "cmdqv")
"""The capabilities of an SMMU that decide most."""


class Row(msgspec.Struct, frozen=True):
    """One thing that is known, or is known not to be: safe to show."""

    key: str
    label: str
    value: str
    source: str = ""  # where it is known from; empty: sysfs, or it is unknown
    note: str = ""

    @property
    def text(self) -> str:
        """The value, with its source and note behind it."""
        behind = ": ".join(filter(None, (self.source, self.note)))
        return f"{self.value} ({behind})" if behind else self.value


def product_text(host: Host) -> str:
    """Who made the host and what it is called."""
    return visible(" ".join(part for part in (host.facts.identity.vendor, host.facts.identity.product) if part)) or "unnamed host"


def kernel_text(host: Host) -> str:
    """The host's kernel."""
    return visible(f"Linux {host.facts.kernel.release or '(unknown)'}")


def pages_text(host: Host) -> str:
    """The size of its pages."""
    return f"{host.page_size // 1024}K pages" if host.page_size else "page size unknown"


def headline(smmu: Smmu) -> list[str]:
    """The capabilities that decide most, each with its value; ``*``: assumed."""
    found = ((name, smmu.known(name)) for name in HEADLINE)
    return [f"{name} {visible(known.show())}{'*' if known.source is Source.ASSUMED else ''}" for name, known in found]


def function_rows(host: Host, function: Function) -> Iterator[Row]:
    """What a function is, where it is, and who has to do with it."""
    facts = function.facts
    yield Row("class", "class", visible(facts.class_name or facts.class_))
    subsystem = f", subsystem {facts.subsystem_vendor[2:]}:{facts.subsystem_device[2:]}" if facts.subsystem_vendor and facts.subsystem_device else ""
    yield Row("device", "ids", visible(function.ids + subsystem))
    yield Row("driver", "driver", visible(facts.driver or ("none" if why_unread(host.facts, Place.DRIVERS) is None else NOT_READ)))
    if facts.driver_override:
        yield Row("driver_override", "override", visible(facts.driver_override))
    yield _smmu(host, function)
    streams = ", ".join(f"{stream:#x}" for stream in function.stream_ids) or "unknown"
    yield Row("stream_ids", "StreamID", streams, *_behind(function.stream_source))
    yield Row("requester", "requester", f"{function.address.rid:#06x} in segment {function.address.segment:04x}")
    group = None if function.group is None else host.groups.get(function.group)
    yield Row("iommu_group", "IOMMU group", _group(host, function, group))
    if group is not None:
        yield Row("reserved_regions", "reserved", regions_text(group))
    yield Row("numa_node", "NUMA node", _node(function.numa_node))
    placed = not function.facts.path.startswith(UNPLACED)
    yield Row("parent", "below", visible(function.parent or ("a root bus" if placed else NOT_READ)))
    yield Row("path", "path", visible(facts.path))
    bars = ", ".join(f"{bar.index}: {size(bar.size)}" + (" prefetchable" if bar.prefetchable else "") for bar in function.bars)
    yield Row("bars", "BARs", bars or ("none" if function.bars_known else NOT_READ))
    yield Row("companions", "companions", ", ".join(map(str, host.companions(function))) or ("none" if whole(host.facts) else "none recorded"))
    if near := neighbours(host, function):
        yield Row("peers", "nearest peers", _peers(near))
    if facts.physfn:
        yield Row("physfn", "VF of", visible(facts.physfn))
    if facts.sriov_totalvfs:
        ids = vf_ids(function)
        yield Row("sriov", "SR-IOV", f"{facts.sriov_numvfs or 0} of {facts.sriov_totalvfs} VFs made" + (f", each {ids}" if ids else ""))
    if facts.virtfns:
        yield Row("virtfns", "VFs", visible(", ".join(facts.virtfns)))
    for use in host.uses.get(facts.address, ()):
        yield Row("in_use", "others have it" if use.owner or use.kind == "vm" else "host uses it", visible(told(use)))
    for name, why in host.assumed.below(f"functions.{facts.address}").items():
        yield Row("assumed", "assumed", visible(f"{'all of it' if name == '*' else name}: {why}"))


_NEAR = 8  # peers that are named


def _peers(near: list[Between]) -> str:
    ways: dict[str, list[str]] = {}
    for one in near[:_NEAR]:
        apart = {True: "", False: ", not kept apart by ACS", None: ", ACS not read"}[one.redirected]
        ways.setdefault(one.way + apart, []).append(one.second)
    more = f" and {len(near) - _NEAR} more" if len(near) > _NEAR else ""
    return "; ".join(f"{way}: {', '.join(names)}" for way, names in ways.items()) + more


def smmu_rows(host: Host, smmu: Smmu) -> Iterator[Row]:
    """What an SMMU is, where it is, whom it serves, and the raw words that its capabilities come from."""
    yield Row("kind", "kind", smmu.kind if smmu.kind == "smmuv3" else visible(KIND_NAMES.get(smmu.kind, smmu.kind)))
    yield Row("base", "base", "unknown" if smmu.base is None else f"{smmu.base:#x}")
    yield Row("segments", "segments", ", ".join(f"{segment:04x}" for segment in smmu.segments) or "none")
    yield Row("numa_node", "NUMA node", _node(smmu.numa_node))
    yield Row("functions", "functions", ", ".join(smmu.functions) or "none")
    yield Row("platform_devices", "platform devices", ", ".join(map(visible, smmu.platform_devices)) or "none")
    if smmu.policy:
        yield Row("policy", "policy", visible(f"accel {smmu.policy.accel}: {smmu.policy.reason}"))
    if host.gic is not None:
        yield Row("gic", "interrupts", host.gic.words, str(Source.MADT))
    if smmu.kind == "smmuv3":
        yield from _words(smmu)
    for what, why in smmu_assumed(host, smmu).items():
        yield Row("assumed", "assumed", visible(f"{what}: {why}"))


def capability_rows(known: Mapping[str, Known]) -> list[Row]:
    """Capabilities by name, in alphabetical order; here the source is always said."""
    return [Row(name, name, visible(value.show()), str(value.source), visible(value.note)) for name, value in sorted(known.items())]


def smmu_assumed(host: Host, smmu: Smmu) -> dict[str, str]:
    """What of one SMMU nobody measured, with the reason."""
    places = {"place": f"iommus.{smmu.name}"}
    if smmu.features is not None:
        places["log"] = f"log.{smmu.name}"
    if smmu.registers is not None:
        places["hw_info"] = f"hw_info.{smmu.name}"
    return {what: next(iter(found.values())) for what, place in places.items() if (found := host.assumed.below(place))} if host.assumed else {}


def group_text(host: Host, function: Function) -> str:
    """A function's IOMMU group, who else is in it, and its type."""
    return _group(host, function, None if function.group is None else host.groups.get(function.group))


def regions_text(group: Group) -> str:
    """The reserved regions of a group, both ends counted."""
    if not group.regions_known:
        return "unknown: not read, or not understood"
    return ", ".join(visible(f"{region.start:#x}-{region.end:#x} {region.type}") for region in group.regions) or "none"


def _smmu(host: Host, function: Function) -> Row:
    key, label = "smmu", "SMMU"
    if function.smmu is not None:
        return Row(key, label, visible(function.smmu), *_behind(function.smmu_source))
    named = visible(f"firmware names {function.iort_smmu}") if function.iort_smmu else ""
    if any(reason.code == "smmu-unknown" for reason in host.verdict(function.facts.address).reasons):
        return Row(key, label, "unknown", note=named)
    return Row(key, label, "none in use" if named else "none", note=named)


def _group(host: Host, function: Function, group: Group | None) -> str:
    if group is None:
        return "none" if why_unread(host.facts, Place.GROUP_LINKS) is None and function.smmu is None else NOT_READ
    others = [device for device in group.devices if device != function.facts.address]
    who = f"with {', '.join(others)}" if others else "alone" if group.members_known else "nobody else known: its list was not read"
    return visible(f"{group.id}, {who}" + (f", {group.type}" if group.type else ""))


def _words(smmu: Smmu) -> Iterator[Row]:
    if smmu.features is None:
        yield Row("features", "features", "unknown: the kernel's log does not tell")
    else:
        from wizard.host.log.features import feature_names

        yield Row("features", "features", f"{smmu.features:#010x}  {feature_names(smmu.features)}", str(Source.LOG))
    if smmu.options is not None:
        yield Row("options", "option mask", f"{smmu.options:#x}", str(Source.LOG))
    raw = smmu.registers
    if raw is None:
        yield Row("registers", "ID registers", "unknown: nobody asked", note="`sudo smmu-wizard record --probe` asks")
        return
    words = [f"IDR{number} {word:#010x}" for number, word in enumerate(raw.words)] + [f"IIDR {raw.iidr:#010x}", f"AIDR {raw.aidr:#x}"]
    source, note = (Source.ASSUMED, "") if raw.assumed else (Source.HW_INFO, f"asked of {raw.asked}")
    yield Row("registers", "ID registers", "  ".join(words), str(source), note)


def _behind(known: Known) -> tuple[str, str]:
    """Source and note of a value; no source where it is unknown."""
    return "" if known.source is Source.NONE else str(known.source), visible(known.note)


def _node(node: int | None) -> str:
    return "none" if node is None else str(node)
