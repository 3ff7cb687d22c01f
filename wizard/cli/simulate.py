"""``translate``, ``dry-run`` and ``rehearse``."""

from __future__ import annotations

import argparse
import sys


def run_translate(arguments: argparse.Namespace) -> int:
    """Translation cases on the simulated SMMUv3."""
    from wizard.cli.translate import run

    return run(arguments.case, arguments.trace, sys.stdout)


def run_dry_run(arguments: argparse.Namespace) -> int:
    """Profiles on the simulated SMMUv3."""
    from wizard.cli.dryrun import run

    return run(arguments)


def run_rehearse(arguments: argparse.Namespace) -> int:
    """A profile in a real QEMU."""
    from wizard.cli.rehearse import run

    return run(arguments)
