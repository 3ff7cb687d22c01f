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
def serving(path: Path, greeting: bytes, answer: Answer | None = None) -> Iterator[list[dict[str, Any]]]:
    """A server that greets and answers each line, one client after the other, until the end; gives what it was sent.

    ``answer`` None: it never answers. An answer that is empty closes the connection.
    """
    sent: list[dict[str, Any]] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        listening.settimeout(LIMIT)
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    connection.settimeout(LIMIT)
                    connection.sendall(greeting)
                    for line in connection.makefile("rb"):
                        sent.append(json.loads(line))
                        if answer is None:
                            continue
                        told = answer(sent[-1])
                        if not told:
                            break
                        connection.sendall(told)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield sent
        finally:
            over.set()
            with suppress(OSError), socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))  # let it see that it is over
            thread.join(LIMIT)


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
