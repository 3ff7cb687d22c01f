"""Which IDs lead to which SMMU, mapping by mapping: what a person asks of the table. Asked by one ID, see ``lookup``."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wizard.host.iort.model import AnySmmu, IdMapping, Iort, NamedComponent, Node, RootComplex, Smmu, SmmuV3


class Range(msgspec.Struct, frozen=True):
    """One mapping of ``node`` (a root complex, a named component, reserved memory) that leads to an SMMU."""

    node: Node
    mapping: IdMapping
    smmu: AnySmmu

    @property
    def subject(self) -> str:
        """Whose IDs they are: a segment's, a platform device's, or those of reserved memory."""
        if isinstance(self.node, RootComplex):
            return f"segment {self.node.segment:04x}"
        return self.node.path if isinstance(self.node, NamedComponent) else self.node.name

    @property
    def words(self) -> str:
        """``segment 0000, requester IDs 0x1000 to 0x13ff: StreamIDs 0x1000 to 0x13ff``, both ends counted."""
        first, last = self.mapping.output_base, self.mapping.output_last
        streams = f"StreamID {first:#x}" if first == last else f"StreamIDs {first:#x} to {last:#x}"
        if not isinstance(self.node, RootComplex):
            return f"{self.subject}: {streams}"
        return f"{self.subject}, requester IDs {self.mapping.input_base:#x} to {self.mapping.input_last:#x}: {streams}"


def ranges(table: Iort) -> Iterator[Range]:
    """Every mapping that leads to an SMMU, in table order. An SMMU's own mappings, to an ITS, are none."""
    for node in table.nodes:
        if not isinstance(node, (SmmuV3, Smmu)):
            for mapping in node.mappings:
                target = table.by_offset.get(mapping.output_reference)
                if isinstance(target, (SmmuV3, Smmu)):
                    yield Range(node, mapping, target)


def smmu_at(table: Iort | None, base: int | None) -> AnySmmu | None:
    """The SMMU whose registers are at ``base``, None where the table has none there."""
    every: tuple[AnySmmu, ...] = (*table.smmus, *table.old_smmus) if table is not None else ()
    return next((node for node in every if node.base == base), None)


Promise = bool | int | str | None
"""A flag, a number, a name; None in node revisions that do not tell."""


def promises(node: Node) -> dict[str, Promise]:
    """What the firmware promises of a root complex or an SMMU, by the table's words. ``address`` and ``width`` are bits."""
    if isinstance(node, RootComplex):
        return {
            "ats": node.ats,
            "pri": node.pri,
            "pasid": node.pasid_forward,
            "width": node.pasid_width,
            "coherent": node.memory.coherent,
            "canwbs": node.memory.canwbs,
            "address": node.address_limit,
        }
    if isinstance(node, SmmuV3):
        wired = [name for name in ("event", "pri", "gerr", "sync") if getattr(node, f"{name}_gsiv")]
        return {
            "model": node.model_name,
            "cohacc": node.cohacc,
            "httu": {0: "no", 1: "access flag", 2: "access flag and dirty state"}.get(node.httu, str(node.httu)),
            "proximity": node.proximity,
            "interrupts": f"wired: {', '.join(wired)}" if wired else "MSI",
        }
    return {"model": node.model_name, "coherent walk": node.coherent_walk} if isinstance(node, Smmu) else {}


def word(value: Promise) -> str:
    """A promise as people read it: yes, no, ``-`` where it is not told."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else "-" if value is None else str(value)
