"""What standard output and standard error are, a terminal or a pipe, and the pager of a terminal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from wizard.base.glyphs import glyphs_for
from wizard.cli.lines import PIPE, Face

if TYPE_CHECKING:
    from subprocess import Popen


def size_of(stream: TextIO | None, environment: Mapping[str, str]) -> tuple[int, int]:
    """Columns and rows of a terminal; 80 and 24 where it does not say. COLUMNS and LINES come first, as for shutil.get_terminal_size()."""
    found = os.terminal_size((0, 0))
    with suppress(AttributeError, ValueError, OSError):
        found = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr] # None where there is none
    return _number(environment, "COLUMNS") or found.columns or 80, _number(environment, "LINES") or found.lines or 24


def _number(environment: Mapping[str, str], name: str) -> int:
    with suppress(ValueError):
        return max(0, int(environment.get(name, "")))
    return 0


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody looks at it."""
    with suppress(ValueError):  # closed
        return stream is not None and stream.isatty()
    return False


def face_of(stream: TextIO | None, environment: Mapping[str, str], when: str = "auto") -> Face:
    """How lines look on a stream. ``when`` is --color's word; it comes before NO_COLOR (no-color.org) and TERM=dumb, which take the colours."""
    looked_at = is_terminal(stream)
    if not looked_at and when != "always":
        return PIPE
    plain = bool(environment.get("NO_COLOR")) or environment.get("TERM", "dumb") == "dumb"
    colour = when == "always" or (when == "auto" and not plain)
    return Face(size_of(stream, environment)[0] if looked_at else None, colour, glyphs_for(environment))


def pager_of(environment: Mapping[str, str]) -> list[str]:
    """The words of the pager, none for no pager: $SMMU_WIZARD_PAGER, $PAGER, less. They are no shell's: nothing in them is expanded."""
    import shlex

    if environment.get("TERM", "dumb") == "dumb":
        return []
    asked = environment.get("SMMU_WIZARD_PAGER", environment.get("PAGER", "less"))
    try:
        words = shlex.split(asked)
    except ValueError:  # a quote that is not closed
        return []
    return [] if words == ["cat"] else words


class Page:
    """Standard output of a terminal: held back until it is longer than the screen, then written to a pager, as git does; else written at the end.

    A reader who leaves the pager early has what he wanted: what comes behind is dropped, and the command's exit status stays what it is.
    """

    def __init__(self, stream: TextIO, rows: int, pager: list[str]) -> None:
        self._stream, self._rows, self._words = stream, rows, pager
        self._held: list[str] = []
        self._lines = 0
        self._pager: Popen[bytes] | None = None
        self._plain = not pager
        self._left = False  # the reader has left

    @property
    def running(self) -> bool:
        """Whether the pager has the screen."""
        return self._pager is not None

    def write(self, text: str) -> None:
        """Some text; colours in it take no room."""
        if self._plain:
            self._stream.write(text)
            return
        if self._pager is None:
            self._held.append(text)
            self._lines += text.count("\n")
            # One row stays free for the shell's prompt.
            if self._lines < self._rows:
                return
            self._start()
            text, self._held = "".join(self._held), []
        self._send(text)

    def _start(self) -> None:
        import subprocess

        environment = {"LESS": "FRX", "LV": "-c", **os.environ}
        if os.geteuid() == 0 and "SUDO_UID" in environment:
            # sudoers may allow this program alone: less would give a shell with `!`.
            environment["LESSSECURE"] = "1"
        self._stream.flush()
        for words in (self._words, ["less"]):
            with suppress(OSError):  # not there, or none that can be run: the next one, else plainly
                self._pager = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment)
                return
        self._plain = True

    def _send(self, text: str) -> None:
        if self._pager is None or self._pager.stdin is None:
            self._stream.write(text)
        elif not self._left:
            try:
                self._pager.stdin.write(text.encode(self._stream.encoding or "utf-8", "backslashreplace"))
            except BrokenPipeError:
                self._left = True

    def finish(self) -> None:
        """Write what is held back, or wait until the reader leaves the pager; an interrupt is the pager's until then."""
        held, self._held = "".join(self._held), []
        if self._pager is None:
            self._stream.write(held)
            return
        pager, self._pager = self._pager, None
        import signal

        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with suppress(BrokenPipeError):
                if pager.stdin is not None:
                    pager.stdin.close()
            pager.wait()
        finally:
            signal.signal(signal.SIGINT, before)
