"""Whose the host's frames are, as a layout has them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from wizard.dryrun.layout import HOST_TABLES, ITS_FRAME, Layout


def shared(layout: Layout) -> str | None:
    """Two owners of one frame: VMs, functions' BARs, the host's own tables, the ITS."""
    held = [(chunk.pa, chunk.pa + chunk.size, f"VM {vm.name}") for vm in layout.vms for chunk in vm.chunks]
    held += [(bar.pa, bar.pa + bar.size, f"a BAR of {f.address}") for f in layout.functions for bar in f.bars]
    held += [(*HOST_TABLES, "the host's tables"), (*ITS_FRAME, "the host's ITS")]
    for (start, end, name), (next_start, _, other) in pairwise(sorted(held)):
        if next_start < end:
            whose = f"{name} and {other} share" if name != other else f"{name} has twice"
            return f"{whose} the host's memory at {max(start, next_start):#x}"
    return None


def writable(layout: Layout) -> list[tuple[int, int]]:
    """All that any guest can write, by its processors or its functions: start and end of memory, BARs, the ITS page."""
    found = [(chunk.pa, chunk.pa + chunk.size) for vm in layout.vms for chunk in vm.chunks]
    found += [(bar.pa, bar.pa + bar.size) for function in layout.functions if function.vm is not None for bar in function.bars]
    return [*found, ITS_FRAME]


def joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, neighbours that touch or overlap as one; each range is start and end."""
    found: list[tuple[int, int]] = []
    first = last = -1
    for start, end in sorted(ranges):
        if start <= last:
            last = max(last, end)
            continue
        if last >= 0:
            found.append((first, last))
        first, last = start, end
    return [*found, (first, last)] if last >= 0 else found
