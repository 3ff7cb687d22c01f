"""What moves from minute to minute, set apart when Facts are written and put back when they are read.

In memory a function's configuration space is whole and ``in_use`` holds everything. In a file the status bits (link,
power, errors, messages) stand in ``moment.status``, the session and what a process has open in ``moment.session``: two records of an unchanged
host are then equal outside ``moment``.
"""

from __future__ import annotations

import msgspec

from wizard.arch.pci import EXTENDED_SPACE
from wizard.facts.layout import Layout, layout_of
from wizard.facts.model import Facts, Moment, PciFunction

_PASSING = ("session", "open", "held", "rdma", "vm")  # kinds of use that come and go


def _moved(number: int, layout: Layout) -> dict[str, str]:
    """The bits that move, by offset, in hex; a bit that two registers claim stands in the first."""
    moved: dict[str, str] = {}
    for offset, size, mask in layout.spans:
        value = number >> 8 * offset & mask
        if value:
            moved[f"{offset:03x}"] = value.to_bytes(min(size, layout.length - offset), "little").hex()
            number ^= value << 8 * offset
    return moved


def _whole(config: str, moved: dict[str, str]) -> str:
    data = bytes.fromhex(config)
    number, length = int.from_bytes(data, "little"), len(data)
    for offset_text, bits in moved.items():
        offset, mask = int(offset_text, 16), bytes.fromhex(bits)
        if not 0 <= offset <= EXTENDED_SPACE - len(mask):
            raise ValueError(f"moment.status names byte {offset_text} of a configuration space")
        number |= int.from_bytes(mask, "little") << 8 * offset
        length = max(length, offset + len(mask))
    return number.to_bytes(length, "little").rstrip(b"\0").hex()


def set_apart(facts: Facts) -> Facts:
    """As it is written: what moves is in ``moment`` alone."""
    status = dict(facts.moment.status)
    for function in facts.functions:
        layout, number = layout_of(bytes.fromhex(function.config))
        if number & layout.moving:
            status[function.address] = _moved(number, layout)
    session = tuple(use for use in facts.in_use if use.kind in _PASSING)
    moment = msgspec.structs.replace(facts.moment, status=status, session=facts.moment.session + session)
    return msgspec.structs.replace(without_moment(facts), moment=moment)


def without_moment(facts: Facts) -> Facts:
    """All that is the same in two records of an unchanged host."""
    return msgspec.structs.replace(
        facts,
        functions=tuple(map(_still, facts.functions)),
        in_use=tuple(use for use in facts.in_use if use.kind not in _PASSING),
        moment=Moment(),
    )


def _still(function: PciFunction) -> PciFunction:
    layout, number = layout_of(bytes.fromhex(function.config))
    if not number & layout.moving:
        return function
    config = (number & ~layout.moving).to_bytes(layout.length, "little").rstrip(b"\0").hex()
    return msgspec.structs.replace(function, config=config)


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
