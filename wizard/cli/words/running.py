"""What the commands that look at VMs which run can be asked."""

from __future__ import annotations

import argparse

from wizard.cli.options import add_json, add_severity


def of_verify(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "vms", metavar="PROFILE|DOMAIN|NAME", nargs="*", help="a profile or domain to hold them against, or a name or process number; none: all"
    )
    command.add_argument("--translating", metavar="SECONDS", type=_seconds, help="trace QEMU for at most so long, which tells whether it translates")
    command.add_argument("--yes", action="store_true", help="do not ask before a trace")
    command.add_argument(
        "--guest",
        metavar="SNAPSHOT|agent",
        help="what was recorded in the guest (record, --guest-script), or asked by its agent (agent, agent:SOCKET)",
    )
    command.add_argument(
        "--postmortem", metavar="FILE", help="write all that a maintainer needs of these VMs, running or not, into one redacted file"
    )
    command.add_argument("--force", action="store_true", help="replace what is there")
    command.add_argument("--guest-script", action="store_true", help="print a shell script that records it in a guest without Python")
    command.add_argument("--qmp", metavar="SOCKET", help="ask QEMU through this socket instead of the VM's own")
    add_severity(command, quiet=False)
    add_json(command)


def of_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument("vms", metavar="NAME", nargs="*", help="these VMs alone, by name or process number (default: all)")
    command.add_argument("--for", dest="seconds", metavar="SECONDS", type=float, help="end after so many seconds (default: when interrupted)")
    command.add_argument("--log", metavar="FILE", help="follow this file in place of the kernel's log")
    command.add_argument(
        "--profile",
        metavar="PROFILE|DOMAIN",
        action="append",
        default=[],
        help="what a VM was planned as, which says where addresses lie in it (default: its command line; may be repeated)",
    )
    command.add_argument("--no-qmp", action="store_true", help="leave QMP sockets to other clients: no events of QEMU's own")
    command.add_argument(
        "--tracepoints", nargs="?", const="domains", choices=["domains", "all"],
        help="switch the kernel's IOMMU tracepoints on, in a trace instance that is taken away at the end (all: map and unmap too, which are many)",
    )  # fmt: skip
    command.add_argument("--prometheus", metavar="FILE", help="keep a textfile for node_exporter up to date")
    add_json(command)


def _seconds(text: str) -> float:
    """1 to 60: what is traced is written to somebody's disk."""
    value = float(text)
    if not 1 <= value <= 60:
        raise argparse.ArgumentTypeError(f"{text} is not 1 to 60 seconds")
    return value
