"""``smmu-server``: the simulated SMMU as a process, for tests of drivers and VMMs in any language. Protocol: ``docs/smmu-protocol.md``."""

from __future__ import annotations

import argparse
import errno
import functools
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from wizard.base.errors import InputError, OutputError, UsageError, WizardError
from wizard.base.exits import Exit
from wizard.base.files import PRIVATE, write_atomic
from wizard.base.text import visible

if TYPE_CHECKING:
    from wizard.smmu.server.protocol import Protocol


def run_smmu_server(arguments: argparse.Namespace) -> int:
    """Serve until a signal, the end of standard input (``--stdio``) or of the last client (``--once``)."""
    if arguments.include:
        from wizard.smmu.client import HEADER

        print(HEADER.parent)
        return Exit.OK
    if (arguments.socket is None) != arguments.stdio:
        raise UsageError("A server talks at a socket or on its standard streams.", "Give --socket PATH, or --stdio.")
    try:
        protocol = _protocol(arguments)
    except OSError as error:
        raise InputError(
            f"{visible(str(error.filename or 'The memory'))} can't be mapped: {error.strerror}.", "Name a file: FILE@ADDRESS."
        ) from error
    except ValueError as error:
        raise UsageError(f"{visible(str(error))}.", "`smmu-wizard smmu-server --help` shows the forms.") from None
    state = Path(arguments.state) if arguments.state else None
    if state is not None:
        _begin_with(protocol, state)
    try:
        if arguments.stdio:
            from wizard.smmu.server.serve import talk

            talk(protocol, sys.stdin.buffer, sys.stdout.buffer)
        else:
            _serve(protocol, arguments.socket, once=arguments.once)
    finally:
        if state is not None:
            write_atomic(state, protocol.machine.save(), force=True, mode=PRIVATE)
    return Exit.OK


def _begin_with(protocol: Protocol, state: Path) -> None:
    """The machine as it was when the file was written; a file that is not there yet changes nothing."""
    from wizard.smmu.state import StateError

    name = visible(str(state))
    try:
        protocol.machine.restore(state.read_bytes())
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{name} can't be read: {error.strerror}.", "Name a file that is yours, or one that is not there yet.") from error
    except StateError as error:
        fix = "Give the SMMUs and memory that it was written with, or name a file that is not there yet."
        raise InputError(f"{name}: {visible(str(error))}.", fix) from None


def _protocol(arguments: argparse.Namespace) -> Protocol:
    from wizard.smmu.server.protocol import Protocol
    from wizard.smmu.server.setup import machine_of

    described = arguments.smmu, arguments.ram, arguments.ram_file
    if not arguments.coverage:
        return Protocol(machine_of(*described))
    from wizard.smmu.coverage import Coverage, ObservedMachine

    coverage = Coverage()
    return Protocol(machine_of(*described, functools.partial(ObservedMachine, coverage=coverage)), coverage)


def _serve(protocol: Protocol, path: str, *, once: bool) -> None:
    from wizard.smmu.server.serve import Server, ended_by_signals, listening

    with ExitStack() as stack:
        ended = stack.enter_context(ended_by_signals())
        try:
            server = stack.enter_context(listening(path))
        except OSError as error:
            raise _refused(visible(path), error) from error
        # Whoever started it may connect from this line on.
        print(f"listening on {visible(path)}", flush=True)
        Server(protocol, server, ended, once=once).run()


def _refused(name: str, error: OSError) -> WizardError:
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"A server listens at {name} already.", "End it, or name another path.")
    if error.errno == errno.EEXIST:
        return UsageError(f"{name} is there, and is no socket.", "Name a path that is free.")
    if error.errno is None:  # Python's own: "AF_UNIX path too long"
        return UsageError(f"{name} is longer than the path of a socket may be.", "Name one of at most 107 bytes.")
    return OutputError(f"{name} can't be made: {error.strerror}.", "Name a path in a directory that exists and is yours.")
