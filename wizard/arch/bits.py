"""Registers and in-memory records, declared as named bit fields.

A record is a class whose attributes are fields; bit numbers are those of the specification, counted over the whole
record (bit 64 is bit 0 of its second 64-bit word). Nobody else in the program shifts and masks by hand:

    class IDR5(Record, bits=32):
        OAS = field(2, 0, "output address size", codes={0: "32", 1: "36"})
        GRAN4K = field(4, doc="4 KiB granule")

    IDR5(0x74).OAS            -> 4
    IDR5.build(OAS=5).value   -> 5
    IDR5(0x74).fields()       -> {"OAS": 4, "GRAN4K": 1, ...}
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, ClassVar, Self, overload


@cache
def _words(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}Q")


class Field:
    """Bits ``hi`` to ``lo`` of a record.

    ``shift`` is for addresses: the value read is the bits shifted left by it, and the value written must have those
    low bits clear. ``codes`` names the values that the specification gives a meaning; other values stay numbers.
    """

    __slots__ = ("codes", "doc", "hi", "lo", "mask", "name", "shift", "width")

    def __init__(self, hi: int, lo: int, doc: str, codes: Mapping[int, str] | None, shift: int) -> None:
        if not 0 <= lo <= hi:
            raise ValueError(f"no such bits: {hi}:{lo}")
        self.hi, self.lo, self.doc, self.codes, self.shift = hi, lo, doc, dict(codes or {}), shift
        self.width = hi - lo + 1
        self.mask = (1 << self.width) - 1
        self.name = ""

    def __set_name__(self, owner: type[Record], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, record: None, owner: type[Record]) -> Self: ...
    @overload
    def __get__(self, record: Record, owner: type[Record]) -> int: ...
    def __get__(self, record: Record | None, owner: type[Record]) -> Self | int:
        if record is None:
            return self
        return ((record.value >> self.lo) & self.mask) << self.shift

    def get(self, value: int) -> int:
        """The field in ``value``, the whole record as one integer."""
        return ((value >> self.lo) & self.mask) << self.shift

    def put(self, value: int, content: int) -> int:
        """``value`` with this field replaced; ``ValueError`` when ``content`` does not fit."""
        bits = content >> self.shift
        if content < 0 or bits > self.mask or bits << self.shift != content:
            raise ValueError(f"{self.name}={content:#x} does not fit bits {self.hi}:{self.lo}")
        return (value & ~(self.mask << self.lo)) | (bits << self.lo)

    def meaning(self, content: int) -> str | None:
        """The specification's name of a value, or None where it gives none."""
        return self.codes.get(content)


def field(hi: int, lo: int | None = None, doc: str = "", *, codes: Mapping[int, str] | None = None, shift: int = 0) -> Field:
    """Declare bits ``hi:lo`` (one bit when ``lo`` is left out) of a record."""
    return Field(hi, hi if lo is None else lo, doc, codes, shift)


def address(hi: int, lo: int, doc: str = "") -> Field:
    """Declare an address field: bits ``hi:lo`` hold address bits, the ones below ``lo`` modulo 64 are zero."""
    return Field(hi, lo, doc, None, lo % 64)


class Record:
    """One value of a declared layout; equality and hash are by value."""

    __slots__ = ("value",)
    bits: ClassVar[int] = 64
    layout: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls, *, bits: int = 64, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.bits = bits
        cls.layout = {**cls.layout, **{name: f for name, f in vars(cls).items() if isinstance(f, Field)}}
        for f in cls.layout.values():
            if f.hi >= bits:
                raise TypeError(f"{cls.__name__}.{f.name}: bit {f.hi} is outside {bits} bits")

    def __init__(self, value: int = 0) -> None:
        if not 0 <= value < 1 << self.bits:
            raise ValueError(f"{type(self).__name__} has {self.bits} bits: {value:#x}")
        self.value = value

    @classmethod
    def of_words(cls, words: Iterable[int]) -> Self:
        """From 64-bit words, first word lowest."""
        given = tuple(words)
        try:
            return cls(int.from_bytes(_words(len(given)).pack(*given), "little"))
        except struct.error:  # more than 64 bits, or below zero: what is beyond is cut off
            return cls(sum((word & 0xFFFF_FFFF_FFFF_FFFF) << (64 * index) for index, word in enumerate(given)))

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """From little-endian bytes, at most the record's own size."""
        return cls(int.from_bytes(data[: cls.bits // 8], "little"))

    @classmethod
    def build(cls, **contents: int) -> Self:
        """From named fields; every other bit is zero."""
        return cls(cls._with(0, contents))

    def replace(self, **contents: int) -> Self:
        """A copy with these fields changed; ``ValueError`` for an unknown name or a value that does not fit."""
        return type(self)(self._with(self.value, contents))

    @classmethod
    def _with(cls, value: int, contents: Mapping[str, int]) -> int:
        layout = cls.layout
        for name, content in contents.items():
            if (placed := layout.get(name)) is None:
                raise ValueError(f"{cls.__name__} has no field {name}")
            value = placed.put(value, content)
        return value

    @property
    def words(self) -> tuple[int, ...]:
        """The record as 64-bit words, first word lowest."""
        packed = _words(-(-self.bits // 64))
        return packed.unpack(self.value.to_bytes(packed.size, "little"))

    def fields(self) -> dict[str, int]:
        """Every declared field and its value, in order of declaration."""
        return {name: f.get(self.value) for name, f in self.layout.items()}

    @property
    def undeclared(self) -> int:
        """The bits that no field covers, in place: shown raw, never dropped."""
        known = 0
        for f in self.layout.values():
            known |= f.mask << f.lo
        return self.value & ~known

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Record) and other.value == self.value

    def __hash__(self) -> int:
        return hash((type(self), self.value))

    def __repr__(self) -> str:
        named = ", ".join(f"{name}={value:#x}" for name, value in self.fields().items() if value)
        return f"{type(self).__name__}({self.value:#x}{': ' + named if named else ''})"
