"""What a preparation script says of the words that it meets: its part ``wizard/export/prepare_words.sh``, made out of the messages.

The script runs where this program may not be, so it carries the short explanations itself; ``scripts/docs-findings`` writes them there.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator

from wizard.explain.messages import every
from wizard.explain.model import Cause, Message
from wizard.explain.report import fitting

# The messages that a step can meet (id), and for the kernel's lines that a table of patterns finds the words that are the same in all of them.
_STEPS: dict[str, tuple[str, ...]] = {
    # drivers_probe, unbind
    "kernel-pf-sriov": (),
    "kernel-denylist": (),
    "kernel-nvgrace": (),
    "kernel-vfio-busy": (),
    "kernel-vfio-probe-failed": ("vfio*probe with driver*failed with error ", "vfio*: probe of*failed with error "),
    "kernel-iommu-group-refused": ("Failed to add to iommu group ",),
    "kernel-release-awaited": ("Relaying device request to user", "No device request channel registered"),
    "kernel-function-inaccessible": ("Unable to change power state", "device inaccessible", "config space inaccessible"),
    "kernel-function-reset-failed": ("not ready*giving up",),
    "nvidia-remove-busy": (),
    # sriov_numvfs
    "kernel-sriov-room": (),
    "kernel-sriov-busy": (),
    # what programs say of themselves
    "modprobe-missing": (),
    "modprobe-refused": (),
    "sysfs-write": ("printf: write error: ",),
}
_MOST = 3  # causes that are told: the script's reader has the page of messages for more

_HEAD = """\
# ---- what the kernel and other programs may say when a step fails, and what it means: the messages of docs/messages.md ----
# This part is generated: scripts/docs-findings writes it.

meaning() { # LINE: in short, nothing where it is not known
    case $1 in
"""


def fragment() -> str:
    """The part of every script: a function that says what a line means."""
    messages = {one.id: one for one in every()}
    rows = [row for id, patterns in _STEPS.items() for row in _rows(messages[id], patterns)]
    return _HEAD + "\n".join(rows) + "\n    esac\n}\n"


def _rows(one: Message, patterns: tuple[str, ...]) -> Iterator[str]:
    globs = patterns or tuple(filter(None, map(_glob, one.wordings)))
    in_words = any("{errno}" in wording for wording in one.wordings)
    # A message with an error first for which it has causes of its own: the kernel's number, or a program's words in the C locale.
    for name in dict.fromkeys(name for cause in one.causes for name in cause.errors):
        number = getattr(errno, name)
        end = os.strerror(number) if in_words else f"-{number}"
        yield _row([f"{_quoted(glob)}*{_word(end)}" for glob in globs], one, fitting(one, name))
    yield _row([f"{_quoted(glob)}*" for glob in globs], one, tuple(cause for cause in one.causes if not cause.errors) or one.causes)


def _glob(wording: str) -> str:
    """The words between the places of a wording, with what may stand there."""
    return re.sub(r"\{\w+(?::\w+)?\}", "*", re.sub(r":? ?\{errno\}$", "", wording)).strip("*")


def _quoted(glob: str) -> str:
    return "*" + "*".join(_word(part) for part in glob.split("*"))


def _word(text: str) -> str:
    """A word of bash; in double quotes, with escapes, where single ones would look like a mistake."""
    return re.sub(r'[\\"$`]', r"\\\g<0>", text).join('""') if re.search("['`$]", text) else shlex.quote(text)


def _row(patterns: list[str], one: Message, causes: tuple[Cause, ...]) -> str:
    said = [f"means: {one.means}"]
    for cause in causes[:_MOST]:
        said += [f"may be: {cause.because}", f"  fix: {cause.fix}"]
    if one.fix:
        said.append(f"fix: {one.fix}")
    told = " \\\n                ".join(map(_word, said))
    return f"        {' | '.join(patterns)})\n            printf '    %s\\n' \\\n                {told};;"
