"""A summary has to say what the planner would say of the same host, or ``match`` promises what no plan keeps."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.fleet.hosts import bound, fixture_names
from tests.tools.hosts import facts as fixture
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.fit import property_fault
from wizard.fleet.request import FleetRequest, Wish
from wizard.fleet.summary import VFS_MAX, VFS_OF_HOST, HostSummary, Pool, summarise, summary_of
from wizard.host.build import host_of
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import FunctionRequest, Request, VmRequest
from wizard.plan.rules.base import scene
from wizard.plan.rules.properties import compared

ABOUT_THE_FUNCTION = {"accel-refused", "accel-not-known", "not-assignable", "in-use", "pf-has-vfs", "no-vfio-cdev", "group-shared-accelerated"}
"""Errors of a plan that speak of one function; others are about the VM or the host as a whole."""


NOTHING_ASKED = Properties()


def one(address: str, properties: Properties = NOTHING_ASKED) -> Request:
    vm = VmRequest(name="vm", functions=(FunctionRequest(host=address),), properties=properties, memory=1 << 30)
    return Request(vms=(vm,))


def usable(pool: Pool) -> bool:
    return pool.smmu >= 0 and pool.accel == "yes" and not pool.blocked


@pytest.mark.parametrize("name", fixture_names())
def test_every_function_is_judged_as_the_planner_judges_it(name: str) -> None:
    host = host_of(fixture(name))
    for pool in summary_of(host).pools:
        for address in islice(pool.addresses, 3):
            codes = {finding.code for finding in make_plan(host, one(address)).errors}
            if pool.to_make and "vfs-live-too-few" in codes:
                continue
            assert usable(pool) == (not codes & ABOUT_THE_FUNCTION), (address, pool, codes)


@pytest.mark.parametrize("name", fixture_names())
def test_every_endpoint_is_in_exactly_one_pool(name: str) -> None:
    host = host_of(fixture(name))
    there = [address for pool in summary_of(host).pools if not pool.to_make for address in pool.addresses]
    assert sorted(there) == sorted(address for address, function in host.functions.items() if not function.is_bridge)


def test_a_summary_is_small_and_the_same_each_time() -> None:
    for name in fixture_names():
        facts = fixture(name)
        encoded = msgspec.msgpack.encode(summarise(facts))
        assert encoded == msgspec.msgpack.encode(summarise(facts))
        assert len(encoded) < 200 + 80 * len(facts.functions) + 200 * len(facts.iommus)
        assert msgspec.msgpack.decode(encoded, type=HostSummary) == summarise(facts)


properties = st.builds(
    Properties,
    ats=st.sampled_from([None, "on", "off"]),
    ril=st.sampled_from([None, "on", "off"]),
    ssidsize=st.sampled_from([None, 0, 1, 10, 20]),
    oas=st.sampled_from([None, 44, 48]),
    cmdqv=st.sampled_from([None, "on", "off"]),
)


@settings(max_examples=60, deadline=None)
@given(asked=properties, ats=st.booleans(), ril=st.booleans(), ssidsize=st.sampled_from([0, 10, 20]), oas=st.sampled_from([44, 48]))
def test_a_written_property_is_compared_as_the_planner_compares_it(asked: Properties, ats: bool, ril: bool, ssidsize: int, oas: int) -> None:
    facts = bound(ats=ats, ril=ril, ssidsize=ssidsize, oas=oas)
    host = host_of(facts)
    request = FleetRequest(vm=VmRequest(name="vm", properties=asked), wishes=(Wish(DeviceKind()),))
    fault = property_fault(summary_of(host).smmus[0], request)
    plan = make_plan(host, one("0000:14:00.0", asked))
    refused = {finding.code for finding in plan.errors} & {"property-exceeds-host", "property-unproven"}
    assert (fault is not None) == bool(refused), (asked, fault, plan.errors)


@pytest.mark.parametrize("name", ["grace-1s", "altra-no-cohacc", "thunderx2", "gb200"])
def test_assumed_and_unknown_values_too(name: str) -> None:
    host = host_of(fixture(name))
    summary = summary_of(host)
    for pool in summary.pools:
        if pool.smmu < 0:
            continue
        for asked in (Properties(ats="on"), Properties(oas=44), Properties(oas=48), Properties(ssidsize=20), Properties(ril="off")):
            request = FleetRequest(vm=VmRequest(name="vm", properties=asked), wishes=(Wish(DeviceKind()),))
            fault = property_fault(summary.smmus[pool.smmu], request)
            written = {name: value for name in ("ats", "oas", "ssidsize", "ril") if (value := getattr(asked, name)) is not None}
            written.setdefault("oas", "")  # what nobody writes is written by the planner: at least 44 bits
            planned = scene(host, make_plan(host, one(pool.addresses[0], asked)).vms[0])
            vsmmu_findings = [
                finding
                for vsmmu in planned.vm.vsmmus
                for finding in compared(planned, vsmmu)
                if finding.code in ("property-exceeds-host", "property-unproven") and any(f"{n}={v}" in finding.what for n, v in written.items())
            ]
            assert (fault is not None) == bool(vsmmu_findings), (asked, fault)


def test_vfs_that_could_be_made_are_counted() -> None:
    """The 82576 of the recorded host: total 8 VFs, none made; a VF's ID of the PF's SR-IOV capability is 10ca."""
    base = fixture("vfio-arm64-virt-canwbs")
    functions = tuple(replace(f, driver="igb", driver_override=None) if f.address == "0000:11:00.0" else f for f in base.functions)
    summary = summarise(replace(base, functions=functions))
    pool = next(pool for pool in summary.pools if pool.to_make)
    assert (pool.ids, pool.vf, pool.pf, pool.accel) == ("8086:10ca", True, "0000:11:00.0", "yes")
    # The addresses that the kernel gave the two VFs of the other recording are among them.
    assert {"0000:11:10.0", "0000:11:10.2"} <= set(pool.addresses)
    assert not any(pool.to_make for pool in summarise(base).pools)  # a PF on vfio-pci makes none


def test_a_snapshot_that_claims_millions_of_vfs_is_no_burden() -> None:
    """300 cards that say they could have 65,535 VFs each; what is counted of a host has an end."""
    base = fixture("arm64-virt-canwbs")
    card = next(function for function in base.functions if function.sriov_totalvfs)
    cards = (
        replace(card, address=f"{n:04x}:01:00.0", path=f"pci{n:04x}:00/{n:04x}:01:00.0", sriov_totalvfs=65535, iommu_group=None, driver="igb")
        for n in range(1, 301)
    )
    summary = summarise(replace(base, functions=tuple(replace(one, driver_override=None, sriov_numvfs=0, virtfns=()) for one in cards)))
    count = sum(len(pool.addresses) for pool in summary.pools if pool.to_make)
    assert VFS_OF_HOST <= count < VFS_OF_HOST + VFS_MAX
