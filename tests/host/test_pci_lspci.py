"""Every capability that lspci names on a recorded host, and its main figures, against our own decoding of the same bytes.

``data/arm64-virt-*.lspci.txt`` is the output of ``lspci -nnvvv``, ``*.pci.json`` the bytes of ``config`` and the text of
``resource`` of the same moment: one booted, one with every endpoint bound to vfio-pci.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from wizard.arch import pci as arch
from wizard.arch.pci_caps import LINK_SPEEDS
from wizard.host.pci import bars, caps, extcaps
from wizard.host.pci.config import ConfigSpace, decode_config

DATA = Path(__file__).parent / "data"


@dataclass
class Listed:
    """One function as lspci prints it: the lines before its capabilities, and each capability with its lines."""

    head: str = ""
    caps: list[tuple[int, int | None, str]] = field(default_factory=list)  # offset, version, text


def listed(moment: str) -> dict[str, Listed]:
    functions: dict[str, Listed] = {}
    for block in (DATA / f"arm64-virt-{moment}.lspci.txt").read_text().strip().split("\n\n"):
        parts = re.split(r"^\tCapabilities: ", block, flags=re.MULTILINE)
        function = Listed(head=parts[0])
        for part in parts[1:]:
            match = re.match(r"\[([0-9a-f]+)(?: v(\d+))?\] ", part)
            assert match, part
            function.caps.append((int(match[1], 16), int(match[2]) if match[2] else None, part[match.end() :]))
        functions["0000:" + block.split(" ", 1)[0]] = function
    return functions


def recorded(moment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"arm64-virt-{moment}.pci.json").read_text())
    return found


CASES = [(moment, address) for moment in ("boot", "vfio") for address in recorded(moment)]


@pytest.fixture(scope="module")
def lspci() -> dict[str, dict[str, Listed]]:
    return {moment: listed(moment) for moment in ("boot", "vfio")}


def space_of(entry: dict[str, Any]) -> ConfigSpace:
    return decode_config(bytes.fromhex(entry["config"]), entry["length"])


def flags(text: str, start: str) -> set[str]:
    """Names with a plus behind them on the line that begins with ``start``, and its continuation lines."""
    match = re.search(rf"{start}:((?:.*\n)(?:\t\t\t.*\n)*)", text + "\n")
    assert match, (start, text)
    return set(re.findall(r"([A-Za-z0-9_>]+)\+", match[1]))


def number(text: str, pattern: str, base: int = 10) -> int:
    match = re.search(pattern, text)
    assert match, (pattern, text)
    return int(match[1], base)


def test_lspci_and_sysfs_know_the_same_functions(lspci: dict[str, dict[str, Listed]]) -> None:
    for moment in ("boot", "vfio"):
        assert set(lspci[moment]) == set(recorded(moment))


@pytest.mark.parametrize(("moment", "address"), CASES)
def test_capability_lists(moment: str, address: str, lspci: dict[str, dict[str, Listed]]) -> None:
    space = space_of(recorded(moment)[address])
    assert space.notes == ()
    ours = [(c.offset, c.version if c.extended else None) for c in (*space.standard, *space.extended)]
    theirs = lspci[moment][address].caps
    assert ours == [(offset, version) for offset, version, _ in theirs]
    for capability, (_, _, text) in zip((*space.standard, *space.extended), theirs, strict=True):
        # lspci writes figures behind or into the name: "MSI-X: Enable+", "Express (v2) Endpoint".
        assert text.startswith(capability.name), (capability, text)


@pytest.mark.parametrize(("moment", "address"), CASES)
def test_header(moment: str, address: str, lspci: dict[str, dict[str, Listed]]) -> None:
    entry = recorded(moment)[address]
    space, head = space_of(entry), lspci[moment][address].head
    assert space.class_code >> 8 == number(head, r"^\S+ .*? \[([0-9a-f]{4})\]:", 16)
    assert space.class_code == int(entry["class"], 16)
    ids = re.search(r"\[([0-9a-f]{4}):([0-9a-f]{4})\](?: \(rev ([0-9a-f]+)\))?", head)
    assert ids
    assert space.revision == int(ids[3] or "0", 16)
    if "physfn" in entry:
        assert (space.vendor, space.device) == (0xFFFF, 0xFFFF)  # why a VF's ids are the PF's business
    else:
        assert (space.vendor, space.device) == (int(ids[1], 16), int(ids[2], 16))
    subsystem = re.search(r"Subsystem: .*\[([0-9a-f]{4}):([0-9a-f]{4})\]", head + "".join(t for _, _, t in lspci[moment][address].caps))
    if subsystem:
        assert caps.subsystem(space) == (int(subsystem[1], 16), int(subsystem[2], 16))


@pytest.mark.parametrize(("moment", "address"), CASES)
def test_bridges(moment: str, address: str, lspci: dict[str, dict[str, Listed]]) -> None:
    space, head = space_of(recorded(moment)[address]), lspci[moment][address].head
    bridge = bars.bridge(space)
    match = re.search(r"Bus: primary=(..), secondary=(..), subordinate=(..)", head)
    assert (bridge is None) == (match is None)
    if bridge is None or match is None:
        return
    assert (bridge.primary, bridge.secondary, bridge.subordinate) == tuple(int(text, 16) for text in match.groups())
    for window, name in zip(bridge.windows, ("I/O", "Memory", "Prefetchable memory"), strict=True):
        shown = re.search(rf"^\t{name} behind bridge: ([0-9a-f]+)-([0-9a-f]+)(.*)", head, re.MULTILINE)
        assert shown
        assert ("[disabled]" in shown[3]) == (not window.enabled)
        # lspci shows the kernel's I/O numbers, which on arm64 are not those on the bus; memory is the same on both.
        if window.enabled and window.kind == "io":
            kernel = {r.name: r for r in bars.parse_resource(recorded(moment)[address]["resource"])}["window0"]
            assert (kernel.start, kernel.end) == (int(shown[1], 16), int(shown[2], 16))
            assert kernel.size == window.last - window.first + 1
        elif window.enabled:
            assert (window.first, window.last) == (int(shown[1], 16), int(shown[2], 16))


@pytest.mark.parametrize(("moment", "address"), CASES)
def test_regions(moment: str, address: str, lspci: dict[str, dict[str, Listed]]) -> None:
    """lspci takes addresses and sizes from ``resource``, and kinds from the registers where a function has any."""
    entry = recorded(moment)[address]
    space = space_of(entry)
    resources = {r.name: r for r in bars.parse_resource(entry["resource"])}
    registers = {bar.index: bar for bar in bars.bars(space)}
    shown = re.findall(r"^\tRegion (\d): (Memory|I/O ports) at (\S+)(?: \(([^,)]*), ([^)]*)\))?(.*)", lspci[moment][address].head, re.MULTILINE)
    assert {f"bar{index}" for index, *_ in shown} == {name for name in resources if name.startswith("bar")}
    for index, what, where, kind, prefetch, rest in shown:
        resource = resources[f"bar{index}"]
        size = re.search(r"\[size=(\d+)([KM]?)\]", rest)
        assert size
        assert resource.size == int(size[1]) << {"": 0, "K": 10, "M": 20}[size[2]]
        assert bool(resource.flags.MEM) == (what == "Memory")
        if what == "Memory":
            assert bool(resource.flags.PREFETCH) == (prefetch == "prefetchable")
            assert bool(resource.flags.MEM_64) == (kind == "64-bit")
        if "[virtual]" in rest:
            assert registers == {}  # a VF's own registers are zero
            continue
        bar = registers[int(index)]
        assert bar.kind == ("io" if what == "I/O ports" else kind)
        assert bar.prefetchable == (prefetch == "prefetchable")
        assert resource.start == int(where, 16)
        if what == "Memory":  # I/O: the kernel's number, not the bus's
            assert bar.address == resource.start


def test_sizes_and_windows_come_without_their_empty_lines_too() -> None:
    """A record leaves trailing empty lines out; the names of the regions must not shift with that."""
    for entry in recorded("boot").values():
        lines = entry["resource"].splitlines()
        while lines and lines[-1].split()[2] == "0x0000000000000000":
            lines.pop()
        assert bars.parse_resource("\n".join(lines)) == bars.parse_resource(entry["resource"])


@pytest.mark.parametrize(("moment", "address"), CASES)
def test_standard_capabilities(moment: str, address: str, lspci: dict[str, dict[str, Listed]]) -> None:
    space = space_of(recorded(moment)[address])
    seen = 0
    for offset, version, text in lspci[moment][address].caps:
        if version is not None:
            continue
        if text.startswith("MSI-X:"):
            msix = caps.msix(space)
            assert msix is not None
            assert msix.enabled == ("Enable+" in text)
            assert msix.masked == ("Masked+" in text)
            assert msix.vectors == number(text, r"Count=(\d+)")
            assert (msix.table_bar, msix.table_offset) == (number(text, r"table: BAR=(\d)"), number(text, r"table: BAR=\d offset=(\w+)", 16))
            assert (msix.pba_bar, msix.pba_offset) == (number(text, r"PBA: BAR=(\d)"), number(text, r"PBA: BAR=\d offset=(\w+)", 16))
        elif text.startswith("MSI:"):
            msi = caps.msi(space)
            assert msi is not None
            assert (msi.enabled, msi.maskable, msi.wide) == ("Enable+" in text, "Maskable+" in text, "64bit+" in text)
            assert (msi.allocated, msi.vectors) == (number(text, r"Count=(\d+)/"), number(text, r"Count=\d+/(\d+)"))
        elif text.startswith("Power Management"):
            power = caps.power_management(space)
            assert power is not None
            assert power.version == number(text, r"version (\d)")
            assert power.state == re.findall(r"Status: (D\S+)", text)[0].replace("D3", "D3hot")
            assert power.soft_reset == ("NoSoftRst-" in text)
            assert (power.d1, power.d2) == ("D1+" in text, "D2+" in text)
        elif text.startswith("Express"):
            check_express(space, text)
        elif text.startswith("Vendor Specific"):
            lengths = dict(caps.vendor_specific(space))
            if "Len=" in text:
                assert lengths[offset] == number(text, r"Len=([0-9a-f]+)", 16)
            else:
                assert lengths[offset] >= 16  # virtio 1.3, 4.1.4: struct virtio_pci_cap
        elif text.startswith("Subsystem"):
            assert caps.subsystem(space) == (0x1B36, 0)
        else:
            assert text.startswith("Hot-plug capable")
        seen += 1
    assert seen == len(space.standard)


def check_express(space: ConfigSpace, text: str) -> None:
    express = caps.express(space)
    assert express is not None
    assert f"Express (v{express.version}) {express.type_name}" in text
    assert express.flr == ("FLReset" in flags(text, "DevCap"))
    assert express.max_payload_supported == number(text, r"DevCap:\tMaxPayload (\d+)")
    assert express.max_payload == number(text, r"\t\t\tMaxPayload (\d+)")
    assert express.max_read_request == number(text, r"MaxReadReq (\d+)")
    assert express.transactions_pending == ("TransPend+" in text)
    if "LnkCap:" in text:
        link = re.search(r"LnkCap:\tPort #(\d+), Speed (\S+), Width x(\d+)", text)
        assert link
        assert (express.port, express.link_capable.speed, express.link_capable.width) == (int(link[1]), link[2], int(link[3]))
        status = re.search(r"LnkSta:\tSpeed ([^\s,]+)(?: \(\w+\))?, Width x(\d+)", text)
        assert status
        assert (express.link.speed, express.link.width) == (status[1], int(status[2]))
        assert express.link.speed in (*LINK_SPEEDS.values(), "unknown")
        assert express.link_active == ("DLActive+" in text)
    assert (express.slot is not None) == ("(Slot+)" in text)
    if express.slot is not None:
        slot = flags(text, "SltCap")
        assert express.slot.number == number(text, r"Slot #(\d+)")
        assert (express.slot.hotplug, express.slot.surprise) == ("HotPlug" in slot, "Surprise" in slot)
        assert express.slot.present == ("PresDet+" in text.split("SltSta:")[1].split("\n")[0])
    if "DevCap2" in text:
        assert express.ari_forwarding_supported == ("ARIFwd" in flags(text, "DevCap2"))
        assert express.ari_forwarding == ("ARIFwd" in flags(text, "DevCtl2"))
    assert express.is_root_port == ("Root Port" in text)
    assert express.is_pci_bridge == ("PCI-Express to PCI/PCI-X Bridge" in text)


ACS_NAMES = {
    "SrcValid": "SV", "TransBlk": "TB", "ReqRedir": "RR", "CmpltRedir": "CR", "UpstreamFwd": "UF", "EgressCtrl": "EC", "DirectTrans": "DT",
}  # fmt: skip


@pytest.mark.parametrize(("moment", "address"), CASES)
def test_extended_capabilities(moment: str, address: str, lspci: dict[str, dict[str, Listed]]) -> None:
    space = space_of(recorded(moment)[address])
    seen = 0
    for _, version, text in lspci[moment][address].caps:
        if version is None:
            continue
        if text.startswith("Access Control"):
            acs = extcaps.acs(space)
            assert acs is not None
            assert acs.capable == {ACS_NAMES[name] for name in flags(text, "ACSCap")}
            assert acs.enabled == {ACS_NAMES[name] for name in flags(text, "ACSCtl")}
        elif text.startswith("Advanced Error"):
            aer = extcaps.aer(space)
            assert aer is not None
            known = set(arch_names())
            for line, ours in (("UESta", aer.pending), ("UEMsk", aer.masked), ("UESvrt", aer.fatal)):
                assert ours == flags(text, line) & known
        elif text.startswith("Alternative Routing"):
            ari = extcaps.ari(space)
            assert ari is not None
            assert ari.next_function == number(text, r"Next Function: (\d+)")
        elif text.startswith("Device Serial Number"):
            assert extcaps.serial_number(space) == text.split()[3]
        elif text.startswith("Single Root I/O"):
            check_sriov(space, text)
        else:
            pytest.fail(f"not compared: {text}")
        seen += 1
    assert seen == len(space.extended)


def arch_names() -> list[str]:
    from wizard.arch.pci_caps import AerStatus

    return list(AerStatus.layout)


def check_sriov(space: ConfigSpace, text: str) -> None:
    sriov = extcaps.sriov(space)
    assert sriov is not None
    control = flags(text, "IOVCtl")
    assert (sriov.enabled, sriov.memory_enabled, sriov.ari) == ("Enable" in control, "MSE" in control, "ARIHierarchy" in control)
    counts = re.search(r"Initial VFs: (\d+), Total VFs: (\d+), Number of VFs: (\d+), Function Dependency Link: (\w+)", text)
    assert counts
    assert (sriov.initial, sriov.total, sriov.number) == tuple(int(n) for n in counts.groups()[:3])
    assert sriov.dependency == int(counts[4], 16)
    assert (sriov.offset, sriov.stride) == (number(text, r"VF offset: (\d+)"), number(text, r"stride: (\d+)"))
    assert sriov.vf_device == number(text, r"Device ID: (\w+)", 16)
    supported = number(text, r"Supported Page Size: (\w+)", 16)
    assert sum(sriov.page_sizes) == supported * 4096
    assert sriov.page_size == number(text, r"System Page Size: (\w+)", 16) * 4096
    shown = re.findall(r"Region (\d): Memory at ([0-9a-f]+) \((\S+), (non-)?prefetchable\)", text)
    assert [(b.index, b.address, b.kind, b.prefetchable) for b in sriov.bars] == [(int(i), int(at, 16), kind, not non) for i, at, kind, non in shown]


def test_vf_arithmetic_against_the_links() -> None:
    """The kernel's virtfnN links say where VF N ended up; the capability's offset and stride must say the same."""
    from wizard.base.address import Address

    compared = 0
    for address, entry in recorded("boot").items():
        for index, link in enumerate(entry.get("virtfns", ())):
            sriov = extcaps.sriov(space_of(entry))
            assert sriov is not None
            pf = Address.parse(address)
            assert str(Address.of_rid(pf.segment, sriov.vf_rid(pf.rid, index))) == link
            compared += 1
    assert compared == 2


def test_names_are_those_of_the_kernel_headers() -> None:
    """Numbers that the program looks for, against include/uapi/linux/pci_regs.h."""
    assert [int(arch.Cap[name]) for name in ("PM", "MSI", "VENDOR", "SSVID", "EXPRESS", "MSIX", "AF")] == [1, 5, 9, 0xD, 0x10, 0x11, 0x13]
    extended = {"AER": 1, "DSN": 3, "VSEC": 0xB, "ACS": 0xD, "ARI": 0xE, "ATS": 0xF, "SRIOV": 0x10, "PRI": 0x13, "REBAR": 0x15, "TPH": 0x17,
                "PASID": 0x1B, "DPC": 0x1D, "DVSEC": 0x23, "VF_REBAR": 0x24}  # fmt: skip
    assert {member.name: int(member) for member in arch.ExtCap} == extended
