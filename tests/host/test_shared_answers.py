"""What is shared between functions of one kind is what each would be told alone: random bytes, asked with and without a memory of others."""

from __future__ import annotations

import random
from collections.abc import Callable

from wizard.arch.pci import Cap, ExtCap
from wizard.facts import layout
from wizard.host.function import CAPABILITIES, Capabilities
from wizard.host.model import Host
from wizard.host.pci import caps, extcaps
from wizard.host.pci import config as spaces
from wizard.host.pci.config import ConfigSpace, decode_config

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
    assert {None, Cap.EXPRESS, ExtCap.ACS} <= seen


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
