"""Facts out of a tree: what ``--root`` reads, and what the live source reads too, below /."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from wizard import __version__
from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts import devicetree, platform, taken, usage
from wizard.facts.content import TEXT_LIMIT
from wizard.facts.covered import covered
from wizard.facts.held import Place
from wizard.facts.interrupts import behind_its
from wizard.facts.keptlog import split
from wizard.facts.many import read_many
from wizard.facts.model import FORMAT, VERSION, AddressText, Count, Facts, Hex, HwInfo, InUse, Moment, PciFunction
from wizard.facts.opened import of_displays
from wizard.facts.pci_ids import named
from wizard.facts.scope import Scope
from wizard.facts.tree import Tree
from wizard.facts.uefi import find_firmware


def from_tree(tree: Tree, scope: Scope = Scope.WHOLE) -> Facts:
    """Everything that a tree holds, or what a table needs of it. What it does not hold is absent, never taken from the machine this runs on."""
    found, groups = read_many(tree, scope=scope)
    known: dict[str, object] = {"functions": named(found), "groups": groups}
    uses: list[tuple[str, str, str]] = []
    if not found:
        from wizard.facts import sos  # loads unpackers, which a tree of /sys has no need of

        if sos.is_sos(tree):
            report = sos.read_report(tree)
            tree, found, uses = report.tree, report.functions, [*report.uses]
            known = {"functions": named(found), "iommus": report.iommus, "groups": report.groups, "programs": sos.programs_of(tree)}
            known["identity"] = sos.identity_of(tree, platform.read_identity(tree))
    log, moment_log = split(log_of(tree))
    moment = Moment(log=moment_log)
    if scope is Scope.WHOLE:
        surroundings, moment = _surroundings(tree, found, uses, moment)
        known = surroundings | known
    return assemble(
        tree,
        scope,
        origin="root",
        **known,
        log=log,
        log_complete=bool(log),
        hw_info=_hw_info(tree) if "hw_info.json" in tree.names("") else (),
        iommufd=_in_proc_misc(tree, "iommu"),
        vfio=_in_proc_misc(tree, "vfio"),
        kvm=_in_proc_misc(tree, "kvm"),
        moment=moment,
    )


def _surroundings(tree: Tree, found: tuple[PciFunction, ...], uses: list[tuple[str, str, str]], moment: Moment) -> tuple[dict[str, object], Moment]:
    """What the scope of a table leaves out of a host, and the moment with its figures; ``uses`` of interfaces are known from elsewhere."""
    uses = [*usage.default_routes_of_proc(tree), *usage.addresses_of_proc(tree), *uses]
    used = [
        *usage.of_mounts(tree, usage.mounts_of_proc(tree)),
        *usage.of_mounts(tree, usage.swaps_of_proc(tree), "swap"),
        *usage.of_interfaces(tree, uses),
    ]
    used += usage.of_holders(tree, used)
    meminfo = tree.text("proc/meminfo") or ""
    known: dict[str, object] = {
        "in_use": unique([*used, *of_displays(tree, found), *taken.of_tree(tree)]),
        "firmware": find_firmware(tree),
        "cpus": _cpus(tree),
        "cpu_model": cpu_model(tree),
        "memory_total": _kib(meminfo, "MemTotal"),
    }
    free = {"memory_available": _kib(meminfo, "MemAvailable"), "memory_free": _kib(meminfo, "MemFree"), "hugepages_free": free_hugepages(tree)}
    return known, msgspec.structs.replace(moment, **free)


_JOURNALS = tuple(f"sos_commands/logs/journalctl_--no-pager{catalog}_--boot" for catalog in ("", "_--catalog"))
_LOGS = ("dmesg", "sos_commands/kernel/dmesg", *_JOURNALS, "var/log/dmesg")
_BEGINNING = re.compile(rb"Linux version \d|Booting Linux on")


def log_of(tree: Tree) -> list[str]:
    """The lines of the kernel's log: the first of those that are there, but one that has lost its beginning (a ring buffer) for one that has not."""
    found: bytes | None = None
    for path in _LOGS:
        data = tree.data(path, TEXT_LIMIT)
        if data and path in _JOURNALS:
            data = b"\n".join(re.findall(rb"^.* kernel: .*$", data, re.MULTILINE))
        if data and _BEGINNING.search(data):
            found = data
            break
        found = found or data
    return (found or b"").rstrip(b"\0").decode(errors="backslashreplace").strip().splitlines()


def assemble(tree: Tree, scope: Scope = Scope.WHOLE, **known: object) -> Facts:
    """Facts of what every source reads from /sys, completed by what only the caller knows: functions and groups at least."""
    parts: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "tool": __version__,
        "identity": platform.read_identity(tree),
        "kernel": platform.read_kernel(tree),
        "iommus": platform.read_iommus(tree),
        "nodes": platform.read_nodes(tree) if scope is Scope.WHOLE else (),
        "acpi": platform.read_acpi(tree),
        "device_tree": platform.has_device_tree(tree),
        **known,
    }
    if parts["device_tree"]:
        parts["device_tree_nodes"] = devicetree.read_nodes(tree, parts["functions"], parts["iommus"])  # type: ignore[arg-type]
    if "IORT" not in parts["acpi"] and (moment := parts.get("moment")) is not None:  # type: ignore[operator]
        parts["moment"] = msgspec.structs.replace(moment, its=behind_its(tree))  # type: ignore[type-var]
    missing = covered(tree) if tree.live else dict.fromkeys(_missing(tree, parts), "not in this tree")
    tree.unread |= {place.value: why for place, why in missing.items() if place.value not in tree.unread and not _read_of(parts, place)}
    parts["unread"] = dict(sorted(tree.unread.items()))
    return Facts(**parts)  # type: ignore[arg-type]


_PARTS = {Place.FUNCTIONS: "functions", Place.IOMMUS: "iommus", Place.GROUPS: "groups", Place.DEVICE_TREE: "device_tree_nodes"}


def _read_of(parts: Mapping[str, object], place: Place) -> object:
    """What was read of a place: where there is any of it, it was read."""
    tables = parts.get("acpi")
    return place.name in tables if place is Place.IORT and isinstance(tables, dict) else parts.get(_PARTS.get(place, ""))


def _missing(tree: Tree, parts: Mapping[str, object]) -> Iterator[Place]:
    """Places that a copy of a host does not have: on the host itself their absence would be an answer, in a copy it is none."""
    for place in (Place.FUNCTIONS, Place.IOMMUS, Place.GROUPS):
        if not parts.get(_PARTS[place]) and not _there(tree, place.value[1:]):
            yield place
    if not parts.get("log") and not parts.get("log_complete"):
        yield Place.LOG
    tables = parts.get("acpi")
    # Every host of ACPI has a FADT, called FACP: where it was not copied, or was removed as a binary file, neither was IORT.
    if isinstance(tables, dict) and "IORT" not in tables and not parts.get("device_tree") and "FACP" not in tree.names("sys/firmware/acpi/tables"):
        yield Place.IORT


def _there(tree: Tree, directory: str) -> bool:
    """Whether a directory was copied: every host has devices, so where none came along, an empty directory was left empty by whoever copied."""
    above, _, name = directory.rpartition("/")
    return name in tree.names(above) and bool(tree.names("sys/devices"))


def unique(used: list[InUse]) -> tuple[InUse, ...]:
    """Without repeats, in a stable order."""
    return tuple(sorted(set(used), key=lambda use: (use.address, use.kind, use.detail, use.owner or "")))


def free_hugepages(tree: Tree) -> dict[str, dict[str, int]]:
    """Node -> page size in KiB -> free pages."""
    base = "sys/devices/system/node"
    return {
        name[4:]: pools
        for name in tree.names(base)
        if re.fullmatch(r"node\d+", name) and (pools := platform.hugepages(tree, f"{base}/{name}/hugepages", "free_hugepages"))
    }


def _kib(meminfo: str, name: str) -> int | None:
    match = re.search(rf"^{name}:\s+(\d{{1,15}}) kB", meminfo, re.MULTILINE)
    return int(match[1]) << 10 if match else None


def _cpus(tree: Tree) -> int | None:
    online = tree.text("sys/devices/system/cpu/online")
    if online:
        return len(platform.expand(online)) or None
    count = len(re.findall(r"^processor\s*:", tree.text("proc/cpuinfo") or "", re.MULTILINE))
    return count or None


def cpu_model(tree: Tree) -> str | None:
    """The model as /proc/cpuinfo names it; an Arm CPU by implementer and part ("0x41 0xd4f")."""
    text = tree.text("proc/cpuinfo") or ""
    if match := re.search(r"^model name\s*: (.{1,200})$", text, re.MULTILINE):
        return match[1]
    parts = [re.search(rf"^CPU {word}\s*: (0x[0-9a-f]{{1,4}})$", text, re.MULTILINE) for word in ("implementer", "part")]
    return " ".join(part[1] for part in parts if part) or None


def _in_proc_misc(tree: Tree, name: str) -> bool | None:
    # /proc/misc lists the misc devices; /dev itself is in no recording.
    text = tree.text("proc/misc")
    return None if text is None else any(line.split()[1:] == [name] or line.split()[1:] == [f"{name}/{name}"] for line in text.splitlines())


class _Recorded(msgspec.Struct):
    """One entry of a recorded hw_info.json (the format is in docs/snapshot.md)."""

    bdf: AddressText
    error: str | None = None
    out_data_type: Count | None = None
    raw_data: Hex | None = None
    out_capabilities: Count | None = None
    max_pasid_log2: Count | None = None
    nest_parent: str | None = None
    viommu_ARM_SMMUV3: str | None = None
    viommu_TEGRA241_CMDQV: str | None = None
    members: dict[str, object] = {}


def _hw_info(tree: Tree) -> tuple[HwInfo, ...]:
    try:
        recorded = msgspec.json.decode(tree.data("hw_info.json", 64 << 20) or b"[]", type=list[_Recorded])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{visible(tree.name)}/hw_info.json can't be read ({visible(str(error))}).", "Record it again, or remove the file."
        ) from error
    if any(entry.raw_data and len(entry.raw_data) % 2 for entry in recorded):
        raise InputError(f"{visible(tree.name)}/hw_info.json holds half a byte.", "Record it again, or remove the file.")
    return tuple(
        HwInfo(
            address=entry.bdf,
            error=_errno(entry.error),
            data_type=entry.out_data_type,
            data=entry.raw_data,
            capabilities=entry.out_capabilities,
            max_pasid_log2=entry.max_pasid_log2,
            nest_parent=_errno(entry.nest_parent),
            viommu=_errno(entry.viommu_ARM_SMMUV3),
            viommu_cmdqv=_errno(entry.viommu_TEGRA241_CMDQV),
            members=tuple(sorted(entry.members)),
        )
        for entry in recorded
    )


def _errno(text: str | None) -> str | None:
    # "ENOTSUP (Operation not supported)" -> its kernel name; ENOTSUP and EOPNOTSUPP are one number on Linux.
    return None if text is None else text.split(" ", 1)[0].replace("ENOTSUP", "EOPNOTSUPP")
