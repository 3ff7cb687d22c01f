"""XML with the place of everything in it: elements, attributes and text, each with its line and its characters in the file.

lxml knows only an element's line. This is expat, which says where a tag begins, and the tag itself is scanned for its attributes. A document
type is refused, and with it every entity: a domain has none, and entities are how a small file becomes a large one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from wizard.base.errors import InputError
from wizard.existing.guest import Where

DEPTH = 64
ELEMENTS = 100_000  # a domain with 512 CPUs pinned and a thousand devices has a tenth of it
_ATTRIBUTE = re.compile(r"""\s+([^\s=/>]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")


@dataclass
class Element:
    """An element. ``name`` has its namespace's prefix as it is written (``qemu:arg``)."""

    name: str
    source: str
    line: int
    start: int  # of its tag, in characters
    parent: Element | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)  # of each attribute's value
    children: list[Element] = field(default_factory=list)
    texts: list[tuple[str, int, int]] = field(default_factory=list)
    end: int = 0  # behind its end tag
    inner: int = 0  # behind its start tag
    number: int = 1  # among the children of its parent that have its name
    counts: dict[str, int] = field(default_factory=dict)  # its children by name

    @property
    def text(self) -> str:
        """Its own text, without blanks around it."""
        return "".join(text for text, _, _ in self.texts).strip()

    def all(self, name: str) -> list[Element]:
        """The children of a name."""
        return [child for child in self.children if child.name == name]

    def one(self, name: str) -> Element | None:
        """The first child of a name."""
        return next((child for child in self.children if child.name == name), None)

    def walk(self) -> Iterator[Element]:
        """Itself and everything below it."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)

    @property
    def path(self) -> str:
        """From below <domain>, with a number where there are several: ``devices/hostdev[2]/driver``."""
        parts: list[str] = []
        at: Element | None = self
        while at is not None and at.name != "domain":
            several = at.parent is not None and at.parent.counts[at.name] > 1
            parts.append(f"{at.name}[{at.number}]" if several else at.name)
            at = at.parent
        return "/".join(reversed(parts))

    def where(self, attribute: str | None = None) -> Where:
        """Its place, or that of one of its attributes (the characters of the value)."""
        if attribute is None:
            return Where(source=self.source, line=self.line, path=self.path, start=self.start, end=self.end)
        start, end = self.spans.get(attribute, (None, None))
        return Where(source=self.source, line=self.line, path=f"{self.path}@{attribute}", start=start, end=end)

    def where_text(self) -> Where:
        """The place of its text, without the blanks around it."""
        if not self.texts:
            return self.where()
        first, last = self.texts[0], self.texts[-1]
        start = first[1] + len(first[0]) - len(first[0].lstrip())
        end = last[2] - (len(last[0]) - len(last[0].rstrip()))
        return Where(source=self.source, line=self.line, path=self.path, start=start, end=max(start, end))


def parse(text: str, source: str) -> Element:
    """The root element. Raises ``InputError`` with the line for what is no XML, has a document type, or is too deep."""
    return _Parser(text, source).parse()


class _Parser:
    def __init__(self, text: str, source: str) -> None:
        self.text, self.source = text, source
        self.data = text.encode("utf-8", "surrogateescape")
        self.ascii = len(self.data) == len(text)
        self.stack: list[Element] = []
        self.root: Element | None = None
        self._last = (0, 0)
        self._count = 0
        self.expat = expat.ParserCreate("utf-8")
        self.expat.buffer_text = False
        self.expat.StartElementHandler = self.started
        self.expat.EndElementHandler = self.ended
        self.expat.CharacterDataHandler = self.said
        self.expat.StartDoctypeDeclHandler = self.refuse

    def at(self, byte: int) -> int:
        """The character at a byte: expat counts bytes."""
        if self.ascii:
            return byte
        before, count = self._last
        if byte < before:
            before, count = 0, 0
        count += len(self.data[before:byte].decode("utf-8", "surrogateescape"))
        self._last = (byte, count)
        return count

    def parse(self) -> Element:
        try:
            self.expat.Parse(self.data, True)
        except expat.ExpatError as error:
            what = f"{self.source}, line {error.lineno}: this is no XML: {expat.errors.messages[error.code]}."
            raise InputError(what, "Correct the line, or take the document anew (virsh dumpxml NAME).") from error
        assert self.root is not None
        return self.root

    def started(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > ELEMENTS:
            raise InputError(f"{self.source} has more than {ELEMENTS} elements.", "No domain is that large; name another file.")
        if len(self.stack) >= DEPTH:
            raise InputError(f"{self.source}, line {self.expat.CurrentLineNumber}: elements lie {DEPTH} deep here.", "A domain is never that deep.")
        start = self.at(self.expat.CurrentByteIndex)
        parent = self.stack[-1] if self.stack else None
        element = Element(name, self.source, self.expat.CurrentLineNumber, start, parent, dict(attributes))
        at = start + 1 + len(name)
        while found := _ATTRIBUTE.match(self.text, at):
            group = 2 if found[2] is not None else 3
            element.spans[found[1]] = found.span(group)
            at = found.end()
        close = self.text.find(">", at)
        element.inner = close + 1
        if parent is not None:
            parent.children.append(element)
            element.number = parent.counts[name] = parent.counts.get(name, 0) + 1
        else:
            self.root = element
        self.stack.append(element)

    def ended(self, name: str) -> None:
        element = self.stack.pop()
        at = self.at(self.expat.CurrentByteIndex)
        # Of <x/> expat says the end where the tag begins.
        element.end = element.inner if self.text.startswith("/>", element.inner - 2) and at <= element.inner else self.text.find(">", at) + 1

    def said(self, text: str) -> None:
        if self.stack:
            start = self.at(self.expat.CurrentByteIndex)
            element = self.stack[-1]
            element.texts.append((text, start, start + len(text)))

    def refuse(self, *_: object) -> None:
        raise InputError(
            f"{self.source}, line {self.expat.CurrentLineNumber}: this XML has a document type, and may have entities.",
            "A domain has neither; take the <!DOCTYPE …> out.",
        )
