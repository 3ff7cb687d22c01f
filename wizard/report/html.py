"""HTML that is escaped unless it was made here: text is text, whatever it holds.

``tag`` makes elements; what is given as ``str`` is escaped, only a ``Markup`` that came out of ``tag`` goes in as it is. Characters that a
reader's program would act on, or hide (controls, bidirectional overrides), are shown as escapes, as at a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from wizard.base.text import visible


class Markup(str):
    """HTML that was made by ``tag`` or ``joined``: safe to put into a page."""


Content = str | Markup

VOID = frozenset({"meta", "col", "br", "hr"})


def text(words: Content) -> Markup:
    """Text as HTML; what is Markup already stays."""
    return words if isinstance(words, Markup) else Markup(escape(visible(words), quote=True))


def joined(parts: Iterable[Content], between: str = "") -> Markup:
    """Several pieces, one behind the other."""
    return Markup(between.join(map(text, parts)))


def tag(name: str, *content: Content, **attributes: str | bool | None) -> Markup:
    """An element. ``class_`` is class, an underscore in a name a hyphen; None and False leave an attribute out."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        written.append(f" {key}" if value is True else f' {key}="{escape(visible(str(value)), quote=True)}"')
    opening = f"<{name}{''.join(written)}>"
    return Markup(opening) if name in VOID else Markup(f"{opening}{joined(content)}</{name}>")


def table(heads: Iterable[Content], rows: Iterable[Content], *, class_: str | None = None, label: str | None = None) -> Markup:
    """A table that scrolls on its own where it is wider than the page; ``rows`` are made by ``row``."""
    head = tag("thead", tag("tr", *(tag("th", one, scope="col") for one in heads)))
    return tag("div", tag("table", head, tag("tbody", *rows), class_=class_), class_="wide", role="region", aria_label=label, tabindex="0")


def row(cells: Iterable[Content], *, id: str | None = None, class_: str | None = None) -> Markup:
    """A row of a table."""
    return tag("tr", *(one if isinstance(one, Markup) and one.startswith(("<td", "<th")) else tag("td", one) for one in cells), id=id, class_=class_)


def link(target: str, words: Content, *, class_: str | None = None) -> Markup:
    """A link to a place in this page."""
    return tag("a", words, href=f"#{target}", class_=class_)
