"""Dumps: a real one of a Linux whose NVMe works, images of every kind, and what is wrong in tables that were made wrong."""

from __future__ import annotations

import asyncio
import json
import lzma
import struct
from pathlib import Path

import pytest

from tests.smmu.world import PA, SID, VA, World, world
from tests.tools.qemu import require_qemu
from wizard.arch.registers import REGISTERS
from wizard.base.errors import InputError
from wizard.cli.main import main
from wizard.rehearsal.process import running
from wizard.smmu import Transaction
from wizard.smmu.dumps.audit import audit
from wizard.smmu.dumps.changes import changes
from wizard.smmu.dumps.images import extents, open_images
from wizard.smmu.dumps.mappings import Mappings
from wizard.smmu.dumps.registers import read_registers
from wizard.smmu.dumps.state import Dump
from wizard.smmu.dumps.view import reach
from wizard.smmu.inventory import Inventory
from wizard.smmu.tables import Allocator, ContextTable, PageTable, bypass_entry, context_descriptor, stage1_entry

DATA = Path(__file__).parent / "data"
# Linux 7.2.13 on QEMU 11.1.2 (tests/armhost), stopped while dd read its NVMe: the pages that the SMMU of PCI buses 0x10 to 0x1f and the
# admin queues of 0000:14:00.0 lie in (pmemsave), its registers (xp), and what lspci listed below that SMMU.
FUNCTIONS = ("10:00.0", "10:01.0", "11:00.0", "11:10.0", "11:10.2", "14:00.0")
ASQ, ACQ = 0xFFFF_D000, 0xFFFF_E000  # the NVMe's own registers 0x28 and 0x30
ADMIN = [0x06, 0x02, 0x09, 0x09, 0x09, 0x05, 0x01, 0x05, 0x01]  # identify, get log page, set features, queues: what Linux's driver begins with


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Memory and registers as files."""
    core = tmp_path_factory.mktemp("dump") / "core"
    core.write_bytes(lzma.decompress((DATA / "armhost-nvme.vmcore.xz").read_bytes()))
    return str(core), str(DATA / "armhost-nvme.registers.txt")


def opened(memory: str, registers: str) -> Dump:
    return Dump(open_images([memory]), read_registers(Path(registers).read_text(), registers))


def test_streams_of_a_real_dump_are_its_functions(real: tuple[str, str]) -> None:
    dump = opened(*real)
    translated = [sid for sid, entry in dump.inventory.entries.items() if entry.ste.Config == 5]
    assert sorted(translated) == [int(bus, 16) << 8 | int(rest[:2], 16) << 3 | int(rest[3]) for bus, rest in (one.split(":") for one in FUNCTIONS)]
    assert not list(audit(dump, Mappings(dump)))
    assert dump.events() == ([], 0)


def test_the_queues_of_a_real_nvme_are_found_both_ways(real: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--mem", real[0], "--registers", real[1]]
    assert main(["translate", "0x1400", hex(ASQ), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    queue = int(found["pa"], 0)
    memory = open_images([real[0]])
    assert [(memory.read(queue + 64 * entry) or 0) & 0xFF for entry in range(len(ADMIN))] == ADMIN
    assert main(["tables", "who", hex(queue), "--json", *words]) == 0
    ways = json.loads(capsys.readouterr().out)["reach"]
    assert [(way["sid"], way["iova"]) for way in ways] == [("0x1400", hex(ASQ))]
    assert main(["tables", "map", "0x1400", "--json", *words]) == 0
    (mapped,) = json.loads(capsys.readouterr().out)["mappings"]
    assert {int(one["iova"], 0) for one in mapped["ranges"]} >= {ASQ, ACQ}
    # all of it is memory, but for the ITS of QEMU's virt, where its interrupts go
    assert [one["pa"] for one in mapped["ranges"] if one["memory"] != "Normal-iWB-oWB-ISH"] == ["0x8090000"]
    assert not mapped["unknown"]
    assert main(["translate", "0x1400", "0x10000", *words]) == 0
    assert json.loads(capsys.readouterr().out)["fault"]["name"] == "F_TRANSLATION"


def test_map_and_single_walks_of_a_real_dump_agree(real: tuple[str, str]) -> None:
    dump = opened(*real)
    for mapped in Mappings(dump).all():
        for part in mapped.ranges:
            for offset in (0, part.size - 4):
                sid = mapped.reached.sid
                outcome = dump.smmu.translate(_access(sid, part.iova + offset))
                assert (outcome.pa, str(outcome.attributes)) == (part.pa + offset, part.kind)


def _access(sid: int, iova: int) -> Transaction:
    return Transaction(sid, iova, write=True)


# -- made dumps -------------------------------------------------------------------------------------------------------


def dumped(w: World, tmp_path: Path, name: str = "a", *, without: int | None = None) -> Dump:
    """The memory of a world as raw images of one page each, but for the page ``without``."""
    images: list[str] = []
    for number, page in w.memory.pages.items():
        if without is None or number != without >> 12:
            path = tmp_path / f"{name}-{number:x}"
            path.write_bytes(page.tobytes())
            images.append(f"{path}@{number << 12:#x}")
    listing = "\n".join(f"{register} = {w.smmu.read(register):#x}" for register in REGISTERS)
    return Dump(open_images(images), read_registers(listing, "registers"))


@pytest.mark.parametrize("mode", ["1", "2", "nested"])
def test_what_a_world_maps_its_dump_maps(mode: str, tmp_path: Path) -> None:
    w = world(mode, cdmax=2 if mode != "2" else 0, ste={"S1DSS": 2} if mode != "2" else {})
    dump = dumped(w, tmp_path)
    plain = w.dma(VA if mode != "2" else 0x4100_0000)
    found = [part for mapped in Mappings(dump).of(SID) if mapped.reached.ssid is None for part in mapped.ranges]
    assert plain.ok
    assert plain.pa is not None
    assert any(part.pa <= plain.pa < part.pa + part.size for part in found)


def test_a_table_that_no_image_holds_is_unknown_and_nothing_else(tmp_path: Path) -> None:
    w = world("1")
    assert w.first is not None
    leaf = w.first.entry_address(VA) or 0
    dump = dumped(w, tmp_path, without=leaf)
    (mapped,) = Mappings(dump).of(SID)
    assert [(one.table, one.size) for one in mapped.unknown] == [(leaf & ~0xFFF, 2 << 20)]
    assert not mapped.ranges
    assert {flaw.kind for flaw in audit(dump, Mappings(dump))} == {"unknown"}
    found, undecided = reach(Mappings(dump), PA, 1)
    assert (found, len(undecided)) == ([], 1)
    dump.smmu.translate(_access(SID, VA))
    assert dump.memory.unknown == {leaf}


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    w = world("1")
    assert w.first is not None
    assert w.contexts is not None
    w.first.map(0x7000_0000, w.streams.base & ~0xFFF, 0x1000)  # the stream table, to be written by the device
    w.streams.set(SID + 1, bypass_entry())
    table = w.first.entry_address(VA) or 0
    w.memory.write((table & ~0xFFF) + 0xFF8, 1)  # a type that level 3 does not have
    named = {flaw.kind: flaw for flaw in audit(dumped(w, tmp_path), Mappings(dumped(w, tmp_path, "b")))}
    # zeros that nobody wrote are in no image of this world, hence unknown
    assert set(named) - {"unknown"} == {"exposed", "open", "illegal"}
    assert "0x70000000 goes to" in named["exposed"].text
    assert "stream table" in named["exposed"].text
    assert named["open"].sid == SID + 1
    assert named["illegal"].where == (table & ~0xFFF) + 0xFF8


def test_one_asid_for_two_tables_is_inconsistent(tmp_path: Path) -> None:
    w = world("1")
    assert w.first is not None
    found = Inventory(w.smmu)
    (mine,) = found.descriptors(found.entries[SID].ste)[1]
    space = Allocator(0x5800_0000, 0x5900_0000)
    other, contexts = PageTable(w.memory, space, stage=1), ContextTable(w.memory, space)
    contexts.set(0, context_descriptor(other, asid=mine.cd.ASID))
    w.streams.set(SID + 2, stage1_entry(contexts))
    dump = dumped(w, tmp_path)
    assert [flaw.sid for flaw in audit(dump, Mappings(dump)) if flaw.kind == "inconsistent"] == [SID + 2]


def test_what_two_dumps_differ_in(tmp_path: Path) -> None:
    w = world("1")
    assert w.first is not None
    before = dumped(w, tmp_path)
    w.first.map(VA + 0x10_0000, PA + 0x10_0000, 0x1000)
    w.streams.set(SID + 1, bypass_entry())
    found = [(one.what, one.sid, one.before, one.after.split(" ")[0]) for one in changes(before, dumped(w, tmp_path, "b"))]
    assert found == [
        (f"{VA + 0x10_0000:#x} to {VA + 0x10_0FFF:#x}", SID, "", f"{PA + 0x10_0000:#x}"),
        ("stream table entry", SID + 1, "", "valid"),
        ("reach", SID + 1, "", "everything"),
    ]


def test_tables_that_lead_to_themselves_end(tmp_path: Path) -> None:
    w = world("1")
    assert w.first is not None
    root = w.first.root
    for index in range(512):
        w.memory.write(root + 8 * index, root | 3)
    dump = dumped(w, tmp_path)
    (mapped,) = Mappings(dump).of(SID)
    assert "may loop" in mapped.why
    assert {flaw.kind for flaw in audit(dump, Mappings(dump))} == {"inconsistent", "unknown"}


# -- images and listings ----------------------------------------------------------------------------------------------


def test_images_that_overlap_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(8192))
    with pytest.raises(InputError, match=r"Memory from 0x1000 is in .*/a and .*/b"):
        open_images([f"{tmp_path}/a@0", f"{tmp_path}/b@0x1000"])


def test_part_of_a_page_is_known_and_the_rest_is_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(struct.pack("<3Q", 1, 2, 3))
    memory = open_images([f"{tmp_path}/a@0x40000010"])
    assert [memory.read(0x4000_0008 + 8 * n) for n in range(5)] == [None, 1, 2, 3, None]
    memory.write(0x4000_0010, 9)
    assert (memory.read(0x4000_0010), (tmp_path / "a").read_bytes()[0]) == (9, 1)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\x7fELF\x02\x01\x01" + bytes(9), "no 64-bit"),
        (b"\x7fELF\x02\x01\x01" + bytes(47) + struct.pack("<2H", 56, 9) + bytes(20), "do not fit"),
        (b"\x7fELF\x01\x01\x01" + bytes(60), "no 64-bit"),
        (b"KDUMP   " + bytes(60), "kdump"),
        (b"just words\n", "no addresses"),
    ],
)
def test_what_is_no_image_is_said(content: bytes, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "image").write_bytes(content)
    assert main(["tables", "check", "--mem", str(tmp_path / "image"), "--registers", str(DATA / "armhost-nvme.registers.txt")]) == 3
    assert why in capsys.readouterr().err


def test_a_truncated_core_is_said(real: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "core").write_bytes(Path(real[0]).read_bytes()[:-4096])
    with pytest.raises(InputError, match="ends 4096 bytes beyond the file"):
        extents(str(tmp_path / "core"))


@pytest.mark.parametrize(
    ("listing", "why"),
    [
        ("CR0 = 0xd\n", "does not say STRTAB_BASE"),
        ("STRTAB_BASE = 0x40100000\nSTRTAB_BASE = 0x40200000\n", "0x40100000 and 0x40200000|0x100000"),
        ("IDR0 = 0\nIDR1 = 0\nIDR5 = 0\nSTRTAB_BASE = 0\nSTRTAB_BASE_CFG = 0\n", "are all zero"),
        ("CR0 = 0x1ffffffff\n", "CR0 can't be"),
        ("c000000: 0x00000001\nd000000: 0x00000001\n", "more than one SMMU"),
        ("STRTAB_BASE+4 = 0\nSTRTAB_BASE_CFG = 8\n", "one half of STRTAB_BASE"),
    ],
)
def test_listings_that_make_no_sense_are_said(listing: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_registers(listing, "listing")


def test_every_way_to_list_registers_reads_the_same() -> None:
    expected = {"CR0": 0xD, "STRTAB_BASE": 0x4000_0000_4121_3000, "STRTAB_BASE_CFG": 0x10210}
    for listing in (
        "CR0 = 0xd\nSMMU_STRTAB_BASE: 0x4000000041213000\nstrtab_base_cfg 66064\n",
        '{\n "CR0": 13,\n "STRTAB_BASE": "0x4000000041213000",\n "STRTAB_BASE_CFG": 66064\n}\n',
        "0c000020: 0x0000000d\n0c000080: 0x41213000 0x40000000 0x00010210\n",
        "000000000c000020: 0xd\nc000080: 0x4000000041213000\nc000088: 0x10210\n",
        "# devmem 0xc000020\n0x0000000D\n# devmem 0xc000080 64\n0x4000000041213000\n# devmem 0xc000088 32\n0x00010210\n",
        "/dev/mem opened.\nValue at address 0xC000020 (0xf): 0xD\nValue at address 0xC000080 (0xf): 0x4000000041213000\n0xc000088: 0x10210\n",
    ):
        found = read_registers(listing, "listing")
        assert {name: found.values[name] for name in expected} == expected, listing
        assert set(found.assumed) == {"IDR0", "IDR1", "IDR3", "IDR5", "AIDR", "CR2"}


@pytest.mark.qemu
def test_a_vmcore_and_a_listing_of_a_real_qemu(tmp_path: Path) -> None:
    """dump-guest-memory, pmemsave and xp of one stopped machine say the same words; xp reads ID registers word by word."""
    words = [
        "-machine", "virt,iommu=smmuv3", "-cpu", "cortex-a57", "-m", "64M", "-device", "loader,addr=0x40200000,data=0x1122334455667788,data-len=8",
        "-device", "loader,addr=0x43fffff8,data=0x99,data-len=8",
    ]  # fmt: skip
    listed, ids = asyncio.run(_asked(str(require_qemu()), words, tmp_path))
    (tmp_path / "listing").write_text(listed)
    for image in (f"{tmp_path}/core", f"{tmp_path}/raw@0x40000000"):
        memory = open_images([image])
        assert [memory.read(where) for where in (0x4020_0000, 0x4020_0008, 0x43FF_FFF8)] == [0x1122_3344_5566_7788, 0, 0x99]
    memory = open_images([f"{tmp_path}/listing"])
    assert [memory.read(where) for where in (0x4020_0000, 0x4020_0018, 0x4020_0020)] == [0x1122_3344_5566_7788, 0, None]
    found = read_registers(ids + "STRTAB_BASE = 0\nSTRTAB_BASE_CFG = 0\n", "xp")
    assert found.values["IDR0"] & 3 in (1, 2, 3)
    assert found.values["IDR5"] & 7 == 4


async def _asked(qemu: str, words: list[str], scratch: Path) -> tuple[str, str]:
    async with running(qemu, words, str(scratch)) as client:

        async def monitor(line: str) -> str:
            return str(await client.execute("human-monitor-command", {"command-line": line}))

        await client.execute("dump-guest-memory", {"paging": False, "protocol": f"file:{scratch}/core"})
        await client.execute("pmemsave", {"val": 0x4000_0000, "size": 64 << 20, "filename": f"{scratch}/raw"})
        ids = [await monitor(f"xp /1wx {0x905_0000 + offset:#x}") for offset in (0, 4, 0x14)]
        return await monitor("xp /4gx 0x40200000"), "".join(ids)
