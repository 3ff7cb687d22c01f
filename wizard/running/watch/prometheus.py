"""The same for node_exporter's textfile collector: the text format of Prometheus, written whole or not at all.

Names and labels by its conventions (prometheus.io/docs/practices/naming): base units, ``_total`` for counters, no label without an end of
values, so no addresses of memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from wizard.base.files import write_atomic
from wizard.base.prometheus import Values, metric
from wizard.running.watch.records import Record
from wizard.running.watch.states import Look

_KINDS = 4096


class Textfile:
    """Counts what happened since ``watch`` began, and writes it with the state of the last look."""

    def __init__(self, path: Path, hosts: Mapping[tuple[str, str], int] | None = None, free: Mapping[str, int] | None = None) -> None:
        self.path = path
        self._events: Values = {}
        self._lost = {"kernel": 0, "watch": 0}
        self._verdicts, self._free = hosts or {}, free or {}

    def count(self, records: Iterable[Record]) -> None:
        """Count what came."""
        for one in records:
            if one.kind == "lost":
                self._lost["watch" if one.source == "watch" else "kernel"] += one.count
                continue
            if one.source not in ("kernel", "qemu"):
                continue
            labels = (
                ("source", one.source), ("type", one.kind), ("vm", one.vm or ""), ("function", one.function or ""), ("smmu", one.smmu or ""),
                ("stage", str(one.stage or "")),
            )  # fmt: skip
            if labels not in self._events and len(self._events) >= _KINDS:
                labels = (*labels[:2], ("vm", ""), ("function", ""), ("smmu", ""), ("stage", ""))
            self._events[labels] = self._events.get(labels, 0) + one.count

    def write(self, look: Look) -> None:
        """Write the file anew. ``OutputError`` where that is not possible."""
        write_atomic(self.path, "\n".join(self._lines(look)) + "\n", force=True, mode=0o644)

    def _lines(self, look: Look) -> Iterator[str]:
        yield from metric("smmu_wizard_events_total", "counter", "Events of SMMUs and of QEMU since watch began.", self._events)
        lost: Values = {(("by", by),): count for by, count in self._lost.items()}
        yield from metric("smmu_wizard_events_lost_total", "counter", "Events that the kernel did not print, or that watch did not read.", lost)
        if self._verdicts:
            verdicts: Values = {(("smmu", smmu), ("accel", accel)): count for (smmu, accel), count in sorted(self._verdicts.items())}
            yield from metric("smmu_wizard_functions", "gauge", "Functions below an SMMU by their verdict of acceleration.", verdicts)
            free: Values = {(("smmu", smmu),): count for smmu, count in sorted(self._free.items())}
            yield from metric("smmu_wizard_functions_free", "gauge", "Functions that can be accelerated and that no VM has.", free)
        vms = sorted(look.vms.values(), key=lambda vm: vm.pid)
        info: Values = {(("vm", vm.name), ("pid", str(vm.pid))): 1 for vm in vms}
        yield from metric("smmu_wizard_vm_info", "gauge", "VMs that run.", info)
        on: Values = {(("vm", vm.name),): vm.accelerated for vm in vms}
        yield from metric("smmu_wizard_vm_vsmmus", "gauge", "Accelerated vSMMUs of a VM.", on)
        switched: Values = {(("vm", vm.name),): vm.process.switched_on for vm in vms if vm.process.switched_on is not None}
        yield from metric("smmu_wizard_vm_vsmmus_switched_on", "gauge", "Accelerated vSMMUs that a guest has switched on.", switched)
        vintfs: Values = {(("vm", vm.name),): vm.process.vintfs for vm in vms if vm.process.vintfs is not None}
        yield from metric("smmu_wizard_vm_cmdqv_vintfs", "gauge", "Interfaces of a CMDQV that a VM has, whether its guest uses them or not.", vintfs)
        pinned: Values = {(("vm", vm.name),): vm.process.pinned for vm in vms if vm.process.pinned is not None}
        yield from metric("smmu_wizard_vm_pinned_bytes", "gauge", "Memory that a VM has pinned.", pinned)
        use: Values = {}
        interrupts: Values = {}
        for address, state in sorted(look.functions.items()):
            owner = look.owner(address)
            labels = (("function", address), ("vm", owner.name if owner else ""))
            if state.in_use is not None:
                use[labels] = int(state.in_use)
            if state.interrupts is not None:
                interrupts[labels] = state.interrupts.count
        yield from metric("smmu_wizard_function_in_use", "gauge", "Whether a function of a VM is held open.", use)
        text = "Interrupts of a function since its guest's driver asked for them."
        yield from metric("smmu_wizard_function_interrupts_total", "counter", text, interrupts)
        yield from metric("smmu_wizard_watch_timestamp_seconds", "gauge", "When this was written.", {(): time.time()})
