"""Every message that is known, for people, for other programs, and as docs/messages.md."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wizard.explain.messages import every
from wizard.explain.messages.kernel_lines import OF_LINES
from wizard.explain.model import By, Message, Proof
from wizard.explain.versions import Read, of_message

SCHEMA = 1


class KnownCause(msgspec.Struct, frozen=True):
    """What may be behind a message. ``finding`` is a code of docs/findings.md, or empty; ``errors`` the errors with which it comes."""

    finding: str
    because: str
    fix: str
    errors: tuple[str, ...]


class KnownMessage(msgspec.Struct, frozen=True):
    """A message as it is declared: ``texts`` with their variable parts in braces, ``old`` those of versions before."""

    id: str
    by: str
    nature: str
    texts: tuple[str, ...]
    old: tuple[str, ...]
    means: str
    rules_out: str
    follows: tuple[str, ...]
    causes: tuple[KnownCause, ...]
    fix: str
    where: str
    known: str  # how the words are known
    since: str  # first version in whose source a wording was read: 10.0, "8.2 < 9.2" between two that were looked at, "≤ 5.2" for the oldest
    until: str  # last version that has one, empty while the newest has
    read: tuple[str, ...] = ()  # where each wording was read last, in the order of ``texts`` and ``old``; empty for one that nobody read


class Listing(msgspec.Struct, frozen=True):
    """The output of ``explain --list --json``."""

    schema: int
    messages: tuple[KnownMessage, ...]


def ordered() -> list[Message]:
    """By who says it, then by the text."""
    order = list(By)
    return sorted(every(), key=lambda one: (order.index(one.by), one.texts[0].lower()))


def listed() -> Listing:
    """All of them."""
    return Listing(SCHEMA, tuple(map(_view, ordered())))


def _view(one: Message) -> KnownMessage:
    found = {row.text: row for row in of_message(one)}
    rows = sorted((row for row in found.values() if row.since), key=lambda row: row.order)
    causes = tuple(KnownCause(cause.code, cause.because, cause.fix, cause.errors) for cause in one.causes)
    return KnownMessage(
        one.id,
        one.by,
        one.nature,
        one.texts,
        one.old,
        one.means,
        one.rules_out,
        one.follows,
        causes,
        one.fix,
        one.where,
        one.proof,
        rows[0].since if rows else "",
        "" if not rows or any(not row.last for row in rows) else rows[-1].last,
        tuple(found[text].source if text in found else "" for text in one.wordings),
    )


def table_lines() -> Iterator[str]:
    """One line for each wording: who says it, what, which findings it leads to."""
    for one in ordered():
        codes = ", ".join(dict.fromkeys(cause.code for cause in one.causes if cause.code)) or one.nature
        for text in one.wordings:
            yield f"{one.by}: {text}  ({codes})"


_HEAD = """# Messages

What QEMU, libvirt, the kernel, a guest, firmware, drivers and the tools around them say, what it means, and what to do. `smmu-wizard explain` finds
these in a log or a paste, tells the first cause, and with a host (`--replay`, or on the host itself) and `--profile` which cause holds there.
Findings are explained in [findings.md](findings.md).

Braces mark what varies. Behind a wording stands in which source it was read, and since when it is said: `8.2 < 9.2` is a version between two that
were looked at, `≤ 5.2` the oldest one or one before. In parts: the source puts the words together. Assumed: nobody has read it in a source.

This file is generated from the messages: `scripts/docs-findings` writes it, and a test says when it is out of date.
"""


def document() -> str:
    """docs/messages.md: an index by the text, then every message by who says it."""
    some = ordered()
    parts = [_HEAD, "## Index", ""]
    index = sorted({(_shown(text), one.id) for one in some for text in one.wordings}, key=lambda entry: (entry[0].lstrip("`{['\"-").lower(), entry))
    parts += [f"- [{text}](#message-{id})" for text, id in index]
    for by in By:
        parts += ["", f"## {by.value}"]
        for one in some:
            if one.by is by:
                parts += ["", *_entry(one)]
    return "\n".join(parts) + "\n"


def link(one: Message) -> str:
    """A message from another page of the documentation: its newest wording."""
    return f"[{_shown(one.texts[0])}](messages.md#message-{one.id})"


def _shown(text: str) -> str:
    return f"`{text}`" if "`" not in text else f"`` {text} ``"


def _entry(one: Message) -> Iterator[str]:
    yield f'<a id="message-{one.id}"></a>'
    yield ""
    found = {row.text: row for row in of_message(one)}
    for text in one.wordings:
        older = " (older)" if text in one.old else ""
        yield f"**{_shown(text)}**{older}{_read(found.get(text), one)}  "
    yield f"*{one.nature}*; {one.where} ({one.proof})"
    yield ""
    yield _escaped(one.means) + (f" Rules out: {_escaped(one.rules_out)}" if one.rules_out else "")
    yield ""
    for cause in one.causes:
        code = f"[{cause.code}](findings.md#{cause.code}): " if cause.code else ""
        with_error = f" (with {', '.join(cause.errors)})" if cause.errors else ""
        yield f"- {code}{_escaped(cause.because)}{with_error} *{_escaped(cause.fix)}*"
    if one.fix:
        yield f"- *{_escaped(one.fix)}*"
    if one.follows:
        before = ", ".join("an event of the SMMU" if name == "event" else f"[{name}](#message-{name})" for name in one.follows)
        yield f"- Follows from what came before it: {before}"


def _read(row: Read | None, one: Message) -> str:
    """Where a wording was read, and since and until when it is said; that nobody read it, unless a program was made to say it or has it in itself."""
    if row is None:
        return " (assumed)" if one.proof is Proof.SOURCE and one.where != OF_LINES and not one.id.startswith("event-") else ""
    return f" ({row.source}" + (f"; since {row.since}" if row.since else "") + (f", until {row.last}" if row.last and row.since else "") + ")"


def _escaped(text: str) -> str:
    """Text of a finding may hold what Markdown takes for a tag."""
    return text.replace("<", "&lt;")
