"""Proxmox VE: a node's functions as resource mappings, for /etc/pve/mapping/pci.cfg.

Format: src/PVE/Mapping/PCI.pm of pve-guest-common, on PVE::SectionConfig: a section is its ID, then properties behind a tab; ``map`` is a
property string. Any function of a mapping is given for any other, so a mapping holds one vendor, device and verdict. When a VM starts,
``assert_valid`` compares id, subsystem-id and iommugroup with the node, and refuses what differs.
"""

from __future__ import annotations

import re

from wizard.base.errors import UsageError
from wizard.base.text import plural, visible
from wizard.fleet.consumers.common import Options, Output, kind, needed, offered, unknown_remark
from wizard.host.model import Host

NODE = re.compile(r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?")
"""pve_verify_node_name of PVE::JSONSchema."""

_NOT_SAID = (
    "Proxmox VE makes no vSMMU: the verdict is in a mapping's name (accel-, plain-, unknown-); SMMU, its properties and StreamIDs are not said.",
    "Group numbers may change with a boot or another kernel: write the file again then. Keep what other nodes have: add the map lines to it.",
)


def mappings(host: Host, options: Options) -> Output:
    """The sections of this node."""
    node = needed(options.node, "--node", "proxmox", "the node's name in the cluster")
    if len(node) > 63 or not NODE.fullmatch(node):
        raise UsageError(
            f"{visible(node)} can't be the name of a Proxmox VE node.", "It is a host name: letters, digits and - inside, at most 63 characters."
        )
    found = offered(host)
    bare = [row.function for row in found.rows if not (row.subsystem_vendor and row.subsystem_device)]
    found = found.without("whose subsystem ID was not read, and Proxmox VE compares it", bare)
    sections: dict[str, list[str]] = {}
    for row in found.rows:
        entry = {
            "id": f"{row.vendor}:{row.device}",
            "iommugroup": str(row.iommu_group),
            "node": node,
            "path": row.function,
            "subsystem-id": f"{row.subsystem_vendor}:{row.subsystem_device}",
        }
        sections.setdefault(kind(row, "-"), []).append(",".join(f"{name}={value}" for name, value in entry.items()))
    text = "\n".join(
        f"{name}\n\tdescription {plural(len(entries), 'function')} of {node} by smmu-wizard\n" + "".join(f"\tmap {entry}\n" for entry in entries)
        for name, entries in sections.items()
    )
    return Output(text, (*_NOT_SAID, *found.remarks, *unknown_remark(found.rows)))
