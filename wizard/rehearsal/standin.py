"""A plan's command line with stand-ins, so that any machine's QEMU can take it: no KVM, no VFIO, none of the plan's files.

QEMU refuses accel without KVM, and an emulated endpoint behind accel: so accel and its properties are dropped, and each assigned
function is an emulated one in the same place. What was replaced is said; what remains is the plan's own: ids, buses, slots,
bus numbers, chassis, NUMA nodes, windows, reserves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from wizard.export.command import Option, Value, device, keyed, object_
from wizard.export.qemu import options
from wizard.plan.model import DevicePlan, VmPlan

_MACHINE_KEPT = ("type", "gic-version", "its", "acpi", "highmem-mmio-size")
_BIG = 64 << 20  # a region from this size on stands in as a real BAR of a pci-testdev, to fill the windows as the function would


@dataclass(frozen=True)
class StandIns:
    """The options with stand-ins, and what was replaced, for the report."""

    options: tuple[Option, ...]
    notes: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The words of the command line, without the program."""
        return [word for option in self.options for word in option.words()]

    def json_words(self) -> list[str]:
        """The same with JSON values."""
        return [word for option in self.options for word in option.words(as_json=True)]


Properties = tuple[tuple[str, Value], ...]


def stand_ins(
    vm: VmPlan,
    *,
    firmware: tuple[Path, Path] | None = None,
    vsmmus: bool = True,
    engine: tuple[str, Properties] | None = None,
    machine: str | None = None,
) -> StandIns:
    """The plan's command line for a machine without KVM and without the functions.

    ``firmware`` is UEFI's code and a file of variables that may be written to (a copy); without it there is none. ``vsmmus`` False
    leaves out the vSMMUs, for a QEMU where they can't be plugged. ``engine``, a model and its properties, takes the place of every
    function, and no processor runs (qtest). ``machine`` takes the place of the plan's machine type, for a QEMU that does not have it.
    """
    found: list[Option] = []
    notes: dict[str, None] = {}
    for option in options(vm):
        if engine is not None and option.flag in ("-accel", "-cpu"):
            found.append(Option(option.flag, text="qtest" if option.flag == "-accel" else "max"))
            continue
        if engine is not None and option.get("driver") == "vfio-pci":
            found.append(device(engine[0], *_place(option), *engine[1]))
            continue
        if not vsmmus and option.get("driver") == "arm-smmuv3":
            continue
        if machine is not None and option.flag == "-machine":
            notes[f"machine {option.get('type')}: this QEMU has none, {machine} is taken"] = None
            option = option.with_values(type=machine)
        for kept, note in _replace(vm, option, firmware):
            if kept is not None:
                found.append(kept)
            if note:
                notes[note] = None
    return StandIns(tuple(found), tuple(notes))


Replaced = tuple[Option | None, str]


def _replace(vm: VmPlan, option: Option, firmware: tuple[Path, Path] | None) -> Iterator[Replaced]:
    kind = option.get("driver") if option.flag == "-device" else option.get("qom-type") if option.flag == "-object" else option.flag
    match kind:
        case "-accel":
            yield Option("-accel", text="tcg"), "KVM: emulated (tcg)"
        case "-cpu":
            yield Option("-cpu", text="max,pauth-impdef=on"), ""
        case "-machine":
            yield from _machine(vm, option, firmware)
        case "-qmp":
            yield None, "the QMP socket of the plan: left out"
        case "-netdev":
            number = str(option.get("id")).removeprefix("netdev")
            yield keyed("-netdev", ("type", "hubport"), ("id", option.get("id")), ("hubid", int(number))), "networks: connected to nothing"
        case "-blockdev":
            yield from _block(option, firmware)
        case "iommufd":
            yield None, "iommufd: left out"
        case "arm-smmuv3":
            kept = tuple(item for item in option.values if item[0] in ("driver", "id", "primary-bus"))
            yield Option("-device", kept), "arm-smmuv3: without accel and its properties (QEMU refuses them without KVM)"
        case "vfio-pci":
            yield _function(vm, option), "assigned functions: emulated endpoints in their places"
        case "memory-backend-ram" | "memory-backend-memfd":
            size = option.get("size")
            note = "guest memory: ordinary pages, on no host node in particular"
            yield object_("memory-backend-ram", ("id", option.get("id")), ("size", size), ("reserve", False)), note
        case _:
            yield option, ""


def _machine(vm: VmPlan, option: Option, firmware: tuple[Path, Path] | None) -> Iterator[Replaced]:
    kept = tuple(item for item in option.values if item[0] in _MACHINE_KEPT)
    if not vm.memory.nodes:
        # Memory that is never touched: a rehearsal of a large VM must fit a small machine.
        kept = (*kept, ("memory-backend", "mem0"))
        if not vm.memory.hugepages:
            yield object_("memory-backend-ram", ("id", "mem0"), ("size", vm.memory.size), ("reserve", False)), ""
    if firmware:
        kept = (*kept, ("pflash0", "pflash0"), ("pflash1", "pflash1"))
        # UEFI wants both here; a plan may have no variables of its own (-bios), or no firmware at all.
        there = (vm.firmware is not None, vm.firmware is not None and vm.firmware.vars is not None)
        for node, path, has in zip(("pflash0", "pflash1"), firmware, there, strict=True):
            if not has:
                yield (
                    keyed(
                        "-blockdev", ("driver", "file"), ("node-name", f"{node}-storage"), ("filename", str(path)), ("read-only", node == "pflash0")
                    ),
                    "",
                )
                yield keyed("-blockdev", ("driver", "raw"), ("node-name", node), ("file", f"{node}-storage"), ("read-only", node == "pflash0")), ""
    yield Option("-machine", kept), ""


def _block(option: Option, firmware: tuple[Path, Path] | None) -> Iterator[Replaced]:
    node = str(option.get("node-name"))
    if node.startswith("pflash"):
        if firmware is None:
            yield None, "firmware: none"
        elif node.endswith("-storage"):
            path = firmware[0] if node.startswith("pflash0") else firmware[1]
            yield option.with_values(filename=str(path)), "firmware: this machine's own, with a copy of its variables"
        else:
            yield option, ""
    elif node.endswith("-storage"):
        yield None, ""
    else:
        yield (
            keyed("-blockdev", ("driver", "null-co"), ("node-name", node), ("size", 1 << 26), ("read-only", option.get("read-only"))),
            ("disks: empty ones"),
        )


def stands_for_bars(assigned: DevicePlan) -> bool:
    """Whether the stand-in has a BAR as large as the function's largest."""
    return max(assigned.bars, default=0) >= _BIG


def _function(vm: VmPlan, option: Option) -> Option:
    assigned = next(one for one in vm.devices if one.id == option.get("id"))
    largest = max(assigned.bars, default=0)
    if stands_for_bars(assigned):
        return device("pci-testdev", *_place(option), ("membar", 1 << (largest - 1).bit_length()))
    return device("virtio-net-pci", *_place(option), ("romfile", ""))


def _place(option: Option) -> tuple[tuple[str, Value | None], ...]:
    return tuple((name, option.get(name)) for name in ("id", "bus", "addr", "multifunction"))
