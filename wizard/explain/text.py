"""A report for people: the first cause with what to do about it, then what follows from it, then what else was said."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.text import plural, visible
from wizard.explain.model import Nature
from wizard.explain.order import Role
from wizard.explain.report import MessageView, Report

_STATES = {"holds": "holds here", "ruled out": "ruled out", "not known": "not known here", "possible": "may be"}
_OTHERS = 40  # messages beside the first cause that are told one by one
_LONG = 300  # characters of a message that are shown


def lines(report: Report) -> Iterator[str]:
    """All of it."""
    yield _counted(report)
    if report.host:
        yield f"Held against {visible(report.host)}."
    if report.host_error:
        yield visible(report.host_error)
    if not report.messages:
        yield "Nothing in it is a message that this program knows: nothing is guessed. `smmu-wizard explain --list` shows what it knows."
        return
    if report.first is not None:
        first = report.messages[report.first]
        yield ""
        alone = first.nature == Nature.CONSEQUENCE.value and not first.causes
        yield from _whole(first, "It only says that something failed; the cause is not in this text" if alone else "First cause")
    rest = [(place, message) for place, message in enumerate(report.messages) if place != report.first]
    for role, title in (
        (Role.FOLLOWS, "Follows from it"),
        (Role.SAME, "The same cause"),
        (Role.ALSO, "Also said"),
        (Role.HARMLESS, "Harmless"),
    ):
        some = [message for _, message in rest if message.role == role.value]
        if not some:
            continue
        yield ""
        yield f"{title}:"
        for message in some[:_OTHERS]:
            yield from _short(message, report, whole=role is Role.ALSO)
        if len(some) > _OTHERS:
            yield f"  and {len(some) - _OTHERS} more (see --json)"


def _counted(report: Report) -> str:
    known = plural(len(report.messages), "message") + (" or more" if report.more else "")
    of = f" in {plural(report.recognised, 'line')} of {report.lines}" if report.lines > 1 else ""
    unknown = (
        f"; {plural(report.unknown, 'line was', 'lines were')} not recognised, and {'is' if report.unknown == 1 else 'are'} not explained"
        if report.unknown
        else ""
    )
    return f"{known}{of}{unknown}."


def _title(message: MessageView) -> str:
    times = f" ({message.count} times)" if message.count > 1 else ""
    text = message.text if len(message.text) <= _LONG else message.text[:_LONG] + " …"
    return f"line {message.line}, {message.by}{times}: {visible(text)}"


def _whole(message: MessageView, title: str) -> Iterator[str]:
    yield f"{title}: {_title(message)}"
    yield from _body(message, "  ")


def _body(message: MessageView, indent: str) -> Iterator[str]:
    yield f"{indent}means: {visible(message.means)}"
    if message.event is not None:
        said = message.event.said or "its words were not printed"
        yield f"{indent}record: {message.event.name or 'no name'} ({message.event.number}): {visible(said)}"
    for part in message.parts:
        if part.means:
            yield f"{indent}{part.name} {visible(part.value)}: {visible(part.means)}"
    if message.rules_out:
        yield f"{indent}rules out: {visible(message.rules_out)}"
    for cause in message.causes:
        code = f" [{cause.finding}]" if cause.finding else ""
        yield f"{indent}{_STATES.get(cause.state, cause.state)}{code}: {visible(cause.because)}"
        if cause.by:
            yield f"{indent}  by: {visible(cause.by)}"
        if cause.state != "ruled out":
            yield f"{indent}  fix: {visible(cause.fix)}"
    if message.fix:
        yield f"{indent}fix: {visible(message.fix)}"


def _short(message: MessageView, report: Report, *, whole: bool) -> Iterator[str]:
    yield f"  {_title(message)}"
    if whole:
        yield from _body(message, "    ")
    else:
        yield f"    {visible(message.means)}"
        if message.of is not None and message.of != report.first and message.role == Role.FOLLOWS.value:
            yield f"    It follows from line {report.messages[message.of].line}."
