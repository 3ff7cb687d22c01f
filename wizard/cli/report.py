"""``report``: one page for people who are not at this terminal."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import msgspec

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.finding import Severity, grouped
from wizard.cli.output import emit, say, say_findings
from wizard.cli.planning import plan_of_profiles
from wizard.cli.source import facts_of, source_of
from wizard.cli.terminal import is_terminal
from wizard.facts.redact import cleaner, for_writing
from wizard.facts.source import secrets_for
from wizard.host.build import host_of
from wizard.host.vmm import Vmm

if TYPE_CHECKING:
    from wizard.dryrun import Report
    from wizard.host.model import Host
    from wizard.plan.model import Plan


def run_report(arguments: argparse.Namespace) -> int:
    """Status 0 whatever is found: a report of what does not work is one too; 1 where VMs can't be read, and then nothing is written."""
    from wizard.report import page

    if not arguments.output and is_terminal(sys.stdout):
        raise UsageError("A report is a page for a browser.", "Name a file with -o FILE.html, or send it on.")
    as_read, secrets = facts_of(arguments), secrets_for(source_of(arguments))
    facts, replaced = for_writing(as_read, secrets, redacted=not arguments.no_redact)
    host, plan, report = host_of(facts), None, None
    if arguments.profiles or arguments.running is not None:
        plan, findings = plan_of_profiles(arguments, host, arguments.profiles)
        if plan is None:
            say_findings(grouped(finding for finding in findings if finding.severity is Severity.ERROR))
            say("Nothing was written: these VMs can't be read.")
            return Exit.FINDINGS
        report = _rehearsed(plan, host)
        plan = msgspec.structs.replace(plan, findings=findings)  # with what was not understood of domains
    clean = str if arguments.no_redact else cleaner(as_read, secrets)
    emit(arguments, page(host, plan, report, redacted=None if arguments.no_redact else replaced, clean=clean))
    return Exit.OK


def _rehearsed(plan: Plan, host: Host) -> Report | None:
    if any(vm.vmm is not Vmm.QEMU for vm in plan.vms):
        say("No dry run is in it: that plays QEMU's vSMMU, and one of these VMs is planned for another VMM.")
        return None
    from wizard.dryrun import dry_run

    return dry_run(plan, host)
