"""Sockets and clients of the server: one process, one thread, one command at a time. Nothing here waits for a client.

Several clients may be connected; they share the machine, and their commands are carried out in the order in which their lines arrive. A client that
does not read what it is told is cut off when ``LARGEST_UNREAD`` bytes wait for it.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from wizard.smmu.server.protocol import LARGEST_LINE, Protocol

LARGEST_CLIENTS = 16
LARGEST_UNREAD = 4 << 20
"""Bytes that wait for a client at most."""
TURN = 64
"""Commands of one client that are carried out before the next client has its turn."""
_CHUNK = 1 << 16


@dataclass(slots=True, eq=False)
class Client:
    """A conversation: what came in and is no whole line yet, what is still to be sent, and whether it hears what SMMUs say."""

    received: bytearray = field(default_factory=bytearray)
    unsent: bytearray = field(default_factory=bytearray)
    hears: bool = False
    skipping: bool = False

    @property
    def waits(self) -> bool:
        """Whether a command of it can be carried out now: there is a whole line, and it reads its replies."""
        return len(self.unsent) <= _CHUNK and (b"\n" in self.received or len(self.received) >= LARGEST_LINE)

    def say(self, line: str) -> None:
        """Send a line, now or when the client reads."""
        self.unsent += line.encode() + b"\n"

    def lines(self) -> Iterator[bytes | None]:
        """The whole lines that are here; None for one that is too long, once."""
        while True:
            end = self.received.find(b"\n")
            if end < 0:
                if len(self.received) >= LARGEST_LINE:
                    self.received.clear()
                    if not self.skipping:
                        self.skipping = True
                        yield None
                return
            line = bytes(self.received[:end])
            del self.received[: end + 1]
            if self.skipping:
                self.skipping = False
            elif len(line) >= LARGEST_LINE:
                yield None
            else:
                yield line


@dataclass(slots=True, eq=False)
class Connected(Client):
    """A client at the other end of a socket; ``over`` when it will send no more."""

    connection: socket.socket = field(kw_only=True)
    over: bool = False


class Conversation:
    """Lines of clients to the protocol and back; what the SMMUs say goes to those that asked to hear it (``irq on``)."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.clients: list[Client] = []

    def serve(self, client: Client) -> None:
        """Carry out the lines of a client that are here: not more than its turn, and none while it does not read the replies."""
        if client.waits:
            for count, line in enumerate(client.lines(), 1):
                client.say(self._reply(client, line))
                if count == TURN or not client.waits:
                    return

    def _reply(self, client: Client, line: bytes | None) -> str:
        if line is None:
            return f"FAIL the line is longer than {LARGEST_LINE} bytes."
        try:
            text = line.decode("ascii").strip()
        except UnicodeDecodeError:
            return "FAIL the line is not ASCII."
        if text in ("irq on", "irq off"):
            client.hears = text == "irq on"
            return "OK"
        try:
            reply = self.protocol.answer(text)
        except Exception as error:  # noqa: BLE001 (one command that fails by our fault must not end a test of a hundred others)
            print(f"smmu-wizard: {text[:80]!r}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            reply = f"FAIL internal error: {type(error).__name__}; please report it with the command."
        for told in self.protocol.told():
            for one in self.clients:
                if one.hears:
                    one.say(told)
        return reply


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    """A socket at ``path`` that its owner alone may use; it is taken away at the end. A socket that nobody listens at any more is replaced.

    ``OSError`` where it can't be made: EADDRINUSE when somebody listens there, EEXIST when it is no socket.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _make_room(path)
        before = os.umask(0o177)
        try:
            server.bind(path)
        finally:
            os.umask(before)
        made = os.lstat(path)
        try:
            server.listen(LARGEST_CLIENTS)
            server.setblocking(False)
            yield server
        finally:
            with suppress(OSError):  # somebody took it away
                now = os.lstat(path)
                if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
                    os.unlink(path)
    finally:
        server.close()


def _make_room(path: str) -> None:
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:  # its queue of clients is full
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


@contextmanager
def ended_by_signals() -> Iterator[socket.socket]:
    """What becomes readable when SIGTERM or SIGHUP came: the loop then ends as it should. SIGINT is a KeyboardInterrupt, as always."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    numbers = [one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) is not signal.SIG_IGN]

    def heard(number: int, frame: object) -> None:
        with suppress(BlockingIOError):  # many signals came already
            writing.send(b"\0")

    before = {one: signal.signal(one, heard) for one in numbers}
    try:
        yield reading
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        reading.close()
        writing.close()


class Server:
    """Clients of a listening socket, until a signal or, with ``once``, until the last client has gone."""

    def __init__(self, protocol: Protocol, server: socket.socket, ended: socket.socket, *, once: bool) -> None:
        self.conversation = Conversation(protocol)
        self.clients: list[Connected] = []
        self.server, self.ended, self.once = server, ended, once
        self.selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Serve; answers when it is over."""
        self.selector.register(self.server, selectors.EVENT_READ)
        self.selector.register(self.ended, selectors.EVENT_READ)
        came = False
        try:
            while not (self.once and came and not self.clients):
                # A client whose lines were not all carried out is looked at again at once, after the others.
                for key, mask in self.selector.select(0 if any(client.waits for client in self.clients) else None):
                    if key.fileobj is self.ended:
                        return
                    if key.fileobj is self.server:
                        came = self._accept() or came
                    elif mask & selectors.EVENT_READ:
                        self._receive(key.data)
                for client in list(self.clients):
                    self.conversation.serve(client)
                for client in list(self.clients):
                    self._send(client)
        finally:
            for client in list(self.clients):
                self._close(client)
            self.selector.close()

    def _accept(self) -> bool:
        try:
            connection, _ = self.server.accept()
        except OSError:  # it has gone again
            return False
        connection.setblocking(False)
        if len(self.clients) >= LARGEST_CLIENTS:
            with suppress(OSError):  # it is not heard
                connection.send(f"FAIL {LARGEST_CLIENTS} clients are connected already.\n".encode())
            connection.close()
            return False
        client = Connected(connection=connection)
        self.clients.append(client)
        self.conversation.clients.append(client)
        self.selector.register(connection, selectors.EVENT_READ, client)
        return True

    def _receive(self, client: Connected) -> None:
        try:
            content = client.connection.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            content = b""
        client.received += content
        client.over = client.over or not content

    def _send(self, client: Connected) -> None:
        """Send what can be sent; a client that is over, or does not read, is closed."""
        try:
            if client.unsent:
                del client.unsent[: client.connection.send(client.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._close(client)
            return
        # The rest of a line that a client has not ended is nothing: what it meant is not known.
        done = client.over and not client.unsent and not client.waits
        if done or len(client.unsent) > LARGEST_UNREAD:
            self._close(client)
            return
        # Nothing more is read from a client that is over, or that has not taken what it was told.
        reads = not client.over and len(client.unsent) <= _CHUNK and len(client.received) < LARGEST_LINE
        self._watch(client, (selectors.EVENT_WRITE if client.unsent else 0) | (selectors.EVENT_READ if reads else 0))

    def _watch(self, client: Connected, wanted: int) -> None:
        known = self.selector.get_map().get(client.connection)
        if known is None:
            if wanted:
                self.selector.register(client.connection, wanted, client)
        elif not wanted:
            self.selector.unregister(client.connection)
        elif known.events != wanted:
            self.selector.modify(client.connection, wanted, client)

    def _close(self, client: Connected) -> None:
        self.clients.remove(client)
        self.conversation.clients.remove(client)
        self._watch(client, 0)
        client.connection.close()


def talk(protocol: Protocol, source: BinaryIO, sink: BinaryIO) -> None:
    """One client on two streams: lines in, lines out, until the end of the first."""
    client, conversation = Client(), Conversation(protocol)
    conversation.clients.append(client)
    while content := source.readline(_CHUNK):
        client.received += content
        conversation.serve(client)
        sink.write(bytes(client.unsent))
        sink.flush()
        client.unsent.clear()
