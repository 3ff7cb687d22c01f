"""Words with their places: where in the source each character of a word is written, if it is written there at all."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from functools import cached_property

import msgspec

from wizard.existing.guest import Fate, Left, Where

LIMIT = 100 << 20  # bytes of a source; a log of libvirt's may have grown that far
SCRIPT_LIMIT = 8 << 20  # bytes of anything else: Linux takes no longer command line (a quarter of the stack, 6 MiB at most: fs/exec.c)
WORDS = 1_000_000


class Text:
    """A decoded source. ``inside`` is the word that it stands in, of a script within a script (``sh -c '…'``)."""

    def __init__(self, name: str, text: str, inside: Word | None = None) -> None:
        self.name, self.text, self._inside = name, text, inside

    @cached_property
    def _newlines(self) -> list[int]:
        found, at = [], self.text.find("\n")
        while at >= 0:
            found.append(at)
            at = self.text.find("\n", at + 1)
        return found

    def line(self, offset: int) -> int:
        """The line of a character, from 1."""
        return self._inside.line_at(offset) if self._inside is not None else bisect_right(self._newlines, offset - 1) + 1

    def where(self, start: int, end: int, path: str = "") -> Where:
        """The place of some characters."""
        if self._inside is not None:
            return self._inside.where(start, end, path)
        return Where(source=self.name, line=self.line(start), path=path, start=start, end=end)


class Run(msgspec.Struct, frozen=True):
    """Characters of a word that stand in a source as they are. ``quote`` is what they stand in: "", ', " or $'."""

    start: int  # in the word
    end: int
    source: int  # where the first stands in ``text``
    text: Text
    quote: str = ""


Trouble = Callable[[int, str, str, Fate], None]
"""Told of a place (its character), what stands there, a half sentence, and its fate: unknown is wrong, unresolved is not known."""


class Hole(msgspec.Struct, frozen=True):
    """A part of a word whose value the source does not hold; the word has the expression in its place."""

    start: int
    end: int
    expression: str  # $IMG, ${1}, %i, $(hostname)
    where: Where
    because: str = ""  # a half sentence
    split: bool = False  # unquoted: it may be any number of words, or none


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """One word of a command line."""

    text: str
    source: str  # as shown
    line: int | None = None
    number: int | None = None  # in its command line; 0 is the program
    runs: tuple[Run, ...] = ()
    holes: tuple[Hole, ...] = ()

    def where(self, start: int = 0, end: int | None = None, path: str = "") -> Where:
        """The place of a part of the word: with its characters where it is written in one piece, else the line or the word's number."""
        end = len(self.text) if end is None else end
        for run in self.runs:
            if run.start <= start and end <= run.end:
                return run.text.where(run.source + start - run.start, run.source + end - run.start, path)
        if self.runs or self.line is not None:
            return Where(source=self.source, line=self.line_at(start), path=path)
        return Where(source=self.source, word=self.number, path=path)

    def line_at(self, offset: int) -> int:
        """The line on which a character of the word is written; of one that is written nowhere, that of what stands before it."""
        line = self.line or 1
        for run in self.runs:
            if run.start > offset:
                break
            line = run.text.line(run.source + min(offset, run.end - 1) - run.start)
        return line

    def holed(self, start: int = 0, end: int | None = None) -> tuple[Hole, ...]:
        """The holes within a part of the word."""
        end = len(self.text) if end is None else end
        return tuple(hole for hole in self.holes if hole.start < end and start < hole.end)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command line of QEMU's: the program and its words, and what stands around it."""

    program: Word
    words: tuple[Word, ...] = ()
    before: tuple[Word, ...] = ()  # sudo, numactl --membind=1, taskset …
    environment: tuple[tuple[str, Word], ...] = ()
    user: str | None = None  # that it is started as
    memlock: int | None = None  # bytes, -1 unlimited; None: not said
    version: str | None = None  # QEMU's, from a log
    descriptors: Mapping[str, str] = {}  # of a running process: number -> function, or "tap:" and the name of a tap
    left: tuple[Left, ...] = ()  # what could not be understood on the way to these words


class Commands(msgspec.Struct, frozen=True, kw_only=True):
    """What a source holds."""

    commands: tuple[Command, ...]
    kind: str
    left: tuple[Left, ...] = ()  # of the source as a whole
