"""Where functions of a paste sit: the way from the root complex, worked out of bus numbers where no source writes it.

A bus is a root bus where something on it can be nowhere else (bus 0, a host bridge, a root port, an endpoint or event collector of the
root complex), or a source says so. Any other bus is below the bridge that names it; where none does, what is above is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wizard.arch import pci_caps as regs
from wizard.arch.pci import BridgeBuses, Cap, ExtCap
from wizard.base.address import Address
from wizard.facts.capabilities import EXTENDED, capabilities
from wizard.facts.model import UNPLACED, PciFunction
from wizard.facts.paste.piece import Piece

_HOST_BRIDGE = "0x0600"
_ON_ROOT = (0x4, 0x9, 0xA)  # root port, root complex integrated endpoint, event collector (PCIe 6.0, 7.5.3.2)
_DEPTH = 64


def place(told: dict[str, dict[str, Any]], pieces: Sequence[Piece]) -> tuple[list[PciFunction], list[str]]:
    """(functions with their paths and VFs, addresses of those that no source gives ids)."""
    whole = {address: fields for address, fields in told.items() if {"vendor", "device", "class_"} <= fields.keys()}
    parsed = {address: Address.parse(address) for address in whole}
    join_vfs(whole, parsed)
    above = {function: bridge for piece in reversed(pieces) for function, bridge in piece.above.items()}
    roots = {root for piece in pieces for root in piece.roots} | set(_roots(whole, parsed))
    bridges = {bus: bridge for piece in reversed(pieces) for bus, bridge in piece.bridges.items()} | dict(_bridges(whole, parsed))

    def parent(address: str) -> str | None:
        if address in above:
            return above[address]
        if (pf := whole.get(address, {}).get("physfn")) is not None:
            return parent(pf)  # VFs may lie on the buses behind their PF's own, which no bridge of theirs names
        at = parsed.get(address)
        key = (at.segment, at.bus) if at else (-1, -1)
        return bridges.get(key, "" if key in roots else None)

    def path(address: str) -> str:
        way, here = [address], address
        while (bridge := parent(here)) and len(way) < _DEPTH and bridge not in way:
            way.append(bridge)
            here = bridge
        if bridge is None or bridge:
            return UNPLACED + "/".join(reversed(way))
        top = Address.parse(way[-1])
        return "/".join([f"pci{top.segment:04x}:{top.bus:02x}", *reversed(way)])

    functions = [
        PciFunction(address=address, path=path(address), **fields) for address, fields in sorted(whole.items(), key=lambda item: parsed[item[0]])
    ]
    return functions, sorted(told.keys() - whole.keys())


def _config(fields: dict[str, Any]) -> bytes:
    return bytes.fromhex(fields.get("config", ""))


def _tells(fields: dict[str, Any], first: int, end: int) -> bool:
    known = fields.get("config_known")
    return end <= fields.get("config_length", 0) and (not known or any(a <= first and end <= b for a, b in known))


def _bridges(whole: dict[str, dict[str, Any]], parsed: dict[str, Address]) -> Iterable[tuple[tuple[int, int], str]]:
    """(segment, secondary bus) -> bridge, of each whose bus numbers are told."""
    for address, fields in whole.items():
        if _tells(fields, 0x18, 0x1B):
            data = _config(fields).ljust(0x1B, b"\0")
            if data[0x0E] & 0x7F in (1, 2) and (secondary := BridgeBuses.read(data).SECONDARY):
                yield (parsed[address].segment, secondary), address


def _roots(whole: dict[str, dict[str, Any]], parsed: dict[str, Address]) -> Iterable[tuple[int, int]]:
    for address, fields in whole.items():
        at = parsed[address]
        if at.bus == 0 or fields["class_"].startswith(_HOST_BRIDGE) or _express_type(fields) in _ON_ROOT:
            yield at.segment, at.bus


def _express_type(fields: dict[str, Any]) -> int | None:
    if fields.get("config_length", 0) <= 0x40:
        return None
    data = _config(fields)
    offset = next((offset for number, offset in capabilities(data) if number == Cap.EXPRESS), None)
    return None if offset is None or not _tells(fields, offset, offset + 4) else regs.ExpressCapabilities.read(data, offset).TYPE


def join_vfs(whole: dict[str, dict[str, Any]], parsed: dict[str, Address]) -> None:
    """PFs and their VFs, as pci_iov_virtfn_bus() and pci_iov_virtfn_devfn() of the kernel reckon them from the SR-IOV capability."""
    for address, fields in whole.items():
        data = _config(fields)
        offset = next((at for number, at in capabilities(data) if number == EXTENDED + ExtCap.SRIOV), None) if len(data) > 0x100 else None
        if offset is None or not _tells(fields, offset, offset + 0x40):
            continue
        control, counts, routing = regs.SriovControl.read(data, offset), regs.SriovCounts.read(data, offset), regs.SriovRouting.read(data, offset)
        # sriov_totalvfs is what the PF's driver lets be made (sriov_driver_max of pci_sriov_set_totalvfs()), which TotalVFs does not tell.
        fields.setdefault("sriov_numvfs", counts.NUMBER if control.VF_ENABLE else 0)
        if not control.VF_ENABLE:
            continue
        virtual = []
        for index in range(counts.NUMBER):
            rid = parsed[address].rid + routing.OFFSET + routing.STRIDE * index
            if rid > 0xFFFF:
                break
            virtual.append(f"{parsed[address].segment:04x}:{rid >> 8:02x}:{rid >> 3 & 31:02x}.{rid & 7}")
        for one in virtual:
            if one in whole and one != address:
                whole[one].setdefault("physfn", address)
                if whole[one]["vendor"] == "0xffff":  # a VF's own registers name nobody (PCIe 6.0, 9.3.4.1.1)
                    whole[one]["vendor"], whole[one]["device"] = fields["vendor"], f"{regs.SriovDevice.read(data, offset).ID:#06x}"
        fields.setdefault("virtfns", tuple(one for one in virtual if one in whole))
