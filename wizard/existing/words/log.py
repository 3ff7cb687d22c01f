"""libvirt's log of a domain (``/var/log/libvirt/qemu/NAME.log``): the command line of its last start, and the environment in front of it.

virCommandToString() of libvirt writes one word a line with a backslash behind it, quoted for a shell; older ones wrote it all in one line.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from wizard.existing.guest import Fate, Left
from wizard.existing.words.model import Commands, Text
from wizard.existing.words.script import Script

HEADER = re.compile(r"^.{0,60}starting up libvirt version: [^\n]*?, qemu version: (?P<qemu>[0-9][\w.]*)", re.MULTILINE)
_START = "starting up libvirt"


def read_log(source: Text) -> Commands:
    """The last start of a log."""
    text = source.text
    found = text.rfind(_START)
    begin = text.find("\n", found) + 1 if found >= 0 else 0
    header = HEADER.search(text, text.rfind("\n", 0, found) + 1, begin or len(text)) if found >= 0 else None
    end = begin
    while end < len(text):
        stop = text.find("\n", end)
        stop = len(text) if stop < 0 else stop
        last = not text[end:stop].endswith("\\")
        end = stop + 1
        if last:
            break
    # The same text up to there, so that places are those of the file.
    script = Script(Text(source.name, text[:end]), start=begin)
    script.read()
    commands = tuple(replace(command, version=header["qemu"] if header else None) for command in script.commands)
    left = list(script.left)
    earlier = text.count(_START, 0, max(found, 0))
    if earlier:
        said = f"the log has {earlier} earlier {'start' if earlier == 1 else 'starts'} of this VM; only the last one is read"
        left.append(Left(fate=Fate.PLAIN, where=source.where(found, found + len(_START)), name=_START, said=said))
    return Commands(commands=commands, kind="log", left=tuple(left))
