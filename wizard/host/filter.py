"""The words that people look for functions with: the wizard's filter, ``list FILTER`` and ``show PART-OF-A-NAME``.

Words all have to match: plain ones anywhere in what a function is known by, ``field:word`` in one field.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from wizard.host.model import Function, Host

FIELDS = ("accel", "cap", "class", "driver", "group", "id", "name", "node", "smmu", "vm")


@dataclass(frozen=True)
class Filter:
    """Words that all have to match: (field, word), with an empty field for a plain one."""

    words: tuple[tuple[str, str], ...] = ()

    @property
    def needs_verdict(self) -> bool:
        """Whether it asks for verdicts or capabilities, which take work."""
        return any(field in ("accel", "cap") for field, _ in self.words)


def parse_filter(text: str) -> Filter:
    """``nvme driver:vfio accel:yes cap:pasid``. An unknown field is a plain word."""
    words = []
    for word in text.lower().split():
        field, colon, value = word.partition(":")
        known = colon and field in FIELDS
        words.append((field, value) if known else ("", word))
    return Filter(tuple(words))


class Texts:
    """A host prepared for finding functions in it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._texts: dict[str, str] = {}

    def text(self, address: str) -> str:
        """What plain words are searched in: address, name, class, ids, driver, group, SMMU, interfaces."""
        found = self._texts.get(address)
        if found is None:
            f = self.host.functions[address].facts
            found = self._texts[address] = " ".join(
                part
                for part in (
                    f.address, f.vendor_name, f.device_name, f.class_name, f"{f.vendor[2:]}:{f.device[2:]}", f.driver, f.iommu,
                    None if f.iommu_group is None else f"group:{f.iommu_group}", " ".join(f.net), " ".join(f.block), "vf" if f.physfn else None,
                )
                if part
            ).lower()  # fmt: skip
        return found

    def search(self, words: Sequence[str]) -> set[str]:
        """The functions whose texts hold every word. It is what a letter of the filter costs on a large host: a pass for each word, no calls."""
        texts, text, found = self._texts, self.text, set(self.order)
        for word in words:
            found = {address for address in found if word in (texts.get(address) or text(address))}
        return found

    def warm(self) -> Iterator[None]:
        """Prepare all texts, a few at a time: for a worker."""
        for place, address in enumerate(self.order):
            self.text(address)
            if place % 64 == 0:
                yield

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Every address, sorted as PCI sorts."""
        return tuple(sorted(self.host.functions, key=lambda address: self.host.functions[address].address))


def matches(texts: Texts, address: str, wanted: Filter, vm: str | None) -> bool:
    """Whether a function is what the filter asks for; ``vm`` is the VM that it was given to."""
    function = texts.host.functions[address]
    text = texts.text(address)
    return all(value in text if not field else _field_matches(texts.host, function, field, value, vm) for field, value in wanted.words)


def _field_matches(host: Host, function: Function, field: str, value: str, vm: str | None) -> bool:
    facts = function.facts
    if field == "cap":
        return any(value in name and known.is_true for name, known in function.capabilities.items())
    if field == "accel":
        return not function.is_bridge and host.verdict(facts.address).accel.value.startswith(value)
    if field == "group":
        return str(function.group) == value if value else function.group is not None
    if field == "node":
        return str(function.numa_node) == value if value else function.numa_node is not None
    texts = {
        "class": f"{facts.class_} {facts.class_name or ''}",
        "driver": facts.driver or "none",
        "id": f"{function.ids} {facts.subsystem_vendor or ''}:{facts.subsystem_device or ''}",
        "name": function.name,
        "smmu": function.smmu or "none",
        "vm": vm or "none",
    }
    return value in texts[field].lower()
