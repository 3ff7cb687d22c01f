"""What is remembered of configuration spaces and texts against finding it out anew, on spaces with bytes turned over and ends cut off."""

from __future__ import annotations

import random
from collections.abc import Iterator

from benchmarks.big_host import endpoint_config, port_config, vf_config
from tests.tools.hosts import facts
from wizard.facts import capabilities as lists
from wizard.facts import configbytes
from wizard.facts.capabilities import capabilities

POINTERS = (0x06, 0x0E, 0x14, 0x34, 0x40, 0x41, 0x50, 0x51, 0x70, 0x71, 0x100, 0x101, 0x102, 0x103, 0x140, 0x143, 0x150, 0x158, 0x160)
LENGTHS = (0, 16, 0x34, 0x35, 64, 65, 66, 0x71, 0x72, 256, 259, 260, 0x142, 0x144)


def spaces(count: int) -> Iterator[bytes]:
    """Real spaces and built ones, most of them damaged where lists begin and go on."""
    whole = [endpoint_config(5), vf_config(6), port_config(3, 9), bytes(4096), b"\xff" * 4096]
    whole += [bytes.fromhex(function.config) for function in facts("arm64-virt-canwbs").functions]
    some = random.Random(23)
    for _ in range(count):
        data = bytearray(some.choice(whole))
        for at in some.sample(POINTERS, some.choice((0, 0, 1, 2, 5))):
            data[at : at + 1] = bytes((some.choice((0x00, 0x10, 0x40, 0xFF, some.randrange(256))),))
        end = some.choice((*LENGTHS, some.randrange(4096))) if some.random() < 0.3 else len(data)
        yield bytes(data[:end]).rstrip(b"\0") if some.random() < 0.5 else bytes(data[:end])


def test_lists_that_are_known_are_those_that_are_walked() -> None:
    """Registers that a walk does not look at may differ; those that it looks at, and where the space ends, may not."""
    seen = set()
    for data in spaces(10_000):
        dead = len(data) <= 0x34 or data[:16] == b"\xff" * 16
        found = capabilities(data)
        assert found == (() if dead else lists._walk(data).found), data.hex()
        seen.add(found)
    assert len(seen) > 100


def test_texts_among_bytes_are_looked_for_where_they_can_be() -> None:
    """A part number, with or without what makes it one, among bytes of registers: the short look never misses what the long one finds."""
    some, found = random.Random(7), 0
    for _ in range(10_000):
        text = bytes(some.choices(b"AZaz09 ._:/-\0\x01\x80~", k=some.randrange(4, 14)))
        data = some.randbytes(8) + text + some.randbytes(8)
        if configbytes._TEXT.search(data):
            found += 1
            assert configbytes._IN_A_ROW in data.translate(configbytes._LETTERS), data
    assert found > 100


def test_known_texts_are_found_wherever_they_stand() -> None:
    """Also where two of them run into each other, or other letters of theirs stand around."""
    forms = [b"SNR-0001", b"SNR-00012", b"001122", b"0001SNR"]
    known, some = configbytes.Known(forms), random.Random(9)
    for _ in range(5_000):
        data = b"".join(some.choices([*forms, b"\0", b"S", b"0", b"SNR", b"\xff\x80"], k=some.randrange(1, 6)))
        start = some.randrange(0, 8)
        assert known.within(data, start) == sorted(form for form in forms if data.find(form, start) >= 0)
