"""Standard output is data only; everything else goes to standard error. Where either is a terminal, it is written for who looks at it."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from wizard.base.errors import UsageError
from wizard.base.finding import Finding, Item, Severity
from wizard.base.text import plural, visible, visible_json, visible_lines
from wizard.cli.lines import PIPE, SIGN, Face, Line, Span, drawn, line
from wizard.cli.terminal import Page, face_of, is_terminal, pager_of, size_of

SEVERITIES = {"error": Severity.ERROR, "warning": Severity.WARNING, "note": Severity.INFO}
"""The words of --severity, worst first."""
SEVERITY_ROLE = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.INFO: "info"}
_SIGN = {Severity.ERROR: "no", Severity.WARNING: "warning", Severity.INFO: "info"}


class _Talk:
    """How one run of the program talks: the faces of its two streams, its page, and what it was asked to leave out."""

    def __init__(self) -> None:
        self.out = self.err = PIPE
        self.page: Page | None = None
        self.quiet = False
        self.shown = frozenset(Severity)


_talk = _Talk()


def begin(arguments: argparse.Namespace) -> None:
    """Look at the streams, and heed --color, --no-pager, --quiet and --severity."""
    global _talk
    _talk = talk = _Talk()
    when = arguments.color
    talk.out, talk.err = face_of(sys.stdout, os.environ, when), face_of(sys.stderr, os.environ, when)
    talk.quiet = getattr(arguments, "quiet", False)
    words = list(SEVERITIES)
    least = "error" if talk.quiet else getattr(arguments, "severity", None) or "note"
    talk.shown = frozenset(SEVERITIES[word] for word in words[: words.index(least) + 1])
    if arguments.paged and not arguments.no_pager and is_terminal(sys.stdout) and (pager := pager_of(os.environ)):
        talk.page = Page(sys.stdout, size_of(sys.stdout, os.environ)[1], pager)


def end() -> None:
    """Write what is held back, or wait for the pager."""
    global _talk
    page, _talk = _talk.page, _Talk()
    if page is not None:
        page.finish()


def face() -> Face:
    """How standard output looks."""
    return _talk.out


def quiet() -> bool:
    """Whether only errors were asked for."""
    return _talk.quiet


def put(text: str) -> None:
    """Text as it is, on standard output, or in its pager."""
    (_talk.page or sys.stdout).write(text)


def print_json(value: Any) -> None:
    """A struct as indented JSON on standard output."""
    print_json_pieces([msgspec.json.format(msgspec.json.encode(value), indent=2)])


def print_json_pieces(pieces: Iterable[bytes]) -> None:
    """Indented JSON that was made in pieces, on standard output."""
    for piece in pieces:
        text = piece.decode()
        # The encoder writes the first 32 characters as escapes itself: of ASCII, DEL alone is left to be one.
        put(text if text.isascii() and "\x7f" not in text else visible_json(text))
    put("\n")


def print_lines(lines: Iterable[str]) -> None:
    """Text for people on standard output. Whatever came from outside, nothing that a terminal would act on gets through here."""
    if _talk.out == PIPE:
        text = "\n".join(map(visible_lines, lines))
    else:
        text = "\n".join(row for one in lines for row in drawn(one, _talk.out))
    if text:
        put(text + "\n")


def say(text: str) -> None:
    """A remark for the person, not data; none where --quiet asks for none."""
    if not _talk.quiet:
        say_lines([text])


def say_lines(lines: Iterable[str]) -> None:
    """What has to be said beside the data. While a pager has the screen, it goes there, as git does it."""
    text = "\n".join(row for one in lines for row in drawn(one, _talk.err))
    if not text:
        return
    if _talk.page is not None and _talk.page.running and is_terminal(sys.stderr):
        _talk.page.write(text + "\n")
    else:
        print(text, file=sys.stderr)


def say_findings(items: Iterable[Item]) -> None:
    """Findings beside the data, by cause, with their count where somebody looks at them."""
    found = list(items)
    say_lines([*item_lines(found), *(summary(found) if _talk.err != PIPE else ())])


def print_findings(items: Iterable[Item]) -> None:
    """Findings as data, by cause; the count of them is the caller's."""
    print_lines(item_lines(items))


def finding_lines(findings: Iterable[Finding]) -> Iterator[Line]:
    """Each finding as three lines: what, why, fix; with --quiet only what, of errors."""
    for finding in findings:
        if finding.severity not in _talk.shown:
            continue
        role = SEVERITY_ROLE[finding.severity]
        sign = (_SIGN[finding.severity], SIGN)
        yield line("  ", sign, (finding.severity, role), f" [{finding.code}] ", (finding.what, "head"), hang=4)
        if not _talk.quiet:
            yield line("    ", ("why:", "dim"), f" {finding.why}", hang=9)
            yield line("    ", ("fix:", "accent"), f" {finding.fix}", hang=9)


_ALSO = 12  # further subjects of one finding that are named before they are only counted


def item_lines(items: Iterable[Item]) -> Iterator[Line]:
    """Findings by cause: the first of each whole, and what else it was found on."""
    for item in items:
        yield from finding_lines([item.finding])
        if len(item.subjects) > 1 and item.finding.severity in _talk.shown:
            more = len(item.subjects) - 1 - _ALSO
            rest = f" and {more} more (see --json)" if more > 0 else ""
            yield line(f"    also ({len(item.subjects)} in all): {', '.join(item.subjects[1 : 1 + _ALSO])}{rest}", hang=9)


def counted(items: Sequence[Item]) -> list[Span]:
    """``1 error, 3 warnings, 2 notes``: of causes, which are what one can do something about."""
    counts = Counter(item.finding.severity for item in items)
    spans: list[Span] = []
    for word, severity in SEVERITIES.items():
        if counts[severity]:
            spans += [(", ", "")] if spans else []
            spans.append((plural(counts[severity], word), SEVERITY_ROLE[severity]))
    return spans


def summary(items: Sequence[Item]) -> list[Line]:
    """The last line of findings on a terminal; nothing is left out of the count, whatever --severity shows."""
    hidden = sum(item.finding.severity not in _talk.shown for item in items)
    spans = counted(items)
    return [line(*spans, f" ({hidden} not shown)" if hidden else "")] if spans and not _talk.quiet else []


def confirmed(question: str, yes: bool, nobody: str) -> bool:
    """Whether the person agrees; with --yes nobody is asked. Raises ``UsageError`` with ``nobody`` where nobody is there."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(nobody, "Give --yes to confirm.")
    print(f"{visible_lines(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def emit(arguments: argparse.Namespace, text: str, *, mode: int | None = None) -> None:
    """``text`` to -o FILE, whole or not at all, or to standard output."""
    if arguments.output:
        from pathlib import Path

        from wizard.base.files import PLAIN, write_atomic

        write_atomic(Path(arguments.output), text, force=arguments.force, mode=PLAIN if mode is None else mode)
        say(f"Wrote {visible(arguments.output)}.")
    else:
        put(text if text.endswith("\n") else text + "\n")


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be; the last one is free."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)] if rows else []
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows)


def table_lines(rows: Sequence[tuple[Span | str, ...]]) -> Iterator[str]:
    """The same for a face: where lines are wrapped, the last column goes on below itself. A pipe gets it as one text."""
    if _talk.out == PIPE:
        yield table([tuple(cell if isinstance(cell, str) else cell[0] for cell in row) for row in rows])
        return
    made = [[(cell, "") if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(len(row[column][0]) for row in made) for column in range(len(made[0]) - 1)] if made else []
    hang = sum(width + 2 for width in widths)
    for row in made:
        cells = [(text.ljust(width) + "  ", role) for (text, role), width in zip(row, widths, strict=False)]
        last = row[-1][0].rstrip()
        yield line(*cells, (last, row[-1][1]), hang=hang) if last else line(*cells[:-1], (cells[-1][0].rstrip(), cells[-1][1]), hang=hang)
