"""What is found, as one list for every screen that has one: a row for a cause, with its count and what the key for it would do."""

from __future__ import annotations

from wizard.base.finding import Item
from wizard.base.glyphs import Glyphs
from wizard.tui.fixing import offered
from wizard.tui.lines import Line, cut, item_line, line
from wizard.tui.widgets.lines import LinesView


class Findings(LinesView):
    """Causes, worst first."""

    def __init__(self, *, id: str = "findings") -> None:
        super().__init__(id=id, title="Findings")
        self.items: tuple[Item, ...] = ()

    def tell(self, items: tuple[Item, ...], glyphs: Glyphs, nothing: Line, key: str) -> None:
        """These causes; ``nothing`` is the line where there is none, ``key`` the one that fixes."""
        self.items = items

        def build(width: int) -> list[Line]:
            return [_row(item, place, width, glyphs, key) for place, item in enumerate(items)] or [nothing]

        self.show(build)

    @property
    def item(self) -> Item | None:
        """The cause that is marked."""
        key = self.cursor
        return self.items[key] if isinstance(key, int) and key < len(self.items) else None


def _row(item: Item, place: int, width: int, glyphs: Glyphs, key: str) -> Line:
    does = offered(item)
    if does is None or width < 50:
        return item_line(item, width, glyphs, key=place)
    hint = cut(f"  {key} {does}", min(len(does) + len(key) + 3, width * 2 // 5), glyphs.more).rstrip()
    row = item_line(item, width - len(hint), glyphs, key=place)
    return line(*row.spans, (" " * max(0, width - len(row.text) - len(hint)) + hint, "key"), key=place)
