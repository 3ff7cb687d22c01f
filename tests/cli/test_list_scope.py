"""What `list` shows of a tree of which only that was read, against the whole of it."""

from __future__ import annotations

import os
import random
from pathlib import Path

import msgspec
import pytest

from benchmarks.big_host import build_tree
from tests.tools.hosts import FIXTURES, facts
from wizard.base import shares
from wizard.cli.inspect import list_lines
from wizard.facts.functions import _EMPTY_REGION, _regions
from wizard.facts.model import Facts, Group, Moment, PciFunction
from wizard.facts.record import from_tree
from wizard.facts.scope import Scope
from wizard.facts.source import open_tree
from wizard.host.build import host_of

OF_FUNCTIONS = (
    *("revision", "resource", "driver_override", "sriov_totalvfs", "sriov_numvfs", "sriov_drivers_autoprobe", "sriov_vf_device"),
    *("reset_method", "net", "block", "mdev", "boot_vga", "serial_number"),
)
OF_HOST = ("in_use", "programs", "firmware", "limits", "nodes", "cpus", "cpu_model", "memory_total")


def _without(kind: type[msgspec.Struct], names: tuple[str, ...]) -> dict[str, object]:
    return {one.name: one.default for one in msgspec.structs.fields(kind) if one.name in names}


def table_of(whole: Facts) -> Facts:
    """Facts without what the scope of a table leaves out."""
    functions = tuple(msgspec.structs.replace(one, **_without(PciFunction, OF_FUNCTIONS)) for one in whole.functions)
    groups = tuple(msgspec.structs.replace(one, **_without(Group, ("type",))) for one in whole.groups)
    moment = Moment(log=whole.moment.log, its=whole.moment.its)
    left_out = {name: {} if name == "limits" else default for name, default in _without(Facts, OF_HOST).items()}
    return msgspec.structs.replace(whole, functions=functions, groups=groups, moment=moment, **left_out)


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_a_table_needs_no_more_than_its_scope(name: str) -> None:
    """Verdicts and columns of every recorded host are the same without what is not read for them."""
    whole = facts(name)
    assert list(list_lines(host_of(table_of(whole)))) == list(list_lines(host_of(whole)))


@pytest.mark.parametrize("count", [1, 2])
def test_of_a_tree_no_more_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """What was read of the smaller scope is what the whole has, by one process or two; the rest is as if nobody had looked."""
    monkeypatch.setattr(shares, "ENOUGH", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(count)))
    build_tree(tmp_path, 60)
    device = next(tmp_path.glob("sys/devices/pci*/*/*.1"))
    (device / "vfio-dev/vfio3").mkdir(parents=True)
    (device / "numa_node").write_text("none\n")
    port = next(tmp_path.glob("sys/devices/pci*/*.0"))
    (port / "iommu").unlink()
    (port / "config").unlink()
    whole, table = from_tree(open_tree(str(tmp_path))), from_tree(open_tree(str(tmp_path)), Scope.TABLE)
    assert any(function.vfio_dev for function in whole.functions)
    assert any("numa_node" in path for path in whole.unread)
    assert table == table_of(whole)
    assert list(list_lines(host_of(table))) == list(list_lines(host_of(whole)))


def test_empty_regions_at_the_end_are_left_out() -> None:
    """A thousand lists of regions, with lines that only look empty, by the short way and line by line."""
    empty = _EMPTY_REGION
    lines = (*[empty] * 9, "", "0x0 0x0 0x0", "0x00000000fe000000 0x00000000fe003fff 0x0000000000040200", empty + " 0x0")
    some = random.Random(5)
    for _ in range(1000):
        text = "\n".join(some.choices(lines, k=some.randrange(24))).strip()
        left = text.split("\n")
        while left and left[-1] in (empty, ""):
            left.pop()
        assert _regions(text) == "\n".join(left)
