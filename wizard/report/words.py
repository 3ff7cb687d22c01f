"""Anchors, signs and findings: what the parts of a report have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from wizard.base.finding import Item, Severity
from wizard.base.glyphs import UNICODE
from wizard.host.model import Accel
from wizard.report.html import Content, Markup, joined, link, tag, text

Clean = Callable[[str], str]
"""What redaction makes of a text about the same host."""

SIGN = {Accel.YES: UNICODE.yes, Accel.NO: UNICODE.no, Accel.UNKNOWN: UNICODE.unknown}
SEVERITY_SIGN = {Severity.ERROR: UNICODE.no, Severity.WARNING: UNICODE.warning, Severity.INFO: UNICODE.info}
SEVERITY_WORD = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
_SUBJECTS = 60  # of one finding, beside its count


def anchor(address: str) -> str:
    """Where a function is on the page: ``f-0000-14-00.0``."""
    return "f-" + address.replace(":", "-")


def function_link(address: str, known: Mapping[str, object], words: Content | None = None) -> Markup:
    """A function, with a way to its row where there is one."""
    shown = address if words is None else words
    return link(anchor(address), shown) if address in known else text(shown)


def verdict(accel: Accel) -> Markup:
    """A verdict with its sign."""
    return tag("span", f"{SIGN[accel]} {accel.value}", class_=accel.value)


class Findings:
    """Findings by cause, each with an anchor; a code that comes twice is numbered."""

    def __init__(self, known: Mapping[str, object], clean: Clean = str) -> None:
        self._known, self._clean = known, clean
        self._counts: dict[str, int] = {}
        self.places: dict[tuple[str, str], str] = {}  # (code, subject) -> anchor

    def articles(self, items: Iterable[Item]) -> list[Markup]:
        """Each cause whole: what, why, fix, and everything that it was found on."""
        return [self._article(item) for item in items]

    def _article(self, item: Item) -> Markup:
        one = item.finding
        self._counts[one.code] = count = self._counts.get(one.code, 0) + 1
        place = f"finding-{one.code}" + (f"-{count}" if count > 1 else "")
        for subject in item.subjects:
            self.places.setdefault((one.code, subject), place)
        parts: list[Content] = [
            tag("h3", tag("span", f"{SEVERITY_SIGN[one.severity]} {SEVERITY_WORD[one.severity]}", class_=one.severity), " ", self._clean(one.what)),
            tag("dl", tag("dt", "why"), tag("dd", self._clean(one.why)), tag("dt", "fix"), tag("dd", self._clean(one.fix)), *self._of(item)),
            tag("p", link(place, f"[{one.code}]"), class_="dim"),
        ]
        return tag("article", *parts, id=place, class_=one.severity)

    def _of(self, item: Item) -> Sequence[Markup]:
        if len(item.subjects) < 2:
            return ()
        shown = joined((function_link(subject, self._known, self._clean(subject)) for subject in item.subjects[:_SUBJECTS]), ", ")
        more = f" and {len(item.subjects) - _SUBJECTS} more" if len(item.subjects) > _SUBJECTS else ""
        return tag("dt", f"on {len(item.subjects)}"), tag("dd", shown, more)
