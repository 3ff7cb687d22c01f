"""The terminal below the app: other character sets, and a terminal that goes away. Textual prints a traceback for either, or waits for ever."""

from __future__ import annotations

import sys
import termios
from collections.abc import Callable
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any, cast

from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from wizard.tui.wizard import Wizard


class TerminalDriver(LinuxDriver):
    """Textual's driver, of which only reading keys and writing to the terminal are another."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        app = cast("Wizard", self._app)
        # Standard output was found to be the terminal; Textual would take standard error, which may be somebody's log.
        if sys.__stdout__ is not None:
            self._file = cast("Any", Output(sys.__stdout__, lambda: app.call_later(app.ended_by)))

    def _run_input_thread(self) -> None:
        app = cast("Wizard", self._app)
        while not self.exit_event.is_set():
            try:
                self.run_input_thread()
            except UnicodeDecodeError:
                continue  # a terminal that does not speak UTF-8: that key is lost, the next may be none of those
            except OSError:
                app.call_later(app.ended_by)  # EIO: it is gone, and nobody told us
            except Exception as error:  # noqa: BLE001 (a thread of its own: reported as an internal error, not as a traceback)
                app.call_later(app._handle_exception, error)
            return

    def is_there(self) -> bool:
        """Whether the terminal still is. One that was hung up reads as an endless end of file, which the loop above can't tell from silence."""
        try:
            termios.tcgetattr(self.fileno)
        except termios.error:
            return False
        return True


class Output:
    """The terminal to write to. When it is gone, what is written is dropped: the thread that writes has to go on, else everybody waits for it."""

    def __init__(self, file: IO[str], gone: Callable[[], object]) -> None:
        self._file = file
        self._gone = gone
        self._there = True
        if isinstance(file, TextIOWrapper):
            file.reconfigure(errors="replace")  # a locale whose character set is not UTF-8: signs that it lacks are question marks

    def write(self, text: str) -> int:
        """Write, or drop."""
        self._try(lambda: self._file.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or do nothing."""
        self._try(self._file.flush)

    def fileno(self) -> int:
        """Of the terminal."""
        return self._file.fileno()

    def isatty(self) -> bool:
        """Whether it is one."""
        return self._file.isatty()

    def _try(self, what: Callable[[], object]) -> None:
        if self._there:
            try:
                what()
            except OSError:
                self._there = False
                self._gone()
