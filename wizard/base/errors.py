"""The errors that end a command: one sentence that names the thing, one with the next step.

WizardError          exit status
  UsageError         2
  InputError         3   what was given can't be read
  ProgramError       4   a program that is needed is missing or failed
  OutputError        5   what was asked for can't be written
"""

from __future__ import annotations

from wizard.base.exits import Exit


class WizardError(Exception):
    """``what`` names the thing that is wrong, ``fix`` says the next step; both are whole sentences."""

    status = Exit.INTERNAL

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what} {fix}")
        self.what = what
        self.fix = fix


class UsageError(WizardError):
    """The command's words are wrong, or what they ask for needs a confirmation."""

    status = Exit.USAGE


class InputError(WizardError):
    """Input that can't be read."""

    status = Exit.INPUT


class ProgramError(WizardError):
    """A program that is needed is missing or failed."""

    status = Exit.PROGRAM


class OutputError(WizardError):
    """Output that can't be written."""

    status = Exit.OUTPUT


class Ended(BaseException):
    """A signal (``number``, ``str`` of it is its name) told the process to end: ``wizard.base.signals``."""

    def __init__(self, number: int, name: str) -> None:
        super().__init__(name)
        self.number = number
