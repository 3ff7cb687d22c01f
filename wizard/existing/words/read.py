"""Which kind of source a text is, and the commands of it."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec.structs import replace

from wizard.base.errors import InputError
from wizard.existing.guest import Fate, Left
from wizard.existing.words.log import read_log
from wizard.existing.words.model import LIMIT, SCRIPT_LIMIT, Command, Commands, Text, Word
from wizard.existing.words.plain import config_words, read_array, read_nul, read_ps
from wizard.existing.words.program import is_qemu
from wizard.existing.words.script import read_script
from wizard.existing.words.systemd import Unit

_UNIT = re.compile(r"^\s*\[(?:Unit|Service|Install)\]\s*$", re.MULTILINE)
_GROUPS = "device|object|machine|memory|drive|netdev|chardev|numa|smp-opts|accel|mon|global"
_CONFIG = re.compile(rf'^\s*\[\s*(?:{_GROUPS})(?:\s+"[^"\n]*")?\s*\]\s*$', re.MULTILINE)
_PROGRAM = re.compile(r"qemu-system-[a-z0-9_]+|(?:^|[/\s'\"])(?:qemu-kvm|kvm)(?=[\s\0'\"])|\bqemu\b")
_PS = re.compile(r"(?:^|\n)(?:\S+ +)?[0-9]+ +\S.*qemu|(?:^|\n)\s*(?:USER|UID|PID)\b.*(?:CMD|COMMAND|ARGS)")
_BARE_JSON = re.compile(r'\s-(?:device|object|blockdev|netdev|audiodev) \{"[\w-]+":')
_OPENING = 1 << 16  # characters that are looked at to tell the kind

Opener = Callable[[str], bytes | None]
"""Gives what a file holds that a command line names (-readconfig), or None."""


def kind_of(data: bytes) -> str | None:
    """shell, nul, log, unit, ps, config or array; None when nothing in it looks like a command line of QEMU's."""
    head = data[:_OPENING]
    if b"\0" in head:
        return "nul" if any(is_qemu(word.decode(errors="replace")) for word in head.split(b"\0")[:40]) else None
    text = head.decode(errors="replace").removeprefix("\ufeff")
    if "starting up libvirt" in text or (len(data) > _OPENING and data.rfind(b"starting up libvirt") >= 0):
        return "log"
    stripped = text.lstrip()
    if stripped.startswith("<"):
        return None  # XML
    if stripped.startswith("[") and re.match(r'\[\s*"', stripped):
        return "array"
    if _UNIT.search(text) and re.search(r"^\s*Exec", text, re.MULTILINE):
        return "unit"
    if _CONFIG.search(text) and not _PROGRAM.search(text):
        return "config"
    if not _PROGRAM.search(text) and not (len(data) > _OPENING and _PROGRAM.search(data[:SCRIPT_LIMIT].decode(errors="replace"))):
        return "shell" if _telling(text) else None
    return "ps" if (_PS.search(text) and not text.startswith("#!")) or _BARE_JSON.search(text) else "shell"


def _telling(text: str) -> bool:
    """A script that takes the program from a variable that it does not set."""
    return re.search(r"(?:^|\n)[^#\n]*\$\{?\w+[^#\n]*\s-(?:-?machine|M|device|enable-kvm)\s", text) is not None


def read_commands(data: bytes, source: str, *, opened: Opener | None = None) -> Commands:
    """The commands of a source, each word with its place.

    ``opened`` gives the file that a ``-readconfig`` names; without it such a file is said and not read. Raises ``InputError`` when there is no
    command of QEMU's in it, or when it is larger than any.
    """
    kind = kind_of(data)
    if kind is None:
        raise InputError(f"{source} has no command line of QEMU's in it.", "Name a script, a systemd unit, libvirt's log or /proc/PID/cmdline.")
    limit = LIMIT if kind == "log" else SCRIPT_LIMIT
    if len(data) > limit:
        raise InputError(f"{source} is larger than {limit >> 20} MiB.", "No command line is that long; cut out the part that starts the VM.")
    found = read_nul(data, source) if kind == "nul" else _of_text(Text(source, data.decode(errors="surrogateescape")), kind)
    if not found.commands:
        what = f"{source} starts no QEMU that could be found{_because(found)}."
        raise InputError(what, "Give the command line itself, or /proc/PID/cmdline of the running VM.")
    return replace(found, commands=tuple(_numbered(_configured(command, opened)) for command in found.commands))


def _of_text(text: Text, kind: str) -> Commands:
    if kind == "log":
        return read_log(text)
    if kind == "array":
        return read_array(text)
    if kind == "ps":
        return read_ps(text)
    if kind == "config":
        words, left = config_words(text)
        program = Word(text="qemu-system-aarch64", source=text.name)
        return Commands(commands=(Command(program=program, words=tuple(words), left=tuple(left)),), kind=kind)
    if kind == "unit":
        unit = Unit(text)
        unit.read()
        return Commands(commands=tuple(unit.commands), kind=kind, left=tuple(unit.left))
    script = read_script(text)
    return Commands(commands=tuple(script.commands), kind=kind, left=tuple(script.left))


def _because(found: Commands) -> str:
    return f" ({found.left[0].where.show()}: {found.left[0].said})" if found.left else ""


def _configured(command: Command, opened: Opener | None) -> Command:
    """``-readconfig FILE`` replaced by what the file says, in its place."""
    words: list[Word] = []
    left = list(command.left)
    at = 0
    while at < len(command.words):
        word = command.words[at]
        if word.text not in ("-readconfig", "--readconfig") or at + 1 >= len(command.words):
            words.append(word)
            at += 1
            continue
        path = command.words[at + 1]
        data = opened(path.text) if opened is not None and not path.holes else None
        if data is None or len(data) > SCRIPT_LIMIT:
            said = "this file is not read; what it configures is not known: put it beside the command line, or give it by itself"
            where, text = path.where(path="-readconfig"), f"-readconfig {path.text}"
            left.append(Left(fate=Fate.UNRESOLVED, where=where, name="-readconfig", text=text, said=said))
        else:
            more, wrong = config_words(Text(path.text, data.decode(errors="surrogateescape")))
            words += more
            left += wrong
        at += 2
    return replace(command, words=tuple(words), left=tuple(left))


def _numbered(command: Command) -> Command:
    words = tuple(replace(word, number=number) for number, word in enumerate(command.words, 1))
    return replace(command, program=replace(command.program, number=0), words=words)
