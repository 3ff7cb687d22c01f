"""What is shared between functions of one kind is what each would be told alone: random bytes, asked with and without a memory of others."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from wizard.arch.pci import Cap, ExtCap
from wizard.base.address import Address
from wizard.base.alike import ANSWERS, KINDS, QUESTIONS, Alike
from wizard.base.shares import ENOUGH
from wizard.facts import layout
from wizard.host import function as functions
from wizard.host.build import host_of
from wizard.host.function import CAPABILITIES, Capabilities, Kept
from wizard.host.known import Source
from wizard.host.model import Host
from wizard.host.pci import caps, extcaps
from wizard.host.pci import config as spaces
from wizard.host.pci import path as way
from wizard.host.pci.config import ConfigSpace, decode_config
from wizard.host.view import list_json, list_view

Hosts = Callable[[str], Host]


def spoiled(dice: random.Random, data: bytes) -> ConfigSpace:
    """The bytes of a real function with a few of them changed, cut off, or told in parts."""
    found = bytearray(data.ljust(dice.choice((64, 256, 4096)), b"\0"))
    for _ in range(dice.randrange(6)):
        at = dice.choice((0x06, 0x0E, 0x34, 0x41, 0x42, 0x101, 0x103, dice.randrange(len(found)))) % len(found)
        found[at] = dice.choice((0, 0xFF, dice.randrange(256)))
    told = tuple((at, at + dice.choice((4, 16, 64))) for at in range(0, len(found), 48)) if dice.random() < 0.2 else ()
    length = dice.choice((len(found), len(found), dice.randrange(len(found) + 1)))
    return decode_config(bytes(found).rstrip(b"\0"), length, told)


def by_walking(space: ConfigSpace, wanted: Cap | ExtCap) -> spaces.Capability | None:
    extended = isinstance(wanted, ExtCap)
    size = (spaces._EXTENDED_SIZES if extended else spaces._SIZES)[wanted]
    limit = space.length if extended else min(space.length, 256)
    return next((c for c in (space.extended if extended else space.standard) if c.id == wanted and space._fits(c, size, limit)), None)


def test_shared_and_alone(host: Hosts) -> None:
    dice = random.Random(2313)
    known = [f.config.data for name in ("arm64-virt-canwbs", "grace-1s", "altra-ava", "x86-intel") for f in host(name).functions.values()]
    seen = set()
    for _ in range(1000):
        space = spoiled(dice, dice.choice(known))
        for wanted in (*spaces._SIZES, *spaces._EXTENDED_SIZES):
            found = space.find(wanted)  # type: ignore[arg-type]
            assert found == by_walking(space, wanted)  # type: ignore[arg-type]
            seen.add(None if found is None else wanted)
        places, number = layout.layout_of(space.data)
        assert (places, number) == (layout._found(space.data, number), int.from_bytes(space.data, "little"))
        assert places.spans == layout.spans(space.data)
        shared = caps.express(space), extcaps.acs(space), layout.spans(space.data)
        for memory in (caps._express, extcaps._acs, layout._spans_of):
            memory.cache_clear()
        assert (caps.express(space), extcaps.acs(space), layout.spans(space.data)) == shared
        if not space.known:  # what a source tells register by register is never shared
            data, length = space.data, space.length
            apart, own, told = dice.random() < 0.5, dice.random() < 0.5, dice.choice((Source.CONFIG, Source.ASSUMED))
            assert spaces._LISTS.ask(data, length) == spaces._lists_of(ConfigSpace(data, length))
            assert way._ASKED.ask(data, length, apart) == way._asked(ConfigSpace(data, length), apart)
            assert functions._SPACES.ask(data, length, told).known == functions._of_spaces(ConfigSpace(data, length), told).known
            kept = functions._of_kepts(Kept(ConfigSpace(data, length), own), told)
            assert functions._KEPT.ask(data, length, own, told).known == kept.known
    assert {None, Cap.EXPRESS, ExtCap.ACS} <= seen


def test_answers_rest_on_what_was_looked_at() -> None:
    dice = random.Random(2323)
    asked: list[bytes] = []

    def follow(data: bytes, start: int) -> tuple[int, ...]:
        """A list in the bytes: each says where the next is."""
        asked.append(data)
        found: list[int] = []
        while start and start not in found:
            found.append(start)
            start = int.from_bytes(data[start : start + 1], "little")
        return tuple(found)

    shared: Alike[tuple[int, ...]] = Alike(follow)
    outer: Alike[tuple[int, ...]] = Alike(lambda data, start: (*shared.ask(data, start), int.from_bytes(data[30:32], "little")))
    for _ in range(3000):
        data, start = bytes(dice.choice((0, dice.randrange(40))) for _ in range(dice.randrange(40))), dice.randrange(5)
        told = len(asked)
        assert shared.ask(data, start) == follow(data, start)
        assert outer.ask(data, start) == (*follow(data, start), int.from_bytes(data[30:32], "little"))
        assert len(asked) <= told + 4
    # Not more is kept than was said, whoever asks: bytes may come from a stranger.
    each: Alike[int] = Alike(lambda data, end: int.from_bytes(data[:end], "little"))
    for number in range(2 * ANSWERS):
        assert each.ask(number.to_bytes(4, "little"), 4) == number
    ways: Alike[int] = Alike(lambda data: 7 if data[: 1 + data[0:1][0]] else 0)
    for number in range(3 * KINDS):
        assert ways.ask(bytes((number, 1))) == 7
    for number in range(3 * QUESTIONS):
        assert each.ask(b"\1", number) == (1 if number else 0)
    kept = [answers for kinds in (*each._kinds.values(), *ways._kinds.values()) for _, answers in kinds]
    assert max(map(len, kept)) <= ANSWERS
    assert len(each._kinds) <= QUESTIONS
    assert len(ways._kinds[()]) == KINDS


def test_a_list_in_pieces_is_the_list(host: Hosts) -> None:
    """Of thousands of functions several processes make it."""
    few = host("grace-1s").facts
    many = [
        replace(one, address=f"{number:03x}{one.address[3:]}", path=f"pci{number:04x}:00/{number:03x}{one.address[3:]}", iommu_group=None)
        for number in range(1, 2 + ENOUGH // len(few.functions))
        for one in few.functions
    ]
    large = host_of(replace(few, functions=tuple(many)))
    assert len(large.functions) > ENOUGH
    name, smmu_ = next(iter(large.functions)), next(iter(host("grace-1s").smmus))
    for one, smmu, kept in ((large, None, None), (large, None, {name}), (large, None, set[str]()), (host("grace-1s"), smmu_, None)):
        at_once = msgspec.json.format(msgspec.json.encode(list_view(one, smmu, kept)), indent=2)
        assert b"".join(list_json(one, smmu, kept)) == at_once


def test_paths_once_a_bridge_and_one_by_one(host: Hosts) -> None:
    dice = random.Random(2324)
    known = [f.config for name in ("arm64-virt-canwbs", "grace-1s", "altra-ava", "x86-intel") for f in host(name).functions.values()]
    seen = set()
    for _ in range(150):
        addresses = [Address(0, dice.randrange(4), dice.randrange(2), dice.randrange(3)) for _ in range(dice.randrange(1, 14))]
        strangers = [None, None, Address(9, 9, 9, 1)]  # no parent, or one that was not recorded; parents may go in circles
        nodes = {
            address: way.PciNode(
                address,
                dice.choice([*addresses, *strangers]),
                dice.choice(known) if dice.random() < 0.7 else spoiled(dice, dice.choice(known).data),
                dice.random() < 0.2,
                dice.random() < 0.9,
            )
            for address in addresses
        }
        paths = way.Paths(nodes)
        for address in nodes:
            missing = way.acs_path(nodes, address).missing
            assert paths.missing(address) == missing
            assert paths.rids(address) == tuple(alias.rid for alias in way.dma_aliases(nodes, address))
            assert paths.aliases_known(address) is way.aliases_known(nodes, address)
            assert paths.by_user(address) is any(node.config.length == 64 for node in (nodes[address], *way.ancestors(nodes, address)))
            seen.add((missing, len(paths.rids(address)) > 1, paths.aliases_known(address)))
    assert len(seen) >= 8


def test_all_capabilities_at_once_and_one_by_one(host: Hosts) -> None:
    dice = random.Random(2314)
    for name in ("arm64-virt-canwbs", "grace-1s", "raspberry-pi-5"):
        for function in host(name).functions.values():
            asked = function.capabilities
            assert isinstance(asked, Capabilities)
            one, other = (Capabilities(asked._find_site) for _ in range(2))
            for name_ in dice.sample(list(CAPABILITIES), 5):
                other.get(name_)
            want = {name_: found for name_ in CAPABILITIES if (found := one.get(name_)) is not None}
            assert other.whole() == want == dict(one)
            assert list(other.whole()) == list(want)
