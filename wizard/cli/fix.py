"""``check --fix``: the mended VM, as a difference first, then written where that was asked for."""

from __future__ import annotations

import argparse
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from wizard.base.errors import InputError, OutputError, UsageError
from wizard.base.exits import Exit
from wizard.base.files import PLAIN, write_all
from wizard.base.finding import grouped
from wizard.base.text import plural, visible
from wizard.cli.output import item_lines, print_json, print_lines, say, say_lines
from wizard.cli.planning import permitted
from wizard.existing.load import STDIN, load, open_text, read_stdin
from wizard.host.model import Host
from wizard.host.vmm import Vmm
from wizard.mend import Change, Left, Mended, mend
from wizard.mend.edits import diff


class FixView(msgspec.Struct, frozen=True):
    """The output of ``check --fix --json``. ``diffs`` and ``texts`` go by the file's name; they hold only what changes."""

    schema: int
    ok: bool  # whether no error is left
    mended: tuple[Change, ...]
    left: tuple[Left, ...]
    diffs: dict[str, str]
    texts: dict[str, str]


def run_fix(arguments: argparse.Namespace, host: Host) -> int:
    """Status 0 when no error is left, else 1."""
    paths: list[str] = arguments.profiles
    if arguments.running is not None or not paths:
        raise UsageError("--fix mends files.", "Name the file of the VM.")
    if arguments.output and len(paths) > 1:
        raise UsageError(f"-o {visible(arguments.output)} is one file, and {len(paths)} are to be mended.", "Use --in-place, or name one.")
    if arguments.in_place and STDIN in paths:
        raise UsageError("Standard input can't be written to.", "Use -o FILE.")
    before = {path: text_of(path) for path in dict.fromkeys(paths)}
    vmm = Vmm(arguments.vmm) if arguments.vmm else None
    broken = [finding for path, text in before.items() for vm in open_text(path, text) if not vm.whole for finding in vm.findings]
    if broken:
        print_lines(item_lines(grouped(broken)))
        say("Nothing was mended: what can't be read can't be mended by rule.")
        return Exit.FINDINGS
    mended = mend_texts(host, before, arguments, vmm)
    texts = {path: text for path, text in mended.texts.items() if text != before[path]}
    diffs = {path: diff(path, before[path], text) for path, text in texts.items()}
    if arguments.json:
        print_json(FixView(1, not mended.left, mended.changes, mended.left, diffs, texts))
    else:
        tell(mended)
        print_lines(diffs.values())
    _write(arguments, before, texts)
    return Exit.OK if not mended.left else Exit.FINDINGS


def mend_texts(host: Host, texts: Mapping[str, str], arguments: argparse.Namespace, vmm: Vmm | None = None) -> Mended:
    """Texts by the names of their files, mended with what the command line allows."""
    return mend(host, texts, open_text, lambda request: permitted(arguments, host, request, vmm))


def text_of(path: str) -> str:
    """A file's text, as it is. Raises ``InputError`` for what is none."""
    data = read_stdin() if path == STDIN else load(Path(path))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{visible(path)} is not UTF-8 (byte {error.start}).", "What is mended is a text; name another file.") from error


def tell(mended: Mended) -> None:
    """What was mended and what stays, for people."""
    for change in mended.changes:
        say(f"  mended [{change.finding.code}] {change.finding.what}")
        say(f"    {visible(change.does)}")
    for one in mended.left:
        say_lines(item_lines(grouped((one.finding,))))
        say(f"    not mended: {visible(one.because)}.")
    rest = f"{plural(len(mended.left), 'error')} left" if mended.left else "no error is left"
    say(f"{plural(len(mended.changes), 'error')} mended, {rest}." if mended.changes or mended.left else "Nothing to mend: fine on this host.")


def _write(arguments: argparse.Namespace, before: Mapping[str, str], texts: Mapping[str, str]) -> None:
    if arguments.output:
        path = Path(arguments.output)
        name, old = next(iter(before.items()))
        write_all({path: texts.get(name, old)}, force=arguments.force, modes={path: _mode(name)})
        say(f"Wrote {visible(str(path))}.")
    elif arguments.in_place and texts:
        for name in texts:
            _unchanged(name, before[name])
        write_all({Path(name): text for name, text in texts.items()}, force=True, modes={Path(name): _mode(name) for name in texts})
        for name in texts:
            say(f"Wrote {visible(name)}.")
    elif texts:
        say("Nothing was written: --in-place writes it, or -o FILE.")


def _mode(name: str) -> int:
    return stat.S_IMODE(Path(name).stat().st_mode) if name != STDIN else PLAIN


def _unchanged(name: str, text: str) -> None:
    """Never through a link, and never over somebody's edits."""
    if Path(name).is_symlink():
        raise OutputError(f"{visible(name)} is a link, and mending in place follows none.", "Name the file that it leads to, or use -o FILE.")
    if text_of(name) != text:
        raise OutputError(f"{visible(name)} has changed since it was read.", "Run it again.")
