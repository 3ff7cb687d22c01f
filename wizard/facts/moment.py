"""What moves from minute to minute, set apart when Facts are written and put back when they are read.

In memory a function's configuration space is whole and ``in_use`` holds everything. In a file the status bits (link,
power, errors, messages) stand in ``moment.status``, the session and what a process has open in ``moment.session``: two records of an unchanged
host are then equal outside ``moment``.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from wizard.arch.pci import EXTENDED_SPACE, Cap, ExtCap, HeaderType
from wizard.arch.pci_caps import ExpressCapabilities, MsiControl
from wizard.facts.capabilities import EXTENDED, capabilities
from wizard.facts.model import Facts, PciFunction

_STATUS_ERRORS = 0xF908  # errors seen and INTx asserted, of the Status register (PCIe 6.0, 7.5.1.1.4)
_SECONDARY_ERRORS = 0xF900
_POWER_STATE = 0x8003  # PowerState and PME_Status (7.5.2.2)
_ROOT_PORT, _DOWNSTREAM_PORT, _EVENT_COLLECTOR, _INTEGRATED = 4, 6, 10, 9
_SECONDARY, _PHYSICAL_16, _DOE = 0x19, 0x26, 0x2E  # extended capabilities

_PASSING = ("session", "open", "held", "rdma", "vm")  # kinds of use that come and go

Span = tuple[int, int, int]  # offset, size in bytes, mask of the bits that move


def _spans(data: bytes) -> tuple[Span, ...]:
    found = capabilities(data)
    words = tuple(data[offset + 2 : offset + 4] for number, offset in found if number in (Cap.EXPRESS, Cap.MSI))
    return _spans_of(HeaderType.read(data).LAYOUT, tuple(found), words)


@lru_cache(maxsize=1024)  # functions of one kind have their capabilities in the same places
def _spans_of(layout: int, found: tuple[tuple[int, int], ...], words: tuple[bytes, ...]) -> tuple[Span, ...]:
    """``words``: the registers that say which others there are, of each PCI Express and MSI capability in ``found``."""
    return tuple(_each_span(layout, found, iter(words)))


def _each_span(layout: int, found: tuple[tuple[int, int], ...], words: Iterator[bytes]) -> Iterator[Span]:
    yield 0x06, 2, _STATUS_ERRORS
    if layout == 1:
        yield 0x1E, 2, _SECONDARY_ERRORS
    port = None
    for number, offset in found:
        if number == Cap.EXPRESS:
            express = ExpressCapabilities.of_bytes(next(words))
            port = express.TYPE
            yield from _express_spans(express, offset)
        elif number == Cap.PM:
            yield offset + 4, 2, _POWER_STATE
        elif number == Cap.VPD:  # address and data registers, as whoever read last left them (7.9.18)
            yield offset + 2, 6, _all(6)
        elif number == Cap.MSI:  # address and data follow interrupt affinity on some machines, pending bits every interrupt
            control = MsiControl.of_bytes(next(words))
            size = 6 + 4 * bool(control.ADDRESS_64) + 10 * bool(control.MASKING)
            yield offset + 4, size, _all(size)
        elif number > EXTENDED:
            yield from _extended_spans(number - EXTENDED, offset, port)


def _express_spans(express: ExpressCapabilities, offset: int) -> Iterator[Span]:
    # A version 1 structure ends where its port type needs no more (7.5.3): what lies behind is not its own.
    whole, port = express.VERSION >= 2, express.TYPE
    yield offset + 0x0A, 2, 0x7F  # Device Status
    if whole or port not in (_INTEGRATED, _EVENT_COLLECTOR):
        yield offset + 0x12, 2, _all(2)  # Link Status
    if whole or port in (_ROOT_PORT, _DOWNSTREAM_PORT):
        yield offset + 0x1A, 2, _all(2)  # Slot Status
    if whole or port in (_ROOT_PORT, _EVENT_COLLECTOR):
        yield offset + 0x20, 4, _all(4)  # Root Status
    if whole:
        yield offset + 0x32, 2, _all(2)  # Link Status 2


def _extended_spans(number: int, offset: int, port: int | None) -> Iterator[Span]:
    if number == ExtCap.AER:
        yield offset + 0x04, 4, _all(4)  # Uncorrectable Error Status
        yield offset + 0x10, 4, _all(4)  # Correctable Error Status
        yield offset + 0x18, 1, 0x1F  # First Error Pointer
        yield offset + 0x1C, 16, _all(16)  # Header Log
        if port in (_ROOT_PORT, _EVENT_COLLECTOR):
            yield offset + 0x30, 8, _all(8)  # Root Error Status, Error Source
    elif number == ExtCap.PRI:
        yield offset + 0x06, 2, 0x0103  # Response Failure, Unexpected Index, Stopped
    elif number == ExtCap.DPC:
        yield offset + 0x08, 4, _all(4)  # status and source
    elif number == _SECONDARY:
        yield offset + 0x08, 4, _all(4)  # Lane Error Status (7.7.3.3)
    elif number == _PHYSICAL_16:
        yield offset + 0x0C, 4, _all(4)  # equalization status (7.7.5.4)
    elif number == _DOE:
        yield offset + 0x0C, 12, _all(12)  # status and mailboxes (7.9.24)


def _all(size: int) -> int:
    return int.from_bytes(b"\xff" * size, "little")


def _still(function: PciFunction) -> tuple[str, dict[str, str]]:
    """(configuration space without the bits that move, those bits by offset), both hex."""
    data = bytearray.fromhex(function.config)
    moved: dict[str, str] = {}
    for offset, size, mask in _spans(bytes(data)):
        end = min(offset + size, len(data))
        value = int.from_bytes(data[offset:end], "little") & mask
        if value:
            rest = int.from_bytes(data[offset:end], "little") & ~mask
            data[offset:end] = rest.to_bytes(end - offset, "little")
            moved[f"{offset:03x}"] = value.to_bytes(end - offset, "little").hex()
    return bytes(data).rstrip(b"\0").hex(), moved


def _whole(config: str, moved: dict[str, str]) -> str:
    data = bytearray.fromhex(config)
    for offset_text, bits in moved.items():
        offset, mask = int(offset_text, 16), bytes.fromhex(bits)
        if not 0 <= offset <= EXTENDED_SPACE - len(mask):
            raise ValueError(f"moment.status names byte {offset_text} of a configuration space")
        data.extend(bytes(max(0, offset + len(mask) - len(data))))
        for index, byte in enumerate(mask):
            data[offset + index] |= byte
    return bytes(data).rstrip(b"\0").hex()


def set_apart(facts: Facts) -> Facts:
    """As it is written: what moves is in ``moment`` alone."""
    functions, status = [], dict(facts.moment.status)
    for function in facts.functions:
        config, moved = _still(function) if function.config else ("", {})
        if moved:
            status[function.address] = moved
            function = msgspec.structs.replace(function, config=config)
        functions.append(function)
    session = tuple(use for use in facts.in_use if use.kind in _PASSING)
    return msgspec.structs.replace(
        facts,
        functions=tuple(functions),
        in_use=tuple(use for use in facts.in_use if use.kind not in _PASSING),
        moment=msgspec.structs.replace(facts.moment, status=status, session=facts.moment.session + session),
    )


def put_back(facts: Facts) -> Facts:
    """As it is read: the opposite of ``set_apart``. ``ValueError`` when the moment's bytes are no bytes of a function."""
    moment = facts.moment
    if not moment.status and not moment.session:
        return facts
    functions = tuple(
        msgspec.structs.replace(function, config=_whole(function.config, moved)) if (moved := moment.status.get(function.address)) else function
        for function in facts.functions
    )
    return msgspec.structs.replace(
        facts,
        functions=functions,
        in_use=facts.in_use + moment.session,
        moment=msgspec.structs.replace(moment, status={}, session=()),
    )
