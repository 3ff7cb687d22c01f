"""Event records of an SMMU: as messages, out of a log, and as raw words that somebody has written down (IHI 0070, section 7.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from wizard.arch import event as arch
from wizard.base.finding import OnTree
from wizard.explain.model import By, Cause, Message, Nature, Proof
from wizard.host.log import explain as meaning
from wizard.host.log.model import Event

_WORD = re.compile(r"(?:0x)?([0-9a-fA-F]{1,16})")
_HALF, _WHOLE = 32, 64  # bits of a word as it may be written
_WORDS = arch.EVENT_BYTES * 8 // _WHOLE
_HARMLESS = (arch.EventType.E_PAGE_REQUEST,)


def _message(kind: arch.EventType) -> Message:
    told = meaning.EXPLAINED[kind]
    words = {"device": "the device", "whose": "its driver, or the guest that has it", "requester": ""}
    on_tree = told.on_tree()
    said = OnTree(on_tree.why.format(**words), on_tree.fix.format(**words))
    cause = Cause("smmu-events", told.why.format(**words), told.fix.format(**words), on_tree=said)
    texts = (f"event 0x{kind:02x} received", f"event: {kind.name}")
    return Message(
        f"event-{kind:02x}", By.KERNEL, texts, f"The SMMU reported {kind.name} for a device's access.",
        "arm-smmu-v3.c, arm_smmu_dump_event(); IHI 0070 7.3", (cause,),
        nature=Nature.HARMLESS if kind in _HARMLESS else Nature.WARNING, proof=Proof.SOURCE,
        rules_out="The access was stopped: nothing was read or written.",
    )  # fmt: skip


EVENT_MESSAGES = tuple(map(_message, arch.EventType))
_BY_NUMBER: dict[int, Message] = dict(zip(arch.EventType, EVENT_MESSAGES, strict=True))
OTHER = Message(
    "event-other", By.KERNEL, ("event {event} received",), "The SMMU reported an event that the specification gives no meaning here.", "IHI 0070 7.3",
    (Cause("smmu-events", meaning.RESERVED.why, meaning.RESERVED.fix, on_tree=meaning.RESERVED.tree),), nature=Nature.WARNING, proof=Proof.SOURCE,
)  # fmt: skip


def message_of(number: int) -> Message:
    """The message of an event number."""
    return _BY_NUMBER.get(number, OTHER)


def is_record(texts: Sequence[str]) -> bool:
    """Whether words of a command line are an event's raw words, and nothing else."""
    return bool(texts) and texts[0].lower().startswith("0x") and all(map(_WORD.fullmatch, texts)) and len(texts) <= 2 * _WORDS


def record_of(texts: Sequence[str]) -> tuple[Event, int]:
    """The event of raw words, and how many of its bits were given.

    Four words of 64 bits, as the kernel prints them, or eight of 32: a word of more than eight digits, or a first one with a StreamID above
    its event number, says that they are the former. Words that were left away are zero.
    """
    digits = [found[1] for text in texts if (found := _WORD.fullmatch(text))]
    long = any(len(word) > _HALF // 4 for word in digits)
    width = _WHOLE if long else _HALF
    value = sum(int(word, 16) << (place * width) for place, word in enumerate(digits[: arch.EVENT_BYTES * 8 // width]))
    record = arch.decode(value)
    return Event("", record.Type, record, None), min(len(digits) * width, arch.EVENT_BYTES * 8)


def view(events: Sequence[Event]) -> tuple[str, str | None, dict[str, str], str]:
    """Events of one kind and stream as they are shown: number, name, the fields of the first record, and what all of them say in words."""
    first = next((event for event in events if event.record is not None), events[0])
    fields = {name: f"{value:#x}" for name, value in first.record.fields().items()} if first.record is not None and first.whole else {}
    return f"{first.number:#04x}", arch.name_of(first.number), fields, meaning.fields(events)
