"""Requests against fleets: which hosts can, how many, and why the others can't. The profiles are held against the planner."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from itertools import combinations

import jsonschema
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, renamed, tuned
from tests.tools.hosts import facts as fixture
from wizard.base.errors import InputError
from wizard.facts.model import Facts, Program
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.fit import _problem, capacity, sieve, vms_of
from wizard.fleet.match import answer_of
from wizard.fleet.pack import pack
from wizard.fleet.place import MatchView, place
from wizard.fleet.request import FleetRequest, Wish, read_request, schema
from wizard.fleet.summary import HostSummary, Offer, Pool, SmmuSummary, summarise
from wizard.host.build import host_of
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.request import Mode, Request, VmRequest
from wizard.profile import read_profile

NVME = '[[device]]\nids = "1b36:0010"\n'
NETWORK = '[[device]]\nclass = "02"\n'


def asked(text: str) -> FleetRequest:
    request, wrong = read_request(text, "request.toml")
    assert request is not None, wrong
    return request


def match(text: str, hosts: Mapping[str, Facts]) -> MatchView:
    request = asked(text)
    answers = [replace(answer_of(name, summarise(facts), request), host=facts.identity.host) for name, facts in hosts.items()]
    return place(answers, request, hosts.__getitem__)


def misses(view: MatchView) -> dict[str, tuple[str, str]]:
    return {host.name: (host.miss.stage, host.miss.code) for host in view.hosts if host.miss}


def shares(view: MatchView) -> dict[str, int]:
    return {host.name: len(host.vms) for host in view.hosts if host.vms}


def codes(view: MatchView) -> set[str]:
    return {finding.code for finding in view.findings}


def hosts(*names: str) -> dict[str, Facts]:
    return {name: bound(name) for name in names}


def test_which_hosts_can_and_how_many() -> None:
    view = match("count = 3\n" + NVME, {**hosts("a", "b", "c"), "refused": fixture("vfio-arm64-virt"), "gb10": fixture("gb10")})
    assert view.ok
    assert {host.name: host.can for host in view.hosts} == {"a": 1, "b": 1, "c": 1, "gb10": 0, "refused": 0}
    assert shares(view) == {"a": 1, "b": 1, "c": 1}
    assert misses(view) == {"refused": ("accel", "no-canwbs"), "gb10": ("device", "no-such-device")}


def test_profiles_hold_on_the_hosts_that_they_are_for() -> None:
    fleet = hosts("a", "b")
    view = match('name = "net"\ncount = 4\n[memory]\nsize = "512M"\n' + NETWORK, fleet)
    assert shares(view) == {"a": 3, "b": 1}
    assert list(view.profiles) == ["net-1", "net-2", "net-3", "net-4"]
    for host in view.hosts:
        requests = []
        for name in host.vms:
            request, wrong = read_profile(view.profiles[name], name=name)
            assert wrong == []
            assert request.made_for is not None
            assert request.made_for.host == host.name
            requests.append(request)
        plan = make_plan(host_of(fleet[host.name]), Request(vms=tuple(requests)))
        assert plan.ok, plan.errors


def test_the_same_question_has_the_same_answer() -> None:
    fleet = hosts("c", "a", "b")
    text = "count = 5\n" + NETWORK
    assert match(text, fleet) == match(text, dict(reversed(fleet.items())))


def test_every_profile_has_the_same_platform_the_richest_that_all_chosen_hosts_supply() -> None:
    fleet = {"poor": bound("poor", ats=True, ssidsize=8), "rich": bound("rich", ats=True, ssidsize=20, oas=48), "spare": bound("spare")}
    view = match("count = 2\n" + NVME, fleet)
    assert view.properties == {"ats": "on", "ril": "on", "ssidsize": "8", "oas": "44", "cmdqv": "off"}
    written = [tomllib.loads(profile)["properties"] for profile in view.profiles.values()]
    assert written == [{"ats": "on", "ril": "on", "ssidsize": 8, "oas": 44, "cmdqv": "off"}] * 2


def test_a_property_that_a_host_lacks_is_its_miss() -> None:
    fleet = {"ats": bound("h1", ats=True), "none": bound("h2", ats=False), "assumed": fixture("grace-cmdqv")}
    view = match('[properties]\nats = "on"\n' + NVME, fleet)
    assert misses(view)["none"] == ("property", "property-exceeds-host")
    told = next(host.miss for host in view.hosts if host.name == "none")
    assert told is not None
    assert "ats off, and ats=on is asked for" in told.what
    assert list(shares(view)) == ["ats"]


def test_auto_never_hides_a_mismatch() -> None:
    """Both hosts can; what auto comes to differs, and that is said of each and as a warning."""
    fleet = {"ats": bound("h1", ats=True), "none": bound("h2", ats=False)}
    view = match('[properties]\nats = "auto"\n' + NVME, fleet)
    assert {host.name: host.auto for host in view.hosts} == {"ats": {"ats": ("on",)}, "none": {"ats": ("off",)}}
    finding = next(finding for finding in view.findings if finding.code == "match-auto-differs")
    assert "off on none; on on ats" in finding.what
    assert "off is what all of them supply" in finding.fix
    assert tomllib.loads(view.profiles["vm"])["properties"]["ats"] == "auto"
    assert "match-auto-differs" not in codes(match('[properties]\nats = "auto"\n' + NVME, hosts("a", "b")))
    assert "match-auto-differs" in codes(match('assume_accel = true\n[properties]\nssidsize = "auto"\n' + NETWORK, {"grace": fixture("grace-1s")}))


def test_one_smmu_or_several() -> None:
    """Network cards: igb (with no VFs here) behind the first SMMU, e1000e and virtio behind the second."""
    pair = '[[device]]\nclass = "02"\ncount = 2\n'
    together = match("[place]\nsame_smmu = true\n" + pair, hosts("a"))
    assert [device["host"] for device in tomllib.loads(together.profiles["vm"])["function"]] == ["0000:41:00.0", "0000:42:00.0"]
    apart = match("[place]\nsame_smmu = false\n" + pair, hosts("a"))
    functions = tomllib.loads(apart.profiles["vm"])["function"]
    assert {device["host"][:7] for device in functions} == {"0000:11", "0000:41"}
    assert len(tomllib.loads(apart.profiles["vm"])["vsmmu"]) == 2
    three = match("[place]\nsame_smmu = true\n" + pair.replace("2\n", "3\n", 1).replace("count = 2", "count = 3"), hosts("a"))
    assert misses(three)["a"] == ("place", "no-such-place")


def test_several_kinds_of_devices_in_one_vm() -> None:
    """The NVMe shares its SMMU with the igb only."""
    both = '[[device]]\nids = "1b36:0010"\n[[device]]\nclass = "02"\n'
    view = match("[place]\nsame_smmu = true\n" + both, hosts("a"))
    assert {device["ids"] for device in tomllib.loads(view.profiles["vm"])["function"]} == {"1b36:0010", "8086:10c9"}
    # A wish for the very card that a looser wish could take too gets it.
    strict = match('[[device]]\nclass = "02"\ncount = 2\n[[device]]\nids = "8086:10c9"\n', hosts("a"))
    assert strict.ok
    assert sorted(device["ids"] for device in tomllib.loads(strict.profiles["vm"])["function"]) == ["1af4:1041", "8086:10c9", "8086:10d3"]


def test_vfs_only_or_none() -> None:
    fleet = {"vfs": renamed(fixture("arm64-virt-canwbs"), "h1")}
    view = match('[[device]]\nclass = "02"\nvf = true\ncount = 2\n', fleet)
    assert [device["host"] for device in tomllib.loads(view.profiles["vm"])["function"]] == ["0000:11:10.0", "0000:11:10.2"]
    # The PF has live VFs: it is not given away behind the back of whoever has them.
    pf = match('[[device]]\nids = "8086:10c9"\n', fleet)
    assert misses(pf)["vfs"] == ("free", "pf-has-vfs")


def test_vfs_that_are_made_for_the_request() -> None:
    base = bound("h1")
    facts = replace(
        base, functions=tuple(replace(f, driver="igb", driver_override=None) if f.address == "0000:11:00.0" else f for f in base.functions)
    )
    view = match('count = 2\n[memory]\nsize = "512M"\n[[device]]\nids = "8086:10ca"\ncount = 3\n', {"a": facts})
    assert view.ok
    given = [device["host"] for profile in view.profiles.values() for device in tomllib.loads(profile)["function"]]
    assert len(set(given)) == 6
    plan = make_plan(host_of(facts), Request(vms=tuple(read_profile(text, name=name)[0] for name, text in view.profiles.items())))
    assert plan.ok, plan.errors
    assert all(device.to_make for vm in plan.vms for device in vm.devices)


def test_what_the_host_uses_is_not_free() -> None:
    view = match(NVME, {"used": fixture("host-in-use")})
    assert misses(view)["used"] == ("free", "in-use")
    assert not view.ok
    assert "match-not-placed" in codes(view)


def test_memory_is_counted() -> None:
    """The recorded host has 2.9 GiB."""
    view = match('count = 2\n[memory]\nsize = "2G"\n' + NETWORK, hosts("a"))
    assert view.room == 1
    assert view.placed == 1
    assert "match-not-placed" in codes(view)
    big = match('[memory]\nsize = "4G"\n' + NETWORK, hosts("a"))
    assert misses(big)["a"] == ("memory", "memory-over-host")


def test_spare_room() -> None:
    small = '[memory]\nsize = "512M"\n'
    assert shares(match("count = 3\n[spare]\nper_host = 1\n" + small + NETWORK, hosts("a", "b"))) == {"a": 2, "b": 1}
    assert match("count = 3\n[spare]\ntotal = 3\n" + small + NETWORK, hosts("a", "b")).ok
    view = match("count = 3\n[spare]\ntotal = 4\n" + small + NETWORK, hosts("a", "b"))
    assert codes(view) == {"match-spare-lacking"}
    none = match("[spare]\nper_host = 1\n" + NVME, hosts("a"))
    assert misses(none)["a"] == ("count", "too-few-devices")


def test_spread_and_limits() -> None:
    small = '[memory]\nsize = "512M"\n'
    assert shares(match('count = 4\n[place]\norder = "spread"\n' + small + NETWORK, hosts("a", "b", "c"))) == {"a": 2, "b": 1, "c": 1}
    assert shares(match("count = 3\n[place]\nmax_per_host = 1\n" + small + NETWORK, hosts("a", "b", "c"))) == {"a": 1, "b": 1, "c": 1}


def test_no_kvm_and_an_old_qemu() -> None:
    old = Program(name="qemu", path="/usr/bin/qemu-system-aarch64", version="10.2.0")
    newer = replace(old, version="11.0.1")
    fleet = {
        "no-kvm": replace(bound("h1"), kvm=False),
        "old": replace(bound("h2"), programs=(old,)),
        "newer": replace(bound("h3"), programs=(newer,)),
        "z": bound("h4"),
    }
    view = match("count = 2\n" + NVME, fleet)
    assert misses(view) == {"no-kvm": ("host", "no-kvm"), "old": ("host", "plan-needs-newer-qemu")}
    # One platform: the machine type of the oldest QEMU, and no property that it lacks.
    assert view.machine == "virt-11.0"
    assert {tomllib.loads(text)["machine"]["type"] for text in view.profiles.values()} == {"virt-11.0"}
    assert view.ok


def test_a_cmdqv_that_the_qemu_of_a_host_can_not_give() -> None:
    """QEMU has cmdqv since 11.1: with an older one on one of two equal hosts, both VMs go without, and say so in their profiles."""
    base = replace(fixture("grace-cmdqv"), kvm=True)
    at = {
        name: Program(name="qemu", path="/usr/bin/qemu-system-aarch64", version=version) for name, version in (("new", "11.1.0"), ("old", "11.0.1"))
    }
    fleet = {name: replace(renamed(base, name), programs=(program,)) for name, program in at.items()}
    each = "assume_accel = true\ncount = 2\n[place]\nmax_per_host = 1\n" + NETWORK
    both = match(each, fleet)
    assert both.ok, both.findings
    assert both.properties["cmdqv"] == "off"
    assert {tomllib.loads(text)["properties"]["cmdqv"] for text in both.profiles.values()} == {"off"}
    alone = match(each, {"new": fleet["new"], "newer": renamed(fleet["new"], "newer")})
    assert alone.properties["cmdqv"] == "on"
    asked_for = match('assume_accel = true\n[properties]\ncmdqv = "on"\n' + NETWORK, fleet)
    assert shares(asked_for) == {"new": 1}
    assert misses(asked_for)["old"] == ("host", "plan-needs-newer-qemu")


def test_what_only_the_planner_sees_costs_the_host_and_is_said() -> None:
    """A host node with too little memory for two VMs: the summary counts the whole host, the planner each node."""
    base = bound("a")
    node = base.nodes[0]
    nodes = (replace(node, id=0, cpus="0", memory=1536 << 20), replace(node, id=1, cpus="1", memory=1536 << 20))
    facts = replace(base, nodes=nodes, functions=tuple(replace(f, numa_node=0) for f in base.functions))
    view = match('count = 3\n[place]\norder = "pack"\n' + NETWORK, {"a": facts, **hosts("b")})
    assert "match-host-refused" in codes(view)
    assert shares(view) == {"a": 1, "b": 2}
    for host in view.hosts:
        assert host.planned


def test_a_snapshot_that_vanished_costs_only_that_host() -> None:
    request = asked("count = 2\n" + NVME)
    fleet = hosts("a", "b", "c")

    def load(name: str) -> Facts:
        if name == "b":
            raise InputError("There is no file b.", "Check the path.")
        return fleet[name]

    view = place([answer_of(name, summarise(facts), request) for name, facts in fleet.items()], request, load)
    assert shares(view) == {"a": 1, "c": 1}
    assert "match-host-unreadable" in codes(view)


def test_without_a_viommu() -> None:
    """Plain VFIO works where acceleration is refused; a function in a larger group can't be given alone."""
    fleet = {"refused": renamed(fixture("vfio-arm64-virt"), "h1")}
    view = match('mode = "none"\n' + NVME, fleet)
    assert view.ok, view.findings
    assert view.properties == {}
    shared = match('mode = "none"\n[[device]]\nids = "8086:100e"\n', fleet)
    assert misses(shared)["refused"][0] == "accel"


def test_assumptions_are_taken_only_when_allowed() -> None:
    """GB200 as published, without the character devices that nobody listed."""
    grace = {"grace": fixture("grace-cmdqv")}
    assert misses(match(NETWORK, grace))["grace"] == ("accel", "nesting-unknown")
    view = match("assume_accel = true\n" + NETWORK, grace)
    assert view.hosts[0].can == 1


def test_everything_wrong_with_a_request_at_once() -> None:
    text = (
        'count = 0\nmode = "fast"\n[[device]]\nids = "8086"\ncounts = 2\n[[function]]\nhost = "0000:14:00.0"\n'
        "[place]\nsame_smmu = 1\n[spare]\ntotal = -1\n"
    )
    request, wrong = read_request(text, "request.toml")
    assert request is None
    told = [(finding.code, finding.what) for finding in wrong]
    assert ("profile-value", 'request.toml, line 2: mode is "fast".') in told
    assert ("match-request-value", "request.toml, line 1: count is 0.") in told
    assert ("match-request-value", "request.toml, line 4: device.ids is 8086.") in told
    assert ("match-request-key", "request.toml, line 5: there is no key device.counts.") in told
    assert ("match-request-addresses", "request.toml, line 6: [function] names what only one host has.") in told
    assert ("match-request-value", "request.toml, line 9: place.same_smmu is 1.") in told
    assert ("match-request-value", "request.toml, line 11: spare.total is -1.") in told


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('name = "x"\n', "match-request-no-device"),
        ("device = 3\n", "match-request-value"),
        (NVME + "[place]\nsame_smmu = true\nsame_numa = false\n", "match-request-contradiction"),
        (NVME + '[place]\norder = "random"\n', "match-request-value"),
        (NVME + '[[vsmmu]]\nid = "smmu"\n', "match-request-addresses"),
    ],
)
def test_requests_that_are_none(text: str, code: str) -> None:
    request, wrong = read_request(text, "request.toml")
    assert request is None
    assert code in {finding.code for finding in wrong}


@pytest.mark.parametrize(
    "text",
    [
        NVME,
        'name = "x"\ncount = 3\n[properties]\nats = "auto"\noas = 48\n[memory]\nsize = "4G"\n' + NETWORK + "vf = true\n[place]\nsame_smmu = true\n",
        NVME + '[place]\norder = "spread"\nmax_per_host = 1\n[spare]\nper_host = 0\ntotal = 2\n',
        'name = "x"\n',
        "count = 0\n" + NVME,
        '[[device]]\nids = "8086"\n',
        NVME + "[place]\nsame_smmu = 1\n",
        NVME + '[[function]]\nhost = "0000:14:00.0"\n',
        NVME + "[spare]\nhosts = 1\n",
    ],
)
def test_the_schema_and_the_reader_take_the_same_requests(text: str) -> None:
    request, _ = read_request(text, "request.toml")
    try:
        jsonschema.validate(tomllib.loads(text), schema())
    except jsonschema.ValidationError:
        assert request is None, text
    else:
        assert request is not None, text


def test_no_toml_is_input_that_cannot_be_read() -> None:
    with pytest.raises(InputError, match="line 2"):
        read_request("name = 1\n= 2\n", "request.toml")


# --- packing, held against an exhaustive search on small hosts --------------------------------------------------------

OFFERS = tuple(Offer(v, v, v, True, v, "hw_info") for v in (1, 1, 20, 48, 0))
KINDS = ("1111:0001", "1111:0002")
VF = "1111:0003"


@st.composite
def small_hosts(draw: st.DrawFn) -> HostSummary:
    """Up to three SMMUs on two nodes, up to seven functions of two kinds of one class; some are PFs whose VFs could be made."""
    base = summarise(bound("h"))
    template = replace(base.pools[0], class_code=0x020000, accel="yes", blocked=False, to_make=False, pf=None, vf=False)
    counts = draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(KINDS), st.integers(1, 3), st.integers(0, 2)), min_size=1, max_size=4))
    pools: list[Pool] = []
    for place_, (smmu, ids, count, vfs) in enumerate(counts):
        addresses = tuple(f"{smmu:04x}:{place_:02x}:00.{n}" for n in range(count))
        pools.append(replace(template, ids=ids, smmu=smmu, numa_node=smmu // 2, addresses=addresses))
        for n, address in enumerate(addresses[:1] if vfs else ()):
            made = tuple(f"{smmu:04x}:{place_:02x}:1{n}.{v}" for v in range(vfs))
            pools.append(replace(pools[-1], ids=VF, vf=True, to_make=True, pf=address, addresses=made))
    smmus = tuple(SmmuSummary(f"s{n}", "smmuv3", n // 2, OFFERS, ("4k",), None, 16) for n in range(3))
    return replace(base, memory=None, smmus=smmus, pools=tuple(pools))


kinds = st.sampled_from([DeviceKind(ids=KINDS[0]), DeviceKind(ids=KINDS[1]), DeviceKind(ids=VF), DeviceKind(class_="02")])
wishes = st.lists(st.builds(Wish, kinds, st.integers(1, 2), st.sampled_from([None, True, False])), min_size=1, max_size=3)
places = st.tuples(st.sampled_from([None, True, False]), st.sampled_from([None, True, False])).filter(lambda both: both != (True, False))


def fits(host: HostSummary, request: FleetRequest, functions: tuple[str, ...]) -> bool:
    """Whether one VM may have exactly these functions: by the words of the request."""
    pool_of = {address: pool for pool in host.pools for address in pool.addresses}
    pools = [pool_of[address] for address in functions]
    if {pool.pf for pool in pools} & set(functions):
        return False  # a PF and VFs of it
    if request.same_smmu is not None and len({pool.smmu for pool in pools}) != (1 if request.same_smmu else len(pools)):
        return False
    if request.same_numa is not None and len({pool.numa_node for pool in pools}) != (1 if request.same_numa else len(pools)):
        return False

    def serve(wish: int, left: tuple[str, ...]) -> bool:
        if wish == len(request.wishes):
            return not left
        asked_ = request.wishes[wish]
        able = [address for address in left if asked_.kind.matches(pool_of[address]) and asked_.vf in (None, pool_of[address].vf)]
        return any(serve(wish + 1, tuple(a for a in left if a not in some)) for some in combinations(able, asked_.count))

    return serve(0, functions)


def most(host: HostSummary, request: FleetRequest) -> int:
    """The largest number of disjoint VMs, by trying all of them; no PF is given away whose VFs are."""
    pf_of = {address: pool.pf for pool in host.pools for address in pool.addresses}

    def search(left: tuple[str, ...]) -> int:
        best = 0
        for some in combinations(left, request.functions):
            if left and some and fits(host, request, some):
                makers = {pf_of[address] for address in some}
                rest = (a for a in left if a not in some and a not in makers and pf_of[a] not in some)
                best = max(best, 1 + search(tuple(rest)))
                if best >= len(left) // request.functions:
                    break
        return best

    return search(tuple(pf_of))


@settings(max_examples=150, deadline=None)
@given(host=small_hosts(), wanted=wishes, where=places)
def test_as_many_vms_as_an_exhaustive_search_finds(host: HostSummary, wanted: list[Wish], where: tuple[bool | None, bool | None]) -> None:
    request = FleetRequest(vm=VmRequest(name="vm"), wishes=tuple(wanted), same_smmu=where[0], same_numa=where[1])
    assume(sum(len(pool.addresses) for pool in host.pools) <= 8)
    held = sieve(host, request)
    assert capacity(held, 100) == most(host, request)


@settings(max_examples=150, deadline=None)
@given(host=small_hosts(), wanted=wishes, where=places, limit=st.integers(1, 4))
def test_every_vm_that_is_packed_is_as_asked(host: HostSummary, wanted: list[Wish], where: tuple[bool | None, bool | None], limit: int) -> None:
    request = FleetRequest(vm=VmRequest(name="vm"), wishes=tuple(wanted), same_smmu=where[0], same_numa=where[1])
    held = sieve(host, request)
    vms = vms_of(held, limit)
    assert len(vms) == capacity(held, limit)
    given_away = [address for vm in vms for address in vm.functions]
    assert len(given_away) == len(set(given_away))
    assert all(fits(host, request, tuple(sorted(vm.functions))) for vm in vms)
    assert not {pool.pf for pool in host.pools for address in pool.addresses if address in given_away} & set(given_away)


def test_one_card_is_given_away_and_the_vfs_of_another_are_made() -> None:
    """Two cards of one kind; each could be the one that is given away, and not both."""
    base = summarise(bound("h"))
    card = replace(
        base.pools[0], class_code=0x020000, accel="yes", blocked=False, vf=False, smmu=0, ids=KINDS[0], addresses=("0000:01:00.0", "0000:02:00.0")
    )
    made = [replace(card, ids=VF, vf=True, to_make=True, pf=pf, addresses=tuple(f"{pf[:8]}10.{n}" for n in range(4))) for pf in card.addresses]
    host = replace(base, memory=None, pools=(card, *made))
    request = FleetRequest(vm=VmRequest(name="vm"), wishes=(Wish(DeviceKind(ids=KINDS[0])), Wish(DeviceKind(class_="02"), 4, vf=True)))
    assert [vm.wishes for vm in vms_of(sieve(host, request), 9)] == [(("0000:01:00.0",), made[1].addresses)]


def test_large_numbers_take_no_longer() -> None:
    """Packed as numbers, not one by one: 20,000 functions of each of 30 SMMUs, each VM three of them apart."""
    base = summarise(bound("h"))
    template = replace(base.pools[0], class_code=0x020000, accel="yes", blocked=False, ids=KINDS[0])
    pools = tuple(replace(template, smmu=n, addresses=tuple(f"{n:04x}:{i >> 8:02x}:{i & 255:02x}.0" for i in range(20000))) for n in range(30))
    host = replace(base, memory=None, smmus=base.smmus[:1] * 30, pools=pools)
    request = FleetRequest(vm=VmRequest(name="vm"), wishes=(Wish(DeviceKind(ids=KINDS[0]), 2), Wish(DeviceKind(class_="02"))), same_smmu=False)
    held = sieve(host, request)
    assert capacity(held, 10**6) == 200000
    assert len(pack(_problem(held), 200000)) < 1000


def test_unlike_smmus_of_one_host() -> None:
    """ats=on fits only behind the first SMMU: the cards of the second do not count."""
    facts = tuned(bound("a", ats=True), "a", ats=False, smmus=SMMUS[1:])
    request = FleetRequest(vm=VmRequest(name="vm", properties=Properties(ats="on"), mode=Mode.ACCEL), wishes=(Wish(DeviceKind(class_="02")),))
    assert answer_of("a", summarise(facts), request).can == 1
