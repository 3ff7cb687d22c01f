"""The entry point: parse, run one command, and turn every error into two sentences and a documented status."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wizard.base.errors import Ended, OutputError, WizardError
from wizard.base.exits import Exit
from wizard.base.text import visible

if TYPE_CHECKING:
    from argparse import Namespace

    Parse = Callable[[Sequence[str]], Namespace]


def entry(parse: Parse | None = None) -> None:
    """What ``smmu-wizard``, ``python -m wizard`` and, with a parser of its own, ``smmu-wizard-record`` call."""
    # A command builds what it needs and ends: the collector would walk a host's objects again and again, and find nothing to free.
    gc.set_threshold(100_000, 50, 100)
    try:
        _complete_streams()
        status = main(sys.argv[1:], parse)
        status = _finish(status)
    except KeyboardInterrupt:  # between two of main's own statements, or while the last lines are written
        status = _interrupted()
    sys.exit(status)


def main(words: Sequence[str], parse: Parse | None = None) -> int:
    """Run one command; the exit status."""
    try:
        from wizard.cli.options import WIZARD

        arguments = (parse or _parser())(words)
        if arguments.command == WIZARD:
            return int(arguments.run(arguments))
        from wizard.cli import output

        output.begin(arguments)
        try:
            return int(arguments.run(arguments))
        finally:
            output.end()  # before anything is said of an error: the screen may be a pager's
    except SystemExit as stop:  # argparse: --help is 0, wrong usage 2
        return stop.code if isinstance(stop.code, int) else int(Exit.USAGE)
    except WizardError as error:
        return _failed(error)
    except KeyboardInterrupt:
        return _interrupted()
    except Ended as ended:
        tell(f"smmu-wizard: ended by {ended}; nothing is left half-written.")
        os.kill(os.getpid(), ended.number)  # by that very signal, as whoever sent it expects
        return 128 + ended.number
    except BrokenPipeError:
        return int(Exit.OK)
    except ModuleNotFoundError as error:
        return _unfound(error)
    except Exception as error:  # noqa: BLE001 (the last resort: a report instead of a traceback)
        return _broken(error)


def _parser() -> Parse:
    from wizard.cli.parser import parse  # when it is needed, so that an interrupt while it loads is an interrupt

    return parse


def tell(text: str) -> None:
    """Say it on standard error, if anybody can hear it."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


class _Output(io.FileIO):
    """Standard output whose failure is known as such: a full disk, a closed descriptor. Anything else that fails to be written is a file."""

    def write(self, data: Any) -> int:
        """As FileIO's; OutputError instead of OSError, a closed pipe excepted."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"Standard output can't be written: {error.strerror}.", "Make room, or send it elsewhere with -o FILE.") from error


def _complete_streams() -> None:
    # A stream that was closed before we began (`>&-`) is None to Python, and its number would go to the next file opened: a
    # snapshot, say. Standard output gets something that can't be written to, so that what goes there is missed.
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    sys.stdin = sys.stdin or os.fdopen(0)
    sys.stderr = sys.stderr or os.fdopen(2, "w")
    raw = _Output(1, "w", closefd=False)
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    # A terminal or a locale that lacks a character shows its number.
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty())


def _finish(status: int) -> int:
    """Write what is still to be written."""
    try:
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        status = int(Exit.OK)  # the reader has what it wanted (`| head`)
    except WizardError as error:
        status = _failed(error)
    # Python would try, and complain, once more while it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _failed(error: WizardError) -> int:
    tell(f"smmu-wizard: {visible(error.what)}\n{visible(error.fix)}")
    return int(error.status)


def _unfound(error: ModuleNotFoundError) -> int:
    from wizard.cli.missing import missing

    said = missing(error)
    return _failed(said) if said else _broken(error)


def _broken(error: Exception) -> int:
    from wizard.cli.crash import report

    tell(f"smmu-wizard: {report(error)}")
    return int(Exit.INTERNAL)


def _interrupted() -> int:
    tell("smmu-wizard: interrupted.")
    return int(Exit.INTERRUPTED)
