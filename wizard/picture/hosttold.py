"""What stands behind a cell of the host's picture: the value, where it is known from, and what else is known of it."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.text import size, visible
from wizard.host.known import Known, Source
from wizard.host.model import Host, Smmu
from wizard.picture.hostmap import Band, HostMap
from wizard.picture.hosttext import gib

MEANINGS = {
    "nesting": "Both stages at once: the guest's own tables, checked by the host's. Without it there is no acceleration.",
    "s2fwb": "Stage 2 decides over caching. Without it the root complex has to promise CANWBS, or a guest could reach memory past the caches.",
    "oas": "Bits of the addresses that come out: memory and BARs of a guest have to lie below.",
    "ssidsize": "Bits of a PASID: none means that a function has one address space.",
    "ats": "The function may keep translations itself. It is trusted with the host's addresses then.",
    "ril": "One command ends a whole range of translations: unmapping is cheaper.",
    "cmdqv": "The guest has a command queue of its own, and ends translations without a word to QEMU (NVIDIA).",
    "granules": "Page sizes that tables may have, in KiB: the guest's kernel has to use one of them.",
}
"""What each column is, for people who have not met it."""


def cell_told(host: Host, smmu: str, name: str, picture: HostMap) -> Iterator[tuple[str, str]]:
    """(label, words) of one capability of one SMMU; a label that is empty goes on with the one above."""
    found = host.smmus[smmu]
    cell = next(cell for cell in picture.row(smmu).cells if cell.name == name)
    yield "what", MEANINGS[name]
    for part, known in cell.parts:
        yield part, f"{visible(known.show())}, as this kernel uses it"
        yield "known from", _source(known)
        has = found.hardware.get(part)
        if has is not None and (has.value, has.source) != (known.value, known.source):
            yield "hardware", f"{visible(has.show())}: {_source(has)}"
    if not any(known.measured for _, known in cell.parts):
        yield "to learn it", _ask(found)


def _source(known: Known) -> str:
    words = {
        Source.PROBE: "a probe: iommufd was asked to do it",
        Source.HW_INFO: "the ID registers, as iommufd hands them out",
        Source.LOG: "the kernel's log of its boot",
        Source.IORT: "the firmware's IORT",
        Source.DEVICE_TREE: "the firmware's device tree",
        Source.SYSFS: "sysfs",
        Source.CONFIG: "configuration",
        Source.ASSUMED: "nobody: it is assumed, and no yes rests on it",
        Source.NONE: "nobody: it was not read, which is no no",
    }[known.source]
    return f"{words} ({visible(known.note)})" if known.note else words


def _ask(smmu: Smmu) -> str:
    return f"`prepare` one function below {visible(smmu.name)}, then `record --probe`: p on the first screen leads through it."


def node_told(band: Band, picture: HostMap) -> Iterator[tuple[str, str]]:
    """The same of a NUMA node."""
    yield "memory", "not read" if band.memory is None else gib(band.memory)
    for name, share in band.given:
        yield f"to {visible(name)}", gib(share)
    if band.given and band.left is not None:
        yield "left", gib(band.left) if band.left >= 0 else f"none: {gib(-band.left)} more are promised than there is"
    for pool in band.pools:
        yield f"{size(pool.page)} pages", f"{'an unknown number' if pool.free is None else pool.free} of {pool.pages} free"
    yield "CPUs", str(band.cpus) if band.cpus else "none known"
    yield "SMMUs", ", ".join(map(visible, band.smmus)) or "none known to be here"
    if picture.placeless:
        yield "elsewhere", ", ".join(f"{visible(name)} has {gib(share)} that are bound to no node" for name, share in picture.placeless)
