"""What the way from a function to its root complex does to its DMA: ACS on the path, and aliases behind bridges.

Without the kernel's per-device quirks: those change neither rule for the bridges and root ports that follow the
specification, and IOMMU groups, which the kernel formed with its quirks, are read from sysfs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from wizard.arch.pci import ExtCap
from wizard.base.address import Address
from wizard.host.pci import bars, caps, extcaps
from wizard.host.pci.config import ConfigSpace, Presence

ISOLATION = frozenset({"SV", "RR", "CR", "UF"})
"""What the kernel asks of every step before it calls functions isolated (REQ_ACS_FLAGS, drivers/iommu/iommu.c)."""

_DEPTH = 64  # deeper than any PCI hierarchy (256 buses, two to a switch, in practice below 16): ends a loop of parents


class PciNode(msgspec.Struct, frozen=True, dict=True):
    """A function and its place: ``parent`` is the bridge above it, None on a root bus.

    ``virtual`` marks a VF, whose function number says nothing of being part of a multi-function device. ``placed`` is False where what
    is above was not read: ``parent`` says nothing then.
    """

    address: Address
    parent: Address | None
    config: ConfigSpace
    virtual: bool = False
    placed: bool = True

    @cached_property
    def express(self) -> caps.Express | None:
        """Its PCI Express capability; a bridge is asked once for every function below it."""
        return caps.express(self.config)

    @cached_property
    def acs(self) -> AcsStep:
        """Its step on the way to the root, of which every function below a bridge has the same."""
        return _acs_step(self)


class AcsStep(msgspec.Struct, frozen=True):
    """One function on the way to the root, the asked one first.

    ``applies`` is False where the specification asks nothing (a single-function endpoint, an upstream port): such a step cannot
    fail. ``capable``, ``enabled`` and ``missing`` are letters of ``extcaps.Acs``; all None where they could not be read.
    """

    address: Address
    type_name: str
    applies: bool
    capable: frozenset[str] | None
    enabled: frozenset[str] | None
    missing: frozenset[str] | None


class AcsPath(msgspec.Struct, frozen=True):
    """ACS from a function to its root complex."""

    steps: tuple[AcsStep, ...]

    @property
    def missing(self) -> frozenset[str] | None:
        """Of SV, RR, CR, UF: those that some step lacks. None when nothing is known to lack but a step could not be read."""
        lacking: frozenset[str] = frozenset().union(*(step.missing or () for step in self.steps))
        return None if not lacking and any(step.missing is None for step in self.steps) else lacking

    @property
    def isolated(self) -> bool | None:
        """Every step keeps peers apart; None when a step could not be read."""
        missing = self.missing
        return None if missing is None else not missing


class DmaAlias(msgspec.Struct, frozen=True):
    """A requester ID that a function's DMA may carry, and who puts it there (the function itself or a bridge)."""

    rid: int
    source: Address


def ancestors(nodes: Mapping[Address, PciNode], address: Address) -> tuple[PciNode, ...]:
    """Bridges from the one above ``address`` up to the root bus. Ends early at a parent that is not in ``nodes``."""
    found: list[PciNode] = []
    node = nodes.get(address)
    while node is not None and node.parent is not None and len(found) < _DEPTH:
        node = nodes.get(node.parent)
        if node is not None:
            found.append(node)
    return tuple(found)


def acs_path(nodes: Mapping[Address, PciNode], address: Address) -> AcsPath:
    """ACS of every step from a function to the root bus, as pci_acs_path_enabled() asks it. ``KeyError`` for an unknown function."""
    path = (nodes[address], *ancestors(nodes, address))
    steps = [acs_step(node) for node in path]
    lost = path[-1].parent
    if not path[-1].placed or (lost is not None and lost not in nodes):
        steps.append(AcsStep(lost or address, "unknown", True, None, None, None))  # it is not in what was recorded
    return AcsPath(tuple(steps))


def acs_step(node: PciNode) -> AcsStep:
    """ACS of one function by the rules of pci_acs_enabled()."""
    return node.acs


def _acs_step(node: PciNode) -> AcsStep:
    space = node.config
    express = node.express
    if express is None:
        # A conventional function has no ACS: nothing keeps it from its peers.
        missing = ISOLATION if space.is_express is False else None
        return AcsStep(node.address, "conventional PCI" if missing else "unknown", True, frozenset() if missing else None, None, missing)
    if express.type in (0x7, 0x8, 0xA):
        # Bridges to and from conventional PCI, and event collectors, never have ACS (PCIe 6.12.1): the kernel takes them for not isolated.
        return AcsStep(node.address, express.type_name, True, frozenset(), frozenset(), ISOLATION)
    found = extcaps.acs(space)
    capable, enabled = (found.capable, found.enabled) if found else (None, None)
    several = True if node.address.function > 0 and not node.virtual and not space.of_vf else space.multifunction
    # Upstream ports and endpoints are asked only where they have neighbours in their own device.
    asked_among_several = express.is_endpoint or express.type == 0x5
    if not express.is_downstream and not (asked_among_several and several is not False):
        return AcsStep(node.address, express.type_name, False, capable, enabled, frozenset())
    if found is None:
        absent = space.presence(ExtCap.ACS) is Presence.ABSENT and (express.is_downstream or several is True)
        return AcsStep(node.address, express.type_name, True, frozenset() if absent else None, None, ISOLATION if absent else None)
    # What the capability register lacks is either not needed here or hard-wired on (pci_acs_flags_enabled()).
    missing = (ISOLATION & found.capable) - found.enabled
    if missing and not express.is_downstream and several is None:
        return AcsStep(node.address, express.type_name, True, capable, enabled, None)  # whether it is asked was not read
    return AcsStep(node.address, express.type_name, True, capable, enabled, missing)


def dma_aliases(nodes: Mapping[Address, PciNode], address: Address) -> tuple[DmaAlias, ...]:
    """Requester IDs that the function's DMA may carry at the root complex, its own first: pci_for_each_dma_alias().

    A PCI Express to PCI bridge takes ownership of what comes from below, under its secondary bus and devfn 0; a conventional or a
    PCI to PCI Express bridge may do so under its own requester ID. One that appears twice is given once. ``KeyError`` for an
    unknown function.
    """
    found = {address.rid: DmaAlias(address.rid, nodes[address].address)}
    for node in ancestors(nodes, address):
        express = node.express
        if express is None or express.type == 0x8:
            rid = node.address.rid if node.config.is_express is not None else None
        elif express.is_pci_bridge:
            described = bars.bridge(node.config)
            rid = described.secondary << 8 if described else None
        else:
            rid = None
        if rid is not None:
            found.setdefault(rid, DmaAlias(rid, node.address))
    return tuple(found.values())


def aliases_known(nodes: Mapping[Address, PciNode], address: Address) -> bool:
    """Whether every bridge above could be read, so that ``dma_aliases`` is the whole answer."""
    above = ancestors(nodes, address)
    last = above[-1] if above else nodes[address]
    complete = last.placed and last.parent is None
    return complete and all(node.config.is_express is not None for node in above)
