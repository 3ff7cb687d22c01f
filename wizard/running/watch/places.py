"""Where an address that a function used lies in its VM, by the dry run's own layout: of the VM's profile, or of its command line as it was found."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from wizard.base.errors import WizardError
from wizard.base.text import size, visible
from wizard.dryrun.address import trace_address
from wizard.dryrun.build import lay_out
from wizard.dryrun.layout import GUEST_RAM, Layout, VmLayout, in_window
from wizard.existing.load import Opened, opened_guest
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.plan.planner import make_plan
from wizard.plan.request import Request
from wizard.running.watch.states import VmState

IN_HAND = "in hand"
"""The kind of a VM that is no file: the wizard's own."""
LOW_BARS = (0x1000_0000, 0x3EFF_0000)
"""VIRT_PCIE_MMIO of QEMU's hw/arm/virt.c: where the guest has 32-bit BARs."""


@dataclass(frozen=True, slots=True)
class Map:
    """One VM as the dry run lays it out. ``source`` is what it was laid out from; without a ``plan`` nothing is known, and ``why`` says so."""

    name: str
    source: str
    host: Host | None = None
    plan: Plan | None = None
    layout: Layout | None = None
    why: str = ""
    profile: bool = False

    def where(self, address: int, stage: int | None = None) -> str:
        """Where an intermediate address lies (that is what functions use, unless their guest's own tables are before it)."""
        if self.layout is None:
            return f"where it lies is not known: {self.why}"
        vm = self.layout.vm(self.name)
        if in_window(address, 1):
            whose = "of which the host maps one page, its doorbell's, when the guest's driver asks for interrupts" if stage == 2 else ""
            return f"in the MSI window, {whose or 'which the guest did not map to itself'}"
        if address < GUEST_RAM:
            return _below(address, vm)
        if address < vm.top:
            return f"in the guest's memory, {_far(address - GUEST_RAM)} from its start, but not mapped for this access: the plan maps all of it"
        start, length = vm.window
        if start <= address < start + length:
            return f"in the guest's window of 64-bit BARs, {_far(address - start)} from its start: {_bars(vm)}"
        beyond = "right" if address == vm.top else _far(address - vm.top)
        return f"{beyond} beyond the end of the guest's memory, which is the last that the host maps for it"

    def function(self, vsid: int) -> str | None:
        """The host's function that has a StreamID in the guest, as the plan expects its firmware to number buses."""
        of = self.layout.functions_of(self.name) if self.layout is not None else ()
        return next((one.address for one in of if one.vsid == vsid and not one.hotplug), None)

    def command(self, function: str, address: int) -> str | None:
        """What to ask for the same on the simulated SMMU; None for a VM without a file that a command could name."""
        if self.layout is None or not self.profile:
            return None
        return f"smmu-wizard dry-run {shlex.quote(self.source)} --trace {function}@{address:#x}"

    def played(self, function: str, address: int) -> Iterator[str]:
        """The same access on the simulated SMMU, in each situation that the dry run has for it, as sentences."""
        if self.plan is None or self.host is None or self.layout is None:
            return
        for one in trace_address(self.plan, self.host, function, address, layout=self.layout).situations:
            yield f"{one.situation}, {one.access}: {one.outcome}"


def _far(count: int) -> str:
    """A distance: to the byte where that is short, else about."""
    exact = size(count)
    if len(exact) <= 6:
        return exact
    shift, unit = next((shift, unit) for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")) if count >> shift)
    return f"about {count / (1 << shift):.1f}{unit}"


def _below(address: int, vm: VmLayout) -> str:
    if LOW_BARS[0] <= address < LOW_BARS[1]:
        return f"{_far(GUEST_RAM - address)} below the guest's memory, in its window of 32-bit BARs: {_bars(vm)}"
    return f"{_far(GUEST_RAM - address)} below the guest's memory, among QEMU's own devices, which no function reaches"


def _bars(vm: VmLayout) -> str:
    if vm.peer_to_peer:
        return "registers of PCI functions; the plan maps those of its functions for one another"
    return "registers of PCI functions, of which the host maps none for another"


@dataclass(slots=True)
class Places:
    """A map of each VM, made when it is first asked for and kept while the VM runs. ``host`` reads the host once, when it is needed."""

    host: Callable[[], Host]
    profiles: Sequence[Opened] = ()
    _maps: dict[tuple[int, int | None], Map] = field(default_factory=dict)

    def of(self, vm: VmState) -> Map:
        """The VM's map."""
        key = (vm.pid, vm.started)
        if key not in self._maps:
            self._maps[key] = self._made(vm)
        return self._maps[key]

    def keep(self, vms: Mapping[int, VmState]) -> None:
        """Make those of VMs that have functions, and forget those of VMs that have ended."""
        there = {(vm.pid, vm.started) for vm in vms.values()}
        self._maps = {key: made for key, made in self._maps.items() if key in there}
        for vm in vms.values():
            if vm.functions:
                self.of(vm)

    def _made(self, vm: VmState) -> Map:
        profile = next((one for one in self.profiles if one.request.name == vm.name and one.whole), None)
        source = profile.source if profile is not None else "its command line"
        opened = profile
        if opened is None and vm.guest is not None:
            opened = opened_guest(vm.guest, vm.guest.source, "qemu")
        if opened is None:
            return Map(vm.name, source, why="its command line was not read")
        request = opened.request
        try:
            host = self.host()
            plan = make_plan(host, Request(vms=(request,)))
            return Map(request.name, source, host, plan, lay_out(plan, host), profile=profile is not None and profile.kind != IN_HAND)
        except WizardError as error:
            return Map(request.name, source, why=visible(error.what))
