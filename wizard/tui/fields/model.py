"""A field of a VM: how it reads and the change that it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from wizard.base.text import parse_size
from wizard.plan.request import VmRequest
from wizard.tui.fields.shares import Share

Change = Callable[[VmRequest, str], VmRequest]

YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Field:
    """One field. ``choices`` are cycled; without them ``text`` is edited. ``change`` raises ``ValueError`` with a sentence."""

    key: str
    label: str
    value: str
    change: Change | None = None
    choices: tuple[str, ...] = ()
    text: str = ""
    note: str = ""
    depth: int = 0
    section: str = ""
    about: str = ""
    role: str = ""
    fold: str = ""  # the key of the field that hides it until that is opened
    shares: tuple[Share, ...] = ()  # the bars beside it
    step: Callable[[str, int], str] | None = None  # its text, a sensible step more or less


def yes(value: bool) -> str:
    """For people."""
    return "yes" if value else "no"


def in_bytes(text: str) -> int:
    """A size above zero from its text; ``ValueError`` with a sentence."""
    found = parse_size(text)
    if found <= 0:
        raise ValueError("A size above zero, for example 4G.")
    return found


def count(text: str) -> int:
    """A number above zero from its text."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise ValueError("A number, 1 or more.")
    return int(text)


def word(text: str, what: str) -> str:
    """Text that may not be empty; ``what`` says what is missing."""
    if not text.strip():
        raise ValueError(what)
    return text.strip()


def path(text: str) -> str:
    """A path that may not be empty."""
    if not text:
        raise ValueError("A path.")
    return text
