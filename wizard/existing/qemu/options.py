"""Words -> QEMU's options with their keys, each with its place: key=value by qemu-option.c and keyval.c, JSON by qobject/json-parser.c.

``Option.take`` marks a key as understood. What nobody took is named in the end (``leftover``), so that nothing is dropped in silence.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from wizard.existing.guest import Fate, Left, Where
from wizard.existing.qemu import grammar
from wizard.existing.qemu.qjson import NotJson, members
from wizard.existing.words import Word
from wizard.existing.words.model import Hole

JSON_OPTIONS = frozenset({"device", "object", "blockdev", "netdev", "audiodev", "display", "compat", "machine", "accel", "chardev", "mon", "nic"})
BARE = {
    "device": "driver", "object": "qom-type", "blockdev": "driver", "netdev": "type", "machine": "type", "accel": "accel", "m": "size", "smp": "cpus",
    "numa": "type", "chardev": "backend", "drive": "file", "name": "guest", "mon": "chardev", "nic": "type", "net": "type", "boot": "order",
    "fw_cfg": "name", "cpu": "model", "rtc": "base", "sandbox": "enable", "audiodev": "driver", "tpmdev": "type", "display": "type",
    "fsdev": "fsdriver", "virtfs": "fsdriver", "vnc": "vnc", "icount": "shift", "trace": "enable", "option-rom": "romfile", "smbios": "file",
    "plugin": "file", "audio": "driver",
}  # fmt: skip
"""The key that the first value belongs to when it has none."""
PLAIN_VALUE = frozenset(
    (
        *("uuid", "bios", "kernel", "append", "initrd", "dtb", "shim", "pflash", "hda", "hdb", "hdc", "hdd", "cdrom", "sd", "mtdblock", "fda", "fdb"),
        *("serial", "parallel", "monitor", "qmp", "qmp-pretty", "debugcon", "gdb", "pidfile", "D", "d", "L", "k", "incoming", "loadvm", "mem-path"),
        *("global", "set", "echr", "dfilter", "seed", "watchdog-action", "vga", "usbdevice", "dump-vmstate", "readconfig", "xen-domid"),
        *("runas", "chroot"),
    )
)
"""Options whose value is one text."""
REPEATED = frozenset({"hostfwd", "guestfwd", "dnssearch", "cpus", "host-nodes", "value", "param", "path"})
"""Keys that may stand several times, and all count."""


class Key:
    """One key of an option and its value as text."""

    __slots__ = ("bad", "end", "holes", "name", "raw", "start", "taken", "text", "word")

    def __init__(self, name: str, text: str, start: int, end: int, word: Word, raw: Any = None) -> None:
        self.name, self.text, self.raw = name, text, raw
        self.start, self.end, self.word = start, end, word
        self.holes: tuple[Hole, ...] = word.holed(start, end)
        self.taken = False
        self.bad = False  # a value that can't be what the key is


class Option:
    """An option of the command line. ``name`` is without its dashes, and of several spellings the one that QEMU's own table has."""

    def __init__(self, name: str, word: Word, value: Word | None) -> None:
        self.name, self.word, self.value = name, word, value
        self.keys: list[Key] = []
        self.json = False
        self.taken = False  # whether the whole was understood
        self.wrong: list[Left] = []

    @property
    def spelled(self) -> str:
        """As it is written: ``-device``."""
        return self.word.text

    def where(self, key: str | None = None) -> Where:
        """The place of a key's value, or of the whole."""
        found = self.find(key) if key is not None else None
        if found is not None:
            return self.place(found)
        return (self.value or self.word).where(path=f"-{self.name}")

    def place(self, key: Key) -> Where:
        """The place of one key's value."""
        return key.word.where(key.start, key.end, f"-{self.name} {key.name}=")

    def find(self, name: str) -> Key | None:
        """A key; the last of several counts."""
        return next((key for key in reversed(self.keys) if key.name == name), None)

    def get(self, name: str) -> str | None:
        """A value, without taking it."""
        found = self.find(name)
        return found.text if found is not None else None

    def take(self, name: str) -> str | None:
        """A value, which is understood with it."""
        found = self.find(name)
        if found is None:
            return None
        found.taken = True
        return found.text

    def all(self, name: str) -> list[str]:
        """The values of a key that may stand several times, taken."""
        found = [key for key in self.keys if key.name == name]
        for key in found:
            key.taken = True
        return [key.text for key in found]

    @property
    def text(self) -> str:
        """The option with its value, quoted for a shell."""
        return f"{self.spelled} {shlex.quote(self.value.text)}" if self.value is not None else self.spelled

    @property
    def open(self) -> list[Key]:
        """The keys that nobody took."""
        return [key for key in self.keys if not key.taken]


def text_of(value: Any) -> str:
    """A JSON value as key=value has it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return ""
    return str(value) if isinstance(value, (str, int)) else repr(value)


def read_options(words: Sequence[Word]) -> tuple[list[Option], list[Left]]:
    """The options of a command line, in order; words that are none are ``Left``."""
    found: list[Option] = []
    left: list[Left] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if not word.text.startswith("-") or word.text == "-":
            if word.holes and word.text == word.holes[0].expression:
                said = f"{word.holes[0].because}; it may hold further options"
                left.append(Left(fate=Fate.UNRESOLVED, where=word.where(), name=word.text, text=word.text, said=said))
            else:
                # A word by itself is the first hard disk (qemu_init() of system/vl.c).
                found.append(_option("hda", word, word))
            continue
        name = word.text.lstrip("-") if word.text.startswith("--") else word.text[1:]
        name = {"M": "machine"}.get(name, name)
        takes = grammar.takes_value(name)
        follows = at < len(words) and (not words[at].text.startswith("-") or words[at].text == "-")
        if takes is None:
            at += follows
            left.append(_unknown(word, words[at - 1] if follows else None, name))
            continue
        value = words[at] if takes and at < len(words) else None
        at += value is not None
        option = _option(name, word, value)
        if takes and value is None:
            said = f"QEMU says: -{name}: requires an argument"
            option.wrong.append(Left(fate=Fate.UNKNOWN, where=word.where(), name=word.text, text=word.text, said=said))
        found.append(option)
    return found, left


def _unknown(word: Word, value: Word | None, name: str) -> Left:
    table = grammar.grammar()
    near = grammar.meant(name, table.options)
    text = f"{word.text} {shlex.quote(value.text)}" if value is not None else word.text
    said = f"QEMU {table.version} has no such option (invalid option)"
    return Left(fate=Fate.UNKNOWN, where=word.where(), name=word.text, text=text, said=said, meant=f"-{near}" if near else None)


def _option(name: str, word: Word, value: Word | None) -> Option:
    option = Option(name, word, value)
    if value is None:
        return option
    if name in PLAIN_VALUE:
        option.keys.append(Key("", value.text, 0, len(value.text), value))
    elif name in JSON_OPTIONS and value.text.lstrip()[:1] == "{":
        option.json = True
        try:
            for member in members(value.text):
                option.keys.append(Key(member.key, text_of(member.value), member.start, member.end, value, member.value))
        except NotJson as error:
            said, where = f"this is no JSON: {error}", value.where(error.at, error.at + 1, f"-{name}")
            option.wrong.append(Left(fate=Fate.UNKNOWN, where=where, name=f"-{name}", text=value.text, said=said))
    else:
        _keyval(option, value)
    return option


_PIECE = re.compile(r"(?:[^,]|,,)+")


def _keyval(option: Option, word: Word) -> None:
    text = word.text
    first = True
    for match in _PIECE.finditer(text):
        start, end = match.span()
        key, equals, _ = match[0].partition("=")
        bare = BARE.get(option.name)
        if first and bare is not None and (not equals or "," in key or not re.fullmatch(r"[A-Za-z0-9_.\-\[\]]+", key)):
            option.keys.append(_key(bare, text, start, end, word))
        elif equals:
            option.keys.append(_key(key, text, start + len(key) + 1, end, word))
        elif key.startswith("no") and option.name not in ("device", "machine", "object") and len(key) > 2 and key != "node":
            option.keys.append(Key(key[2:], "off", start, end, word))  # qemu-option.c: "nowait" is wait=off
        else:
            option.keys.append(Key(key, "on", start, end, word))
        first = False


def _key(name: str, text: str, start: int, end: int, word: Word) -> Key:
    return Key(name, text[start:end].replace(",,", ","), start, end, word)


# -- what is left ---------------------------------------------------------------------------------------------------------


def unresolved(option: Option, key: Key) -> Left | None:
    """What a value does not say because a variable in it is not known."""
    if not key.holes:
        return None
    hole = key.holes[0]
    name = f"-{option.name} {key.name}=" if key.name else f"-{option.name}"
    return Left(fate=Fate.UNRESOLVED, where=hole.where, name=hole.expression, text=key.text, said=f"{hole.because}, so {name} is not known")


def twice(option: Option) -> Iterator[Left]:
    """Keys that stand several times with different values: QEMU takes the last."""
    for place, key in enumerate(option.keys):
        later = next((other for other in option.keys[place + 1 :] if other.name == key.name), None)
        if later is not None and key.name not in REPEATED and later.text != key.text:
            key.taken = True
            where = option.place(key)
            said = f"{key.name}= stands twice, and QEMU takes the last: {later.text}"
            yield Left(fate=Fate.LOST, where=where, name=f"{key.name}={key.text}", text=f"{key.name}={key.text}", said=said)


def unknown_key(option: Option, key: Key, known: frozenset[str], said: str) -> Left:
    """A key that QEMU does not have there."""
    said = f"QEMU {grammar.grammar().version} says: {said}"
    near = grammar.meant(key.name, known)
    return Left(fate=Fate.UNKNOWN, where=option.place(key), name=key.name, text=f"{key.name}={key.text}", said=said, meant=near)


def known_keys(option: Option) -> frozenset[str] | None:
    """The keys that QEMU has for this option."""
    if option.name in ("device", "object"):
        return None
    kind = option.get(BARE.get(option.name, "")) if option.name in ("netdev", "blockdev", "numa") else None
    return grammar.keys(option.name, kind)
