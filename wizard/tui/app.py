"""The app: the wizard with its screens, its keys, its beginning and its end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.screen import Screen
from textual.worker import WorkerFailed

from wizard.base.errors import WizardError
from wizard.facts.source import LIVE, Source
from wizard.host.model import Host
from wizard.tui import config as config_room
from wizard.tui import state
from wizard.tui.config import Config
from wizard.tui.following import Following
from wizard.tui.keeping import Keeper
from wizard.tui.live import Sources
from wizard.tui.screens.base import MOVES, WizardScreen
from wizard.tui.screens.host import HostScreen
from wizard.tui.state import Session
from wizard.tui.widgets.devices import DeviceTable
from wizard.tui.widgets.lines import LinesView
from wizard.tui.wizard import Wizard


def _lazy(module: str, name: str) -> Callable[[], Screen[Any]]:
    # A screen is imported when it is first looked at: the first screen waits for none of them.
    def make() -> Screen[Any]:
        import importlib

        screen: Screen[Any] = getattr(importlib.import_module(f"wizard.tui.screens.{module}"), name)()
        return screen

    return make


def keymap(keys: Mapping[str, str]) -> dict[str, str]:
    """The chosen keys, and the views' own without them: a view has the focus, so what it does with a key comes before the screen's action."""
    chosen = {key.strip() for one in keys.values() for key in one.split(",")}
    left: dict[str, str] = {}
    for view in (LinesView, DeviceTable):
        for binding in vars(view)["BINDINGS"]:
            own = binding.key.split(",")
            if binding.id not in keys and chosen & set(own):
                left[binding.id] = ",".join(key for key in own if key not in chosen)
    return {**left, **keys}


class WizardApp(Wizard):
    """The wizard over one host, which ``source`` and ``policy`` named."""

    TITLE = "smmu-wizard"
    ENABLE_COMMAND_PALETTE = True
    CSS = """
    Toast { padding: 0 1; margin: 0; }
    .-ascii Toast { border: none; }
    """
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "host": HostScreen,
        "vms": _lazy("vms", "VmsScreen"),
        "review": _lazy("review", "ReviewScreen"),
        "export": _lazy("export", "ExportScreen"),
        "topology": _lazy("topology", "TopologyScreen"),
        "doctor": _lazy("doctor", "DoctorScreen"),
        "dryrun": _lazy("dryrun", "DryRunScreen"),
        "rehearse": _lazy("rehearse", "RehearseScreen"),
        "explain": _lazy("explain", "ExplainScreen"),
        "running": _lazy("running", "RunningScreen"),
    }
    DEFAULT_MODE = "host"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("1", "go('host')", "Host", show=False, id="go-host"),
        Binding("2", "go('vms')", "VMs", show=False, id="go-vms"),
        Binding("3", "go('review')", "Review", show=False, id="go-review"),
        Binding("4", "go('export')", "Export", show=False, id="go-export"),
        Binding("5", "go('topology')", "Topology", show=False, id="go-topology"),
        Binding("6", "go('doctor')", "Doctor", show=False, id="go-doctor"),
        Binding("7", "go('dryrun')", "Dry run", show=False, id="go-dryrun"),
        Binding("8", "go('rehearse')", "Rehearse", show=False, id="go-rehearse"),
        Binding("9", "go('explain')", "Explain a message", show=False, id="go-explain"),
        Binding("0", "go('running')", "VMs that run", show=False, id="go-running"),
        Binding("right_square_bracket", "step(1)", "Next screen", show=False, id="next-screen"),
        Binding("left_square_bracket", "step(-1)", "Previous screen", show=False, id="previous-screen"),
        Binding("u,ctrl+z", "undo", "Undo", show=False, id="undo"),
        Binding("U,ctrl+y,ctrl+r", "redo", "Redo", show=False, id="redo"),
        Binding("Y", "copy_command", "Copy the command", show=False, id="copy-command"),
        Binding("question_mark,f1", "help", "Help", key_display="?", id="help"),
        Binding("q,ctrl+q", "leave", "Quit", show=False, id="quit"),
    ]

    def __init__(
        self,
        host: Host,
        *,
        source: Source = LIVE,
        policy: str | None = None,
        config: Config | None = None,
        state_directory: Path | None = None,
        live: Sources | None = None,
        session: Session | None = None,
    ) -> None:
        super().__init__(host, source=source, policy=policy, config=config, session=session)
        if self.glyphs.ascii:
            self.add_class("-ascii")
        self.crash: Exception | None = None
        self.lost: WizardError | None = None  # why the session could not be kept then
        self.ended: int | None = None  # the signal that ended it, SIGHUP where the terminal is gone
        self.keeper = Keeper(self, state_directory)
        self.following = Following(self, live)
        if self.config.theme and self.config.theme in self.available_themes:
            self.theme = self.config.theme
        if self.config.keys:
            self.set_keymap(keymap(self.config.keys))

    # What a wizard leaves to the app.

    def update_screen(self) -> None:
        """The screen that is up shows what is so now."""
        for screen in self.screen_stack:
            if isinstance(screen, WizardScreen):
                screen.update()

    def tried(self) -> None:
        """A dry run or a rehearsal came out: the job's line says so."""
        for screen in self.screen_stack:
            if isinstance(screen, WizardScreen) and screen.is_mounted:
                screen.tell_job()

    def update_figures(self) -> None:
        """The figures of the host moved."""
        for screen in self.screen_stack:
            if isinstance(screen, HostScreen) and screen.is_mounted:
                screen.show_figures()

    def keep_session(self) -> None:
        """As ``Wizard.keep_session``, in a worker."""
        self.keeper.keep()

    def forget_session(self) -> None:
        """As ``Wizard.forget_session``."""
        self.keeper.forget()

    def read_again(self) -> None:
        """As ``Wizard.read_again``, in a worker."""
        self.following.read_again()

    def open_recording(self, path: str) -> None:
        """As ``Wizard.open_recording``, in a worker."""
        self.following.open_recording(path)

    def ended_by(self, number: int = signal.SIGHUP) -> None:
        """End at once, with the session written down: a signal came, or the terminal is gone."""
        if self.ended is None:
            self.ended = number
            try:
                self.keeper.keep_now()
            except WizardError as error:
                self.lost = error
            self.exit(128 + number)

    # Actions.

    def action_go(self, name: str) -> None:
        if name in self.MODES and len(self.screen_stack) == 1 and self.current_mode != name:
            self.switch_mode(name)

    def action_step(self, step: int) -> None:
        names = list(self.MODES)
        self.action_go(names[(names.index(self.current_mode) + step) % len(names)])

    def action_undo(self) -> None:
        self.history, label = state.undo(self.history)
        self._told(f"Undone: {label}" if label else "Nothing to undo.", bool(label))

    def action_redo(self) -> None:
        self.history, label = state.redo(self.history)
        self._told(f"Done again: {label}" if label else "Nothing to do again.", bool(label))

    def _told(self, message: str, changed: bool) -> None:
        self.say(message)
        if changed:
            self._changed()

    def action_copy_command(self) -> None:
        from wizard.tui.widgets.bars import Command

        for screen in reversed(self.screen_stack):
            for bar in screen.query(Command):
                self.copy(bar.words)
                return

    def action_help(self) -> None:
        from wizard.tui.screens.help import help_screen

        self.push_screen(help_screen(self, self.screen))

    def action_leave(self) -> None:
        if len(self.screen_stack) > 1:
            self.pop_screen()
        elif self.saved == self.session or not self.session.vms:
            self.exit(0)
        else:
            from wizard.tui.screens.dialogs import Choose, choices

            items = [("stay", "Stay"), ("keep", "Quit, and offer this session again next time"), ("drop", "Quit and forget it")]
            self.push_screen(Choose("Not everything is exported", choices([], items)), self._leave)

    def _leave(self, answer: object) -> None:
        if answer == "drop":
            self.keeper.forget()
        if answer in ("keep", "drop"):
            self.exit(0)

    # Beginning and end.

    def on_mount(self) -> None:
        if self.config.problem:
            self.say(self.config.problem, "warning")
        self.replan()
        # Nothing below is needed for the first screen: it comes when that is drawn.
        self.call_after_refresh(self._begin)

    def _warm(self) -> None:
        # What the first keys need is imported and prepared behind the first screen.
        import importlib

        for name in ("textual.widgets._input", "wizard.tui.screens.dialogs", "wizard.tui.screens.assign", "wizard.tui.screens.vms"):
            importlib.import_module(name)
        for _ in self.index.warm():
            time.sleep(0)
        if self.config.path is not None and (self.config.keys or self.config.theme or self.config.unknown):
            from wizard.tui.actions import complaints

            for one in complaints(self.config, self.available_themes):
                self.call_from_thread(self.say, one, "warning")

    def get_driver_class(self) -> type[Driver]:
        from wizard.tui.terminal import TerminalDriver

        return TerminalDriver

    def _attend(self) -> None:
        # A dropped connection, a service manager that stops: nothing is lost then, and the terminal is left as it was found.
        if self.is_headless:
            return
        for number in (signal.SIGHUP, signal.SIGTERM):
            if signal.getsignal(number) is signal.SIG_IGN:
                continue  # whoever started it (nohup, a script) wants it to live on
            asyncio.get_running_loop().add_signal_handler(number, self.ended_by, number)
        self.set_interval(2.0, self._look_at_terminal)

    def _look_at_terminal(self) -> None:
        from wizard.tui.terminal import TerminalDriver

        if isinstance(self._driver, TerminalDriver) and not self._driver.is_there():
            self.ended_by()

    def _begin(self) -> None:
        self._attend()
        self.run_worker(self._warm, thread=True, group="warm")
        self.keeper.begin()
        self.following.begin()

    def on_unmount(self) -> None:
        self.following.end()

    def action_command_palette(self) -> None:
        from wizard.tui.palette import Palette

        if not any(isinstance(screen, Palette) for screen in self.screen_stack):
            self.push_screen(Palette(id="--command-palette"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: every action that works here, with its key; then themes and the like."""
        seen: set[str] = set()
        for active in screen.active_bindings.values():
            binding = active.binding
            if not binding.description or binding.action in seen or binding.action == "command_palette" or binding.id in MOVES:
                continue
            seen.add(binding.action)
            action, node = binding.action, active.node
            yield SystemCommand(
                binding.description,
                f"key {self.get_key_display(binding)}",
                lambda action=action, node=node: self.call_later(self.run_action, action, node),
            )
        yield SystemCommand("Theme", "Change the colours; the choice is kept", self.action_change_theme)
        yield SystemCommand("Screenshot", "Save the screen as SVG", lambda: self.set_timer(0.1, self.deliver_screenshot))

    def watch_theme(self, theme: str) -> None:
        """The choice is kept."""
        if self.is_running and self.config.theme != theme and not theme.startswith("textual-ansi"):
            try:
                self.config = config_room.save_theme(self.config, theme)
            except WizardError as error:
                self.say(error, "warning")

    def _handle_exception(self, error: Exception) -> None:
        # Textual prints a traceback with local variables: here it is one sentence and a report, made by the command (wizard.cli.wizard).
        if isinstance(error, WorkerFailed) and isinstance(error.error, Exception):
            error = error.error  # the report names what failed, not that a worker did
        if self.crash is None:
            self.crash = error
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
        self._return_code = 70
        self._close_messages_no_wait()
