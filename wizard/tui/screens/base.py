"""What every screen has: the tabs above, the command that does the same and the keys below."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from wizard.tui.widgets.bars import Command, Keys, Tabs
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
ASIDE = (("9", "explain", "Explain"),)

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


class WizardScreen(Screen[None]):
    """A screen of the wizard. ``session_changed`` draws it again from the session; that happens when it comes up, too."""

    SCREEN: ClassVar[str] = ""
    ABOUT: ClassVar[str] = ""
    ENTER: ClassVar[str] = ""  # what enter does on an item
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-slim"), (50, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-short"), (16, "-tall")]
    AUTO_FOCUS = ".first"

    DEFAULT_CSS = """
    WizardScreen {
        layout: vertical;
        background: $background;
        &.-short #command { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.ready = asyncio.Event()  # keys wait for it

    def compose(self) -> ComposeResult:
        tabs = [tab for tab in (*TABS, *(tab for tab in ASIDE if tab[1] == self.SCREEN)) if tab[1] in self.wizard.MODES]
        yield Tabs(tabs, self.SCREEN, self.wizard.title_words)
        yield from self.body()
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
            bar.tell(self.wizard.status_words())
            self.ready.set()

    @on(LinesView.Search)
    def _search(self, event: LinesView.Search) -> None:
        # Its import and styles take a while: not before somebody searches.
        from wizard.tui.widgets.find import follow

        follow(event)

    def on_mount(self) -> None:
        # Sizes are known after the first layout; lines are built for a width.
        self.call_after_refresh(self.update)

    def on_screen_resume(self) -> None:
        self.call_after_refresh(self.update)
