"""What the way from a function to its root complex does to its DMA: ACS on the path, and aliases behind bridges.

Without the kernel's per-device quirks: those change neither rule for the bridges and root ports that follow the
specification, and IOMMU groups, which the kernel formed with its quirks, are read from sysfs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from wizard.arch.pci import USER_READABLE, ExtCap
from wizard.base.address import Address
from wizard.base.alike import Alike
from wizard.base.once import once
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

    @once
    def express(self) -> caps.Express | None:
        """Its PCI Express capability; a bridge is asked once for every function below it."""
        return caps.express(self.config)

    @once
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
    apart = node.address.function > 0 and not node.virtual  # a function above 0 of a device has neighbours in it
    space = node.config
    return AcsStep(node.address, *(_asked(space, apart) if space.known else _ASKED.ask(space.data, space.length, apart)))


class _Asked(NamedTuple):
    """``AcsStep`` without its address."""

    type_name: str
    applies: bool
    capable: frozenset[str] | None
    enabled: frozenset[str] | None
    missing: frozenset[str] | None


def _asked(space: ConfigSpace, apart: bool) -> _Asked:
    kind = caps.kind(space)
    if kind is None:
        # A conventional function has no ACS: nothing keeps it from its peers.
        missing = ISOLATION if space.is_express is False else None
        return _Asked("conventional PCI" if missing else "unknown", True, frozenset() if missing else None, None, missing)
    if kind.type in (0x7, 0x8, 0xA):
        # Bridges to and from conventional PCI, and event collectors, never have ACS (PCIe 6.12.1): the kernel takes them for not isolated.
        return _Asked(kind.type_name, True, frozenset(), frozenset(), ISOLATION)
    found = extcaps.acs(space)
    capable, enabled = (found.capable, found.enabled) if found else (None, None)
    several = True if apart and not space.of_vf else space.multifunction
    # Upstream ports and endpoints are asked only where they have neighbours in their own device.
    downstream, asked_among_several = kind.type in caps.DOWNSTREAM, kind.type in caps.ENDPOINTS or kind.type == 0x5
    if not downstream and not (asked_among_several and several is not False):
        return _Asked(kind.type_name, False, capable, enabled, frozenset())
    if found is None:
        absent = space.presence(ExtCap.ACS) is Presence.ABSENT and (downstream or several is True)
        return _Asked(kind.type_name, True, frozenset() if absent else None, None, ISOLATION if absent else None)
    # What the capability register lacks is either not needed here or hard-wired on (pci_acs_flags_enabled()).
    missing = (ISOLATION & found.capable) - found.enabled
    if missing and not downstream and several is None:
        return _Asked(kind.type_name, True, capable, enabled, None)  # whether it is asked was not read
    return _Asked(kind.type_name, True, capable, enabled, missing)


_ASKED: Alike[_Asked] = Alike(lambda data, length, apart: _asked(ConfigSpace(data, length), apart))


def dma_aliases(nodes: Mapping[Address, PciNode], address: Address) -> tuple[DmaAlias, ...]:
    """Requester IDs that the function's DMA may carry at the root complex, its own first: pci_for_each_dma_alias().

    A PCI Express to PCI bridge takes ownership of what comes from below, under its secondary bus and devfn 0; a conventional or a
    PCI to PCI Express bridge may do so under its own requester ID. One that appears twice is given once. ``KeyError`` for an
    unknown function.
    """
    found = {address.rid: DmaAlias(address.rid, nodes[address].address)}
    for node in ancestors(nodes, address):
        if (rid := _alias_of(node)) is not None:
            found.setdefault(rid, DmaAlias(rid, node.address))
    return tuple(found.values())


def _alias_of(bridge: PciNode) -> int | None:
    """The requester ID that a bridge puts on what comes from below it; None where it puts none."""
    express = bridge.express
    if express is None or express.type == 0x8:
        return bridge.address.rid if bridge.config.is_express is not None else None
    if express.is_pci_bridge:
        described = bars.bridge(bridge.config)
        return described.secondary << 8 if described else None
    return None


def aliases_known(nodes: Mapping[Address, PciNode], address: Address) -> bool:
    """Whether every bridge above could be read, so that ``dma_aliases`` is the whole answer."""
    above = ancestors(nodes, address)
    last = above[-1] if above else nodes[address]
    complete = last.placed and last.parent is None
    return complete and all(node.config.is_express is not None for node in above)


class _Above(NamedTuple):
    """What all functions below one bridge have above them."""

    lacking: frozenset[str]  # of ISOLATION, what some bridge lacks
    unread: bool  # a step could not be read, or is not in what was recorded
    by_user: bool  # some bridge was read by an ordinary user
    rids: tuple[int, ...]  # requester IDs that bridges put in place of a function's own, each once
    aliases_known: bool


class Paths:
    """The ways of all functions of one host, each worked out once for all that are below the same bridge.

    The answers are those of ``acs_path``, ``dma_aliases`` and ``aliases_known``.
    """

    def __init__(self, nodes: Mapping[Address, PciNode]) -> None:
        self.nodes = nodes
        self._above: dict[tuple[Address | None, bool], _Above] = {}
        self._of: dict[Address, _Above] = {}  # asked several times of each function

    def missing(self, address: Address) -> frozenset[str] | None:
        """``AcsPath.missing`` of a function's path."""
        own, above = self.nodes[address].acs.missing, self._find(address)
        if own is None or above.unread:
            return (above.lacking | (own or frozenset())) or None
        return own if not above.lacking else above.lacking | own

    def by_user(self, address: Address) -> bool:
        """Whether some step of the path, the function itself among them, was read by an ordinary user."""
        return self.nodes[address].config.length == USER_READABLE or self._find(address).by_user

    def rids(self, address: Address) -> tuple[int, ...]:
        """Requester IDs that a function's DMA may carry, its own first."""
        above = self._find(address).rids
        own = address.rid
        return (own, *(rid for rid in above if rid != own)) if above else (own,)

    def aliases_known(self, address: Address) -> bool:
        """Whether every bridge above could be read."""
        return self._find(address).aliases_known

    def _find(self, address: Address) -> _Above:
        found = self._of.get(address)
        if found is None:
            node = self.nodes[address]
            # Where no bridge above is known, whether the function was placed at all makes the difference.
            key = node.parent, node.placed
            found = self._above.get(key)
            if found is None:
                found = self._above[key] = self._look(node)
            self._of[address] = found
        return found

    def _look(self, node: PciNode) -> _Above:
        bridges = ancestors(self.nodes, node.address)
        last = bridges[-1] if bridges else node
        steps = [bridge.acs.missing for bridge in bridges]
        if not last.placed or (last.parent is not None and last.parent not in self.nodes):
            steps.append(None)
        return _Above(
            lacking=frozenset().union(*(step or () for step in steps)),
            unread=None in steps,
            by_user=any(bridge.config.length == USER_READABLE for bridge in bridges),
            rids=tuple(dict.fromkeys(rid for bridge in bridges if (rid := _alias_of(bridge)) is not None)),
            aliases_known=aliases_known(self.nodes, node.address),
        )
