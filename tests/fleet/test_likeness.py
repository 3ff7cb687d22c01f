"""Machines of one model are judged once, and nobody sees it: summaries by likeness against those of the whole facts."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.fleet import one_host
from tests.fleet.hosts import fixture_names
from tests.tools.hosts import facts as fixture
from wizard.facts.model import Facts, Identity, InUse, Kernel, Moment, Node, PciFunction
from wizard.fleet import likeness
from wizard.fleet.likeness import summary_like
from wizard.fleet.summary import HostSummary, summarise, summary_of
from wizard.host.model import Host

KINDS = ("mount", "address", "session", "open", "held", "display", "rdma", "mdev", "vm", "domain", "pool")
RESOURCES = ("", " ", "0x0 0x1", "0x10 0x5 0x40200\n0x1000 0x1fff 0x40200", "0x1 0x2 0x1ffffffffffffffff", "0x1000 0x10ff 0x40200", "odd\ntext")
BAD_STREAM = ("arm-smmu-v3 arm-smmu-v3.0.auto: event 0x02 received:", "arm-smmu-v3 arm-smmu-v3.0.auto: \t0x0000080000000002")


def of_config(dice: random.Random, config: str) -> str:
    """Bytes of a function, some of them others, cut short, or silent."""
    data = bytearray.fromhex(config)
    way = dice.random()
    if way < 0.1:
        data = data[: dice.randrange(len(data) + 1)]
    elif way < 0.3:
        data[:16] = b"\xff" * min(16, len(data))
    for _ in range(dice.randrange(10) if data else 0):
        at = dice.choice((0x06, 0x07, 0x0E, 0x34, 0x41, 0x43, 0x100, 0x102, *(dice.randrange(len(data)) for _ in range(6)))) % len(data)
        data[at] = dice.choice((0, 0xFF, dice.randrange(256), data[at] ^ 0x10))
    return bytes(data).rstrip(b"\0").hex()


def of_function(dice: random.Random, function: PciFunction) -> PciFunction:
    values: dict[str, Any] = {
        "config": of_config(dice, function.config),
        "serial_number": f"S{dice.randrange(1 << 30)}",
        "resource": dice.choice(RESOURCES),
        "vfio_dev": dice.choice(((), ("vfio7",), ("noiommu-vfio1",), ("vfio1", "noiommu-vfio2"))),
        "driver": dice.choice((None, "vfio-pci", "nvgrace_gpu_vfio_pci", "nvme")),
        "net": (f"eth{dice.randrange(9)}",),
        "reset_method": dice.choice((None, "", "bus", "flr bus")),
        "sriov_totalvfs": dice.choice((None, 1, 8)),
    }
    return replace(function, **{name: value for name, value in values.items() if dice.random() < 0.2})


def of_line(dice: random.Random, line: str) -> str:
    message = line.partition("] ")[2] if line.startswith("[") else line
    stamp = f"[{dice.random() * 99999:12.6f}] "
    words = f"{stamp}Kernel command line: root={dice.random()} {dice.choice(('', 'ACPI: IORT: odd', 'ITS'))}"
    return dice.choice((*[line] * 6, stamp + message, "<6>" + message, message[:40], words))


def of_host(dice: random.Random, facts: Facts) -> Facts:
    """A host as nobody has it."""
    addresses = [function.address for function in facts.functions]
    uses = (InUse(address=dice.choice(addresses), kind=dice.choice(KINDS), detail=f"d{dice.randrange(3)}") for _ in range(dice.randrange(8)))
    values: dict[str, Any] = {
        "log": tuple(of_line(dice, line) for line in facts.log),
        "moment": Moment(time="2026-01-01T00:00:00Z", log=dice.choice(((), BAD_STREAM)), its=(addresses[0],), memory_free=1),
        "memory_total": dice.choice((None, 1 << 36)),
        "nodes": (Node(id=0, cpus="0-3", memory=1 << 33), Node(id=1)),
        "identity": replace(facts.identity, host=f"h{dice.random()}", board="b"),
        "in_use": tuple(uses),
        "kernel": replace(facts.kernel, cmdline="quiet", page_size=dice.choice((None, 4096, 65536))),
    }
    less: dict[str, Any] = {"acpi": {}, "hw_info": (), "origin": dice.choice(("live", "umockdev", "paste"))}
    chosen = {name: value for name, value in values.items() if dice.random() < 0.3} | {n: v for n, v in less.items() if dice.random() < 0.1}
    return replace(facts, functions=tuple(of_function(dice, function) for function in facts.functions), **chosen)


@pytest.mark.parametrize("name", fixture_names())
def test_recorded_hosts(name: str) -> None:
    assert summary_like(fixture(name)) == summarise(fixture(name))


def test_random_hosts_both_ways() -> None:
    dice = random.Random(2307)
    codes: set[str | None] = set()
    small = [facts for name in fixture_names() if 2 < len((facts := fixture(name)).functions) < 40]
    for _ in range(60):
        facts = of_host(dice, dice.choice(small))
        whole = summarise(facts)
        assert summary_like(facts) == whole
        codes |= {pool.code for pool in whole.pools}
    assert {None, "function-silent", "in-use", "vfio-noiommu", "no-canwbs", "group-shared"} <= codes


def test_nothing_is_left_out_where_a_capability_lies_within_another() -> None:
    """Address and data of Vital Product Data move, and are left out (PCIe 6.0, 7.9.18): but not where they are the registers of another one."""
    for express, same in ((0x44, True), (0x48, False)):
        data = bytearray(0x60)
        data[0x06], data[0x34] = 0x10, 0x40
        data[0x10:0x14] = b"\x00\x00\x10\xe0"
        data[0x40:0x42] = bytes((0x03, express))
        data[express : express + 4] = bytes((0x10, 0x00, 0x72, 0x00))
        assert (likeness._config(data.hex()) == data.hex()) is same


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[HostSummary]:
    """The summaries that are worked out, with none known before."""
    made: list[HostSummary] = []

    def counted(host: Host) -> HostSummary:
        made.append(summary_of(host))
        return made[-1]

    monkeypatch.setattr(likeness, "summary_of", counted)
    monkeypatch.setattr(likeness, "_made", {})
    return made


def test_a_model_is_judged_once(judged: list[HostSummary]) -> None:
    """Serial numbers, addresses, status bits, the log's times, the command line, memory and names are each machine's own."""
    model = fixture("vfio-arm64-virt-canwbs")
    for machine in range(8):
        facts = replace(one_host(model, machine, random.Random(machine), unlike=False), memory_total=machine << 30)
        assert summary_like(facts).memory == machine << 30
    assert len(judged) == 1
    for machine in range(8):
        summary_like(one_host(model, machine, random.Random(machine), unlike=True))
    assert len(judged) == 9


READ: set[tuple[str, str]] = set()


def traced(kind: Any) -> Any:
    """The same kind of fact, which notes what is asked of it."""

    class Traced(kind, frozen=True, kw_only=True):  # type: ignore[call-arg,misc]
        def __getattribute__(self, name: str) -> Any:
            READ.add((kind.__name__, name))
            return super().__getattribute__(name)

    return Traced


def listened(facts: Facts) -> Facts:
    """The same facts, which note what is asked of them."""
    function, identity, kernel, moment, whole = [traced(kind) for kind in (PciFunction, Identity, Kernel, Moment, Facts)]

    def as_(kind: Any, fact: msgspec.Struct, **other: Any) -> Any:
        return kind(**{name: getattr(fact, name) for name in fact.__struct_fields__} | other)

    functions = tuple(as_(function, one) for one in facts.functions)
    parts = {"identity": as_(identity, facts.identity), "kernel": as_(kernel, facts.kernel), "moment": as_(moment, facts.moment)}
    found: Facts = as_(whole, facts, functions=functions, **parts)
    return found


def test_what_is_left_out_is_not_read() -> None:
    """A rule that looks at one of these one day fails here, and not for whoever has two machines that differ in it."""
    left_out = {
        *(("PciFunction", name) for name in ("serial_number", "net", "block")),
        *(("Identity", name) for name in Identity.__struct_fields__ if name not in ("vendor", "product")),
        ("Kernel", "cmdline"),
        *(("Moment", name) for name in Moment.__struct_fields__ if name not in ("its", "log")),
    }
    dice = random.Random(2308)
    for name in fixture_names():
        for facts in (fixture(name), of_host(dice, fixture(name))):
            READ.clear()
            summarise(listened(facts))
            assert ("PciFunction", "config") in READ
            assert not READ & left_out
