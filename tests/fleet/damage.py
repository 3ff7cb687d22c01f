"""A directory of snapshots with every kind of damage that fleets have met, and what is to be said of each file.

    python -m tests.fleet.damage DIRECTORY [--files N] [--every N]

writes N files of which one in so many is damaged, and prints the names of those as JSON: ``{name: [finding, words]}``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import lzma
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from tests.fleet.hosts import bound, renumbered_parts
from wizard.facts.model import Facts
from wizard.facts.snapshot import encode

Write = Callable[[Path, bytes], None]


@dataclass(frozen=True)
class Damage:
    """How a file comes about from a whole snapshot's bytes, the end of its name, and what of it is told."""

    write: Write
    says: str  # a pattern
    suffix: str = ".json"
    code: str = "fleet-unreadable"


def _bytes(change: Callable[[bytes], bytes]) -> Write:
    def write(path: Path, data: bytes) -> None:
        path.write_bytes(change(data))

    return write


def _text(old: str, new: str) -> Write:
    def write(path: Path, data: bytes) -> None:
        text = data.decode()
        assert old in text, old
        path.write_text(text.replace(old, new, 1))

    return write


def _put(key: str, value: str) -> Write:
    """Another value of a field at the top."""

    def change(data: bytes) -> bytes:
        text, count = re.subn(rf'^ "{key}": .*?(,?)$', rf' "{key}": {value}\1', data.decode(), count=1, flags=re.MULTILINE)
        assert count == 1, key
        return text.encode()

    return _bytes(change)


def zstandard(data: bytes) -> bytes:
    """A Zstandard frame of raw blocks (RFC 8878, 3.1.1): Python has no packer before 3.14."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0xA0]) + len(data).to_bytes(4, "little")
    pieces = [data[at : at + 65536] for at in range(0, len(data), 65536)]
    for number, piece in enumerate(pieces):
        frame += (len(piece) << 3 | (number == len(pieces) - 1)).to_bytes(3, "little") + piece
    return frame


def _listed_twice(key: str) -> Write:
    def change(data: bytes) -> bytes:
        value = json.loads(data)
        value[key].append(value[key][0])
        return json.dumps(value).encode()

    return _bytes(change)


def _many_functions(data: bytes) -> bytes:
    value = json.loads(data)
    one = json.dumps({"address": "0000:00:00.0", "path": "p", "vendor": "0x1", "device": "0x1", "class": "0x0"})
    value["functions"] = 0
    return json.dumps(value).replace('"functions": 0', '"functions": [' + ",".join([one] * 65537) + "]").encode()


def _socket(path: Path, data: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        here = os.open(path.parent, os.O_PATH)  # a socket's address has at most 107 bytes
        try:
            one.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


KINDS: dict[str, Damage] = {
    "cut": Damage(_bytes(lambda data: data[: len(data) // 2]), "not whole JSON .*cut short"),
    "cut-gz": Damage(_bytes(lambda data: gzip.compress(data)[:-900]), "cut short", ".json.gz"),
    "cut-xz": Damage(_bytes(lambda data: lzma.compress(data)[:-900]), "cut short", ".json.xz"),
    "cut-zst": Damage(_bytes(lambda data: zstandard(data)[:-900]), "cut short|needs Python 3.14", ".json.zst"),
    "flipped-gz": Damage(_bytes(lambda data: (p := gzip.compress(data))[:-8] + bytes([p[-8] ^ 1]) + p[-7:]), "damaged.*CRC", ".json.gz"),
    "not-gz": Damage(_bytes(lambda data: data), "damaged, or not packed as its name says", ".json.gz"),
    "not-xz": Damage(_bytes(lambda data: b"no archive at all"), "damaged, or not packed as its name says", ".json.xz"),
    "unsaid-gz": Damage(_bytes(gzip.compress), r"is packed, and its name does not end in \.gz"),
    "bomb": Damage(_bytes(lambda data: gzip.compress(b" " * (65 << 20), 9)), "more than 64MiB", ".json.gz"),
    "bom": Damage(_bytes(lambda data: b"\xef\xbb\xbf" + data), "begins with a byte order mark"),
    "utf-16": Damage(_bytes(lambda data: data.decode().encode("utf-16")), "byte order mark of UTF-16"),
    "utf-16be": Damage(_bytes(lambda data: data.decode().encode("utf-16-be")), "UTF-16 or UTF-32"),
    "latin-1": Damage(_bytes(lambda data: data.replace(b'"vendor": "QEMU"', b'"vendor": "QEM\xdc"', 1)), "UTF-8"),
    "empty": Damage(_bytes(lambda data: b""), "is empty"),
    "blank": Damage(_bytes(lambda data: b" \n\n"), "is empty"),
    "empty-gz": Damage(_bytes(lambda data: b""), "is empty", ".json.gz"),
    "zeros": Damage(_bytes(lambda data: bytes(len(data))), "nothing but zero bytes"),
    "binary": Damage(_bytes(lambda data: b"\x7fELF\x02\x01\x01\0\xff\xfe" + bytes(range(256))), "nothing that can be read"),
    "foreign": Damage(_bytes(lambda data: b'{"name": "package", "version": "1.0.0"}'), "not a snapshot"),
    "array": Damage(_bytes(lambda data: b"[" + data + b"]"), "not a snapshot"),
    "twice-over": Damage(_bytes(lambda data: data + data), "not whole JSON"),
    "conflict": Damage(_text('"redacted"', '<<<<<<< HEAD\n"redacted"'), "not whole JSON"),
    "directory": Damage(lambda path, data: path.mkdir(), "is a directory"),
    "pipe": Damage(lambda path, data: os.mkfifo(path), "is a pipe"),
    "socket": Damage(_socket, "is a socket"),
    "device": Damage(lambda path, data: path.symlink_to("/dev/zero"), "is a device"),
    "loop": Damage(lambda path, data: path.symlink_to(path.name), "Too many levels of symbolic links"),
    "dangling": Damage(lambda path, data: path.symlink_to("gone/away.json"), "There is no file"),
    "function-twice": Damage(_listed_twice("functions"), "function .* is listed twice"),
    "smmu-twice": Damage(_listed_twice("iommus"), "SMMU .* is listed twice"),
    "group-twice": Damage(_listed_twice("groups"), "group .* is listed twice"),
    "newer": Damage(_put("version", "2"), "version 2; this program reads up to version 1"),
    "version-0": Damage(_put("version", "0"), "names no snapshot version"),
    "version-huge": Damage(_put("version", "9" * 25), "snapshot of version|not a snapshot"),
    "memory-2-64": Damage(_put("memory_total", str(1 << 64)), r"memory_total"),
    "memory-2-63": Damage(_put("memory_total", str(1 << 63)), r"memory_total"),
    "memory-negative": Damage(_put("memory_total", "-1"), r"memory_total"),
    "memory-digits": Damage(_put("memory_total", "9" * 5000), "out of range"),
    "memory-float": Damage(_put("memory_total", "1e19"), r"memory_total"),
    "nan": Damage(_put("memory_total", "NaN"), "not whole JSON"),
    "infinite": Damage(_put("cpus", "1e999"), "range"),
    "cpus-huge": Damage(_put("cpus", str(1 << 40)), r"cpus"),
    "deep": Damage(_put("unread", "[" * 100000), "nested deeper than 32 levels"),
    "deep-whole": Damage(_put("unread", "[" * 5000 + "]" * 5000), "nested deeper than 32 levels"),
    "many-functions": Damage(_bytes(_many_functions), "65537 functions, more than 65536"),
    "many-values": Damage(_put("unread", "[" + ",".join("1" * (4200 << 10)) + "]"), "more than 4194304 values"),
    "null-functions": Damage(_put("log_complete", '"yes"'), "log_complete"),
    "half-byte": Damage(_text('"config": "', '"config": "0'), "half a byte"),
    "address": Damage(_text('"address": "0000:', '"address": "zzzz:'), "regex|pattern"),
    "x86": Damage(_text('"machine": "aarch64"', '"machine": "x86_64"'), "another architecture", code="fleet-not-arm64"),
    "old": Damage(_bytes(lambda data: data), "more than 30 days ago", code="fleet-old-snapshot"),
    "ahead": Damage(_bytes(lambda data: data), "still to come", code="fleet-time-ahead"),
    "duplicate": Damage(_bytes(lambda data: data), "is of the same host", code="fleet-duplicate-host"),
    "one-image": Damage(_bytes(lambda data: data), "is another machine", code="fleet-shared-machine-id"),
}
"""By the name of a kind. Unreadable files are not among them: root reads everything."""

TIMES = {"old": "2020-01-01T00:00:00Z", "ahead": "2190-01-01T00:00:00Z"}


def host(number: int, name: str) -> Facts:
    """A host with an identity and serial numbers of its own."""
    facts = renumbered_parts(bound(name), f"{number}")
    return replace(facts, memory_total=(facts.memory_total or 0) + number * 65536)


def build(directory: Path, files: int = 2 * len(KINDS), every: int = 2) -> dict[str, Damage]:
    """Write them; which files are damaged, and how."""
    kinds = list(KINDS)
    named: dict[str, Damage] = {}
    for number in range(files):
        turn, damaged = divmod(number, every)
        if damaged:
            (directory / f"{number:05}-whole.json").write_bytes(encode(host(number, f"host-{number}")))
            continue
        kind = kinds[turn % len(kinds)]
        one = KINDS[kind]
        facts = host(number, f"host-{number}")
        facts = replace(facts, moment=replace(facts.moment, time=TIMES.get(kind)))
        name = f"{number:05}-{kind}{one.suffix}"
        one.write(directory / name, encode(facts))
        named[name] = one
        if kind in ("duplicate", "one-image"):  # these take two
            other = host(number if kind == "duplicate" else number + files, f"host-{number}")
            (directory / f"{number:05}-{kind}x.json").write_bytes(encode(other))
            if kind == "one-image":
                named[f"{number:05}-{kind}x.json"] = one
            else:  # of equal ones the first counts
                named[f"{number:05}-{kind}x.json"] = named.pop(name)
    return named


def main() -> None:
    """Write a directory, print what is in it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--every", type=int, default=8)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    named = build(arguments.directory, arguments.files, arguments.every)
    print(json.dumps({name: [damage.code, damage.says] for name, damage in named.items()}, indent=1))


if __name__ == "__main__":
    main()
