"""What the commands of several hosts can be asked, and ``engine``."""

from __future__ import annotations

import argparse

from wizard.base.text import visible
from wizard.cli import consumers
from wizard.cli.options import add_json, add_output, add_severity

ENGINES = ("nfd", "kubevirt-permitted", "kubevirt-vm", "kubevirt-vmi", "opennebula-host", "opennebula-pci", "opennebula-template", "opennebula-raw")
"""The first formats of ``engine``; the others are those of ``consumers``."""


def of_diff(command: argparse.ArgumentParser) -> None:
    command.add_argument("a", metavar="SNAPSHOT", help="before, or one host (- for standard input)")
    command.add_argument("b", metavar="SNAPSHOT", help="after, or the other host")
    command.add_argument("--profile", metavar="FILE", action="append", default=[], help="also say whether this profile still holds (may be repeated)")
    add_severity(command, quiet=False)
    add_json(command)


def of_baseline(command: argparse.ArgumentParser) -> None:
    _snapshots(command)
    command.add_argument("--device", metavar="VVVV:DDDD", help="only for this vendor and device")
    command.add_argument("--class", dest="class_", metavar="CC[SS[PP]]", help="only for devices of this class, for example 02 or 0302")
    command.add_argument("--assume-accel", action="store_true", help="take unknown verdicts and assumed values for what they say")
    add_severity(command, quiet=False)
    add_output(command, "write the portable profile template to a file")
    add_json(command)


def of_match(command: argparse.ArgumentParser) -> None:
    command.add_argument("request", metavar="REQUEST", help="a TOML file: a profile without addresses, with [[device]]; docs/fleet.md")
    _snapshots(command)
    add_severity(command, quiet=False)
    add_output(command, "directory for NAME.toml of each VM")
    add_json(command)


def of_index(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", metavar="ACTION", choices=("rows", "merge"), help="rows SNAPSHOT…, or merge TARGET INDEX…")
    _snapshots(command)
    add_output(command, "of rows: a file, .parquet or else NDJSON (default: NDJSON to standard output)")


def of_engine(command: argparse.ArgumentParser) -> None:
    formats = (*ENGINES, *consumers.NAMES)
    command.add_argument("format", metavar="FORMAT", choices=formats, help=", ".join(formats))
    command.add_argument(
        "profile", metavar="PROFILE", nargs="?", help="for kubevirt-vm, kubevirt-vmi, opennebula-template, opennebula-raw, dra-claim and incus"
    )
    command.add_argument(
        "--partial",
        action="store_true",
        default=None,
        help="incus, kubevirt-vm, kubevirt-vmi: also a VM with less than its profile; what is left out is said",
    )
    command.add_argument(
        "--resource", metavar="VVVV:DDDD=NAME", action="append",
        help="kubevirt: the resource that another device plugin advertises these functions as (may be repeated)",
    )  # fmt: skip
    consumers.declare(command)
    add_output(command, "write to a file instead of standard output")


def _snapshots(command: argparse.ArgumentParser) -> None:
    command.add_argument("snapshots", metavar="SNAPSHOT", nargs="+", help="snapshots or summaries, directories of them, or an index (.sqlite)")
    command.add_argument("--index", metavar="FILE", help="where summaries are kept (default: fleet.sqlite in the cache directory)")
    command.add_argument("--no-index", action="store_true", help="read every snapshot, keep nothing")
    command.add_argument("--old-after", metavar="DAYS", type=_days, default=30, help="say which snapshots are as old (default 30; 0: never)")
    command.add_argument("--dask", metavar="ADDRESS", help="have the workers of this Dask scheduler read them (tcp://HOST:8786)")


def _days(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 6:
        raise argparse.ArgumentTypeError(f"{visible(text)} is no number of days")
    return int(text)
