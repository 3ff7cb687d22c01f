"""What the commands that make, check and write VMs can be asked."""

from __future__ import annotations

import argparse

from wizard.cli.options import add_json, add_output, add_permissions, add_running, add_severity, add_vmm

FORMATS = ("qemu", "qemu-json", "libvirt", "virt-install", "openvmm", "prepare", "qmp")
"""What a VM is exported as."""


def of_plan(command: argparse.ArgumentParser) -> None:
    from wizard.cli.planoptions import add_plan_options  # the only ones that a table declares: loaded for `plan` alone

    add_plan_options(command)
    add_severity(command)
    add_output(command, "directory for NAME.toml of each VM; without it they are printed")
    add_json(command)


def of_import(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "domains", metavar="FILE|-", nargs="*", help="libvirt XML, or a QEMU command line: a script, a unit, a log, /proc/PID/cmdline"
    )
    add_running(command)
    command.add_argument("--fix", action="store_true", help="hold them against the host, and mend what can be mended by rule")
    add_severity(command)
    add_permissions(command)
    add_output(command, "directory for NAME.toml of each VM; without it they are printed")
    add_json(command)


def of_check(command: argparse.ArgumentParser) -> None:
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="*", help="profiles, libvirt XML, QEMU command lines; - for standard input")
    add_running(command)
    add_vmm(command, "judge them as VMs of this VMM (default: that of each profile)")
    add_severity(command)
    command.add_argument("--fix", action="store_true", help="mend what can be mended by rule, and show the difference")
    command.add_argument("--in-place", action="store_true", help="with --fix: write the mended VM over its file")
    add_permissions(command)
    add_output(command, "with --fix: write the mended VM to this file")
    add_json(command)


def of_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("profile", metavar="PROFILE|DOMAIN")
    command.add_argument("--format", required=True, choices=FORMATS)
    command.add_argument("--traces", action="store_true", help="qemu, qemu-json: write the guest's unmaps and faults to QEMU's log from its start")
    add_severity(command)
    add_permissions(command)
    add_output(command)


def of_report(command: argparse.ArgumentParser) -> None:
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="*", help="VMs that belong into it; without one the host alone")
    add_running(command)
    command.add_argument("--no-redact", action="store_true", help="keep serial numbers, MAC and IP addresses, UUIDs and names")
    add_permissions(command)
    add_output(command, "write to a file (FILE.html) instead of standard output")


def of_topology(command: argparse.ArgumentParser) -> None:
    command.add_argument("profiles", metavar="PROFILE|DOMAIN", nargs="*", help="VMs to draw; without one the host alone")
    add_running(command)
    command.add_argument("--format", choices=["text", "svg", "dot"], default="text", help="for people, for documents, for Graphviz (text)")
    add_permissions(command)
    add_output(command)
