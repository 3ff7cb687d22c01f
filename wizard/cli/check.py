"""``check``: profiles against the host and against each other; ``--fix`` mends them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import msgspec

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.finding import Finding, Item, Severity, grouped
from wizard.base.text import plural
from wizard.cli.lines import PIPE, Line, line
from wizard.cli.output import counted, face, item_lines, print_json, print_lines, quiet, say
from wizard.cli.planning import peers_of, plan_of_profiles
from wizard.cli.source import host_for
from wizard.host.vmm import Vmm
from wizard.plan.model import Plan
from wizard.plan.peers import Pair

_NOT_UNDERSTOOD = frozenset({"import-unknown-word", "import-value-missing", "import-place-unknown"})
"""What a check can't see: a VM with one of these is not simply fine."""


class CheckView(msgspec.Struct, frozen=True):
    """The output of ``check --json``."""

    schema: int
    ok: bool
    findings: tuple[Finding, ...]
    plan: Plan | None
    peers: dict[str, tuple[Pair, ...]] = {}  # of each VM


def run_check(arguments: argparse.Namespace) -> int:
    """Profiles against the host and against each other: planning without writing, or with --fix mending and writing."""
    if not arguments.profiles and arguments.running is None:
        raise UsageError("check has nothing to check.", "Name a profile, a domain's XML or a QEMU command line, or give --running.")
    host = host_for(arguments)
    if arguments.fix:
        from wizard.cli.fix import run_fix

        return run_fix(arguments, host)
    if arguments.output or arguments.in_place:
        raise UsageError("Only a mended VM is written.", "Add --fix, or leave -o and --in-place away.")
    plan, findings = plan_of_profiles(arguments, host, arguments.profiles, Vmm(arguments.vmm) if arguments.vmm else None)
    ok = not any(finding.severity is Severity.ERROR for finding in findings)
    if arguments.json:
        print_json(CheckView(1, ok, findings, plan, {} if plan is None else peers_of(host, plan)))
    else:
        items = grouped(findings)
        print_lines(item_lines(items))
        errors = sum(finding.severity is Severity.ERROR for finding in findings)
        vague = {finding.code for finding in findings} & _NOT_UNDERSTOOD
        fine = "fine on this host, as far as it was understood." if vague else "fine on this host."
        count = len(plan.vms) if plan is not None else len(arguments.profiles)
        what = "profile" if all(path.endswith(".toml") for path in arguments.profiles) and arguments.running is None else "VM"
        if not quiet():
            print_lines([_verdict(plural(count, what), fine if ok else "", errors, items)])
        if not ok and arguments.running is None:
            from wizard.mend import mendable

            if codes := mendable(findings):
                say(f"There is a rule that mends {', '.join(codes)}: --fix shows what it would change.")
    return Exit.OK if ok else Exit.FINDINGS


def _verdict(what: str, fine: str, errors: int, items: Sequence[Item]) -> Line:
    """The last line: in a pipe whether it is fine or how many errors there are, on a terminal the causes of every severity too."""
    if face() == PIPE:
        return line(f"{what}: {fine or plural(errors, 'error') + '.'}")
    return line(f"{what}: ", (fine, "good"), " " if fine and items else "", *counted(items))
