"""Doctor: what stands in the way on this host, and the fix, ready to copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.widget import Widget

from wizard.base.finding import Item
from wizard.base.text import plural
from wizard.host.doctor import Diagnosis, diagnose
from wizard.host.model import Host
from wizard.tui.lines import Line, heading, item_line, item_lines, line
from wizard.tui.screens.base import WizardScreen
from wizard.tui.widgets.lines import LinesView


class DoctorScreen(WizardScreen):
    """Findings by what has to be done, worst first; the one under the cursor whole."""

    SCREEN = "doctor"
    ENTER = "Show on host"
    ABOUT = """\
What stands in the way of acceleration on this host, grouped by where it is mended: firmware, kernel command line, kernel
configuration, drivers, packages. The same cause on many functions is one entry that names them all.

c sends the fix to the terminal's clipboard; enter shows the functions on 1 Host."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "copy", "Copy fix", id="copy-fix"),
    ]
    DEFAULT_CSS = """
    DoctorScreen {
        #items { height: 1fr; }
        #whole { height: 9; background: $surface; }
        &.-tiny #whole, &.-short #whole { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._diagnosis: Diagnosis | None = None
        self._of: Host | None = None
        self._items: list[Item] = []

    def body(self) -> Iterable[Widget]:
        yield LinesView(id="items", classes="first", title="What stands in the way")
        yield LinesView(id="whole", title="All of it")

    def command(self) -> str:
        return "doctor"

    def session_changed(self) -> None:
        if self._of is not self.wizard.host:
            self._of = self.wizard.host
            self._diagnose(self.wizard.host)
        self.query_one("#items", LinesView).show(self._lines)
        self._tell()

    @work(thread=True, exclusive=True)
    def _diagnose(self, host: Host) -> None:
        # Every verdict of the host is worked out: on a large one that takes longer than a key may wait.
        found = diagnose(host)
        self.app.call_from_thread(self._diagnosed, found)

    def _diagnosed(self, found: Diagnosis) -> None:
        self._diagnosis = found
        self._items = [item for area in found.areas for item in area.findings]
        self.update()

    def _lines(self, width: int) -> list[Line]:
        if self._diagnosis is None:
            return [line(("looking at every function …", "dim"))]
        if not self._items:
            return [line((f"{self.wizard.glyphs.yes} Nothing stands in the way.", "good"))]
        lines: list[Line] = []
        place, glyphs = 0, self.wizard.glyphs
        for area in self._diagnosis.areas:
            lines.append(heading(f"{area.area[0].upper()}{area.area[1:]}"))
            for item in area.findings:
                lines.append(item_line(item, width, glyphs, key=place, indent=2))
                place += 1
        return lines

    @on(LinesView.Moved, "#items")
    def _moved(self) -> None:
        self._tell()

    def _item(self) -> Item | None:
        key = self.query_one("#items", LinesView).cursor
        return self._items[key] if isinstance(key, int) and key < len(self._items) else None

    def _tell(self) -> None:
        item, glyphs = self._item(), self.wizard.glyphs

        def build(width: int) -> list[Line]:
            if item is None:
                return []
            return list(item_lines(item, width, glyphs))

        self.query_one("#whole", LinesView).show(build, top=True)

    def explained(self) -> tuple[str, Callable[[int], list[Line]]]:
        """The finding under the cursor, as large as the screen."""
        item, glyphs = self._item(), self.wizard.glyphs
        return (item.finding.code, lambda width: list(item_lines(item, width, glyphs))) if item is not None else super().explained()

    def action_copy(self) -> None:
        item = self._item()
        if item is not None:
            self.wizard.copy(item.finding.fix)

    @on(LinesView.Chosen, "#items")
    def _show(self) -> None:
        item = self._item()
        if item is None:
            return
        known = [subject for subject in item.subjects if subject in self.wizard.host.functions or subject in self.wizard.host.smmus]
        if not known:
            from wizard.tui.screens.dialogs import Read

            glyphs = self.wizard.glyphs
            self.app.push_screen(Read(item.finding.code, lambda width: list(item_lines(item, width, glyphs))))
            return
        self.wizard.action_go("host")

        def there() -> None:
            from wizard.tui.screens.host import HostScreen

            if isinstance(self.app.screen, HostScreen):
                self.app.screen.table.go_to(known[0])
                self.app.screen.table.marked = {one for one in known if one in self.wizard.host.functions} if len(known) > 1 else set()
                self.app.screen.table.refresh()
                self.wizard.say(f"{plural(len(known), 'function')} with [{item.finding.code}]" + (" marked." if len(known) > 1 else "."))

        self.app.call_after_refresh(there)
