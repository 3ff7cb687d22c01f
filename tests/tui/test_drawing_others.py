"""The drawing of a VM that was imported: what others put on its buses is there, and no function is left out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tools.hosts import host
from tests.tools.samples import DATA, ROWS
from wizard.existing.load import open_vms
from wizard.plan.planner import make_plan
from wizard.plan.request import Request
from wizard.tui.drawing import Node, guest_tree


def texts(node: Node) -> list[str]:
    return [node.text, *(text for child in node.children for text in texts(child))]


@pytest.mark.parametrize("name", ["xml/wren.xml", "xml/knot.xml", "qemu/roc.sh", "qemu/osprey.log"])
def test_everything_on_the_buses_is_drawn(name: str) -> None:
    (vm,) = open_vms(str(DATA / name))
    made = make_plan(host(ROWS[name]["host"]), Request(vms=(replace(vm.request, assume_accel=True),))).vms[0]
    drawn = " ".join(texts(guest_tree(made)))
    for id in [device.id for device in made.devices] + [other.id for other in made.others]:
        assert id in drawn
