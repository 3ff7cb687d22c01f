"""``explain``: from a message to its cause."""

from __future__ import annotations

import argparse
import io
import os
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from wizard.base.errors import InputError, UsageError, WizardError
from wizard.base.exits import Exit
from wizard.base.text import visible
from wizard.cli.output import print_json, print_lines

if TYPE_CHECKING:
    from wizard.explain.report import Judge


def run_explain(arguments: argparse.Namespace) -> int:
    """Messages, logs and pastes: what they mean, which is the first cause, and whether it holds here."""
    from wizard.explain.report import explain, of_record
    from wizard.explain.text import lines

    if arguments.list:
        return _run_list(arguments)
    words: list[str] = arguments.text
    stream = None if _is_record(words) else _stream(words, standard_input_taken=arguments.replay == "-")
    judge, problem = _judge(arguments)
    try:
        report = of_record(words, judge, host_error=problem) if stream is None else explain(stream, judge, host_error=problem)
    except OSError as error:
        raise InputError(f"It can't be read: {error.strerror or error}.", "Name a file that can be read, or - for standard input.") from error
    if arguments.json:
        print_json(report)
    else:
        print_lines(lines(report))
    return Exit.OK if report.messages else Exit.FINDINGS


def _run_list(arguments: argparse.Namespace) -> int:
    from wizard.explain.listing import listed, table_lines

    if arguments.text:
        raise UsageError("--list shows every message that is known, and takes none.", "Leave the text away, or --list.")
    if arguments.json:
        print_json(listed())
    else:
        print_lines(table_lines())
    return Exit.OK


def _is_record(words: list[str]) -> bool:
    if not words or not words[0].lower().startswith("0x"):
        return False
    from wizard.explain.events import is_record

    return is_record(words)


def _stream(words: list[str], *, standard_input_taken: bool) -> BinaryIO:
    """What is to be explained: standard input, files that are there, else the words themselves."""
    if not words or words == ["-"]:
        if standard_input_taken:
            raise UsageError("Standard input can't be both the host and the text.", "Name one of them as a file.")
        if not words and sys.stdin.isatty():
            raise UsageError("There is nothing to explain.", "Give a message, a file, or - and paste it.")
        return sys.stdin.buffer
    files = [word for word in words if _is_file(word)]
    if files and len(files) != len(words):
        other = next(word for word in words if word not in files)
        raise UsageError(f"{visible(files[0])} is a file, and {visible(other)} is none.", "Give files, or one text in quotes.")
    if files:
        return io.BufferedReader(_Files(files))
    if len(words) == 1 and "/" in words[0] and " " not in words[0]:
        raise InputError(f"{visible(words[0])} is not there.", "Name a file that can be read, or give a message in quotes.")
    return io.BytesIO(" ".join(words).encode("utf-8", "surrogateescape"))


def _is_file(word: str) -> bool:
    try:
        return "\n" not in word and len(word) < 4096 and os.path.exists(word) and not os.path.isdir(word)
    except (OSError, ValueError):
        return False


class _Files(io.RawIOBase):
    """Several files, one after the other, as one; a last line without its end is ended."""

    def __init__(self, names: list[str]) -> None:
        self._names = list(names)
        self._open: BinaryIO | None = None

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Some bytes of the file that is being read, else of the next one."""
        while True:
            if self._open is None:
                if not self._names:
                    return 0
                self._open = self._opened(self._names.pop(0))
            data: bytes = self._open.read(len(buffer))
            if not data:
                self._open.close()
                self._open, data = None, b"\n" if self._names else b""
            if data:
                buffer[: len(data)] = data
                return len(data)

    def _opened(self, name: str) -> BinaryIO:
        try:
            return open(name, "rb", buffering=0)
        except OSError as error:
            raise InputError(f"{visible(name)} can't be read: {error.strerror or error}.", "Name a file that can be read.") from error


def _judge(arguments: argparse.Namespace) -> tuple[Judge | None, str | None]:
    """The host to hold causes against: the one that is named, else this machine where profiles are given or it is arm64."""
    named = arguments.replay or arguments.root or arguments.demo
    machine = os.uname().machine
    if not named and not arguments.profile and machine not in ("aarch64", "arm64"):
        return None, f"This machine ({machine}) is no arm64 host: causes are not held against it. Name a host with --replay, --root or --demo."
    from wizard.cli.source import host_for, source_of
    from wizard.explain.judge import judge_of

    try:
        host = host_for(arguments)
    except WizardError as error:
        if named:
            raise
        return None, f"This host could not be read, so that causes are not held against it: {error.what}"
    plan = None
    if arguments.profile:
        from wizard.cli.planning import read_vms, request_of_vms
        from wizard.plan.planner import make_plan

        plan = make_plan(host, request_of_vms(read_vms(arguments.profile)))
    source = source_of(arguments)
    return judge_of(host, plan, "this host" if source.live else source.path or "the demo host"), None
