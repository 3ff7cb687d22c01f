"""One PCI function: its capabilities out of configuration space, sysfs and the path above it.

A capability is one short function of a ``Site``; it is asked when somebody looks, since most of a big host is never looked
at. One that returns None does not concern the function and is not shown.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import msgspec

from wizard.arch.bits import Record, field
from wizard.arch.pci import USER_READABLE, Cap, ExtCap
from wizard.base.address import Address
from wizard.base.alike import Alike
from wizard.facts.model import HwInfo, PciFunction
from wizard.host.known import UNKNOWN, Known, Source
from wizard.host.pci import caps, extcaps
from wizard.host.pci.config import ConfigSpace, Presence
from wizard.host.pci.path import Paths


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
    address: Address
    space: ConfigSpace
    physical: ConfigSpace | None  # the PF's, of a VF: PRI and PASID are kept there alone (PCIe 6.0, 10.5.1, 7.8.9)
    paths: Paths
    canwbs: Known
    root_complex_ats: Known
    rmr: Callable[[], Known]
    probed: HwInfo | None
    told: Source = Source.CONFIG  # ASSUMED where the configuration space of a snapshot was made up

    @property
    def kept(self) -> Kept:
        """Where what a VF shares with its PF is kept."""
        return Kept(self.physical or self.space, self.physical is None)


class Kept(NamedTuple):
    """The configuration space that holds a capability, and whether it is the function's own."""

    space: ConfigSpace
    own: bool


Ask = Callable[[Site], Known | None]
CAPABILITIES: dict[str, Ask] = {}
_ELSEWHERE: dict[str, Ask] = {}  # those that rest on more than configuration space
_OF_SPACE: dict[str, Callable[[ConfigSpace, Source], Known | None]] = {}
_OF_KEPT: dict[str, Callable[[Kept, Source], Known | None]] = {}


def _capability(ask: Ask) -> Ask:
    _ELSEWHERE[ask.__name__] = CAPABILITIES[ask.__name__] = ask
    return ask


def _of_space(ask: Callable[[ConfigSpace, Source], Known | None]) -> Ask:
    """A capability that rests on nothing but the function's own configuration space."""
    _OF_SPACE[ask.__name__] = ask
    CAPABILITIES[ask.__name__] = found = lambda site: ask(site.space, site.told)
    return found


def _of_kept(ask: Callable[[Kept, Source], Known | None]) -> Ask:
    """A capability that rests on nothing but configuration space, of a VF on that of its PF where that was recorded."""
    _OF_KEPT[ask.__name__] = ask
    CAPABILITIES[ask.__name__] = found = lambda site: ask(site.kept, site.told)
    return found


class Capabilities(Mapping[str, Known]):
    """The capabilities of one function by name, each worked out when it is first asked for."""

    __slots__ = ("_asked", "_find_site", "_site", "_whole")

    def __init__(self, find_site: Callable[[], Site]) -> None:
        self._find_site = find_site
        self._site: Site | None = None
        self._asked: dict[str, Known | None] = {}
        self._whole: Mapping[str, Known] | None = None

    def get(self, name: str, default: Known | None = None) -> Known | None:  # type: ignore[override]
        """As of any mapping; the common way in, without an exception for what is not there."""
        if self._whole is not None:
            return self._whole.get(name, default)
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

    def whole(self) -> Mapping[str, Known]:
        """All that concern the function, each worked out once; what views of a whole host ask.

        Functions that are told the same are given one and the same mapping: nobody may change it.
        """
        if self._whole is None:
            self._whole = _whole_of(self._site or self._find_site())
            self._asked.clear()
        return self._whole

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())


class _Bundle(NamedTuple):
    """What configuration space says of several capabilities, and a number that no other bundle of this process has."""

    number: int
    known: dict[str, Known | None]


_numbers = count()
_SPACES: Alike[_Bundle] = Alike(lambda data, length, told: _of_spaces(ConfigSpace(data, length), told))
_KEPT: Alike[_Bundle] = Alike(lambda data, length, own, told: _of_kepts(Kept(ConfigSpace(data, length), own), told))


def _of_spaces(space: ConfigSpace, told: Source) -> _Bundle:
    return _Bundle(next(_numbers), {name: ask(space, told) for name, ask in _OF_SPACE.items()})


def _of_kepts(kept: Kept, told: Source) -> _Bundle:
    return _Bundle(next(_numbers), {name: ask(kept, told) for name, ask in _OF_KEPT.items()})


_WHOLE: dict[tuple[Hashable, ...], Mapping[str, Known]] = {}
_WHOLES = 4096  # then they are forgotten


def _whole_of(site: Site) -> Mapping[str, Known]:
    space, kept, told = site.space, site.kept, site.told
    own = _of_spaces(space, told) if space.known else _SPACES.ask(space.data, space.length, told)
    shared = _of_kepts(kept, told) if kept.space.known else _KEPT.ask(kept.space.data, kept.space.length, kept.own, told)
    # Bundles stand for their contents, so that most functions of a host are told by a look at a few words that they are told the same. Each word
    # is of one type in all functions: 1 and True are one key.
    rest = {name: ask(site) for name, ask in _ELSEWHERE.items()}
    key = (own.number, shared.number, *rest.values())
    found = _WHOLE.get(key)
    if found is None:
        if len(_WHOLE) >= _WHOLES:
            _WHOLE.clear()
        every = own.known | shared.known | rest
        found = _WHOLE[key] = {name: known for name in CAPABILITIES if (known := every[name]) is not None}
    return found


def parent_of(facts: PciFunction) -> str | None:
    """The bridge above, by the path below /sys/devices; None below a root bus."""
    above = facts.path.rsplit("/", 2)[-2:-1]
    return above[0] if above and not above[0].startswith("pci") and ":" in above[0] and "." in above[0] else None


def _present(space: ConfigSpace, told: Source, capability: Cap | ExtCap) -> Known:
    presence = space.presence(capability)
    if presence is Presence.UNKNOWN:
        return Known(None, Source.NONE, _unreadable(space))
    return Known(presence is Presence.PRESENT, told)


def _present_in(kept: Kept, told: Source, capability: ExtCap) -> Known:
    if kept.own and kept.space.presence(capability) is Presence.ABSENT and kept.space.of_vf:
        return Known(None, Source.NONE, "it is a VF, of which only the PF would tell; the PF was not recorded")
    return _present(kept.space, told, capability)


def _number(value: int | None, source: Source) -> Known | None:
    return None if value is None else _known(value, source)


# The same for many functions of a host.
_known = lru_cache(maxsize=4096, typed=True)(Known)


@_of_space
def ats(space: ConfigSpace, told: Source) -> Known:
    """Address Translation Service."""
    return _present(space, told, ExtCap.ATS)


@_of_kept
def pri(kept: Kept, told: Source) -> Known:
    """Page Request Interface."""
    return _present_in(kept, told, ExtCap.PRI)


@_of_kept
def pasid(kept: Kept, told: Source) -> Known:
    """Process Address Space ID."""
    return _present_in(kept, told, ExtCap.PASID)


@_of_kept
def pasid_width(kept: Kept, told: Source) -> Known | None:
    """PASID bits that the function can send."""
    found = extcaps.pasid(kept.space)
    return None if found is None else Known(found.width, told)


@_capability
def pasid_usable(site: Site) -> Known | None:
    """PASIDs that function and SMMU can use together, log2 (out_max_pasid_log2)."""
    return None if site.probed is None else _number(site.probed.max_pasid_log2, Source.PROBE)


@_of_space
def msix(space: ConfigSpace, told: Source) -> Known:
    """MSI-X."""
    return _present(space, told, Cap.MSIX)


@_of_space
def msix_vectors(space: ConfigSpace, told: Source) -> Known | None:
    """Vectors of MSI-X."""
    found = caps.msix(space)
    return None if found is None else Known(found.vectors, told)


@_of_space
def sriov(space: ConfigSpace, told: Source) -> Known:
    """Single-root I/O virtualisation: the function is a PF."""
    return _present(space, told, ExtCap.SRIOV)


@_capability
def sriov_total_vfs(site: Site) -> Known | None:
    """VFs that the PF can have."""
    return _number(site.facts.sriov_totalvfs, Source.SYSFS)


@_capability
def sriov_vfs(site: Site) -> Known | None:
    """VFs that the PF has now."""
    return _number(site.facts.sriov_numvfs, Source.SYSFS)


@_of_space
def acs(space: ConfigSpace, told: Source) -> Known:
    """Access Control Services of the function itself."""
    return _present(space, told, ExtCap.ACS)


def _as_root(site: Site) -> str:
    """That root would tell, where some step of the path was read by an ordinary user."""
    return "; root would tell" if site.paths.by_user(site.address) else ""


@_capability
def acs_path(site: Site) -> Known:
    """Access Control Services on the whole way to the root complex."""
    missing = site.paths.missing(site.address)
    if missing is None:
        return _known(None, Source.NONE, f"configuration space of the path could not be read whole{_as_root(site)}")
    return _known("isolated" if not missing else "lacks " + " ".join(sorted(missing)), site.told)


@_capability
def dma_aliases(site: Site) -> Known:
    """Other requester IDs that the function's DMA may carry."""
    if not site.paths.aliases_known(site.address):
        return _known(None, Source.NONE, f"a bridge above could not be read whole{_as_root(site)}")
    aliases = site.paths.rids(site.address)[1:]
    return _known(", ".join(f"{rid:#06x}" for rid in aliases) or "none", site.told)


@_of_space
def flr(space: ConfigSpace, told: Source) -> Known:
    """Function-level reset."""
    found = caps.flr(space)
    return UNKNOWN if found is None else Known(found, told)


@_capability
def reset_method(site: Site) -> Known:
    """The resets that the kernel would use, in order."""
    return UNKNOWN if site.facts.reset_method is None else _known(site.facts.reset_method, Source.SYSFS)


@_of_space
def resizable_bars(space: ConfigSpace, told: Source) -> Known | None:
    """BARs whose size can be changed."""
    found = extcaps.resizable_bars(space)
    return Known(", ".join(f"BAR{bar.bar}" for bar in found), told) if found else None


@_capability
def vfio_cdev(site: Site) -> Known | None:
    """The function's VFIO character device, there while it is on a vfio driver."""
    return Known(", ".join(f"/dev/vfio/devices/{name}" for name in site.facts.vfio_dev), Source.SYSFS) if site.facts.vfio_dev else None


@_capability
def driver_override(site: Site) -> Known | None:
    """The only driver that may take the function."""
    return Known(site.facts.driver_override, Source.SYSFS) if site.facts.driver_override else None


@_of_space
def port_type(space: ConfigSpace, told: Source) -> Known | None:
    """What the PCI Express capability calls the function."""
    found = caps.kind(space)
    return None if found is None else Known(found.type_name, told)


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
_CXL_BYTES = CXL_VENDOR.to_bytes(2, "little")


class CxlCapability(Record, bits=16):
    """DVSEC CXL Capability (CXL 3.1, 8.1.3.1)."""

    CACHE = field(0, doc="CXL.cache")


@_capability
def cxl_cache(site: Site) -> Known:
    """A CXL.cache device: it works only with ATS (pci_cxl_ats_required()). A VF is what its PF is."""
    space = site.kept.space
    # Asked of every function of a host: where the vendor's number is nowhere in the whole space, no list need be walked.
    if space.dead:
        return UNKNOWN
    if space.length > 256 and not space.known and _CXL_BYTES not in space.data:
        return _known(False, site.told)
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
