"""Whoever answers in the place of a guest's agent: silent, blocked, talking nonsense, hostile. A real one is asked in test_libvirt.py.

The lines are those of qemu-ga 11.1.2, as it was seen to answer.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running.agents import GUEST_INFO, SUPPORTED, agent
from tests.tools.processes import LIMIT
from wizard.facts.treetext import END, HEAD, script
from wizard.running.agent import PORT, Blocked, SocketAgent, next_step, printed, socket_of
from wizard.running.wire import Ended, MonitorError, Nonsense, Refused, Silent

SOON = 0.3  # seconds that an answer may take here
TREE = f"{HEAD}\n= /proc/version\n|Linux\n{END}\n".encode()


def told(value: Any) -> bytes:
    return json.dumps({"return": value}).encode() + b"\n"


def ended(out: bytes = TREE, **more: Any) -> bytes:
    return told({"exited": True, "exitcode": 0, "out-data": base64.b64encode(out).decode(), **more})


def error(text: str) -> bytes:
    return json.dumps({"error": {"class": "GenericError", "desc": text}}).encode() + b"\n"


def test_what_the_script_printed(tmp_path: Path) -> None:
    """Also behind what another client left, and after some looks; nothing is sent that is not needed for it."""
    statuses = [told({"exited": False}), told({"exited": False}), ended()]
    left = b'{"return": 1}\n{"half'
    with agent(tmp_path / "a", {"guest-exec-status": lambda: statuses.pop(0)}, before=left) as sent:
        one = SocketAgent(str(tmp_path / "a"), os.getpid(), answer=LIMIT)
        assert printed(one) == TREE
        one.close()
    assert [asked["execute"] for asked in sent] == ["guest-sync-delimited", "guest-info", "guest-exec", *["guest-exec-status"] * 3]
    given = sent[2]["arguments"]
    assert (given.keys(), given["path"], base64.b64decode(given["input-data"]).decode()) == (
        {"path", "input-data", "capture-output"}, "/bin/sh", script(),
    )  # fmt: skip
    for name in ("guest-shutdown", "guest-file-write", "guest-set-user-password"):
        with pytest.raises(ValueError, match="no question"):
            one.ask(name)


Answers = dict[str, Callable[[], bytes]]
_COMMANDS = [{**one, "enabled": not one["name"].startswith("guest-exec")} for one in SUPPORTED]
BLOCKED = told({**GUEST_INFO, "supported_commands": _COMMANDS})
DENIED = base64.b64encode(b"\x1b]0;hi\x07 denied").decode()
WRONG: dict[str, tuple[Answers, type[MonitorError], str]] = {
    "nobody": ({"guest-sync-delimited": lambda: b"\n" * 3}, Silent, "did not come within"),
    "blocked": ({"guest-info": lambda: BLOCKED}, Blocked, "guest-exec and guest-exec-status are blocked"),
    "old": ({"guest-info": lambda: told({"version": "0.12", "supported_commands": []})}, Blocked, "blocked"),
    "another answer than ours": ({"guest-sync-delimited": lambda: b"\xff" + told(7)}, Silent, "did not come within"),
    "endless": ({"guest-info": lambda: b"x" * ((24 << 20) + 1)}, Nonsense, "longer than 24 MiB"),
    "lines without end": ({"guest-sync-delimited": lambda: b"{}\n" * 1001}, Nonsense, "1000 lines came"),
    "closes": ({"guest-info": lambda: b""}, Ended, "closed"),
    "no JSON": ({"guest-info": lambda: b"tea\n"}, Nonsense, "no JSON"),
    "deep": ({"guest-info": lambda: b"[" * 100_000 + b"\n"}, Nonsense, "no JSON"),
    "another shape": ({"guest-info": lambda: told([7])}, Nonsense, "another shape"),
    "a number that is none": ({"guest-exec": lambda: told({"pid": "1"})}, Nonsense, "another shape"),
    "never ends": ({"guest-exec-status": lambda: told({"exited": False})}, Silent, "longer than the 1 seconds"),
    "no base64": ({"guest-exec-status": lambda: told({"exited": True, "out-data": "\u202e=="})}, Nonsense, "no base64"),
    "nothing printed": ({"guest-exec-status": lambda: ended(b"", **{"err-data": DENIED})}, MonitorError, r"x1b\]0"),
    "no shell": ({"guest-exec": lambda: error("Failed to execute child process \x1b[2J/bin/sh")}, Refused, r"x1b\[2J"),
}  # fmt: skip


def _asked(path: Path, answer: float, whole: float) -> None:
    one = SocketAgent(str(path), os.getpid(), answer=answer, whole=whole)
    try:
        printed(one)
    finally:
        one.close()


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_answer_is_said_and_waited_for_no_longer(name: str, tmp_path: Path) -> None:
    answers, kind, words = WRONG[name]
    bound = LIMIT if kind is not Silent else SOON
    with agent(tmp_path / "a", answers), pytest.raises(kind, match=words) as raised:
        _asked(tmp_path / "a", bound, 1.0 if name == "never ends" else LIMIT)
    assert str(raised.value).isprintable()  # no escape sequence of the guest's comes to a terminal
    assert "--guest-script" in next_step(raised.value)


WORDS: dict[str, tuple[str, str | None]] = {
    "qemu -chardev socket,id=c,path=/run/a,server=on -device virtserialport,chardev=c,name=PORT": (PORT, "/run/a"),
    'qemu -chardev socket,id=c,path=/run/a,server=on -device {"driver":"virtserialport","chardev":"c","name":"PORT"}': (PORT, "/run/a"),
    "qemu -chardev socket,id=c,fd=28 -device virtserialport,chardev=c,name=PORT": (PORT, None),
    "qemu -chardev socket,id=c,path=/run/a -device virtserialport,chardev=c,name=com.redhat.spice.0": (PORT, None),
    "qemu -M virt": (PORT, None),
}


@pytest.mark.parametrize("words", WORDS)
def test_the_agents_socket_is_on_the_command_line(words: str) -> None:
    port, path = WORDS[words]
    assert socket_of(words.replace("PORT", port).split()[1:]) == path
