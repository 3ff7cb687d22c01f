"""Host: every function and the SMMU above it, as a tree or a table, with what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget

from wizard.base.text import plural, size
from wizard.facts.model import Moment
from wizard.host.filter import parse_filter
from wizard.host.model import Host
from wizard.tui.contact import probe_words
from wizard.tui.describe import detail_lines, summary_lines
from wizard.tui.lines import Line
from wizard.tui.screens.base import WizardScreen
from wizard.tui.widgets.bars import Columns
from wizard.tui.widgets.devices import DeviceTable
from wizard.tui.widgets.hostmap import HostMapView
from wizard.tui.widgets.lines import LinesView

if TYPE_CHECKING:
    from textual.widgets import Input


class HostScreen(WizardScreen):
    """The first screen."""

    SCREEN = "host"
    show_map: bool | None = None  # None: where there is room
    ENTER = "All of it"
    ABOUT = """\
Every PCI function of the host, below the SMMU that translates for it. ACCEL says whether a guest can own the function's
stage 1 in hardware: yes, no, or unknown, with the reasons in the detail. VM is the VM that you gave it to; "in use" means
that the host itself needs it.

Filter with / and words that all have to match: plain words are searched in address, name, class, ids, driver, group and
interfaces; field:word in one field (accel, cap, class, driver, group, id, name, node, smmu, vm). For example:
  nvme            accel:yes cap:pasid            driver:vfio node:0            vm:none 8086:10ca

Mark several with space (on a bridge or an SMMU: all that is below) and M (from the last mark to here), then a gives them to a
VM. What has to come along and what stands against it is shown first. Many VFs of one PF are folded below one line.

m shows the map of the host, and goes back to the tree: SMMUs by what they can do, the functions of each by verdict or by the letter
of their VM, and the memory of each NUMA node. Enter on a cell says what it means and where it is known from."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "assign", "Give to a VM", id="assign"),
        Binding("m", "map", "Map", id="host-map"),
        Binding("slash", "filter", "Filter", key_display="/", id="filter"),
        Binding("t", "tree", "Tree/table", id="tree"),
        Binding("i", "detail", "Detail", show=False, id="detail"),
        Binding("x", "take", "Take back", id="take"),
        Binding("I", "firmware", "IORT and StreamIDs", show=False, id="iort"),
        Binding("c", "copy", "Copy address", show=False, id="copy-address"),
        Binding("p", "probe", "Learn what is unknown", show=False, id="first-contact"),
        Binding("r", "read", "Read again", show=False, id="read-again"),
        Binding("escape", "clear", "Clear filter and marks", show=False, id="clear"),
    ]
    DEFAULT_CSS = """
    HostScreen {
        #map { height: auto; display: none; border-bottom: solid $panel; padding: 0 0 0 1; }
        #left { width: 1fr; }
        #main { height: 1fr; }
        #table { height: 1fr; }
        #detail { width: 42%; display: none; border-left: solid $panel; padding: 0 0 0 1; }
        #summary { height: 4; background: $surface; }
        #filterbox { height: 1; display: none; border: none; padding: 0 1; background: $boost; }
        #filterbox.-open { display: block; }
        #figures { height: 1; background: $background; color: $foreground 60%; }
        &.-wide #detail { display: block; }
        &.-wide #summary { display: none; }
        &.-tiny #summary, &.-short #summary { display: none; }
        &.-tiny #figures, &.-short #figures { display: none; }
    }
    """

    def body(self) -> Iterable[Widget]:
        yield Figures()
        yield HostMapView(id="map")
        with Horizontal(id="main"):
            with Vertical(id="left"):
                yield Columns()
                yield DeviceTable(id="table")
            yield LinesView(id="detail")
        yield LinesView(id="summary")

    @property
    def table(self) -> DeviceTable:
        """The table."""
        return self.query_one(DeviceTable)

    @property
    def map(self) -> HostMapView:
        """The host as a picture."""
        return self.query_one(HostMapView)

    @property
    def subject(self) -> str | None:
        """As every screen's; on the map what its piece stands for."""
        return self.map.subject if self.map.has_focus else super().subject

    def on_mount(self) -> None:
        table = self.table
        table.owner = lambda address: self.session.owner(address)
        table.load(self.wizard.index, self.wizard.glyphs)
        table.focus()
        self.set_timer(0.3, self._filter_box_early)
        self.query_one("#summary").can_focus = False
        super().on_mount()

    def command(self) -> str:
        address = self.table.address
        return f"show {address}" if address else "list"

    def session_changed(self) -> None:
        table = self.table
        if table.index is not self.wizard.index:
            table.changes = self.wizard.changes
            table.load(self.wizard.index, self.wizard.glyphs)
        elif any(field == "vm" for field, _ in table.filter.words):
            table.apply(table.filter)
        table.refresh()
        self._name_columns()
        self.show_figures()
        self._arrange()
        self._tell(table.cursor)

    def show_figures(self) -> None:
        """Memory and hugepages as they are now."""
        self.query_one(Figures).show(self.wizard.host, self.wizard.moment)

    def _tell(self, key: object) -> None:
        index, session, glyphs = self.wizard.index, self.session, self.wizard.glyphs
        if isinstance(key, tuple):
            told = self.map.told
            self._say_of_map(lambda width: told(key, width))
            return
        chosen = key if isinstance(key, str) else None

        def detail(width: int) -> list[Line]:
            return detail_lines(index, session, chosen, width, glyphs)

        if self.has_class("-wide"):
            self.query_one("#detail", LinesView).show(detail, top=True)
        else:
            self.query_one("#summary", LinesView).show(lambda width: summary_lines(index, session, chosen, width, glyphs), top=True)

    # The map.

    def _say_of_map(self, lines: Callable[[int], list[Line]]) -> None:
        self.query_one("#detail" if self.has_class("-wide") else "#summary", LinesView).show(lines, top=True)

    def _arrange(self) -> None:
        """The map above the tree where there is room for both; else one of them."""
        room = self.has_class("-wide") and self.has_class("-roomy")
        shown = self.show_map if self.show_map is not None else room
        self.map.whole = shown and not room
        self.map.display = shown
        self.query_one("#main").display = not self.map.whole
        if self.map.whole and self.focused is self.table:
            self.set_focus(self.map)
        elif not shown and self.map.has_focus:
            self.set_focus(self.table)
        if shown:
            self.map.load(self.wizard.index, self.session, self.wizard.plan, self.wizard.glyphs)

    def action_map(self) -> None:
        """To the map; from it back to the tree, which has the whole screen where the map does not fit beside it."""
        if not self.map.display:
            self.show_map = True
            self._arrange()
            self.set_focus(self.map)
        elif not self.map.has_focus:
            self.set_focus(self.map)
        else:
            self.show_map = None if not self.map.whole else False
            self._arrange()
            self.set_focus(self.table)
        self._tell(self.map.cursor if self.map.has_focus else self.table.cursor)

    @on(LinesView.Moved, "#map")
    def _moved_on_map(self, event: LinesView.Moved) -> None:
        if self.map.has_focus:
            self._tell(event.key)

    @on(LinesView.Chosen, "#map")
    def _chosen_on_map(self) -> None:
        self.action_detail()

    @on(DeviceTable.Marked)
    def _marked(self, event: DeviceTable.Marked) -> None:
        self.query_one(Figures).mark(event.count)

    @on(LinesView.Moved, "#table")
    def _moved(self, event: LinesView.Moved) -> None:
        self._tell(event.key)
        from wizard.tui.widgets.bars import Command

        self.query_one(Command).say(self.wizard.command_words(self.command()))

    @on(LinesView.Chosen, "#table")
    def _chosen(self) -> None:
        self.choose()

    def choose(self) -> None:
        """Enter, or a second click: all that is known of the row."""
        self.action_detail()

    @on(DeviceTable.Counted)
    def _counted(self, event: DeviceTable.Counted) -> None:
        self.query_one(Figures).count(event.shown, event.total, event.looking)
        self._name_columns()

    def _name_columns(self) -> None:
        # As wide as the rows that are shown: a filter makes them narrower.
        self.query_one("#columns", Columns).say(self.table.header(max(20, self.table.size.width - 1)).text)

    def on_resize(self) -> None:
        self.call_after_refresh(self.update)

    # Actions.

    def action_detail(self) -> None:
        from wizard.tui.screens.dialogs import Pick, Read

        if self.map.has_focus:
            key, told = self.map.cursor, self.map.told
            if key is None:
                return
            if len(below := self.map.functions) > 1:
                # Several functions behind one sign: one of them can be gone to.
                self.app.push_screen(Pick("Functions", lambda width: told(key, width), start=below[0]), self._to_function)
            else:
                self.app.push_screen(Read(self.map.title, lambda width: told(key, width)))
            return
        key = self.table.cursor
        if isinstance(key, str):
            index, session, glyphs = self.wizard.index, self.session, self.wizard.glyphs
            self.app.push_screen(Read(key, lambda width: detail_lines(index, session, key, width, glyphs)))

    def action_firmware(self) -> None:
        from wizard.tui.iort_lines import iort_lines
        from wizard.tui.screens.dialogs import Pick

        index, glyphs = self.wizard.index, self.wizard.glyphs
        self.app.push_screen(Pick("IORT and StreamIDs", lambda width: iort_lines(index, width, glyphs), start=self.table.address), self._to_function)

    def _to_function(self, address: object) -> None:
        if isinstance(address, str) and self.table.go_to(address):
            if self.map.whole:
                self.show_map = False
                self._arrange()
            self.set_focus(self.table)

    def _filter_box_early(self) -> None:
        # Its import and styles take a while: it is made behind the first screen, unless the wizard is ending by then (Textual 8 mounts nothing more).
        if self.is_attached:
            self._filter_box()

    def _filter_box(self) -> Input:
        from wizard.tui.widgets.find import Words

        for box in self.query("#filterbox").results(Words):
            return box
        words = "words, or accel: cap: class: driver: group: id: name: node: smmu: vm:"
        box = Words(lambda: self.table, placeholder=words, id="filterbox")
        self.mount(box, after=self.query_one("#main"))
        return box

    def action_filter(self) -> None:
        from wizard.tui.widgets.find import focus_when_shown

        self.ready.clear()
        self._filter_box().add_class("-open")
        focus_when_shown(self, self._filter_box)

    def on_input_changed(self, event: object) -> None:
        self.table.apply(parse_filter(getattr(event, "value", "")))

    def on_key(self, event: object) -> None:
        # In the filter, the arrows still walk the table.
        key = getattr(event, "key", "")
        if key in ("up", "down", "pageup", "pagedown") and getattr(self.focused, "id", None) == "filterbox":
            if key in ("up", "down"):
                self.table.action_cursor(-1 if key == "up" else 1)
            else:
                self.table.action_page(-1 if key == "pageup" else 1)
            event.prevent_default()  # type: ignore[attr-defined]
            event.stop()  # type: ignore[attr-defined]

    def action_clear(self) -> None:
        """First the filter, then the marks."""
        for box in self.query("#filterbox.-open"):
            box.value = ""  # type: ignore[attr-defined]
            box.remove_class("-open")
            self.set_focus(self.table)
            return
        self.table.clear_marks()

    def action_tree(self) -> None:
        self.table.toggle_tree()
        self._name_columns()

    def action_copy(self) -> None:
        if isinstance(self.table.cursor, str):
            self.wizard.copy("\n".join(sorted(self.table.marked)) or self.table.cursor)

    def _chosen_functions(self) -> list[str]:
        table = self.table
        if self.map.has_focus:
            return self.map.functions
        if table.marked:
            return [address for address in self.wizard.index.order if address in table.marked]
        return table.below(table.cursor) if isinstance(table.cursor, str) else []

    def action_assign(self) -> None:
        chosen = self._chosen_functions()
        if not chosen:
            self.wizard.say("A bridge without functions below it is not assigned: choose an endpoint.", "warning")
            return
        from wizard.tui.screens.assign import assign_functions

        assign_functions(self.wizard, chosen, done=self._assigned)

    def _assigned(self) -> None:
        self.table.clear_marks()

    def action_read(self) -> None:
        self.wizard.read_again()

    def action_probe(self) -> None:
        from wizard.tui.screens.contact import ContactScreen

        self.app.push_screen(ContactScreen(self._chosen_functions() if self.table.marked else []))

    def action_take(self) -> None:
        held = [address for address in self._chosen_functions() if self.session.owner(address)]
        if not held:
            self.wizard.say("No VM has this function.", "warning")
            return
        from wizard.tui import state

        self.wizard.do(f"take back {', '.join(held)}", state.unassign(self.session, held))
        self._assigned()


class Figures(Columns):
    """Memory, hugepages, CPUs, and how many functions are shown."""

    def __init__(self) -> None:
        super().__init__("figures")
        self._figures = ""
        self._count = ""
        self._marked = ""

    def show(self, host: Host, moment: Moment) -> None:
        """The host's figures."""
        unknown = probe_words(host)
        self._figures = (f"{unknown} · " if unknown else "") + figures_of(host, moment)
        self._say()

    def mark(self, count: int) -> None:
        """So many functions are marked."""
        self._marked = f"{count} marked · " if count else ""
        self._say()

    def _say(self) -> None:
        self.say(f"  {self._marked}{self._count}{self._figures}")

    def count(self, shown: int, total: int, looking: bool) -> None:
        """How much of the host the filter shows."""
        self._count = "" if shown == total else f"{shown} of {total} shown" + (" (looking) · " if looking else " · ")
        self._say()


def figures_of(host: Host, moment: Moment) -> str:
    """Memory, hugepages and CPUs of the host in one line, as they are at a moment."""
    facts = host.facts
    parts = [plural(len(host.functions), "function")]
    if facts.memory_total:
        free = moment.memory_available
        parts.append(f"memory {_gib(facts.memory_total)}" + (f", {_gib(free)} available" if free is not None else ""))
    for pages in sorted({pages for node in facts.nodes for pages in node.hugepages}, key=int):
        pool = sum(node.hugepages.get(pages, 0) for node in facts.nodes)
        free_pages = sum(nodes.get(pages, 0) for nodes in moment.hugepages_free.values())
        if pool:
            parts.append(f"hugepages {size(int(pages) * 1024)}: {free_pages} of {pool} free")
    if facts.cpus:
        nodes = ", ".join(f"node {node.id}: {node.cpus}" for node in facts.nodes if node.cpus)
        parts.append(f"{plural(facts.cpus, 'CPU')}" + (f" ({nodes})" if len(facts.nodes) > 1 else ""))
    return " · ".join(parts)


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
