"""``rehearse``: the topology of a profile in the QEMU that is installed, and DMA of every function through QEMU's own SMMUv3."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from wizard.base.exits import Exit
from wizard.base.finding import Severity
from wizard.base.text import plural, visible
from wizard.cli.inspect import finding_lines
from wizard.cli.output import print_json, say
from wizard.cli.planning import plan_of_profiles
from wizard.cli.source import host_for
from wizard.facts.programs import QEMU_NAMES
from wizard.rehearsal.qemu import rehearse
from wizard.rehearsal.report import Check, Report


def run(arguments: argparse.Namespace) -> int:
    """One profile; with UEFI where the plan's firmware is on this machine, else without, and that is said."""
    host = host_for(arguments)
    plan, findings = plan_of_profiles(arguments, host, [arguments.profile])
    if plan is None or not plan.ok:
        for line in finding_lines(finding for finding in findings if finding.severity is Severity.ERROR):
            say(line)
        say("Nothing was rehearsed: this profile would not start on this host.")
        return Exit.FINDINGS
    vm = plan.vms[0]
    qemu = arguments.qemu or next((path for name in QEMU_NAMES if (path := shutil.which(name))), QEMU_NAMES[0])
    firmware = None
    if vm.firmware and vm.firmware.vars_template:
        images = Path(vm.firmware.code), Path(vm.firmware.vars_template)
        if all(image.is_file() for image in images):
            firmware = images
        else:
            say(f"The firmware {visible(vm.firmware.code)} is not on this machine: bus numbers are asked of QEMU alone, UEFI does not assign them.")
    report = rehearse(vm, qemu, firmware=firmware, progress=lambda what: say(f"{visible(vm.name)} in {visible(qemu)}: {what} …"))
    if arguments.json:
        print_json(report)
    else:
        print("\n".join(lines(report)))
    return Exit.OK if report.ok else Exit.FINDINGS


def lines(report: Report) -> list[str]:
    """A report for people: what was asked, what differed and whether that is known of QEMU, what stood in for what, what was left out."""
    passed = sum(check.ok for check in report.checks)
    version = f" {report.version}" if report.version else ""
    found = [f"{visible(report.vm)} in QEMU{version} ({visible(report.qemu)}): {passed} of {plural(len(report.checks), 'check')} as planned."]
    for part, title in PARTS.items():
        checks = [check for check in report.checks if check.part == part]
        if checks:
            found += [title, *(visible(f"  {_line(check)}") for check in checks)]
    found += finding_lines(report.findings)
    found += [visible(f"  left out: {text}") for text in report.left_out]
    found += [visible(f"  note: {note}") for note in report.notes]
    return found


PARTS = {
    "topology": "Topology, asked for by QMP:",
    "dma": "Writes of each function through QEMU's SMMUv3, held against the simulated one:",
    "reads": "Reads:",
}


def _line(check: Check) -> str:
    if check.departure is not None:
        return f"known  {check.subject}: it {check.found} in QEMU; the specification: it {check.expected} (QEMU departs, {check.departure})"
    mark = "ok   " if check.ok else "WRONG"
    return f"{mark}  {check.subject}: {check.found}" + ("" if check.ok else f", expected: {check.expected}")
