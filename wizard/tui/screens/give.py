"""Choosing functions for one VM: what it can be given above, the rest below with why not."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical

from wizard.base.action import on_screen
from wizard.base.finding import Severity
from wizard.base.text import plural
from wizard.host.model import Accel
from wizard.host.todo import PF_HAS_VFS
from wizard.tui.lines import ACCEL_ROLE, BLANK, Line, accel_word, cut, heading, line
from wizard.tui.rows import comes_along
from wizard.tui.screens.dialogs import Dialog
from wizard.tui.widgets.bars import Keys
from wizard.tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from wizard.tui.wizard import Wizard

AT_ONCE = 400  # functions that are judged while the key waits, about 10 ms


@dataclass(frozen=True)
class Offer:
    """One function: whether it can be given, and why not."""

    address: str
    rank: int  # 0: yes; 1: it is not known whether it can be accelerated; 2: no
    why: str = ""


def offers(app: Wizard, vm: str) -> list[Offer]:
    """Every function that is no bridge and not in the VM yet; those that can be given first, each in the host's order."""
    host, session = app.host, app.session
    found = []
    for address in app.index.order:
        function = host.functions[address]
        owner = session.owner(address)
        if function.is_bridge or owner == vm:
            continue
        verdict = host.verdict(address)
        # The script that prepares the host mends what is no error here.
        stands = [one for one in verdict.todo if one.severity is Severity.ERROR or one.code == PF_HAS_VFS.code]
        reasons = [one.what for one in (*verdict.obstacles, *stands)]
        if owner is not None:
            found.append(Offer(address, 2, f"in {owner}"))
        elif reasons or verdict.accel is Accel.NO:
            found.append(Offer(address, 2, on_screen((reasons or [one.what for one in verdict.reasons] or [""])[0])))
        elif verdict.accel is Accel.UNKNOWN:
            found.append(Offer(address, 1, on_screen(verdict.reasons[0].what) if verdict.reasons else ""))
        else:
            found.append(Offer(address, 0))
    return sorted(found, key=lambda one: one.rank)


HEADINGS = ("Can be given", "Not known whether it can be accelerated", "Can't be given as things are")


class Offers(LinesView):
    """The list; a search finds what the host's filter finds by a plain word, also what no column shows."""

    def __init__(self, app: Wizard) -> None:
        super().__init__(id="offers")
        self._index = app.index

    def _found(self) -> list[int]:
        words = self.searched.casefold()
        keys = [self.key_at(y) for y in range(self.count)] if words else []
        shown = set(super()._found())
        return [y for y, key in enumerate(keys) if y in shown or (isinstance(key, str) and words in self._index.text(key))]


class Give(Dialog):
    """Answers with the addresses that were chosen, those that are marked or the one under the cursor; ``tree`` asks for the host's table instead."""

    ENTER = "Give"
    SCREEN = "give"
    ABOUT = """\
Functions for one VM. Above is what it can be given; below what it can't, with why not. space marks one, M all from the last one
that was marked to here, enter gives them. / searches, i shows all that is known of the one under the cursor, t chooses from the
host's tree instead."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="mark"),
        Binding("M", "mark_to", "Mark to here", id="mark-to"),
        Binding("i", "details", "Details", id="details"),
        Binding("t", "tree", "Tree", id="tree"),
        Binding("question_mark,f1", "app.help", "Help", key_display="?", show=False, id="help"),
    ]
    DEFAULT_CSS = """
    Give {
        align: center middle;
        & > #box {
            width: 100%; height: 1fr; background: $background; border: round $primary; padding: 0 1;
            border-title-style: bold; border-title-color: $primary;
        }
        LinesView { height: 1fr; }
    }
    Give.-ascii > #box { border: ascii $primary; }
    """

    def __init__(self, app: Wizard, vm: str) -> None:
        super().__init__(f"Give to {vm}")
        self._wizard = app
        self._vm = vm
        self._offers: list[Offer] | None = None
        self._marked: dict[str, None] = {}
        self._anchor: str | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Offers(self._wizard)
        yield Keys()

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(LinesView).focus()
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        if len(self._wizard.index.order) <= AT_ONCE:
            self._judged(offers(self._wizard, self._vm))
            return
        self._show()
        self.run_worker(lambda: self.app.call_from_thread(self._judged, offers(self._wizard, self._vm)), thread=True)

    def _judged(self, found: list[Offer]) -> None:
        self._offers = found
        self._show()
        self.query_one(LinesView).action_edge(0)
        self.ready.set()  # what is typed before it is for what is shown then

    def _show(self) -> None:
        marked = f", {len(self._marked)} marked" if self._marked else ""
        self.query_one("#box").border_title = f"Give to {self._vm}{marked}".replace("[", "\\[")
        self.query_one(LinesView).show(self._lines)

    def _lines(self, width: int) -> list[Line]:
        if self._offers is None:
            return [line((f"looking at {plural(len(self._wizard.index.order), 'function')} …", "dim"))]
        lines: list[Line] = []
        for rank, title in enumerate(HEADINGS):
            rows = [one for one in self._offers if one.rank == rank]
            if rows:
                lines += [*([BLANK] if lines else []), heading(f"{title} ({len(rows)})"), *(self._line(one, width) for one in rows)]
        return lines or [line(("There is no other function on this host.", "dim"))]

    def _line(self, one: Offer, width: int) -> Line:
        host, glyphs = self._wizard.host, self._wizard.glyphs
        function, accel = host.functions[one.address], host.verdict(one.address).accel
        marked = one.address in self._marked
        along = len(comes_along(host, one.address))
        with_it = f"+{along} of its group  " if along else ""
        name = function.short_name
        words = f"{with_it}{one.why}" if one.rank == 2 else f"{with_it}{name}{f': {one.why}' if one.why else ''}"
        lead = f"{glyphs.mark if marked else ' '} {one.address} "
        verdict = f"{accel_word(accel, glyphs):<9} "
        rest = cut(words, max(0, width - len(lead) - len(verdict)), glyphs.more).rstrip()
        return line((lead, "accent" if marked else "bold" if one.rank == 0 else ""), (verdict, ACCEL_ROLE[accel]), rest, key=one.address)

    # Keys.

    def _under(self) -> str | None:
        key: Hashable | None = self.query_one(LinesView).cursor
        return key if isinstance(key, str) else None

    def action_mark(self) -> None:
        here = self._under()
        if here is None:
            return
        if here in self._marked:
            del self._marked[here]
        else:
            self._marked[here] = None
        self._anchor = here
        self._show()
        self.query_one(LinesView).action_cursor(1)

    def action_mark_to(self) -> None:
        here = self._under()
        order = [one.address for one in self._offers or ()]
        if here is None:
            return
        start = order.index(self._anchor) if self._anchor in order else order.index(here)
        low, high = sorted((start, order.index(here)))
        self._marked.update(dict.fromkeys(order[low : high + 1]))
        self._anchor = here
        self._show()

    def action_details(self) -> None:
        from wizard.tui.describe import detail_lines
        from wizard.tui.screens.dialogs import Read

        here, app = self._under(), self._wizard
        if here is not None:
            app.push_screen(Read(here, lambda width: detail_lines(app.index, app.session, here, width, app.glyphs)))

    def action_tree(self) -> None:
        self.dismiss("tree")

    @on(LinesView.Chosen)
    def _chosen(self) -> None:
        here = self._under()
        chosen = list(self._marked) or ([here] if here is not None else [])
        if chosen:
            self.dismiss(chosen)
