"""What a file of a tree holds: how much of it is read, and which text that is."""

from __future__ import annotations

import os
import re

FILE_LIMIT = 1 << 20  # a dmesg of 1 MiB is cut; everything else is far smaller
JSON_LIMIT = 64 << 20
TEXT_LIMIT = 128 << 20  # bytes of a log, a listing or a database: lspci -xxxx of 8,192 functions has 115 MB
ATTRIBUTE_LIMIT = 65536  # the largest page of arm64: the kernel shows no more than a page of one
PATH_LIMIT = 4096  # PATH_MAX
PAGE = 4096  # bytes; an attribute that is shorter comes in one read

_ZEROS = tuple(map(bytes, (2048, 1024, 512, 256, 128, 64)))
_LINK = re.compile(rb"(?:\.\./)+[^\0\n]+\n?")


def written_link(data: bytes | None) -> str | None:
    """The target of a link that came as a file with its text: so zip, git without symlinks and some file systems carry it. None else."""
    return as_text(data.rstrip(b"\n")) if data and len(data) < PATH_LIMIT and _LINK.fullmatch(data) else None


def as_text(data: bytes) -> str:
    """Text without the white space around it, and without the zeros that tar pads an attribute with: sysfs calls each a page long."""
    return data.rstrip(b"\0").decode(errors="backslashreplace").strip()


def read_whole(descriptor: int, limit: int, path: str = "") -> bytes:
    """At most ``limit`` bytes of a file.

    An attribute of sysfs comes in one read, if it is shorter than a page. A file of /proc does not: it ends a read where the next line
    would not fit (seq_file), so that only an empty read is its end.
    """
    data = os.read(descriptor, min(limit, PAGE))
    if len(data) >= limit or (len(data) < PAGE and path.startswith("sys/")):
        return data
    pieces, left = [data], limit - len(data)
    while left and (data := os.read(descriptor, min(left, 1 << 20))):
        pieces.append(data)
        left -= len(data)
    return b"".join(pieces)


def without_zeros(data: bytes) -> bytes:
    """Configuration space without the zeros at its end."""
    # rstrip() alone looks at one byte after the other: of 4 KiB, of which most functions use a few hundred, that takes longer than to read them.
    end = len(data)
    for zeros in _ZEROS:
        if data.endswith(zeros, 0, end):
            end -= len(zeros)
    return data[:end].rstrip(b"\0")
