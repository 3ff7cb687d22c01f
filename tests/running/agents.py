"""In the place of a guest's agent: its answers can be changed, one command's at a time."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.running.servers import listening

SUPPORTED: list[dict[str, Any]] = [
    {"enabled": True, "name": name, "success-response": True} for name in ("guest-ping", "guest-exec", "guest-exec-status")
]
GUEST_INFO: dict[str, Any] = {"version": "11.1.2", "supported_commands": SUPPORTED}


@contextmanager
def agent(path: Path, answers: Mapping[str, Callable[[], bytes]], *, before: bytes = b"") -> Iterator[list[dict[str, Any]]]:
    """An agent with ``before`` in front of everything; gives the commands that it was sent. An answer that is empty closes."""
    sent: list[dict[str, Any]] = []

    def client(connection: socket.socket) -> None:
        connection.sendall(before)
        for line in connection.makefile("rb"):
            if line.startswith(b"\xff"):
                # Its parser complains of the mark, as of half a command that came before it.
                connection.sendall(b'{"error": {"class": "GenericError", "desc": "1:1: JSON parse error, stray \'\\uFFFD\'"}}\n')
            asked = json.loads(line.lstrip(b"\xff"))
            sent.append(asked)
            told = _answer(asked, answers)
            if not told:
                break
            connection.sendall(told)

    with listening(path, client):
        yield sent


def _answer(asked: Mapping[str, Any], answers: Mapping[str, Callable[[], bytes]]) -> bytes:
    name = asked["execute"]
    if name in answers:
        return answers[name]()
    if name == "guest-sync-delimited":
        return b"\xff" + json.dumps({"return": asked["arguments"]["id"]}).encode() + b"\n"
    return json.dumps({"return": {"guest-info": GUEST_INFO, "guest-exec": {"pid": 114}}[name]}).encode() + b"\n"
