"""The fix of a finding as data: what one key of the wizard does about it, and how its words read where there are no options.

A finding says its fix in words for the command line; beside them its declaration may carry an action. ``wizard.mend.acting`` applies it
to the VMs of a request; what a rule alone mends (``wizard.mend.wrongs``) needs none here.
"""

from __future__ import annotations

import re
from enum import StrEnum

import msgspec


class Act(StrEnum):
    """What an action does."""

    SET = "set"  # a field of the VM takes a value; "" is the planner's choice
    MODE = "mode"  # the function, or the VM where the subject is none, takes a mode
    ACCEPT = "accept"  # an unknown or an assumption is taken for a yes
    LEAVE = "leave"  # the function leaves the VM
    ALONG = "along"  # functions come along to the VM
    OPEN = "open"  # a screen of the wizard is where it is done


class Action(msgspec.Struct, frozen=True, omit_defaults=True):
    """One action. ``field`` is that of a profile, with ``properties.`` or ``function.`` before it where it is one of those.

    ``value`` is text: bytes, a number, a word, addresses with commas. ``function`` and ``vm`` name them where the subject is neither.
    """

    kind: Act
    field: str = ""
    value: str = ""
    function: str = ""
    vm: str = ""

    def filled(self, names: dict[str, object]) -> Action | None:
        """With the values of a finding; None where the finding has none for it."""
        field, value, function, vm = (text.format(**names) for text in (self.field, self.value, self.function, self.vm))
        if any(template and not text for template, text in ((self.value, value), (self.function, function), (self.vm, vm))):
            return None
        return Action(self.kind, field, value, function, vm)


def set_to(field: str, value: str = "", *, function: str = "", vm: str = "") -> Action:
    """A field takes a value."""
    return Action(Act.SET, field, value, function, vm)


def mode_to(value: str, function: str = "") -> Action:
    """The function takes a mode, the VM where none is named and the subject is none."""
    return Action(Act.MODE, value=value, function=function)


TAKE_THE_RISK = Action(Act.ACCEPT, "assume_accel", "true")
LEAVE_OUT = Action(Act.LEAVE)

# Options as the screen calls the same. What stands in backticks is a command, and stays one.
_ON_SCREEN = {
    "--assume-accel": "“assume accel”",
    "--fall-back": "“fall back”",
    "--allow-in-use": "“allow in use”",
    "--vm": "",
    "--yes": "",
}
_OPTION = re.compile(r"`[^`]*`|(?<![\w-])--([a-z][a-z-]*)(=?)")


def on_screen(text: str) -> str:
    """A sentence as the wizard says it: fields by their names, no options."""
    if "--" not in text:
        return text

    def word(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        return _ON_SCREEN.get(f"--{found[1]}", found[1].replace("-", " ")) + found[2]

    return re.sub(r"  +", " ", _OPTION.sub(word, text))
