"""The messages that a line may be, by its words, and those that it is, by its patterns: an index over all messages, made once."""

from __future__ import annotations

from functools import cached_property

import msgspec

from wizard.arch.event import EventType
from wizard.explain.messages import by_words
from wizard.explain.model import Message
from wizard.explain.strerror import read_error
from wizard.explain.template import SPLIT_BYTES, Found, Template, wanted

# Words of which a line that the kernel's table of lines knows has one row (a test holds the two together), the rarest first.
_OF_KERNEL = """
arm-smmu-v3
vfio-pci
vfio_pci
nvgrace-gpu-vfio-pci
mlx5_vfio_pci
DPC
AER error
AER recovery
pciehp Down
pciehp present
iommu-map
RLIMIT_MEMLOCK
IORT
tegra241_cmdqv
iommufd
CMD_SYNC
CMDQ
EVTQ
PRIQ
GERROR
Failure Service
inaccessible
reserve can
giving ready
header ROM
incompatible domain
attach SMMU
Failed iommu group
retaining IOMMU
remapping interrupt
secure not
received event
2-level strtab
cr0 clear
global error
restoring BARs
Relaying request
channel request
irq no
currently SMMU
register iommu
state change power
"""


_Wanted = tuple[frozenset[bytes], Template | None, Message | None]
"""The words that a line needs, and what it may be then; None for a line of the kernel's own table."""


class MayBe(msgspec.Struct, frozen=True):
    """What a line may be, by the words that it holds."""

    templates: list[tuple[Template, Message]]
    of_kernel: bool  # a line of the kernel's own table, or an event record
    cut: bool  # it holds most words of a message: one that was wrapped


class Matcher:
    """Every message, ready to be looked for. Patterns are compiled as they are needed."""

    def __init__(self) -> None:
        self._of_key: dict[bytes, list[_Wanted]] = {}
        for one in by_words():
            for wording in one.wordings:
                key, needs = wanted(wording)
                self._of_key.setdefault(key, []).append((needs, Template(wording), one))
        for words in (*map(str.split, _OF_KERNEL.split("\n")), *([kind.name] for kind in EventType)):
            if words:
                self._of_key.setdefault(words[0].encode(), []).append((frozenset(word.encode() for word in words), None, None))
        self.words = frozenset(self._of_key)

    @cached_property
    def fixed_parts(self) -> list[str]:
        """The longest fixed part of each message: what ``grep -F`` would be given."""
        from wizard.host.log.lines import LINES

        found = {max(template.fixed, key=len).strip() for some in self._of_key.values() for _, template, _ in some if template and template.fixed}
        return sorted(found | {kind.example.split(": ", 1)[-1][:20] for kind in LINES})

    def may_be(self, words: list[bytes]) -> MayBe:
        """What a line with these words may be."""
        held = set(words)
        found: list[tuple[Template, Message]] = []
        of_kernel = cut = False
        for key in self.words.intersection(held):
            for needs, template, one in self._of_key[key]:
                missing = len(needs - held)
                if template is None or one is None:
                    of_kernel = of_kernel or not missing
                elif not missing:
                    found.append((template, one))
                elif not cut and 2 * missing < len(needs) > 3:
                    cut = True
        return MayBe(found, of_kernel, cut)

    def of(self, text: str) -> MayBe:
        """As ``may_be``, of a text."""
        return self.may_be(text.encode("utf-8", "replace").translate(SPLIT_BYTES).split())

    def in_text(self, text: str) -> list[tuple[Found, Message]]:
        """The messages that a text says by their words, in order, none inside another."""
        return said(text, self.of(text).templates)


def said(text: str, templates: list[tuple[Template, Message]]) -> list[tuple[Found, Message]]:
    """Which of some wordings a text says, in order; of two that overlap the one that says more."""
    if not templates:
        return []
    found: list[tuple[int, Found, Message]] = []
    for template, one in templates:
        place = 0
        while (hit := template.find(text, place)) is not None:
            if _fits(one, text, hit):
                found.append((sum(map(len, template.fixed)), hit, one))
            place = max(hit.end, place + 1)
    if len(found) == 1:
        return [found[0][1:]]
    chosen: list[tuple[Found, Message]] = []
    for _, hit, one in sorted(found, key=lambda item: (-item[0], -len(item[1].words), item[1].start)):
        if not any(hit.start < other.end and other.start < hit.end for other, _ in chosen):
            chosen.append((hit, one))
    return sorted(chosen, key=lambda item: item[0].start)


def _fits(one: Message, text: str, hit: Found) -> bool:
    if not one.context:
        return True
    if any(word in text for word in one.context):
        return True
    if one.surely and (told := read_error(hit.words.get("errno", ""))) and told[0] in one.surely:
        return True
    if not one.alone:
        return False
    # All that is said, but for a time stamp and the like: somebody has pasted the message alone.
    return not text[: hit.start].strip(" \"'`>|-*") and not text[hit.end :].strip(" \"'`.")
