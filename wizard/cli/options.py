"""Options that several commands have. Only argparse here, as in the parser."""

from __future__ import annotations

import argparse

WIZARD = "smmu-wizard"
"""The command of a command line without one."""


def add_severity(command: argparse.ArgumentParser, *, quiet: bool = True) -> None:
    """What of the findings is printed for people."""
    command.add_argument(
        "--severity",
        choices=("error", "warning", "note"),
        metavar="SEVERITY",
        help="findings of this severity and worse; the exit status stays what it is",
    )
    if quiet:
        command.add_argument("-q", "--quiet", action="store_true", help="of findings only errors, each in one line, and no remarks")


def add_json(command: argparse.ArgumentParser) -> None:
    """``--json``."""
    command.add_argument("--json", action="store_true", help="machine-readable output; the format is stable")


def add_output(command: argparse.ArgumentParser, text: str = "write to a file instead of standard output") -> None:
    """``-o`` and ``--force``."""
    command.add_argument("-o", "--output", metavar="FILE", help=text)
    command.add_argument("--force", action="store_true", help="replace what is there")


def add_running(command: argparse.ArgumentParser) -> None:
    """``--running``."""
    command.add_argument("--running", metavar="NAME", nargs="?", const="", help="the VMs that run on this machine, or the one of a name")


def add_permissions(command: argparse.ArgumentParser) -> None:
    """What a person may allow although the program would refuse it; a profile keeps the first, never the second."""
    command.add_argument("--assume-accel", action="store_true", help="take an unknown verdict or an assumed value for a yes")
    command.add_argument("--allow-in-use", metavar="FUNCTION", action="append", default=[], help="plan a function that the host uses (needs --yes)")
    command.add_argument("--yes", action="store_true", help="confirm --allow-in-use")


def add_vmm(command: argparse.ArgumentParser, text: str) -> None:
    """``--vmm``; its host needs are its own."""
    command.add_argument("--vmm", choices=["qemu", "openvmm"], help=text)
