"""Sources whose words need no shell: NUL-separated, a line of ps, a JSON array, a -readconfig file."""

from __future__ import annotations

import json
import re

from wizard.base.errors import InputError
from wizard.existing.guest import Fate, Left
from wizard.existing.words.expand import Value, joined
from wizard.existing.words.model import WORDS, Command, Commands, Run, Text, Word
from wizard.existing.words.program import is_qemu

_WORD = re.compile(r"\S+")
_GROUP = re.compile(r'\[\s*([\w-]+)(?:\s+"([^"]*)")?\s*\]')
_PAIR = re.compile(r'([\w.-]+)\s*=\s*"([^"]*)"')
_STRING = re.compile(r'\s*"')


def read_nul(data: bytes, name: str) -> Commands:
    """``/proc/PID/cmdline``."""
    if data.count(b"\0") > WORDS:
        raise InputError(f"{name} has more than {WORDS} words.", "No command line is that long; name another file.")
    texts = data.removesuffix(b"\n").removesuffix(b"\0").split(b"\0")
    words = [Word(text=text.decode(errors="surrogateescape"), source=name, number=number) for number, text in enumerate(texts)]
    at = next((at for at, word in enumerate(words) if is_qemu(word.text)), 0)
    command = Command(program=words[at], words=tuple(words[at + 1 :]), before=tuple(words[:at]))
    return Commands(commands=(command,), kind="nul")


def read_array(source: Text) -> Commands:
    """A JSON array of words, the program first."""
    text, words, at = source.text, list[Word](), source.text.index("[") + 1
    while True:
        match = _STRING.match(text, at)
        if match is None:
            break
        try:
            value, end = json.decoder.scanstring(text, match.end(), False)  # type: ignore[attr-defined]  # its own module, undocumented
        except ValueError as error:
            what = f"{source.name}, line {source.line(match.start())}: {error}."
            raise InputError(what, "Correct the text: it has to be a JSON array of words.") from error
        raw = text[match.end() : end - 1]
        runs = (Run(0, len(raw), match.end(), source, '"'),) if raw == value and raw else ()
        words.append(Word(text=value, source=source.name, line=source.line(match.end()), number=len(words), runs=runs))
        at = end
        comma = re.compile(r"\s*,").match(text, at)
        if comma is None:
            break
        at = comma.end()
        if len(words) > WORDS:
            raise InputError(f"{source.name} has more than {WORDS} words.", "No command line is that long; name another file.")
    rest = text[at:].strip()
    left: tuple[Left, ...] = ()
    if rest != "]":
        said = "this is no word of a JSON array; what follows is not read"
        left = (Left(fate=Fate.UNKNOWN, where=source.where(at, at + 1), name=rest[:40], text=rest[:80], said=said),)
    command = Command(program=words[0], words=tuple(words[1:])) if words else None
    return Commands(commands=(command,) if command else (), kind="array", left=left)


def read_ps(source: Text) -> Commands:
    """The lines of ps that have QEMU in them: words are what stands between spaces, since ps joins them without quotes."""
    commands: list[Command] = []
    left: list[Left] = []
    at = 0
    for line in source.text.split("\n"):
        matches = list(_WORD.finditer(source.text, at, at + len(line)))
        words = [Word(text=m[0], source=source.name, line=source.line(m.start()), runs=(Run(0, len(m[0]), m.start(), source),)) for m in matches]
        program = next((place for place, word in enumerate(words) if is_qemu(word.text)), None)
        if program is not None and len(words) > program + 1:
            commands.append(Command(program=words[program], words=tuple(_whole(words[program + 1 :]))))
            for word in commands[-1].words:
                if " " in word.text and not word.text.startswith("{"):
                    said = "ps does not quote: this is put together from its pieces, and how many spaces there were is not known"
                    left.append(Left(fate=Fate.UNRESOLVED, where=word.where(), name=word.text, text=word.text, said=said))
        at += len(line) + 1
    return Commands(commands=tuple(commands), kind="ps", left=tuple(left))


def _whole(words: list[Word]) -> list[Word]:
    """Pieces of JSON put together again; any other word that can't begin an option belongs to the value before it."""
    found: list[Word] = []
    for word in words:
        follows = len(found) > 1 and not found[-1].text.startswith("-") and not word.text.startswith("-")
        if follows:
            last = found.pop()
            value = joined([Value(last.text, last.runs), Value(" "), Value(word.text, word.runs)])
            found.append(Word(text=value.text, source=last.source, line=last.line, runs=value.runs))
        else:
            found.append(word)
    return found


def config_words(source: Text) -> tuple[list[Word], list[Left]]:
    """A -readconfig file as words of a command line: ``[device "x"]`` with its keys is ``-device id=x,key=value``.

    qemu_config_foreach() of util/qemu-config.c: a line is a comment, a group, or ``key = "value"``; there are no escapes.
    """
    words: list[Word] = []
    left: list[Left] = []
    group: tuple[Word, list[Value]] | None = None
    at = 0
    for line in source.text.split("\n"):
        stripped, begin = line.strip(), at + len(line) - len(line.lstrip())
        at += len(line) + 1
        if not stripped or stripped.startswith("#"):
            continue
        header, pair = _GROUP.fullmatch(stripped), _PAIR.fullmatch(stripped)
        if header is not None:
            words += _group(source, group)
            flag = Word(text="-" + _FLAGS.get(header[1], header[1]), source=source.name, line=source.line(begin))
            id = [] if header[2] is None else [Value("id="), _escaped(source, header[2], begin + header.start(2))]
            group = (flag, id)
        elif pair is not None and group is not None:
            value = [_plain(source, pair[1], begin), Value("="), _escaped(source, pair[2], begin + pair.start(2))]
            group[1].extend([Value(","), *value] if group[1] else value)
        else:
            said = 'no line of a configuration file: it has to be [group], [group "id"] or key = "value"'
            left.append(Left(fate=Fate.UNKNOWN, where=source.where(begin, begin + len(stripped)), name=stripped[:60], text=stripped, said=said))
    words += _group(source, group)
    return words, left


_FLAGS = {"memory": "m", "smp-opts": "smp", "boot-opts": "boot"}  # groups whose option has another name


def _group(source: Text, group: tuple[Word, list[Value]] | None) -> list[Word]:
    if group is None:
        return []
    flag, values = group
    value = joined(values) if values else Value()
    line = source.line(value.runs[0].source) if value.runs else flag.line
    return [flag, Word(text=value.text, source=source.name, line=line, runs=value.runs)]


def _plain(source: Text, text: str, start: int) -> Value:
    return Value(text, (Run(0, len(text), start, source),) if text else ())


def _escaped(source: Text, text: str, start: int) -> Value:
    """A value whose commas are doubled, as key=value wants them."""
    if "," not in text:
        return _plain(source, text, start)
    return Value(text.replace(",", ",,"))
