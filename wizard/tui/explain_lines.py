"""What the screen of messages shows: the messages by their roles, and one of them whole. No Textual here."""

from __future__ import annotations

from wizard.base.glyphs import Glyphs
from wizard.explain.order import Role
from wizard.explain.report import CauseView, MessageView, Report
from wizard.tui.lines import BLANK, Line, cut, heading, line, wrap

_TITLES = {
    Role.FIRST: "First cause", Role.FOLLOWS: "Follows from it", Role.SAME: "The same cause", Role.ALSO: "Also said", Role.HARMLESS: "Harmless",
}  # fmt: skip
_ROLE = {"error": "bad", "warning": "warn", "state": "info", "harmless": "dim", "consequence": "dim"}
_STATE = {"holds": ("holds here", "bad"), "ruled out": ("ruled out", "good"), "not known": ("not known here", "warn"), "possible": ("may be", "warn")}


def start_lines(width: int) -> list[Line]:
    """Before anything was pasted."""
    words = (
        "Paste what QEMU, libvirt, a kernel, a guest or a driver said: one message, or a whole log. The first cause is named, what follows from it, "
        "and which cause holds on this host and with these VMs."
    )
    return [heading("Nothing to explain yet"), *wrap(words, width), BLANK, *wrap("t types a message, o opens a log.", width, "dim")]


def list_lines(report: Report, width: int, glyphs: Glyphs) -> list[Line]:
    """A line for each message, by its role."""
    unknown = f"; {report.unknown} not recognised, and not explained" if report.unknown else ""
    lines = [line((f"{len(report.messages)} messages in {report.recognised} of {report.lines} lines{unknown}", "dim"))]
    if not report.messages:
        return [*lines, *wrap("Nothing in it is a message that this program knows: nothing is guessed.", width)]
    for role, title in _TITLES.items():
        some = [(place, one) for place, one in enumerate(report.messages) if one.role == role.value]
        if some:
            lines.append(heading(title))
            lines += [_line(one, place, width, glyphs) for place, one in some]
    return lines


def _line(one: MessageView, place: int, width: int, glyphs: Glyphs) -> Line:
    mark = {"error": glyphs.no, "warning": glyphs.warning}.get(one.nature, glyphs.info)
    times = f" {'x' if glyphs.ascii else '×'}{one.count}" if one.count > 1 else ""
    head = f"  {mark} "
    return line((head, _ROLE.get(one.nature, "")), cut(one.text, width - len(head) - len(times), glyphs.more).rstrip(), (times, "accent"), key=place)


def whole_lines(one: MessageView, width: int, glyphs: Glyphs) -> list[Line]:
    """A message with all that is known of it."""
    lines = [*wrap(one.text, width, "bold"), *wrap(f"line {one.line}, {one.by}", width, "dim"), *wrap(one.means, width)]
    if one.event is not None:
        lines += wrap(f"{one.event.name or one.event.number}: {one.event.said or 'its words were not printed'}", width)
    # What to do first: on a small screen the rest is below the fold.
    for cause in one.causes:
        lines += _cause(cause, width)
    if one.fix:
        lines += wrap(one.fix, width, first="  fix  ", lead="accent")
    if one.rules_out:
        lines += wrap(one.rules_out, width, first="  rules out  ", lead="accent")
    for part in one.parts:
        if part.means:
            lines += wrap(f"{part.name} {part.value}: {part.means}", width, "dim", first="  ")
    return lines


def _cause(cause: CauseView, width: int) -> list[Line]:
    words, role = _STATE.get(cause.state, (cause.state, ""))
    code = f" [{cause.finding}]" if cause.finding else ""
    lines = [line((words, role), (code, "dim")), *wrap(cause.because, width, first="  ")]
    if cause.by:
        lines += wrap(cause.by, width, "dim", first="  by   ", lead="dim")
    if cause.state != "ruled out":
        lines += wrap(cause.fix, width, first="  fix  ", lead="accent")
    return lines
