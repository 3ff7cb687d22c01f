"""What is at the other end of a QMP socket: silent, talking nonsense, somebody else's. Every wait ends, and it is told apart."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.running.servers import GREETING, Answer, returning, serving
from tests.tools.processes import LIMIT
from wizard.running.devices import ask_machine
from wizard.running.monitor import SocketMonitor, VirshMonitor
from wizard.running.wire import Ended, Foreign, MonitorError, Nonsense, Refused, Silent

SOON = 0.3  # seconds that an answer may take here


def _error(asked: dict[str, Any]) -> bytes:
    return json.dumps({"error": {"class": "GenericError", "desc": "no \x1b[31m such thing"}, "id": asked["id"]}).encode() + b"\n"


def _flood(asked: dict[str, Any]) -> bytes:
    return b'{"event": "RTC_CHANGE"}\n' * 10_001


WRONG: dict[str, tuple[bytes, Answer | None, type[MonitorError], str]] = {
    "nobody greets": (b"", None, Silent, "did not come within"),
    "nobody answers": (GREETING, None, Silent, "did not come within"),
    "no JSON": (b"220 mail ESMTP\r\n", None, Nonsense, "no JSON"),
    "other JSON": (b'{"hello": 1}\n', None, Nonsense, "no QMP monitor"),
    "a list": (b"[]\n", None, Nonsense, "no QMP monitor"),
    "deep": (b"[" * 100_000 + b"\n", None, Nonsense, "no JSON"),
    "no UTF-8": (b'{"QMP": "\xff"}\n', None, Nonsense, "no JSON"),
    "endless": (b"x" * ((16 << 20) + 1), None, Nonsense, "longer than 16 MiB"),
    "closes": (GREETING, lambda asked: b"", Ended, "closed"),
    "an answer that is a number": (GREETING, lambda asked: b"7\n", Nonsense, "no JSON object"),
    "neither": (GREETING, lambda asked: b'{"id": %d}\n' % asked["id"], Nonsense, "neither"),
    "refuses": (GREETING, _error, Refused, r"no \\x1b\[31m such thing"),
    "only events": (GREETING, _flood, Nonsense, "events came"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_monitor_is_said_and_waited_for_no_longer(name: str, tmp_path: Path) -> None:
    greeting, answer, kind, words = WRONG[name]
    with serving(tmp_path / "q", greeting, answer) as sent, pytest.raises(kind, match=words):
        SocketMonitor(str(tmp_path / "q"), os.getpid(), answer=SOON if kind is Silent else LIMIT)
    assert {one["execute"] for one in sent} <= {"qmp_capabilities"}


def test_answers_of_another_shape_are_nonsense(tmp_path: Path) -> None:
    """Each question of ``ask_machine`` answered with a number: no traceback."""
    with serving(tmp_path / "q", GREETING, lambda asked: returning(asked, 7)):
        monitor = SocketMonitor(str(tmp_path / "q"), os.getpid(), answer=SOON)
        with pytest.raises(Nonsense):
            ask_machine(monitor)
        monitor.close()


def test_a_socket_of_another_process_is_not_asked(tmp_path: Path) -> None:
    with serving(tmp_path / "q", GREETING, lambda asked: returning(asked, {})) as sent:
        with pytest.raises(Foreign, match=f"belongs to process {os.getpid()}"):
            SocketMonitor(str(tmp_path / "q"), 1, answer=SOON)
        assert not sent


def test_a_socket_that_a_launcher_made_for_the_vm_is_the_vms(tmp_path: Path) -> None:
    """The VM has the very socket open that another process listens at."""
    with serving(tmp_path / "q", GREETING, lambda asked: returning(asked, {})):
        inodes = {os.readlink(f"/proc/self/fd/{number}")[8:-1] for number in os.listdir("/proc/self/fd") if _is_socket(number)}
        SocketMonitor(str(tmp_path / "q"), 1, inodes, answer=SOON).close()


def _is_socket(number: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{number}").startswith("socket:[")
    except OSError:
        return False


def test_a_socket_that_is_not_there_or_listens_no_more(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="there is no"):
        SocketMonitor(str(tmp_path / "none"), 1, answer=SOON)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left"))
    with pytest.raises(MonitorError, match="refused"):
        SocketMonitor(str(tmp_path / "left"), 1, answer=SOON)
    (tmp_path / "file").write_text("")
    with pytest.raises(MonitorError, match="refused"):
        SocketMonitor(str(tmp_path / "file"), 1, answer=SOON)
    with pytest.raises(MonitorError, match="too long"):
        SocketMonitor("/" + "x" * 200, 1, answer=SOON)


def test_only_questions_are_asked(tmp_path: Path) -> None:
    with serving(tmp_path / "q", GREETING, lambda asked: returning(asked, {})) as sent:
        monitor = SocketMonitor(str(tmp_path / "q"), os.getpid(), answer=SOON)
        for command in ("quit", "stop", "device_del", "human-monitor-command", "trace-event-set-state", "qom-set"):
            with pytest.raises(ValueError, match="no question"):
                monitor.ask(command)
        monitor.close()
    assert [one["execute"] for one in sent] == ["qmp_capabilities"]


VIRSH = """\
#!/bin/sh
# What virsh does: the answer of QEMU as it is on standard output, errors of its own on the other.
[ "$1 $2 $3 $4 $5" = "--connect qemu:///system qemu-monitor-command --domain web-1" ] || exit 9
case $6 in
    *query-name*) echo '{"return":{"name":"web-1"},"id":"libvirt-30"}';;
    *query-kvm*) echo '{"id":"libvirt-31","error":{"class":"GenericError","desc":"no such thing"}}';;
    *query-status*) echo 'tea';;
    *query-migrate*) echo 'error: Timed out during operation: cannot acquire state change lock' >&2; exit 1;;
    *) exec sleep 60;;
esac
"""


def test_a_vm_of_libvirts_is_asked_through_libvirt(tmp_path: Path) -> None:
    virsh = tmp_path / "virsh"
    virsh.write_text(VIRSH)
    virsh.chmod(0o700)
    monitor = VirshMonitor(str(virsh), "web-1", answer=LIMIT)
    assert monitor.ask("query-name") == {"name": "web-1"}
    for command, kind, words in (
        ("query-kvm", Refused, "no such thing"), ("query-status", Nonsense, "no JSON"), ("query-migrate", MonitorError, "state change lock"),
    ):  # fmt: skip
        with pytest.raises(kind, match=words):
            monitor.ask(command)
    monitor.answer = SOON
    with pytest.raises(Silent, match="libvirt gave no answer"):
        monitor.ask("query-pci")
    with pytest.raises(MonitorError, match="virsh can't be run"):
        VirshMonitor(str(tmp_path / "none"), "web-1", answer=SOON).ask("query-name")
