"""``verify``: VMs that run, against their profiles, or against what they were started with."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from wizard.base.errors import InputError, UsageError
from wizard.base.exits import Exit
from wizard.base.finding import Finding, Severity, grouped, ordered
from wizard.base.text import plural, visible
from wizard.cli.lines import PIPE
from wizard.cli.output import confirmed, face, item_lines, print_json, print_lines, put, summary
from wizard.running.model import SCHEMA, VerifyView, VmView

if TYPE_CHECKING:
    from wizard.running.expected import Expected
    from wizard.running.verify import Found, World


def run_verify(arguments: argparse.Namespace) -> int:
    """The three questions of each VM, and what is not as it should be."""
    from wizard.running.verify import World, find, rights, verify

    world = World()
    files = [word for word in arguments.vms if _is_file(word)]
    expected, findings = _expected(arguments, files)
    found, missing = find([word for word in arguments.vms if word not in files], expected, world) if expected or not files else ([], [])
    found = _with_socket(found, arguments.qmp, world)
    vms = verify(found, world)
    if arguments.translating is not None:
        from wizard.running.translating import question, traced

        asked = question(vms, arguments.translating)
        if asked and confirmed(asked, arguments.yes, "A trace writes to QEMU's log, and nobody is here to be asked."):
            vms = traced(found, vms, arguments.translating, world)
    said = ordered((*findings, *missing, *rights(vms)))
    ok = not any(finding.severity is Severity.ERROR for finding in (*said, *(one for vm in vms for one in vm.findings)))
    if arguments.json:
        print_json(VerifyView(SCHEMA, ok, vms, said))
    else:
        _show(vms, said)
    return Exit.OK if ok else Exit.FINDINGS


def _show(vms: Sequence[VmView], said: Sequence[Finding]) -> None:
    from wizard.running.text import lines

    for count, vm in enumerate(vms):
        if count:
            put("\n")
        print_lines(lines(vm))
        print_lines(item_lines(grouped(vm.findings)))
    if said:
        print_lines(["", *item_lines(grouped(said))] if vms else item_lines(grouped(said)))
    if face() != PIPE:
        print_lines(summary(grouped((*(finding for vm in vms for finding in vm.findings), *said))))


def _is_file(word: str) -> bool:
    """A profile, a domain or a command line; what is none of them is the name or the process number of a VM."""
    return word == "-" or "/" in word or word.endswith((".toml", ".xml", ".sh", ".json")) or os.path.isfile(word)


def _expected(arguments: argparse.Namespace, files: Sequence[str]) -> tuple[list[Expected], tuple[Finding, ...]]:
    """What the VMs of files should be. A profile is planned on the host; a domain says it itself."""
    from wizard.cli.planning import read_vms, request_of_vms
    from wizard.running.expected import of_guest, of_plan

    vms = read_vms(files)
    made = [of_guest(vm.guest, vm.source) for vm in vms if vm.guest is not None]
    profiles = [vm for vm in vms if vm.guest is None]
    broken = tuple(finding for vm in profiles if not vm.whole for finding in vm.findings)
    if profiles and not broken:
        from wizard.cli.source import host_for
        from wizard.plan.planner import make_plan

        plan = make_plan(host_for(arguments), request_of_vms(profiles))
        made += [of_plan(vm, opened.source) for vm, opened in zip(plan.vms, profiles, strict=True)]
    elif arguments.replay or arguments.root:
        # Left aside in silence, it would look as if the VMs had been held against that host.
        raise UsageError("Without a profile verify plans nothing, and looks at no recorded host.", "Name a profile, or leave the host away.")
    return made, broken


def _with_socket(found: list[Found], socket: str | None, world: World) -> list[Found]:
    """The VM that --qmp belongs to: by the process that listens there, where there are several."""
    if socket is None:
        return found
    if not os.path.exists(socket):
        raise InputError(f"There is no socket {visible(socket)}.", "Name the path of the VM's QMP socket.")
    socket = os.path.abspath(socket)
    if len(found) == 1:
        return [replace(found[0], socket=socket)]
    from wizard.running.monitor import listener

    owner = listener(socket)
    mine = [one for one in found if one.process.guest.running == owner]
    if not mine:
        what = f"{visible(socket)} belongs to process {owner}" if owner else f"Who listens at {visible(socket)} can't be seen"
        raise UsageError(f"{what}, which is none of {plural(len(found), 'VM')}.", "Name the VM that it belongs to.")
    return [replace(one, socket=socket) if one in mine else one for one in found]
