"""``import``: profiles of VMs that exist already."""

from __future__ import annotations

import argparse

import msgspec

from wizard.base.errors import UsageError
from wizard.base.exits import Exit
from wizard.base.finding import Finding, Severity, grouped, ordered
from wizard.base.text import visible
from wizard.cli.output import print_json, say, say_findings
from wizard.cli.planning import give_profiles, read_vms
from wizard.existing.load import Opened, open_text


class ImportView(msgspec.Struct, frozen=True):
    """The output of ``import --json``."""

    schema: int
    ok: bool
    profiles: dict[str, str]
    findings: tuple[Finding, ...]


def run_import(arguments: argparse.Namespace) -> int:
    """A profile for each VM; nothing is written when one of them was not understood."""
    from wizard.profile import read_profile, write_profile

    if not arguments.domains and arguments.running is None:
        raise UsageError("import has nothing to read.", "Name a domain's XML, a QEMU command line or -, or give --running.")
    vms = _mended(arguments) if arguments.fix else read_vms(arguments.domains, running=arguments.running)
    if not arguments.fix and (arguments.replay or arguments.root or arguments.policy):
        # Left aside in silence, they would look as if the VMs had been held against that host.
        raise UsageError("import without --fix looks at no host.", "Add --fix, or leave the host away; `smmu-wizard check` holds a VM against it.")
    names = [vm.request.name for vm in vms]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two of these VMs are called {visible(twice)}.", "Import them one by one, into directories of their own.")
    profiles = {vm.request.name: write_profile(vm.request) for vm in vms}
    # What a profile can't hold (an id with a comma, a slot above 31) QEMU does not take either; what is written can be read.
    unreadable = [finding for vm in vms for finding in read_profile(profiles[vm.request.name], name=f"the profile of {vm.request.name}")[1]]
    findings = ordered((*(finding for vm in vms for finding in vm.findings), *unreadable))
    ok = not any(finding.severity is Severity.ERROR for finding in findings)
    if arguments.json:
        print_json(ImportView(1, ok, profiles if ok else {}, findings))
    else:
        say_findings(grouped(findings))
    if not ok:
        say("Nothing was written: a profile would hide what is wrong. Correct it first.")
        return Exit.FINDINGS
    give_profiles(arguments, profiles)
    return Exit.OK


def _mended(arguments: argparse.Namespace) -> list[Opened]:
    """The VMs of the files, mended as far as a rule can; what that changes in their texts is shown first."""
    from wizard.cli.fix import mend_texts, tell, text_of
    from wizard.cli.source import host_for
    from wizard.mend.edits import diff

    if arguments.running is not None:
        raise UsageError("--fix mends files.", "Name the file of the VM, or import it without --fix.")
    texts = {path: text_of(path) for path in dict.fromkeys(arguments.domains)}
    mended = mend_texts(host_for(arguments), texts, arguments)
    tell(mended)
    for path, text in texts.items():
        if mended.texts[path] != text:
            say(diff(path, text, mended.texts[path]))
    return [vm for path, text in mended.texts.items() for vm in open_text(path, text)]
