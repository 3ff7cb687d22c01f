"""What is said of an error that ended a command: two sentences and a documented status, never a traceback. Loaded when something failed."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from wizard.base.errors import Ended, WizardError
from wizard.base.exits import Exit
from wizard.base.text import visible


def status_of(error: BaseException) -> int:
    """Say what happened; the exit status. A signal that asked for the end ends the process, as whoever sent it expects."""
    if isinstance(error, SystemExit):  # argparse: --help is 0, wrong usage 2
        return error.code if isinstance(error.code, int) else int(Exit.USAGE)
    if isinstance(error, WizardError):
        tell(f"smmu-wizard: {visible(error.what)}\n{visible(error.fix)}")
        return int(error.status)
    if isinstance(error, KeyboardInterrupt):
        tell("smmu-wizard: interrupted.")
        return int(Exit.INTERRUPTED)
    if isinstance(error, Ended):
        tell(f"smmu-wizard: ended by {error}; nothing is left half-written.")
        os.kill(os.getpid(), error.number)
        return 128 + error.number
    if isinstance(error, BrokenPipeError):  # the reader has what it wanted (`| head`)
        return int(Exit.OK)
    if isinstance(error, ModuleNotFoundError):
        from wizard.cli.missing import missing

        if (said := missing(error)) is not None:
            return status_of(said)
    if isinstance(error, Exception):  # the last resort: a report instead of a traceback
        from wizard.cli.crash import report

        tell(f"smmu-wizard: {report(error)}")
        return int(Exit.INTERNAL)
    raise error


def tell(text: str) -> None:
    """Say it on standard error, if anybody can hear it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)
