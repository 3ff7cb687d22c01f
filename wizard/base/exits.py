"""Exit statuses, the same for every command (documented in docs/commands.md)."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What the process ends with."""

    OK = 0
    FINDINGS = 1  # findings of severity error, from doctor, plan, check, dry-run, rehearse, verify, baseline and match
    USAGE = 2  # wrong usage, no terminal, an existing file without --force
    INPUT = 3  # input that can't be read
    PROGRAM = 4  # a program needed is missing or failed
    OUTPUT = 5  # output that can't be written
    INTERNAL = 70  # an error of ours (EX_SOFTWARE)
    INTERRUPTED = 130  # 128 + SIGINT
