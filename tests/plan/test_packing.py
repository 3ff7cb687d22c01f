"""More than 32 root ports behind one vSMMU, held against QEMU and the firmware in tests/rehearsal/test_many_ports.py."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.tools.hosts import crowd, plan, planned, vm
from wizard.plan.model import VmPlan
from wizard.plan.request import FunctionRequest, HotplugRequest
from wizard.plan.written import written


def places(made: VmPlan) -> list[tuple[str, int, int]]:
    """(bus, slot, function) of each root port, in the order of their guest buses."""
    ports = [(port.secondary, (port.bus, port.slot, 0)) for port in made.ports]
    ports += [(other.secondary, (other.bus, other.slot, other.function)) for other in made.others]
    return [place for _, place in sorted(ports)]


@pytest.mark.parametrize(("count", "beside"), [(32, 0), (33, 1), (40, 8), (200, 168)])
def test_what_has_no_slot_is_a_further_function_of_one_that_has(count: int, beside: int) -> None:
    on, names = crowd(count)
    made = planned(*names, on=on, assume_accel=True)
    assert made.ok
    assert (len(made.ports), len(made.others)) == (count - beside, beside)
    found = places(made)
    assert len(set(found)) == count
    assert found == sorted(found)  # UEFI numbers buses by slot, then function
    assert all(slot < 32 and function < 8 for _, slot, function in found)
    assert all((bus, slot, 0) in found for bus, slot, _ in found)  # a slot without function 0 is not looked at
    assert len({*(port.chassis for port in made.ports), *(other.chassis for other in made.others)}) == count
    assert {device.vsmmu for device in made.devices} == {made.vsmmus[0].id}
    assert len({device.vsid for device in made.devices}) == count


def test_a_profile_that_was_packed_stays_as_it_is_and_takes_one_more() -> None:
    on, names = crowd(41)
    first = planned(*names[:40], on=on, assume_accel=True)
    again = plan(replace(written(first), assume_accel=True), on=on).vms[0]
    assert (places(again), again.ok) == (places(first), True)
    more = written(first)
    grown = plan(replace(more, functions=(*more.functions, FunctionRequest(host=names[40])), assume_accel=True), on=on).vms[0]
    assert grown.ok
    assert set(places(first)) < set(places(grown))


def test_a_port_left_free_has_a_slot_of_its_own() -> None:
    """pciehp works by slots: what shares one can't be taken out alone."""
    on, names = crowd(36)
    made = planned(*names[:35], hotplug=(HotplugRequest(functions=(names[35],)),), on=on, assume_accel=True)
    free = next(port for port in made.ports if port.hotplug)
    assert made.ok
    assert free.slot < 32
    assert not any(other.slot == free.slot for other in made.others)


def test_what_is_written_beyond_the_slots_is_still_an_error() -> None:
    on, names = crowd(3)
    made = plan(vm(FunctionRequest(host=names[0], port_slot=32), *names[1:], assume_accel=True), on=on).vms[0]
    assert "slot-range" in {finding.code for finding in made.findings}
