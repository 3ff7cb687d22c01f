"""Monitors that are none, and one that answers what a real QEMU answered: what is at the other end of a socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.tools.processes import LIMIT

GREETING = b'{"QMP": {"version": {"qemu": {"micro": 2, "minor": 1, "major": 11}, "package": ""}, "capabilities": ["oob"]}}\r\n'
Answer = Callable[[dict[str, Any]], bytes]


@contextmanager
def listening(path: Path, client: Callable[[socket.socket], None]) -> Iterator[None]:
    """Somebody who listens there: ``client`` has each connection, one after the other, until the end."""
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(path))
        there.listen()
        there.settimeout(LIMIT)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = there.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.settimeout(LIMIT)
                    client(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            with suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))  # let it see that it is over
            thread.join(LIMIT)


@contextmanager
def serving(path: Path, greeting: bytes, answer: Answer | None = None) -> Iterator[list[dict[str, Any]]]:
    """A server that greets and answers each line; gives what it was sent.

    ``answer`` None: it never answers. An answer that is empty closes the connection.
    """
    sent: list[dict[str, Any]] = []

    def client(connection: socket.socket) -> None:
        connection.sendall(greeting)
        for line in connection.makefile("rb"):
            sent.append(json.loads(line))
            if answer is None:
                continue
            told = answer(sent[-1])
            if not told:
                break
            connection.sendall(told)

    with listening(path, client):
        yield sent


def returning(asked: dict[str, Any], value: Any) -> bytes:
    """An answer to a command."""
    return json.dumps({"return": value, "id": asked["id"]}).encode() + b"\r\n"


def recorded(answers: list[dict[str, Any]]) -> Answer:
    """What a real QEMU answered: ``[{"execute", "arguments", "return" or "error"}…]``; a question that was not recorded is its error."""
    known = {json.dumps([one["execute"], one["arguments"]], sort_keys=True): one for one in answers}

    def answer(asked: dict[str, Any]) -> bytes:
        found = known.get(json.dumps([asked["execute"], asked.get("arguments", {})], sort_keys=True))
        if asked["execute"] == "qmp_capabilities":
            return returning(asked, {})
        if found is None or "error" in found:
            error = {"class": "GenericError", "desc": found["error"] if found else "was not recorded"}
            return json.dumps({"error": error, "id": asked["id"]}).encode() + b"\r\n"
        return returning(asked, found["return"])

    return answer
