"""OpenStack Nova: the functions of a compute node as ``[pci] device_spec``, with traits for Placement.

The rules are those of Nova 34: nova/pci/devspec.py (fields and their limits), nova/conf/pci.py (tags), and
nova/compute/pci_placement_translator.py, by which the VFs of one PF are one resource provider, and so have one resource class and the same
traits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from wizard.base.address import Address
from wizard.fleet.consumers.common import Options, Output, measured, offered, unknown_remark
from wizard.fleet.rows import Row
from wizard.host.model import Accel, Host

DOMAIN = 0xFFFF  # MAX_DOMAIN of devspec.py

_REPORT = (
    "Traits are reported with [pci] report_in_placement alone, which can't be switched off again; an alias asks for them "
    '("traits": "CUSTOM_SMMU_ACCEL"), and the alias has to be known to the API too.'
)
_NOT_SAID = (
    "Nova makes no vSMMU and passes functions plainly; it can't be asked for functions of one SMMU either: parent SMMU, IOMMU group and StreamID are "
    "not in the file, numa_policy is the nearest."
)


def device_spec(host: Host, options: Options) -> Output:
    """The section for nova.conf."""
    del options
    found = offered(host)
    found = found.without("whose PCI domain is above ffff, which Nova does not take", _far(found.rows))
    common: dict[str, set[str]] = {}  # what all VFs of a PF have
    for row in found.rows:
        if row.pf:
            common.setdefault(row.pf, set(_traits(row))).intersection_update(_traits(row))
    lines, said = ["[pci]"], [_REPORT, _NOT_SAID]
    for row in found.rows:
        own = tuple(_traits(row))
        shared = tuple(trait for trait in own if not row.pf or trait in common[row.pf])
        if shared != own:
            said.append(f"{row.function}: only what all VFs of {row.pf} have is a trait, since Placement has one provider for them.")
        spec = {
            "vendor_id": row.vendor,
            "product_id": row.device,
            "address": row.function,
            "managed": "yes",
            "live_migratable": "no",
            "resource_class": f"CUSTOM_PCI_{row.vendor}_{row.device}".upper(),
        } | ({"traits": ",".join(shared)} if shared else {})
        lines.append(f"device_spec = {json.dumps(spec)}")
    return Output("\n".join(lines) + "\n", (*said, *found.remarks, *unknown_remark(found.rows)))


def _far(rows: tuple[Row, ...]) -> Iterator[str]:
    return (row.function for row in rows if Address.parse(row.function).segment > DOMAIN)


def _traits(row: Row) -> Iterator[str]:
    """What is known to be there: a trait that is missing is no word about it."""
    if row.accel is Accel.YES:
        yield "CUSTOM_SMMU_ACCEL"
    for name in ("oas", "ssidsize"):
        if width := measured(row, name):
            yield f"CUSTOM_SMMU_{name.upper()}_{width}"
    for name in ("ats", "ril", "cmdqv"):
        if measured(row, name):
            yield f"CUSTOM_SMMU_{name.upper()}"
