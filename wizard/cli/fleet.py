"""``diff``, ``baseline``, ``match`` and ``engine``. The rooms are imported when they run."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from wizard.base.errors import InputError, OutputError, UsageError
from wizard.base.exits import Exit
from wizard.base.text import plural, visible
from wizard.cli import consumers

if TYPE_CHECKING:
    from wizard.base.finding import Finding
    from wizard.fleet.diff.profiles import NamedRequest
    from wizard.fleet.gather import Fleet
    from wizard.host.model import Host
    from wizard.plan.model import VmPlan


def run_diff(arguments: argparse.Namespace) -> int:
    """What changed; always status 0 once both could be read."""
    from wizard.base.finding import grouped, ordered
    from wizard.cli.lines import PIPE
    from wizard.cli.output import face, finding_lines, print_json, print_lines, say, say_lines, summary
    from wizard.facts.source import recorded
    from wizard.fleet.diff import diff
    from wizard.fleet.text import diff_lines
    from wizard.host.opening import open_host

    if arguments.a == arguments.b == "-":
        raise UsageError("Standard input can't be both snapshots: it can be read once.", "Write one of them to a file first.")
    profiles, wrong = _profiles(arguments.profile)
    before, after = (open_host(recorded(path), arguments.policy) for path in (arguments.a, arguments.b))
    view = diff(before, after, (arguments.a, arguments.b), profiles)
    if arguments.json:
        for finding in wrong:
            say(f"{visible(finding.subject)}: {visible(finding.what)}")
        print_json(view)
        return Exit.OK
    last = summary(grouped(view.findings)) if face() != PIPE else ()
    print_lines((*diff_lines(view), *finding_lines(ordered(view.findings) if last else view.findings), *last))
    say_lines(finding_lines(wrong))
    return Exit.OK


def _profiles(paths: Iterable[str]) -> tuple[list[NamedRequest], tuple[Finding, ...]]:
    """Profiles that could be read, and what is wrong with the others."""
    from wizard.base.finding import Severity
    from wizard.existing.load import open_vms
    from wizard.fleet.diff.profiles import NamedRequest

    read: list[NamedRequest] = []
    wrong: list[Finding] = []
    for path in paths:
        for vm in open_vms(path):
            if any(finding.severity is Severity.ERROR for finding in vm.findings):
                wrong += vm.findings
            else:
                read.append(NamedRequest(path, vm.request))
    return read, tuple(wrong)


def run_baseline(arguments: argparse.Namespace) -> int:
    """The baseline, and its template with -o; status 1 when not every host can."""
    from wizard.base.signals import ending_in_order

    with ending_in_order():
        return _baseline(arguments)


def _baseline(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from wizard.base.files import write_atomic
    from wizard.cli.output import print_json, print_lines, say
    from wizard.fleet.baseline import conclude, part_of_fleet
    from wizard.fleet.devicekind import kind_of
    from wizard.fleet.template import template_of
    from wizard.fleet.text import baseline_lines

    try:
        kind = kind_of(arguments.device, arguments.class_)
    except ValueError as error:
        raise UsageError(f"{visible(str(error))}.", "`smmu-wizard list --json` shows vendor, device and class of every function.") from error
    fleet = gather_fleet(arguments)
    part = part_of_fleet(fleet, kind, assume=arguments.assume_accel)
    view = conclude(part, kind, skipped=fleet.skipped, findings=fleet.findings)
    if arguments.json:
        print_json(view)
    else:
        print_lines(baseline_lines(view))
        tell_findings(view.findings)
    if view.baseline is None:
        return Exit.FINDINGS
    if arguments.output:
        write_atomic(Path(arguments.output), template_of(view), force=arguments.force)
        say(f"Wrote {visible(arguments.output)}.")
    return Exit.OK


def run_match(arguments: argparse.Namespace) -> int:
    """Where the VMs of a request can go, and their profiles with -o; status 1 when they can't all be placed."""
    from wizard.base.signals import ending_in_order

    with ending_in_order():
        return _match(arguments)


def _match(arguments: argparse.Namespace) -> int:
    from pathlib import Path

    from wizard.base.directories import make_directory
    from wizard.base.files import write_all
    from wizard.cli.output import print_json, print_lines, say
    from wizard.facts.snapshot import LIMIT, read_bounded
    from wizard.fleet.entry import facts_of_file
    from wizard.fleet.match import answers_of
    from wizard.fleet.place import place
    from wizard.fleet.request import read_request
    from wizard.fleet.text import match_lines

    data, name = read_bounded(arguments.request, LIMIT)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 (byte {error.start}).", "A request is TOML, and TOML is UTF-8; name another file.") from error
    request, wrong = read_request(text, arguments.request)
    if request is None:
        tell_findings(tuple(wrong))
        return Exit.FINDINGS
    fleet = gather_fleet(arguments)
    view = place(answers_of(fleet, request), request, facts_of_file, findings=(*wrong, *fleet.findings), skipped=fleet.skipped, say=say)
    if arguments.json:
        print_json(view)
    else:
        print_lines(match_lines(view))
        tell_findings(view.findings)
    if not view.ok:
        say("Nothing was written." if arguments.output else "Not every VM has a place.")
        return Exit.FINDINGS
    if arguments.output:
        directory = Path(arguments.output)
        try:
            make_directory(directory)
        except OSError as error:
            what = f"{visible(str(directory))} can't be made a directory: {error.strerror or error}."
            raise OutputError(what, "Name a directory that can be written.") from error
        write_all({directory / f"{vm}.toml": profile for vm, profile in view.profiles.items()}, force=arguments.force)
        say(f"Wrote {plural(len(view.profiles), 'profile')} to {visible(str(directory))}.")
    return Exit.OK


def gather_fleet(arguments: argparse.Namespace) -> Fleet:
    """The hosts of the snapshots that are named; ``InputError`` where none could be read."""
    from pathlib import Path

    from wizard.cli.output import say
    from wizard.fleet.gather import find, gather
    from wizard.fleet.index import Index, Spare, default_path

    paths = find(arguments.snapshots)
    index = None if arguments.no_index else Index(Path(arguments.index)) if arguments.index else Spare(default_path(), say)
    read = None
    if arguments.dask:
        from wizard.fleet.cluster import reader

        read = reader(arguments.dask)
    fleet = gather(paths, index=index, read=read, say=say, old_days=arguments.old_after)
    if not fleet.entries and fleet.skipped.get("unreadable") == fleet.files:
        first = fleet.findings[0]
        raise InputError(f"None of {plural(fleet.files, 'file')} could be read as a snapshot. {first.what}", first.fix)
    return fleet


def tell_findings(findings: tuple[Finding, ...]) -> None:
    """On standard error, of each code the first."""
    from wizard.cli.output import finding_lines, say_lines
    from wizard.fleet.text import few

    shown, more = few(findings)
    say_lines((*finding_lines(shown), *more))


def run_engine(arguments: argparse.Namespace) -> int:
    """One file for an engine; status 1 when the profile has an error on this host."""
    consumers.refuse(arguments)
    if arguments.format in consumers.NAMES or arguments.expires is not None:
        return consumers.run(arguments, _planned)
    from wizard.cli.output import emit, say
    from wizard.cli.source import host_for
    from wizard.fleet.engines import OF_HOST, OF_VM, REMARKS, VM_REMARKS
    from wizard.fleet.summary import summary_of

    options = _engine_options(arguments)
    host = host_for(arguments)
    if arguments.format in OF_HOST:
        if arguments.profile:
            raise UsageError(f"{arguments.format} speaks of a host and takes no profile.", f"Leave {visible(arguments.profile)} away.")
        summary = summary_of(host)
        try:
            text = OF_HOST[arguments.format](summary, **options)
        except ValueError as error:
            raise OutputError(
                f"{visible(str(error))}.".capitalize(), "Send us the snapshot: no host should have so many kinds of devices."
            ) from error
        for remark in REMARKS[arguments.format](summary, **options) if arguments.format in REMARKS else ():
            say(remark)
        emit(arguments, text)
        return Exit.OK
    vm = _planned(arguments, host)
    if vm is None:
        return Exit.FINDINGS
    text = OF_VM[arguments.format](vm, **options)
    for remark in VM_REMARKS[arguments.format](vm) if arguments.format in VM_REMARKS else ():
        say(remark)
    emit(arguments, text)
    return Exit.OK


def _planned(arguments: argparse.Namespace, host: Host) -> VmPlan | None:
    """The VM of the profile that an engine's format speaks of; None, and said why, where it can't be planned on this host."""
    if not arguments.profile:
        raise UsageError(f"{arguments.format} speaks of a VM and needs its profile.", f"smmu-wizard engine {arguments.format} PROFILE")
    from wizard.plan.planner import make_plan
    from wizard.plan.request import Request

    profiles, wrong = _profiles([arguments.profile])
    if not profiles:
        tell_findings(wrong)
        return None
    plan = make_plan(host, Request(vms=(profiles[0].request,)))
    if not plan.ok:
        tell_findings(plan.errors)
        return None
    return plan.vms[0]


def _engine_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given beside the format, by the names of the exports' parameters."""
    import re

    from wizard.fleet.engines.kubevirt_rules import is_resource

    names = {}
    for text in arguments.resource or ():
        ids, _, name = text.partition("=")
        if not re.fullmatch(r"[0-9a-fA-F]{4}:[0-9a-fA-F]{4}", ids) or not is_resource(name):
            fix = "For example --resource 10de:2941=nvidia.com/GB200; at most 63 characters after the /."
            raise UsageError(f"--resource {visible(text)} is no vendor and device with the name of a resource.", fix)
        names[ids.lower()] = name
    return ({"names": names} if names else {}) | ({"partial": True} if arguments.partial else {})
