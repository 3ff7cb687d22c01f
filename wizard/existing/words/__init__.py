"""Any source of a QEMU command line -> its words, each with its place. Nothing of a source is run, sourced or expanded beyond what it says itself.

read_commands(data, source) -> Commands      the commands, and what of the source is not in them

shell     scripts: continuations, quotes, comments, plain variables, arrays, wrappers (lexer, expand, script)
nul       /proc/PID/cmdline
log       libvirt's log of a domain: the last start
unit      systemd units: ExecStart= with specifiers (systemd)
ps        a line of ps, whose quotes are gone
config    a -readconfig file
array     a JSON array of words, as ``export --format qemu-json`` writes it
"""

from wizard.existing.words.model import Command, Commands, Text, Word
from wizard.existing.words.read import kind_of, read_commands

__all__ = ["Command", "Commands", "Text", "Word", "kind_of", "read_commands"]
