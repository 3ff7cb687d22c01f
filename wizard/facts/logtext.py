"""Lines of a kernel log as the kernel wrote them, whatever they went through since.

dmesg, journal and syslog put something before a line; syslog writes a tab as ``#011``, /dev/kmsg as ``\\x09``; the journal writes whole
records (``journalctl -o json`` and ``-o export``, systemd's JOURNAL_EXPORT_FORMATS); who sends a log to somebody quotes it, numbers its lines,
keeps the terminal's colours, or wraps it at the width of a window or a mail.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from wizard.base.pattern import later
from wizard.base.text import COLOUR

LINE = 2048  # characters of a line that are looked at: as long as the kernel's own messages get (PRINTK_MESSAGE_MAX)
_NARROW = 40  # columns of the narrowest window
_RECORD = 1 << 16  # characters of a record of the journal: the message and some thirty fields
_HEAD = 1 << 16  # lines that tell the width of the window: a paste is never longer
_PIECES = 6  # lines that one message may have been wrapped into: 1024 bytes at the narrowest window that anybody uses

_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DAY = r"[A-Z][a-z]{2} [ \d]\d"
_SINCE = r"(?:<[ \d.]{1,20}>)?"  # dmesg -d, journalctl -o short-delta: the time since the line before
# What stands before the message: by dmesg (-x, -T, -e, -d, --time-format iso, the raw records of /dev/kmsg), journalctl (-o short, with
# its -iso, -precise, -full, -unix and -monotonic), syslog (RFC 3164 and 5424); and [T123] and [C0] of CONFIG_PRINTK_CALLER.
_PREFIX = later(
    "(?:" + "|".join((
        r"<\d{1,3}>(?:1 )?",
        r"\d{1,4},\d{1,20},\d{1,20},[^;]{0,40};",
        r"\w{1,8} *:\w{1,8} *: ",
        rf"\[ *(?:\+?\d+\.[\da-f]+|[TC]\d+|[A-Z][a-z]{{2}} {_DAY} {_CLOCK} \d{{4}}|[A-Z][a-z]{{2}} ?\d\d? \d\d:\d\d)?(?:(?<!\[) )?{_SINCE}\] ?",
        rf"{_DAY} {_CLOCK} ",
        rf"[A-Z][a-z]{{2}} \d{{4}}-\d\d-\d\d {_CLOCK} \S{{1,40}} ",
        rf"\d{{4}}-\d\d-\d\dT{_CLOCK}\S{{0,10}} ",
        r"\d{9,11}\.\d{1,9} ",
        r"\S{1,255} (?=\[ *\d{1,9}\.\d{1,9}\] )",
        r"(?:\S{1,255} )?kernel(?:\[\d{1,10}\])?(?:: | - - - )",
    )) + ")*"
)  # fmt: skip
_COLOUR = later(COLOUR)
_QUOTE = later(r"(?:[ \t]*(?:[>|]|[*+-](?= )))+[ \t]?")
_LITERAL = later(r'\s*"(.*)",?\s*$')  # an item of a list in JSON or YAML, as Ansible prints the lines of a command
# What grep, cat -n, a pager or another syslog put before the kernel's own time stamp, or before a journal's "kernel:".
_BEFORE = later(r".{1,200}?(?=\[ *\d{1,9}\.\d{1,9}(?: <[ \d.]{1,20}>)?\] |\bkernel: |[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ kernel: )")
TAB = r"(?:#011|\\x09|\\t|\^I|\s)*"
"""White space at the head of a message: the tab that the kernel writes before the words of an event, in all that becomes of it."""

# What a message begins with: "arm-smmu-v3 arm-smmu-v3.0.auto: ", "iommu: ", "ACPI: IORT: ".
_BEGINS = later(r"(?!(?:event|client|s?sid|iova|ipa|stag|fetch_addr): |-?\d+: )[\w.+-]{1,40}(?: [\w:./+-]{1,80})?: ")
_SENTENCE = later(r"(?!Failure Mode)[A-Z][a-z]+ ")  # so does a message of no device, or the rest of one that was wrapped
# Of these it matters whether the rest is there.
_OF_INTEREST = later(r"arm-smmu|vfio|iommu|IORT|[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: ")
_COMPLETE = later(r"(?:0x[0-9a-f]{16}|received:|iommu group \d+|entries for \w+|\)|\]|\.|error -?\d+|option mask 0x[0-9a-f]+|stag: 0x[0-9a-f]+)$")
_APART = later(r"[,;)\]]\0[^:.,;)\]]|:\0[A-Za-z]|\0[\[(\"]|[a-z]\0-\d")  # no word goes on behind the one, or before the other
_LAST, _FIRST = later(r"[A-Za-z]+$"), later(r"[A-Za-z]+")
# Of what the lines are made that matter: whether a word was cut shows by the whole being one.
_WORD = later(
    r"Abort|Adding|Aliasing|Failed|Failure|Falling|Firmware|Illegal|Input|Invalid|Link|Mode|Service|StreamID|Unable|Uncorrectable|"
    r"Uncorrected|aborted|access|add|address|after|allocate|allocated|already|attach|auto|back|bus|can|cannot|cause|caused|caps|"
    r"change|client|command|commands|containment|could|data|detected|device|disable|domain|driver|enable|entered|entries|error|event|"
    r"events|failed|fatal|fault|fetch|for|from|features|giving|global|group|has|have|hwcons|hwprod|inaccessible|incompatible|inst|"
    r"iommu|invalidate|iova|lost|mapping|memory|message|not|option|overflow|overridden|power|priv|probe|ready|received|region|"
    r"register|reported|request|requested|requests|reserve|reset|resource|serious|sid|source|ssid|stag|stage|stall|state|status|"
    r"stream|support|supported|table|this|timeout|timed|translation|tree|type|unassigned|unexpected|unknown|unpriv|unsupported|up|"
    r"with|write"
)
_SIGNS = (
    later(r"\b[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: "),
    later(r"arm-smmu-v3 [\w.-]{8,40}: "),
    later(r"event 0x[0-9a-f]+ received:|: event: [A-Z_]{5,20} client: "),
)
_HALF_A_NUMBER = later(r"0x[0-9a-f]{0,15}$")


def plain(line: str) -> str:
    """Without quotes, colour and what was indented; the line's time stamp stays."""
    return _read(line)[0]


def _read(line: str) -> tuple[str, bool]:
    """``plain``, and whether a time stamp or the like stands before the message."""
    if line[:1] == "{" or line[:8] == "MESSAGE=":
        line = _of_journal(line)
    line = line[:LINE]
    if "&" in line and ";" in line:  # of a web page, or a mail
        import html  # its table of names takes as long to load as a log of a thousand lines to read

        line = html.unescape(line)
    if "[" in line and ("\x1b" in line or "#033" in line or "^[" in line or "\\x1b" in line or "ESC[" in line):
        line = _COLOUR.sub("", line)
    if line[:1] == "[" and line[1:2] in " 0123456789":  # dmesg's own stamp: nearly every line of nearly every log
        return line, True
    if line[:1] in "> |\t*+-":
        quote = _QUOTE.match(line)
        line = (line[quote.end() :] if quote else line).lstrip()
    if line[:1] == '"' and (literal := _LITERAL.match(line)):
        line = literal[1].replace('\\"', '"')
    stamped = _stamped(line)
    if not stamped and (before := _BEFORE.match(line)):
        return line[before.end() :], True
    return line, stamped


def _of_journal(line: str) -> str:
    """The message of one record of the journal, empty where the kernel did not say it; the line itself where it is no such record."""
    if line[:1] == "M":
        return "kernel: " + line.removeprefix("MESSAGE=")
    import json  # what msgspec refuses of it, a journal may hold

    try:
        record = json.loads(line[:_RECORD])
    except (ValueError, RecursionError):
        return line
    said = record.get("MESSAGE")
    if isinstance(said, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in said):  # what is no text, byte by byte
        said = bytes(said).decode(errors="replace")
    if not isinstance(said, str):
        return line
    return "kernel: " + said if record.get("_TRANSPORT", "kernel") == "kernel" else ""


def message(line: str) -> str:
    """The line as the kernel wrote it: without what dmesg, journal or syslog put before."""
    return unstamped(plain(line))


def unstamped(line: str) -> str:
    """As ``message``, of a line that ``whole`` or ``plain`` gave."""
    match = _PREFIX.match(line)
    return line[match.end() if match else 0 :].rstrip()


def whole(lines: Iterable[str]) -> Iterator[str]:
    """Each message on one line: what was wrapped is joined again, behind the time stamp of its first part."""
    return (line for _, line in placed(lines))


def placed(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """As ``whole``, each message with the place of the line that it begins in, from 0."""
    lines = lines if isinstance(lines, list | tuple) else list(lines)
    head = lines[:_HEAD]
    read = list(map(_read, head))
    window = _window(head, read)
    open_line, pieces, behind, full = "", 0, False, False  # behind: a time stamp; full: the line before went to the edge of the window
    start = 0
    for place, raw in enumerate(lines):
        line, stamped = read[place] if place < _HEAD else _read(raw)
        if not stamped and open_line and pieces < _PIECES and (_cut(behind, line) if full else _continues(open_line, behind, line)):
            open_line = _joined(open_line, _rest(raw) if full else line, full=full)[:LINE]
            behind = behind or _stamped(open_line)  # a stamp may be cut as well
            pieces += 1
        else:
            if open_line:
                yield start, open_line
            open_line, behind, pieces, start = line, stamped, 1, place
        full = window is not None and _size(raw) == window
    if open_line:
        yield start, open_line


def _size(raw: str) -> int:
    return len(raw.rstrip("\r\n"))


def _window(lines: Sequence[str], read: list[tuple[str, bool]]) -> int | None:
    """The width of the window that cut the lines, None where none did: most lines without their rest are that long, and none among them longer."""
    broken = [place for place, (rest, stamped) in enumerate(read[1:]) if not stamped and rest and _size(lines[place]) > _NARROW]
    broken = [place for place in broken if not _BEGINS.match(read[place + 1][0])]
    if not broken:
        return None
    [(width, count)] = Counter(_size(lines[place]) for place in broken).most_common(1)
    longest = max(map(_size, lines[broken[0] : broken[-1] + 2]))
    return width if count > 1 and count > len(broken) // 2 and width == longest else None


def _rest(raw: str) -> str:
    """A line as it was cut: with the space that it may begin with."""
    quote = _QUOTE.match(raw) if raw[:1] in ">|" else None
    return (raw[quote.end() :] if quote else raw).rstrip("\r\n")


def _cut(behind: bool, line: str) -> bool:
    """Whether a line without a time stamp is the rest of one that went to the edge of the window."""
    return line != "" and (behind or not _BEGINS.match(line))


def _continues(before: str, behind: bool, line: str) -> bool:
    """Whether a line without a time stamp is the rest of the one before (``behind``: that has one)."""
    if not line:
        return False
    if not _OF_INTEREST.search(before) and not behind:
        return False
    # Until its colon has come, a message has not even begun; behind nothing but a stamp all of it is on the next line.
    begun = ":" in unstamped(before)
    if begun and _new(line, behind_a_stamp=behind):
        return False
    return not _COMPLETE.search(before.rstrip())


def _new(line: str, *, behind_a_stamp: bool) -> bool:
    """Whether a line without a time stamp looks like a message of its own: where the one before has a stamp, it has to name a device."""
    begins = _BEGINS.match(line)
    if behind_a_stamp:
        return begins is not None and _OF_INTEREST.search(begins[0]) is not None
    return begins is not None or _SENTENCE.match(line) is not None


def _stamped(line: str) -> bool:
    match = _PREFIX.match(line)
    return bool(match and match.end())


def _joined(before: str, line: str, *, full: bool) -> str:
    """A window cuts in the middle of a word, a mail program at the space that is gone then; ``full``: it was a window."""
    cut, spaced = before + line, f"{before.rstrip()} {line.lstrip()}"
    half = _HALF_A_NUMBER.search(before)
    if half and re.match(rf"[0-9a-f]{{{18 - len(half[0])}}}(?![0-9a-f])", line):
        return cut
    told = _understood(cut) - _understood(spaced)
    ends, begins = _LAST.search(before), _FIRST.match(line)
    if not told and ends and begins:
        told = bool(_WORD.fullmatch(ends[0] + begins[0])) - bool(_WORD.fullmatch(ends[0]) or _WORD.fullmatch(begins[0]))
    return cut if told > 0 or (told == 0 and full and not _APART.search(f"{before[-1:]}\0{line[:2]}")) else spaced


def _understood(text: str) -> int:
    return sum(pattern.search(text) is not None for pattern in _SIGNS)
