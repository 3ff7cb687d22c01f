"""``list --ndjson`` and ``list --csv``: one row for each function, of this host or of every snapshot that is named."""

from __future__ import annotations

import argparse

from wizard.base.errors import InputError, UsageError
from wizard.base.exits import Exit
from wizard.base.text import plural, visible
from wizard.cli.output import finding_lines, put, say, say_lines


def run_rows(arguments: argparse.Namespace) -> int:
    """The rows, as they are read; status 3 where no file at all could be."""
    form = "ndjson" if arguments.ndjson else "csv"
    _refuse(arguments, form)
    if not arguments.filter:
        return _of_host(arguments, form)
    return _of_snapshots(arguments, form)


def _refuse(arguments: argparse.Namespace, form: str) -> None:
    if arguments.ndjson and arguments.csv:
        raise UsageError("--ndjson and --csv are two forms of the same rows.", "Give one of them.")
    for name in ("json", "quiet", "smmu"):
        if getattr(arguments, name):
            raise UsageError(f"--{name} has no use with --{form}.", f"--{form} writes every function with every column; docs/rows.md has queries.")
    if arguments.filter:
        for name in ("replay", "root", "demo", "policy"):
            if getattr(arguments, name):
                raise UsageError(f"--{name} has no use with snapshots that are named.", f"With --{form} the words after list are snapshots.")


def _of_host(arguments: argparse.Namespace, form: str) -> int:
    from wizard.cli.source import host_for
    from wizard.fleet.listing import FORMS
    from wizard.fleet.rows import csv_names, rows_of

    host = host_for(arguments)
    put((csv_names() if form == "csv" else "") + FORMS[form](rows_of(host, arguments.replay or arguments.root)))
    return Exit.OK


def _of_snapshots(arguments: argparse.Namespace, form: str) -> int:
    from wizard.fleet import codes
    from wizard.fleet.gather import Progress, find
    from wizard.fleet.listing import listing
    from wizard.fleet.rows import csv_names

    paths = find(arguments.filter)
    progress = Progress(len(paths), say, "snapshot", "read")
    hosts: dict[str, int] = {}
    read = 0
    first: tuple[str, str] | None = None
    try:
        for batch in listing(paths, form):
            for one in batch:
                if one.problem:
                    first = first or (one.problem, one.fix)
                    if read or len(paths) > 1:
                        say_lines(finding_lines([codes.UNREADABLE.at(visible(one.name), problem=one.problem, fix=one.fix)]))
                    continue
                if not read and form == "csv":
                    put(csv_names())
                read += 1
                if one.why_empty:
                    say(f"{visible(one.name)} gives no row: {one.why_empty}.")
                hosts[one.host] = hosts.get(one.host, 0) + 1
                put(one.text)
            progress.step(len(batch))
    finally:
        progress.end()
    if not read and first is not None:
        raise InputError(f"None of {plural(len(paths), 'file')} could be read as a snapshot. {first[0]}", first[1])
    if twice := sum(1 for count in hosts.values() if count > 1):
        stand = "stands" if twice == 1 else "stand"
        say(f"{twice} of {plural(len(hosts), 'host')} {stand} in more than one snapshot, each with its rows: docs/rows.md takes the newest.")
    return Exit.OK
