"""Who may do what: DDI 0487 D8.4 and IHI 0070 13.4, 5.2 (PRIVCFG, INSTCFG), 5.4 (PAN, WXN, E0PD, HAD)."""

from __future__ import annotations

import pytest

from tests.smmu.world import RICH, VA, World, world
from wizard.arch.descriptor import TableDescriptor
from wizard.arch.event import EventType
from wizard.arch.ste import STE
from wizard.smmu import Ids

ACCESSES = {
    "user read": {"write": False},
    "user write": {"write": True},
    "user execute": {"write": False, "instruction": True},
    "kernel read": {"write": False, "privileged": True},
    "kernel write": {"write": True, "privileged": True},
    "kernel execute": {"write": False, "privileged": True, "instruction": True},
}


def passing(w: World) -> set[str]:
    return {name for name, access in ACCESSES.items() if w.dma(**access).ok}


ALL = set(ACCESSES)
USER, KERNEL = {name for name in ALL if "user" in name}, {name for name in ALL if "kernel" in name}
READS, WRITES, EXECUTES = ({name for name in ALL if word in name} for word in ("read", "write", "execute"))


@pytest.mark.parametrize(
    ("leaf", "cd", "passes"),
    [
        # AP: 0 privileged read-write, 1 read-write, 2 privileged read-only, 3 read-only; user-writable pages are PXN.
        ({"AP": 0}, {}, KERNEL | {"user execute"}),
        ({"AP": 1}, {}, ALL - {"kernel execute"}),
        ({"AP": 2}, {}, {"kernel read", "kernel execute", "user execute"}),
        ({"AP": 3}, {}, READS | EXECUTES),
        ({"AP": 3, "UXN": 1}, {}, READS | {"kernel execute"}),
        ({"AP": 3, "PXN": 1}, {}, READS | {"user execute"}),
        ({"AP": 0}, {"WXN": 1}, {"kernel read", "kernel write", "user execute"}),
        ({"AP": 1}, {"WXN": 1}, READS | WRITES),
        ({"AP": 1}, {"PAN": 1}, USER),
        ({"AP": 0}, {"PAN": 1}, KERNEL | {"user execute"}),
        ({"AP": 0}, {"PAN": 1, "EPAN": 1}, {"kernel execute", "user execute"}),
        ({"AP": 1}, {"E0PD0": 1}, {"kernel read", "kernel write"}),
    ],
)
def test_stage_1(leaf: dict[str, int], cd: dict[str, int], passes: set[str]) -> None:
    w = world("1", leaf1=leaf, cd=cd)
    assert passing(w) == passes
    assert passing(w) == passes, "the same from the TLB"
    kinds = {EventType.F_PERMISSION} | ({EventType.F_TRANSLATION} if "E0PD0" in cd else set())
    assert set(w.types()) == kinds


@pytest.mark.parametrize(
    ("table", "had", "passes"),
    [
        ({"APTable": 1}, 0, KERNEL | {"user execute"}),
        ({"APTable": 2}, 0, READS | EXECUTES),
        ({"UXNTable": 1}, 0, READS | WRITES),
        ({"APTable": 2, "PXNTable": 1}, 0, READS | {"user execute"}),
        ({"APTable": 3, "UXNTable": 1, "PXNTable": 1}, 1, ALL - {"kernel execute"}),
    ],
)
def test_hierarchical_attributes_limit_unless_disabled(table: dict[str, int], had: int, passes: set[str]) -> None:
    w = world("1", cd={"HAD0": had})
    assert w.first is not None
    where = w.first.root + 8 * (VA >> 39 & 511)
    w.memory.write(where, TableDescriptor(w.memory.read(where) or 0).replace(**table).value)
    assert passing(w) == passes


@pytest.mark.parametrize(
    ("leaf", "passes"),
    [
        ({"S2AP": 1}, READS | EXECUTES),
        ({"S2AP": 2}, WRITES | EXECUTES),
        ({"S2AP": 0}, EXECUTES),
        ({"XN": 0}, ALL),
        ({"XN": 1}, ALL - {"kernel execute"}),
        ({"XN": 2}, READS | WRITES),
        ({"XN": 3}, ALL - {"user execute"}),
    ],
)
def test_stage_2(leaf: dict[str, int], passes: set[str]) -> None:
    w = world("2", leaf2=leaf)
    assert {name for name, access in ACCESSES.items() if w.dma(0x4100_0000, **access).ok} == passes


def test_without_xnx_only_one_bit_forbids_execution() -> None:
    w = world("2", Ids(RICH.idr0, RICH.idr1, RICH.idr3 & ~(1 << 4), RICH.idr5, RICH.aidr), leaf2={"XN": 1})
    assert w.dma(0x4100_0000, write=False, instruction=True, privileged=True).ok


def test_nested_grants_what_both_grant() -> None:
    w = world("nested", leaf1={"AP": 3, "UXN": 1}, leaf2={"S2AP": 3, "XN": 1})
    assert passing(w) == READS
    assert {event.fields()["S2"] for event in w.smmu.events()} == {0, 1}


@pytest.mark.parametrize(
    ("ste", "access", "seen"),
    [
        ({"PRIVCFG": 3}, {"write": True}, (1, 0)),
        ({"PRIVCFG": 2}, {"write": True, "privileged": True}, (0, 0)),
        ({"PRIVCFG": 1}, {"write": True, "privileged": True}, (1, 0)),
        ({"INSTCFG": 3}, {"write": False}, (0, 1)),
        ({"INSTCFG": 2}, {"write": False, "instruction": True}, (0, 0)),
        ({"INSTCFG": 3}, {"write": True}, (0, 0)),
    ],
)
def test_overrides_come_before_the_check_and_into_the_record(ste: dict[str, int], access: dict[str, bool], seen: tuple[int, int]) -> None:
    w = world("1", ste=ste)
    w.dma(0x1000, **access)
    (event,) = w.smmu.events()
    assert (event.fields()["PnU"], event.fields()["InD"]) == seen


def test_privileged_stream_reaches_what_users_cannot() -> None:
    assert world("1", leaf1={"AP": 0}, ste={"PRIVCFG": 3}).dma().ok
    assert not world("1", leaf1={"AP": 0}).dma().ok


def test_el2_streams_have_no_users() -> None:
    """AP[1] counts as 1, UXN is XN, PXN means nothing, TTB1 does not exist (IHI 0070 13.4.1, 5.4.1)."""
    w = world("1", leaf1={"AP": 0, "PXN": 1}, ste={"STRW": 2})
    assert passing(w) == ALL
    assert not w.dma(0xFFFF_0000_0000_0000).ok
    assert passing(world("1", leaf1={"AP": 1}, ste={"STRW": 2}, cd={"E0PD0": 1, "PAN": 1})) == ALL, "neither applies to EL2"


def test_s2ptw_forbids_tables_in_device_memory() -> None:
    w = world("nested", ste={"S2PTW": 1})
    assert w.second is not None
    assert w.dma().ok
    w.second.unmap(0x4000_0000, 16 << 20)
    w.second.map(0x4000_0000, 0x8000_0000, 16 << 20, MemAttr=1)
    w.smmu.submit([(0x30, 0), (0x4, 0x1F)])
    assert not w.dma().ok
    (event,) = w.smmu.events()
    assert (event.Type, event.fields()["S2"], event.fields()["CLASS"]) == (EventType.F_PERMISSION, 1, 0)
    ste = STE.of_words(w.memory.read_words(w.streams.address(8), 8) or [])
    w.streams.set(8, ste.replace(S2PTW=0))
    w.smmu.submit([(0x30, 0), (0x4, 0x1F)])
    assert w.dma().ok
