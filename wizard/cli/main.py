"""The entry point: parse, run one command, and turn every error into two sentences and a documented status.

What is loaded here is loaded for every command, ``--version`` included: Python has io, os and sys already, anything else is imported
where it is needed.
"""

from __future__ import annotations

import gc
import io
import os
import sys

TYPE_CHECKING = False  # typing's own would load typing
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Sequence
    from typing import Any

    Parse = Callable[[Sequence[str]], Namespace]


def entry(parse: Parse | None = None) -> None:
    """What ``smmu-wizard``, ``python -m wizard`` and, with a parser of its own, ``smmu-wizard-record`` call."""
    # A command builds what it needs and ends: the collector would walk a host's objects again and again, and find nothing to free.
    gc.set_threshold(100_000, 50, 100)
    try:
        _complete_streams()
        status = main(sys.argv[1:], parse)
        status = _finish(status)
    except KeyboardInterrupt as interrupt:  # between two of main's own statements, or while the last lines are written
        status = _failed(interrupt)
    if hasattr(gc, "freeze"):  # PyPy and Python 3.6 have no such thing
        # Python's end looks once more for cycles in all that is left of a host, and takes a tenth of a big list for it: the kernel takes it at once.
        gc.freeze()
    sys.exit(status)


def main(words: Sequence[str], parse: Parse | None = None) -> int:
    """Run one command; the exit status."""
    try:
        return _run(words, parse)
    except BaseException as error:  # noqa: BLE001 (told apart there; what is none of a command's is raised again)
        return _failed(error)


def _run(words: Sequence[str], parse: Parse | None) -> int:
    if parse is None:
        if list(words) == ["--version"]:  # what the parser says too, and a parser takes longer than Python to begin
            from wizard.base.formats import version_text

            print(version_text())
            return 0
        from wizard.cli import parser

        parse = parser.parse
    from wizard.cli.options import WIZARD

    arguments = parse(words)
    if arguments.command == WIZARD:
        return int(arguments.run(arguments))
    from wizard.cli import output

    output.begin(arguments)
    try:
        return int(arguments.run(arguments))
    finally:
        output.end()  # before anything is said of an error: the screen may be a pager's


class _Output(io.FileIO):
    """Standard output whose failure is known as such: a full disk, a closed descriptor. Anything else that fails to be written is a file."""

    def write(self, data: Any) -> int:
        """As FileIO's; OutputError instead of OSError, a closed pipe excepted."""
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            from wizard.base.errors import OutputError

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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 (as of a command)
        status = _failed(error)
    # Python would try, and complain, once more while it ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


def _failed(error: BaseException) -> int:
    from wizard.cli.failed import status_of

    return status_of(error)
