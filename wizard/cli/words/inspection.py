"""What ``list``, ``show``, ``doctor``, ``explain``, ``record`` and ``prepare`` can be asked."""

from __future__ import annotations

import argparse

from wizard.cli.options import add_json, add_output, add_severity


def of_list(command: argparse.ArgumentParser) -> None:
    text = "the wizard's filter: words that all have to match, anywhere or as field:word; with --ndjson or --csv: snapshots, or directories of them"
    command.add_argument("filter", metavar="FILTER", nargs="*", help=text)
    command.add_argument("-q", "--quiet", action="store_true", help="addresses alone")
    command.add_argument("--smmu", metavar="NAME", help="only what belongs to this SMMU")
    add_json(command)
    command.add_argument("--ndjson", action="store_true", help="one JSON object a line for each function, of this host or of every snapshot named")
    command.add_argument("--csv", action="store_true", help="the same rows as CSV (RFC 4180), the names of the columns first")


def of_show(command: argparse.ArgumentParser) -> None:
    command.add_argument("subject", metavar="FUNCTION|SMMU|PART-OF-A-NAME", nargs="+", help="a name, or the words of a filter that finds one")
    add_severity(command, quiet=False)
    add_json(command)


def of_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--knowledge", action="store_true", help="how old the tables of devices, kernels and the like are, and what they were read from"
    )
    add_severity(command)
    add_json(command)


def of_explain(command: argparse.ArgumentParser) -> None:
    command.add_argument("text", metavar="TEXT|FILE|-", nargs="*", help="a message, files, - for a paste, or the raw words of an event")
    command.add_argument("--profile", metavar="PROFILE", action="append", default=[], help="hold the causes against this VM too (may be repeated)")
    command.add_argument("--list", action="store_true", help="every message that is known")
    add_json(command)


def of_record(command: argparse.ArgumentParser) -> None:
    add_output(command)
    command.add_argument("--no-redact", action="store_true", help="keep serial numbers, MAC and IP addresses, UUIDs and names")
    command.add_argument("--probe", action="store_true", help="also ask iommufd, of functions already on a vfio driver; opening one resets it")
    command.add_argument("--yes", action="store_true", help="do not ask before a probe")
    command.add_argument("--summary", action="store_true", help="write only what baseline and match need of it: they read it at once")


def of_prepare(command: argparse.ArgumentParser) -> None:
    command.add_argument("functions", metavar="FUNCTION", nargs="+")
    add_output(command)
