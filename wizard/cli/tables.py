"""``tables``, and ``translate`` of one address: what an SMMU's memory and registers say, out of a dump."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from wizard.base.errors import InputError, UsageError
from wizard.base.exits import Exit
from wizard.base.text import visible
from wizard.cli.output import confirmed, print_json, print_lines

if TYPE_CHECKING:
    from wizard.smmu.dumps.state import Dump

_HINT = "It takes --mem FILE@ADDRESS (also more than once) and --registers FILE, or --qmp SOCKET of a QEMU that runs."


def run_tables(arguments: argparse.Namespace) -> int:
    """Streams, mappings, who reaches an address, what is wrong, the events, or what changed."""
    action, words = arguments.action, arguments.words
    least, most, what = _WORDS[action]
    if not least <= len(words) <= most:
        raise UsageError(f"tables {action} takes {what}.", "`smmu-wizard tables --help` shows an example of each.")
    with looked(arguments) as dump:
        return _answer(arguments, dump)


def _answer(arguments: argparse.Namespace, dump: Dump) -> int:
    from wizard.smmu.dumps import view
    from wizard.smmu.dumps.audit import audit
    from wizard.smmu.dumps.changes import changes
    from wizard.smmu.dumps.mappings import Mappings

    action, words = arguments.action, arguments.words
    answer = view.head(dump)
    status = Exit.OK
    if action == "streams":
        answer.streams = view.streams(dump)
    elif action == "map":
        sid = _number(words[0], "StreamID")
        if sid not in dump.inventory.entries:
            raise InputError(
                f"StreamID {sid:#x} has no valid stream table entry in this dump.", "`smmu-wizard tables streams` lists those that have."
            )
        answer.mappings = view.mapped(Mappings(dump).of(sid))
    elif action == "who":
        answer.reach, answer.undecided = view.reach(
            Mappings(dump), _number(words[0], "address"), _number(words[1], "number of bytes") if words[1:] else 1
        )
    elif action == "check":
        found = list(audit(dump, Mappings(dump)))
        answer.flaws = view.flaws(found)
        status = Exit.FINDINGS if any(one.kind in ("illegal", "inconsistent", "exposed") for one in found) else Exit.OK
    elif action == "events":
        answer.events, answer.unread = view.events(dump)
    else:
        if not arguments.to_mem or not arguments.to_registers:
            raise UsageError("tables diff needs a second dump.", "Give it with --to-mem FILE@ADDRESS and --to-registers FILE.")
        answer.changes = view.changed(changes(dump, opened(arguments.to_mem, arguments.to_registers)))
    if arguments.json:
        print_json(answer)
    else:
        print_lines(view.lines(answer))
    return status


_WORDS = {
    "streams": (0, 0, "nothing more"),
    "map": (1, 1, "one StreamID"),
    "who": (1, 2, "a physical address, and a number of bytes where it is not 1"),
    "check": (0, 0, "nothing more"),
    "events": (0, 0, "nothing more"),
    "diff": (0, 0, "nothing more"),
}


def run_one(arguments: argparse.Namespace) -> int:
    """``translate --mem … --registers … SID IOVA``: one transaction, as a line of JSON like a case's answer, its trace before it."""
    if arguments.iova is None:
        raise UsageError(
            "translate with --mem takes a StreamID and an input address.", f"Like translate {visible(arguments.case)} 0xffff0000. {_HINT}"
        )
    with looked(arguments) as dump:
        return _one(arguments, dump)


def _one(arguments: argparse.Namespace, dump: Dump) -> int:
    from wizard.cli.translate import told
    from wizard.smmu.cases import answer_of
    from wizard.smmu.outcome import Transaction

    sid, iova = _number(arguments.case, "StreamID"), _number(arguments.iova, "input address")
    ssid = _number(arguments.ssid, "SubstreamID") if arguments.ssid is not None else None
    try:
        outcome = dump.smmu.translate(Transaction(sid, iova, write=not arguments.read, ssid=ssid), trace=arguments.trace is not None)
    except ValueError as error:
        raise InputError(f"{str(error)[0].upper()}{str(error)[1:]}.", "Check it, and IDR1 in the listing.") from error
    answer = answer_of(outcome)
    for name in dump.registers.assumed:
        sys.stdout.write(f"# {name} is not in the listing: {dump.registers.values[name]:#x} is assumed\n")
    for address in sorted(dump.memory.unknown):
        sys.stdout.write(f"# no image holds {address:#x}: what follows from it is not known\n")
    if arguments.trace == "text":
        sys.stdout.writelines(told(answer))
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    return Exit.INPUT if dump.memory.unknown else Exit.OK


@contextmanager
def looked(arguments: argparse.Namespace) -> Iterator[Dump]:
    """What is looked at: files, or a machine that QEMU runs, as long as it is looked at."""
    given = [name for name in ("mem", "qmp", "gdb") if getattr(arguments, name)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are two places for memory.", "Give one of --mem, --qmp and --gdb.")
    if not arguments.qmp and not arguments.gdb:
        if arguments.smmu is not None:
            raise UsageError("--smmu is for --qmp and --gdb.", _HINT)
        yield opened(arguments.mem, arguments.registers)
        return
    from wizard.running.memory import GDB_QUESTION, by_gdb, by_monitor, smmu_of
    from wizard.running.wire import MonitorError
    from wizard.smmu.dumps.images import ImageMemory
    from wizard.smmu.dumps.registers import read_registers
    from wizard.smmu.dumps.state import Dump

    base = _number(arguments.smmu, "address") if arguments.smmu is not None else None
    if arguments.gdb:
        question = GDB_QUESTION.format(name=visible(arguments.gdb))
        if not confirmed(question, arguments.yes, "A gdb that attaches stops the machine, and nobody is here to be asked."):
            raise UsageError("Nothing was attached to.", "--qmp reads the tables of a machine that goes on.")
    with by_monitor(arguments.qmp) if arguments.qmp else by_gdb(arguments.gdb) as live:
        try:
            if live.running():
                sys.stderr.write("The guest runs: each page is what it is when it is read.\n")
            listing = arguments.registers or live.what
            text = _listing(listing) if arguments.registers else live.registers(smmu_of(live, base))
        except MonitorError as error:
            raise InputError(f"{live.what} does not show its registers: {error}.", "Give them with --registers FILE.") from error
        yield Dump(ImageMemory(live.extents()), read_registers(text, listing))


def opened(images: list[str] | None, listing: str | None) -> Dump:
    """A dump out of the files that were named."""
    from wizard.smmu.dumps.images import open_images
    from wizard.smmu.dumps.registers import read_registers
    from wizard.smmu.dumps.state import Dump

    if not images or not listing:
        raise UsageError(f"{'--registers' if images else '--mem'} is missing: a dump is memory and registers.", _HINT)
    return Dump(open_images(images), read_registers(_listing(listing), listing))


def _listing(listing: str) -> str:
    """The text of a listing of registers."""
    from wizard.smmu.dumps.registers import LARGEST

    try:
        with open(listing, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{visible(listing)} can't be read: {error.strerror}.", "Name a listing of the SMMU's registers.") from error
    if len(data) > LARGEST:
        raise InputError(f"{visible(listing)} is larger than {LARGEST >> 20} MiB.", "A listing of one SMMU's two pages is far smaller.")
    return data.decode("utf-8", "replace")


def _number(text: str, what: str) -> int:
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise UsageError(f"{visible(text)} is no {what}.", "Give it in decimal, or hexadecimal after 0x.")
    return value
