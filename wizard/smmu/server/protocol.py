"""Commands of the protocol: one line in, one line out. docs/smmu-protocol.md describes each; a test reads its table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wizard import __version__
from wizard.arch.event import EVENT_BYTES, Event, PageRequest, name_of
from wizard.smmu.attributes import Attributes
from wizard.smmu.device import Smmu
from wizard.smmu.machine import Edge, Ended, Machine, Message, Moved, News, NothingAnswers, Recorded, Responded
from wizard.smmu.outcome import Ats, How, Outcome, Transaction
from wizard.smmu.server import words as read
from wizard.smmu.server.words import Refused
from wizard.smmu.state import StateError

if TYPE_CHECKING:
    from wizard.smmu.coverage import Coverage

VERSION = 1
LARGEST_LINE = 1 << 18
"""Bytes of a line, its end included."""
LARGEST_SAVES = 16
LISTED = 64
"""Event records that one reply lists."""

_SIZES = {"b": 1, "w": 2, "l": 4, "q": 8}
_DEVICE = ("ssid", "smmu")


@dataclass(slots=True)
class Protocol:
    """Commands on one machine.

    ``coverage`` is what they exercise, where it is noted; ``saved`` are states by name; ``why`` is the reason that the last access which did not
    pass was given.
    """

    machine: Machine
    coverage: Coverage | None = None
    saved: dict[str, bytes] = field(default_factory=dict)
    why: str = ""

    def answer(self, line: str) -> str:
        """The reply to a line: ``OK …`` or ``FAIL …``, never more than one line."""
        command, *rest = line.split() or [""]
        carry_out = COMMANDS.get(command)
        if carry_out is None:
            return f"FAIL command {read.shown(command)} is not known; help lists them." if command else "FAIL the line is empty."
        try:
            said = carry_out(self, rest)
        except (Refused, NothingAnswers, StateError, ValueError) as error:
            return f"FAIL {error}.".replace("\n", " ")
        except KeyError as error:
            return f"FAIL there is no {read.shown(str(error.args[0]))}."
        return f"OK {said}" if said else "OK"

    def told(self) -> list[str]:
        """The lines that the SMMUs have to say since they were last asked."""
        return [_line(one) for one in self.machine.news(forget=True)]

    # -- places -------------------------------------------------------------------------------------------------------

    def smmu(self, given: str | None) -> tuple[str, Smmu]:
        """An SMMU by its name; the first one without."""
        name = next(iter(self.machine.smmus)) if given is None else given
        if name not in self.machine.smmus:
            raise Refused(f"there is no SMMU {read.shown(name)}; there is {', '.join(self.machine.smmus)}")
        return name, self.machine[name]


Carry = Callable[[Protocol, list[str]], str]
COMMANDS: dict[str, Carry] = {}
USAGE: dict[str, str] = {}
"""The words of each command, as ``help`` and the documentation have them."""


def command(usage: str) -> Callable[[Carry], Carry]:
    """Declare a command by its usage: its name, then its places in capitals; what is in brackets may be left out, ... is options."""
    name, *places = usage.split()
    needed = sum(not place.startswith("[") for place in places)
    most = None if places and places[-1].endswith("...]") else len(places)

    def declare(function: Carry) -> Carry:
        def carry_out(protocol: Protocol, rest: list[str]) -> str:
            if len(rest) < needed or (most is not None and len(rest) > most):
                raise Refused(f"usage: {usage}")
            return function(protocol, rest)

        COMMANDS[name], USAGE[name] = carry_out, usage
        return function

    return declare


# -- the conversation -------------------------------------------------------------------------------------------------


@command("hello VERSION")
def _hello(protocol: Protocol, rest: list[str]) -> str:
    if (asked := read.number(rest[0], "version")) != VERSION:
        raise Refused(f"version {asked} of the protocol is not spoken here; version {VERSION} is")
    return f"{VERSION} smmu-wizard {__version__}"


@command("help")
def _help(protocol: Protocol, rest: list[str]) -> str:
    return " ".join(COMMANDS)


@command("machine")
def _machine(protocol: Protocol, rest: list[str]) -> str:
    smmus = [f"{name}@{placed.base:#x}" for name, placed in protocol.machine.smmus.items()]
    return " ".join([*smmus, *(f"ram@{start:#x}+{end - start:#x}" for start, end in protocol.machine.ranges())])


# -- registers and memory ---------------------------------------------------------------------------------------------


def _sized(letter: str, length: int) -> None:
    @command(f"read{letter} ADDRESS")
    def _read(protocol: Protocol, rest: list[str]) -> str:
        return f"{protocol.machine.read(read.number(rest[0], 'address'), length):#018x}"

    @command(f"write{letter} ADDRESS VALUE")
    def _write(protocol: Protocol, rest: list[str]) -> str:
        protocol.machine.write(read.number(rest[0], "address"), read.number(rest[1], "value", 8 * length), length)
        return ""


for _letter, _length in _SIZES.items():
    _sized(_letter, _length)


def _memory(protocol: Protocol, word: str) -> int:
    """An address of memory: several bytes at once are no access that registers know."""
    address = read.number(word, "address")
    if protocol.machine.is_register(address):
        raise Refused(f"{address:#x} is a register: readl, readq, writel and writeq reach it")
    return address


@command("read ADDRESS SIZE")
def _read(protocol: Protocol, rest: list[str]) -> str:
    return "0x" + protocol.machine.load(_memory(protocol, rest[0]), read.size(rest[1])).hex()


@command("write ADDRESS SIZE DATA")
def _write(protocol: Protocol, rest: list[str]) -> str:
    protocol.machine.store(_memory(protocol, rest[0]), read.data(rest[2], read.size(rest[1])))
    return ""


@command("memset ADDRESS SIZE VALUE")
def _memset(protocol: Protocol, rest: list[str]) -> str:
    protocol.machine.store(_memory(protocol, rest[0]), bytes([read.number(rest[2], "value", 8)]) * read.size(rest[1]))
    return ""


# -- devices ----------------------------------------------------------------------------------------------------------


def _transaction(rest: list[str], given: dict[str, str], *, write: bool, ats: Ats) -> Transaction:
    try:
        incoming = Attributes.parse(given["attr"]) if "attr" in given else None
    except ValueError as error:
        raise Refused(str(error)) from None
    return Transaction(
        sid=read.number(rest[0], "StreamID", 32),
        iova=read.number(rest[1], "address"),
        write=write,
        ssid=read.number(given["ssid"], "SubstreamID", 20) if "ssid" in given else None,
        privileged="priv" in given,
        instruction="inst" in given,
        ats=ats,
        incoming=incoming,
    )


@command("dma ACCESS SID ADDRESS SIZE [DATA] [OPTION...]")
def _dma(protocol: Protocol, rest: list[str]) -> str:
    access, *rest = rest
    if access not in ("read", "write"):
        raise Refused(f"{read.shown(access)} is no access: read or write")
    length, behind = read.size(rest[2]), rest[3:]
    data = None
    if behind and behind[0][:2] in ("0x", "0X"):
        if access == "read":
            raise Refused("a read has no data")
        data = read.data(behind.pop(0), length)
    given = read.options(behind, ("priv", "inst", "translated"), (*_DEVICE, "attr"))
    transaction = _transaction(rest, given, write=access == "write", ats=Ats.TRANSLATED if "translated" in given else Ats.UNTRANSLATED)
    name, _ = protocol.smmu(given.get("smmu"))
    moved = protocol.machine.dma(name, transaction, length, data)
    for one in moved:
        protocol.why = one.outcome.reason or protocol.why
    return " | ".join(map(_part, moved))


@command("ats SID ADDRESS [OPTION...]")
def _ats(protocol: Protocol, rest: list[str]) -> str:
    given = read.options(rest[2:], ("write", "priv", "inst"), _DEVICE)
    _, smmu = protocol.smmu(given.get("smmu"))
    outcome = smmu.translate(_transaction(rest, given, write="write" in given, ats=Ats.REQUEST))
    protocol.why = outcome.reason or protocol.why
    answer = outcome.ats
    if answer is None:
        raise Refused("the request had no answer")
    if answer.status != "success":
        return f"{answer.status}{_event(outcome)}"
    grants = [f"{name}={int(given)}" for name, given in (
        ("read", answer.read), ("write", answer.write), ("exec", answer.execute), ("priv", answer.privileged),
    )]  # fmt: skip
    return " ".join(["success", f"pa={answer.address:#x}", f"size={1 << answer.size:#x}", *grants])


@command("page-request SID ADDRESS INDEX [OPTION...]")
def _page_request(protocol: Protocol, rest: list[str]) -> str:
    given = read.options(rest[3:], ("read", "write", "exec", "priv", "last"), _DEVICE)
    _, smmu = protocol.smmu(given.get("smmu"))
    sid, address = read.number(rest[0], "StreamID", 32), read.number(rest[1], "address")
    if sid >> smmu.features.sidsize:
        raise Refused(f"StreamID {sid:#x} does not fit IDR1.SIDSIZE, {smmu.features.sidsize} bits")
    request = PageRequest.build(
        StreamID=sid, Addr=address & ~0xFFF, PRGIndex=read.number(rest[2], "index", 9), R=int("read" in given), W=int("write" in given),
        X=int("exec" in given), Priv=int("priv" in given), Last=int("last" in given), SSV=int("ssid" in given),
        SubstreamID=read.number(given["ssid"], "SubstreamID", 20) if "ssid" in given else 0,
    )  # fmt: skip
    response = smmu.page_request(request)
    if response is None:
        return ""
    return f"response {'-' if response.ssid is None else response.ssid} {response.index} {response.code}"


@command("endpoint SID STATE [OPTION...]")
def _endpoint(protocol: Protocol, rest: list[str]) -> str:
    given = read.options(rest[2:], (), ("smmu",))
    silent, sid = protocol.smmu(given.get("smmu"))[1].endpoints.silent, read.number(rest[0], "StreamID", 32)
    if rest[1] not in ("silent", "answers"):
        raise Refused(f"{read.shown(rest[1])} is neither silent nor answers")
    (silent.add if rest[1] == "silent" else silent.discard)(sid)
    return ""


@command("why")
def _why(protocol: Protocol, rest: list[str]) -> str:
    return protocol.why or "nothing was refused yet"


# -- looking at it ----------------------------------------------------------------------------------------------------


@command("status [SMMU]")
def _status(protocol: Protocol, rest: list[str]) -> str:
    _, smmu = protocol.smmu(rest[0] if rest else None)
    waiting = len(smmu.stalled) + len(smmu.report.stalls.waiting)
    return (
        f"gerror={smmu.read('GERROR') ^ smmu.read('GERRORN'):#x} cmdq-error={smmu.commands.error.value} events={smmu.queue.indices.held}"
        f" lost={smmu.queue.lost} merged={smmu.queue.merged} requests={smmu.requests.indices.held} stalled={waiting} commands={smmu.executed}"
    )


@command("events [SMMU]")
def _events(protocol: Protocol, rest: list[str]) -> str:
    queue = protocol.smmu(rest[0] if rest else None)[1].queue
    unread = queue.look(queue.indices.cons, min(queue.indices.held, LISTED))
    return " ".join([str(queue.indices.held), *map(_data, unread)])


def _data(event: Event) -> str:
    return f"0x{event.value.to_bytes(EVENT_BYTES, 'little').hex()}"


# -- state ------------------------------------------------------------------------------------------------------------


@command("reset [SMMU]")
def _reset(protocol: Protocol, rest: list[str]) -> str:
    if rest:
        protocol.smmu(rest[0])[1].reset()
    else:
        protocol.machine.reset()
    return ""


@command("coverage")
def _coverage(protocol: Protocol, rest: list[str]) -> str:
    if protocol.coverage is None:
        raise Refused("nothing is noted: start the server with --coverage")
    known, exercised = protocol.coverage.known, protocol.coverage.exercised
    return " ".join([str(len(exercised)), str(known), *(one.key for one in exercised)])


@command("save NAME")
def _save(protocol: Protocol, rest: list[str]) -> str:
    name = read.name(rest[0])
    if name not in protocol.saved and len(protocol.saved) >= LARGEST_SAVES:
        raise Refused(f"{LARGEST_SAVES} states are kept already")
    protocol.saved[name] = protocol.machine.save()
    return ""


@command("restore NAME")
def _restore(protocol: Protocol, rest: list[str]) -> str:
    if (name := read.name(rest[0])) not in protocol.saved:
        raise Refused(f"nothing was saved as {name}")
    protocol.machine.restore(protocol.saved[name])
    return ""


# -- lines ------------------------------------------------------------------------------------------------------------


def _event(outcome: Outcome) -> str:
    if outcome.event is None:
        return ""
    return f" event={name_of(outcome.event.Type)} recorded={int(outcome.recorded)}"


def _part(moved: Moved) -> str:
    """What became of a part of an access."""
    outcome = moved.outcome
    line = f"{outcome.how.value} iova={moved.iova:#x} size={moved.size}"
    if outcome.pa is not None:
        line += f" pa={outcome.pa:#x} attr={outcome.attributes} memory={int(moved.reached)}"
    line += _event(outcome)
    if outcome.how is How.STALLED:
        line += f" stag={outcome.stag}" if outcome.stag is not None else " stag=-"
    return line + (f" data=0x{moved.data.hex()}" if moved.data is not None else "")


def _line(news: News) -> str:
    if isinstance(news, Recorded):
        return f"EVENT {news.smmu} {name_of(news.event.Type)} {_data(news.event)}"
    if isinstance(news, Edge):
        return f"IRQ {news.smmu} {news.source.lower()}"
    if isinstance(news, Message):
        return f"MSI {news.smmu} {news.msi.source.lower()} {news.msi.address:#x} {news.msi.data:#x}"
    if isinstance(news, Ended):
        return f"ENDED {news.smmu} {news.transaction.sid:#x} {_part(news.moved)}"
    assert isinstance(news, Responded)
    given = news.response
    return f"PRGRESP {news.smmu} {given.StreamID:#x} {given.SubstreamID if given.SSV else '-'} {given.PRGIndex} {given.Resp}"
