"""``rehearse``: the topology of a profile in the QEMU that is installed, and DMA of every function through QEMU's own SMMUv3."""

from __future__ import annotations

import argparse

from wizard.base.exits import Exit
from wizard.base.finding import Severity, grouped
from wizard.base.text import visible
from wizard.cli.output import item_lines, print_json, print_lines, say, say_findings
from wizard.cli.planning import plan_of_profiles
from wizard.cli.source import host_for
from wizard.explain.short import with_words_explained
from wizard.rehearsal.qemu import find_qemu, firmware_here, rehearse
from wizard.rehearsal.text import lines


def run(arguments: argparse.Namespace) -> int:
    """One profile; with UEFI where the plan's firmware is on this machine, else without, and that is said."""
    host = host_for(arguments)
    plan, findings = plan_of_profiles(arguments, host, [arguments.profile])
    if plan is None or not plan.ok:
        say_findings(grouped(finding for finding in findings if finding.severity is Severity.ERROR))
        say("Nothing was rehearsed: this profile would not start on this host.")
        return Exit.FINDINGS
    vm = plan.vms[0]
    qemu, firmware = arguments.qemu or find_qemu(), firmware_here(vm)
    if vm.firmware is not None and firmware is None:
        say(f"The firmware {visible(vm.firmware.code)} is not on this machine: bus numbers are asked of QEMU alone, UEFI does not assign them.")
    report = with_words_explained(
        rehearse(vm, qemu, firmware=firmware, progress=lambda what: say(f"{visible(vm.name)} in {visible(qemu)}: {what} …"))
    )
    if arguments.json:
        print_json(report)
    else:
        print_lines(lines(report, item_lines(grouped(report.findings))))
    return Exit.OK if report.ok else Exit.FINDINGS
