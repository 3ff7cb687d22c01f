"""The host's map on the first screen, marks and folded VFs."""

from __future__ import annotations

from msgspec.structs import replace

from tests.tools.hosts import NVME, PF, SMMU1, VF0, VF1, changed
from tests.tui.conftest import app, cursor_to, press, settle, shown, shows
from wizard.facts.model import Facts
from wizard.host.model import Host
from wizard.tui import state
from wizard.tui.screens.host import HostScreen
from wizard.tui.screens.topology import TopologyScreen
from wizard.tui.wizard import Wizard


async def test_the_map_is_seen_first_where_there_is_room_and_a_key_away_elsewhere() -> None:
    for size, first in (((120, 40), True), ((200, 60), True), ((80, 24), False)):
        wizard = app()
        async with wizard.run_test(size=size) as pilot:
            await settle(pilot)
            text = shown(pilot)
            assert ("granules" in text) is first, size
            assert "0000:14:00.0" in text  # the tree is there all the same
            await press(pilot, "m")
            assert "4,16,64" in shown(pilot)  # its GRAN bits: see tests/picture/test_hostmap.py
            assert ("0000:14:00.0" in shown(pilot).split("granules")[1]) is first
            await press(pilot, "m")
            assert "0000:14:00.0" in shown(pilot)


def at(screen: HostScreen) -> object:
    """What the cursor of the map is on."""
    return screen.map.cursor


async def test_enter_on_a_cell_says_what_and_where_from() -> None:
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "m")
        screen = wizard.screen
        assert isinstance(screen, HostScreen)
        assert at(screen) == ("smmu", SMMU1)
        await press(pilot, "right", "right")
        assert at(screen) == ("cell", SMMU1, "s2fwb")
        assert screen.subject == SMMU1
        await press(pilot, "enter")
        text = await shows(pilot, "s2fwb of smmu3.0x000000000c000000", "known from")
        # IDR3.FWB is clear in the capture's registers, and bit 21 (S2FWB) in the mask of its log, which this kernel writes there.
        assert "no, as this kernel uses it" in text
        await press(pilot, "escape", "down", "enter")
        assert "s2fwb of smmu3.0x000000000c020000" in shown(pilot)


async def test_functions_of_the_map_are_given_and_carry_the_letter() -> None:
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await press(pilot, "m")
        screen = wizard.screen
        assert isinstance(screen, HostScreen)
        assert screen.map.go_to(("run", SMMU1, (NVME,)))
        await press(pilot, "a", "enter", "enter")
        await settle(pilot)
        assert [function.host for function in wizard.session.vms[0].functions] == [NVME]
        assert "✔✔✔A" in await shows(pilot, "A vm1")
        assert ("node", "0") in {spot.key for row in screen.map._spots for spot in row}
        await press(pilot, "u")
        assert "A vm1" not in shown(pilot)


def with_vfs(count: int) -> Host:
    """The recorded host with so many VFs of its PF, on the VFs' own bus and with a group each, as a card makes them."""

    def more(old: Facts) -> Facts:
        vf = next(f for f in old.functions if f.address == VF0)
        known = {f.address for f in old.functions}
        places = [f"0000:11:{0x10 + number // 8:02x}.{number % 8}" for number in range(count)]
        new = tuple(
            replace(vf, address=place, path=vf.path.replace(VF0, place), iommu_group=500 + number)
            for number, place in enumerate(places)
            if place not in known
        )
        return replace(old, functions=(*old.functions, *new))

    return changed(more)


async def test_many_vfs_are_one_line_that_counts_what_was_given() -> None:
    wizard = app()
    wizard.index = type(wizard.index)(with_vfs(63))
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        text = await shows(pilot, "63 VFs")
        assert VF0 not in text
        screen = wizard.screen
        assert isinstance(screen, HostScreen)
        await cursor_to(pilot, VF1)  # by the filter, which finds what is folded
        await press(pilot, "space", "escape")
        assert screen.table.marked == {VF1}
        assert "1 marked" in shown(pilot).splitlines()[1]
        assert "63 VFs, 1 marked" in shown(pilot)
        await press(pilot, "a", "enter", "enter")
        await settle(pilot)
        assert "63 VFs, 1 given" in shown(pilot)
        # A jump from elsewhere unfolds them.
        assert screen.table.go_to(VF0)
        await press(pilot)
        assert VF0 in shown(pilot)


async def test_a_range_is_marked_from_the_last_mark_to_here() -> None:
    wizard: Wizard = app()
    async with wizard.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        screen = wizard.screen
        assert isinstance(screen, HostScreen)
        table = screen.table
        table.go_to(PF)
        await press(pilot, "space")
        table.go_to(NVME)
        await press(pilot, "M")
        # What lies between in the tree, without the bridge: in the order of lspci.
        assert table.marked == {PF, VF0, VF1, NVME}
        assert "4 marked" in shown(pilot)
        table.go_to(VF0)
        await press(pilot, "space")
        assert "3 marked" in shown(pilot)
        await press(pilot, "escape")
        assert "marked" not in shown(pilot)


async def test_a_function_moves_from_vm_to_vm_in_the_topology_as_one_step() -> None:
    wizard = app()
    async with wizard.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        for name, address in (("web", NVME), ("db", VF0)):
            wizard.do(f"give {address}", state.assign(state.add_vm(wizard.session, name), name, [address]))
        await press(pilot, "5")
        first, second = "web", "db"
        screen = wizard.screen
        assert isinstance(screen, TopologyScreen)
        assert "1 SMMU shared" in shown(pilot)
        assert screen.all.go_to(("function", NVME, first))
        steps = len(wizard.history.past)
        await press(pilot, "a", "enter")  # the other VM is meant first
        await settle(pilot)
        assert wizard.session.owner(NVME) == second
        assert len(wizard.history.past) == steps + 1
        assert "no SMMU shared" in shown(pilot)
        await press(pilot, "u")
        assert wizard.session.owner(NVME) == first
        # A VM opens its own PCI tree, and the same key goes back.
        assert screen.all.go_to(("vm", second))
        await press(pilot, "enter")
        assert wizard.session.current == second
        assert "pcie.0" in shown(pilot)
        assert first not in shown(pilot).split("host ✔")[0]
        await press(pilot, "t")
        assert "1 SMMU shared" in shown(pilot)
        assert "topology" in wizard.screen.command()  # type: ignore[attr-defined]
