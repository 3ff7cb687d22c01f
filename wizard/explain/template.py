"""Wordings as patterns: ``IOMMU_IOAS_MAP failed: {errno}, PCI BAR?`` with its fixed words and its named parts."""

from __future__ import annotations

import re
from functools import cached_property

import msgspec

from wizard.explain.strerror import read_error

# What variable parts look like. A description of a message has N, … or %d in the place of what it varies in, and is found like the message.
_ANY = r"…|\.{2,3}|%(?:[#0-9.$lhz]*[a-zA-Z])"
_NUMBER = rf"-?\d{{1,20}}|0x[0-9a-fA-F]{{1,16}}|\b[NMXn]\b|{_ANY}"
_HEX = rf"(?:0x)?[0-9a-fA-F]{{1,16}}|0x…|\b[NX]\b|{_ANY}"
_FUNCTION = (
    rf"(?:[0-9a-fA-F]{{1,8}}:)?[0-9a-fA-F]{{2}}:[0-9a-fA-F]{{2}}[.:][0-9a-fA-F]{{1,2}}|[0-9a-fA-F]{{4}}:(?:…|\.{{2,3}})|[0-9a-f-]{{36}}|{_ANY}"
)
_KINDS = {
    "function": _FUNCTION,
    "number": _NUMBER,
    "hex": _HEX,
    "path": r"(?:[^\s'\",;:]|:(?=[^\s'\",;])){1,255}",  # a function's address has colons
    "name": r"[^\s'\",;]{1,120}",
    "device": r"[\w.:+-]{1,120}|…",
    "args": r"[^)\n]{0,200}",
    "words": r"[^\n]{1,160}?",
    "errno": r"[^\n]{1,120}?",
    "quoted": r"[^'\n]{1,160}",
    "quoted2": r'[^"\n]{1,255}',
    "opt": r"[^\n]{0,40}?",
}
_NAMED = {
    "function": "function other",
    "number": "fd iommufd id group pid limit number count bits bar slot pasid error ms bus",
    "hex": "iova size event stream address hex viommu",
    "name": "name property value driver domain type",
    "device": "device smmu",
    **{kind: kind for kind in ("errno", "path", "args", "words", "opt")},
}
_OF = {name: kind for kind, names in _NAMED.items() for name in names.split()}
_PLACE = re.compile(r"\{(\w+)(?::(\w+))?\}")
_COMMON_WORDS = """
a an and are as at be by can cannot Cannot for from has have in is it its no No not of on only or the this to was with after before when already all
device Device devices error Error failed Failed unable Unable could Could open PCI bus memory Memory Invalid invalid supported support host Host found
bridge BAR denied ACPI CPU CPUs assign iommu IOMMU group configured received domain interface process network unexpectedly bind descriptor Killed
container directory blocked INFO Parameter operation use enabled allocated address kvm KVM reset available DMA driver Out resources initialized name
number type value size file path image socket request timeout disabled missing exceeds module count mode state running process power warning
"""
_COMMON = frozenset(_COMMON_WORDS.encode().split())
_SEPARATORS = "'\"()[]{}<>,;:=!?`/\\"
SPLIT_BYTES = bytes.maketrans(_SEPARATORS.encode(), b" " * len(_SEPARATORS))
"""What stands between words: a line is filtered by its words before anything is looked for in it."""


_PLACE_BYTES = re.compile(_PLACE.pattern.encode())
_ERROR_BEHIND = re.compile(rb":? ?\{errno\}$")


def wanted(wording: str) -> tuple[bytes, frozenset[bytes]]:
    """Of a wording: the rarest of its whole words, and all of them, as a log has them: a line that lacks one is no such message.

    Words with a full stop are left out, which a quotation loses, and the error at the end, which may be in another language.
    """
    text = _PLACE_BYTES.sub(b"\0", _ERROR_BEHIND.sub(b"", wording.encode())).translate(SPLIT_BYTES)
    whole = [word for word in text.split() if b"\0" not in word and word[-1:] != b"."]
    if len(whole) > 2 and not text.rstrip().endswith(b"\0"):
        whole.pop()  # the sentence may end behind it
    return max([word for word in whole if word not in _COMMON and not word.isdigit()] or whole, key=len, default=b""), frozenset(whole)


class Template(msgspec.Struct, frozen=True, dict=True):
    """One wording: its pattern is compiled when a line holds its words."""

    text: str

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """The parts that do not vary, in order; an error at the end may be missing with its colon."""
        text = re.sub(r":? ?\{errno\}$", "", self.text)
        return tuple(part for part in re.split(r"\{\w+(?::\w+)?\}", text) if part.strip())

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The whole wording; each part is a group of its name."""
        text, tail = self.text, ""
        if text.endswith("{errno}"):
            text = re.sub(r":? ?\{errno\}$", "", text)
            tail = r"(?:\s?:?\s*(?P<errno>\S[^\n]{0,119}))?"
        pieces, end = [], 0
        seen: dict[str, int] = {}
        for place in _PLACE.finditer(text):
            pieces.append(_literal(text[end : place.start()]))
            name = place[1]
            seen[name] = seen.get(name, 0) + 1
            kind = _KINDS[place[2] or _OF[name]]
            group = name if seen[name] == 1 else f"{name}{seen[name]}"
            pieces.append(f"(?P<{group}>{kind})")
            end = place.end()
        pieces.append(_literal(text[end:]))
        return re.compile("".join(pieces) + tail)

    def words_in_order(self, line: str, start: int = 0) -> bool:
        """Whether its fixed parts stand there in their order: most lines that share a word with it end here."""
        for part in self.fixed:
            start = line.find(part.strip(), start) + 1
            if not start:
                return False
        return True

    def find(self, line: str, start: int = 0) -> Found | None:
        """The first place in a line that says it."""
        if not self.words_in_order(line, start):
            return None
        found = self.pattern.search(line, start)
        if found is None:
            return None
        words = {name: value.strip() for name, value in found.groupdict().items() if value is not None}
        end = found.end()
        if "errno" in words and (self.text.endswith("{errno}")):
            # Whatever stands there may be anything that comes behind the message: only an error's own words belong to it.
            told = read_error(words["errno"])
            if told is None:
                del words["errno"]
                end = found.start("errno")
            else:
                words["errno"] = words["errno"][: told[1]]
                end = found.start("errno") + told[1]
        return Found(found.start(), end, words)


class Found(msgspec.Struct, frozen=True):
    """Where a line says it, and what stands in its places."""

    start: int
    end: int
    words: dict[str, str]


def _literal(text: str) -> str:
    return r"\s+".join(map(re.escape, text.split(" "))) if text else ""
