"""What a libvirt lacks for an accelerated vSMMU: by its own schema where that is installed, else by its version."""

from __future__ import annotations

from wizard.facts.model import Program

NAMES = ("libvirtd", "virtqemud")
# Definition of the schema, attribute -> the release that came with it, and how its XML writes it. NEWS does not say when accel came: after
# 11.10, and 12.8 has it.
_NEEDED: dict[tuple[str, str], tuple[tuple[int, int], str]] = {
    ("iommu", "pciBus"): ((11, 10), "<driver pciBus=…>"),
    ("iommu", "accel"): ((12, 8), "<driver accel=…> (12.8 has it)"),
    ("iommufd", "enabled"): ((12, 1), "<iommufd>"),
}


def lacks(program: Program) -> tuple[str, ...]:
    """What this libvirt has not, as its XML writes it; empty when it has all of it or nothing is known of it."""
    version = tuple(int(part) for part in (program.version or "").split(".")[:2] if part.isdecimal())
    return tuple(
        spelled
        for (element, attribute), (since, spelled) in _NEEDED.items()
        if (attribute not in program.properties.get(element, {}) if program.properties else version and version < since)
    )
