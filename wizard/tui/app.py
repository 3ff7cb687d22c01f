"""The app: which host, which session, which screen. What is asked for lives in ``state``; what it means, in the planner."""

from __future__ import annotations

import asyncio
import os
import shlex
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
from wizard.base.finding import Severity
from wizard.base.text import plural, visible
from wizard.facts.source import LIVE, Source
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.tui import config as config_room
from wizard.tui import state
from wizard.tui.config import Config
from wizard.tui.describe import host_words
from wizard.tui.files import read_text
from wizard.tui.following import Following
from wizard.tui.glyphs import glyphs_for
from wizard.tui.keeping import Keeper
from wizard.tui.keys import KeysInOrder
from wizard.tui.live import Sources
from wizard.tui.rows import Index
from wizard.tui.screens.base import MOVES
from wizard.tui.screens.host import HostScreen
from wizard.tui.state import History, Session
from wizard.tui.widgets.devices import DeviceTable
from wizard.tui.widgets.lines import LinesView

FEW = 64  # functions of all VMs up to which a plan may be made while the key waits
QUICK = 0.03  # seconds that a plan may take before it moves to a worker


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


class WizardApp(KeysInOrder):
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
        super().__init__()
        self.config = config or Config()
        self.glyphs = glyphs_for(os.environ, self.config.ascii)
        if self.glyphs.ascii:
            self.add_class("-ascii")
        self.index = Index(host)
        self.source = source
        self.policy = policy  # a policy file, which holds for every host that is opened here
        self.history: History = state.started(session or Session())
        self.plan: Plan | None = None
        self.planning = False
        self.saved: Session = self.history.now
        self.crash: Exception | None = None
        self.lost: WizardError | None = None  # why the session could not be kept then
        self.ended: int | None = None  # the signal that ended it, SIGHUP where the terminal is gone
        self.seen: dict[str, str] = {}  # file -> its text when it was read or written here last
        self.keeper = Keeper(self, state_directory)
        self.following = Following(self, live)
        self._planned: tuple[Host, tuple[Any, ...]] | None = None
        self._quick = True
        if self.config.theme and self.config.theme in self.available_themes:
            self.theme = self.config.theme
        if self.config.keys:
            self.set_keymap(keymap(self.config.keys))

    # What is known.

    @property
    def host(self) -> Host:
        """The host as it was read last."""
        return self.index.host

    @property
    def session(self) -> Session:
        """What is asked for."""
        return self.history.now

    @property
    def title_words(self) -> str:
        """The host in one line."""
        return host_words(self.host)

    @property
    def source_words(self) -> tuple[str, ...]:
        """The options that name this host and its policy."""
        return (*self.source.words, *(("--policy", self.policy) if self.policy else ()))

    def command_words(self, words: str) -> str:
        """A command that does without a terminal what the screen does."""
        return visible(shlex.join(["smmu-wizard", *self.source_words])) + (f" {words}" if words else "")

    def status_words(self) -> str:
        """How the plan stands."""
        if not self.session.vms:
            return ""
        if self.planning:
            return "planning" + ("..." if self.glyphs.ascii else "…")
        findings = self.plan.findings if self.plan else ()
        errors = sum(1 for finding in findings if finding.severity is Severity.ERROR)
        warnings = sum(1 for finding in findings if finding.severity is Severity.WARNING)
        saved = "" if self.saved == self.session else ", not exported"
        if errors:
            return f"{self.glyphs.no} {plural(errors, 'error')}{saved}"
        if warnings:
            return f"{self.glyphs.warning} {plural(warnings, 'warning')}{saved}"
        return f"{self.glyphs.yes} no findings{saved}"

    # Changing it.

    def do(self, label: str, session: Session) -> None:
        """One step: into the history, to the planner, to the screen, and kept."""
        self.history = state.done(self.history, label, session)
        self._changed()

    def look(self, session: Session) -> None:
        """Another VM in hand: nothing to undo, nothing to plan."""
        last = self.history.past[-1]
        self.history = History((*self.history.past[:-1], state.Step(last.label, session)), self.history.future)
        self.update_screen()

    def _changed(self) -> None:
        self.replan()
        self.update_screen()
        self.keeper.keep()

    def update_screen(self) -> None:
        """The screen that is up shows what is so now."""
        from wizard.tui.screens.base import WizardScreen

        for screen in self.screen_stack:
            if isinstance(screen, WizardScreen):
                screen.update()

    def replan(self) -> None:
        """The plan of the session; in a worker when the last one took long."""
        key = (self.host, self.session.vms)
        if self._planned is not None and self._planned[0] is key[0] and self._planned[1] == key[1]:
            return
        self._planned = key
        if not self.session.vms:
            self.plan, self.planning = None, False
            return
        if self._quick and sum(len(vm.functions) for vm in self.session.vms) <= FEW:
            self.plan, self.planning = self._make(), False
        else:
            self.planning = True
            self.run_worker(self._make_later, thread=True, exclusive=True, group="plan")

    def _make(self) -> Plan:
        from wizard.plan.planner import make_plan

        start = time.perf_counter()
        plan = make_plan(self.host, self.session.request())
        self._quick = time.perf_counter() - start < QUICK
        return plan

    def _make_later(self) -> None:
        from textual.worker import get_current_worker

        worker, plan = get_current_worker(), self._make()
        if not worker.is_cancelled:
            self.call_from_thread(self._planned_now, plan)

    def _planned_now(self, plan: Plan) -> None:
        self.plan, self.planning = plan, False
        self.update_screen()

    def exported(self, session: Session) -> None:
        """What is asked for is on disk now: nothing is unfinished."""
        self.history = History((*self.history.past[:-1], state.Step(self.history.past[-1].label, session)), self.history.future)
        self.saved = session
        self.keeper.forget()
        self.update_screen()

    # Files.

    def read_text(self, path: str) -> str | None:
        """The text of a file; None when there is none that can be read as text."""
        return read_text(path)

    def on_disk(self, name: str) -> str | None:
        """The text of the file that a VM was opened from or written to."""
        path = self.session.file_of(name)
        return None if path is None else self.read_text(path)

    def changed_on_disk(self, path: str) -> bool:
        """Whether somebody else wrote a file since it was read or written here."""
        return path in self.seen and self.read_text(path) != self.seen[path]

    # Telling the person.

    def say(self, message: str | WizardError, severity: str = "information") -> None:
        """A short message in the corner; never markup."""
        text = f"{message.what} {message.fix}" if isinstance(message, WizardError) else message
        self.notify(visible(text), severity=severity, markup=False, timeout=3 if severity == "information" else 6)  # type: ignore[arg-type]

    def copy(self, text: str) -> None:
        """To the terminal's clipboard by OSC 52, which gives no answer."""
        self.copy_to_clipboard(text)
        self.say(f"Sent {plural(len(text.splitlines()), 'line')} to the terminal's clipboard. It gives no answer: if nothing arrives, save.")

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

    def ended_by(self, number: int = signal.SIGHUP) -> None:
        """End at once, with the session written down: a signal came, or the terminal is gone."""
        if self.ended is None:
            self.ended = number
            try:
                self.keeper.keep_now()
            except WizardError as error:
                self.lost = error
            self.exit(128 + number)

    def _begin(self) -> None:
        self._attend()
        self.run_worker(self._warm, thread=True, group="warm")
        self.keeper.begin()
        self.following.begin()

    def show_host(self, host: Host) -> None:
        """Another reading of the host, or another host: plan and screens follow."""
        self.index = Index(host)
        self.replan()
        self.update_screen()

    def update_figures(self) -> None:
        """The figures of the host moved."""
        for screen in self.screen_stack:
            if isinstance(screen, HostScreen) and screen.is_mounted:
                screen.show_figures()

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
