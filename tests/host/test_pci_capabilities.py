"""Capabilities that the recorded hosts do not have, against what lspci makes of the same bytes.

``data/composed.lspci.txt`` holds five functions whose configuration space was put together by hand from the specification, as
``lspci -F`` (pciutils 3.9) prints them with ``-D -nnvvvxxxx``: text and bytes in one file, rows of zeros left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wizard.arch.pci import Cap, ExtCap
from wizard.host.pci import bars, caps, extcaps
from wizard.host.pci.config import ConfigSpace, Presence, decode_config
from wizard.host.pci.extcaps import ResizableBar, Sriov, Vsec

GPU, ROOT_PORT, DOWNSTREAM, UPSTREAM, SOUND = "0008:06:00.0", "0008:00:00.0", "0008:01:02.0", "0008:01:00.0", "0008:07:00.0"


def _functions() -> dict[str, tuple[str, ConfigSpace]]:
    found = {}
    for block in (Path(__file__).parent / "data/composed.lspci.txt").read_text().strip().split("\n\n"):
        data = bytearray(4096)
        for row, row_bytes in re.findall(r"^([0-9a-f]{2,3}): ((?:[0-9a-f]{2} ?){16})$", block, re.MULTILINE):
            data[int(row, 16) : int(row, 16) + 16] = bytes.fromhex(row_bytes)
        address = block.split(" ", 1)[0]
        found[address] = (block, decode_config(bytes(data).rstrip(b"\0"), 256 if address == SOUND else 4096))
    return found


FUNCTIONS = _functions()


def text_of(address: str, capability: str) -> str:
    match = re.search(rf"Capabilities: \[[^\]]*\] {re.escape(capability)}.*\n(?:\t\t.*\n)*", FUNCTIONS[address][0] + "\n")
    assert match, capability
    return match[0]


@pytest.mark.parametrize("address", FUNCTIONS)
def test_lists(address: str) -> None:
    text, space = FUNCTIONS[address]
    shown = re.findall(r"Capabilities: \[([0-9a-f]+)(?: v(\d+))?\]", text)
    ours = [(f"{c.offset:x}", str(c.version) if c.extended else "") for c in (*space.standard, *space.extended)]
    assert ours == [(offset.lstrip("0"), version) for offset, version in shown]
    assert space.notes == ()


def test_ats() -> None:
    ats = extcaps.ats(FUNCTIONS[GPU][1])
    assert "Invalidate Queue Depth: 00" in text_of(GPU, "Address Translation")  # 0 stands for 32 (PCIe 10.5.1.2)
    assert ats == extcaps.Ats(queue_depth=32, page_aligned=True, global_invalidate=True, enabled=True, stu=0)
    assert "Enable+, Smallest Translation Unit: 00" in text_of(GPU, "Address Translation")


def test_pri() -> None:
    pri = extcaps.pri(FUNCTIONS[GPU][1])
    text = text_of(GPU, "Page Request")
    assert pri is not None
    assert (pri.enabled, pri.stopped) == ("Enable+" in text, "Stopped+" in text)
    assert f"Capacity: {pri.capacity:08x}, Page Request Allocation: {pri.allocation:08x}" in text
    assert pri.pasid_required  # lspci 3.9 does not print it; bit 15 of 0x8100


def test_pasid() -> None:
    pasid = extcaps.pasid(FUNCTIONS[GPU][1])
    text = text_of(GPU, "Process Address Space")
    assert pasid is not None
    assert pasid.width == 20
    assert f"Max PASID Width: {pasid.width:02x}\n" in text  # lspci writes the width in hex
    assert (pasid.execute, pasid.privileged) == ("PASIDCap: Exec+" in text, "Priv+, Max" in text)
    assert (pasid.enabled, pasid.execute_enabled, pasid.privileged_enabled) == (True, False, True)
    assert "PASIDCtl: Enable+ Exec- Priv+" in text


def test_resizable_bars() -> None:
    space = FUNCTIONS[GPU][1]
    unit = {"MB": 20, "GB": 30}

    def shown(name: str) -> tuple[ResizableBar, ...]:
        found = []
        for bar, current, sizes in re.findall(r"BAR (\d): current size: (\w+), supported: (.*)", text_of(GPU, name)):
            size = [int(word[:-2]) << unit[word[-2:]] for word in (current, *sizes.split())]
            found.append(ResizableBar(int(bar), size[0], tuple(size[1:])))
        return tuple(found)

    assert extcaps.resizable_bars(space) == shown("Physical Resizable BAR")
    assert len(extcaps.resizable_bars(space)) == 2
    assert extcaps.resizable_bars(space, vf=True) == shown("Virtual Resizable BAR")
    assert extcaps.resizable_bars(FUNCTIONS[ROOT_PORT][1]) == ()


def test_large_resizable_bar_sizes() -> None:
    """Bits of the control register stand for 256 TiB and more (PCIe 7.8.6.3), which lspci 3.9 has no words for."""
    data = bytearray(FUNCTIONS[GPU][1].data)
    data[0x1B8 + 2] = 0x01
    bar = extcaps.resizable_bars(decode_config(bytes(data), 4096))[0]
    assert bar.sizes[-1] == 256 << 40


def test_sriov() -> None:
    sriov = extcaps.sriov(FUNCTIONS[GPU][1])
    text = text_of(GPU, "Single Root")
    assert sriov is not None
    assert f"Initial VFs: {sriov.initial}, Total VFs: {sriov.total}, Number of VFs: {sriov.number}," in text
    assert f"VF offset: {sriov.offset}, stride: {sriov.stride}, Device ID: {sriov.vf_device:04x}" in text
    assert [f"{bar.address:016x}" for bar in sriov.bars] == re.findall(r"Memory at (\w+)", text)
    assert [bar.index for bar in sriov.bars] == [0, 2]


def test_vf_arithmetic() -> None:
    """PCIe 9.3.3.9: VF n has RID = PF + offset + (n - 1) * stride, which may lie on another bus."""
    sriov = extcaps.sriov(FUNCTIONS[GPU][1])
    assert isinstance(sriov, Sriov)
    assert sriov.vf_rid(0x0600, 0) == 0x0604
    assert sriov.vf_rid(0x0600, 11) == 0x061A
    assert sriov.vf_rid(0x06FE, 0) == 0x0702
    with pytest.raises(ValueError, match="no requester ID"):
        sriov.vf_rid(0xFFFF, 0)


def test_tph_dsn_and_vendor_capabilities() -> None:
    space = FUNCTIONS[GPU][1]
    tph = extcaps.tph(space)
    text = text_of(GPU, "Transaction Processing")
    assert tph is not None
    assert (tph.interrupt_vector, tph.device_specific) == ("Interrupt vector mode" in text, "Device specific mode" in text)
    assert f"Steering table in {tph.table}" in text
    assert tph.entries == 256  # field 0xff, entries minus one
    assert f"Device Serial Number {extcaps.serial_number(space)}" in text_of(GPU, "Device Serial Number")
    assert extcaps.vendor_specific(space) == (Vsec(0x10DE, 8, 1, 0x18, True), Vsec(0x10DE, 0x4210, 2, 0x40, False))
    assert "Vendor=10de ID=0008 Rev=1 Len=24" in text_of(GPU, "Designated")
    assert "ID=4210 Rev=2 Len=040" in text_of(GPU, "Vendor Specific Information: ID")


def test_dpc() -> None:
    text = text_of(ROOT_PORT, "Downstream Port Containment")
    assert "Trigger:2" in text
    assert "Trigger+" in text
    assert extcaps.dpc(FUNCTIONS[ROOT_PORT][1]) == extcaps.Dpc("non-fatal and fatal", True)
    assert extcaps.dpc(FUNCTIONS[GPU][1]) is None


def test_aer() -> None:
    aer = extcaps.aer(FUNCTIONS[GPU][1])
    text = text_of(GPU, "Advanced Error")
    assert aer is not None
    for line, ours in (("UESta", aer.pending), ("UEMsk", aer.masked), ("UESvrt", aer.fatal)):
        shown = re.search(rf"{line}:\t(.*)", text)
        assert shown
        assert ours == set(re.findall(r"(\w+)\+", shown[1]))


@pytest.mark.parametrize("address", [ROOT_PORT, UPSTREAM, DOWNSTREAM, GPU])
def test_express(address: str) -> None:
    express = caps.express(FUNCTIONS[address][1])
    text = text_of(address, "Express")
    assert express is not None
    assert f"Express (v{express.version}) {express.type_name}" in text
    assert f"Port #{express.port}, Speed {express.link_capable.speed}, Width x{express.link_capable.width}," in text
    assert f"LnkSta:\tSpeed {express.link.speed}, Width x{express.link.width}" in text
    assert express.link_active == ("DLActive+" in text)
    assert express.flr == ("FLReset+" in text)
    assert express.transactions_pending == ("TransPend+" in text)
    assert [express.max_payload_supported, express.max_payload] == [int(n) for n in re.findall(r"MaxPayload (\d+)", text)]
    assert f"MaxReadReq {express.max_read_request} " in text
    assert (express.slot is not None) == ("(Slot+)" in text)
    if express.slot is not None:
        assert f"Slot #{express.slot.number}," in text
        assert express.slot.hotplug == ("HotPlug+" in text)
        assert express.slot.present == ("PresDet+ Interlock" in text)
    assert express.ari_forwarding_supported == ("ARIFwd+\n\t\t\t AtomicOpsCap" in text)
    assert express.is_downstream == (address in (ROOT_PORT, DOWNSTREAM))
    assert express.is_endpoint == (address == GPU)


def test_bridge_windows_above_four_gigabytes() -> None:
    text, space = FUNCTIONS[ROOT_PORT]
    bridge = bars.bridge(space)
    assert bridge is not None
    shown = re.findall(r"behind bridge: (\w+)-(\w+)", text)
    io, memory, prefetchable = bridge.windows
    assert [(int(a, 16), int(b, 16)) for a, b in shown[1:]] == [(w.first, w.last) for w in (memory, prefetchable)]
    assert prefetchable.wide
    assert not io.enabled
    assert io.wide


def test_64_bit_bars_take_two_registers() -> None:
    found = bars.bars(FUNCTIONS[GPU][1])
    assert [(bar.index, bar.address) for bar in found] == [(0, 0x650_4000_0000), (2, 0x6504_0000_0000), (4, 0x651_8000_0000)]
    assert all(bar.kind == "64-bit" and bar.prefetchable for bar in found)


def test_reset_of_a_conventional_function() -> None:
    """Function level reset without PCI Express: Advanced Features."""
    assert "FLR+" in text_of(SOUND, "PCI Advanced Features")
    assert caps.flr(FUNCTIONS[SOUND][1]) is True
    assert caps.flr(FUNCTIONS[GPU][1]) is True
    assert caps.flr(FUNCTIONS[ROOT_PORT][1]) is False


def test_absent_and_unreadable_are_two_things() -> None:
    """What an ordinary user reads (64 bytes) proves the absence of nothing, except where the header says that no list begins."""
    whole = FUNCTIONS[GPU][1]
    user = decode_config(whole.data[:64], 64)
    root_without_ecam = decode_config(whole.data[:256], 256)
    for space, ats, msix, dpc in (
        (whole, Presence.PRESENT, Presence.PRESENT, Presence.ABSENT),
        (root_without_ecam, Presence.UNKNOWN, Presence.PRESENT, Presence.UNKNOWN),
        (user, Presence.UNKNOWN, Presence.UNKNOWN, Presence.UNKNOWN),
    ):
        assert (space.presence(ExtCap.ATS), space.presence(Cap.MSIX), space.presence(ExtCap.DPC)) == (ats, msix, dpc)
        assert space.notes == ()
    assert (user.vendor, user.device, user.class_code, user.revision) == (0x10DE, 0x31C2, 0x030200, 0xA1)
    assert caps.flr(user) is None
    # A conventional function has 256 bytes, so nothing beyond them is missing; one without a list has no capability at all.
    assert FUNCTIONS[SOUND][1].presence(ExtCap.ATS) is Presence.ABSENT
    plain = decode_config(bytes.fromhex("361b0800" + "0000" + "0000") + bytes(56), 64)
    assert plain.presence(Cap.MSIX) is Presence.ABSENT
    assert plain.presence(ExtCap.ATS) is Presence.ABSENT
