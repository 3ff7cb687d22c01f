"""Which of a command's words is QEMU, and what stands in front of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from wizard.base.text import is_number
from wizard.existing.words.model import Word

_QEMU = re.compile(r"qemu-system-(?P<arch>[a-z0-9_]+)(?:[-.][\w.+-]*)?|qemu-kvm|kvm(?:-spice)?|qemu")
_OPTION = re.compile(r"--?[a-zA-Z]")
_TELLING = {"-machine", "-M", "-device", "-m", "-smp", "-accel", "-enable-kvm", "-cpu", "-object", "-netdev", "-drive", "-blockdev"}

# What starts another program, or is one that does, and the prompt that is copied along: only behind these a program is looked for among the words.
WRAPPERS = frozenset(
    (
        *("$", "exec", "command", "builtin", "sudo", "doas", "env", "nice", "ionice", "chrt", "taskset", "numactl", "setpriv", "prlimit"),
        *("nohup", "setsid", "time", "timeout", "systemd-run", "systemd-inhibit", "systemd-cat", "strace", "ltrace", "gdb", "perf", "valgrind"),
        *("ip", "nsenter", "unshare", "cgexec", "cgclassify", "stdbuf", "chroot", "runuser", "su", "sh", "bash", "dash", "ash", "ksh"),
        *("zsh", "screen", "tmux", "unbuffer", "script", "daemonize", "start-stop-daemon", "flock", "firejail", "bwrap", "setarch", "linux64"),
        *("schedtool", "cset", "ssh", "capsh", "softlimit", "trap", "coproc", "dbus-run-session", "catchsegv", "hugectl", "cpulimit"),
        *("lxc-attach", "docker", "podman"),
    )
)


def is_qemu(text: str) -> bool:
    """Whether a word names a system emulator (``/usr/bin/qemu-system-aarch64``, ``/usr/libexec/qemu-kvm``)."""
    return _QEMU.fullmatch(text.rpartition("/")[2]) is not None


def architecture(text: str) -> str | None:
    """``aarch64`` of ``/usr/bin/qemu-system-aarch64``; None where the name does not say it."""
    match = _QEMU.fullmatch(text.rpartition("/")[2])
    return match["arch"] if match else None


def start_of(words: Sequence[Word]) -> int | None:
    """Where in the words of a command QEMU is; None when it does not start one."""
    first = words[0]
    if is_qemu(first.text) or (first.holes and _telling(words[1:])):
        return 0 if not _weak(first.text) or _telling(words[1:]) else None
    if first.text.rpartition("/")[2] not in WRAPPERS:
        return None
    found = [at for at, word in enumerate(words) if at and is_qemu(word.text)][:8]
    found = [at for at in found if not _weak(words[at].text) or "/" in words[at].text or _telling(words[at + 1 :])]
    # A user or a group may be called qemu or kvm.
    strong = [at for at in found if not _weak(words[at].text)]
    return next((at for at in strong or found if len(words) == at + 1 or _OPTION.match(words[at + 1].text) or words[at + 1].holes), None)


def _weak(text: str) -> bool:
    return text.rpartition("/")[2] in ("kvm", "qemu")


def _telling(words: Sequence[Word]) -> bool:
    return any(word.text in _TELLING or word.text.removeprefix("-") in _TELLING for word in words)


def only_asks(words: Sequence[Word]) -> bool:
    """Whether QEMU only prints something and ends: ``-version``, ``-device help``, ``-machine virt,help``."""
    texts = [word.text for word in words]
    if any(text in ("-version", "--version", "-h", "-help", "--help") for text in texts):
        return True
    return any(text.startswith("-") and (after in ("help", "?") or after.endswith(",help")) for text, after in pairwise(texts))


def user_of(before: Sequence[Word]) -> str | None:
    """The user that sudo, runuser, setpriv or start-stop-daemon are told to take."""
    texts = [word.text for word in before]
    for text, after in zip(texts, (*texts[1:], ""), strict=False):
        if text in ("-u", "--user", "--reuid", "--chuid", "-c") and after and not after.startswith("-") and texts[0] != "taskset":
            return after.partition(":")[0]
        for name in ("--user=", "--reuid=", "--chuid="):
            if text.startswith(name):
                return text.removeprefix(name).partition(":")[0]
    return None


def unit_bytes(text: str, unit: int) -> int | None:
    """A limit in bytes, -1 for none; None when it is no number."""
    if text in ("unlimited", "infinity"):
        return -1
    match = re.fullmatch(r"([0-9]{1,18})([KMGTP]?)", text)
    if match is None or not is_number(match[1]):
        return None
    return int(match[1]) * (unit if not match[2] else 1 << 10 * ("KMGTP".index(match[2]) + 1))
