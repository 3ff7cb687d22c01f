"""systemd units: ``ExecStart=`` by the rules of systemd.service(5) "Command lines" and systemd.syntax(7), ``%i`` and its like by systemd.unit(5).

``$NAME`` and ``${NAME}`` are systemd's own here: the values of ``Environment=`` are put in, those of an ``EnvironmentFile=`` are not read.
"""

from __future__ import annotations

import re

import msgspec

from wizard.existing.guest import Fate, Left
from wizard.existing.words.expand import Value, joined
from wizard.existing.words.model import Command, Hole, Run, Text, Word
from wizard.existing.words.program import only_asks, start_of, unit_bytes, user_of

_HEADER = re.compile(r"\[([^\]\n]+)\]\s*")
_INSTANCE = re.compile(r"^(?P<prefix>.+?)@(?P<instance>.*)\.service$")
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)|\$\$")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([0-7]{3})|(.))", re.DOTALL)
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}

# What of a service touches the VM or its devices, and no profile can hold. The rest is how systemd watches over it.
_SAID = {
    "ExecStartPre": "it runs before the VM starts", "ExecStartPost": "it runs after the VM has started", "ExecStop": "it stops the VM",
    "CPUAffinity": "it binds the VM's threads to processors", "NUMAPolicy": "it binds the VM's memory", "NUMAMask": "it binds the VM's memory",
    "AllowedCPUs": "it binds the VM's threads to processors", "AllowedMemoryNodes": "it binds the VM's memory",
    "MemoryMax": "it limits the memory of QEMU, the guest's included", "MemoryLimit": "it limits the memory of QEMU, the guest's included",
    "DevicePolicy": "it decides which devices QEMU may open", "DeviceAllow": "it decides which devices QEMU may open",
    "PrivateDevices": "it decides which devices QEMU may open", "RootDirectory": "paths are those below it", "Group": "QEMU runs with it",
    "AmbientCapabilities": "QEMU runs with it", "CapabilityBoundingSet": "QEMU runs with it", "SupplementaryGroups": "QEMU runs with it",
}  # fmt: skip


class _Entry(msgspec.Struct, frozen=True):
    section: str
    key: str
    value: Value  # continued lines are joined
    start: int


def _entries(source: Text) -> list[_Entry]:
    found: list[_Entry] = []
    section, at, text = "", 0, source.text
    while at < len(text):
        end = _line_end(text, at)
        line = text[at:end].strip()
        header = _HEADER.fullmatch(line)
        if header is not None:
            section = header[1]
        elif line and line[0] not in "#;" and "=" in line:
            key = text[at : text.index("=", at)].strip()
            value, end = _continued(source, text.index("=", at) + 1)
            found.append(_Entry(section, key, value, at))
        at = end + 1
    return found


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    return len(text) if end < 0 else end


def _continued(source: Text, at: int) -> tuple[Value, int]:
    """A value from ``at`` on: a backslash at the end of a line makes a space of it and the line break; comments between are passed over."""
    text, pieces = source.text, list[Value]()
    while True:
        end = _line_end(text, at)
        stop = end - (text[end - 1 : end] == "\r")
        more = text[stop - 1 : stop] == "\\" and stop > at
        stop -= more
        if stop > at:
            pieces.append(Value(text[at:stop], (Run(0, stop - at, at, source),)))
        if not more:
            return (joined(pieces) if pieces else Value()), end
        pieces.append(Value(" "))
        at = end + 1
        while at < len(text) and text[at : _line_end(text, at)].lstrip()[:1] in ("#", ";") and text[at] != "\n":
            at = _line_end(text, at) + 1
        if at >= len(text):
            return joined(pieces), len(text)


class Unit:
    """One unit while it is read."""

    def __init__(self, source: Text) -> None:
        self.source = source
        self.left: list[Left] = []
        self.commands: list[Command] = []
        self._environment: dict[str, Value] = {}
        self._files: list[str] = []
        self._specifiers = _specifiers(source)
        if self._specifiers.guessed is not None:
            at, instance = self._specifiers.guessed
            said = f"the unit is for any instance; the one that line {source.line(at)} speaks of is taken: {instance}"
            self._say(Fate.UNRESOLVED, at, "%i", said)

    def _say(self, fate: Fate, start: int, name: str, said: str, text: str = "") -> None:
        self.left.append(Left(fate=fate, where=self.source.where(start, start + 1), name=name, text=text or name, said=said))

    def read(self) -> None:
        """Find the commands."""
        entries = [entry for entry in _entries(self.source) if entry.section == "Service"]
        user, memlock = None, None
        for entry in entries:
            value = entry.value.text.strip()
            match entry.key:
                case "Environment":
                    for word in self._words(entry.value, specifiers=True):
                        name, equals, _ = word.text.partition("=")
                        if equals:
                            self._environment[name] = word.part(len(name) + 1, len(word.text))
                case "EnvironmentFile":
                    value = self._specified(entry.value).text.strip()
                    self._files.append(value.removeprefix("-"))
                    said = "the file is not read; what it sets is not known"
                    self._say(Fate.UNRESOLVED, entry.start, "EnvironmentFile", said, f"EnvironmentFile={value}")
                case "User":
                    user = value
                case "LimitMEMLOCK":
                    memlock = unit_bytes(value.partition(":")[0], 1)
                case key if key in _SAID:
                    self._say(Fate.LOST, entry.start, key, f"{_SAID[key]}, and belongs to the unit", f"{key}={' '.join(value.split())}")
        for entry in entries:
            if entry.key == "ExecStart":
                self._start(entry, user, memlock)

    def _start(self, entry: _Entry, user: str | None, memlock: int | None) -> None:
        words = []
        for value in self._words(entry.value, specifiers=True):
            for one in self._resolved(value):
                line = self.source.line(one.runs[0].source) if one.runs else self.source.line(entry.start)
                words.append(Word(text=one.text, source=self.source.name, line=line, runs=one.runs, holes=one.holes))
        if not words:
            return
        first = words[0]
        stripped = first.text.lstrip("@-:+!")
        rest = Value(first.text, first.runs, first.holes).part(len(first.text) - len(stripped), len(first.text))
        words[0] = msgspec.structs.replace(first, text=stripped, runs=rest.runs, holes=rest.holes)
        if "@" in first.text[: len(first.text) - len(stripped)]:
            del words[1:2]  # the name that the process is to have
        at = start_of(words)
        if at is None:
            from wizard.existing.words.script import is_script, read_script

            for word in words[1:]:
                if is_script(word.text):
                    script = read_script(Text(self.source.name, word.text, word))
                    self.commands += script.commands
                    self.left += script.left
            return
        if not only_asks(words[at + 1 :]):
            before = tuple(words[:at])
            self.commands.append(
                Command(program=words[at], words=tuple(words[at + 1 :]), before=before, user=user or user_of(before), memlock=memlock)
            )

    # -- words --------------------------------------------------------------------------------------------------------

    def _words(self, value: Value, *, specifiers: bool) -> list[Value]:
        """Split at white space; quotes and C escapes as in extract_first_word() of systemd."""
        text, found, at = value.text, list[Value](), 0
        while True:
            while at < len(text) and text[at] in " \t\n\r":
                at += 1
            if at >= len(text):
                return found
            word, at = self._word(value, at)
            found.append(self._specified(word) if specifiers else word)

    def _word(self, value: Value, at: int) -> tuple[Value, int]:
        text, pieces, quote, opened = value.text, list[Value](), "", at
        while at < len(text):
            character = text[at]
            if quote and character == quote:
                quote, at = "", at + 1
            elif not quote and character in "'\"":
                quote, opened, at = character, at, at + 1
                pieces.append(Value())
            elif character == "\\" and at + 1 < len(text):
                piece, at = self._escaped(value, at)
                pieces.append(piece)
            elif not quote and character in " \t\n\r":
                break
            else:
                end = at + 1
                while end < len(text) and text[end] not in "\\'\" \t\n\r":
                    end += 1
                pieces.append(value.part(at, end))
                at = end
        if quote:
            start = next((run.source + opened - run.start for run in value.runs if run.start <= opened < run.end), 0)
            self._say(Fate.UNKNOWN, start, text[opened : opened + 24], f"a quote that begins here never ends ({quote})")
        return (joined(pieces) if pieces else Value()), at

    def _escaped(self, value: Value, at: int) -> tuple[Value, int]:
        match = _ESCAPE.match(value.text, at)
        assert match is not None  # a backslash with a character behind it
        byte, short, long, octal, other = match.groups()
        if byte or short or long or octal:
            number = int(byte or short or long or "", 16) if not octal else int(octal, 8)
            text = chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else match[0]
        else:
            text = _ESCAPES.get(other, other)
        return Value(text), match.end()

    def _specified(self, value: Value) -> Value:
        """``%i`` and its like replaced, ``%%`` too."""
        pieces, at, text = list[Value](), 0, value.text
        for match in re.finditer(r"%(.)", text):
            if match.start() < at:
                continue
            pieces.append(value.part(at, match.start()))
            at = match.end()
            known = self._specifiers.values.get(match[1])
            if match[1] == "%":
                pieces.append(Value("%"))
            elif known is not None:
                pieces.append(Value(known))
            else:
                where = self.source.where(value.runs[0].source if value.runs else 0, value.runs[0].source + 1 if value.runs else 0, match[0])
                pieces.append(Value(match[0], (), (Hole(0, 2, match[0], where, "systemd fills it in when the unit starts"),)))
        if not pieces:
            return value
        return joined([*pieces, value.part(at, len(text))])

    def _resolved(self, value: Value) -> list[Value]:
        """Variables: ``${NAME}`` stays one word; ``$NAME`` that is a whole word is split at white space, and is none when it is empty."""
        whole = _VARIABLE.fullmatch(value.text)
        if whole is not None and whole[2]:
            return [part for part in self._split(self._variable(value, whole)) if part.text]
        pieces, at = list[Value](), 0
        for match in _VARIABLE.finditer(value.text):
            pieces.append(value.part(at, match.start()))
            pieces.append(self._variable(value, match))
            at = match.end()
        return [joined([*pieces, value.part(at, len(value.text))])] if pieces else [value]

    def _split(self, value: Value) -> list[Value]:
        if value.holes:
            return [value]
        return [value.part(match.start(), match.end()) for match in re.finditer(r"\S+", value.text)]

    def _variable(self, value: Value, match: re.Match[str]) -> Value:
        name = match[1] or match[2]
        if not name:
            return Value("$")
        if name in self._environment:
            return self._environment[name]
        part = value.part(match.start(), match.end())
        start = part.runs[0].source if part.runs else 0
        because = f"it comes from {self._files[-1]}, which is not read" if self._files else "the unit does not set it"
        where = self.source.where(start, start + len(match[0]), match[0])
        return Value(part.text, part.runs, (Hole(0, len(match[0]), match[0], where, because, match[1] is None),))


class _Specifiers(msgspec.Struct, frozen=True):
    values: dict[str, str]
    guessed: tuple[int, str] | None = None  # where the instance was found


def _specifiers(source: Text) -> _Specifiers:
    """What %i, %n and their like are: by the file's name, else by the one instance that the unit's comments speak of."""
    name = source.name.rpartition("/")[2]
    match = _INSTANCE.fullmatch(name)
    guessed = None
    if match is None:
        return _Specifiers({"n": name, "N": name.removesuffix(".service"), "p": name.removesuffix(".service")} if name.endswith(".service") else {})
    prefix, instance = match["prefix"], match["instance"]
    if not instance:
        named = {found[1]: found.start(1) for found in re.finditer(rf"(?<![\w-]){re.escape(prefix)}@([\w:.\\-]+)", source.text)}
        named = {one.removesuffix(".service").rstrip("."): at for one, at in named.items()}
        if len(named) != 1:
            return _Specifiers({"p": _unescaped(prefix), "P": prefix})
        instance, at = next(iter(named.items()))
        guessed = (at, instance)
    full = f"{prefix}@{instance}"
    values = {"i": instance, "I": _unescaped(instance), "n": f"{full}.service", "N": full, "p": prefix, "P": _unescaped(prefix)}
    return _Specifiers(values, guessed)


def _unescaped(text: str) -> str:
    return re.sub(r"\\x([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), text.replace("-", "/"))
