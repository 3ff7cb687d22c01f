"""What every screen has: the tabs above; the job, the command that does the same and the keys below; and the keys that mean the same everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import Screen
from textual.widget import Widget

from wizard.tui.lines import Line, line
from wizard.tui.painting import PaintedOnce
from wizard.tui.widgets.bars import Bar, Command, Job, Keys, Tabs
from wizard.tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from wizard.tui.state import Session
    from wizard.tui.wizard import Wizard

# Key, name of the screen, label.
TABS = (
    ("1", "host", "Host"),
    ("2", "vms", "VMs"),
    ("3", "review", "Review"),
    ("4", "export", "Export"),
    ("5", "topology", "Topology"),
    ("6", "doctor", "Doctor"),
    ("7", "dryrun", "Dry run"),
    ("8", "rehearse", "Rehearse"),
)
# Screens beside the way through: their tab is there while one is on them, so that the others keep their names in 80 columns.
ASIDE = (("9", "explain", "Explain"), ("0", "running", "Running"))

# Keys that only move: the palette leaves them out, and the help lists them last.
MOVES = {
    "up",
    "down",
    "page-up",
    "page-down",
    "half-up",
    "half-down",
    "first",
    "last",
    "scroll-left",
    "scroll-right",
    "next-pane",
    "previous-pane",
}


class WizardScreen(PaintedOnce, Screen[None]):
    """A screen of the wizard. ``session_changed`` draws it again from the session; that happens when it comes up, too."""

    SCREEN: ClassVar[str] = ""
    ABOUT: ClassVar[str] = ""
    ENTER: ClassVar[str] = ""  # what enter does on an item
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-slim"), (50, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-tiny"), (9, "-short"), (16, "-tall"), (30, "-roomy")]
    AUTO_FOCUS = ".first"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("full_stop", "go_on", "Next step of the job", key_display=".", show=False, id="next-step"),
        Binding("tab", "app.focus_next", "Next pane", show=False, id="next-pane"),
        Binding("shift+tab", "app.focus_previous", "Previous pane", show=False, id="previous-pane"),
        Binding("Z", "zoom", "One pane alone", show=False, id="zoom"),
        Binding("i", "details", "Details", show=False, id="details"),
        Binding("e", "explain", "Explain", show=False, id="explain"),
    ]

    DEFAULT_CSS = """
    WizardScreen {
        layout: vertical;
        background: $background;
        &.-tiny #command, &.-short #command { display: none; }
        &.-tiny #job { display: none; }
        &.-roomy Keys { height: 2; }
        .pane {
            border-top: solid $panel; border-title-color: $foreground 70%; border-title-style: none;
            &:focus { border-top: heavy $accent; border-title-color: $accent; border-title-style: bold; }
        }
        &.-wide .pane { border: round $panel; &:focus { border: round $accent; } }
        &.-plain .pane { border: none; border-top: ascii $panel; &:focus { border-top: ascii $accent; } }
        &.-tiny .pane, &.-short .pane { border: none; }
        .-aside { display: none !important; }
        .-alone { display: block !important; width: 1fr !important; height: 1fr !important; max-height: 100% !important; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()  # keys wait for it

    def compose(self) -> ComposeResult:
        tabs = [tab for tab in (*TABS, *(tab for tab in ASIDE if tab[1] == self.SCREEN)) if tab[1] in self.wizard.MODES]
        yield Tabs(tabs, self.SCREEN, self.wizard.title_words)
        yield from self.body()
        yield Job()
        yield Command()
        yield Keys()

    def body(self) -> Iterable[Widget]:
        """What is between the bars."""
        return ()

    @property
    def wizard(self) -> Wizard:
        """The app, typed."""
        return cast("Wizard", self.app)

    @property
    def session(self) -> Session:
        """The session as it is."""
        return self.wizard.session

    def command(self) -> str:
        """The words of the command that does the same, behind ``smmu-wizard`` and the source."""
        return "list"

    def session_changed(self) -> None:
        """Draw what depends on the session, the plan or the host again."""

    def update(self) -> None:
        """Everything that may have changed."""
        if self.is_mounted and self.is_current:
            self.session_changed()
            bar = self.query_one(Command)
            bar.say(self.wizard.command_words(self.command()))
            self.tell_job()
            self.ready.set()

    def tell_job(self) -> None:
        """The line of the whole job as it stands now."""
        for bar in self.query(Job):
            bar.tell(self.wizard.job_steps(), self.key_of("next-step"))

    def key_of(self, name: str) -> str:
        """How the key of an action is shown, as it is configured."""
        return next((self.app.get_key_display(one.binding) for one in self.active_bindings.values() if one.binding.id == name), "")

    # Keys that mean the same on every screen.

    @property
    def subject(self) -> str | None:
        """The function or SMMU under the cursor, or the one that its line is about."""
        host, views = self.wizard.host, [self.focused, *self.query(LinesView)]
        for view in views:
            key = view.cursor if isinstance(view, LinesView) else None
            for word in key.split("/") if isinstance(key, str) else ():
                if word in host.functions or word in host.smmus:
                    return word
        return None

    def action_details(self) -> None:
        """All that is known of what is under the cursor."""
        from wizard.tui.describe import detail_lines
        from wizard.tui.screens.dialogs import Read

        subject = self.subject
        if subject is None:
            self.wizard.say("Put the cursor on a function or an SMMU: i shows all that is known of it.")
            return
        index, session, glyphs = self.wizard.index, self.session, self.wizard.glyphs
        self.app.push_screen(Read(subject, lambda width: detail_lines(index, session, subject, width, glyphs)))

    def action_explain(self) -> None:
        """What is found about what is under the cursor, and why; of everything where nothing is."""
        from wizard.tui.screens.dialogs import Read

        title, build = self.explained()
        self.app.push_screen(Read(title, build))

    def explained(self) -> tuple[str, Callable[[int], list[Line]]]:
        """What ``e`` shows."""
        from wizard.tui.describe import explained_lines

        subject, index, glyphs, plan = self.subject, self.wizard.index, self.wizard.glyphs, self.wizard.plan
        return subject or "What is found", lambda width: explained_lines(index, plan, subject, width, glyphs) or [line("Nothing is found.")]

    def action_go_on(self) -> None:
        """To the next step of the job that is not finished; where it is this screen's, do it."""
        from wizard.tui.job import next_step

        step = next_step(self.wizard.job_steps())
        if step is None:
            self.wizard.say("Everything is done: reviewed, tried and exported.")
        elif step.screen != self.SCREEN:
            self.wizard.action_go(step.screen)
        else:
            self.go_on()

    def go_on(self) -> None:
        """Do what this screen has to do for the job."""

    def action_zoom(self) -> None:
        """The pane with the focus alone between the bars, and back."""
        if self.query(".-aside, .-alone"):
            for one in self.query(".-aside, .-alone"):
                one.remove_class("-aside", "-alone")
            return
        pane: DOMNode | None = self.focused
        while isinstance(pane, Widget) and pane is not self and pane.parent is not None:
            pane.add_class("-alone")
            for other in pane.parent.children:
                if other is not pane and not isinstance(other, Bar):
                    other.add_class("-aside")
            pane = pane.parent

    @on(LinesView.Search)
    def _search(self, event: LinesView.Search) -> None:
        # Its import and styles take a while: not before somebody searches.
        from wizard.tui.widgets.find import follow

        follow(event)

    def on_mount(self) -> None:
        self.set_class(self.app.has_class("-ascii"), "-plain")
        # Sizes are known after the first layout; lines are built for a width.
        self.call_after_refresh(self.update)

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.update)
