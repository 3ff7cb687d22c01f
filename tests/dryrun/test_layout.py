"""What a layout makes of a plan and its host: memory without a gap, BARs that meet nothing, and each function as the host has it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from msgspec.structs import replace

from tests.dryrun.plans import NIC, NVME, SECOND_VF, VF, plan, two_vms, vm
from tests.tools.hosts import PAIR, PF, changed, host, regions, with_function
from wizard.dryrun import lay_out
from wizard.dryrun.layout import BROKEN_PAGES, GUEST_RAM, HOST_RAM, Layout
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.request import HotplugRequest, Mode, Request

MIB, GIB = 1 << 20, 1 << 30


def on_pages(page: int) -> Host:
    return changed(lambda f: replace(f, kernel=replace(f.kernel, page_size=page)))


def with_memory(size: int, hugepages: int | None = None) -> Plan:
    """Both VMs with so much."""
    good = two_vms()
    return replace(good, vms=tuple(replace(one, memory=replace(one.memory, size=size, hugepages=hugepages)) for one in good.vms))


@pytest.mark.parametrize("page", [4096, 16384, 65536])
@pytest.mark.parametrize("size", [16 * MIB, 65 * MIB, GIB, 3 * GIB + 2 * MIB, 40 * GIB])
@pytest.mark.parametrize("hugepages", [None, 2 * MIB, 32 * MIB])
def test_memory_is_there_once_and_nobody_elses(page: int, size: int, hugepages: int | None) -> None:
    made = lay_out(with_memory(size, hugepages), on_pages(page))
    assert made.findings == ()
    for one in made.vms:
        ordered = sorted(one.chunks, key=lambda chunk: chunk.ipa)
        assert (ordered[0].ipa, ordered[-1].ipa + ordered[-1].size) == (GUEST_RAM, GUEST_RAM + size)
        assert all(before.ipa + before.size == after.ipa for before, after in pairwise(ordered))
        assert all(chunk.size > 0 and chunk.ipa % page == chunk.pa % page == 0 for chunk in ordered)
        if hugepages:
            assert all(chunk.ipa % hugepages == chunk.pa % hugepages == 0 for chunk in ordered)
        else:  # stage 2 has leaves of pages too: the first ones lie backwards
            first = ordered[: min(BROKEN_PAGES, size // page)]
            assert {chunk.size for chunk in first} == {page}
            assert all(before.pa - page == after.pa for before, after in pairwise(first))
        assert (one.pa(GUEST_RAM), one.pa(GUEST_RAM - 1), one.pa(one.top)) == (ordered[0].pa, None, None)
    held = sorted((chunk.pa, chunk.pa + chunk.size) for one in made.vms for chunk in one.chunks)
    assert held[0][0] >= HOST_RAM
    assert all(before[1] <= after[0] for before, after in pairwise(held))


@pytest.mark.parametrize(
    ("size", "page", "hugepages", "fits"),
    [
        (16 * MIB, 4096, None, True), (16 * MIB - 4096, 4096, None, False), (GIB + 4096, 4096, None, True), (GIB + 4096, 65536, None, False),
        (GIB, 4096, 4096, True), (GIB, 65536, 4096, False), (GIB, 4096, 3 * MIB, False), (-GIB, 4096, None, False),
    ],
)  # fmt: skip
def test_memory_that_can_be_and_memory_that_can_not(size: int, page: int, hugepages: int | None, fits: bool) -> None:
    assert (lay_out(with_memory(size, hugepages), on_pages(page)).findings == ()) is fits


def bars(made: Layout) -> list[tuple[str | None, int, int, int]]:
    return [(function.vm, bar.ipa, bar.pa, bar.size) for function in made.functions for bar in function.bars]


def test_bars_meet_neither_each_other_nor_memory() -> None:
    """Each has a page of the host to itself, at a multiple of its size, in its guest's window; on the host all are above all memory."""
    free = (HotplugRequest(functions=(SECOND_VF,)),)
    wanted = plan(replace(vm("web", NVME, NIC), hotplug=free), vm("db", VF))
    made = lay_out(wanted, on_pages(65536))
    found = bars(made)
    assert len(found) >= 4
    assert {name for name, *_ in found} == {"web", "db"}
    top = max(chunk.pa + chunk.size for one in made.vms for chunk in one.chunks)
    for name, ipa, pa, size in found:
        start, length = made.vm(name or "").window
        assert size >= 65536
        assert ipa % size == pa % size == 0
        assert start <= ipa
        assert ipa + size <= start + length
        assert pa >= top
    of_guests = [[(ipa, ipa + size) for name, ipa, _, size in found if name == guest] for guest in ("web", "db")]
    for places in ([(pa, pa + size) for _, _, pa, size in found], *of_guests):
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(places)))


def test_each_function_is_as_the_host_has_it() -> None:
    """By the recording: who is alone in its group, has a direct region, which StreamID."""
    made = lay_out(plan(vm("w", *PAIR, mode=Mode.NONE), vm("n", NVME)), host())
    seen = {one.address: one for one in made.functions}
    assert {address: (one.streams, one.group, one.redirect, one.direct) for address, one in seen.items()} == {
        PAIR[0]: ((0x8100,), 11, False, False),  # the two have no ACS between them
        PAIR[1]: ((0x8101,), 11, False, False),
        NVME: ((0x1400,), 3, True, False),
    }
    direct = lay_out(plan(vm("n", NVME)), regions(NVME, "\n0x0000000050000000 0x00000000500fffff direct"))
    assert [one.direct for one in direct.functions] == [True]
    relaxable = lay_out(plan(vm("n", NVME)), regions(NVME, "\n0x0000000050000000 0x00000000500fffff direct-relaxable"))
    assert [one.direct for one in relaxable.functions] == [False]


def test_who_shares_the_group_and_is_not_given_away_is_there_too() -> None:
    made = lay_out(plan(vm("w", PAIR[0], mode=Mode.NONE)), host())
    assert [(one.address, one.vm) for one in made.functions] == [(PAIR[0], "w"), (PAIR[1], None)]


def test_a_vf_that_is_still_to_be_made_has_the_streamid_that_the_kernel_gave_it_elsewhere() -> None:
    """The other recording of this host has both VFs, with their StreamIDs in IORT's order."""
    before = with_function(PF, name="vfio-arm64-virt-canwbs", driver="igb")
    made = make_plan(before, Request(vms=(vm("w", VF, SECOND_VF),)))
    assert all(device.to_make for device in made.vms[0].devices)
    seen = lay_out(made, before)
    assert [one.streams for one in seen.functions] == [host().functions[address].stream_ids for address in (VF, SECOND_VF)]
    assert len({one.group for one in seen.functions}) == 2  # of their own, whatever the number
    assert [text for text in seen.assumptions if "still to be made" in text] == [
        f"{address} is a VF that is still to be made: its StreamID and group are predictions." for address in (VF, SECOND_VF)
    ]
