"""Lines of a kernel log as the kernel wrote them, whatever they went through since.

dmesg, journal and syslog put something before a line; syslog writes a tab as ``#011``, /dev/kmsg as ``\\x09``; who sends a log to somebody
quotes it, keeps the terminal's colours, or wraps it at the width of a window or a mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

LINE = 2048  # characters of a line that are looked at: as long as the kernel's own messages get (PRINTK_MESSAGE_MAX)
_PIECES = 6  # lines that one message may have been wrapped into: 1024 bytes at the narrowest window that anybody uses

_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_DAY = r"[A-Z][a-z]{2} [ \d]\d"
# What stands before the message: by dmesg (-x, -T, -e, -d, --time-format iso, the raw records of /dev/kmsg), journalctl (-o short, with
# its -iso, -precise, -full, -unix and -monotonic), syslog (RFC 3164 and 5424); and [T123] and [C0] of CONFIG_PRINTK_CALLER.
_PREFIX = re.compile(
    "(?:" + "|".join((
        r"<\d{1,3}>(?:1 )?",
        r"\d{1,4},\d{1,20},\d{1,20},[^;]{0,40};",
        r"\w{1,8} *:\w{1,8} *: ",
        rf"\[ *(?:\+?\d+\.[\da-f]+|[TC]\d+|[A-Z][a-z]{{2}} {_DAY} {_CLOCK} \d{{4}}|[A-Z][a-z]{{2}} ?\d\d? \d\d:\d\d)\] ?",
        rf"{_DAY} {_CLOCK} ",
        rf"[A-Z][a-z]{{2}} \d{{4}}-\d\d-\d\d {_CLOCK} \S{{1,40}} ",
        rf"\d{{4}}-\d\d-\d\dT{_CLOCK}\S{{0,10}} ",
        r"\d{9,11}\.\d{1,9} ",
        r"(?:\S{1,255} )?kernel(?:\[\d{1,10}\])?(?:: | - - - )",
    )) + ")*"
)  # fmt: skip
# Colour and the like: as the terminal got it, as syslog escapes it, as `cat -v` and less show it.
_COLOUR = re.compile(r"(?:\x1b|#033|\\x1b|\^\[|\bESC)\[[\d;?]{0,20}[A-Za-z]")
_QUOTE = re.compile(r"(?:[ \t]*[>|])+[ \t]?")
TAB = r"(?:#011|\\x09|\\t|\^I|\s)*"
"""White space at the head of a message: the tab that the kernel writes before the words of an event, in all that becomes of it."""

# What a message begins with: "arm-smmu-v3 arm-smmu-v3.0.auto: ", "iommu: ", "ACPI: IORT: ".
_BEGINS = re.compile(r"(?!(?:event|client|s?sid|iova|ipa|stag|fetch_addr): )[\w.+-]{1,40}(?: [\w:./+-]{1,80})?: |[A-Z][a-z]+ ")
# Of these it matters whether the rest is there.
_OF_INTEREST = re.compile(r"arm-smmu|vfio|iommu|IORT|[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]: ")
_COMPLETE = re.compile(
    r"(?:0x[0-9a-f]{16}|received:|iommu group \d+|entries for \w+|\)|\]|\.|error -?\d+|option mask 0x[0-9a-f]+|stag: 0x[0-9a-f]+)$"
)
_SIGNS = (re.compile(r"arm-smmu-v3 [\w.-]{8,40}: "), re.compile(r"event 0x[0-9a-f]+ received:|: event: [A-Z_]{5,20} client: "))
_HALF_A_NUMBER = re.compile(r"0x[0-9a-f]{0,15}$")


def plain(line: str) -> str:
    """Without quotes, colour and what was indented; the line's time stamp stays."""
    line = line[:LINE]
    if "[" in line and ("\x1b" in line or "#033" in line or "^[" in line or "\\x1b" in line or "ESC[" in line):
        line = _COLOUR.sub("", line)
    if line[:1] in "> |\t":
        quote = _QUOTE.match(line)
        line = (line[quote.end() :] if quote else line).lstrip()
    return line


def message(line: str) -> str:
    """The line as the kernel wrote it: without what dmesg, journal or syslog put before."""
    return unstamped(plain(line))


def unstamped(line: str) -> str:
    """As ``message``, of a line that ``whole`` or ``plain`` gave."""
    match = _PREFIX.match(line)
    return line[match.end() if match else 0 :].rstrip()


def whole(lines: Iterable[str]) -> Iterator[str]:
    """Each message on one line: what was wrapped is joined again, behind the time stamp of its first part."""
    open_line, pieces = "", 0
    for line in map(plain, lines):
        begins = line[:1] == "[" and line[1:2] in " 0123456789"  # dmesg's own stamp: nearly every line of nearly every log
        if not begins and open_line and pieces < _PIECES and _continues(open_line, line):
            before = open_line.rstrip()
            open_line = (before + _joint(before, line) + line)[:LINE]
            pieces += 1
            continue
        if open_line:
            yield open_line
        open_line, pieces = line, 1
    if open_line:
        yield open_line


def _continues(before: str, line: str) -> bool:
    if not line:
        return False
    if not _OF_INTEREST.search(before):
        # Nothing but a time stamp: what it belongs to is on the next line.
        return bool(_PREFIX.fullmatch(before.rstrip() + " ")) and not _stamped(line)
    # Until its colon has come, a message has not even begun.
    begun = ":" in unstamped(before)
    if _stamped(line) or (begun and _BEGINS.match(line)):
        return False
    return not _COMPLETE.search(before.rstrip())


def _stamped(line: str) -> bool:
    match = _PREFIX.match(line)
    return bool(match and match.end())


def _joint(before: str, line: str) -> str:
    """A window cuts in the middle of a word, a mail program at the space that is gone then."""
    half = _HALF_A_NUMBER.search(before)
    if half and re.match(rf"[0-9a-f]{{{18 - len(half[0])}}}(?![0-9a-f])", line):
        return ""
    return "" if _understood(before + line) > _understood(f"{before} {line}") else " "


def _understood(text: str) -> int:
    return sum(pattern.search(text) is not None for pattern in _SIGNS)
