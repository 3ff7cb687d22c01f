"""The differences themselves, area by area, as flat lines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from wizard.facts.model import Facts
from wizard.fleet.diff.model import Area, Change, Value, What
from wizard.fleet.diff.pairs import Pairing
from wizard.host.function import Capabilities
from wizard.host.known import UNKNOWN, Known
from wizard.host.model import Function, Group, Host, Smmu
from wizard.host.uses import told

_OPTIONS = ("CONFIG_IOMMU", "CONFIG_ARM_SMMU", "CONFIG_VFIO", "CONFIG_TEGRA241", "CONFIG_KVM", "CONFIG_ARM64_", "CONFIG_HUGETLB", "CONFIG_PCI",
            "CONFIG_NVGRACE", "CONFIG_MLX5_VFIO")  # fmt: skip
_ELSEWHERE = frozenset({"dma_aliases", "sriov_vfs", "sriov_total_vfs"})  # numbers of one boot; told by sysfs below


def of(pairing: Pairing) -> Iterator[Change]:
    """Every difference, in the order of ``Area``."""
    a, b = pairing.a, pairing.b
    yield from _host(a.facts, b.facts)
    yield from _kernel(a.facts, b.facts)
    yield from _programs(a.facts, b.facts)
    yield from _nodes(a.facts, b.facts)
    yield from _smmus(pairing)
    yield from _groups(pairing)
    yield from _functions(pairing)
    yield from _verdicts(pairing)


def _fields(area: Area, subject: str, before: Mapping[str, Value], after: Mapping[str, Value]) -> Iterator[Change]:
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield Change(area=area, what=What.CHANGED, subject=subject, field=name, before=before.get(name), after=after.get(name))


def _known(area: Area, subject: str, before: Mapping[str, Known], after: Mapping[str, Known]) -> Iterator[Change]:
    """Values that differ; or the same value, measured on one side and assumed on the other."""
    before, after = (known.whole() if isinstance(known, Capabilities) else known for known in (before, after))
    if before is after:
        return  # what functions are told alike is one mapping
    for name in sorted({*before, *after} - _ELSEWHERE):
        old, new = before.get(name, UNKNOWN), after.get(name, UNKNOWN)
        if old.value != new.value or (old.known and old.measured != new.measured):
            yield Change(
                area=area, what=What.CHANGED, subject=subject, field=name, before=old.value, after=new.value,
                before_source=str(old.source), after_source=str(new.source),
            )  # fmt: skip


def _host(a: Facts, b: Facts) -> Iterator[Change]:
    yield from _fields(Area.HOST, "host", _host_fields(a), _host_fields(b))
    for what in sorted({*a.limits, *b.limits}):
        yield from _fields(Area.HOST, "limits", {what: a.limits.get(what)}, {what: b.limits.get(what)})
    old, new = ({policy.subject: f"accel {policy.accel}: {policy.reason}" for policy in facts.policy} for facts in (a, b))
    yield from _fields(Area.HOST, "policy", old, new)


def _host_fields(facts: Facts) -> dict[str, Value]:
    identity = facts.identity
    return {
        "vendor": identity.vendor,
        "product": identity.product,
        "board": identity.board,
        "firmware": identity.firmware,
        "machine": facts.kernel.machine or None,
        "cpus": facts.cpus,
        "cpu_model": facts.cpu_model,
        "memory_total": facts.memory_total,
        "iommufd": facts.iommufd,
        "vfio": facts.vfio,
        "kvm": facts.kvm,
        **{f"acpi {name}": _digest(table) for name, table in sorted(facts.acpi.items())},
    }


def _digest(table: str) -> str:
    return "sha256:" + hashlib.sha256(table.encode()).hexdigest()[:16]


def _kernel(a: Facts, b: Facts) -> Iterator[Change]:
    yield from _fields(Area.KERNEL, "kernel", _kernel_fields(a), _kernel_fields(b))
    old, new = a.kernel.config, b.kernel.config
    if old is not None and new is not None:
        names = sorted(name for name in {*old, *new} if name.startswith(_OPTIONS))
        yield from _fields(Area.KERNEL, "config", {n: old.get(n) for n in names}, {n: new.get(n) for n in names})
    names = sorted({*a.kernel.module_parameters, *b.kernel.module_parameters})
    before, after = a.kernel.module_parameters, b.kernel.module_parameters
    yield from _fields(Area.KERNEL, "parameters", {n: before.get(n) for n in names}, {n: after.get(n) for n in names})


def _kernel_fields(facts: Facts) -> dict[str, Value]:
    kernel = facts.kernel
    return {"release": kernel.release or None, "version": kernel.version or None, "cmdline": kernel.cmdline, "page_size": kernel.page_size,
            "config": None if kernel.config is None else "recorded"}  # fmt: skip


def _programs(a: Facts, b: Facts) -> Iterator[Change]:
    old, new = ({program.name: program for program in facts.programs} for facts in (a, b))
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            found = before or after
            assert found is not None
            what = What.ADDED if before is None else What.REMOVED
            value = found.version or found.path
            yield Change(
                area=Area.PROGRAM, what=what, subject=name, before=None if before is None else value, after=value if before is None else None
            )
        else:
            yield from _fields(
                Area.PROGRAM, name,
                {"version": before.version, "path": before.path, **_properties(before.properties)},
                {"version": after.version, "path": after.path, **_properties(after.properties)},
            )  # fmt: skip
    images = [tuple(sorted(image.executable for image in facts.firmware)) for facts in (a, b)]
    yield from _fields(Area.PROGRAM, "guest firmware", {"images": images[0]}, {"images": images[1]})


def _properties(properties: Mapping[str, Mapping[str, str | None]]) -> dict[str, Value]:
    return {device: tuple(sorted(names)) for device, names in properties.items()}


def _nodes(a: Facts, b: Facts) -> Iterator[Change]:
    old, new = ({node.id: node for node in facts.nodes} for facts in (a, b))
    for id_ in sorted({*old, *new}):
        before, after = old.get(id_), new.get(id_)
        subject = f"node {id_}"
        if before is None or after is None:
            yield Change(area=Area.NODE, what=What.ADDED if before is None else What.REMOVED, subject=subject)
            continue
        values: list[dict[str, Value]] = []
        for node in (before, after):
            pages: dict[str, Value] = {f"hugepages {size}K": count for size, count in sorted(node.hugepages.items())}
            values.append({"cpus": node.cpus, "memory": node.memory, "generic_initiator": node.generic_initiator, **pages})
        yield from _fields(Area.NODE, subject, values[0], values[1])


def _smmus(pairing: Pairing) -> Iterator[Change]:
    for name, smmu in pairing.a.smmus.items():
        if name not in pairing.smmus:
            yield Change(area=Area.SMMU, what=What.REMOVED, subject=name, before=smmu.kind)
    there = set(pairing.smmus.values())
    for name, smmu in pairing.b.smmus.items():
        if name not in there:
            yield Change(area=Area.SMMU, what=What.ADDED, subject=name, after=smmu.kind)
    for old, new in pairing.smmu_pairs():
        if old.name != new.name:
            yield Change(area=Area.SMMU, what=What.MOVED, subject=new.name, before=old.name, after=new.name)
        yield from _fields(Area.SMMU, new.name, _smmu_fields(old), _smmu_fields(new))
        yield from _known(Area.SMMU, new.name, old.capabilities, new.capabilities)


def _smmu_fields(smmu: Smmu) -> dict[str, Value]:
    words = smmu.registers.words if smmu.registers else ()
    return {
        "kind": smmu.kind,
        "numa_node": smmu.numa_node,
        "features": None if smmu.features is None else f"{smmu.features:#010x}",
        "options": None if smmu.options is None else f"{smmu.options:#010x}",
        "platform_devices": smmu.platform_devices,
        **{f"IDR{place}": f"{word:#010x}" for place, word in enumerate(words)},
        **({"IIDR": f"{smmu.registers.iidr:#010x}"} if smmu.registers else {}),
    }


def group_of(host: Host, function: Function) -> Group | None:
    """The IOMMU group of a function."""
    return host.groups.get(function.group) if function.group is not None else None


def _groups(pairing: Pairing) -> Iterator[Change]:
    """Group numbers are of one boot: a group is known by its members."""
    old = {pairing.members_before[group.id]: group for group in pairing.a.groups.values()}
    new = {pairing.members_after[group.id]: group for group in pairing.b.groups.values()}
    for members, group in old.items():
        if members not in new:
            yield Change(area=Area.GROUP, what=What.REMOVED, subject=str(group.id), before=group.devices)
    for members, group in new.items():
        before = old.get(members)
        if before is None:
            yield Change(area=Area.GROUP, what=What.ADDED, subject=str(group.id), after=group.devices)
        else:
            yield from _fields(Area.GROUP, str(group.id), _group_fields(before), _group_fields(group))


def _group_fields(group: Group) -> dict[str, Value]:
    return {"id": group.id, "type": group.type, "reserved_regions": tuple(f"{r.start:#x}-{r.end:#x} {r.type}" for r in group.regions)}


def _functions(pairing: Pairing) -> Iterator[Change]:
    a, b = pairing.a, pairing.b
    for name, function in a.functions.items():
        if name not in pairing.functions:
            yield Change(area=Area.FUNCTION, what=What.REMOVED, subject=name, before=_title(function))
    there = set(pairing.functions.values())
    for name, function in b.functions.items():
        if name not in there:
            yield Change(area=Area.FUNCTION, what=What.ADDED, subject=name, after=_title(function))
    for old, new in pairing.function_pairs:
        subject = new.facts.address
        if old.facts.address != subject:
            yield Change(area=Area.FUNCTION, what=What.MOVED, subject=subject, before=old.facts.address, after=subject)
        if not _told_alike(pairing, old, new):
            yield from _fields(Area.FUNCTION, subject, _function_fields(pairing, old, before=True), _function_fields(pairing, new, before=False))
        if not new.is_bridge:
            yield from _known(Area.FUNCTION, subject, old.capabilities, new.capabilities)


def _told_alike(pairing: Pairing, old: Function, new: Function) -> bool:
    """Whether all that the fields are made of is equal: of most functions it is, and no field need be made."""
    above: Any = old.smmu
    return (
        old.facts == new.facts
        and old.stream_ids == new.stream_ids
        and pairing.smmus.get(above, above) == new.smmu
        and _members(pairing, old, before=True) == _members(pairing, new, before=False)
        and pairing.a.uses.get(old.facts.address) == pairing.b.uses.get(new.facts.address)
    )


def _members(pairing: Pairing, function: Function, *, before: bool) -> tuple[str, ...]:
    group = group_of(pairing.a if before else pairing.b, function)
    return () if group is None else (pairing.members_before if before else pairing.members_after)[group.id]


def _title(function: Function) -> str:
    return f"{function.ids} {function.name}".strip()


def _function_fields(pairing: Pairing, function: Function, *, before: bool) -> dict[str, Value]:
    facts = function.facts
    host = pairing.a if before else pairing.b
    smmu: Any = function.smmu
    return {
        "ids": function.ids,
        "revision": facts.revision,
        "driver": facts.driver,
        "driver_override": facts.driver_override or None,
        "smmu": pairing.smmus.get(smmu, smmu) if before else smmu,
        "stream_ids": tuple(f"{stream:#x}" for stream in function.stream_ids),
        "iommu_group": _members(pairing, function, before=before),
        "numa_node": function.numa_node,
        "sriov_totalvfs": facts.sriov_totalvfs,
        "sriov_numvfs": facts.sriov_numvfs,
        "bars": tuple(f"BAR{bar.index} {bar.size:#x}" for bar in function.bars),
        "serial_number": facts.serial_number,
        "vfio_cdev": bool(facts.vfio_dev),
        "in_use": tuple(sorted(set(map(told, host.uses.get(facts.address, ()))))),
    }


def _verdicts(pairing: Pairing) -> Iterator[Change]:
    for old, new in pairing.function_pairs:
        if new.is_bridge and old.is_bridge:
            continue
        before, after = pairing.a.verdict(old.facts.address), pairing.b.verdict(new.facts.address)
        if (before.accel, before.reasons, before.todo) == (after.accel, after.reasons, after.todo):
            continue
        yield from _fields(
            Area.VERDICT, new.facts.address,
            {"accel": str(before.accel), "reasons": _codes(before.reasons), "todo": _codes(before.todo)},
            {"accel": str(after.accel), "reasons": _codes(after.reasons), "todo": _codes(after.todo)},
        )  # fmt: skip


def _codes(findings: tuple[Any, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(finding.code for finding in findings))
