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
_COMMON = frozenset(_COMMON_WORDS.split())
_SEPARATORS = "'\"()[]{}<>,;:=!?`/\\"
SPLIT = {ord(character): " " for character in _SEPARATORS}
SPLIT_BYTES = bytes.maketrans(_SEPARATORS.encode(), b" " * len(_SEPARATORS))
"""What stands between words: a line is filtered by its words before anything is looked for in it."""


class Template(msgspec.Struct, frozen=True, dict=True):
    """One wording: its pattern is compiled when a line holds its words."""

    text: str

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """The parts that do not vary, in order; an error at the end may be missing with its colon."""
        text = re.sub(r":? ?\{errno\}$", "", self.text)
        return tuple(part for part in re.split(r"\{\w+(?::\w+)?\}", text) if part.strip())

    @cached_property
    def key(self) -> str:
        """A whole word that is in each such message: the one that is rarest elsewhere."""
        return max(self.whole, key=lambda word: (word not in _COMMON, any(map(str.isalpha, word)), len(word) + 2 * (not word.islower())), default="")

    @cached_property
    def whole(self) -> tuple[str, ...]:
        """The whole words that each such message has; not those with a full stop, which a quotation loses."""
        text = re.sub(r":? ?\{errno\}$", "", self.text)
        return tuple(word for word in _PLACE.sub("\0", text).translate(SPLIT).split() if "\0" not in word and not word.endswith("."))

    @cached_property
    def needs(self) -> frozenset[bytes]:
        """The same, as a log has them: a line that lacks one is no such message."""
        return frozenset(word.encode() for word in self.whole)

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

    def find(self, line: str, start: int = 0) -> Found | None:
        """The first place in a line that says it."""
        place = start
        for part in self.fixed:  # in their order: most lines that share a word end here
            place = line.find(part.strip(), place)
            if place < 0:
                return None
            place += 1
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
