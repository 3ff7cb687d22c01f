"""One machine-id, several machines: what a snapshot says of which machine it is of, redacted or not."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound, renumbered_parts, unnumbered, write
from wizard.facts.model import Facts
from wizard.facts.record import from_tree
from wizard.facts.redact import for_writing
from wizard.facts.snapshot import decode, encode
from wizard.facts.source import Source, SourceKind, secrets_for
from wizard.facts.tree import DirectoryTree
from wizard.fleet.baseline import conclude, part_of_fleet
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.diff import diff
from wizard.fleet.gather import find, gather
from wizard.host.build import host_of

EARLY, LATE = "2026-06-01T00:00:00Z", "2026-06-02T00:00:00Z"


def made(machine: str | None = None, parts: str | None = "a", product: str = "QEMU Virtual Machine", **values: object) -> Facts:
    base = bound("h1", **values)
    base = unnumbered(base) if parts is None else renumbered_parts(base, parts)
    return replace(base, identity=replace(base.identity, machine=machine, product=product))


SHARED, DUPLICATE, UNSURE = "fleet-shared-machine-id", "fleet-duplicate-host", "fleet-same-host-unsure"
CASES: dict[str, tuple[tuple[Facts, ...], int, set[str]]] = {
    # (snapshots, hosts that are counted, findings)
    "told by the firmware": ((made("m1"), made("m2", oas=48)), 2, {SHARED}),
    "told by the firmware, all its cards exchanged": ((made("m1", "a", time=EARLY), made("m1", "b", time=LATE)), 1, {DUPLICATE}),
    "told by the cards": ((made(parts="a", time=EARLY), made(parts="b", time=LATE, oas=48)), 2, {SHARED}),
    "the cards are the same": ((made(time=EARLY), made(time=LATE, oas=48)), 1, {DUPLICATE}),
    "recorded by an older program, then by this one": ((made(time=EARLY), made("m1", time=LATE, oas=48)), 1, {DUPLICATE}),
    "told by the model": ((made(parts=None), made(parts=None, product="R2")), 2, {SHARED}),
    "three of them, two of one": ((made("m1", time=EARLY), made("m1", time=LATE), made("m2", "b")), 2, {SHARED, DUPLICATE}),
    "nothing tells, and they differ": ((made(parts=None, time=EARLY), made(parts=None, time=LATE, oas=48)), 2, {UNSURE}),
    "nothing tells, and they do not differ": ((made(parts=None, time=EARLY), made(parts=None, time=LATE)), 1, {DUPLICATE}),
    "one machine, and no order in time": ((made(), made(oas=48)), 2, {UNSURE}),
    "a time that is none": ((made(time="yesterday"), made(time=LATE, oas=48)), 2, {UNSURE}),
    "times of two zones": ((made(time="2026-06-01T02:00:00+02:00", oas=48), made(time="2026-06-01T01:00:00Z")), 1, {DUPLICATE}),
    "a plain one after a redacted one": ((made("m1", "a", time=EARLY), replace(made("m1", "b", time=LATE), redacted=False)), 1, {DUPLICATE}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_machine_id(name: str, tmp_path: Path) -> None:
    snapshots, hosts, codes = CASES[name]
    write(tmp_path, {f"s{number}": facts for number, facts in enumerate(snapshots)})
    fleet = gather(find([str(tmp_path)]))
    assert len(fleet.entries) == hosts
    assert {finding.code for finding in fleet.findings} == codes
    for facts in snapshots[1:2]:
        same = diff(host_of(snapshots[0]), host_of(facts), ("a", "b"), []).same_host
        assert same is not (hosts > 1 and "fleet-shared-machine-id" in codes and len(snapshots) == 2)


def test_machines_from_one_image_all_have_a_say(tmp_path: Path) -> None:
    """The one that can't is not hidden behind one that can, whichever was recorded later."""
    refused = renumbered_parts(replace(bound("h1", time=EARLY), acpi={}, hw_info=(), log=()), "b")
    write(tmp_path, {"able": made(time=LATE), "not": refused})
    fleet = gather(find([str(tmp_path)]))
    view = conclude(part_of_fleet(fleet, DeviceKind()), DeviceKind(), findings=fleet.findings)
    assert (view.hosts, view.baseline) == (2, None)
    assert [Path(name).stem for unable in view.unable for name in unable.hosts.names] == ["not"]


def recorded(root: Path, **numbers: str) -> Facts:
    """A redacted record of a machine made from the image, through a file."""
    dmi = root / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (dmi / "product_name").write_text("Model\n")
    for name, number in numbers.items():
        (dmi / name).write_text(number + "\n")
    facts, _ = for_writing(from_tree(DirectoryTree(str(root))), secrets_for(Source(SourceKind.ROOT, str(root))))
    return decode(encode(facts), "snapshot")


def test_what_the_firmware_says_is_in_a_redacted_snapshot(tmp_path: Path) -> None:
    one = recorded(tmp_path / "1", product_uuid="6f0e7c1a-9a3e-4f5f-8f7a-1d2c3b4a5968", product_serial="CZ12345678")
    again = recorded(tmp_path / "2", product_serial="CZ12345678", product_uuid="6f0e7c1a-9a3e-4f5f-8f7a-1d2c3b4a5968")
    other = recorded(tmp_path / "3", product_uuid="7b1e8d2b-9a3e-4f5f-8f7a-1d2c3b4a5968", product_serial="CZ12345679")
    none = recorded(tmp_path / "4", product_uuid="03000200-0400-0500-0006-000700080009", product_serial="To be filled by O.E.M.", board_serial="None")
    assert one.identity.host == other.identity.host == none.identity.host is not None
    assert one.identity.machine == again.identity.machine != other.identity.machine
    assert none.identity.machine is None  # what every board of a maker says tells nobody apart
    for secret in (b"6f0e7c1a", b"CZ12345678"):
        assert secret not in encode(one)
