"""``plan``, ``check``, ``export`` and ``prepare``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wizard.base.directories import make_directory
from wizard.base.errors import OutputError, UsageError
from wizard.base.exits import Exit
from wizard.base.files import PLAIN, SCRIPT, write_all
from wizard.base.finding import Finding, Severity, grouped, ordered
from wizard.base.text import visible
from wizard.cli.output import emit, print_json, put, say, say_findings
from wizard.cli.planoptions import request_of
from wizard.cli.source import host_for
from wizard.cli.subject import find_function
from wizard.host.model import Host
from wizard.host.vmm import Vmm
from wizard.plan.model import Plan
from wizard.plan.peers import Pair, pairs_of
from wizard.plan.planner import make_plan
from wizard.plan.request import Request
from wizard.plan.target import for_vmm, vmm_of_format

if TYPE_CHECKING:
    from wizard.existing.load import Opened


class PlanView(msgspec.Struct, frozen=True):
    """The output of ``plan --json`` and ``check --json``."""

    schema: int
    ok: bool
    plan: Plan
    profiles: dict[str, str] = {}
    peers: dict[str, tuple[Pair, ...]] = {}  # of each VM


def peers_of(host: Host, plan: Plan) -> dict[str, tuple[Pair, ...]]:
    """Peer to peer between the functions of each VM that has several."""
    found = {vm.name: pairs_of(host, vm) for vm in plan.vms}
    return {name: pairs for name, pairs in found.items() if pairs}


def run_plan(arguments: argparse.Namespace) -> int:
    """Profiles for one or more VMs; nothing is written when any of them has an error."""
    from wizard.profile import write_profile

    host = host_for(arguments)
    plan = make_plan(host, request_of(arguments))
    profiles = {vm.name: write_profile(vm, host) for vm in plan.vms} if plan.ok else {}
    if arguments.json:
        print_json(PlanView(1, plan.ok, plan, profiles, peers_of(host, plan)))
    else:
        say_findings(grouped(plan.findings))
    if not plan.ok:
        say("Nothing was written: a plan with errors would not start.")
        return Exit.FINDINGS
    give_profiles(arguments, profiles)
    return Exit.OK


def give_profiles(arguments: argparse.Namespace, profiles: Mapping[str, str]) -> None:
    """The profiles, by the names of their VMs, as files in the directory of -o; else printed, unless they were as JSON. Raises ``OutputError``."""
    if arguments.output:
        directory = Path(arguments.output)
        make_output_directory(directory)
        write_all({directory / f"{name}.toml": text for name, text in profiles.items()}, force=arguments.force)
        for name in profiles:
            say(f"Wrote {visible(str(directory / name))}.toml.")
    elif not arguments.json:
        put("\n".join(profiles.values()))


def make_output_directory(directory: Path) -> None:
    """The directory of -o, made where it is missing; raises ``OutputError``."""
    try:
        make_directory(directory)
    except OSError as error:
        raise OutputError(
            f"{visible(str(directory))} can't be made a directory: {error.strerror or error}.", "Name a directory that can be written."
        ) from error


def read_vms(paths: Sequence[str], *, running: str | None = None) -> list[Opened]:
    """VMs of files, whatever they are written in, and with ``running`` those of this machine (an empty name: all of them)."""
    from wizard.existing.load import open_vms

    found = [vm for path in paths for vm in open_vms(path)]
    if running is not None:
        from wizard.existing.running import running_vms

        found += running_vms(running or None)
    return found


def request_of_vms(vms: Sequence[Opened]) -> Request:
    """The VMs as one request."""
    return Request(vms=tuple(vm.request for vm in vms), files={vm.request.name: vm.source for vm in vms})


def plan_of_profiles(arguments: argparse.Namespace, host: Host, paths: list[str], vmm: Vmm | None = None) -> tuple[Plan | None, tuple[Finding, ...]]:
    """The plan of written VMs with the permissions of this command line; None when a profile can't be read whole.

    A VM that exists is planned as far as it was understood: what was not is an error, or a warning, among the findings. ``vmm``: what they
    are planned for, whatever they say; None: what they say.
    """
    return plan_of_vms(arguments, host, read_vms(paths, running=getattr(arguments, "running", None)), vmm)


def plan_of_vms(arguments: argparse.Namespace, host: Host, vms: Sequence[Opened], vmm: Vmm | None = None) -> tuple[Plan | None, tuple[Finding, ...]]:
    """The same of VMs that were opened already."""
    findings = tuple(finding for vm in vms for finding in vm.findings)
    if not all(vm.whole for vm in vms):
        return None, findings
    plan = make_plan(host, permitted(arguments, host, request_of_vms(vms), vmm))
    return plan, ordered((*findings, *plan.findings))


def permitted(arguments: argparse.Namespace, host: Host, request: Request, vmm: Vmm | None = None) -> Request:
    """The request with what this command line allows, for the VMM that it names."""
    if arguments.allow_in_use and not arguments.yes:
        raise UsageError("--allow-in-use takes a function away from the host.", "Confirm it with --yes.")
    allowed = tuple(str(find_function(host, text)) for text in arguments.allow_in_use)
    assume: bool = arguments.assume_accel
    vms = tuple(msgspec.structs.replace(vm, assume_accel=vm.assume_accel or assume, allow_in_use=vm.allow_in_use + allowed) for vm in request.vms)
    if vmm is not None:
        vms = tuple(for_vmm(vm, vmm) for vm in vms)
    return msgspec.structs.replace(request, vms=vms)


def run_export(arguments: argparse.Namespace) -> int:
    """One profile in one format."""
    if arguments.traces and arguments.format not in ("qemu", "qemu-json"):
        raise UsageError("Traces are options of QEMU's command line.", "Take --format qemu or qemu-json, or `smmu-wizard verify --translating 10`.")
    host = host_for(arguments)
    plan, findings = plan_of_profiles(arguments, host, [arguments.profile], vmm_of_format(arguments.format))
    if plan is None or not plan.ok or any(finding.severity is Severity.ERROR for finding in findings):
        say_findings(grouped(finding for finding in findings if finding.severity is Severity.ERROR))
        say("Nothing was exported: this VM would not start on this host, or not as it is written.")
        return Exit.FINDINGS
    if len(plan.vms) > 1:
        names = ", ".join(visible(vm.name) for vm in plan.vms)
        raise UsageError(
            f"{visible(arguments.profile)} holds several VMs: {names}.", "Export them one by one: `smmu-wizard import` writes a profile of each."
        )
    say_findings(grouped(finding for finding in findings if finding.severity is Severity.WARNING))
    if arguments.traces:
        from wizard.export.qemu import with_traces

        plan = msgspec.structs.replace(plan, vms=(with_traces(plan.vms[0]),))
    emit(arguments, exported(arguments.format, plan, host), mode=SCRIPT if arguments.format in SCRIPTS else PLAIN)
    return Exit.OK


SCRIPTS = ("qemu", "virt-install", "openvmm", "prepare")
"""The formats that are run as they are."""


def exported(form: str, plan: Plan, host: Host) -> str:
    """The first VM of a plan in one format. Each format is loaded when it is asked for: libvirt's needs lxml."""
    vm = plan.vms[0]
    match form:
        case "qemu":
            from wizard.export.qemu import qemu_script

            return qemu_script(vm)
        case "qemu-json":
            from wizard.export.qemu import qemu_json

            return qemu_json(vm)
        case "libvirt":
            from wizard.export.libvirt import libvirt_xml

            return libvirt_xml(vm)
        case "virt-install":
            from wizard.export.virt_install import virt_install_script

            return virt_install_script(vm)
        case "openvmm":
            from wizard.export.openvmm import openvmm_script

            return openvmm_script(vm)
        case "prepare":
            from wizard.export.prepare import prepare_script

            return prepare_script(plan, host)
        case "qmp":
            from wizard.export.qmp import qmp_hotplug

            return qmp_hotplug(vm)
    raise ValueError(f"no such format: {form}")


def run_prepare(arguments: argparse.Namespace) -> int:
    """A script that binds functions to their vfio driver, with its undo."""
    from wizard.export.prepare import bind_script

    host = host_for(arguments)
    functions = [find_function(host, text) for text in arguments.functions]
    for function in functions:
        for obstacle in host.verdict(function.facts.address).obstacles:
            raise UsageError(f"{function} can't be given to a VM, nor to a vfio driver: {obstacle.what}", obstacle.fix)
    emit(arguments, bind_script(host, [str(function) for function in functions]), mode=SCRIPT)
    return Exit.OK
