"""The host's picture against what the captures themselves say: register words, log lines, sysfs."""

import re

from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, PAIR, SMMU1, SMMU2, SMMU3, VF0, changed, facts, host, plan, two_nodes, vm
from wizard.base.glyphs import ASCII, UNICODE
from wizard.facts.model import InUse
from wizard.host.model import Accel
from wizard.picture import hosttext
from wizard.picture.hostmap import CAPABILITIES, HostMap, State, host_map
from wizard.picture.pieces import plain, row_width
from wizard.plan.request import NodeRequest

GIB = 1 << 30


def states(picture: HostMap, name: str) -> dict[str, tuple[State, str]]:
    return {cell.name: (cell.state, cell.value) for cell in picture.row(name).cells}


def test_capabilities_are_those_of_the_capture() -> None:
    picture = host_map(host())
    raw = bytes.fromhex(next(info.data for info in facts("arm64-virt-canwbs").hw_info if info.data))
    word = {number: int.from_bytes(raw[8 + 4 * number : 12 + 4 * number], "little") for number in range(6)}
    found = states(picture, SMMU1)

    def bit(register: int, place: int) -> State:  # IHI 0070 H.a, 6.3.1 to 6.3.6
        return State.YES if word[register] >> place & 1 else State.NO

    assert found["ril"][0] is bit(3, 10)
    assert found["s2fwb"][0] is bit(3, 8)
    assert found["ats"][0] is bit(0, 10)
    assert found["nesting"][0] is (State.YES if word[0] & 3 == 3 else State.NO)
    assert found["ssidsize"][1] == str(word[1] >> 6 & 0x1F)
    assert found["granules"][1] == ",".join(size for size, place in (("4", 4), ("16", 5), ("64", 6)) if word[5] >> place & 1)
    logged = next(re.search(r"oas (\d+)-bit", line) for line in facts("arm64-virt-canwbs").log if "oas" in line)
    assert logged is not None
    assert found["oas"] == (State.YES, logged[1])


def test_what_nobody_measured_is_no_yes_and_what_nobody_read_no_no() -> None:
    grace = host_map(host("gb200"))
    made_up = {assumption.path for assumption in facts("gb200").assumptions}
    # The log's mask of this host was published; which of its bits this SMMU has was not.
    assert made_up
    assert all(cell.state in (State.ASSUMED, State.UNKNOWN) for one in grace.rows for cell in one.cells)
    kunpeng = states(host_map(host("kunpeng-920")), "smmu3.0x0000000148000000")
    # features 0x00000fef of its log: bit 4 (ATS) is not set of the first eight in 0xef, and nobody asked for registers.
    assert kunpeng["granules"][0] is State.UNKNOWN
    assert kunpeng["ssidsize"][0] is State.UNKNOWN
    signs = {hosttext.cell_text(cell, UNICODE) for one in grace.rows for cell in one.cells if cell.state is State.ASSUMED}
    assert all(sign.endswith("*") for sign in signs)
    assert host_map(host("lx2160a")).rows[0].cells == ()  # an SMMUv2: no column is a matter of it, so none says no


def test_functions_stand_below_the_smmu_that_sysfs_names() -> None:
    used = changed(in_use=(InUse(address=E1000E, kind="mount", detail="/"),))
    picture = host_map(used, plan(vm(NVME, name="web"), vm(VF0, name="db"), on=used).vms)
    linked = {f.address: f.iommu for f in facts("arm64-virt-canwbs").functions}
    for one in picture.rows:
        assert one.marks
        assert {linked[mark.address] for mark in one.marks} == {one.name}
    marks = {mark.address: mark for one in picture.rows for mark in one.marks}
    assert (marks[NVME].vm, marks[VF0].vm, marks[E1000E].vm) == ("web", "db", None)
    assert marks[E1000E].in_use
    assert marks[PAIR[0]].verdict is Accel.NO
    assert picture.row(SMMU1).vms == ("web", "db") or picture.row(SMMU1).vms == ("db", "web")
    text = plain(hosttext.draw(picture, 118, UNICODE))
    assert "h" in next(line for line in text.splitlines() if line.startswith(SMMU2)).split()[-1]


def test_memory_is_banded_by_the_node_that_it_is_bound_to() -> None:
    two = two_nodes(64 * GIB)
    bound = vm(NVME, name="web", memory=80 * GIB, numa=(NodeRequest(memory=80 * GIB, cpus="0-1", host_node=1),))
    spread = vm(E1000E, name="db", memory=4 * GIB, numa=())
    picture = host_map(two, plan(bound, spread, on=two).vms)
    by_node = {band.node: band for band in picture.bands}
    assert by_node[1].given == (("web", 80 * GIB),)
    assert by_node[1].left == -16 * GIB
    assert by_node[0].given == ()
    assert picture.placeless == (("db", 4 * GIB),)
    assert by_node[1].cpus == 8
    assert "more promised than there is" in plain(hosttext.bands(picture, 118, UNICODE))
    # The figures of nodes that sysfs did not show are not zero.
    assert host_map(host("kunpeng-920")).bands[1].memory is None
    assert sum(node.memory == 0 and not node.cpus for node in facts("gb200").nodes) == host_map(host("gb200")).empty_nodes


def test_a_strip_folds_before_it_is_cut_and_no_row_is_wider_than_the_screen() -> None:
    picture = host_map(host("kunpeng-920"), verdict=lambda address: Accel.UNKNOWN)
    most = max(picture.rows, key=lambda one: len(one.marks))
    strip = hosttext.strip(most.name, most.marks, {}, 30, UNICODE)
    assert f"×{len(most.marks)}" in plain([strip])
    # Neighbours that differ: one sign for each kind, with how many.
    mixed = tuple(replace(mark, verdict=Accel.YES if number % 2 else Accel.NO) for number, mark in enumerate(most.marks))
    even = (len(mixed) + 1) // 2
    assert plain([hosttext.strip("", mixed, {}, 30, UNICODE)]) == f"✘×{even} ✔×{len(mixed) - even}"
    for name in ("kunpeng-920", "gb200", "grace-cmdqv", "x86-intel", "raspberry-pi-5", "arm64-virt"):
        for width in (40, 78, 118, 198):
            for signs in (UNICODE, ASCII):
                drawn = hosttext.draw(host_map(host(name)), width, signs)
                assert all(row_width(one) <= max(width, 70) for one in drawn), (name, width)
    assert plain(hosttext.draw(host_map(host()), 118, ASCII)).isascii()


def test_every_column_has_a_cell_with_a_source() -> None:
    picture = host_map(host())
    for one in picture.rows:
        assert tuple(cell.name for cell in one.cells) == CAPABILITIES
        assert all(cell.sources and cell.parts for cell in one.cells)
    assert picture.row(SMMU3).cells
