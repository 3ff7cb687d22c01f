"""What the commands of the simulated SMMUv3 can be asked, and those of a dump of a real one."""

from __future__ import annotations

import argparse

from wizard.cli.dryrun import add_workload_options
from wizard.cli.options import add_json, add_permissions, add_severity


def of_dry_run(command: argparse.ArgumentParser) -> None:
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="+")
    command.add_argument("--trace", metavar="FUNCTION@IOVA", help="the whole walk of one address")
    add_workload_options(command)
    add_severity(command)
    add_permissions(command)
    add_json(command)


def of_rehearse(command: argparse.ArgumentParser) -> None:
    command.add_argument("profile", metavar="PROFILE|DOMAIN")
    command.add_argument("--qemu", metavar="PATH", help="the QEMU to use (default: the one in PATH)")
    add_severity(command)
    add_permissions(command)
    add_json(command)


def of_translate(command: argparse.ArgumentParser) -> None:
    command.add_argument("case", metavar="CASE|-|SID", help="a file with one case or a list of them, - for one case a line; of a dump, a StreamID")
    command.add_argument("iova", metavar="IOVA", nargs="?", help="of a dump: the input address")
    command.add_argument("--trace", nargs="?", const="text", choices=["text", "json"], help="say which words were read and why the walk ended")
    command.add_argument("--coverage", action="store_true", help="say at the end which behaviours of the specification the cases have exercised")
    _dump(command)
    command.add_argument("--read", action="store_true", help="of a dump: a read, not a write")
    command.add_argument("--ssid", metavar="N", help="of a dump: the SubstreamID (PASID) of the access")


def of_hitless(command: argparse.ArgumentParser) -> None:
    command.add_argument("case", metavar="CASE|-", help="a file with one case or a list of them, or - for one case a line")
    add_json(command)


def of_tables(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "action", metavar="ACTION", choices=["streams", "map", "who", "check", "events", "diff"],
        help="streams: every valid StreamID; map SID: all that it reaches; who ADDRESS [BYTES]: which streams reach physical memory; "
        "check: what is illegal, inconsistent or exposed; events: the event queue; diff: against a second dump",
    )  # fmt: skip
    command.add_argument("words", metavar="WORD", nargs="*", help="a StreamID, or an address and a number of bytes")
    _dump(command)
    command.add_argument("--to-mem", metavar="FILE@ADDRESS", action="append", help="memory of the second dump")
    command.add_argument("--to-registers", metavar="FILE", help="registers of the second dump")
    add_json(command)


def of_smmu_server(command: argparse.ArgumentParser) -> None:
    command.add_argument("--socket", metavar="PATH", help="listen at this Unix socket, which its owner alone may use")
    command.add_argument("--stdio", action="store_true", help="talk on standard input and output, until the end of the first")
    command.add_argument("--once", action="store_true", help="end when the last client has gone")
    text = "an SMMU and where its registers are; keys: like, idr0, idr1, idr3, idr5, aidr, gbpa, caches (may be repeated; default: smmu0@0x9050000)"
    command.add_argument("--smmu", metavar="NAME[@BASE][,KEY=VALUE…]", action="append", default=[], help=text)
    text = "memory: 0x40000000+1G (may be repeated; default: 0x40000000+3G, unless there is a file)"
    command.add_argument("--ram", metavar="START+SIZE", action="append", default=[], help=text)
    text = "memory that is a file's or memfd's, mapped shared (may be repeated)"
    command.add_argument("--ram-file", metavar="FILE@ADDRESS", action="append", default=[], help=text)
    command.add_argument("--coverage", action="store_true", help="note which behaviours of the specification are exercised, for the command coverage")
    command.add_argument("--state", metavar="FILE", help="begin with the state that this file holds, where it is there, and write it at the end")
    command.add_argument("--include", action="store_true", help="print the directory of smmu_wizard.h, the client in C, and end")


def of_schema(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", metavar="NAME", nargs="?", help="without a name: the names there are")


def _dump(command: argparse.ArgumentParser) -> None:
    text = "an image of memory (FILE@ADDRESS), a vmcore or a listing of words; also more than once"
    command.add_argument("--mem", metavar="FILE@ADDRESS", action="append", help=text)
    command.add_argument("--registers", metavar="FILE", help="the SMMU's registers: name = value, devmem's words, QEMU's xp")
    command.add_argument("--qmp", metavar="SOCKET", help="instead: a QEMU that runs, by its monitor; nothing is changed, the guest goes on")
    command.add_argument(
        "--gdb", metavar="HOST:PORT|SOCKET", help="instead: a QEMU that runs, by its gdbstub; the guest stands meanwhile, and it asks before"
    )
    command.add_argument("--smmu", metavar="ADDRESS", help="with --qmp or --gdb: where the SMMU's registers are, of several")
    command.add_argument("--yes", action="store_true", help="do not ask before --gdb stops the guest")
