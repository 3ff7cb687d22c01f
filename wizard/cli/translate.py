"""``translate``: cases on the simulated SMMU, from a file or line by line from standard input. Format: ``docs/smmu.md``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

import msgspec

from wizard.base.errors import InputError
from wizard.base.exits import Exit
from wizard.base.json import out_of_bounds
from wizard.base.text import visible
from wizard.smmu import cases
from wizard.smmu.caseformat import Answer, Case, TraceStep
from wizard.smmu.cases import CaseError, Make, decode, decode_all
from wizard.smmu.device import Smmu

LARGEST_FILE = 64 << 20
"""Bytes of a file or of one line of standard input."""


def run(source: str, trace: str | None, out: TextIO, *, coverage: bool = False) -> int:
    """Answer the case or cases of ``source``, a path or ``-`` for one case per line; one JSON line each.

    ``trace`` is None, ``json`` (in the answer) or ``text`` (lines before it, each beginning with ``#``). With ``coverage`` lines at the end, which
    begin with ``#`` too, say which behaviours of the specification were exercised and which were not. Answers the exit status: 3 when
    any case was wrong. ``InputError`` when a file cannot be read or holds no case at all.
    """
    if trace not in (None, "text", "json"):
        raise ValueError(f"no trace format {trace!r}")
    status, noted = Exit.OK, None
    make: Make = Smmu
    if coverage:
        from wizard.smmu.coverage import Coverage, Observed

        noted = Coverage()
        make = functools.partial(Observed, coverage=noted)
    for case in cases_of(source):
        answer = Answer(error=str(case)) if isinstance(case, CaseError) else cases.run(case, trace=trace is not None, make=make)
        if answer.error is not msgspec.UNSET:
            status = Exit.INPUT
        if trace == "text":
            _tell(case, answer, out)
        out.write(msgspec.json.encode(answer).decode() + "\n")
        out.flush()
    if noted is not None:
        out.writelines(f"# {line}\n" for line in noted.lines())
    return status


def cases_of(source: str) -> Iterable[Case | CaseError]:
    """The cases of a file or, for ``-``, one a line of standard input."""
    return _stream() if source == "-" else _file(source)


def _file(source: str) -> list[Case | CaseError]:
    path = Path(source)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{visible(source)} can't be read: {error.strerror}.", "Name a JSON file with a case or a list of cases.") from error
    if len(data) > LARGEST_FILE:
        raise InputError(f"{visible(source)} is larger than {LARGEST_FILE >> 20} MiB.", "Split the cases over several files.")
    if wrong := out_of_bounds(data):
        raise InputError(f"{visible(source)} {wrong}.", "Split the cases over several files.")
    try:
        return decode_all(data)
    except CaseError as error:
        raise InputError(f"{visible(source)} holds no case: {visible(str(error))}.", "docs/smmu.md describes the format.") from error


def _stream() -> Iterator[Case | CaseError]:
    """Cases of standard input, each as soon as its line is complete; empty lines are passed over."""
    while line := sys.stdin.buffer.readline(LARGEST_FILE + 1):
        if len(line) > LARGEST_FILE:
            while line and not line.endswith(b"\n"):
                line = sys.stdin.buffer.readline(LARGEST_FILE)
            yield CaseError(f"a line is longer than {LARGEST_FILE >> 20} MiB")
        elif line.strip():
            try:
                yield decode(line)
            except CaseError as error:
                yield error


def _tell(case: Case | CaseError, answer: Answer, out: TextIO) -> None:
    """The traces of an answer as lines of text; they leave the answer."""
    if isinstance(case, Case) and case.name:
        out.write(f"# {visible(case.name)}\n")
    out.writelines(told(answer))


def told(answer: Answer) -> Iterator[str]:
    """The traces of an answer, taken out of it, as lines that begin with ``#``."""
    answers = [answer] if answer.steps is msgspec.UNSET else answer.steps
    for index, one in enumerate(answers):
        for part in [one] if one.parts is msgspec.UNSET else one.parts:
            if part.trace is msgspec.UNSET:
                continue
            if len(answers) > 1 or part.iova is not msgspec.UNSET:
                yield f"# step {index}{f' at {part.iova}' if part.iova is not msgspec.UNSET else ''}\n"
            for step in part.trace:
                yield f"#   {_line(step)}\n"
            part.trace = msgspec.UNSET


def _line(step: TraceStep) -> str:
    """``what  text  address = words  names``, as people read it."""
    parts = [f"{step.what:<7}", step.text]
    if step.address is not None:
        parts.append(f"at {step.address}" + (f" = {' '.join(step.words)}" if step.words else ""))
    elif step.words:
        parts.append(" ".join(step.words))
    if step.detail:
        parts.append("(" + ", ".join(f"{name} {value}" for name, value in step.detail.items()) + ")")
    return " ".join(parts)
