"""Whom a rule speaks of, and whom it does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, codes, host, plan, planned, two_nodes, vm
from wizard.plan import rules
from wizard.plan.properties import Property
from wizard.plan.request import Mode, NodeRequest, OtherRequest
from wizard.plan.rules.base import scene

GIB = 1 << 30


@pytest.mark.parametrize(("total", "said"), [(4 * GIB, False), (4 * GIB - (1 << 20), True), (2 * GIB, True), (2 * GIB - (1 << 20), False)])
def test_a_node_of_the_host_holds_what_it_has(total: int, said: bool) -> None:
    """Of the VMs together; of one that is too large by itself another rule speaks."""
    bound = (NodeRequest(memory=2 * GIB, cpus="0-1", host_node=0),)
    both = plan(vm(NVME, memory=2 * GIB, numa=bound), vm(E1000E, name="web", memory=2 * GIB, numa=bound), on=two_nodes(total))
    assert ("memory-over-node" in codes(both)) is said


def test_what_is_said_of_accelerated_vsmmus_is_not_said_of_others() -> None:
    """A vSMMU without accel has properties too; they ask nothing of a guest's kernel."""
    made = planned(NVME, E1000E)
    first, second = made.vsmmus
    on, wide = (Property(written=text, resolved=value, origin="request") for text, value in (("on", 1), ("20", 20)))

    def told(**values: object) -> list[str]:
        return [
            finding.what for check in rules.base.RULES for finding in check(scene(host(), replace(made, **values))) if finding.code == "guest-needs"
        ]

    assert told(vsmmus=(first, replace(second, accel=False, ats=on, cmdqv=on, ssidsize=wide))) == told()
    assert told()[0].endswith("RMR nodes.")
    for name, value, word in (("ats", on, "ATS"), ("cmdqv", on, "CMDQV"), ("ssidsize", wide, "PASID")):
        assert told(vsmmus=(first, replace(second, **{name: value})))[0].endswith(f"RMR nodes; to use {word} it needs the options for it.")
    assert not told(vsmmus=tuple(replace(one, accel=False) for one in made.vsmmus))
    assert not told(mode=Mode.NONE)


@pytest.mark.parametrize(
    ("kind", "above", "there"),
    [("port", "pcie.0", True), ("port", "x", True), ("port", "nowhere", False), ("expander", "x", False)],
)
def test_a_bridge_is_on_a_root_complex_that_is_there(kind: str, above: str, there: bool) -> None:
    """One that a VM had before: on the machine's own, or on an expander of its own."""
    others = (OtherRequest(id="x", kind="expander", bus_nr=200), OtherRequest(id="port", kind="port", bus="x", chassis=90))
    one = OtherRequest(id="one", kind=kind, bus=above, chassis=91, bus_nr=220 if kind == "expander" else None)  # type: ignore[arg-type]
    made = planned(NVME, others=(*others, one))
    assert [finding.what.split(":")[1].split()[0] for finding in made.findings if finding.code == "unknown-bus"] == ([] if there else ["one"])
