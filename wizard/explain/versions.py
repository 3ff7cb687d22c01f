"""In which versions a wording was read: ``messages/versions.tsv``, written by ``scripts/message-versions`` out of the sources themselves."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec

from wizard.explain.model import Message

FILE = Path(__file__).parent / "messages/versions.tsv"
HEAD = """\
# Wordings as they were read in sources: wording, program, first version that was looked at and has it, the last one before that has it not,
# last version that has it (empty: the newest one that was looked at), where it was read last (version and file), whole or in parts.
# Written by scripts/message-versions.
"""


class Read(msgspec.Struct, frozen=True):
    """A wording in the sources of its program."""

    text: str
    program: str
    first: str
    before: str  # empty: the oldest version that was looked at has it
    last: str
    version: str
    file: str
    how: str  # whole, or in parts: the source puts the words together out of several strings, and its age is not known

    def fields(self) -> tuple[str, ...]:
        """As the file has them."""
        return self.text, self.program, self.first, self.before, self.last, self.version, self.file, self.how

    @property
    def order(self) -> tuple[int, ...]:
        """Versions in their order."""
        return tuple(int(number) for number in self.first.split("."))

    @property
    def since(self) -> str:
        """``10.0``; ``8.2 < 9.2`` where the versions between were not looked at, ``≤ 5.2`` where none is older, empty in parts."""
        if self.how != "whole":
            return ""
        if not self.before:
            return f"≤ {self.first}"
        return self.first if self.program == "qemu" and _follow(self.before, self.first) else f"{self.before} < {self.first}"

    @property
    def source(self) -> str:
        """Where it was read: ``qemu 10.2, hw/vfio/iommufd.c``."""
        return f"{self.program} {self.version}, {self.file}" + (", in parts" if self.how != "whole" else "")


def _follow(before: str, version: str) -> bool:
    """Whether no release of QEMU is between two: it has three a year, N.0, N.1 and N.2."""
    (one, two), (major, minor) = (map(int, text.split(".")[:2]) for text in (before, version))
    return (major, minor) in ((one, two + 1), (one + 1, 0)) and (minor > 0 or two == 2)


@cache
def read() -> dict[str, Read]:
    """By the wording."""
    if not FILE.exists():
        return {}
    rows = [line.split("\t") for line in FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return {row[0]: Read(*row) for row in rows}


def of_message(one: Message) -> tuple[Read, ...]:
    """What was read of its wordings, in their order."""
    return tuple(found for text in one.wordings if (found := read().get(text)) is not None)
