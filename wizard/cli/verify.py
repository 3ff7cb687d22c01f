"""``verify``: VMs that run, against their profiles, or against what they were started with."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from wizard.base.errors import InputError, UsageError
from wizard.base.exits import Exit
from wizard.base.finding import Finding, Severity, grouped, ordered
from wizard.base.text import plural, visible
from wizard.cli.lines import PIPE
from wizard.cli.output import confirmed, face, item_lines, print_json, print_lines, put, say, summary
from wizard.running.model import SCHEMA, Evidence, Rights, Step, VerifyView, VmView

if TYPE_CHECKING:
    from wizard.base.address import Address
    from wizard.running.expected import Expected
    from wizard.running.verify import Found, World


def run_verify(arguments: argparse.Namespace) -> int:
    """The three questions of each VM, and what is not as it should be."""
    if arguments.guest_script:
        from wizard.facts.treetext import script

        put(script())
        return Exit.OK
    from wizard.running.verify import World, find, rights, verify

    world = World()
    if arguments.postmortem is not None:
        return _postmortem(arguments, world)
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
    guest = None
    if arguments.guest is not None:
        guest, told = _of_guest(arguments.guest, expected or [one.expected for one in found], found, vms, world)
        findings = (*findings, *told)
        missing = [replace(one, severity=Severity.INFO) for one in missing]  # its guest's word is held all the same
    said = ordered((*findings, *missing, *rights(vms)))
    ok = not any(finding.severity is Severity.ERROR for finding in (*said, *(one for vm in vms for one in vm.findings)))
    if arguments.json:
        print_json(VerifyView(SCHEMA, ok, vms, said, guest))
    else:
        _show(vms, said, guest)
    return Exit.OK if ok else Exit.FINDINGS


def _postmortem(arguments: argparse.Namespace, world: World) -> int:
    """What there is of these VMs, running or not, in one redacted file."""
    from pathlib import Path

    import msgspec

    from wizard.base.files import PRIVATE, write_atomic
    from wizard.base.text import visible_json
    from wizard.cli.planning import read_vms
    from wizard.cli.source import facts_of, source_of
    from wizard.existing.processes import running
    from wizard.facts.source import secrets_for
    from wizard.running.logs import kernel_log, libvirt_log, qemu_log
    from wizard.running.postmortem import collect
    from wizard.running.process import look
    from wizard.running.verify import Found, as_started, find, rights, verify

    files = [word for word in arguments.vms if _is_file(word)]
    asked = [word for word in arguments.vms if word not in files]
    expected, findings = _expected(arguments, files)
    names = [*asked, *(one.name for one in expected if one.name)]
    named = find([], expected, world)[0] if expected else []
    others = [one for one in running(proc=world.proc, sys=world.sys) if one.guest.running not in {vm.process.guest.running for vm in named}]
    wanted = [one for one in others if not names or one.guest.name in asked or str(one.guest.running) in asked]
    found = [*named, *(Found(process=one, expected=as_started(one, world)) for one in wanted)]
    mine = [one.process for one in found]
    vms = verify(_with_socket(found, arguments.qmp, world), world)
    logs = [
        qemu_log(process, one.guest.name, libvirt=one.libvirt, proc=world.proc, logs=world.libvirt_logs)
        for one in mine if (process := look(one.guest.running or 0, one.started, proc=world.proc, sys=world.sys)) is not None
    ]  # fmt: skip
    gone = {name for name in names if "/" not in name} - {one.guest.name for one in mine}
    logs += [libvirt_log(name, logs=world.libvirt_logs) for name in sorted(gone)]
    profiles = {vm.source: Path(vm.source).read_text(encoding="utf-8") for vm in read_vms(files) if vm.kind == "profile" and vm.source != "-"}
    file = collect(
        facts_of(arguments), secrets_for(source_of(arguments)), vms=vms, findings=(*findings, *rights(vms)), processes=mine,
        names=[*names, *(one.guest.name for one in mine if one.guest.name)], profiles=profiles, kernel=kernel_log(), logs=logs,
    )  # fmt: skip
    text = visible_json(msgspec.json.format(msgspec.json.encode(file), indent=1).decode())
    write_atomic(Path(arguments.postmortem), text + "\n", force=arguments.force, mode=PRIVATE)
    counts = f"{plural(len(vms), 'VM')}, {plural(len(file.kernel_log), 'line')} of the kernel's log"
    say(f"Wrote {visible(arguments.postmortem)}: {counts}, the host's snapshot.")
    say(f"Redacted: {', '.join(file.redacted) or 'nothing was found to redact'}. Read it before you give it away.")
    return Exit.OK


def _of_guest(
    word: str, expected: Sequence[Expected], found: Sequence[Found], vms: Sequence[VmView], world: World
) -> tuple[Step | None, list[Finding]]:
    """What the guest of one VM says: in a snapshot of it, or asked by its agent (``agent``, ``agent:SOCKET``)."""
    from wizard.base.address import Address
    from wizard.facts.source import recorded
    from wizard.host.opening import open_host
    from wizard.running.guest import hold

    if len(expected) != 1:
        raise UsageError(f"--guest is the word of one VM, and these are {len(expected)}.", "Name the VM whose guest it is.")
    name = visible(expected[0].name or expected[0].source)
    places = {one.host: Address.parse(one.guest) for vm in vms for one in vm.functions if one.host is not None and one.guest is not None}
    kind, _, socket = word.partition(":")
    if kind != "agent":
        return hold(name, expected[0], open_host(recorded(word)), places)
    return _by_agent(name, expected[0], found, places, os.path.abspath(socket) if socket else None, world) if found else (None, [])


def _by_agent(
    name: str, expected: Expected, found: Sequence[Found], places: Mapping[str, Address], socket: str | None, world: World
) -> tuple[Step, list[Finding]]:
    from wizard.facts.source import decode_recording
    from wizard.host.build import host_of
    from wizard.running.agent import next_step, open_agent, printed
    from wizard.running.guest import hold, not_asked
    from wizard.running.wire import MonitorError

    try:
        agent = open_agent(found[0], world, socket)
        try:
            data = printed(agent)
        finally:
            agent.close()
    except MonitorError as error:
        return not_asked(name, str(error), next_step(error))
    step, findings = hold(name, expected, host_of(decode_recording(data, "what the guest's agent gave")), places)
    asked = Evidence(f"asked by {agent.how}", "guest-exec of the script that `verify --guest-script` prints", Rights.AGENT)
    return replace(step, evidence=(asked, *step.evidence)), findings


def _show(vms: Sequence[VmView], said: Sequence[Finding], guest: Step | None) -> None:
    from wizard.running.text import lines, step_lines

    for count, vm in enumerate(vms):
        if count:
            put("\n")
        print_lines(lines(vm))
        print_lines(item_lines(grouped(vm.findings)))
    if guest is not None:
        print_lines(["The guest:", *step_lines(guest)])
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
    from wizard.running.wire import listener

    owner = listener(socket)
    mine = [one for one in found if one.process.guest.running == owner]
    if not mine:
        what = f"{visible(socket)} belongs to process {owner}" if owner else f"Who listens at {visible(socket)} can't be seen"
        raise UsageError(f"{what}, which is none of {plural(len(found), 'VM')}.", "Name the VM that it belongs to.")
    return [replace(one, socket=socket) if one in mine else one for one in found]
