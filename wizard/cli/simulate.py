"""``translate``, ``dry-run`` and ``rehearse``."""

from __future__ import annotations

import argparse
import sys

from wizard.base.errors import UsageError


def run_translate(arguments: argparse.Namespace) -> int:
    """Translation cases on the simulated SMMUv3, or one address in a dump."""
    if arguments.mem or arguments.registers or arguments.qmp or arguments.gdb:
        if arguments.coverage:
            raise UsageError("A dump exercises nothing.", "Leave --coverage away, or give cases.")
        from wizard.cli.tables import run_one

        return run_one(arguments)
    from wizard.cli.translate import run

    if arguments.iova is not None or arguments.ssid is not None or arguments.read:
        raise UsageError(
            "A StreamID and an address are of a dump.", "Give its memory and registers: --mem FILE@ADDRESS --registers FILE, or --qmp SOCKET."
        )

    return run(arguments.case, arguments.trace, sys.stdout, coverage=arguments.coverage)


def run_dry_run(arguments: argparse.Namespace) -> int:
    """Profiles on the simulated SMMUv3."""
    from wizard.cli.dryrun import run

    return run(arguments)


def run_rehearse(arguments: argparse.Namespace) -> int:
    """A profile in a real QEMU."""
    from wizard.cli.rehearse import run

    return run(arguments)
