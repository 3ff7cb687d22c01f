"""The richest vSMMU that every host can supply. Hosts differ by what their ID registers and their kernel's log say."""

from __future__ import annotations

import random
import tomllib
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, tuned
from tests.tools.hosts import facts as fixture
from wizard.facts.model import Program
from wizard.fleet.baseline import POINTS, BaselineView, Part, conclude, merge, part_of
from wizard.fleet.devicekind import DeviceKind, kind_of
from wizard.fleet.match import answer_of
from wizard.fleet.place import place
from wizard.fleet.request import read_request
from wizard.fleet.summary import HostSummary, Offer, Pool, SmmuSummary, summarise
from wizard.fleet.template import template_of
from wizard.host.build import host_of
from wizard.plan.planner import make_plan
from wizard.plan.properties import declared
from wizard.plan.request import FunctionRequest, Request, VmRequest
from wizard.profile import read_profile

NVME = DeviceKind(ids="1b36:0010")


def baseline(hosts: dict[str, HostSummary], kind: DeviceKind = NVME, *, assume: bool = False) -> BaselineView:
    return conclude(reduce(merge, (part_of(name, host, kind, assume=assume) for name, host in hosts.items()), Part()), kind)


def test_the_poorest_host_decides_each_property_and_is_named() -> None:
    view = baseline(
        {
            "rich": summarise(bound("h1", ats=True, ssidsize=20, oas=48)),
            "no-ats": summarise(bound("h2", ats=False, ssidsize=20, oas=48)),
            "short": summarise(bound("h3", ats=True, ssidsize=10, oas=44)),
        }
    )
    assert view.baseline == {"ats": "off", "ril": "on", "ssidsize": "10", "oas": "44", "cmdqv": "off"}
    held = {one.property: (one.value, one.held_down_by.names, one.without_them) for one in view.properties}
    assert held["ats"] == ("off", ("no-ats",), "on")
    assert held["ssidsize"] == ("10", ("short",), "20")
    assert held["oas"] == ("44", ("short",), "48")
    assert held["ril"][2] is None
    assert view.granules == ("4k", "16k", "64k")
    assert not any(finding.severity == "error" for finding in view.findings)


def test_without_the_named_host_it_is_what_was_said() -> None:
    hosts = {"rich": summarise(bound("h1", ats=True, ssidsize=20)), "poor": summarise(bound("h2", ats=True, ssidsize=4))}
    gain = next(one for one in baseline(hosts).properties if one.property == "ssidsize")
    del hosts["poor"]
    left = baseline(hosts).baseline
    assert left is not None
    assert left["ssidsize"] == gain.without_them == "20"


def test_one_smmu_has_to_supply_all_of_it() -> None:
    """A host with ATS on one SMMU and a wide SSIDSIZE on the other supplies one or the other, never both at once."""
    mixed = tuned(bound("h1", ats=True, ssidsize=0, smmus=SMMUS[:1]), "h1", ats=False, ssidsize=20, smmus=SMMUS[1:])
    kind = DeviceKind(class_="02")  # igb behind the first, e1000e behind the second
    view = baseline({"mixed": summarise(mixed), "rich": summarise(bound("h2", ats=True, ssidsize=20))}, kind)
    assert view.baseline is not None
    assert (view.baseline["ats"], view.baseline["ssidsize"]) == ("on", "0")
    assert [(other["ats"], other["ssidsize"]) for other in view.alternatives] == [("off", "20")]
    assert "baseline-not-the-only-one" in {finding.code for finding in view.findings}


def test_unlike_smmus_hold_down_what_they_supply_only_apart() -> None:
    """Each property has a host SMMU that is rich in it; ssidsize is held down because none is rich in both."""
    mixed = tuned(bound("h1", ats=True, ssidsize=0, smmus=SMMUS[:1]), "h1", ats=False, ssidsize=20, smmus=SMMUS[1:])
    view = baseline({"mixed": summarise(mixed), "rich": summarise(bound("h2", ats=True, ssidsize=20))}, DeviceKind(class_="02"))
    held = {one.property: (one.held_down_by.names, one.without_them) for one in view.properties}
    assert held["ssidsize"] == (("mixed",), "20")
    assert held["ats"] == ((), None)


def test_the_profiles_of_a_template_hold_on_every_host_of_the_baseline() -> None:
    """Also where the installed QEMU is 11.0, which has no cmdqv to write: off is what such a QEMU does."""
    old = Program(name="qemu", path="/usr/bin/qemu-system-aarch64", version="11.0.1")
    facts = {
        "rich": bound("rich", ats=True, ssidsize=20, oas=48),
        "poor": bound("poor", ssidsize=8),
        "old": replace(bound("old"), programs=(old,)),
    }
    text = template_of(baseline({name: summarise(one) for name, one in facts.items()}))
    request, wrong = read_request(text, "template.toml")
    assert request is not None, wrong
    for name, one in facts.items():
        view = place([answer_of(name, summarise(one), request)], request, facts.__getitem__)
        assert view.ok, view.findings
        (profile,) = view.profiles.values()
        for other, there in facts.items():  # shut down here, started there: the same guest platform
            vm, wrong = read_profile(profile, name="vm.toml")
            assert not [finding for finding in wrong if finding.severity == "error"]
            plan = make_plan(host_of(there), Request(vms=(vm,)))
            assert plan.ok, (name, other, plan.errors)


def test_only_the_smmus_of_that_device_count() -> None:
    """The NVMe sits behind the first SMMU; that the second is poorer matters to nobody who asks for NVMe."""
    facts = tuned(bound("h1", ats=True, ssidsize=20), "h1", ats=False, ssidsize=0, smmus=SMMUS[1:2])
    view = baseline({"host": summarise(facts)})
    assert view.baseline is not None
    assert (view.baseline["ats"], view.baseline["ssidsize"]) == ("on", "20")


def test_a_host_that_can_not_is_an_error_with_its_reason() -> None:
    view = baseline({"good": summarise(bound("h1")), "refused": summarise(fixture("vfio-arm64-virt")), "other": summarise(fixture("grace-1s"))})
    assert view.baseline is None
    assert view.able == {"ats": "off", "ril": "on", "ssidsize": "0", "oas": "44", "cmdqv": "off"}
    assert {one.code: one.hosts.names for one in view.unable} == {"no-canwbs": ("refused",), "no-such-device": ("other",)}
    errors = [finding for finding in view.findings if finding.severity == "error"]
    assert {finding.subject for finding in errors} == {"no-canwbs", "no-such-device"}
    assert any("neither CANWBS nor S2FWB" in finding.why for finding in errors)
    with pytest.raises(ValueError, match="not every host"):
        template_of(view)


def test_an_smmu_with_fewer_address_bits_than_qemu_can_write_supplies_nothing() -> None:
    """QEMU takes oas 44 and 48, and refuses 44 on a host with 40: the planner refuses the same."""
    small = bound("h1", oas=40)
    view = baseline({"good": summarise(bound("h2")), "small": summarise(small)})
    assert view.baseline is None
    assert {one.code: one.hosts.names for one in view.unable} == {"property-exceeds-host": ("small",)}
    request, _ = read_request('[[device]]\nids = "1b36:0010"\n', "request.toml")
    assert request is not None
    answer = answer_of("small", summarise(small), request)
    assert answer.can == 0
    assert answer.miss is not None
    assert (answer.miss.stage, answer.miss.code) == ("property", "property-exceeds-host")
    plan = make_plan(host_of(small), Request(vms=(VmRequest(name="vm", functions=(FunctionRequest(host="0000:14:00.0"),)),)))
    assert "property-exceeds-host" in {finding.code for finding in plan.errors}
    half = tuned(bound("h1"), "h1", oas=40, smmus=SMMUS[1:])
    assert baseline({"half": summarise(half)}).baseline is not None


def test_assumed_values_count_only_when_asked_to() -> None:
    """Grace as published: ssidsize 20 in a register dump; the log mask of the kernel that has it is assumed."""
    grace = {"grace": summarise(fixture("grace-cmdqv"))}
    kind = DeviceKind(class_="02")
    assert baseline(grace, kind).unable[0].code == "nesting-unknown"
    assumed = baseline(grace, kind, assume=True)
    assert assumed.baseline is not None
    assert (assumed.baseline["ssidsize"], assumed.baseline["oas"], assumed.baseline["ats"]) == ("20", "48", "on")


def test_granules_and_who_lacks_them() -> None:
    """Nobody published the granules of this Grace: with assumptions it is a host, and named as the one without them."""
    hosts = {"recorded": summarise(bound("h1")), "published": summarise(fixture("grace-1s"))}
    view = baseline(hosts, DeviceKind(class_="02"), assume=True)
    assert view.granules == ()
    assert [(one.property, one.held_down_by.names, one.without_them) for one in view.granules_missing] == [
        (size, ("published",), "on") for size in ("4k", "16k", "64k")
    ]


def test_nobody_at_all() -> None:
    view = baseline({})
    assert view.baseline is None
    assert [finding.code for finding in view.findings] == ["baseline-no-hosts"]


@pytest.mark.parametrize(("ids", "class_"), [("8086:10CA", None), (None, "0x02"), (None, "0200"), ("8086:10ca", "020000")])
def test_kinds(ids: str | None, class_: str | None) -> None:
    pools = [pool for pool in summarise(fixture("arm64-virt-canwbs")).pools if kind_of(ids, class_).matches(pool)]
    assert any(pool.ids == "8086:10ca" for pool in pools)
    assert all(pool.class_code >> 16 == 2 for pool in pools)


@pytest.mark.parametrize(("ids", "class_"), [("8086", None), ("8086-10ca", None), (None, "2"), (None, "network"), (None, "02000")])
def test_no_kinds(ids: str | None, class_: str | None) -> None:
    with pytest.raises(ValueError, match="is no"):
        kind_of(ids, class_)


offers = st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 20), st.sampled_from([44, 48]), st.integers(0, 1))


@st.composite
def summaries(draw: st.DrawFn) -> HostSummary:
    """Hosts with up to three SMMUs, some of them with a function that can be accelerated."""
    smmus = draw(st.lists(offers, max_size=3))
    base = summarise(bound("h"))
    template = base.pools[0]
    return replace(
        base,
        smmus=tuple(
            SmmuSummary(f"s{n}", "smmuv3", 0, tuple(Offer(v, v, v, True, v, "hw_info") for v in values), ("4k",), None, 16)
            for n, values in enumerate(smmus)
        ),
        pools=tuple(
            replace(template, ids="1b36:0010", smmu=n, accel=draw(st.sampled_from(["yes", "yes", "no"])), addresses=(f"0000:{n:02x}:00.0",))
            for n in range(len(smmus))
        ),
    )


@settings(max_examples=100, deadline=None)
@given(hosts=st.lists(summaries(), max_size=6), seed=st.randoms())
def test_hosts_may_be_merged_in_any_order_and_grouping(hosts: list[HostSummary], seed: random.Random) -> None:
    parts = [part_of(f"host-{n}", host, NVME) for n, host in enumerate(hosts)]
    expected = reduce(merge, parts, Part())
    seed.shuffle(parts)
    while len(parts) > 1:
        at = seed.randrange(len(parts) - 1)
        parts[at : at + 2] = [merge(parts[at], parts[at + 1])]
    result = merge(parts[0], Part()) if parts else Part()
    assert conclude(result, NVME) == conclude(expected, NVME)


@settings(max_examples=100, deadline=None)
@given(hosts=st.lists(summaries(), min_size=1, max_size=4))
def test_every_able_host_supplies_the_baseline_and_nothing_richer_is_common(hosts: list[HostSummary]) -> None:
    """By the definition, point by point, of each host's own offers."""

    def supplied(host: HostSummary) -> set[tuple[int, ...]]:
        usable: list[Pool] = [pool for pool in host.pools if pool.accel == "yes"]
        vectors = [tuple(offer.richest for offer in host.smmus[pool.smmu].offers) for pool in usable]
        return {point for point in POINTS if any(all(a <= b for a, b in zip(point, vector, strict=True)) for vector in vectors)}

    able = [points for host in hosts if (points := supplied(host))]
    view = baseline({f"host-{n}": host for n, host in enumerate(hosts)})
    assert sum(one.hosts.count for one in view.unable) == len(hosts) - len(able)
    if not able:
        assert view.able is None
        return
    common = set.intersection(*able)
    assert view.able is not None
    chosen = tuple({"on": 1, "off": 0}.get(value, int(value) if value.isdigit() else 0) for value in view.able.values())
    assert chosen in common
    # Who holds a property down, and what is gained without those hosts, by taking them away.
    supplies = {f"host-{n}": points for n, host in enumerate(hosts) if (points := supplied(host))}
    for at, held in enumerate(view.properties):
        richer = sorted({(*chosen[:at], point[at], *chosen[at + 1 :]) for point in POINTS if point[at] > chosen[at]})
        assert set(held.held_down_by.names) == {name for name, points in supplies.items() if richer and richer[0] not in points}
        left = [points for name, points in supplies.items() if name not in held.held_down_by.names]
        gained = [point for point in richer if left and point in set.intersection(*left)]
        assert held.without_them == (declared(held.property).spell(gained[-1][at]) if gained else None)
    assert not any(point != chosen and all(a >= b for a, b in zip(point, chosen, strict=True)) for point in common)


def test_the_template_is_a_request_that_match_takes() -> None:
    view = baseline({"a\nb": summarise(bound("h1", ats=True, ssidsize=20, oas=48)), "c": summarise(bound("h2", ssidsize=8))})
    text = template_of(view)
    data = tomllib.loads(text)
    assert data["properties"] == {"ats": "off", "ril": "on", "ssidsize": 8, "oas": 44, "cmdqv": "off"}
    request, wrong = read_request(text, "template.toml")
    assert wrong == []
    assert request is not None
    assert request.wishes[0].kind == NVME
    assert "# 20 without c" in text
    # Given to `check` by mistake, it says where it belongs.
    _, wrong = read_profile(text, name="template.toml")
    assert all("smmu-wizard match" in finding.what for finding in wrong if finding.code == "profile-unknown-key")
