"""What of a domain has been read: each attribute, text and element that a reader takes is struck off, and what is left is named.

So nothing can be dropped in silence: an element that libvirt knows and no reader took is kept aside as it is, and what libvirt does not
know, which it drops without a word when nobody validates, is not understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from wizard.existing.guest import Fate, Left, Where
from wizard.existing.xmltree import Element

_HINTS = 200
_BETWEEN = re.compile(r">\s+<")
_LIVE = {"domain@id", "source@index", "input@index"}
"""Attributes of a domain that runs: libvirt gives them anew."""


@cache
def known_words() -> dict[str, frozenset[str]]:
    """Attributes (``@name``) and children that libvirt's schemas have, by ``parent/element`` (scripts/libvirt-words)."""
    text = files("wizard.existing").joinpath("domain_words.txt").read_text(encoding="utf-8")
    return {line.split()[0]: frozenset(line.split()[1:]) for line in text.splitlines() if line and not line.startswith("#")}


class Ledger:
    """The account of one ``<domain>``. ``text`` is that of the whole file."""

    def __init__(self, root: Element, text: str) -> None:
        self.root, self.text = root, text
        self._taken: set[tuple[int, str]] = set()
        self._open: set[int] = {id(root)}
        self._plain: set[int] = set()
        self._ids: dict[int, str] = {}
        self.left: list[Left] = []

    def attribute(self, element: Element | None, name: str) -> str | None:
        """The value of an attribute, which is struck off; None where it is not there."""
        if element is None:
            return None
        self.open(element)
        self._taken.add((id(element), name))
        return element.attributes.get(name)

    def content(self, element: Element | None) -> str | None:
        """The text of an element, which is struck off; None where there is none."""
        if element is None:
            return None
        self.open(element)
        self._taken.add((id(element), ""))
        return element.text or None

    def open(self, element: Element) -> None:
        """What is inside an element is accounted for part by part, from here to the root."""
        at: Element | None = element
        while at is not None and id(at) not in self._open:
            self._open.add(id(at))
            at = at.parent

    def called(self, element: Element, id_: str) -> None:
        """An element is that of a device of the plan: what is kept of its inside goes by the device's id."""
        self._ids[id(element)] = id_

    def plain(self, element: Element | None) -> None:
        """An element that says what every plan has anyway."""
        if element is not None:
            self._plain.add(id(element))

    def plain_attribute(self, element: Element | None, name: str, *values: str) -> None:
        """The same for an attribute, where it has one of these values."""
        if element is not None and element.attributes.get(name) in values:
            self.attribute(element, name)

    def lose(self, element: Element, said: str, *, attribute: str | None = None) -> None:
        """Something that is understood and can't be carried nor given back."""
        where = element.where(attribute)
        self.left.append(Left(fate=Fate.LOST, where=where, name=where.path, said=said))
        if attribute is None:
            self._plain.add(id(element))
        else:
            self._taken.add((id(element), attribute))

    def unknown(self, where: Where, said: str, meant: str | None = None) -> None:
        """Something that is not understood."""
        self.left.append(Left(fate=Fate.UNKNOWN, where=where, name=where.path, said=said, meant=meant))

    def finish(self) -> tuple[Left, ...]:
        """Everything that nobody struck off, in the order of the file."""
        self._inside(self.root)
        return tuple(sorted(self.left, key=lambda left: (left.where.start is None, left.where.start or 0)))

    def _inside(self, element: Element) -> None:
        words = self._words(element)
        for name, value in element.attributes.items():
            if (id(element), name) in self._taken or name == "xmlns" or name.startswith(("xmlns:", "xsi:")):
                continue
            if words is not None and f"@{name}" not in words and f"{element.name}@{name}" not in _LIVE:
                self._misspelt(element, name, words)
            elif f"{element.name}@{name}" not in _LIVE:
                self.left.append(
                    Left(fate=Fate.KEPT, where=element.where(name), name=self._name(element, name), text=value, under=f"{self._path(element)}@{name}")
                )
        if element.text and (id(element), "") not in self._taken:
            self.unknown(element.where_text(), "libvirt has no text there")
        for child in element.children:
            if id(child) in self._plain:
                self._check(child)
                continue
            if words is not None and child.name not in words and "*" not in words:
                self._misspelt(child, None, words)
            elif id(child) in self._open:
                self._inside(child)
            else:
                self._keep(child)

    def _keep(self, element: Element) -> None:
        under = self._path(element.parent) if element.parent else ""
        self.left.append(Left(fate=Fate.KEPT, where=element.where(), name=self._name(element), text=self._verbatim(element), under=under))
        self._check(element)

    def _check(self, element: Element) -> None:
        """Words that libvirt does not know, in an element that is taken or kept as a whole."""
        for inner in element.walk():
            words = self._words(inner)
            if words is None:
                continue
            for name in inner.attributes:
                if f"@{name}" not in words and not name.startswith("xmlns") and f"{inner.name}@{name}" not in _LIVE:
                    self._misspelt(inner, name, words)
            for child in inner.children:
                if child.name not in words and "*" not in words:
                    self._misspelt(child, None, words)

    def _words(self, element: Element) -> frozenset[str] | None:
        """What libvirt knows inside an element; None where anything may stand, or where an element above is unknown already."""
        at: Element | None = element
        while at is not None:
            if at.name == "metadata":
                return None
            at = at.parent
        if element is self.root:
            return known_words()["/domain"]
        return known_words().get(f"{element.parent.name if element.parent else ''}/{element.name}")

    def _misspelt(self, element: Element, attribute: str | None, words: Iterable[str]) -> None:
        name = f"@{attribute}" if attribute is not None else element.name
        same = [word for word in words if word.lower() == name.lower()]
        near = same
        if not near and len(self.left) < _HINTS:  # one for each of thousands helps nobody, and takes its time
            near = get_close_matches(name, [word for word in words if word.startswith("@") == name.startswith("@")], 1, 0.7)
        self.unknown(element.where(attribute), "libvirt has no such word there and drops it", near[0].removeprefix("@") if near else None)

    def _path(self, element: Element) -> str:
        """Where a part goes back to: steps by name, devices by their ids."""
        parts: list[str] = []
        at: Element | None = element
        while at is not None and at is not self.root:
            parts.append(f"{at.name}[{self._ids[id(at)]}]" if id(at) in self._ids else at.name)
            at = at.parent
        return "/".join(reversed(parts))

    def _name(self, element: Element, attribute: str | None = None) -> str:
        return element.path + (f"@{attribute}" if attribute is not None else "")

    def _verbatim(self, element: Element) -> str:
        """As it stands there, in one line, with the namespaces that it needs."""
        text = _BETWEEN.sub("><", self.text[element.start : element.end])
        used = {name.partition(":")[0] for one in element.walk() for name in (one.name, *one.attributes) if ":" in name}
        spaces = []
        for prefix in sorted(used - {"xmlns", "xml"}):
            at: Element | None = element
            declared = [one for one in element.walk() if f"xmlns:{prefix}" in one.attributes]
            while at is not None and f"xmlns:{prefix}" not in at.attributes:
                at = at.parent
            if at is not None and at is not element and not (declared and declared[0] is element):
                spaces.append(f" xmlns:{prefix}='{at.attributes[f'xmlns:{prefix}']}'")
        head = 1 + len(element.name)
        return text[:head] + "".join(spaces) + text[head:]
