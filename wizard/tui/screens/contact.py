"""First contact: prepare, probe, and back, for a host whose verdicts are unknown."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizard.tui.contact import candidates, refused, state_words
from wizard.tui.lines import BLANK, Line, accel_word, heading, line, wrap
from wizard.tui.screens.base import WizardScreen
from wizard.tui.screens.dialogs import Prompt
from wizard.tui.widgets.lines import LinesView


class ContactScreen(WizardScreen):
    """The steps, each with what does it."""

    SCREEN = "host"
    ABOUT = """\
What an SMMU can do is in its ID registers, and only iommufd tells them, of a function that is on a vfio driver. So a new host is
met in three steps: bind one function for each SMMU to its vfio driver, probe, and come back with what was learned. The wizard
itself changes nothing on the host: it writes the script that does, with its undo."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "save", "Save script", id="save-script"),
        Binding("c", "copy", "Copy commands", id="copy-commands"),
        Binding("o", "open", "Open snapshot", id="open-snapshot"),
        Binding("escape,q", "back", "Back", id="contact-back"),
    ]
    DEFAULT_CSS = """
    ContactScreen #steps { height: 1fr; }
    """

    def __init__(self, chosen: Sequence[str] = ()) -> None:
        super().__init__()
        self._marked = tuple(chosen)
        self._script = "smmu-wizard-prepare.sh"
        self._snapshot = "probed.json"

    @property
    def functions(self) -> list[str]:
        """Those that were marked, else one for each SMMU."""
        return list(self._marked) or candidates(self.wizard.host)

    @property
    def bindable(self) -> list[str]:
        """Those of them that nothing is known to forbid: what the script is for."""
        return [address for address in self.functions if refused(self.wizard.host, address) is None]

    def body(self) -> Iterable[Widget]:
        yield LinesView(id="steps", classes="first")

    def command(self) -> str:
        return shlex.join(["prepare", *self.bindable, "-o", self._script]) if self.bindable else "list"

    def session_changed(self) -> None:
        self.query_one("#steps", LinesView).show(self._lines)

    def _commands(self) -> list[str]:
        sudo = "" if os.geteuid() == 0 else "sudo "
        return [
            self.wizard.command_words(f"prepare {' '.join(self.bindable)} -o {self._script}"),
            f"{sudo}./{self._script}",
            f"{sudo}smmu-wizard record --probe -o {self._snapshot}",
            f"{sudo}./{self._script} --undo",
        ]

    def _lines(self, width: int) -> list[Line]:
        host, glyphs = self.wizard.host, self.wizard.glyphs
        lines = [heading("First contact"), *wrap(state_words(host), width)]
        lines += [BLANK, heading("Functions to ask by")]
        for address in self.functions:
            function = host.functions[address]
            lines.append(
                line(
                    f"  {address}  ",
                    f"{accel_word(host.verdict(address).accel, glyphs)}  ",
                    f"{function.facts.driver or 'no driver'}  ",
                    function.name,
                    key=address,
                )
            )
            if obstacle := refused(host, address):
                lines += wrap(f"It can't be given away: {obstacle.what}", width, "warn", first="    ")
        if not self.functions:
            lines += wrap("None is free: mark functions with space on the host, then p.", width, "warn", first="  ")
        lines += wrap(
            "Opening a function resets it: choose none that somebody works with. Mark others with space on 1 Host, then p.", width, "dim", first="  "
        )
        if not self.bindable:
            return lines
        first, run, probe, undo = self._commands()
        steps = [
            ("1", "Write the script that binds them (s does it), and read it", first),
            ("2", "Run it as root", run),
            ("3", "Probe: iommufd is asked, nothing else is changed", probe),
            ("4", "Come back: o opens the snapshot here, with what was learned", ""),
            ("5", "If they are to go back to their drivers", undo),
        ]
        for number, words, command in steps:
            lines += [BLANK, *wrap(words, width, "bold", first=f"{number} ", lead="accent")]
            if command:
                lines += wrap(command, width, "info", first="    ")
        return lines

    # Actions.

    @on(LinesView.Chosen)
    def _nothing(self) -> None:
        """Enter on a function has nothing to open here."""

    def action_back(self) -> None:
        self.dismiss(None)

    def action_copy(self) -> None:
        if not self.bindable:
            self.wizard.say("There is no function to bind, and so no command.", "warning")
            return
        self.wizard.copy("\n".join(self._commands()[:3]))

    def action_save(self) -> None:
        from wizard.export import bind_script
        from wizard.tui.screens.saving import ask_and_write

        host = self.wizard.host
        if not self.functions:
            self.wizard.say("There is no function to bind.", "warning")
            return
        for address in self.functions:
            if obstacle := refused(host, address):
                self.wizard.say(f"{address} can't be given to a vfio driver: {obstacle.what} {obstacle.fix}", "warning")
        if self.bindable:
            ask_and_write(self.wizard, self._script, bind_script(host, self.bindable), script=True)

    def action_open(self) -> None:
        def answered(path: object) -> None:
            if isinstance(path, str) and path.strip():
                self.wizard.open_recording(path.strip())
                self.dismiss(None)

        self.app.push_screen(Prompt("Open snapshot", self._snapshot), answered)
