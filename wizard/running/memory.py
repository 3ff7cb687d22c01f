"""Memory and an SMMU's registers of a machine that QEMU runs, read as they are needed, by its monitor or its gdbstub; nothing is written.

The monitor shows memory (``xp``) while the guest goes on. A gdb that attaches stops the machine (gdb_chr_event() of QEMU 11.1,
gdbstub/system.c), and one that detaches starts it, whatever it was before (handle_detach()); so that way is asked for. Where memory is,
``info mtree -f`` says of both: what is not there reads as ones or zeros, and neither is an error.
"""

from __future__ import annotations

import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from wizard.arch.registers import REGISTERS
from wizard.base.errors import InputError, UsageError, WizardError
from wizard.base.text import visible
from wizard.running.monitor import Monitor, SocketMonitor
from wizard.running.wire import ANSWER_SECONDS, MonitorError
from wizard.smmu.dumps.images import Extent
from wizard.smmu.memory import PAGE_SHIFT

LARGEST_PAGES = 65536
"""Pages that one command reads: 256 MiB of tables, some minutes by the monitor."""

_PACKET_BYTES = 1 << 20
_VIEW = re.compile(r"^FlatView #", re.MULTILINE)
_SYSTEM = re.compile(r'^ AS "memory", root: system', re.MULTILINE)
_RANGE = re.compile(r"^  ([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ([\w/-]+)\): (\S+)", re.MULTILINE)
_MEMORY = frozenset({"ram", "rom", "romd", "ramd", "nv-ram", "nv-rom"})
_SHOWN = re.compile(r"0x([0-9a-f]{8}|[0-9a-f]{16})\b")
_FIX = "Is it a QEMU of this machine's user, and is nobody else connected? `smmu-wizard tables --help` names what it takes."


class Live(ABC):
    """A machine to look into. ``what`` names it, for people."""

    what = ""

    def __init__(self) -> None:
        self.pages = 0
        self._ranges = list(self._mapped())

    @abstractmethod
    def show(self, line: str) -> str:
        """What a line of the human monitor shows; ``MonitorError``."""

    @abstractmethod
    def load(self, address: int, size: int) -> bytes:
        """Bytes of physical memory, or one register of 4 bytes; ``MonitorError``."""

    def _mapped(self) -> Iterator[tuple[int, int, str, str]]:
        """Start, end, kind and name of each piece of the machine's physical address space."""
        for view in _VIEW.split(self.show("info mtree -f")):
            if _SYSTEM.search(view):
                for low, high, kind, name in _RANGE.findall(view):
                    yield int(low, 16), int(high, 16) + 1, kind, name
                return

    def running(self) -> bool:
        """Whether the guest goes on while it is looked at."""
        return False

    def extents(self) -> list[Extent]:
        """Its memory, of which each page is read when it is first looked at."""
        return [Extent(low, high, Reader(self, low), 0, self.what) for low, high, kind, _ in self._ranges if kind in _MEMORY]

    def smmus(self) -> list[int]:
        """Where its SMMUs have their registers."""
        return [low for low, _, kind, name in self._ranges if kind == "i/o" and name == "arm-smmuv3"]

    def registers(self, base: int) -> str:
        """The registers of the SMMU at ``base`` as a listing; each is read by itself, 32 bits at a time, since xp shows several at once as zeros."""
        lines = []
        for name, register in REGISTERS.items():
            for half in range(0, register.size, 4):
                value = int.from_bytes(self.load(base + register.offset + half, 4), "little")
                lines.append(f"{name}+{half} = {value:#x}" if register.size == 8 else f"{name} = {value:#x}")
        return "\n".join(lines) + "\n"


class Reader:
    """The bytes of one piece of memory, as a slice of them is asked for."""

    def __init__(self, live: Live, start: int) -> None:
        self.live, self.start = live, start

    def __getitem__(self, part: slice) -> bytes:
        at, size = self.start + part.start, part.stop - part.start
        self.live.pages += 1
        if self.live.pages > LARGEST_PAGES:
            fix = "Save its memory with dump-guest-memory or pmemsave, and give the file with --mem."
            raise InputError(f"More than {LARGEST_PAGES << PAGE_SHIFT >> 20} MiB of {self.live.what} would have to be read.", fix)
        try:
            found = self.live.load(at, size)
        except MonitorError as error:
            raise InputError(f"{self.live.what} does not show {at:#x}: {error}.", _FIX) from error
        if len(found) != size:
            raise InputError(f"{self.live.what} shows {len(found)} bytes of {size} at {at:#x}.", _FIX)
        return found


class ByMonitor(Live):
    """By QMP: ``info mtree -f`` and ``xp`` of the human monitor, which show and change nothing; the guest goes on meanwhile."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor, self.what = monitor, f"QEMU ({monitor.how})"
        super().__init__()

    def show(self, line: str) -> str:
        """By human-monitor-command."""
        return self.monitor.show(line)

    def load(self, address: int, size: int) -> bytes:
        """By xp, whose words are the guest's: little-endian ones."""
        words = "wx" if size < 8 else "gx"
        text = self.show(f"xp /{max(1, size // (4 if size < 8 else 8))}{words} {address:#x}")
        return b"".join(
            int(word, 16).to_bytes(len(word) // 2, "little") for line in text.splitlines() for word in _SHOWN.findall(line.partition(":")[2])
        )

    def running(self) -> bool:
        """As query-status says."""
        return bool(self.monitor.ask("query-status").get("running"))


class ByGdb(Live):
    """By the gdbstub: packets ``m`` in QEMU's mode of physical addresses, and its monitor by ``qRcmd``. The machine stands while it is connected."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self.connection, self.what, self._data = connection, f"the gdbstub at {visible(name)}", b""
        # The mode is the gdbstub's, not the connection's: a gdb that comes later would be in it too (findings/qemu-gdbstub-stays-physical.sh).
        self._mode = self._ask("qqemu.PhyMemMode")
        if self._ask("Qqemu.PhyMemMode:1") != "OK":
            raise MonitorError("it does not read physical memory: it is no QEMU of 4.0 or later")
        super().__init__()

    def show(self, line: str) -> str:
        """By qRcmd, QEMU's monitor within the gdbstub."""
        self._put("qRcmd," + line.encode().hex())
        said = ""
        while (told := self._packet()) != "OK":
            if not told.startswith("O"):
                raise MonitorError("it has no monitor to ask where memory is")
            said += bytes.fromhex(told[1:]).decode(errors="replace")
            if len(said) > _PACKET_BYTES:
                raise MonitorError("an answer is longer than 1 MiB")
        return said

    def load(self, address: int, size: int) -> bytes:
        """By a packet m."""
        told = self._ask(f"m{address:x},{size:x}")
        try:
            return bytes.fromhex(told)
        except ValueError:
            raise MonitorError(f"it answers {visible(told[:20]) or 'nothing'} to a read") from None

    def detach(self) -> None:
        """Read as it did before, and let the machine go on."""
        if self._ask(f"Qqemu.PhyMemMode:{self._mode}") != "OK" or self._ask("D") != "OK":
            raise MonitorError("it does not detach")

    def _ask(self, packet: str) -> str:
        self._put(packet)
        return self._packet()

    def _put(self, packet: str) -> None:
        data = packet.encode()
        self._send(b"$" + data + f"#{sum(data) & 0xFF:02x}".encode())

    def _send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError as error:
            raise MonitorError("it closed the connection") from error

    def _packet(self) -> str:
        """The next packet, acknowledged; what it says unasked (stop replies to the attaching, notifications) is passed over."""
        while True:
            start = self._data.find(b"$")
            end = self._data.find(b"#", start) if start >= 0 else -1
            if end >= 0 and len(self._data) >= end + 3:
                body, check = self._data[start + 1 : end], self._data[end + 1 : end + 3]
                self._data = self._data[end + 3 :]
                if check != f"{sum(body) & 0xFF:02x}".encode():
                    raise MonitorError("a packet's sum is wrong: it is no gdbstub")
                self._send(b"+")
                if not body.startswith((b"T", b"S", b"W", b"X")):
                    return body.decode("ascii", "replace")
                continue
            if len(self._data) > _PACKET_BYTES:
                raise MonitorError("an answer is longer than 1 MiB")
            try:
                more = self.connection.recv(1 << 16)
            except TimeoutError as error:
                raise MonitorError(f"no answer within {ANSWER_SECONDS:.0f} seconds") from error
            except OSError as error:
                raise MonitorError("it closed the connection") from error
            if not more:
                raise MonitorError("it closed the connection")
            self._data += more


GDB_QUESTION = (
    "A gdb that attaches stops the machine at {name}: its guest stands still while its tables are read, and goes on afterwards, also if it was "
    "paused before. Attach?"
)


@contextmanager
def by_monitor(path: str) -> Iterator[ByMonitor]:
    """The machine behind a QMP socket; ``InputError`` where none answers."""
    try:
        monitor = SocketMonitor(path, None)
    except MonitorError as error:
        raise InputError(f"QMP at {visible(path)} does not answer: {error}.", _FIX) from error
    try:
        try:
            live = ByMonitor(monitor)
        except MonitorError as error:
            raise InputError(f"QMP at {visible(path)} does not show memory: {error}.", _FIX) from error
        yield live
    finally:
        monitor.close()


@contextmanager
def by_gdb(name: str) -> Iterator[ByGdb]:
    """The machine behind a gdbstub, HOST:PORT or the path of a socket; it stands until the end."""
    try:
        connection = _connected(name)
    except OSError as error:
        raise InputError(
            f"Nothing listens at {visible(name)}: {error.strerror or error}.", "QEMU's -gdb or -s names where its gdbstub is."
        ) from error
    with connection:
        try:
            live = ByGdb(connection, name)
        except MonitorError as error:
            raise InputError(f"The gdbstub at {visible(name)} does not answer: {error}.", _FIX) from error
        try:
            yield live
        except WizardError as error:
            # The first thing that went wrong is what is told.
            raise error if _left(live) is None else InputError(error.what, f"{error.fix} {_STANDS}") from error
        except BaseException:
            _left(live)
            raise
        else:
            if (why := _left(live)) is not None:
                raise InputError(f"The gdbstub at {visible(name)} was not left in order: {why}.", _STANDS)


_STANDS = "Its machine may stand still: `cont` in its monitor, or `continue` of a gdb, lets it go on."


def _left(live: ByGdb) -> MonitorError | None:
    """Let the machine go on; why that failed, if it did."""
    try:
        live.detach()
    except MonitorError as error:
        return error
    return None


def _connected(name: str) -> socket.socket:
    if "/" in name:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(name)
        except OSError:
            connection.close()
            raise
        return connection
    host, _, port = name.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{visible(name)} is no HOST:PORT and no path of a socket.", "Like --gdb localhost:1234.")
    return socket.create_connection((host.strip("[]") or "localhost", int(port)), ANSWER_SECONDS)


def smmu_of(live: Live, given: int | None) -> int:
    """The address of the SMMU that is asked about; ``UsageError`` where there are several and none was named."""
    found = live.smmus()
    listed = ", ".join(f"{base:#x}" for base in found)
    if given is not None:
        if found and given not in found:
            raise InputError(f"No SMMU of this machine is at {given:#x}.", f"They are at {listed}.")
        return given
    if not found:
        raise InputError(
            f"{live.what} has no SMMUv3.", "QEMU's -M virt,iommu=smmuv3 or -device arm-smmuv3 makes one; --smmu ADDRESS names another's."
        )
    if len(found) > 1:
        raise UsageError(f"This machine has {len(found)} SMMUs.", f"Name one with --smmu: {listed}.")
    return found[0]
