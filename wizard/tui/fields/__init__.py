"""The fields of a VM: what can be changed, how it reads, and the change itself as a function of the VM. No Textual here."""

from __future__ import annotations

from wizard.facts.model import Moment
from wizard.host.model import Host
from wizard.plan.model import Plan
from wizard.plan.request import VmRequest
from wizard.tui.fields.causes import field_of
from wizard.tui.fields.devices import disk_fields, function_fields, hotplug_fields, move_function, network_fields, remove_field
from wizard.tui.fields.machine import amount_fields, machine_fields, rest_fields
from wizard.tui.fields.model import Field
from wizard.tui.fields.vsmmus import vsmmu_fields

__all__ = ["Field", "field_of", "fields_of", "move_function", "remove_field"]


def fields_of(host: Host, vm: VmRequest, plan: Plan | None, opened: frozenset[str] = frozenset(), moment: Moment | None = None) -> list[Field]:
    """Every field of a VM, in the order of the screen: what people set first. ``moment``: what is free now, as the host was read unless given."""
    planned = next((one for one in plan.vms if one.name == vm.name), None) if plan else None
    return [
        *function_fields(host, vm, planned, opened),
        *amount_fields(host, moment or host.facts.moment, vm, plan),
        *disk_fields(vm),
        *network_fields(vm),
        *vsmmu_fields(vm, planned, opened),
        *machine_fields(host, vm, planned),
        *hotplug_fields(vm),
        *rest_fields(vm, planned),
    ]
