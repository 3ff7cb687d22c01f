"""Two snapshots: of one host before and after something was done to it, and of two hosts. What was done is known from the capture."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tests.tools.hosts import FIXTURES, facts
from tests.tools.removals import one_less
from wizard.base.address import Address
from wizard.base.finding import REGISTRY, Kind, Severity
from wizard.facts.model import Facts, Group, Identity, Node, PciFunction
from wizard.fleet.diff import DiffView, diff
from wizard.fleet.diff.profiles import NamedRequest
from wizard.host.build import host_of
from wizard.plan.properties import Properties
from wizard.plan.request import FunctionRequest, Mode, VmRequest


def compare(a: Facts, b: Facts, *profiles: VmRequest) -> DiffView:
    return diff(host_of(a), host_of(b), ("a.json", "b.json"), [NamedRequest(f"{p.name}.toml", p) for p in profiles])


def codes(view: DiffView) -> set[tuple[str, str]]:
    return {(finding.code, finding.subject) for finding in view.findings}


def changed(view: DiffView, subject: str, field: str) -> tuple[Any, Any]:
    return next((c.before, c.after) for c in view.changes if (c.subject, c.field) == (subject, field))


def with_function(base: Facts, address: str, **values: Any) -> Facts:
    return replace(base, functions=tuple(replace(f, **values) if f.address == address else f for f in base.functions))


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_a_host_does_not_differ_from_itself(name: str) -> None:
    view = compare(facts(name), facts(name))
    assert view.changes == ()
    assert view.findings == ()


@pytest.mark.parametrize("name", ["arm64-virt-canwbs", "vfio-arm64-virt", "gb10"])
def test_what_one_side_did_not_read_is_neither_lost_nor_won(name: str) -> None:
    """Each of these has lost one fact: an error would say that something on the host became worse, and "could not" that it was known."""
    host = host_of(facts(name))
    removals = list(one_less(facts(name)))
    for label, less in random.Random(name).sample(removals, min(60, len(removals))):
        later = diff(host, host_of(less))
        assert not {f.code for f in later.findings if f.severity is Severity.ERROR}, label
        assert not {f.code for f in later.findings} & {"vfs-lost", "hugepages-lost", "function-behind-another-smmu", "firmware-changed"}, label
        won = [f.what for f in diff(host_of(less), host).findings if f.code == "verdict-won"]
        assert all("that was not known" in what for what in won), label


def test_what_was_not_read_is_named() -> None:
    base = facts("arm64-virt-canwbs")
    unlisted = replace(base, groups=tuple(replace(g, devices=()) if "0000:14:00.0" in g.devices else g for g in base.groups))
    assert ("fact-not-known", "0000:14:00.0") in codes(compare(base, unlisted))
    assert ("fact-not-known", "0000:11:00.0") in codes(compare(base, with_function(base, "0000:11:00.0", sriov_numvfs=None, virtfns=())))


def test_what_binding_to_vfio_changed() -> None:
    """The capture bound these functions to vfio-pci and removed the two VFs of 0000:11:00.0."""
    view = compare(facts("arm64-virt-canwbs"), facts("vfio-arm64-virt-canwbs"))
    assert changed(view, "0000:14:00.0", "driver") == ("nvme", "vfio-pci")
    assert changed(view, "0000:41:00.0", "driver") == ("e1000e", "vfio-pci")
    assert changed(view, "0000:11:00.0", "sriov_numvfs") == (2, 0)
    assert {c.subject for c in view.changes if c.area == "function" and c.what == "removed"} == {"0000:11:10.0", "0000:11:10.2"}
    assert codes(view) == {("vfs-lost", "0000:11:00.0")}
    assert not any(c.area == "kernel" for c in view.changes)


def test_what_a_reboot_loses() -> None:
    """Problem 36, seen from the other side: bound before, and back on the host's drivers after."""
    view = compare(facts("vfio-arm64-virt-canwbs"), facts("arm64-virt-canwbs"))
    lost = {subject for code, subject in codes(view) if code == "driver-override-lost"}
    assert lost == {"0000:11:00.0", "0000:14:00.0", "0000:41:00.0", "0000:42:00.0", "0000:81:00.0", "0000:81:00.1", "0000:83:01.0"}


def test_firmware_without_canwbs_costs_every_verdict() -> None:
    """The two captures differ in one IORT flag; the kernel then refused each vIOMMU."""
    view = compare(facts("arm64-virt-canwbs"), facts("arm64-virt"))
    lost = {subject for code, subject in codes(view) if code == "verdict-lost"}
    assert lost == {"0000:11:00.0", "0000:11:10.0", "0000:11:10.2", "0000:14:00.0", "0000:41:00.0", "0000:42:00.0"}
    assert changed(view, "0000:14:00.0", "canwbs") == (True, False)
    assert changed(view, "0000:14:00.0", "accel") == ("yes", "no")
    assert ("verdict-won", "0000:14:00.0") in codes(compare(facts("arm64-virt"), facts("arm64-virt-canwbs")))


def test_a_merged_group_is_named_with_who_joined_it() -> None:
    """Problem 28: after an update two functions that were alone share a group."""
    base = facts("arm64-virt-canwbs")
    one = next(f.iommu_group for f in base.functions if f.address == "0000:14:00.0")
    other = next(f.iommu_group for f in base.functions if f.address == "0000:41:00.0")
    merged = with_function(base, "0000:41:00.0", iommu_group=one)
    groups = tuple(
        Group(id=g.id, type=g.type, devices=(*g.devices, "0000:41:00.0"), reserved_regions=g.reserved_regions) if g.id == one else g
        for g in base.groups
        if g.id != other
    )
    view = compare(base, replace(merged, groups=groups))
    finding = next(f for f in view.findings if f.code == "group-changed" and f.subject == "0000:14:00.0")
    assert "alone in its IOMMU group" in finding.what
    assert "with 0000:41:00.0" in finding.what
    assert ("verdict-lost", "0000:14:00.0") in codes(view)
    assert "group-split" in {f.code for f in compare(replace(merged, groups=groups), base).findings}


def test_group_numbers_alone_matter_to_nobody() -> None:
    base = facts("arm64-virt-canwbs")
    moved = replace(
        base,
        groups=tuple(replace(g, id=g.id + 100) for g in base.groups),
        functions=tuple(replace(f, iommu_group=f.iommu_group + 100) if f.iommu_group is not None else f for f in base.functions),
    )
    view = compare(base, moved)
    assert view.findings == ()
    assert {c.field for c in view.changes} == {"id"}


def renumbered(base: Facts, old: str, new: str) -> Facts:
    """Every address of bus ``old`` on bus ``new``, as after a card was put in further up."""

    def moved(text: str) -> str:
        return text.replace(f":{old}:", f":{new}:")

    def function(f: PciFunction) -> PciFunction:
        address = moved(f.address)
        return replace(f, address=str(Address.parse(address)), path=moved(f.path), virtfns=tuple(map(moved, f.virtfns)))

    return replace(
        base,
        functions=tuple(map(function, base.functions)),
        iommus=tuple(replace(i, members=tuple(map(moved, i.members))) for i in base.iommus),
        groups=tuple(replace(g, devices=tuple(map(moved, g.devices))) for g in base.groups),
    )


def test_a_function_at_another_bus_number_is_the_same_function() -> None:
    base = facts("vfio-arm64-virt-canwbs")
    view = compare(base, renumbered(base, "14", "17"))
    assert ("function-moved", "0000:17:00.0") in codes(view)
    assert not {code for code, _ in codes(view)} & {"function-gone", "verdict-lost", "group-changed"}


def cards(*there: tuple[str, str, str | None]) -> Facts:
    """The recorded host with network cards of one kind: address, slot on root bus 40 (device number), serial number."""
    base = facts("arm64-virt-canwbs")
    one = next(f for f in base.functions if f.address == "0000:41:00.0")
    rest = tuple(f for f in base.functions if f.address not in ("0000:41:00.0", "0000:42:00.0"))
    made = tuple(
        replace(one, address=address, path=f"pci0000:40/0000:40:{slot}.0/{address}", serial_number=serial, iommu_group=200 + number)
        for number, (address, slot, serial) in enumerate(there)
    )
    groups = tuple(g for g in base.groups if not {"0000:41:00.0", "0000:42:00.0"} & set(g.devices))
    new = tuple(Group(id=f.iommu_group or 0, type="DMA-FQ", devices=(f.address,), reserved_regions=None) for f in made)
    return replace(base, functions=(*rest, *made), groups=(*groups, *new), identity=replace(base.identity, host="h1"))


def moved_to(view: DiffView) -> dict[Any, Any]:
    return {change.before: change.subject for change in view.changes if change.what == "moved"}


@pytest.mark.parametrize("serials", [("s-1", "s-2", "s-3"), (None, None, None)])
def test_twins_that_moved_up_by_one_bus_are_not_taken_for_each_other(serials: tuple[str | None, ...]) -> None:
    """A third card of the same kind was put in further up: each of the old ones has a new address, and one of them that of the other."""
    before = cards(("0000:41:00.0", "01", serials[0]), ("0000:42:00.0", "02", serials[1]))
    after = cards(("0000:41:00.0", "00", serials[2]), ("0000:42:00.0", "01", serials[0]), ("0000:43:00.0", "02", serials[1]))
    view = compare(before, after)
    assert moved_to(view) == {"0000:41:00.0": "0000:42:00.0", "0000:42:00.0": "0000:43:00.0"}
    assert {c.subject for c in view.changes if c.what == "added" and c.area == "function"} == {"0000:41:00.0"}
    assert "group-changed" not in {code for code, _ in codes(view)}
    back = compare(after, before)
    assert {subject for code, subject in codes(back) if code == "function-gone"} == {"0000:41:00.0"}


def test_twins_that_changed_their_slots() -> None:
    before = cards(("0000:41:00.0", "00", "s-1"), ("0000:42:00.0", "01", "s-2"))
    after = cards(("0000:41:00.0", "00", "s-2"), ("0000:42:00.0", "01", "s-1"))
    assert moved_to(compare(before, after)) == {"0000:41:00.0": "0000:42:00.0", "0000:42:00.0": "0000:41:00.0"}


def test_a_card_that_was_replaced_by_its_like_is_another_card() -> None:
    """Another serial number where others still hold; between two hosts, and between a redacted and a plain record, none holds."""
    before = cards(("0000:41:00.0", "00", "s-1"), ("0000:42:00.0", "01", "s-2"))
    after = cards(("0000:41:00.0", "00", "s-9"), ("0000:42:00.0", "01", "s-2"))
    view = compare(before, after)
    assert ("function-gone", "0000:41:00.0") in codes(view)
    plain = cards(("0000:41:00.0", "00", "plain-1"), ("0000:42:00.0", "01", "plain-2"))
    other = replace(plain, functions=tuple(replace(f, serial_number=f"x-{f.address}") if f.serial_number else f for f in plain.functions))
    assert not any(c.what in ("added", "removed", "moved") for c in compare(before, other).changes)


def test_hugepages_that_are_gone() -> None:
    base = facts("arm64-virt-canwbs")
    node = Node(id=0, cpus="0-3", memory=1 << 32, hugepages={"2048": 512, "1048576": 2})
    view = compare(replace(base, nodes=(node,)), replace(base, nodes=(replace(node, hugepages={"2048": 512, "1048576": 0}),)))
    found = [f for f in view.findings if f.code == "hugepages-lost"]
    assert [(f.subject, "2 hugepages of 1 GiB" in f.what) for f in found] == [("0", True)]


def test_kernel_page_size_and_firmware() -> None:
    base = facts("arm64-virt-canwbs")
    after = replace(
        base,
        kernel=replace(base.kernel, release="7.3.0", page_size=65536),
        identity=replace(base.identity, firmware="another"),
    )
    expected = {"kernel-changed", "kernel-update-changes", "page-size-changed", "firmware-changed", "guest-commands-check-won"}
    assert {code for code, _ in codes(compare(base, after))} == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("7.2.13", "7.3.4", "guest-commands-check-won"),
        ("7.3.4", "7.2.13", "guest-commands-check-lost"),
        ("7.3.4", "7.3.5-rc1", None),
        ("7.3.4", "", "guest-commands-check-lost"),
        ("", "7.3.4", None),
        ("7.2.13", "7.3.0-rc1", None),
        ("6.18.0", "7.2.13", None),
    ],
)
def test_an_update_that_changes_how_a_guests_commands_are_checked(before: str, after: str, expected: str | None) -> None:
    base = facts("arm64-virt-canwbs")
    old, new = (replace(base, kernel=replace(base.kernel, release=release)) for release in (before, after))
    assert {code for code, _ in codes(compare(old, new)) if code.startswith("guest-commands")} == ({expected} if expected else set())


def test_what_the_log_says_since() -> None:
    """A CMD_SYNC timeout after an update, and the other way round; the faults that both have are no news, however often they were."""
    before = facts("arm64-virt-canwbs")
    line = "[  900.1] arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x0000001f [hwprod 0x00000023, hwcons 0x0000001e]"
    after = replace(before, moment=replace(before.moment, log=(*before.moment.log, *before.moment.log, line)))
    found = [(finding.code, finding.subject) for finding in compare(before, after).findings]
    assert found == [("log-says-more", "smmu3.0x000000000c000000")]
    [more] = compare(before, after).findings
    assert more.severity is Severity.ERROR
    assert "CMD_SYNC timeout" in more.what
    assert [(finding.code, finding.subject) for finding in compare(after, before).findings] == [("log-says-less", "smmu3.0x000000000c000000")]
    unread = replace(before, log=(), moment=replace(before.moment, log=()))
    assert not {finding.code for finding in compare(unread, after).findings} & {"log-says-more", "log-says-less"}


def test_two_hosts_have_lost_nothing_at_a_reboot() -> None:
    one = replace(facts("vfio-arm64-virt-canwbs"), identity=Identity(host="host-1"))
    other = replace(facts("arm64-virt-canwbs"), identity=Identity(host="host-2"))
    view = compare(one, other)
    assert view.same_host is False
    assert view.findings == ()
    assert changed(view, "0000:14:00.0", "driver") == ("vfio-pci", "nvme")


def test_hosts_that_have_nothing_in_common() -> None:
    view = compare(facts("grace-1s"), facts("x86-intel"))
    assert view.same_host is False
    assert ("host", "machine", "aarch64", "x86_64") in {(c.subject, c.field, c.before, c.after) for c in view.changes}


def test_a_profile_that_no_longer_holds() -> None:
    """Planned with CANWBS, refused without: the profile's errors are the planner's."""
    vm = VmRequest(
        name="web", functions=(FunctionRequest(host="0000:14:00.0"),), properties=Properties(ats="off", ril="on", ssidsize=0, oas=44, cmdqv="off")
    )
    plain = VmRequest(name="plain", functions=(FunctionRequest(host="0000:42:00.0"),), mode=Mode.NONE)
    view = compare(facts("vfio-arm64-virt-canwbs"), facts("vfio-arm64-virt"), vm, plain)
    assert [(p.vm, p.before, p.after) for p in view.profiles] == [("web", True, False), ("plain", True, True)]
    assert {f.code for f in view.profiles[0].new} >= {"accel-refused"}
    broken = next(f for f in view.findings if f.code == "profile-broken")
    assert broken.subject == "web.toml"
    assert "0000:14:00.0" in broken.why


def test_every_code_of_this_room_is_of_kind_diff_and_complete() -> None:
    from wizard.fleet.diff import profiles, rules

    for room in (rules, profiles):
        for value in vars(room).values():
            if type(value).__name__ == "Definition":
                assert REGISTRY[value.code].kind is Kind.DIFF
                assert all(text.endswith((".", "}")) for text in (value.what, value.why, value.fix)), value.code


@pytest.mark.parametrize("pair", [("grace-cmdqv", "gb200"), ("altra-ava", "altra-no-cohacc"), ("kunpeng-920", "thunderx2")])
def test_any_two_hosts_can_be_compared(pair: tuple[str, str]) -> None:
    view = compare(facts(pair[0]), facts(pair[1]))
    back = compare(facts(pair[1]), facts(pair[0]))
    count: Callable[[DiffView, str], int] = lambda v, what: sum(c.what == what for c in v.changes)  # noqa: E731
    assert count(view, "added") == count(back, "removed")
    assert count(view, "moved") == count(back, "moved")


def test_new_firmware_of_a_host_with_a_device_tree_brought_no_iort() -> None:
    for name, word, other in (("arm64-dt", "device tree", "IORT"), ("arm64-virt", "IORT", "device tree")):
        old, new = (replace(facts(name), identity=replace(facts(name).identity, firmware=f"U-Boot {version}")) for version in ("2026.01", "2026.07"))
        [found] = [finding for finding in compare(old, new).findings if finding.code == "firmware-changed"]
        assert word in found.why
        assert other not in found.why
