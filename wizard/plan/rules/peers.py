"""Peer to peer between the functions of a VM (sources: problem-20): who reaches whom past the SMMU, and where it silently will not work."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from wizard.base.finding import Area, Finding
from wizard.base.text import plural
from wizard.host.between import Way, above, between, wanted
from wizard.host.model import Function
from wizard.plan.codes import INFO, WARNING, plan_code
from wizard.plan.peers import Pair, Reach, bars_mapped, pair_line, pairs_of
from wizard.plan.request import Mode
from wizard.plan.rules.base import Scene, Together, rule, shared

GROUP_PEERS = plan_code(
    "peers-in-one-group", WARNING, area=Area.HARDWARE,
    what="VM {subject}: the functions of IOMMU group {group} ({functions}) may reach each other without their SMMU.",
    why="The path between them lacks ACS: an address that equals a peer's BAR goes to the peer, and no stage translates it.",
    fix="Nothing to do inside one VM that trusts all of them; otherwise use slots whose path has ACS.",
)  # fmt: skip
NO_P2P = plan_code(
    "peer-to-peer-unmapped", INFO, area=Area.KCONFIG,
    what="VM {subject}: its functions can't send data to each other directly{those}.",
    why="Their BARs are mapped for DMA by VFIO's dma-buf, and {because} ('VFIO dma-buf not supported in kernel … P2P DMA will not work'). "
    "Programs then copy through memory, or fail, without a word of this.",
    fix="Use Linux 6.19 or newer with CONFIG_VFIO_PCI_DMABUF and QEMU 11.1 if the guest's programs ask for it (GPUDirect, NVMe CMB).",
)  # fmt: skip
PARTLY = plan_code(
    "peer-to-peer-partly", WARNING, area=Area.DRIVERS,
    what="VM {subject}: {pair}.",
    why="{because} The guest sees nothing of it: DMA to such a BAR ends with a fault of stage 2 in the host's log.",
    fix="Where the other driver is not needed, write driver = \"vfio-pci\" for that function; a host with 4K pages maps smaller BARs too.",
)  # fmt: skip
P2P = plan_code(
    "peer-to-peer", INFO, area=Area.HARDWARE,
    what="VM {subject}: peer to peer of {pair}.",
    why="{reason} {cost} {ats}{beside}",
    fix="Measure it in the guest before you rely on it. {guest}",
)  # fmt: skip
IN_TWO_VMS = plan_code(
    "peers-in-two-vms", WARNING, area=Area.HARDWARE,
    what="{subject} of VM {one} and {second} of VM {other} can reach each other past the SMMU: {way}, and no ACS between them ({ports}).",
    why="A request that carries the other's address on the host goes straight to it. The kernel's groups {group} and {second_group} hide that: it "
    "puts each function together with the port above it, and asks nothing of the ports among themselves (pci_device_group() of Linux 7.2).",
    fix="Give both to one VM, or move one of them to a slot whose path has ACS.",
)  # fmt: skip
_GUEST = (
    "Linux's own code for it (p2pdma: NVMe CMB, dma-bufs between drivers) refuses two functions below different root ports of QEMU ('Host bridge not "
    "in P2PDMA whitelist' in the guest's log); only drivers that do without it use this way."
)
_STOPPED = (Reach.ONE_WAY, Reach.CANNOT)
_SHOWN = 6  # pairs of one VM that are told; a VM with eight GPUs has 28


@rule
def groups(scene: Scene) -> Iterator[Finding]:
    """The kernel's group says what the path isolates."""
    found: dict[int, list[str]] = {}
    for device in scene.vm.devices:
        if device.group is not None:
            found.setdefault(device.group, []).append(device.host)
    for group, functions in found.items():
        if len(functions) > 1:
            yield GROUP_PEERS.at(scene.name, group=group, functions=", ".join(functions))


@rule
def peers(scene: Scene) -> Iterator[Finding]:
    """Where nothing can be mapped, once; else the pairs that programs are likely to want, and those that work one way at most."""
    if len(scene.vm.devices) < 2:
        return
    functions = scene.host.functions
    there = [functions[device.host] for device in scene.vm.devices if device.host in functions]
    kinds: dict[int, list[Function]] = {}
    for one in there:
        kinds.setdefault(one.class_code, []).append(one)
    asked = any(wanted(one, other) for one, other in combinations([one for same in kinds.values() for one in same[:2]], 2))  # by class alone
    mapped = bars_mapped(scene.host, scene.vm)
    if mapped.value is False and any(device.iommufd for device in scene.vm.devices):
        severity = WARNING if asked else INFO
        yield NO_P2P.at(scene.name, severity=severity, those=", a GPU or accelerator among them" if asked else "", because=mapped.note)
    elif asked and scene.vm.mode is not Mode.VIRTIO_IOMMU:
        pairs = [pair for pair in pairs_of(scene.host, scene.vm) if wanted(functions[pair.first], functions[pair.second])]
        order = list(Way)
        pairs.sort(key=lambda pair: (pair.reach not in _STOPPED, order.index(pair.way)))  # first what does not work, then the nearest
        for place, pair in enumerate(pairs[:_SHOWN], 1):
            left = len(pairs) - _SHOWN if place == _SHOWN else 0
            yield _told(scene, pair, f" (and {plural(left, 'more pair')}: plan --json)" if left > 0 else "")


@shared
def divided(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """Two VMs below one switch without ACS, each function with its own port in a group."""
    functions = together.host.functions
    found = []
    for place, vm in enumerate(together.vms):
        for device in vm.devices:
            up = above(functions, device.host) if device.host in functions else ()
            if up and up[0].group is not None and any(bridge.group == up[0].group for bridge in up[1:]):
                found.append((place, up[0]))
    for (place, one), (other_place, other) in combinations(found, 2):
        if place == other_place or one.group == other.group:
            continue  # the same VM, or told as a group in two VMs
        way = between(functions, str(one), str(other))
        if way.redirected is False:
            names: dict[str, Any] = {"one": together.subject(place), "other": together.subject(other_place)}
            names |= {"second": other, "ports": ", ".join(way.path)}
            for at in (place, other_place):
                yield at, IN_TWO_VMS.at(one, way=way.way, group=one.group, second_group=other.group, **names)


def _told(scene: Scene, pair: Pair, more: str) -> Finding:
    if pair.reach in _STOPPED:
        return PARTLY.at(scene.name, pair=pair_line(pair) + more, because=pair.reason)
    beside = f" {pair.beside}" if pair.beside else ""
    return P2P.at(scene.name, pair=pair_line(pair) + more, reason=pair.reason, cost=pair.cost, ats=pair.ats, beside=beside, guest=_GUEST)
