"""Export: the files that a plan is written to, what of it is there already, and writing them, all or none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizard.base.errors import WizardError
from wizard.base.text import plural, visible
from wizard.plan.model import Plan
from wizard.tui.commands import plan_words
from wizard.tui.formats import FORMATS, WRITTEN, Format, diff_lines, format_of, text_of
from wizard.tui.lines import BLANK, Line, finding_lines, heading, line, wrap
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.dialogs import Prompt, Read
from wizard.tui.widgets.lines import LinesView


class ExportScreen(WizardScreen):
    """Where to, which formats, which files."""

    SCREEN = "export"
    ENTER = "Change or show"
    ABOUT = """\
Writes every VM in the formats that are ticked, all files or none. Nothing is written while the plan has errors. A file that is
there and differs is shown as a difference, and asked about, before it is replaced; comments in an existing profile stay.

space ticks a format, enter on the directory changes it, enter on a file shows it or its difference, w writes."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "write", "Write", id="write"),
        Binding("space", "tick", "Tick", id="tick"),
        Binding("d", "directory", "Directory", id="directory"),
        Binding("c", "copy", "Copy file", id="copy-file"),
    ]
    DEFAULT_CSS = """
    ExportScreen #files { height: 1fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = "."
        self.formats = list(WRITTEN)
        self._files: dict[Path, str] = {}
        self._refused: list[WizardError] = []
        self._made_of: object = None

    def body(self) -> Iterable[Widget]:
        yield LinesView(id="files", classes="first")

    def command(self) -> str:
        return plan_words(self.session.vms, output=self.directory)

    def session_changed(self) -> None:
        self._make()
        self.query_one("#files", LinesView).show(self._lines)

    def path_of(self, vm: str, format: Format) -> Path:
        """Where a text goes: a profile that was opened goes back to its file."""
        own = self.session.file_of(vm)
        if own is not None and format.name == "toml" and Path(own).parent == Path(self.directory).expanduser():
            return Path(own)
        return Path(self.directory).expanduser() / f"{vm}{format.suffix}"

    def _make(self) -> None:
        plan = self.wizard.plan
        key = (plan, self.directory, tuple(self.formats))
        if self._made_of == key:
            return
        self._made_of, self._files, self._refused = key, {}, []
        if plan is None or not plan.ok:
            return
        for vm in plan.vms:
            for name in self.formats:
                path = self.path_of(vm.name, format_of(name))
                try:
                    old = self.wizard.read_text(str(path)) if name == "toml" else None
                    text = text_of(name, self.wizard.host, plan, vm, old=old)
                except WizardError as error:
                    self._refused.append(error)
                    continue
                if text.strip():
                    self._files[path] = text

    def _lines(self, width: int) -> list[Line]:
        plan, glyphs = self.wizard.plan, self.wizard.glyphs
        lines = [
            heading("Where"),
            line(("  directory     ", ""), (self.directory, "bold"), ("  enter changes it", "dim"), key="directory"),
            heading("What"),
        ]
        for one in FORMATS:
            ticked = one.name in self.formats
            lines.append(
                line(
                    (f"  [{'x' if ticked else ' '}] {one.label:<13}", "bold" if ticked else ""),
                    (f"NAME{one.suffix}", "dim"),
                    key=f"format/{one.name}",
                )
            )
        if plan is None:
            return [*lines, BLANK, line(("Nothing is planned yet: give functions to a VM on 1 Host.", "dim"))]
        if not plan.ok:
            lines += [BLANK, line((f"{plural(len(plan.errors), 'error')}: nothing is written while the plan would not start (3 Review).", "bad"))]
            return [*lines, *(one for finding in plan.errors[:4] for one in finding_lines(finding, width, glyphs))]
        lines += [heading("Files")]
        longest = max((len(str(path)) for path in self._files), default=0)
        for path, text in self._files.items():
            status, role = self._status(path, text)
            lines.append(line((f"  {path!s:{max(1, min(longest, width - 30))}}  ", ""), (status, role), key=str(path)))
        for error in self._refused:
            lines += wrap(f"{error.what} {error.fix}", width, "warn", first="  ")
        words = "writes them, all or none. Then run the preparation script as root, and after it the QEMU script."
        return [*lines, BLANK, *wrap(words, width, first="  w ", lead="key")]

    def _status(self, path: Path, text: str) -> tuple[str, str]:
        old = self.wizard.read_text(str(path))
        if old is None:
            return ("is there, and no text; it would be replaced", "bad") if os.path.lexists(path) else ("new", "good")
        if old == text:
            return "is on disk as planned", "dim"
        if self.wizard.changed_on_disk(str(path)):
            return "changed on disk since it was read; enter: difference", "bad"
        return "is on disk and differs; enter: difference", "warn"

    # Actions.

    @on(LinesView.Chosen, "#files")
    def _chosen(self, event: LinesView.Chosen) -> None:
        key = event.key
        if key == "directory":
            self.action_directory()
        elif isinstance(key, str) and key.startswith("format/"):
            self.action_tick()
        elif isinstance(key, str) and (text := self._files.get(Path(key))) is not None:
            from wizard.tui.formats import highlighted

            old = self.wizard.read_text(key)
            lexer = next((one.lexer for one in FORMATS if key.endswith(one.suffix)), "toml")
            if old is None or old == text:
                self.app.push_screen(Read(key, lambda width: highlighted(text, lexer), text=text, wide=True))
            else:
                self.app.push_screen(Read(key, lambda width: list(diff_lines(old, text, Path(key).name)), wide=True))

    def action_tick(self) -> None:
        key = self.query_one("#files", LinesView).cursor
        if isinstance(key, str) and key.startswith("format/"):
            name = key.removeprefix("format/")
            ticked = set(self.formats) ^ {name}
            self.formats = [one.name for one in FORMATS if one.name in ticked]
            self.update()

    def action_directory(self) -> None:
        def answered(value: object) -> None:
            if isinstance(value, str):
                self.directory = value.strip()
                self.update()

        note = "It is made when it is not there."
        self.app.push_screen(Prompt("Directory", self.directory, note=note, check=lambda text: None if text.strip() else "A directory."), answered)

    def action_copy(self) -> None:
        key = self.query_one("#files", LinesView).cursor
        text = self._files.get(Path(key)) if isinstance(key, str) else None
        if text is None:
            self.wizard.say("Put the cursor on a file.", "warning")
        else:
            self.wizard.copy(text)

    def go_on(self) -> None:
        """Write."""
        self.action_write()

    def action_write(self) -> None:
        plan: Plan | None = self.wizard.plan
        if plan is None or not plan.ok or not self._files:
            self.wizard.say("There is nothing to write." if plan is None else "Nothing is written while the plan has errors: see 3 Review.", "error")
            return
        from wizard.tui.screens.saving import write_texts

        files = dict(self._files)
        scripts = frozenset(path for path in files for one in FORMATS if one.script and path.name.endswith(one.suffix))

        def done() -> None:
            session = self.session
            names = dict(session.files)
            if "toml" in self.formats:
                names |= {vm.name: str(self.path_of(vm.name, format_of("toml"))) for vm in session.vms}
            self._made_of = None
            self.wizard.exported(replace(session, files=tuple(names.items())))
            self.wizard.say(f"Wrote {plural(len(files), 'file')} to {visible(self.directory)}.")

        write_texts(self.wizard, files, scripts, done)
