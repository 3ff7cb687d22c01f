"""Mutations that keep enough of a format to get past its first check: of bytes, of lines and words, and of JSON by its types."""

from __future__ import annotations

import json
from random import Random
from typing import Any

# What breaks readers: ends of ranges, other kinds of digits, control and bidirectional characters, markup, shells, paths, addresses.
NUMBERS = (
    0, 1, -1, 2, 7, 8, 31, 32, 63, 64, 255, 256, 4095, 4096, 65535, 65536,
    2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30,
)  # fmt: skip
TEXTS = (
    "", " ", "0", "-1", "0x", "0x0", "0xffffffff", "0xffffffffffffffff", "ffff:ff:1f.7",
    "0000:14:00.0", "10000000:00:00.0", "00000000:00:00.0", "null", "nan",
    "../../../../etc/passwd", "/dev/zero", "a/b", "..", "\x00", "\x1b[2J", "\x9b31m", "[bold]", "[/]",
    "\u202e\u2066", "\U000e0041", "\ue000", "é" * 70, "$(reboot)", "`id`", "'", '"', ",",
    ",,x=y",
    "%s%n", "{subject}", "{0}", "\r\n", "a\nb", "１２", "٣", "²", "Ⅷ", "1" * 5000, "0x" + "f" * 5000,
    "smmu3.0x0000000012000000", "smmu3.0x" + "f" * 40, "smmu3.0x", "dmar0",
    "]]>", "<!--", "&amp;", "0-4294967295", "0-", "1,", "1e400", "off", "auto", "accel", "4G", "99999999999999P", "y" * 10000,
)  # fmt: skip
BLOCKS = (
    b"", b"\0", b"\xff", b"\n", b"\xc3\x28", b"\xed\xa0\x80", b"[", b"{", b'"', b"=", b"0",
    b"9" * 400, b"\0" * 64, b"\xff" * 64, b"[[a]]\n", b"\\u0000", b"\\ud800",
)  # fmt: skip


def mutate(data: bytes, random: Random, kind: str) -> bytes:
    """One to six mutations of a seed, of the kind that its reader names: bytes, text or json."""
    if kind == "json" and random.random() < 0.85:
        try:
            value = json.loads(data)
        except ValueError:
            return mutate(data, random, "text")
        for _ in range(random.randint(1, 6)):
            value = _json(value, random, 0)
        return json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="replace")
    for _ in range(random.randint(1, 6)):
        data = _lines(data, random) if kind != "bytes" and random.random() < 0.6 else _bytes(data, random)
    return data


def _bytes(data: bytes, random: Random) -> bytes:
    at = random.randint(0, len(data))
    end = min(len(data), at + random.choice((1, 1, 2, 4, 8, 64)))
    match random.randint(0, 6):
        case 0:
            return data[:at] + bytes([random.randint(0, 255)]) + data[at + 1 :]
        case 1:
            return data[:at] + (bytes([data[at] ^ (1 << random.randint(0, 7))]) if at < len(data) else b"") + data[at + 1 :]
        case 2:
            return data[:at] + data[end:]
        case 3:
            return data[:at] + random.choice(BLOCKS) + data[at:]
        case 4:
            return data[:end] + data[at:end] * random.choice((1, 2, 30)) + data[end:]
        case 5:
            return data[:at] + random.choice(NUMBERS[:20]).to_bytes(16, "little", signed=True)[: random.choice((1, 2, 4, 8))] + data[end:]
        case _:
            return data[:at]


def _lines(data: bytes, random: Random) -> bytes:
    lines = data.split(b"\n")
    at = random.randrange(len(lines))
    match random.randint(0, 5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(random.randint(0, len(lines)), lines[at])
        case 2:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            words = _words(lines[at])
            place = random.randrange(len(words))
            words[place] = random.choice(TEXTS).encode() if random.random() < 0.6 else str(random.choice(NUMBERS)).encode()
            lines[at] = b"".join(words)
    return b"\n".join(lines)


def _words(line: bytes) -> list[bytes]:
    words, word = [], bytearray()
    for byte in line:
        if chr(byte).isalnum() or byte in b"_.":
            word.append(byte)
        else:
            words += [bytes(word), bytes([byte])]
            word.clear()
    return [*words, bytes(word)]


def _json(value: Any, random: Random, depth: int) -> Any:
    # Deeper in with some chance, so that every level is met; what is changed keeps its type most of the time.
    if value and isinstance(value, (list, dict)) and random.random() < 0.92 - depth / 50:
        keys: list[Any] = list(range(len(value))) if isinstance(value, list) else list(value)
        key = random.choice(keys)
        chance = random.random()
        if chance < 0.05:
            del value[key]
        elif chance < 0.08 and isinstance(value, dict):
            value[random.choice(TEXTS)] = value.pop(key)
        elif chance < 0.14 and isinstance(value, list):
            value.insert(random.randint(0, len(value)), json.loads(json.dumps(value[key])))
        elif chance < 0.17 and isinstance(value, dict):
            value[random.choice(TEXTS)] = json.loads(json.dumps(value[key]))
        else:
            value[key] = _json(value[key], random, depth + 1)
        return value
    if random.random() < 0.12:
        return random.choice([None, True, 0, -1, 1.5, "", [], {}, [[]], {"a": 1}, *NUMBERS, *TEXTS])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return random.choice(NUMBERS) if random.random() < 0.6 else value + random.choice((-1, 1, 8, -4096))
    if isinstance(value, str):
        chance = random.random()
        if chance < 0.35:
            return random.choice(TEXTS)
        if chance < 0.5 and len(value) > 3:
            return value[: random.randrange(len(value))]
        changed = _lines(value.encode(errors="replace"), random) if chance < 0.8 else _bytes(value.encode(errors="replace"), random)
        return changed.decode(errors="replace")
    if isinstance(value, list):
        return random.choice([[], value[:1], value * 2, [value]])
    if isinstance(value, dict):
        return {}
    return random.choice(["", 0, [], {}, "x"])
