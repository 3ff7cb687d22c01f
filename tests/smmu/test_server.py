"""The server as other people's programs meet it: by its socket alone, in a process of its own.

Expectations are those of IHI 0070 and docs/smmu-protocol.md.
"""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tools.processes import LIMIT, ending
from wizard.arch.command import Op, build
from wizard.arch.event import Event, EventType, decode
from wizard.arch.registers import QueueBase, register
from wizard.smmu.client import Client, Failed
from wizard.smmu.server.protocol import COMMANDS, LARGEST_LINE, USAGE, Protocol
from wizard.smmu.server.serve import LARGEST_CLIENTS, LARGEST_UNREAD, Conversation
from wizard.smmu.server.serve import Client as Served
from wizard.smmu.server.setup import machine_of
from wizard.smmu.tables import Allocator, ContextTable, PageTable, StreamTable, bypass_entry, context_descriptor, stage1_entry

ROOT = Path(__file__).parents[2]
BASE = 0x0905_0000
COMMANDS_AT, EVENTS_AT, REQUESTS_AT, MESSAGES = 0x4800_0000, 0x4810_0000, 0x4820_0000, 0x4830_0000
VA, PA = 0x8000_0000, 0x5000_0000


@contextmanager
def serving(path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A server that listens at ``path``."""
    command = [sys.executable, "-m", "wizard", "smmu-server", "--socket", str(path), *words]
    with ending(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"listening on {path}\n"
        yield process


@dataclass
class Words:
    """Memory behind a client, as builders of tables write it."""

    client: Client

    def read(self, address: int) -> int | None:
        return self.client.read(address, 8)

    def write(self, address: int, word: int) -> None:
        self.client.write(address, word, 8)

    def zero(self, address: int, size: int) -> None:
        for part in range(address, address + size, 65536):
            self.client.ask(f"memset {part:#x} {min(65536, address + size - part)} 0")


class Driver:
    """What a driver does, by registers and memory alone."""

    def __init__(self, client: Client, base: int = BASE) -> None:
        self.client, self.base, self.prod = client, base, 0

    def write(self, name: str, value: int) -> None:
        found = register(name)
        self.client.write(self.base + found.offset, value, found.size)

    def read(self, name: str) -> int:
        found = register(name)
        return self.client.read(self.base + found.offset, found.size)

    def issue(self, *commands: tuple[int, ...]) -> None:
        """Put commands into the queue, and tell the SMMU (3.5.1)."""
        for words in commands:
            self.client.store(COMMANDS_AT + 16 * (self.prod & 15), b"".join(word.to_bytes(8, "little") for word in words))
            self.prod = self.prod + 1 & 31
        self.write("CMDQ_PROD", self.prod)

    def record(self) -> Event | None:
        """The next event record, taken out of the queue (7.2)."""
        cons, prod = self.read("EVENTQ_CONS"), self.read("EVENTQ_PROD")
        if cons & 0xF_FFFF == prod & 0xF_FFFF:
            return None
        found = Event.of_bytes(self.client.load(EVENTS_AT + 32 * (cons & 3), 32))
        self.write("EVENTQ_CONS", (cons & 1 << 31) | (cons + 1 & 7))
        return decode(found.value)

    def begin(self) -> None:
        """Queues, interrupts as messages, an empty stream table, the SMMU on (6.3.9: each enable bit is acknowledged)."""
        self.memory, self.space = Words(self.client), Allocator(0x4010_0000, 0x4800_0000)
        self.streams = StreamTable(self.memory, self.space, log2size=4)
        self.table = PageTable(self.memory, self.space, stage=1, input_bits=39)
        self.contexts = ContextTable(self.memory, self.space)
        self.write("CR2", 2)
        for name, where, log2 in (("CMDQ", COMMANDS_AT, 4), ("EVENTQ", EVENTS_AT, 2), ("PRIQ", REQUESTS_AT, 2)):
            self.write(f"{name}_BASE", QueueBase.build(ADDR=where, LOG2SIZE=log2).value)
        for index, name in enumerate(("GERROR", "EVENTQ", "PRIQ")):
            self.write(f"{name}_IRQ_CFG0", MESSAGES + 4 * index)
            self.write(f"{name}_IRQ_CFG1", 0x100 + index)
        self.write("IRQ_CTRL", 7)
        self.write("STRTAB_BASE", self.streams.base)
        self.write("STRTAB_BASE_CFG", self.streams.config)
        self.write("CR0", 0xF)
        assert self.read("CR0ACK") == 0xF


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    where = tmp_path_factory.mktemp("smmu") / "s"
    with serving(where, "--smmu", "one", "--smmu", "two@0xa000000,like=qemu,gbpa=0x100000"):
        yield where


@pytest.fixture
def client(path: Path) -> Iterator[Client]:
    with Client.at(path, LIMIT) as found:
        found.ask("reset")
        yield found


# -- a driver ---------------------------------------------------------------------------------------------------------


def test_a_driver_by_the_socket_alone(client: Client) -> None:
    """Queues in memory, CMD_SYNC by message, faults and their records, global errors: all by registers and memory."""
    driver = Driver(client)
    driver.begin()
    client.ask("irq on")
    assert client.ask("dma write 3 0x80000000 4 0x01020304").startswith("aborted iova=0x80000000 size=4 event=C_BAD_STE recorded=1")
    record_as_data = client.ask("events").split()[1]
    assert client.told == [f"EVENT one C_BAD_STE {record_as_data}", "IRQ one eventq", f"MSI one eventq {MESSAGES + 4:#x} 0x101"]
    assert record_as_data == "0x" + client.load(EVENTS_AT, 32).hex()
    assert client.read(MESSAGES + 4, 4) == 0x101
    record = driver.record()
    assert record is not None
    assert (record.Type, record.StreamID) == (EventType.C_BAD_STE, 3)

    driver.table.map(VA, PA, 0x2000)
    driver.contexts.set(0, context_descriptor(driver.table, asid=5))
    driver.streams.set(3, stage1_entry(driver.contexts))
    assert client.ask("dma read 3 0x80000000 4").startswith("aborted"), "the ILLEGAL entry is cached until it is invalidated (4.3.1)"
    client.told.clear()
    driver.issue(build(Op.CFGI_STE, StreamID=3, Leaf=1).words, build(Op.SYNC, CS=1, MSIAddress=MESSAGES + 16, MSIData=0xCAFE).words)
    assert client.read(MESSAGES + 16, 4) == 0xCAFE
    assert client.told == ["IRQ one sync", f"MSI one sync {MESSAGES + 16:#x} 0xcafe"]
    assert (driver.read("CMDQ_CONS"), driver.read("GERROR")) == (2, 0)
    client.store(PA + 0xFFE, b"abcd")
    assert client.ask("dma read 3 0x80000ffe 4") == (
        f"translated iova=0x80000ffe size=2 pa={PA + 0xFFE:#x} attr=Normal-iWB-oWB-ISH memory=1 data=0x6162"
        f" | translated iova=0x80001000 size=2 pa={PA + 0x1000:#x} attr=Normal-iWB-oWB-ISH memory=1 data=0x6364"
    )
    assert driver.record() is not None
    client.ask("dma write 3 0x80002000 1 0xff")
    record = driver.record()
    assert record is not None
    assert (record.Type, record.fields()["InputAddr"], record.fields()["RnW"]) == (EventType.F_TRANSLATION, 0x8000_2000, 0)
    assert driver.record() is None
    assert client.ask("why").startswith("stage 1 level 3 descriptor")


def test_a_global_error_is_acknowledged_and_the_queue_goes_on(client: Client) -> None:
    """7.1: CERROR_ILL stops the queue; software puts the command right, then writes GERRORN."""
    driver = Driver(client)
    driver.begin()
    client.ask("irq on")
    driver.issue((0xFF, 0), build(Op.SYNC).words)
    assert driver.read("CMDQ_CONS") == 1 << 24
    assert driver.read("GERROR") ^ driver.read("GERRORN") == 1
    assert client.told == ["IRQ one gerror", f"MSI one gerror {MESSAGES:#x} 0x100"]
    assert client.status()["cmdq-error"] == 1
    client.store(COMMANDS_AT, build(Op.SYNC).value.to_bytes(16, "little"))
    driver.write("GERRORN", driver.read("GERROR"))
    assert driver.read("CMDQ_CONS") & 0xF_FFFF == 2
    assert client.status()["gerror"] == 0
    client.ask("endpoint 3 silent")
    driver.issue(build(Op.ATC_INV, StreamID=3, Size=52).words, build(Op.SYNC).words)
    assert driver.read("CMDQ_CONS") >> 24 == 3, "CERROR_ATC_INV_SYNC (3.9.1.4)"
    client.told.clear()
    driver.write("GERRORN", driver.read("GERROR"))
    driver.issue(build(Op.SYNC, CS=1).words)
    assert client.told == ["IRQ one sync"], "without an address there is the wire alone (4.7.3)"


def test_an_overflow_a_stall_and_a_page_request(client: Client) -> None:
    driver = Driver(client)
    driver.begin()
    client.ask("irq on")
    for page in range(6):
        client.ask(f"dma write 7 {page << 12:#x} 4")
    assert driver.read("EVENTQ_PROD") == 1 << 31 | 4, "full, and OVFLG has toggled (7.4)"
    assert client.ask("events").split()[0] == "4"
    assert client.status()["lost"] == 2
    driver.write("EVENTQ_CONS", 1 << 31 | 4)

    driver.contexts.set(0, context_descriptor(driver.table, asid=5, S=1, A=0))
    driver.streams.set(3, stage1_entry(driver.contexts, EATS=1))
    assert client.ask("dma write 3 0x80000010 3 0x0a0b0c") == "stalled iova=0x80000010 size=3 event=F_TRANSLATION recorded=1 stag=0"
    driver.table.map(VA, PA, 0x1000)
    client.told.clear()
    driver.issue(build(Op.RESUME, StreamID=3, STAG=0, Action=1).words)
    assert client.told == [f"ENDED one 0x3 translated iova=0x80000010 size=3 pa={PA + 16:#x} attr=Normal-iWB-oWB-ISH memory=1"]
    assert client.load(PA + 16, 3) == b"\x0a\x0b\x0c"

    assert client.ask("ats 3 0x80000000 write") == f"success pa={PA:#x} size=0x1000 read=1 write=1 exec=0 priv=0"
    client.told.clear()
    assert client.ask("page-request 3 0x80001000 9 read last") == ""
    assert client.told == ["IRQ one priq", f"MSI one priq {MESSAGES + 8:#x} 0x102"]
    assert client.read(REQUESTS_AT, 8) == 3 | 1 << 60 | 1 << 62
    driver.issue(build(Op.PRI_RESP, StreamID=3, PRGIndex=9, Resp=2).words)
    assert client.told[2:] == ["PRGRESP one 0x3 - 9 2"]
    driver.write("CR0", 0xD)
    assert client.ask("page-request 3 0x80001000 10 read last") == "response - 10 15", "a queue that is off answers failure (8.2)"


def test_two_smmus_and_states(client: Client) -> None:
    assert client.ask("machine").split()[:2] == ["one@0x9050000", "two@0xa000000"]
    assert client.ask("dma write 1 0x40000000 2 0x0102 smmu=two").startswith("aborted"), "its GBPA resets to ABORT"
    assert client.ask("dma write 1 0x40000000 2 0x0102").startswith("disabled")
    client.ask("save before")
    Driver(client, 0x0A00_0000).write("GBPA", 1 << 31)
    client.ask("memset 0x40000000 2 9")
    assert client.ask("dma read 1 0x40000000 2 smmu=two").endswith("data=0x0909")
    client.ask("restore before")
    assert client.ask("dma read 1 0x40000000 2 smmu=two").startswith("aborted")
    assert client.ask("dma read 1 0x40000000 2").endswith("data=0x0102")


# -- the conversation -------------------------------------------------------------------------------------------------


def test_the_page_lists_every_command_and_its_words() -> None:
    page = (ROOT / "docs/smmu-protocol.md").read_text().split("## Commands")[1].split("### What became")[0]
    listed = re.findall(r"^\| `([a-z-]+(?: [A-Z\[][^`]*)?)` \|", page, re.MULTILINE)
    assert sorted(listed) == sorted(USAGE.values())


def test_clients_share_the_machine_and_a_broken_one_harms_nobody(path: Path, client: Client) -> None:
    other = Client.at(path, LIMIT)
    other.write(0x4000_0000, 77, 4)
    assert client.read(0x4000_0000, 4) == 77
    other.connection.sendall(b"writel 0x40000000 78")  # no line feed: nothing of it happens
    other.close()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(LIMIT)
        raw.connect(str(path))
        raw.sendall(b"x" * LARGEST_LINE + b"yz\nreadl 0x40000000\n\xff\n\n")
        raw.shutdown(socket.SHUT_WR)
        replies = b"".join(iter(lambda: raw.recv(65536), b"")).decode().splitlines()
    assert replies == [
        f"FAIL the line is longer than {LARGEST_LINE} bytes.", "OK 0x000000000000004d", "FAIL the line is not ASCII.", "FAIL the line is empty.",
    ]  # fmt: skip
    assert client.ask("hello 1").startswith("1 smmu-wizard ")
    with pytest.raises(Failed, match="start the server with --coverage"):
        client.ask("coverage")
    with pytest.raises(Failed, match="version 2 of the protocol is not spoken here"):
        client.ask("hello 2")


def test_a_client_that_does_not_read_is_cut_off(path: Path, client: Client) -> None:
    client.ask("memset 0x40000000 65536 1")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.setblocking(False)
        deaf.connect(str(path))
        sent, line = 0, b"read 0x40000000 65536\n" * 64
        with suppress(BlockingIOError):
            while sent < LARGEST_UNREAD:
                sent += deaf.send(line)
        assert sent < LARGEST_UNREAD, "its commands are not even read while their replies wait"
        assert client.read(0x4000_0000, 1) == 1
    assert client.read(0x4000_0000, 1) == 1


def test_one_client_too_many_is_told(path: Path, client: Client) -> None:
    others = [Client.at(path, LIMIT) for _ in range(LARGEST_CLIENTS - 1)]
    try:
        for one in others:
            one.ask("help")
        with socket.socket(socket.AF_UNIX) as refused:
            refused.settimeout(LIMIT)
            refused.connect(str(path))
            assert b"".join(iter(lambda: refused.recv(4096), b"")) == b"FAIL 16 clients are connected already.\n"
    finally:
        for one in others:
            one.close()
    assert client.ask("help")


def test_beginning_and_end(tmp_path: Path) -> None:
    """Its owner's alone; gone after SIGTERM; what a killed one left is replaced; a second one is refused; --once; memory of a file."""
    where, ram = tmp_path / "s", tmp_path / "ram"
    ram.write_bytes(bytes(8192))
    with serving(where) as killed:
        killed.kill()
        killed.wait(LIMIT)
    assert where.exists()
    with serving(where, "--ram-file", f"{ram}@0x40000000") as process:
        assert stat.S_IMODE(where.stat().st_mode) == 0o600
        command = [sys.executable, "-m", "wizard", "smmu-server", "--socket", str(where)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert (second.returncode, second.stderr.splitlines()[0]) == (2, f"smmu-wizard: A server listens at {where} already.")
        with Client.at(where, LIMIT) as client:
            client.write(0x4000_1000, 0x1234, 2)
            assert ram.read_bytes()[0x1000:0x1002] == b"\x34\x12"
            with pytest.raises(Failed, match="nothing answers at 0x40002000"):
                client.read(0x4000_2000, 4)
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0
            with pytest.raises(ConnectionError):
                client.ask("help")
        assert process.communicate(timeout=LIMIT)[1] == ""
    assert not where.exists()
    with serving(where, "--once", "--coverage") as process:
        with Client.at(where, LIMIT) as client:
            client.ask("dma read 1 0x40000000 4")
            assert re.fullmatch(r"1 \d+ gbpa\.pass", client.ask("coverage"))
        assert process.wait(LIMIT) == 0
    assert not where.exists()


def test_another_process_goes_on_where_one_left(tmp_path: Path) -> None:
    """--state: registers, queues and memory of one server are those of the next; what is no state of this machine is said and stays."""
    state = tmp_path / "state"
    words = [sys.executable, "-m", "wizard", "smmu-server", "--stdio", "--state", str(state)]

    def talk(lines: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*words, *more], cwd=ROOT, input=lines, capture_output=True, text=True, timeout=LIMIT, check=False)

    assert talk("writel 0x9050020 0xd\nwritel 0x40000000 0x1234\n").stdout == "OK\nOK\n"
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert talk("readl 0x9050024\nreadl 0x40000000\n").stdout == "OK 0x000000000000000d\nOK 0x0000000000001234\n"
    kept = state.read_bytes()
    other = talk("", "--smmu", "b")
    assert (other.returncode, other.stderr.splitlines()[0]) == (
        3, f"smmu-wizard: {state}: the saved machine has other SMMUs, or at other addresses, than this one.",
    )  # fmt: skip
    assert state.read_bytes() == kept


WORD = st.one_of(
    st.sampled_from([*COMMANDS, "read", "write", "priv", "last", "ssid=1", "smmu=smmu0", "smmu=x", "0x9050020", "0x9050098", "0x90500a0",
                     "0x40000000", "8", "0", "0xffffffffffffffff", "0x0102", "translated",
                     "attr=Device-nGRE", "silent", "a", "\xb2", "-1", "0x", "1e9", "65536", "65537"]),
    st.text(st.characters(codec="ascii", exclude_characters="\n"), max_size=6),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(WORD, min_size=1, max_size=8), min_size=1, max_size=12))
def test_every_line_has_one_line_for_an_answer(lines: list[list[str]]) -> None:
    conversation, client = Conversation(Protocol(machine_of([], [], []))), Served()
    for words in lines:
        client.received += " ".join(words).encode() + b"\n"
        conversation.serve(client)
        reply = bytes(client.unsent).decode("ascii")
        client.unsent.clear()
        assert reply.endswith("\n")
        assert reply.count("\n") == 1
        assert reply.split()[0] in ("OK", "FAIL")
        assert "internal error" not in reply, words


@pytest.mark.parametrize(("words", "said"), [
    (["a@0x1000"], "registers of an SMMU can't be"), (["a", "a"], "an SMMU a already"), (["a,like=arm"], "no SMMU that is known"),
    (["a,idr0=0"], "without any stage"), (["a b"], "is no name"), (["a@0x40000000"], "is taken"), (["a,caches=no"], "on or off"),
    (["a,gbpa=0x40000000"], "reserved"), (["a,idr0=1,idr0=1"], "is not known"),
])  # fmt: skip
def test_an_smmu_that_cannot_be_is_said(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        machine_of(words, [], [])


@pytest.mark.parametrize("ram", ["0x40000000", "0x40000000+100", "0xffffffffffffe000+1G", "x+1G", "0x1000+0"])
def test_memory_that_cannot_be_is_said(ram: str) -> None:
    with pytest.raises(ValueError):
        machine_of([], [ram], [])
    assert machine_of([], ["0x40000000+1G", "0x100000000+0x2000"], []).ranges() == [(0x4000_0000, 0x8000_0000), (0x1_0000_0000, 0x1_0000_2000)]


def test_bypass_entries_reach_memory_with_their_attributes(client: Client) -> None:
    driver = Driver(client)
    driver.begin()
    driver.streams.set(2, bypass_entry())
    assert "attr=Device-nGRE memory=1" in client.ask("dma read 2 0x40000000 2 attr=Device-nGRE")
    assert client.ask("dma read 2 0x100 2").endswith("memory=0")
