"""The guest's PCI tree beside the host's, with lines between what belongs together. No Textual here.

Every vSMMU has a letter and a colour, every function behind it the letter with a number; both ends carry it, so that neither
colour nor line is needed to see what belongs together.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.cells import cell_len

from wizard.base.glyphs import Glyphs
from wizard.base.text import size, visible
from wizard.picture.lanes import Lanes
from wizard.picture.letters import colour, letter
from wizard.plan.model import ROOT_BUS, DevicePlan, PortPlan, VmPlan
from wizard.tui.lines import Line, Span, cut
from wizard.tui.rows import Index, tree_rows


@dataclass
class Node:
    """A row of one of the trees."""

    text: str
    role: str = ""
    key: str | None = None
    tag: str = ""  # what it is joined by; of an SMMU that several vSMMUs stand for, theirs with commas between
    color: str = ""
    children: list[Node] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A node with its guides."""

    guides: str
    node: Node


def tags(vm: VmPlan) -> dict[str, tuple[str, str]]:
    """VSMMU id or function address -> (tag, role). Functions without a vSMMU are numbered with a dot."""
    found: dict[str, tuple[str, str]] = {}
    for place, vsmmu in enumerate(vm.vsmmus):
        found[vsmmu.id] = (letter(place), colour(place))
        for number, device in enumerate(vm.devices_of(vsmmu), 1):
            found[device.host] = (f"{letter(place)}{number}", colour(place))
    for number, device in enumerate((one for one in vm.devices if one.host not in found), 1):
        found[device.host] = (f".{number}", "dim")
    return found


DEEP = 8
"""Bridges below each other that are drawn: a ring, which a profile can be made to have, ends there."""


def guest_tree(vm: VmPlan) -> Node:
    """The guest's tree: root bus, its devices, each pxb with its vSMMU, ports and functions."""
    named = tags(vm)
    root = Node(f"{vm.name}  {vm.mode}  {size(vm.memory.size)}  {vm.cpus} CPUs", "head", "vm")
    zero = Node(f"{ROOT_BUS}  bus 0", "bold")
    if vm.virtio_iommu:
        zero.children.append(Node(f"{vm.virtio_iommu.slot:02x}.0 virtio-iommu {vm.virtio_iommu.granule}", "accent"))
    zero.children += [Node(f"{disk.slot:02x}.0 {disk.id}: {disk.path}") for disk in vm.disks]
    zero.children += [Node(f"{one.slot:02x}.0 {one.id}: {one.kind}") for one in vm.networks]
    zero.children += [_port(port, vm, named) for port in vm.ports if port.bus == ROOT_BUS]
    zero.children += _others(ROOT_BUS, vm, named)
    root.children.append(zero)
    for bus in vm.buses:
        node = Node(f"{bus.id}  bus {bus.bus_nr}" + (f"  node {bus.numa_node}" if bus.numa_node is not None else ""), "bold")
        for vsmmu in vm.vsmmus:
            if vsmmu.bus == bus.id:
                tag, role = named[vsmmu.id]
                node.children.append(Node(f"vSMMU {vsmmu.id} {' accel' if vsmmu.accel else ''}".rstrip(), role, f"vsmmu/{vsmmu.id}", tag, role))
        node.children += [_port(port, vm, named) for port in vm.ports if port.bus == bus.id]
        node.children += _others(bus.id, vm, named)
        root.children.append(node)
    for other in vm.others:
        if other.kind == "expander":
            root.children.append(Node(f"{other.id}  bus {other.secondary}", "bold", children=_others(other.id, vm, named)))
    return root


def _others(bus: str, vm: VmPlan, named: dict[str, tuple[str, str]], depth: int = 0) -> list[Node]:
    """What else is on a bus of a VM that was imported, and the functions on it."""
    found = [_device(device, named) for device in vm.devices if device.port == bus]
    for other in vm.others if depth < DEEP else ():
        if other.bus != bus or other.kind == "expander":
            continue
        what = f"  bus {other.secondary}" if other.bridge else f" {other.driver or ''}"
        found.append(Node(f"{other.slot:02x}.{other.function} {other.id}{what}", "dim", children=_others(other.id, vm, named, depth + 1)))
    return found


def _port(port: PortPlan, vm: VmPlan, named: dict[str, tuple[str, str]]) -> Node:
    node = Node(f"{port.id}  bus {port.secondary}" + ("  free, for hot-plug" if port.hotplug else ""), "dim")
    node.children = [_device(device, named) for device in vm.devices if device.port == port.id]
    return node


def _device(device: DevicePlan, named: dict[str, tuple[str, str]]) -> Node:
    tag, role = named[device.host]
    vsid = f" vSID {device.vsid:#x}" if device.vsid is not None else ""
    return Node(f"{str(device.guest).removeprefix('0000:')}{vsid} {device.id}", "", f"function/{device.host}", tag, role)


def _rows(node: Node, glyphs: Glyphs, guides: str = "", own: str = "") -> list[Row]:
    found = [Row(own, node)]
    for place, child in enumerate(node.children):
        last = place == len(node.children) - 1
        found += _rows(
            child, glyphs, guides + ("  " if last else f"{glyphs.pipe} "), guides + (glyphs.last if last else glyphs.branch) + glyphs.across
        )
    return found


def host_rows(index: Index, vm: VmPlan, glyphs: Glyphs) -> list[Row]:
    """The part of the host's tree that the VM's functions are in."""
    named = tags(vm)
    smmus: dict[str, tuple[str, str]] = {}
    for vsmmu in vm.vsmmus:
        if vsmmu.smmu:
            before, role = smmus.get(vsmmu.smmu, ("", named[vsmmu.id][1]))
            smmus[vsmmu.smmu] = (f"{before},{named[vsmmu.id][0]}".lstrip(","), role)
    found = []
    for row in tree_rows(index, glyphs, {device.host for device in vm.devices if device.host in index.host.functions}):
        if row.kind == "segment":
            continue
        function = index.host.functions.get(row.key)
        guides = row.guides[2:] if row.kind != "smmu" else ""
        if function is None:
            tag, role = smmus.get(row.key, ("", ""))
            found.append(Row(guides, Node(row.key, role or "bold", None, tag, role)))
        elif function.is_bridge:
            found.append(Row(guides, Node(f"{row.key} bridge", "dim")))
        else:
            tag, role = named[row.key]
            found.append(Row(guides, Node(f"{row.key} {function.facts.device_name or function.name}", "", f"function/{row.key}", tag, role)))
    missing = [device for device in vm.devices if device.host not in index.host.functions]
    for device in missing:
        tag, role = named[device.host]
        found.append(
            Row(
                "", Node(f"{device.host} {'a VF to be made' if device.to_make else 'not on this host'}", "warn", f"function/{device.host}", tag, role)
            )
        )
    return found


def draw(index: Index, vm: VmPlan, width: int, glyphs: Glyphs) -> list[Line]:
    """Guest at the left, host at the right, lines between. Narrow terminals get the two below each other, with the tags alone."""
    left, right = _rows(guest_tree(vm), glyphs), host_rows(index, vm, glyphs)
    pairs = [(y, other) for y, row in enumerate(left) if row.node.tag for other, far in enumerate(right) if row.node.tag in far.node.tag.split(",")]
    if width < 72:
        return [*(_one(row, width, False, glyphs) for row in left), Line((("Host", "head"),)), *(_one(row, width, True, glyphs) for row in right)]
    lanes = max(1, min(len(pairs), (width - 60) // 3, 12))
    middle = lanes * 2 + 3
    # What the guest's side does not need goes to the host's, where the long names are.
    wide = min(max(_need(row) for row in left), (width - middle) // 2 + 4)
    most = max((len(_tag(row)) + 1 for row in right), default=0)
    height = max(len(left), len(right))
    between = Lanes(middle, height)
    for number, (y, other) in enumerate(pairs):
        between.join(y, other, 1 + 2 * (number % lanes), left[y].node.color)
    lines = []
    for y in range(height):
        spans: list[Span] = []
        key = None
        if y < len(left):
            spans += _spans(left[y], wide, glyphs, tag_last=True)
            key = left[y].node.key
        else:
            spans.append((" " * wide, ""))
        spans += [(piece.text, piece.role) for piece in between.row(y, glyphs)]
        if y < len(right):
            spans += _spans(right[y], width - wide - middle, glyphs, tag_last=False, tag_width=most)
            key = key or right[y].node.key
        lines.append(Line(tuple(spans), key))
    return lines


def _need(row: Row) -> int:
    return cell_len(row.guides) + cell_len(visible(row.node.text)) + (len(row.node.tag) + 3 if row.node.tag else 1)


def _tag(row: Row) -> str:
    names = row.node.tag.split(",")
    return f"[{','.join(names[:3])}{'+' if len(names) > 3 else ''}]" if row.node.tag else ""


def _spans(row: Row, width: int, glyphs: Glyphs, *, tag_last: bool, tag_width: int = 0) -> list[Span]:
    tag = _tag(row)
    text = visible(row.node.text)
    room = max(1, width - cell_len(row.guides) - max(tag_width, len(tag) + (1 if tag else 0)))
    if tag_last:
        return [(row.guides, "dim"), (cut(text, room, glyphs.more), row.node.role), (f" {tag}" if tag else "", row.node.color)]
    lead = [(f"{tag:{max(0, tag_width - 1)}} " if tag or tag_width else "", row.node.color)]
    return [*lead, (row.guides, "dim"), (cut(text, room, glyphs.more), row.node.role)]


def _one(row: Row, width: int, host: bool, glyphs: Glyphs) -> Line:
    return Line(tuple(_spans(row, width, glyphs, tag_last=not host)), row.node.key)
