"""Every finding about several hosts, held whole (tests/tools/golden.py): of ``diff``, of ``baseline``, of ``match`` and its request, and of files."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import SMMUS, bound, renamed, renumbered_parts, tuned, unnumbered, write
from tests.fleet.test_baseline import baseline
from tests.fleet.test_diff import compare, renumbered, with_function
from tests.fleet.test_match import NETWORK, NVME, asked, hosts, match
from tests.fleet.test_not_known import open_
from tests.tools import golden
from tests.tools.hosts import E1000E, PF, SMMU2, facts, vm
from tests.tools.hosts import NVME as ADDRESS
from wizard.base.errors import InputError
from wizard.base.finding import Definition, Finding
from wizard.facts.model import Facts, Node
from wizard.fleet import baseline as baseline_room
from wizard.fleet import codes, place, request
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.diff import profiles, rules
from wizard.fleet.gather import find, gather
from wizard.fleet.match import answer_of
from wizard.fleet.request import read_request
from wizard.fleet.summary import summarise
from wizard.plan.request import Mode

GOLDEN = Path(__file__).parent / "golden/findings.txt"
Found = Iterable[Finding]
CASES: dict[str, Callable[[], Found]] = {}
BASE = facts("arm64-virt-canwbs")
VFIO = facts("vfio-arm64-virt-canwbs")


# --- two snapshots


def differ(code: str, *pairs: tuple[Facts, Facts], **profile: Any) -> None:
    """A code that each of these pairs has: one for each of its sentences."""
    asked_ = (vm(ADDRESS, name="web", **profile),) if profile else ()
    CASES[code] = lambda: chain.from_iterable(compare(a, b, *asked_).findings for a, b in pairs)


def kernel(base: Facts = BASE, **values: Any) -> Facts:
    return replace(base, kernel=replace(base.kernel, **values))


def firmware(text: str) -> Facts:
    return replace(BASE, identity=replace(BASE.identity, firmware=text))


def merged() -> Facts:
    """Two functions that were alone in one group."""
    one, other = (next(f.iommu_group for f in BASE.functions if f.address == address) for address in (ADDRESS, E1000E))
    groups = (replace(g, devices=(*g.devices, E1000E)) if g.id == one else g for g in BASE.groups if g.id != other)
    return replace(with_function(BASE, E1000E, iommu_group=one), groups=tuple(groups))


def without_override(base: Facts) -> Facts:
    return replace(base, functions=tuple(replace(f, driver_override=None) for f in base.functions))


def pages(**of_size: int) -> Facts:
    sizes = {name.removeprefix("of_"): count for name, count in of_size.items()}
    return replace(BASE, nodes=(Node(id=0, cpus="0-3", memory=1 << 32, hugepages=sizes),))


def logged(*lines: str) -> Facts:
    return replace(BASE, moment=replace(BASE.moment, log=(*BASE.moment.log, *lines)))


TIMEOUT = "[  900.1] arm-smmu-v3 arm-smmu-v3.0.auto: CMD_SYNC timeout at 0x0000001f [hwprod 0x00000023, hwcons 0x0000001e]"
REFUSED = facts("arm64-virt")
UNREAD_IORT = replace(BASE, acpi={})
UNREAD_GROUPS = replace(BASE, groups=tuple(replace(g, devices=()) if ADDRESS in g.devices else g for g in BASE.groups))
UNREAD_SMMUS = replace(
    with_function(BASE, ADDRESS, iommu=None), iommus=tuple(replace(i, members=tuple(m for m in i.members if m != ADDRESS)) for i in BASE.iommus)
)

differ("verdict-lost", (BASE, REFUSED), (BASE, merged()))
differ("verdict-won", (REFUSED, BASE), (UNREAD_IORT, BASE))
differ("verdict-unsure", (BASE, UNREAD_IORT))
differ(
    "fact-not-known",
    (BASE, UNREAD_GROUPS),
    (BASE, UNREAD_SMMUS),
    (BASE, with_function(BASE, PF, sriov_numvfs=None, virtfns=())),
    (pages(of_2048=512), pages()),
)
differ("group-changed", (BASE, merged()))
differ("group-split", (merged(), BASE))
differ("function-gone", (BASE, replace(BASE, functions=tuple(f for f in BASE.functions if f.address != ADDRESS))))
differ("function-moved", (VFIO, renumbered(VFIO, "14", "17")))
differ("function-behind-another-smmu", (BASE, with_function(BASE, ADDRESS, iommu=SMMU2)))
differ("property-lost", (bound(ats=True, ssidsize=20, oas=48), bound()), (bound(), bound(ril=False)))
differ("property-won", (bound(), bound(ats=True, ssidsize=20, oas=48)))
differ("property-not-known", (bound(ats=True), replace(bound(ats=True), hw_info=(), log=())))
differ("driver-override-lost", (VFIO, BASE))
differ("vfio-driver-lost", (without_override(VFIO), without_override(BASE)))
differ("vfs-lost", (BASE, VFIO))
differ("hugepages-lost", (pages(of_2048=512, of_1048576=2, of_64=16), pages(of_2048=511, of_1048576=0, of_64=0)))
differ("page-size-changed", (BASE, kernel(page_size=65536)))
differ("kernel-changed", (BASE, kernel(release="7.3.0")), (kernel(version="#1 SMP"), kernel(version="#2 SMP")))
differ("kernel-update-changes", (kernel(release="7.2.13"), kernel(release="7.3.4")))
differ("kernel-update-undone", (kernel(release="7.3.4"), kernel(release="7.2.13")))
differ("firmware-changed", (firmware("1.02 (2025-01-01)"), firmware("1.03 (2026-01-01)")))
differ("guest-commands-check-lost", (kernel(release="7.3.4"), kernel(release="7.2.13")), (kernel(release="7.3.4"), kernel(release="")))
differ("guest-commands-check-won", (kernel(release="7.2.13"), kernel(release="7.3.4")))
differ("log-says-more", (BASE, logged(TIMEOUT)))
differ("log-says-less", (logged(TIMEOUT), BASE))
differ("profile-broken", (VFIO, facts("vfio-arm64-virt")), mode=Mode.ACCEL)
differ("profile-mended", (facts("vfio-arm64-virt"), VFIO), mode=Mode.ACCEL)
differ("profile-never-held", (facts("vfio-arm64-virt"), facts("arm64-virt")), mode=Mode.ACCEL)


# --- a baseline
RICH, POOR = summarise(bound("h1", ats=True, ssidsize=20, oas=48)), summarise(bound("h2", ssidsize=10))
CASES["baseline-held-down"] = lambda: (
    *baseline({"rich": RICH, **{f"poor-{number}": POOR for number in range(7)}}).findings,
    *baseline({"rich": RICH, "unread": replace(RICH, smmus=tuple(open_(smmu, "ats") for smmu in RICH.smmus))}).findings,
)
CASES["baseline-host-unable"] = lambda: (
    *baseline({"good": RICH, "refused": summarise(facts("vfio-arm64-virt")), "other": summarise(facts("grace-1s"))}).findings,
    *baseline({"small": summarise(bound("h3", oas=40))}).findings,
)
CASES["baseline-no-hosts"] = lambda: baseline({}).findings
MIXED = tuned(bound("h1", ats=True, ssidsize=0, smmus=SMMUS[:1]), "h1", ats=False, ssidsize=20, smmus=SMMUS[1:])
CASES["baseline-not-the-only-one"] = lambda: baseline({"mixed": summarise(MIXED), "rich": RICH}, DeviceKind(class_="02")).findings


# --- a request that is placed
SMALL = '[memory]\nsize = "512M"\n'
CASES["match-not-placed"] = lambda: (
    *match("count = 3\n" + NVME, {**hosts("a"), "refused": facts("vfio-arm64-virt")}).findings,
    *match("count = 9\n" + SMALL + NETWORK, hosts("a", "b")).findings,
)
CASES["match-spare-lacking"] = lambda: match("count = 3\n[spare]\ntotal = 4\n" + SMALL + NETWORK, hosts("a", "b")).findings
CASES["match-auto-differs"] = lambda: (
    *match('[properties]\nats = "auto"\n' + NVME, {**{f"h{n}": bound(f"h{n}", ats=True) for n in range(5)}, "none": bound("none")}).findings,
    *match('assume_accel = true\n[properties]\nssidsize = "auto"\n' + NETWORK, {"grace": facts("grace-1s")}).findings,
)


def two_small_nodes(host: str) -> Facts:
    """1.5 GiB on each node: the summary counts the whole host, the planner each node."""
    base = bound(host)
    nodes = tuple(replace(base.nodes[0], id=n, cpus=str(n), memory=1536 << 20) for n in (0, 1))
    return replace(base, nodes=nodes, functions=tuple(replace(f, numa_node=0) for f in base.functions))


CASES["match-host-refused"] = lambda: (
    *match("count = 3\n" + NETWORK, {"a": two_small_nodes("a"), **hosts("b")}).findings,
    *match('[memory]\nsize = "2G"\n' + NETWORK, {"one": two_small_nodes("one")}).findings,
)


def vanished() -> Found:
    wanted, fleet = asked("count = 2\n" + NVME), hosts("a", "b", "c")

    def load(name: str) -> Facts:
        if name == "b":
            raise InputError("There is no file b.", "Check the path.")
        return fleet[name]

    return place.place([answer_of(name, summarise(one), wanted) for name, one in fleet.items()], wanted, load).findings


CASES["match-host-unreadable"] = vanished


# --- its request


def wrong(code: str, *texts: str) -> None:
    """A code that each of these requests has."""
    CASES[code] = lambda: chain.from_iterable(read_request(text, "request.toml")[1] for text in texts)


wrong(
    "match-request-value",
    'count = 0\n[[device]]\nids = "8086"\ncount = 65\nvf = 1\n',
    'device = 3\n[place]\nsame_smmu = 1\nsame_numa = "yes"\nmax_per_host = 0\norder = "random"\n[spare]\nper_host = -1\ntotal = 65537\n',
    '[[device]]\nclass = "2"\n[[device]]\nids = ["8086:10ca"]\n',
    NVME + "place = 1\n",
    "place = 3\nspare = []\n" + NVME,
)
wrong("match-request-key", NVME + "counts = 2\n[place]\nsmmu = true\n[spare]\nhosts = 1\n")
wrong("match-request-addresses", *(NVME + f"[[{key}]]\n" for key in ("function", "vsmmu", "hotplug")), "split = []\nqmp = '/q'\nuuid = 'u'\n" + NVME)
wrong("match-request-no-device", 'name = "x"\n')
wrong("match-request-contradiction", NVME + "[place]\nsame_smmu = true\nsame_numa = false\n")


# --- files


def files(code: str, **whole: Facts | str) -> None:
    """A code that a directory with these files has."""

    def found() -> Found:
        with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
            write(Path("."), {name: one for name, one in whole.items() if isinstance(one, Facts)})
            for name, text in whole.items():
                if isinstance(text, str):
                    Path(f"{name}.json").write_text(text)
            return gather(find(["."]), old_days=30).findings

    CASES[code] = found


files("fleet-unreadable", good=bound("h1"), empty="", foreign='{"name": "package"}')
files("fleet-not-arm64", arm=bound("h1"), x86=facts("x86-intel"))
files(
    "fleet-duplicate-host",
    old=bound("h1", time="2026-01-01T00:00:00Z"),
    new=bound("h1", time="2026-06-01T00:00:00Z"),
    one=renamed(bound("h2"), "h2"),
    same=renamed(bound("h2"), "h2"),
    nameless=renamed(bound("h3"), ""),
    nobody=renamed(bound("h4"), ""),
)
files(
    "fleet-shared-machine-id",
    one=renumbered_parts(bound("h1"), "1"),
    other=renumbered_parts(bound("h1", oas=48), "2"),
    third=replace(bound("h1"), identity=replace(bound("h1").identity, product="another model"), functions=unnumbered(bound("h1")).functions),
)
files(
    "fleet-same-host-unsure",
    at_once=bound("h1"),
    at_once_too=bound("h1", oas=48),
    plain=unnumbered(bound("h2")),
    plain_too=unnumbered(bound("h2", oas=48)),
)
files("fleet-old-snapshot", old=bound("h1", time="2020-02-03T04:05:06Z"), odd=bound("h2", time="long ago"), unsaid=bound("h3"))
files("fleet-time-ahead", ahead=bound("h1", time="2190-02-03T04:05:06+01:00"))


def _codes() -> Iterator[str]:
    rooms = (rules, profiles, baseline_room, place, request, codes)
    yield from sorted({value.code for room in rooms for value in vars(room).values() if isinstance(value, Definition)})


@pytest.mark.parametrize("code", list(_codes()))
def test_fires(code: str) -> None:
    """Severity, subject and every sentence are as they were read."""
    golden.fires(GOLDEN, code, CASES)


def test_no_text_of_a_code_that_is_gone() -> None:
    golden.only(GOLDEN, _codes())
