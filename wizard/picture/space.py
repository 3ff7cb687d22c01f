"""The guest's address space: what every function of a VM can reach, and whose frames of the host stand behind it.

Regions are intermediate physical addresses, what stage 2 translates. Host frames are modelled (``wizard.dryrun.build``): which ones a VM
gets is decided when it starts; that they are nobody else's is what the dry run proves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import msgspec

from wizard.dryrun.layout import GUEST_RAM, Bar, Layout, VmLayout
from wizard.nesting.host import MSI_IOVA, MSI_LENGTH
from wizard.picture.letters import letters


class Part(msgspec.Struct, frozen=True):
    """Addresses ``start`` to ``end``, the last not counted, and what is there for a function's DMA."""

    start: int
    end: int
    kind: str  # memory, msi, bar, window, hole
    what: str
    owner: str  # whose frames of the host: a VM, "its", a function's address, "" for none
    reached: bool  # by every function of the VM, before its guest's own stage 1

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Frames(msgspec.Struct, frozen=True):
    """Host physical addresses and who has them; neighbours of one owner are one."""

    start: int
    end: int
    owner: str
    what: str


class Space(msgspec.Struct, frozen=True):
    """One VM."""

    vm: str
    letter: str
    colour: str
    mode: str
    parts: tuple[Part, ...]  # without gaps, from 0 to ``top``
    frames: tuple[Frames, ...]
    functions: tuple[str, ...]

    @property
    def top(self) -> int:
        """The first address above everything."""
        return self.parts[-1].end


class Spaces(msgspec.Struct, frozen=True):
    """All VMs beside each other, and the host's memory by its owners."""

    vms: tuple[Space, ...]
    frames: tuple[Frames, ...]
    assumptions: tuple[str, ...]


def spaces(layout: Layout) -> Spaces:
    """The picture of a layout."""
    named = letters(vm.name for vm in layout.vms)
    made = tuple(_space(layout, vm, *named[vm.name]) for vm in layout.vms)
    frames = sorted((one for space in made for one in space.frames), key=lambda one: one.start)
    return Spaces(made, tuple(frames), layout.assumptions)


def _space(layout: Layout, vm: VmLayout, letter: str, colour: str) -> Space:
    functions = layout.functions_of(vm.name)
    bars = [(function.address, bar) for function in functions for bar in function.bars]
    known = sorted(_there(vm, bars), key=lambda one: one.start)
    parts: list[Part] = []
    at = 0
    for part in known:
        if part.start > at:
            parts.append(Part(at, part.start, "hole", "nothing: an access faults", "", False))
        parts.append(part)
        at = part.end
    return Space(vm.name, letter, colour, str(vm.mode), tuple(parts), tuple(_frames(vm, bars)), tuple(f.address for f in functions))


def _there(vm: VmLayout, bars: Sequence[tuple[str, Bar]]) -> Iterator[Part]:
    doorbell = "the MSI window: one page, the host's ITS" if vm.doorbell is not None else "the MSI window, empty: the machine has no ITS"
    yield Part(MSI_IOVA, MSI_IOVA + MSI_LENGTH, "msi", doorbell, "its" if vm.doorbell is not None else "", vm.doorbell is not None)
    if vm.memory > 0:
        yield Part(GUEST_RAM, vm.top, "memory", "the guest's memory", vm.name, bool(vm.chunks))
    at, end = vm.window[0], sum(vm.window)
    for address, bar in sorted(bars, key=lambda one: one[1].ipa):
        if bar.ipa > at:
            yield Part(at, bar.ipa, "window", "the PCI window, empty here", "", False)
        how = "mapped, so that the VM's other functions reach it" if vm.peer_to_peer else "not mapped for DMA: CPUs alone reach it"
        yield Part(bar.ipa, bar.ipa + bar.size, "bar", f"a BAR of {address}, {how}", address, vm.peer_to_peer)
        at = bar.ipa + bar.size
    if end > at:
        yield Part(at, end, "window", "the PCI window, empty here", "", False)


def _frames(vm: VmLayout, bars: Sequence[tuple[str, Bar]]) -> Iterator[Frames]:
    run: list[tuple[int, int]] = []
    for start, end in sorted((chunk.pa, chunk.pa + chunk.size) for chunk in vm.chunks):
        if run and run[-1][1] == start:
            run[-1] = (run[-1][0], end)
        else:
            run.append((start, end))
    yield from (Frames(start, end, vm.name, "memory") for start, end in run)
    yield from (Frames(bar.pa, bar.pa + bar.size, vm.name, f"a BAR of {address}") for address, bar in sorted(bars, key=lambda one: one[1].pa))


def overlaps(picture: Spaces) -> list[tuple[Frames, Frames]]:
    """Frames that two have: there are none in a plan that is isolated."""
    return [(one, other) for one, other in pairwise(picture.frames) if other.start < one.end]
