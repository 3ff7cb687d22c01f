"""A paste as the programs printed it: without what a terminal, a mail, a web page or a log put around their lines."""

from __future__ import annotations

import html
import re

from wizard.base.text import COLOUR
from wizard.facts.snapshot import TEXT_LIMIT

LIMIT = TEXT_LIMIT
LINES = 4 << 20
HEAD = 64 << 10  # bytes that tell text from anything else
_COLOUR = re.compile(COLOUR)
_QUOTE = re.compile(r"^(?:[ \t]*[>|] ?)+", re.MULTILINE)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)\w*[ \t]*$", re.MULTILINE)
_LITERAL = re.compile(r'^\s*"(.*)",?\s*$', re.MULTILINE)
# What a job's log or a logger puts before each line; a kernel's own stamp stays, by which its lines are known.
_STAMP = re.compile(
    r"^(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?[ \t]|\[\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^\]\n]{0,12}\][ \t]"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S{1,255} (?!kernel)[\w./-]{1,64}(?:\[\d{1,10}\])?: )",
    re.MULTILINE,
)
_NUMBER = re.compile(r"^[ \t]*\d{1,6}(?:\t|:(?! ?[0-9a-f]{2}[.: \n]) ?(?=\S)|[ \t]*[|│] ?)", re.MULTILINE)
_SAMPLE = 400  # lines


def is_text(data: bytes) -> bool:
    """Whether these bytes may be text: hardly any control characters, and no zero byte."""
    head = data[:HEAD]
    odd = head.translate(None, bytes(range(0x20, 0x7F)) + b"\t\r\n\x1b" + bytes(range(0x80, 0x100)))
    return bool(head) and b"\0" not in head and len(odd) * 50 <= len(head)


def plain(data: bytes) -> str:
    """The text that was printed; bytes that are no UTF-8 are shown as escapes."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16", errors="replace")
    else:
        text = data.removeprefix(b"\xef\xbb\xbf").decode(errors="backslashreplace")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\xa0" in text:
        text = text.replace("\xa0", " ")
    if "\x1b" in text or "^[[" in text:
        text = _COLOUR.sub("", text)
    sample = text.split("\n", _SAMPLE)[:_SAMPLE]
    filled = [line for line in sample if line.strip()]
    if "&gt;" in text or "&lt;" in text:
        text = html.unescape(text) if "<device>" not in text else text
    if _most(filled, _LITERAL):
        text = _LITERAL.sub(lambda match: match[1].replace("\\t", "\t").replace('\\"', '"'), text)
    if "\n>" in text or text.startswith((">", "|")) or "\n|" in text:
        text = _QUOTE.sub("", text)
        filled = [_QUOTE.sub("", line) for line in filled]
    if "```" in text or "~~~" in text:
        text = _FENCE.sub("", text)
    if any(_STAMP.match(line) for line in filled):
        text = _STAMP.sub("", text)
        filled = [_STAMP.sub("", line) for line in filled]
    if _most(filled, _NUMBER) and not any(re.match(r"[0-9a-f]0: ", line) for line in filled):
        text = _NUMBER.sub("", text)
    return text


def _most(lines: list[str], pattern: re.Pattern[str]) -> bool:
    return len(lines) > 2 and sum(pattern.match(line) is not None for line in lines) * 10 >= len(lines) * 9
