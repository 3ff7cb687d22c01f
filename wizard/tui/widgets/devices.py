"""The device table: a tree and a flat table of the host's functions in one widget, drawn by the line, filtered as one types."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from wizard.base.glyphs import UNICODE, Glyphs
from wizard.base.text import visible
from wizard.host.filter import Filter, matches
from wizard.host.known import Known
from wizard.tui.lines import ACCEL_ROLE, Line, Span, accel_word, cut
from wizard.tui.rows import NO_SMMU, Index, Row, endpoints, refolded, table_rows, tree_rows
from wizard.tui.widgets.lines import LinesView

NAME_LEAST = 14  # columns in which a device's name says something
SLICE = 400  # functions judged between two looks at the keyboard, about 10 ms


class DeviceTable(LinesView):
    """Rows are made from the host; lines are made when they come into view."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "Mark", id="mark"),
        Binding("M", "mark_to", "Mark to here", show=False, id="mark-to"),
        Binding("left,h", "fold(True)", "Fold", show=False, id="fold"),
        Binding("right,l", "fold(False)", "Unfold", show=False, id="unfold"),
    ]

    SEARCHED: ClassVar[bool] = False  # the screen's filter does it

    class Counted(Message):
        """The filter was applied: how many functions are shown, of how many, and whether all were looked at."""

        def __init__(self, shown: int, total: int, looking: bool) -> None:
            super().__init__()
            self.shown = shown
            self.total = total
            self.looking = looking

    class Marked(Message):
        """So many functions are marked now."""

        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.index: Index | None = None
        self.glyphs: Glyphs = UNICODE
        self.as_tree = True
        self.marked: set[str] = set()
        self._anchor: str | None = None  # the row that was marked last: where a range begins
        self.changes: dict[str, str] = {}  # address -> new, gone, driver: what the monitor saw
        self.owner: Callable[[str], str | None] = lambda address: None
        self.filter = Filter()
        self._folded: frozenset[str] = frozenset()
        self._rows: list[Row] = []
        self._kept: set[str] | None = None
        self._left: list[str] = []  # functions that the filter has not yet looked at
        self._look = self._names = 0
        self._whole: dict[tuple[bool, frozenset[str]], list[Row]] = {}
        self._whole_of: Index | None = None

    # Content.

    def load(self, index: Index, glyphs: Glyphs) -> None:
        """Show a host; the cursor stays where it is, if its function is still there."""
        if index is not self.index:
            # Many VFs begin folded; those that somebody unfolded stay so when the host is read again.
            before = self.index.folds if self.index else frozenset()
            self._folded = (self._folded - before) | (index.folds - (before - self._folded))
        self.index, self.glyphs = index, glyphs
        self.marked &= set(index.host.functions)
        self._names = min(28, max((len(f"{one.facts.driver or '-'}") for one in index.host.functions.values()), default=6))
        self.apply(self.filter)

    def apply(self, wanted: Filter) -> None:
        """Filter. Words are compared at once; verdicts and capabilities in slices, so that keys go on working."""
        self.filter = wanted
        self._left = []
        index = self.index
        if index is None:
            return
        if not wanted.words:
            self._kept = None
        elif not any(field for field, _ in wanted.words):
            self._kept = index.search([word for _, word in wanted.words])
        elif not wanted.needs_verdict or len(index.order) <= SLICE:
            self._kept = {address for address in index.order if matches(index, address, wanted, self.owner(address))}
        else:
            self._kept, self._left = set(), list(index.order)
            self._next_slice(wanted)
        self.relayout()

    def _next_slice(self, wanted: Filter) -> None:
        if wanted is not self.filter or self.index is None or self._kept is None:
            return
        now, self._left = self._left[:SLICE], self._left[SLICE:]
        self._kept |= {address for address in now if matches(self.index, address, wanted, self.owner(address))}
        self.relayout()
        if self._left:
            self.set_timer(0.005, lambda: self._next_slice(wanted))

    def relayout(self) -> None:
        """Make the rows again; the cursor stays with its row."""
        if self.index is None:
            return
        key, before = self.cursor, self._at
        self._rows = self._rows_now(self.index)
        self._look = max((len(row.guides) + (len(row.key) if row.kind in ("function", "bridge") else 0) for row in self._rows), default=12) + (
            2 if self.as_tree else 0
        )
        self.lines_changed()
        self.refresh()
        self._put(key, before)
        if self._kept and self.cursor not in self._kept:
            # What was looked for is a function, not what it hangs below.
            self._move(next(y for y, row in enumerate(self._rows) if row.key in self._kept))
        total = len(self.index.order)
        self.post_message(self.Counted(total if self._kept is None else len(self._kept), total, bool(self._left)))

    def _rows_now(self, index: Index) -> list[Row]:
        # The whole host, as a tree and as a table, is made once.
        if self._whole_of is not index:
            self._whole_of, self._whole = index, {}
        key = (self.as_tree, self._folded)
        if self._kept is None and key in self._whole:
            return self._whole[key]
        rows = tree_rows(index, self.glyphs, self._kept, self._folded) if self.as_tree else table_rows(index, self._kept)
        if self._kept is None:
            self._whole = {other: kept for other, kept in self._whole.items() if other[0] != self.as_tree} | {key: rows}
        return rows

    def _fold_row(self, key: str, shut: bool) -> None:
        index, before = self.index, (True, self._folded)
        self._folded = self._folded | {key} if shut else self._folded - {key}
        rows = self._whole.get(before)
        if index is not None and rows is not None and self._kept is None and self._whole_of is index:
            del self._whole[before]
            self._whole[True, self._folded] = refolded(rows, key, index, self.glyphs, self._folded)
        self.relayout()

    def toggle_tree(self) -> None:
        """From tree to table and back."""
        self.as_tree = not self.as_tree
        self.relayout()
        self._reveal()

    @property
    def address(self) -> str | None:
        """The function under the cursor."""
        key = self.cursor
        return key if isinstance(key, str) and self.index is not None and key in self.index.host.functions else None

    def below(self, key: str) -> list[str]:
        """The endpoints that a row stands for: itself, or all that are below it."""
        if self.index is None:
            return []
        found, stack = [], [key]
        while stack:
            one = stack.pop()
            found.append(one)
            stack.extend(reversed(self.index.children.get(one, ())))
        return endpoints(self.index.host, found)

    def go_to(self, key: Hashable) -> bool:
        """As the view's own; what is folded away is unfolded."""
        if super().go_to(key):
            return True
        if self.index is None or not self.as_tree or not isinstance(key, str) or self._kept is not None:
            return False
        above = key
        shut = set()
        while above := self.index.parents.get(above, ""):
            shut.add(above)
        if not shut & self._folded:
            return False
        self._folded -= shut
        self.relayout()
        return super().go_to(key)

    # LinesView.

    @property
    def count(self) -> int:
        return len(self._rows)

    def key_at(self, y: int) -> Hashable | None:
        return self._rows[y].key

    def _place_of(self, key: Hashable, near: int) -> int | None:
        # No two rows have one key.
        return next((y for y, row in enumerate(self._rows) if row.key == key), None)

    def lines_changed(self) -> None:
        self._resize_content(self.size.width)

    def line_at(self, y: int) -> Line:
        row = self._rows[y]
        return Line(tuple(self._spans(row, max(20, self.size.width - 1))), row.key)

    def header(self, width: int) -> Line:
        """The names of the columns."""
        spans: list[Span] = [("  ", "")]
        for name, wide in self._columns(width - 2):
            spans.append((cut(name, wide, self.glyphs.more) + " ", "dim"))
        return Line(tuple(spans))

    def _columns(self, width: int) -> list[tuple[str, int]]:
        # The name takes what is left; with room come the StreamID, then ids and node, then the SMMU. Where it is narrow the name comes
        # before group and driver: it tells what a function is.
        found = [
            ("FUNCTION", max(12, min(self._look, 30))),
            ("ACCEL", 9),
            ("VM", 8),
            ("GROUP", 5),
            ("DRIVER", min(self._names, 10 if width < 90 else 18)),
        ]
        for gone in ("", "GROUP", "DRIVER"):
            found = [one for one in found if one[0] != gone]
            if width - sum(wide + 1 for _, wide in found) >= NAME_LEAST:
                break
        if width - sum(wide + 1 for _, wide in found) >= 8:
            found += [("NAME", 0)]
        if width >= 96:
            found.insert(3, ("STREAM", 9))
        if width >= 118:
            found[5:5] = [("IDS", 9), ("NODE", 4)]
        if width >= 150:
            found.insert(3, ("SMMU", 24))
        used = sum(wide + 1 for _, wide in found)
        return [(name, wide or max(8, width - used)) for name, wide in found]

    def _spans(self, row: Row, width: int) -> Iterable[Span]:
        glyphs, index = self.glyphs, self.index
        assert index is not None
        marked = row.key in self.marked
        changed = self.changes.get(row.key)
        yield (
            glyphs.mark if marked else {"new": glyphs.new, "gone": glyphs.gone, "driver": "~"}.get(changed or "", " "),
            "accent" if marked else "warn",
        )
        yield " ", ""
        function = index.host.functions.get(row.key)
        if function is None:
            yield row.guides, "dim"
            sign = (glyphs.closed if row.closed else glyphs.open) + " "
            yield sign, "dim"
            smmu = index.host.smmus.get(row.key)
            label = visible(f"{len(index.children[row.key])} VFs" if row.kind == "vfs" else row.label)
            yield label, "head" if row.kind == "smmu" else "bold"
            if row.kind == "vfs":
                yield self._fold_words(row.key), "dim"
            elif smmu is not None:
                room = width - 4 - len(row.guides) - len(label) - 2
                yield f"  {cut(self._smmu_words(smmu.name), max(0, room), glyphs.more)}", "dim"
            elif row.key == NO_SMMU:
                yield "  nothing translates for these", "dim"
            return
        owner = self.owner(row.key)
        verdict = None if function.is_bridge else index.host.verdict(row.key).accel
        for name, wide in self._columns(width - 2):
            text, role = "", ""
            if name == "FUNCTION":
                text = row.key if not row.closed else f"{row.key} {glyphs.closed}"
                if row.guides:
                    yield row.guides, "dim"
                    wide -= len(row.guides)
                role = "dim" if function.is_bridge else "bold" if marked else ""
            elif name == "ACCEL":
                text, role = ("bridge", "dim") if verdict is None else (accel_word(verdict, glyphs), ACCEL_ROLE[verdict])
            elif name == "VM":
                text, role = owner or ("in use" if row.key in index.uses else ""), "accent" if owner else "warn"
            elif name == "GROUP":
                text = "-" if function.group is None else str(function.group)
            elif name == "DRIVER":
                text = function.facts.driver or "-"
            elif name == "STREAM":
                text = ",".join(f"{stream:#x}" for stream in function.stream_ids) or "-"
            elif name == "IDS":
                text = function.ids
            elif name == "NODE":
                text = "-" if function.numa_node is None else str(function.numa_node)
            elif name == "SMMU":
                text = function.smmu or "-"
            else:
                # A narrow column shows what tells one function from the next; the vendor is in the detail.
                text = function.name if wide >= 36 else function.short_name
            if function.is_bridge and not role:
                role = "dim"
            yield cut(visible(text), wide, glyphs.more) + " ", role

    def _fold_words(self, key: str) -> str:
        assert self.index is not None
        vfs = self.index.children[key]
        given = sum(self.owner(one) is not None for one in vfs)
        marked = sum(one in self.marked for one in vfs)
        told = [f"{given} given"] * bool(given) + [f"{marked} marked"] * bool(marked)
        return ", ".join(["", *told]) + f"  of {visible(key.split('/')[1])}"

    def _smmu_words(self, name: str) -> str:
        assert self.index is not None
        smmu = self.index.host.smmus[name]
        words = [] if smmu.numa_node is None else [f"node {smmu.numa_node}"]
        if smmu.kind != "smmuv3":
            return " ".join([*words, smmu.kind])
        for capability in ("nesting", "s2fwb", "oas", "ssidsize", "ats", "ril", "cmdqv"):
            known = smmu.known(capability)
            sign = glyph_of(known, self.glyphs)
            shown = sign or known.show()
            words.append(f"{capability} {shown}{'*' if known.source == 'assumed' else ''}")
        return " ".join(words)

    # Keys and mouse.

    def action_mark(self) -> None:
        """Mark the function, or all endpoints below a heading or a bridge; then go on to the next."""
        key = self.cursor
        if not isinstance(key, str):
            return
        below = set(self.below(key))
        self.marked = self.marked - below if below and below <= self.marked else self.marked | below
        self._anchor = key
        self._marks_changed(below)
        self.action_cursor(1)

    def action_mark_to(self) -> None:
        """Mark from the row that was marked last to this one, both with it; what is below a heading or a bridge that is folded, too."""
        key = self.cursor
        keys = [row.key for row in self._rows]
        if not isinstance(key, str) or key not in keys:
            return
        here = keys.index(key)
        start = keys.index(self._anchor) if self._anchor in keys else here
        low, high = sorted((start, here))
        more: set[str] = set()
        for row in self._rows[low : high + 1]:
            more |= set(self.below(row.key) if row.closed else endpoints(self.index.host, [row.key]) if self.index else ())
        self.marked |= more
        self._anchor = key
        self._marks_changed(more)

    def clear_marks(self) -> None:
        """No function is marked any more."""
        before = self.marked
        self.marked = set()
        self._anchor = None
        self._marks_changed(before)

    def _marks_changed(self, functions: set[str]) -> None:
        # Their rows, and the heading that they may be folded below, which counts them.
        parents = self.index.parents if self.index is not None else {}
        rows = functions | {parents.get(one, "") for one in functions}
        self._refresh_lines([y for y in self._known() if y < self.count and self._rows[y].key in rows])
        self.post_message(self.Marked(len(self.marked)))

    def action_fold(self, shut: bool) -> None:
        key = self.cursor
        if not self.as_tree or not isinstance(key, str) or self.index is None:
            return
        has = bool(self.index.children.get(key))
        if shut and (not has or key in self._folded):
            parent = self.index.parents.get(key)
            if parent:
                self.go_to(parent)
        elif shut:
            self._fold_row(key, True)
        elif key in self._folded:
            self._fold_row(key, False)
        elif has:
            self.action_cursor(1)

    def on_click(self, event: events.Click) -> None:
        # The two cells at the left mark; elsewhere a click is the cursor, and a second one chooses.
        y = event.y + self.scroll_offset.y
        if event.x < 2 and 0 <= y < self.count:
            self._move(y)
            self.action_mark()
            event.stop()
            event.prevent_default()


def glyph_of(known: Known, glyphs: Glyphs) -> str | None:
    """The sign of a yes, a no or an unknown; None for a value of its own."""
    if known.value is None:
        return glyphs.unknown
    return (glyphs.yes if known.value else glyphs.no) if isinstance(known.value, bool) else None
