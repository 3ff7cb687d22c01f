"""What ``explain`` answers: the messages of a log in order, what they mean and carry, their causes, and which of them is the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

import msgspec

from wizard.explain.hits import Hit, Scan
from wizard.explain.matcher import Matcher
from wizard.explain.model import Cause, Message, Nature
from wizard.explain.order import Placed, Role, arrange, error_of
from wizard.explain.scanning import scan
from wizard.explain.strerror import meaning

SCHEMA = 1


class Answer(msgspec.Struct, frozen=True):
    """Whether a cause holds on a host: ``holds``, ``ruled out``, ``not known``, or ``possible`` where no host was asked; and by what."""

    state: str
    by: str = ""


POSSIBLE = Answer("possible")


class CauseView(msgspec.Struct, frozen=True):
    """One thing that may be behind a message. ``finding`` is a code of docs/findings.md, or empty."""

    finding: str
    because: str
    fix: str
    state: str
    by: str = ""  # what says so
    also: tuple[str, ...] = ()  # further findings that speak of the same


class Part(msgspec.Struct, frozen=True):
    """A variable part of a message: its name, what stood there, what that means."""

    name: str
    value: str
    means: str = ""


class EventView(msgspec.Struct, frozen=True):
    """An event of an SMMU as it is shown: its name, the fields of its record, and what they say in words."""

    number: str
    name: str | None
    fields: dict[str, str]
    said: str


class MessageView(msgspec.Struct, frozen=True):
    """One message that was found."""

    id: str
    by: str
    nature: str
    role: str
    of: int | None  # place in ``messages`` of the one that it follows from, or whose cause it has
    text: str
    line: int
    count: int
    means: str
    rules_out: str
    parts: tuple[Part, ...]
    causes: tuple[CauseView, ...]
    fix: str
    where: str
    event: EventView | None = None


class Report(msgspec.Struct, frozen=True):
    """The output of ``explain --json``."""

    schema: int
    lines: int
    recognised: int
    unknown: int
    first: int | None  # place in ``messages`` of the first cause
    messages: tuple[MessageView, ...]
    host: str | None = None  # which host the causes were held against
    host_error: str | None = None  # why none was
    more: bool = False  # there were more different messages than are told apart


class Judge(msgspec.Struct, frozen=True):
    """What knows a host and a plan: what a part means there, and whether a cause holds."""

    answer: Callable[[Cause, Hit], Answer]
    part: Callable[[str, str, Hit], str]
    host: str
    tree: bool = False  # its firmware gives a device tree


def explain(stream: BinaryIO, judge: Judge | None = None, *, matcher: Matcher | None = None, host_error: str | None = None) -> Report:
    """All that a log, a paste or a message says. Never raises for what stands in it."""
    return report_of(scan(matcher or Matcher(), stream), judge, host_error=host_error)


def report_of(found: Scan, judge: Judge | None = None, *, host_error: str | None = None) -> Report:
    """The report of what was found."""
    placed = arrange(found.hits)
    first = next((place for place, one in enumerate(placed) if one.role is Role.FIRST), None)
    messages = tuple(_view(one, judge) for one in placed)
    unknown = max(0, found.lines - found.recognised)
    return Report(SCHEMA, found.lines, found.recognised, unknown, first, messages, judge.host if judge else None, host_error, found.merged)


def of_record(words: Sequence[str], judge: Judge | None = None, *, host_error: str | None = None) -> Report:
    """The report of an event's raw words."""
    from wizard.explain import events as room

    event, bits = room.record_of(words)
    hit = Hit(
        room.message_of(event.number), 1, 0, " ".join(words), {"event": f"{event.number:#04x}", "stream": f"{event.stream_id or 0:#x}"}, 1, [event]
    )
    found = report_of(Scan([hit], 1, 1), judge, host_error=host_error)
    if bits < 256:
        short = f" Only {bits} of its 256 bits were given; the rest is taken for zero."
        found = msgspec.structs.replace(found, messages=(msgspec.structs.replace(found.messages[0], means=found.messages[0].means + short),))
    return found


def fitting(message: Message, error: str | None) -> tuple[Cause, ...]:
    """The causes that come with this error, in their order. All of them where none fits, or where it is not known."""
    if error is None:
        return message.causes
    return tuple(cause for cause in message.causes if not cause.errors or error in cause.errors) or message.causes


def _view(placed: Placed, judge: Judge | None) -> MessageView:
    hit, one = placed.hit, placed.hit.message
    error = error_of(hit)
    causes = []
    for cause in fitting(one, error):
        answer = judge.answer(cause, hit) if judge else POSSIBLE
        because, fix = cause.told(tree=judge is not None and judge.tree)
        causes.append(CauseView(cause.code, _named(because, hit), _named(fix, hit), answer.state, answer.by, tuple(cause.facts.split())))
    causes.sort(key=lambda cause: _STATES.get(cause.state, 1))
    return MessageView(
        one.id, one.by.value, one.nature.value, placed.role.value, placed.of, hit.text.strip(), hit.line, hit.count, one.means, one.rules_out,
        tuple(_parts(hit, error, judge)), tuple(causes), one.fix, one.where, _event(hit),
    )  # fmt: skip


def _event(hit: Hit) -> EventView | None:
    if not hit.events:
        return None
    from wizard.explain.events import view

    return EventView(*view(hit.events))


def _named(text: str, hit: Hit) -> str:
    """A sentence with the function that the message names in the place of FUNCTION."""
    function = next((hit.words[name] for name in ("function", "device") if hit.words.get(name, "").count(":") == 2), None)
    return text.replace("FUNCTION", function) if function else text


_STATES = {"holds": 0, "possible": 1, "not known": 1, "ruled out": 2}
_SILENT = frozenset({"words", "args", "opt", "type", "hex", "number", "count", "said"})


def _parts(hit: Hit, error: str | None, judge: Judge | None) -> list[Part]:
    found = []
    for name, value in hit.words.items():
        bare = name.rstrip("0123456789")
        if bare in _SILENT:
            continue
        means = (
            f"{error} ({meaning(error)})"
            if bare in ("errno", "error") and error
            else (judge.part(bare, value, hit) if judge else "") or _OWN.get(bare, "")
        )
        found.append(Part(bare, value, means))
    for event in hit.events:
        address = event.record.fields().get("InputAddr") if event.record is not None else None
        if address is not None:
            found.append(Part("address", f"{address:#x}", judge.part("iova", f"{address:#x}", hit) if judge else ""))
            break
    return found


_OWN = {
    "fd": "descriptor of the function in QEMU", "iommufd": "descriptor of /dev/iommu in QEMU",
    "id": "number of an iommufd object: an IOAS or a page table",
    "group": "IOMMU group", "pasid": "address space within the function; 0 is its own", "args": "", "stream": "StreamID",
}  # fmt: skip


def worst(report: Report) -> bool:
    """Whether anything was recognised that is not harmless."""
    return any(message.nature != Nature.HARMLESS.value for message in report.messages)
