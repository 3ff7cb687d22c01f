"""What a layout takes of functions that nobody measured, fact by fact; of SMMUs see ``hardware``."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.dryrun.layout import FunctionLayout, VsmmuLayout
from wizard.dryrun.rests import Fact, Guess
from wizard.host.model import Function, Host
from wizard.plan.model import Plan
from wizard.plan.regions import regions_of

OWN_GROUP = "a group of its own"


def of_functions(host: Host, plan: Plan, layouts: tuple[FunctionLayout, ...], vsmmus: tuple[VsmmuLayout, ...]) -> Iterator[Guess]:
    """Every function of a VM, and those that may be plugged."""
    planned = {device.host: device for vm in plan.vms for device in vm.devices}
    width = {vsmmu.id: vsmmu.ssidsize for vsmmu in vsmmus}
    for layout in layouts:
        device = planned.get(layout.address)
        function = host.functions.get(layout.address) or host.functions.get((device.pf if device else None) or "")
        if layout.vm is None or function is None:
            continue
        yield from _place(host, layout, function)
        canwbs = function.known("canwbs")
        if not canwbs.measured:
            yield Guess(Fact.CANWBS, f"CANWBS {'yes' if layout.canwbs else 'no'}", layout.address)
        if not layout.ats_measured:
            yield Guess(Fact.ATS, f"a function {'with' if layout.ats else 'without'} ATS", layout.address)
        used = next((known for known in (function.known("pasid_usable"), function.known("pasid_width")) if known.known), None)
        if width.get(layout.vsmmu or "") and (used is None or not used.measured):
            yield Guess(Fact.PASID, f"a function with {layout.pasid} PASID bits", layout.address)
        source = device.bars_from if device else regions_of(host, function).source
        if source in ("assumed", "unknown"):
            yield Guess(Fact.BARS, f"BARs of {layout.address} {'as assumed' if layout.bars_known else 'left out'}", layout.vm)


def _place(host: Host, layout: FunctionLayout, function: Function) -> Iterator[Guess]:
    """StreamID and group. Those of a VF that is still to be made are predictions."""
    predicted = layout.address != str(function)
    if predicted or not function.stream_ids or not function.stream_source.measured:
        yield Guess(Fact.STREAM, f"StreamID {layout.streams[0]:#x}", layout.address)
    group = host.groups.get(function.group) if function.group is not None else None
    covers = host.assumed.covers
    made_up = covers(f"functions.{function}.iommu_group") or (group is not None and covers(f"groups.{group.id}.devices"))
    if predicted or group is None or not group.members_known or made_up:
        shared = group is not None and len(group.devices) > 1 and not predicted
        yield Guess(Fact.GROUP, f"group {layout.group} as it is shown" if shared else OWN_GROUP, layout.address)
    if group is None or not group.regions_known or covers(f"groups.{group.id}.reserved_regions"):
        yield Guess(Fact.GROUP, "no memory that the firmware wants 1:1", layout.address)
