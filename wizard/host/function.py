"""One PCI function: its capabilities out of configuration space, sysfs and the path above it.

A capability is one short function of a ``Site``; it is asked when somebody looks, since most of a big host is never looked
at. One that returns None does not concern the function and is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from wizard.arch.bits import Record, field
from wizard.arch.pci import USER_READABLE, Cap, ExtCap
from wizard.base.address import Address
from wizard.facts.model import HwInfo, PciFunction
from wizard.host.known import UNKNOWN, Known, Source
from wizard.host.pci import caps, extcaps
from wizard.host.pci import path as way
from wizard.host.pci.config import ConfigSpace, Presence
from wizard.host.pci.path import PciNode


def _unreadable(space: ConfigSpace) -> str:
    """Why configuration space does not say whether a capability is there, and whether root would tell."""
    if space.dead:
        return "its configuration space reads all ones: it does not answer"
    if not space.length:
        return "its configuration space was not recorded"
    if space.known:
        return "what is known of its configuration space does not tell"
    if space.length <= USER_READABLE:
        return f"only {space.length} bytes of configuration space could be read; root would tell"
    if space.notes:
        return f"its configuration space is damaged: {space.notes[0].what}"
    return f"only {space.length} bytes of configuration space were recorded"


class Site(msgspec.Struct, frozen=True):
    """A function where it sits: what its capabilities are read from."""

    facts: PciFunction
    space: ConfigSpace
    physical: ConfigSpace | None  # the PF's, of a VF: PRI and PASID are kept there alone (PCIe 6.0, 10.5.1, 7.8.9)
    nodes: Mapping[Address, PciNode]
    canwbs: Known
    root_complex_ats: Known
    rmr: Callable[[], Known]
    probed: HwInfo | None
    told: Source = Source.CONFIG  # ASSUMED where the configuration space of a snapshot was made up


Ask = Callable[[Site], Known | None]
CAPABILITIES: dict[str, Ask] = {}


def _capability(ask: Ask) -> Ask:
    CAPABILITIES[ask.__name__] = ask
    return ask


class Capabilities(Mapping[str, Known]):
    """The capabilities of one function by name, each worked out when it is first asked for."""

    __slots__ = ("_asked", "_find_site", "_site")

    def __init__(self, find_site: Callable[[], Site]) -> None:
        self._find_site = find_site
        self._site: Site | None = None
        self._asked: dict[str, Known | None] = {}

    def get(self, name: str, default: Known | None = None) -> Known | None:  # type: ignore[override]
        """As of any mapping; the common way in, without an exception for what is not there."""
        if name not in self._asked:
            ask = CAPABILITIES.get(name)
            if self._site is None:
                self._site = self._find_site()
            self._asked[name] = None if ask is None else ask(self._site)
        found = self._asked[name]
        return default if found is None else found

    def __getitem__(self, name: str) -> Known:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def whole(self) -> dict[str, Known]:
        """All that concern the function, each worked out once; what views of a whole host ask."""
        asked = self._asked
        if len(asked) < len(CAPABILITIES):
            if self._site is None:
                self._site = self._find_site()
            for name, ask in CAPABILITIES.items():
                if name not in asked:
                    asked[name] = ask(self._site)
        return {name: found for name in CAPABILITIES if (found := asked[name]) is not None}

    def __iter__(self) -> Iterator[str]:
        return (name for name in CAPABILITIES if self.get(name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def parent_of(facts: PciFunction) -> str | None:
    """The bridge above, by the path below /sys/devices; None below a root bus."""
    above = facts.path.rsplit("/", 2)[-2:-1]
    return above[0] if above and not above[0].startswith("pci") and ":" in above[0] and "." in above[0] else None


def _as_root(site: Site) -> str:
    """That root would tell, where some step of the path was read by an ordinary user."""
    path = (site.nodes[address := Address.parse(site.facts.address)], *way.ancestors(site.nodes, address))
    return "; root would tell" if any(node.config.length == USER_READABLE for node in path) else ""


def _present(site: Site, capability: Cap | ExtCap, *, shared: bool = False) -> Known:
    space = site.physical if shared and site.physical is not None else site.space
    presence = space.presence(capability)
    if shared and site.physical is None and presence is Presence.ABSENT and space.of_vf:
        return Known(None, Source.NONE, "it is a VF, of which only the PF would tell; the PF was not recorded")
    if presence is Presence.UNKNOWN:
        return Known(None, Source.NONE, _unreadable(space))
    return Known(presence is Presence.PRESENT, site.told)


def _number(value: int | None, source: Source) -> Known | None:
    return None if value is None else Known(value, source)


@_capability
def ats(site: Site) -> Known:
    """Address Translation Service."""
    return _present(site, ExtCap.ATS)


@_capability
def pri(site: Site) -> Known:
    """Page Request Interface."""
    return _present(site, ExtCap.PRI, shared=True)


@_capability
def pasid(site: Site) -> Known:
    """Process Address Space ID."""
    return _present(site, ExtCap.PASID, shared=True)


@_capability
def pasid_width(site: Site) -> Known | None:
    """PASID bits that the function can send."""
    found = extcaps.pasid(site.physical or site.space)
    return None if found is None else Known(found.width, site.told)


@_capability
def pasid_usable(site: Site) -> Known | None:
    """PASIDs that function and SMMU can use together, log2 (out_max_pasid_log2)."""
    return None if site.probed is None else _number(site.probed.max_pasid_log2, Source.PROBE)


@_capability
def msix(site: Site) -> Known:
    """MSI-X."""
    return _present(site, Cap.MSIX)


@_capability
def msix_vectors(site: Site) -> Known | None:
    """Vectors of MSI-X."""
    found = caps.msix(site.space)
    return None if found is None else Known(found.vectors, site.told)


@_capability
def sriov(site: Site) -> Known:
    """Single-root I/O virtualisation: the function is a PF."""
    return _present(site, ExtCap.SRIOV)


@_capability
def sriov_total_vfs(site: Site) -> Known | None:
    """VFs that the PF can have."""
    return _number(site.facts.sriov_totalvfs, Source.SYSFS)


@_capability
def sriov_vfs(site: Site) -> Known | None:
    """VFs that the PF has now."""
    return _number(site.facts.sriov_numvfs, Source.SYSFS)


@_capability
def acs(site: Site) -> Known:
    """Access Control Services of the function itself."""
    return _present(site, ExtCap.ACS)


@_capability
def acs_path(site: Site) -> Known:
    """Access Control Services on the whole way to the root complex."""
    missing = way.acs_path(site.nodes, Address.parse(site.facts.address)).missing
    if missing is None:
        return Known(None, Source.NONE, f"configuration space of the path could not be read whole{_as_root(site)}")
    return Known("isolated" if not missing else "lacks " + " ".join(sorted(missing)), site.told)


@_capability
def dma_aliases(site: Site) -> Known:
    """Other requester IDs that the function's DMA may carry."""
    address = Address.parse(site.facts.address)
    if not way.aliases_known(site.nodes, address):
        return Known(None, Source.NONE, f"a bridge above could not be read whole{_as_root(site)}")
    aliases = way.dma_aliases(site.nodes, address)
    return Known(", ".join(f"{alias.rid:#06x}" for alias in aliases[1:]) or "none", site.told)


@_capability
def flr(site: Site) -> Known:
    """Function-level reset."""
    found = caps.flr(site.space)
    return UNKNOWN if found is None else Known(found, site.told)


@_capability
def reset_method(site: Site) -> Known:
    """The resets that the kernel would use, in order."""
    return UNKNOWN if site.facts.reset_method is None else Known(site.facts.reset_method, Source.SYSFS)


@_capability
def resizable_bars(site: Site) -> Known | None:
    """BARs whose size can be changed."""
    found = extcaps.resizable_bars(site.space)
    return Known(", ".join(f"BAR{bar.bar}" for bar in found), site.told) if found else None


@_capability
def vfio_cdev(site: Site) -> Known | None:
    """The function's VFIO character device, there while it is on a vfio driver."""
    return Known(", ".join(f"/dev/vfio/devices/{name}" for name in site.facts.vfio_dev), Source.SYSFS) if site.facts.vfio_dev else None


@_capability
def driver_override(site: Site) -> Known | None:
    """The only driver that may take the function."""
    return Known(site.facts.driver_override, Source.SYSFS) if site.facts.driver_override else None


@_capability
def port_type(site: Site) -> Known | None:
    """What the PCI Express capability calls the function."""
    found = caps.express(site.space)
    return None if found is None else Known(found.type_name, site.told)


@_capability
def canwbs(site: Site) -> Known:
    """The root complex's promise of coherency whatever stage 1 asks for."""
    return site.canwbs


@_capability
def root_complex_ats(site: Site) -> Known:
    """The root complex's ATS attribute."""
    return site.root_complex_ats


@_capability
def rmr(site: Site) -> Known:
    """Memory that the firmware reserves for the function's StreamID (IORT RMR nodes), as ranges with their type."""
    return site.rmr()


CXL_VENDOR = 0x1E98


class CxlCapability(Record, bits=16):
    """DVSEC CXL Capability (CXL 3.1, 8.1.3.1)."""

    CACHE = field(0, doc="CXL.cache")


@_capability
def cxl_cache(site: Site) -> Known:
    """A CXL.cache device: it works only with ATS (pci_cxl_ats_required()). A VF is what its PF is."""
    space = site.physical or site.space
    # Asked of every function of a host: where the vendor's number is nowhere in the whole space, no list need be walked.
    if space.dead:
        return UNKNOWN
    if space.length > 256 and not space.known and CXL_VENDOR.to_bytes(2, "little") not in space.data:
        return Known(False, site.told)
    if space.is_express is False:
        return Known(False, site.told)
    if space.length <= 256:
        return UNKNOWN
    for found in space.extended:
        if found.id == ExtCap.DVSEC and not space.tells(found.offset + 4, found.offset + 0xA):
            return UNKNOWN
        if found.id == ExtCap.DVSEC and space.word(found.offset + 4, 2) == CXL_VENDOR and space.word(found.offset + 8, 2) == 0:
            if not space.tells(found.offset + 0xA, found.offset + 0xC):
                return UNKNOWN
            return Known(bool(CxlCapability(space.word(found.offset + 0xA, 2)).CACHE), site.told)
    return UNKNOWN if space.presence(ExtCap.DVSEC) is Presence.UNKNOWN else Known(False, site.told)
