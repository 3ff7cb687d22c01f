"""Writing files after asking: what exists and differs is shown as a difference first."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from wizard.base.directories import make_directory
from wizard.base.errors import OutputError, WizardError
from wizard.base.files import SCRIPT, write_all
from wizard.base.text import plural, visible
from wizard.tui.formats import diff_lines
from wizard.tui.lines import BLANK, Line, heading, line
from wizard.tui.screens.dialogs import Prompt, Read

if TYPE_CHECKING:
    from wizard.tui.wizard import Wizard


class Overwrite(Read):
    """The differences, and the question."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "yes", "Replace", id="replace")]
    ABOUT = "These files exist and differ from what would be written. y replaces them, escape leaves everything as it is."

    def action_yes(self) -> None:
        self.dismiss(True)


def write_texts(app: Wizard, files: Mapping[Path, str], scripts: frozenset[Path], done: Callable[[], None]) -> None:
    """Write all of them or none; ask first where something else is there already."""
    there = {path: app.read_text(str(path)) for path in files if os.path.lexists(path)}
    differ = {path: old for path, old in there.items() if old != files[path]}

    def write() -> None:
        try:
            for path in files:
                make_directory(path.parent)
            write_all(files, force=True, modes=dict.fromkeys(scripts, SCRIPT))
        except OSError as error:
            app.say(
                OutputError(f"{visible(str(error.filename or 'The directory'))} can't be made: {error.strerror}.", "Name another directory."), "error"
            )
        except WizardError as error:
            app.say(error, "error")
        else:
            for path, text in files.items():
                app.seen[str(path)] = text
            done()

    if not differ:
        write()
        return

    def build(width: int) -> list[Line]:
        lines = [line((f"{plural(len(differ), 'file')} would be replaced: y does it, escape does not.", "warn")), BLANK]
        for path, old in differ.items():
            if app.changed_on_disk(str(path)):
                lines.append(line((f"{path} changed on disk since it was read here.", "bad")))
            lines.append(heading(str(path)))
            if old is None:
                lines.append(line(("It can't be read as text: what it holds would be lost.", "bad")))
            else:
                lines += diff_lines(old, files[path], path.name)
            lines.append(BLANK)
        return lines

    app.push_screen(Overwrite("Replace?", build, wide=True), lambda answer: write() if answer else None)


def ask_and_write(app: Wizard, name: str, text: str, *, script: bool) -> None:
    """One text to a file of one's own choice."""

    def answered(value: object) -> None:
        if isinstance(value, str) and value.strip():
            path = Path(value).expanduser()
            write_texts(app, {path: text}, frozenset({path} if script else ()), lambda: app.say(f"Wrote {path}."))

    app.push_screen(Prompt("Save as", name, check=lambda value: None if value.strip() else "A path."), answered)
